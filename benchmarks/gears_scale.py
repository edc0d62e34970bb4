"""An epoch and a thousand predictions of GEARS at the size of a whole screen; part of `benchmarks.gears_step`.

    python -m benchmarks.gears_scale epoch | cell-gears-steps | cell-gears-predict

The screen is simulated: 90,000 cells, 280 conditions of one or two genes, 5,045 measured genes, log-normalised Poisson
counts of which about a quarter are not zero.
"""

import json
import sys
import time

import numpy as np
import pandas as pd
import torch

from benchmarks.gears_step import GENES, NEIGHBOURS, PERTURBABLE, cell_gears_step, random_graph
from benchmarks.machine import milliseconds, peak_memory_mb, status_mb

CELLS, CONDITIONS, CONTROLS = 90_000, 280, 8_000
BATCH, CONDITIONS_PER_BATCH, PREDICTED = 256, 16, 1000
THEIR_STEPS, THEIR_PREDICTIONS = 100, 3


def screen(cells: int = CELLS):
    from anndata import AnnData
    from scipy import sparse

    rng = np.random.default_rng(0)
    rates = rng.lognormal(-1.8, 1.4, GENES)
    blocks = []
    for start in range(0, cells, 5000):
        depth = rng.lognormal(0, 0.3, (min(5000, cells - start), 1))
        counts = rng.poisson(depth * rates).astype(np.float32)
        counts *= 1e4 / counts.sum(1, keepdims=True)
        blocks.append(sparse.csr_matrix(np.log1p(counts, out=counts)))
    names = [f"g{number}" for number in rng.permutation(PERTURBABLE)[: 2 * CONDITIONS]]
    conditions = [names[2 * n] if n % 3 == 0 else f"{names[2 * n]}+{names[2 * n + 1]}" for n in range(CONDITIONS)]
    condition = np.array(["ctrl", *conditions])[rng.integers(1, CONDITIONS + 1, cells)]
    condition[: CONTROLS * cells // CELLS] = "ctrl"
    genes = pd.DataFrame(index=[f"g{number}" for number in range(GENES)])
    obs = pd.DataFrame({"condition": condition}, index=[f"c{number}" for number in range(cells)])
    return AnnData(sparse.vstack(blocks, format="csr"), obs=obs, var=genes)


def knowledge():
    from kgnn.graph import from_edge_index

    generator = torch.Generator().manual_seed(0)
    graphs = []
    for n, relation in ((GENES, "coexpressed"), (PERTURBABLE, "similar_to")):
        edges, weight = random_graph(n, generator)
        keep = edges[0] != edges[1]
        names = [f"g{number}" for number in range(n)]
        graphs.append(from_edge_index(edges[:, keep], names, weight=weight[keep], relation=relation))
    return graphs[0] | graphs[1]


def epoch(cells: int = CELLS) -> dict:
    import logging

    from lightning.pytorch.callbacks import Callback

    from kgnn import PerturbationModel

    class Timer(Callback):
        def on_train_epoch_start(self, *_) -> None:
            self.start = time.perf_counter()

        def on_train_epoch_end(self, trainer, *_) -> None:
            self.seconds, self.steps = time.perf_counter() - self.start, trainer.global_step

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    adata, kg, timer = screen(cells), knowledge(), Timer()
    data_mb = sum(part.nbytes for part in (adata.X.data, adata.X.indices)) / 1e6
    before = status_mb("VmRSS")
    start = time.perf_counter()
    model = PerturbationModel(kg, encoder="gears").fit(
        adata,
        max_epochs=1,
        batch_size=BATCH,
        conditions_per_batch=CONDITIONS_PER_BATCH,
        enable_progress_bar=False,
        callbacks=[timer],
    )
    fit = time.perf_counter() - start
    names = [f"g{number}+g{number + 1000}" for number in range(PREDICTED)]
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        model.predict(names)
        seconds.append(time.perf_counter() - start)
    return {
        "cells": cells,
        "steps": timer.steps,
        "epoch_s": timer.seconds,
        "fit_s": fit,
        "data_mb": data_mb,
        "before_mb": before,
        "peak_mb": peak_memory_mb(),
        "predict_s": seconds[1:],
    }


def their_steps(steps: int = THEIR_STEPS) -> dict:
    model, loss = cell_gears_step(32, 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()

    seconds = [ms / 1000 for ms in milliseconds(step, steps, warm_up=2)]
    return {"seconds": seconds, "peak_mb": peak_memory_mb()}


def their_predictions(number: int = THEIR_PREDICTIONS) -> dict:
    """cell-gears' own `predict`, on its own model, with 300 control cells a condition as it draws them."""
    from gears import GEARS

    names = [f"g{number}" for number in range(PERTURBABLE)]
    gears = GEARS.__new__(GEARS)
    gears.best_model, _ = cell_gears_step(2, 2)
    gears.adata = screen(2000)
    gears.adata.obs["condition"] = "ctrl"
    gears.pert_list, gears.device = names, "cpu"
    gears.config, gears.saved_pred = {"uncertainty": False}, {}
    seconds = []
    for condition in range(number + 1):
        start = time.perf_counter()
        gears.predict([[names[condition], names[condition + 1000]]])
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds[1:], "peak_mb": peak_memory_mb()}


def lines(ours: dict, steps: dict, predictions: dict) -> list[str]:
    """The part of the results' page."""
    step = float(np.median(steps["seconds"]))
    theirs = step * ours["cells"] / 32
    predict, their_predict = float(np.median(ours["predict_s"])), float(np.median(predictions["seconds"])) * PREDICTED
    return [
        "",
        "## A whole screen",
        "",
        f"{ours['cells']:,} cells, {CONDITIONS} conditions, {GENES:,} genes, simulated; {NEIGHBOURS} neighbours a "
        f"gene. kgnn: `PerturbationModel.fit(adata, batch_size={BATCH}, conditions_per_batch={CONDITIONS_PER_BATCH}, "
        "max_epochs=1)`, with reading the cells; cell-gears: its step at 32 cells of 32 conditions, "
        f"{len(steps['seconds'])} steps, times the number of batches, without its data loading.",
        "",
        "| work | kgnn | cell-gears | times faster |",
        "|---|---|---|---|",
        f"| one epoch | {ours['epoch_s'] / 60:.2f} min ({ours['steps']} steps) | {theirs / 60:.0f} min, scaled from "
        f"{step:.2f} s a step ({min(steps['seconds']):.2f}–{max(steps['seconds']):.2f}) "
        f"| {theirs / ours['epoch_s']:.0f} |",
        f"| the whole call of `fit` | {ours['fit_s'] / 60:.2f} min | | {theirs / ours['fit_s']:.0f} |",
        f"| predict {PREDICTED:,} pairs of genes | {predict:.2f} s ({min(ours['predict_s']):.2f}–"
        f"{max(ours['predict_s']):.2f}) | {their_predict / 60:.0f} min, scaled from {len(predictions['seconds'])} "
        f"conditions | {their_predict / predict:.0f} |",
        "",
        f"Peak memory: kgnn {ours['peak_mb']:.0f} MB, of which the cells {ours['data_mb']:.0f}; cell-gears "
        f"{steps['peak_mb']:.0f} MB without any cells but the batch's, {predictions['peak_mb']:.0f} MB to predict.",
    ]


WORK = {"epoch": epoch, "cell-gears-steps": their_steps, "cell-gears-predict": their_predictions}

if __name__ == "__main__":
    print(json.dumps(WORK[sys.argv[1]](*(int(value) for value in sys.argv[2:]))))
