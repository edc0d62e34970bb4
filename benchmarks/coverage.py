"""How often the default model's 90 % intervals hold what was measured, over all genes and over those that change.

    python -m benchmarks.coverage --data ../shared/data

Unseen knock-outs of simulated screens and an unseen line of them (five seeds), every gene and those that differ from
control; unseen knock-downs of the up-ranks (five random folds), every gene and those among the 1,000. Beside them the
same without the part of the variance that grows with the predicted change. Writes benchmarks/results/coverage.csv, a
mean and a standard deviation over seeds or folds.
"""

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from threadpoolctl import threadpool_limits

from benchmarks import tasks
from benchmarks.human_graph import human_graph
from benchmarks.upranks import folds, scores_of
from kgnn import PerturbationModel
from kgnn.data import effects
from kgnn.errors import DataWarning
from kgnn.evaluation.metrics.coverage_90 import Z_90
from kgnn.metrics import evaluate

SEEDS = range(5)
ASKED = ["coverage_90", "coverage_90_changed"]
WIDTHS = {"": None, ", one width a gene": torch.tensor([1.0, 0.0], dtype=torch.float64)}


def predictions(model: PerturbationModel, *args: object, **options: object) -> Iterator[tuple[str, AnnData]]:
    """Of the model as it is, and with variances that do not grow with the change."""
    for name, widths in WIDTHS.items():
        if widths is not None:
            model.network_.widths = widths
        yield name, model.predict(*args, **options)


def simulated() -> Iterator[tuple[str, float, float]]:
    for seed in SEEDS:
        adata, kg, fold = tasks.simulated(seed)
        for name, found in predictions(PerturbationModel(kg).fit(adata, split=fold), fold["test"]):
            scores = evaluate(found, adata, fold, exclude_targets=True)
            yield (f"simulated, unseen knock-outs{name}", *scores[ASKED].mean())
        adata, kg, _ = tasks.simulated(seed, n_lines=4)
        known, unseen = (adata[(adata.obs["cell_line"] == "line3") == new].copy() for new in (False, True))
        model = PerturbationModel(kg, group_key="cell_line").fit(known)
        controls = unseen[unseen.obs["condition"] == "control"]
        for name, found in predictions(model, sorted(set(model.conditions_)), control_cells=controls):
            scores = evaluate(found, unseen, exclude_targets=True)
            yield (f"simulated, an unseen line{name}", *scores[ASKED].mean())


def upranks(data: Path) -> Iterator[tuple[str, float, float]]:
    kg = human_graph(data / "kg")
    for line in ("k562", "rpe1"):
        y = scores_of(data / "replogle_upranks" / f"{line}_uprank.parquet")
        fold = folds("random", y.index, kg)
        for one in np.unique(fold):
            model = PerturbationModel(kg).fit(effects(y[fold != one]))
            names = [name for name in y.index[fold == one] if name in model.perturbable_]
            truth = y.loc[names].to_numpy()
            for name, found in predictions(model, names):
                spread = Z_90 * np.sqrt(found.layers["uncertainty"])
                inside = np.abs(found.layers["delta"] - truth) <= spread
                task = f"up-ranks of {line.upper()}, unseen knock-downs{name}"
                yield task, inside.mean(), inside[truth > 0].mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        rows = [*simulated(), *upranks(args.data)]
    table = pd.DataFrame(rows, columns=["task", "all genes", "genes that change"])
    grouped = table.groupby("task", sort=False)
    mean, deviation = grouped.mean(), grouped.std()
    found = mean.map("{:.3f} ± ".format) + deviation.map("{:.3f}".format)
    found.to_csv("benchmarks/results/coverage.csv")
    print(found.to_string())


if __name__ == "__main__":
    main()
