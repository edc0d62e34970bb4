"""How the cost of one product A x, forward and backward, grows, and the largest gene graph that fits.

Called by `python -m benchmarks.sparse_ops --growth`; every point runs in a process of its own.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.machine import added_memory_mb, describe, in_a_process, milliseconds, peak_memory_mb, status_mb

BASE = {"cells": 32, "genes": 5000, "edges a gene": 20, "channels": 64}
AXES = {
    "cells": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "genes": (1000, 2000, 5000, 10_000, 20_000),
    "edges a gene": (5, 10, 20, 50, 100, 200),
    "channels": (8, 16, 32, 64, 128, 256),
}
LARGEST = (100, 350)  # millions of edges among 20,000 genes; the machine of the present figures has 23 GB
LIMIT_GB = 24


def random_graph(genes: int, edges: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(genes, (2, edges), generator=generator)


def measure(cells: int, genes: int, edges_a_gene: int, channels: int, runs: int = 9) -> dict:
    from kgnn.ops import Adjacency, spmm

    adjacency = Adjacency(random_graph(genes, genes * edges_a_gene), n_nodes=genes)
    x = torch.randn(cells, genes, channels).requires_grad_()
    grad = torch.randn(x.shape)

    def both() -> None:
        x.grad = None
        spmm(adjacency, x).backward(grad)

    torch.ones(1, requires_grad=True).mul(1).backward(torch.ones(1))  # its first call imports 30 MB of Python
    added = added_memory_mb(both)
    graph = sum(buffer.nbytes for buffer in adjacency.buffers()) / 1e6
    return {"ms": milliseconds(both, runs, warm_up=2), "added_mb": added, "graph_mb": graph}


def fits(millions: int) -> dict:
    """Build a graph and pass messages of 32 cells × 64 channels forward and backward; the process' peak memory."""
    from kgnn.ops import Adjacency, spmm

    genes = 20_000
    edge_index = random_graph(genes, millions * 1_000_000)
    start = time.perf_counter()
    adjacency = Adjacency(edge_index, n_nodes=genes, normalization="row")
    built = time.perf_counter() - start
    del edge_index
    x = torch.randn(32, genes, 64).requires_grad_()
    start = time.perf_counter()
    spmm(adjacency, x).sum().backward()
    return {
        "peak_gb": peak_memory_mb() / 1000,
        "resident_gb": status_mb("VmRSS") / 1000,
        "build_s": built,
        "pass_s": time.perf_counter() - start,
    }


def draw(out: Path) -> None:
    points = {
        axis: [in_a_process("benchmarks.sparse_growth", json.dumps(BASE | {axis: value})) for value in values]
        for axis, values in AXES.items()
    }
    largest = []
    for millions in LARGEST:
        try:
            found = in_a_process("benchmarks.sparse_growth", str(millions))
        except subprocess.CalledProcessError as error:  # killed for memory: the one before was the largest
            largest.append({"millions": millions, "error": str(error)[:80]})
            break
        largest.append({"millions": millions} | found)
        if found["peak_gb"] > LIMIT_GB:
            break
    machine = describe()
    raw = {"machine": machine, "base": BASE, "points": points, "largest": largest}
    (out / "sparse_growth.json").write_text(json.dumps(raw, indent=1) + "\n")
    _plot(points, out / "sparse_growth.png")
    lines = [
        "# How the sparse product grows",
        "",
        f"`python -m benchmarks.sparse_ops --growth` on {machine['cpu']}, {machine['cores']} cores; "
        f"{machine['versions']}.",
        "A x forward and backward, float32, random graphs; one thing varies, the others stay at "
        + ", ".join(f"{value:,} {name}" for name, value in BASE.items())
        + ". Medians of 9 runs, the range in brackets; memory added by the pass, beside the graph's own.",
        "",
        "![time and memory](sparse_growth.png)",
        "",
        "| varies | | ms | added MB | graph MB |",
        "|---|---|---|---|---|",
    ]
    for axis, values in AXES.items():
        for value, point in zip(values, points[axis], strict=True):
            ms = point["ms"]
            lines.append(
                f"| {axis} | {value:,} | {statistics.median(ms):.2f} ({min(ms):.2f}–{max(ms):.2f}) "
                f"| {point['added_mb']:.1f} | {point['graph_mb']:.1f} |"
            )
    lines += [
        "",
        f"## The largest graph of 20,000 genes within {LIMIT_GB} GB",
        "",
        "Building the `Adjacency` of an `edge_index` in memory, then one pass of 32 cells × 64 channels; one run each.",
        "",
        "| million edges | peak GB | afterwards GB | build s | pass s |",
        "|---|---|---|---|---|",
    ]
    for row in largest:
        if "error" in row:
            lines.append(f"| {row['millions']} | did not fit this machine | | | |")
        else:
            lines.append(
                f"| {row['millions']} | {row['peak_gb']:.1f} | {row['resident_gb']:.1f} | {row['build_s']:.0f} "
                f"| {row['pass_s']:.1f} |"
            )
    ran = [row for row in largest if "error" not in row]
    if len(ran) > 1:
        slope = (ran[-1]["peak_gb"] - ran[0]["peak_gb"]) / (ran[-1]["millions"] - ran[0]["millions"])
        most = ran[-1]["millions"] + (LIMIT_GB - ran[-1]["peak_gb"]) / slope
        lines += [
            "",
            f"{1000 * slope:.0f} bytes an edge while it is built; on that line {LIMIT_GB} GB hold {most:.0f} million "
            "edges (all pairs of 20,000 genes are 400 million).",
        ]
    (out / "sparse_growth.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _plot(points: dict[str, list[dict]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(AXES), figsize=(13, 6), sharex="col", layout="constrained")
    for column, (axis, values) in enumerate(AXES.items()):
        times = [point["ms"] for point in points[axis]]
        memory = [point["added_mb"] + point["graph_mb"] for point in points[axis]]
        medians = [statistics.median(ms) for ms in times]
        top, bottom = axes[0, column], axes[1, column]
        top.fill_between(values, [min(ms) for ms in times], [max(ms) for ms in times], alpha=0.2, linewidth=0)
        top.plot(values, medians, "o-", label="measured")
        bottom.plot(values, memory, "o-", label="measured, with the graph")
        for panel, last in ((top, medians[-1]), (bottom, memory[-1])):
            panel.plot(values, [last * v / values[-1] for v in values], "k:", label="proportional")
            panel.set(xscale="log", yscale="log")
            panel.grid(alpha=0.3)
        bottom.set_xlabel(axis)
    axes[0, 0].set_ylabel("forward + backward, ms")
    axes[1, 0].set_ylabel("memory, MB")
    axes[0, 0].legend()
    axes[1, 0].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    argument = json.loads(sys.argv[1])
    if isinstance(argument, int):
        print(json.dumps(fits(argument)))
    else:
        print(json.dumps(measure(**{name.replace(" ", "_"): value for name, value in argument.items()})))
