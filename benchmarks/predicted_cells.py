"""How many genes differential expression calls in predicted cells, against how many change.

    python -m benchmarks.predicted_cells --data ../shared/data

Conditions that the default model has not seen, as many cells as the data have and five times that, tested against
the real control cells: scanpy's t test and cell-eval's (pdex, Wilcoxon), both Benjamini–Hochberg 5 %. `shift`:
control cells plus the predicted change, as before; `drawn`: `predict(n_cells=)`; `drawn, sure`: the same without
changes that are within 1.645 predicted standard deviations; `truth`: cells drawn for the real mean change in place of
the predicted one; `real`: the real cells. Norman et al. 2019 (500 genes, each of 33 conditions left out in turn) and
`kgnn.data.simulate`, where it is known which genes change. Beside it how near drawn cells are to real ones of the
same mean.
"""

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.machine import describe
from benchmarks.norman_loo import knowledge

SURE = 1.645
CHANGES = 0.1  # of log1p expression: a gene of the simulation changes from here on


def norman(data: Path):
    """Real screen, graph, conditions to leave out, and for each which genes change (unknown)."""
    import scanpy as sc

    adata = sc.read_h5ad(data / "perturb/norman19_k562_hvg500.h5ad")
    return adata, knowledge(data), sorted(set(adata.obs["condition"]) - {"control"}), None


def simulated(_: Path):
    from kgnn.data import simulate
    from kgnn.graph import load_table

    adata = simulate(n_genes=300, n_singles=30, n_pairs=0, cells_per_condition=100, n_controls=200, seed=0)
    graph = load_table(adata.uns["network"], relation="regulates")
    names = sorted(set(adata.obs["condition"]) - {"control"})[::3]
    return adata, graph, names, adata.varm["true_delta"][names].abs().T.to_numpy() > CHANGES


def dense(x) -> np.ndarray:
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float32)


def called(cells: np.ndarray, controls: np.ndarray) -> dict[str, np.ndarray]:
    """Genes [genes] that scanpy and cell-eval call."""
    import scanpy as sc
    from anndata import AnnData
    from pdex import pdex

    pair = AnnData(np.vstack([cells, controls]))
    pair.obs["condition"] = pd.Categorical(["perturbed"] * len(cells) + ["control"] * len(controls))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.tl.rank_genes_groups(pair, "condition", groups=["perturbed"], reference="control", method="t-test")
        other = pdex(pair, groupby="condition", mode="ref", reference="control", is_log1p=True, threads=1).to_pandas()
    ours = sc.get.rank_genes_groups_df(pair, "perturbed").set_index("names").loc[pair.var_names, "pvals_adj"]
    theirs = other[other["target"] == "perturbed"].set_index("feature").loc[pair.var_names, "fdr"]
    return {"scanpy": (ours < 0.05).to_numpy(), "cell-eval": (theirs < 0.05).to_numpy()}


def made_cells(model, name: str, n: int, seed: int, real: np.ndarray) -> dict[str, np.ndarray]:
    """Cells [n, genes] by each way of making them."""
    from kgnn.models.perturbation.predictions import drawn_cells

    mean = model.predict(name)
    delta, start = mean.layers["delta"].astype(float), model.control_mean_
    sure = delta * (np.abs(delta) > SURE * np.sqrt(mean.layers["uncertainty"]))
    controls, options = model.controls_.cells, {"n_cells": n, "seed": seed}
    truth = real.mean(axis=0, dtype=float)[None] - start
    return {
        "shift": drawn_cells(controls, start + delta, delta, scale="scaled", **options),
        "drawn": model.predict(name, **options).X,
        "drawn, sure": drawn_cells(controls, start + sure, sure, scale="log", **options),
        "truth": drawn_cells(controls, start + truth, truth, scale="log", **options),
    }


def likeness(cells: np.ndarray, real: np.ndarray, genes: np.ndarray) -> dict[str, float]:
    """Mean absolute differences over genes in the share of zeros and in the standard deviation."""
    zeros = np.abs((np.abs(cells) < 1e-6).mean(axis=0) - (real == 0).mean(axis=0))[genes].mean()
    return {"zeros": float(zeros), "spread": float(np.abs(cells.std(axis=0) - real.std(axis=0))[genes].mean())}


def fitted(screen: str, data: Path) -> tuple:
    """The screen, names of conditions, which of their genes change where that is known, a model without each."""
    from kgnn import PerturbationModel
    from kgnn.data import merge_validation, split

    adata, graph, names, changes = {"norman": norman, "simulated": simulated}[screen](data)
    models = []
    for name in names:
        parts = merge_validation(split(adata, "leave_one_out", held_out=name, seed=0))
        models.append(PerturbationModel(graph, strength=1.0 if screen == "norman" else -1.0).fit(adata, parts))
        print(f"{screen} {name}: fitted", flush=True)
    return adata, names, changes, models


