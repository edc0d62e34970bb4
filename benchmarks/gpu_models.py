"""Whether models trained on a CUDA device predict what those trained on the CPU do, and how much sooner they are done.

    python -m benchmarks.gpu_models

A simulated screen of 2,000 genes and 300 knock-outs with the true network, 60 of them held out; its links; a simulated
atlas of 2,000 genes. The same settings and the same seed on both devices, in turn; the CPU's threads as PyTorch takes
them. Models are as good where their scores are: weights part ways with the first rounding.
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import RESULTS, describe, device_name

QUIET = {"enable_progress_bar": False}
PERTURBED = ("gears", "hetero", "txpert", "graph_transformer")
Run = Callable[[str], dict[str, Any]]  # a device → seconds of the fit, score, values to compare
SEED = 0
FIT = {"max_epochs": 6, "batch_size": 256, "conditions_per_batch": 32, "learning_rate": 3e-3}


def perturbation(name: str, size: int) -> Run:
    from kgnn import graph
    from kgnn.data import merge_validation, simulate, split
    from kgnn.models import make_model

    sizes = {"n_genes": size, "n_regulators": size // 4, "n_singles": size // 7, "n_pairs": 0}
    adata = simulate(cells_per_condition=50, n_controls=500, seed=SEED, **sizes)
    kg = graph.load_table(adata.uns["network"], relation="regulates", origin="network")
    fold = merge_validation(split(adata, "unseen_single", seed=SEED))  # the last epoch counts, no choice among them
    truth = adata.varm["true_delta"]
    mean, truth = truth[fold["train"]].mean(axis=1).to_numpy(), truth[fold["test"]].T.to_numpy()

    def run(device: str) -> dict[str, Any]:
        start = time.perf_counter()
        model = make_model(name, kg).fit(adata, fold, seed=SEED, accelerator=device, **FIT, **QUIET)
        seconds = time.perf_counter() - start
        found = model.predict(fold["test"]).layers["delta"]
        score = np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(found - mean, truth - mean, strict=True)])
        return {"seconds": seconds, "score": float(score), "values": found}

    return run


def links(encoder: bool, size: int) -> Run:
    from kgnn import LinkModel, graph
    from kgnn.data import simulate

    adata = simulate(n_genes=size, n_regulators=size // 4, n_singles=2, n_pairs=0, cells_per_condition=2, seed=SEED)
    kg = graph.load_table(adata.uns["network"], relation="regulates", origin="network")
    held = graph.split_edges(kg, seed=SEED)

    def run(device: str) -> dict[str, Any]:
        from kgnn.nn import HeteroEncoder

        model = LinkModel(kg, encoder=HeteroEncoder if encoder else None)
        start = time.perf_counter()
        model.fit(held, max_epochs=10, accelerator=device, seed=SEED)
        seconds = time.perf_counter() - start
        scores = model.evaluate(held).query("relation == 'all' and model == 'links'")
        return {"seconds": seconds, "score": float(scores["mrr"].iloc[0]), "values": model.fitted_.states.numpy()}

    return run


def cells(encoder: str, size: int) -> Run:
    from kgnn import CellModel, graph
    from kgnn.data import simulate_atlas

    adata = simulate_atlas(n_genes=size, seed=SEED)
    pairs = adata.uns["network"][["source", "target"]].drop_duplicates()
    kg = graph.load_table(pairs, relation="regulates", origin="atlas")

    def run(device: str) -> dict[str, Any]:
        model = CellModel(None if encoder == "transformer" else kg, encoder=encoder, classes=["cell_type"], context=256)
        start = time.perf_counter()
        model.fit(adata, max_epochs=3, accelerator=device, seed=SEED, **QUIET)
        seconds = time.perf_counter() - start
        found = model.annotate(adata)
        right = found["cell_type"].astype(str).to_numpy() == adata.obs["cell_type"].astype(str).to_numpy()
        return {"seconds": seconds, "score": float(right.mean()), "values": model.embed(adata)}

    return run


def measure(run: Run, devices: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    values = []
    for device in [*devices, devices[-1]]:  # the last one again: without what is compiled the first time
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        found = run(device)
        row[device] = {key: found[key] for key in ("seconds", "score")}
        if device == "cuda":
            row[device]["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
        values.append(np.asarray(found["values"]))
    row["same_again"] = bool(np.array_equal(values[-1], values[-2]))
    row["alike"] = float(np.corrcoef(values[0].ravel(), values[-1].ravel())[0, 1])
    return row


def write(out: Path, rows: dict[str, dict[str, Any]], machine: dict[str, Any], size: int, devices: list[str]) -> None:
    """Write figures and table; rows of other models of this size that this machine measured before stay."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "gpu_models.json"
    found = {"machine": machine, "size": size, "rows": rows}
    earlier = json.loads(path.read_text()) if path.exists() else {}
    if all(earlier.get(key) == found[key] for key in ("machine", "size")):
        found["rows"] = rows = earlier["rows"] | rows
    lines = [
        "# Models trained on a CUDA device and on the CPU",
        "",
        f"`python -m benchmarks.gpu_models --size {size}` on {device_name(machine, devices[-1])}; "
        f"{machine['versions']}.",
        f"{size:,} genes. Seconds of the fit; on the device of a second one, when its kernels are compiled. Score: "
        "correlation of held-out knock-outs with the truth, both less the mean of training, MRR of held-out edges, "
        "share of cells named right. Alike: correlation of the devices' predictions, nodes' states, cells' vectors.",
        "",
        f"| model | {' | '.join(f'{device}, s | {device}, score' for device in devices)} | alike | peak, MB | again |",
        "|---|" + "---|" * (2 * len(devices) + 3),
    ]
    for name, row in rows.items():
        if "failed" in row:
            lines.append(f"| {name} | {row['failed']} |" + " |" * (2 * len(devices) + 2))
            continue
        figures = [f"{row[device]['seconds']:.1f} | {row[device]['score']:.3f}" for device in devices]
        peak = row[devices[-1]].get("peak_mb")
        again = "yes" if row["same_again"] else "no"
        figures.append(f"{row['alike']:.3f}")
        lines.append(f"| {name} | {' | '.join(figures)} | {'' if peak is None else f'{peak:.0f}'} | {again} |")
    path.write_text(json.dumps(found, indent=1) + "\n")
    (out / "gpu_models.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--size", type=int, default=2000, help="genes")
    parser.add_argument("--only", nargs="+", help="models")
    parser.add_argument("--out", type=Path, help="folder of the tables")
    arguments = parser.parse_args()
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    size = arguments.size
    makers: dict[str, Callable[[int], Run]] = {name: partial(perturbation, name) for name in PERTURBED}
    makers |= {"links, ComplEx": partial(links, False), "links, hetero encoder": partial(links, True)}
    makers |= {f"cells, {kind}": partial(cells, kind) for kind in ("graph", "graph_transformer")}
    devices = ["cpu"] if arguments.device == "cpu" else ["cpu", "cuda"]
    rows: dict[str, dict[str, Any]] = {}
    for name, make in makers.items():
        if arguments.only and name not in arguments.only:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                rows[name] = measure(make(size), devices)
            except Exception as error:  # the other models are measured all the same; the exit status tells
                rows[name] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0]}"}
        print(name, rows[name], flush=True)
    write(arguments.out or RESULTS[arguments.device], rows, describe("triton", "lightning"), size, devices)
    if any("failed" in row for row in rows.values()):
        raise SystemExit("some models failed")


if __name__ == "__main__":
    main()
