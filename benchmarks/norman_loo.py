"""Leave one condition out on a real Perturb-seq screen: GEARS and the baselines, with intervals.

    python -m benchmarks.norman_loo --data ../shared/data

Norman et al. 2019 (K562, CRISPRa), 500 highly variable genes, 33 conditions. Every condition is held out once. GEARS
trains on the others but three validation conditions, which choose its epoch; the baselines have nothing to choose
and train on these three as well. Graph: DoRothEA A–C, GO similarity, co-expression of the fold's training cells; with
`--controls` also the same graph rewired, and none. GEARS' recipe is not changed and nothing is chosen on the
held-out condition.
"""

import argparse
import json
import logging
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.machine import describe, peak_memory_mb

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
GRAPHS = {"GEARS": "true", "GEARS, rewired graph": "rewired", "GEARS, no graph": "none"}


def knowledge(data: Path):
    from kgnn import graph

    return graph.load_regulation(data / "kg/dorothea_hs.tsv.gz", min_confidence="C") | graph.load_gene_sets(
        data / "kg/GO_Biological_Process_2021.gmt"
    )


def fold(task: tuple[Path, str, int, list[str]]) -> pd.DataFrame:
    """Score every model on one held-out condition."""
    data, held_out, seed, graphs = task
    import scanpy as sc
    import torch

    from kgnn import PerturbationModel
    from kgnn.data import merge_validation, split, training_cells
    from kgnn.errors import DataWarning
    from kgnn.graph import load_coexpression
    from kgnn.metrics import evaluate
    from kgnn.models import BASELINES

    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    adata = sc.read_h5ad(data / "perturb/norman19_k562_hvg500.h5ad")
    parts = split(adata, "leave_one_out", held_out=held_out, seed=seed)
    known, tables = merge_validation(parts), {}

    def score(name: str, fitted, seconds: float) -> None:
        tables[name] = evaluate(fitted.predict(held_out), adata, known).assign(seconds=seconds)

    for name in BASELINES:
        start = time.process_time()
        score(name, PerturbationModel(encoder=name).fit(adata, known), time.process_time() - start)
    kg = knowledge(data) | load_coexpression(training_cells(adata, parts))
    for name in graphs:
        graph = {"true": kg, "rewired": kg.rewire(seed), "none": None}[GRAPHS[name]]
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # IER5L has no neighbour in the graph, in every fold
            model = PerturbationModel(graph, encoder="gears").fit(adata, parts, seed=seed, **QUIET)
        score(name, model, time.process_time() - start)
    table = pd.concat(tables, names=["model", "condition"]).reset_index()
    return table.assign(seed=seed, peak_mb=peak_memory_mb())


def report(scores: pd.DataFrame, machine: dict, wall: float) -> list[str]:
    from kgnn.evaluation.report import summaries
    from kgnn.metrics import paired_difference

    columns = ["pearson_centred", "pds_cosine", "mse_ratio", "pearson_delta", "mse", "wrong_direction_top20"]
    seeds = sorted(scores["seed"].unique())
    lines = [
        "# Norman et al. 2019, leave one condition out",
        "",
        f"`python -m benchmarks.norman_loo` on {machine['cpu']}, {machine['cores']} cores; {machine['versions']}.",
        f"{scores['condition'].nunique()} conditions, seeds {', '.join(map(str, seeds))}. Mean over conditions of the "
        "mean over seeds; in brackets the 95 % bootstrap interval over conditions; ± the standard deviation over seeds "
        "(baselines do not depend on the seed).",
        "",
        "| model | " + " | ".join(columns) + " | CPU seconds a fit |",
        "|" + "---|" * (len(columns) + 2),
    ]
    found, by_seed = summaries(scores), {seed: summaries(part) for seed, part in scores.groupby("seed")}
    for name, part in scores.groupby("model", sort=False):
        spread = pd.DataFrame({seed: tables[name]["mean"] for seed, tables in by_seed.items()}).std(axis=1, ddof=1)
        cells = []
        for column in columns:
            mean, low, high = found[name].loc[column, ["mean", "low", "high"]]
            over = f" ± {spread[column]:.4f}" if len(seeds) > 1 else ""
            cells.append(f"{mean:.4f} ({low:.4f}–{high:.4f}){over}")
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {part['seconds'].median():.1f} |")
    lines += ["", "Paired differences, mean over conditions and 95 % bootstrap interval:", ""]
    means = {name: part.groupby("condition").mean(numeric_only=True) for name, part in scores.groupby("model")}
    for other in [*GRAPHS, "mean", "composition_ridge"]:
        if other in means and other != "GEARS":
            told = []
            for score in ("pearson_centred", "pearson_delta"):
                row = paired_difference(means["GEARS"], means[other], score)
                told.append(f"{score} {row['mean']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})")
            lines.append(f"- GEARS − {other}: " + "; ".join(told))
    lines += [
        "",
        f"Whole run: {wall:.0f} s in {machine['processes']} processes of one thread, "
        f"peak {np.max(scores['peak_mb']):.0f} MB a process.",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("KGNN_TEST_DATA", "../shared/data")))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--controls", action="store_true", help="GEARS on the rewired and without a graph as well")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--conditions", nargs="+", help="hold out only these")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/norman_loo.json"))
    arguments = parser.parse_args()

    import scanpy as sc

    from kgnn.data.splits import condition_names

    names = arguments.conditions or condition_names(sc.read_h5ad(arguments.data / "perturb/norman19_k562_hvg500.h5ad"))
    graphs = list(GRAPHS) if arguments.controls else ["GEARS"]
    tasks = [(arguments.data, name, seed, graphs) for seed in arguments.seeds for name in names]
    start = time.perf_counter()
    done = []
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        for task, table in zip(tasks, pool.map(fold, tasks), strict=True):
            done.append(table)
            print(f"seed {task[2]} {task[1]}: {time.perf_counter() - start:.0f} s", flush=True)
    scores = pd.concat(done, ignore_index=True)
    machine = describe("scanpy", "lightning") | {"processes": arguments.processes}
    lines = report(scores, machine, time.perf_counter() - start)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    rows = scores.drop(columns=["peak_mb", "subgroup"]).round(6).to_dict("records")
    arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
