"""Doses and drugs that were never seen, on simulated screens whose targets and dose curves are known.

    python -m benchmarks.doses

Twelve drugs at six doses and 15 knock-outs (`kgnn.data.simulate_drugs`); two doses of every drug are held out, and two
drugs at all doses. The graph holds the network and which genes each drug targets. Scores are against the noise-free
change: its correlation over genes with the predicted one, mean over conditions, and the squared error over that of the
mean of training. `between doses`: the drug's measured changes at the nearest trained doses, linear in the log dose.
"""

import argparse
import logging
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data import read_screen, simulate_drugs
from kgnn.data.conditions import read_parts
from kgnn.graph import KnowledgeGraph, load_table
from kgnn.models import make_model

HELD_DOSES, HELD_DRUGS = (0.3, 3.0), 2
FIT = {"max_epochs": 40, "batch_size": 64, "conditions_per_batch": 16, "learning_rate": 5e-3, "schedule": "constant"}
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}


class Task(NamedTuple):
    """A screen, what is known of it, its training conditions, and those held out: doses, and drugs."""

    adata: AnnData
    kg: KnowledgeGraph
    train: list[str]
    doses: list[str]
    drugs: list[str]


def make_task(seed: int, **options: int) -> Task:
    """Simulate a screen and hold doses and drugs out."""
    adata = simulate_drugs(seed=seed, **options)
    kg = load_table(adata.uns["network"], relation="regulates", origin="network")
    targets = {"source": "drug", "target": "gene", "source_type": "drug", "relation": "targets", "origin": "targets"}
    kg = kg | load_table(adata.uns["targets"], **targets)
    names = list(adata.varm["true_delta"].columns)
    new = np.random.default_rng(seed).choice(adata.uns["curves"]["drug"], HELD_DRUGS, replace=False)
    drugs = [name for name in names if read_parts(name)[0].name in new]
    doses = [name for name in names if name not in drugs and read_parts(name)[0].dose in HELD_DOSES]
    return Task(adata, kg, [name for name in names if name not in {*drugs, *doses}], doses, drugs)


def between(task: Task, conditions: list[str]) -> np.ndarray:
    """The measured change between a drug's trained doses, linear in the log dose; the mean of training without any."""
    screen = read_screen(task.adata)
    measured = screen.changes(task.train)
    parts = {name: read_parts(name)[0] for name in task.train}
    found = []
    for name in conditions:
        asked = read_parts(name)[0]
        there = sorted((part.dose, train) for train, part in parts.items() if part.name == asked.name and part.dose)
        if not there:
            found.append(measured.mean().to_numpy())
            continue
        log, rows = np.log([dose for dose, _ in there]), measured.loc[[train for _, train in there]].to_numpy()
        found.append([np.interp(np.log(asked.dose), log, column) for column in rows.T])
    return np.array(found)


def scores(task: Task, conditions: list[str], found: np.ndarray) -> dict[str, float]:
    """Correlation with the true change, and the squared error over that of the mean true change of training."""
    table = task.adata.varm["true_delta"]
    truth, mean = table[conditions].T.to_numpy(), table[task.train].mean(axis=1).to_numpy()
    alike = [np.corrcoef(*pair)[0, 1] for pair in zip(found, truth, strict=True)]
    error = np.square(found - truth).sum() / np.square(mean - truth).sum()
    return {"correlation": float(np.mean(alike)), "error": float(error)}


def run(seed: int) -> pd.DataFrame:
    task = make_task(seed)
    split, rows = {"train": task.train, "val": [], "test": [*task.doses, *task.drugs]}, []
    variants = {"true graph": (task.kg, {}), "rewired": (task.kg.rewire(seed), {}), "no graph": (None, {})}
    variants["true graph, the peers' optimiser"] = task.kg, {"optimizer": "adam", "weight_decay": 5e-4}
    predictions, curves = {}, np.nan
    for name, (kg, own) in variants.items():
        model = make_model("hetero", kg, channels=32).fit(task.adata, split, seed=seed, **FIT, **own, **QUIET)
        predictions[f"hetero, {name}"] = lambda asked, model=model: model.predict(asked).layers["delta"]
        if name == "true graph":
            true = task.adata.uns["curves"].set_index("drug")["k"]
            true = true[[drug for drug in true.index if not any(drug in held for held in task.drugs)]]
            curves = np.corrcoef(np.log(model.predictor_.curves(true.index)["k"]), np.log(true))[0, 1]
    mean = make_model("mean").fit(task.adata, split)
    predictions["mean of training"] = lambda asked: mean.predict(asked).layers["delta"]
    predictions["between doses"] = lambda asked: between(task, asked)
    for model, predict in predictions.items():
        row = {"model": model, "seed": seed, "log k": curves if model == "hetero, true graph" else np.nan}
        for held, conditions in (("dose", task.doses), ("drug", task.drugs)):
            row |= {f"{score}, {held}": value for score, value in scores(task, conditions, predict(conditions)).items()}
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pd.concat([run(seed) for seed in range(options.seeds)], ignore_index=True)
    found.round(4).to_csv(options.out / "doses.csv", index=False)
    print(found.groupby("model", sort=False).mean().drop(columns="seed").round(3).to_string())


if __name__ == "__main__":
    main()