def measured(screen: str, adata, names: list[str], changes: np.ndarray | None, models: list) -> tuple[list, list]:
    from kgnn.models.perturbation.predictions import drawn_cells

    labels = adata.obs["condition"].astype(str).to_numpy()
    controls, rows, near = dense(adata.X[labels == "control"]), [], []
    for number, (name, model) in enumerate(zip(names, models, strict=True)):
        real = dense(adata.X[labels == name])
        of_real = called(real, controls)
        for n in (len(real), 5 * len(real)):
            for way, cells in {"real": real, **made_cells(model, name, n, 0, real)}.items():
                if way == "real" and n != len(real):
                    continue
                for tool, found in called(cells.astype(np.float32), controls).items():
                    known = of_real[tool] if changes is None else changes[number]
                    row = {"screen": screen, "condition": name, "cells": n // len(real), "way": way, "tool": tool}
                    rows.append(row | {"called": int(found.sum()), "right": int((found & known).sum())})
                    rows[-1] |= {"change": int(known.sum()), "negative": float((cells < -1e-6).mean())}
        half = np.random.default_rng(0).permutation(len(real)) < len(real) // 2
        change = real[half].mean(axis=0, dtype=float)[None] - model.control_mean_
        moved = np.flatnonzero(np.abs(change[0]) > CHANGES)
        ways = {"half of the real cells": real[half]}
        for way, scale in (("shift", "scaled"), ("drawn", "log")):
            options = {"n_cells": 1_000, "seed": 1, "scale": scale}
            ways[way] = drawn_cells(model.controls_.cells, model.control_mean_ + change, change, **options)
        near += [
            {"screen": screen, "condition": name, "way": way} | likeness(cells, real[~half], moved)
            for way, cells in ways.items()
        ]
        print(f"{screen} {name}", flush=True)
    return rows, near


def report(rows: pd.DataFrame, near: pd.DataFrame, machine: dict, wall: float) -> list[str]:
    lines = [
        "# Predicted cells",
        "",
        f"`python -m benchmarks.predicted_cells` on {machine['cpu']}, {machine['cores']} cores; {machine['versions']}; "
        f"{wall:.0f} s.",
        "Genes called at 5 % (Benjamini–Hochberg) against the control cells, mean over conditions; right: of those "
        f"that change (simulated: by more than {CHANGES} in truth; Norman: that the test calls in the real cells).",
        "",
        "| screen | cells | made by | scanpy: called | right | cell-eval: called | right | change | negative values |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    table = rows.groupby(["screen", "cells", "way", "tool"], sort=False)[
        ["called", "right", "change", "negative"]
    ].mean()
    for (screen, cells, way), part in table.groupby(level=[0, 1, 2], sort=False):
        ours, theirs = (part.xs(tool, level="tool").iloc[0] for tool in ("scanpy", "cell-eval"))
        known = f"{ours['change']:.1f}" + (f", {theirs['change']:.1f}" if screen == "norman" else "")
        lines.append(
            f"| {screen} | {'as many' if cells == 1 else f'{cells} ×'} | {way} "
            f"| {ours['called']:.1f} | {ours['right']:.1f} | {theirs['called']:.1f} | {theirs['right']:.1f} "
            f"| {known} | {ours['negative']:.1%} |"
        )
    lines += [
        "",
        "Cells made for the mean of one half of the real cells against the other half, genes that change by more than "
        f"{CHANGES}; mean absolute difference over genes:",
        "",
        "| screen | made by | share of zeros | standard deviation |",
        "|---|---|---|---|",
    ]
    for (screen, way), part in near.groupby(["screen", "way"], sort=False)[["zeros", "spread"]].mean().iterrows():
        lines.append(f"| {screen} | {way} | {part['zeros']:.3f} | {part['spread']:.3f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("KGNN_TEST_DATA", "../shared/data")))
    parser.add_argument("--screens", nargs="+", default=["simulated", "norman"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/predicted_cells.json"))
    arguments = parser.parse_args()
    start = time.perf_counter()
    warnings.simplefilter("ignore")  # genes without a neighbour in the graph, in every fold
    work = {screen: fitted(screen, arguments.data) for screen in arguments.screens}  # torch is slow once numba runs
    parts = [measured(screen, *given) for screen, given in work.items()]
    rows, near = (pd.DataFrame([row for part in parts for row in part[side]]) for side in (0, 1))
    machine = describe("scanpy", "cell-eval", "pdex")
    lines = report(rows, near, machine, time.perf_counter() - start)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    raw = {"machine": machine, "called": rows.to_dict("records"), "near": near.round(6).to_dict("records")}
    arguments.out.write_text(json.dumps(raw) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
