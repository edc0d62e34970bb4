"""The demonstration: a simulated screen, models with a true, a scrambled and no graph, and the baselines."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from kgnn import plotting
from kgnn.data import save_split, simulate, split, training_cells
from kgnn.data.splits import merge_validation
from kgnn.evaluation.headline import verdict
from kgnn.evaluation.metrics import evaluate, reference_scores, summarize
from kgnn.evaluation.metrics.references import INTERPOLATED, REPLICATE
from kgnn.files import new_file, write_json
from kgnn.graph import KnowledgeGraph, load_coexpression, load_table
from kgnn.models import BASELINES, PerturbationModel


def run_demo(folder: Path, seed: int, report: Callable[[str], None]) -> dict[str, Any]:
    """Run the demonstration, write its files into `folder`, return its scores.

    The gene network that generated the data serves as the true graph; the rewired one has the same degrees. All
    models are scored on conditions that they never saw, without the perturbed genes themselves.
    """
    start = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    report("simulating a screen of 200 genes, 40 single and 20 double knock-outs")
    adata = simulate(seed=seed)
    parts = split(adata, "simulation", seed=seed)
    save_split(parts, folder / "split.json")

    report("building the graph: the true network and co-expression of the training cells")
    network = load_table(adata.uns["network"], relation="regulates", origin="true_network")
    kg = network | load_coexpression(training_cells(adata, parts))
    kg.save(folder / "graph")

    known = merge_validation(parts)  # closed forms have no use for validation conditions but to learn from them
    scores: dict[str, pd.DataFrame] = {}
    for name in BASELINES:
        model = PerturbationModel(encoder=name).fit(adata, known)
        scores[name] = evaluate(model.predict(parts["test"]), adata, known, exclude_targets=True)
    graphs: dict[str, KnowledgeGraph | None] = {
        "true graph": kg,
        "rewired graph": kg.rewire(seed),
        "no graph": None,
    }
    for name, graph in graphs.items():
        report(f"training the default model and GEARS, {name}")
        fitted = PerturbationModel(graph).fit(adata, known)
        prediction = fitted.predict(parts["test"])
        scores[f"kg, {name}"] = evaluate(prediction, adata, known, exclude_targets=True)
        gears = PerturbationModel(graph, encoder="gears").fit(adata, parts, seed=seed, enable_progress_bar=False)
        scores[f"GEARS, {name}"] = evaluate(gears.predict(parts["test"]), adata, known, exclude_targets=True)
        if name == "true graph":
            fitted.save(folder / "model")
            with new_file(folder / "predictions.h5ad") as file:
                prediction.write_h5ad(file)

    references = reference_scores(adata, known, exclude_targets=True)
    summaries = {name: summarize(table, references=references) for name, table in scores.items()}
    points = {name: summarize(references.loc[name]) for name in (REPLICATE, INTERPOLATED)}  # the others are baselines
    with new_file(folder / "scores.csv") as file:
        pd.concat(scores, names=["model"]).to_csv(file)
    axes = plotting.model_scores(summaries | points, highlight=[name for name in summaries if name.startswith("kg")])
    axes.set_title(f"{len(parts['test'])} unseen conditions of a simulated screen")
    with new_file(folder / "scores.png") as file:
        axes.figure.savefig(file, dpi=150)  # type: ignore[union-attr]
    result = {
        "seconds": round(time.perf_counter() - start, 1),
        "conditions": {part: len(parts[part]) for part in ("train", "val", "test")},
        "models": {name: summary.to_dict("index") for name, summary in summaries.items()},
        "references": {name: summary.to_dict("index") for name, summary in points.items()},
        "verdict": verdict(summaries["kg, true graph"]),
    }
    write_json(folder / "summary.json", result)
    return result
