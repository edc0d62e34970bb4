"""The sparse core against every way that a PyG user has: time, added memory, and the bounds of the memory.

    python -m benchmarks.sparse_ops

One message-passing step of GEARS' size: 5,045 genes, 105,766 random edges, 32 cells × 64 channels, float32. Every
case runs in a process of its own (on a CUDA device, which counts its memory itself, in one), the cases of a round in
turn, so that a drift of the machine's speed meets all of them. `--growth` draws how the cost grows with cells, genes,
edges and channels, and finds the largest graph that fits.
"""

import argparse
import json
import statistics
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks import sparse_methods
from benchmarks.machine import RESULTS, added_memory_mb, describe, device_name, in_a_process, milliseconds, spread
from benchmarks.sparse_methods import CELLS, CHANNELS, EDGES, GENES, METHODS

OTHERS = ("PyG", "torch", "embedding_bag", "SciPy")
GOALS = [  # work, case, against, measure, at least (ratio of time; of added memory with "memory")
    ("SGC layer", "kgnn", "PyG SGConv, union", "time", 40),
    ("SGC layer", "kgnn", "PyG SGConv, union", "memory", 20),
    ("A x", "kgnn", "PyG propagate, union", "time", 40),
    ("A x", "kgnn", "PyG propagate, union", "memory", 20),
    ("A x", "kgnn", "the best of the others", "time", 2),
    ("A x", "kgnn without a compiler", "the best of the others", "time", 1),
    ("GATv2 layer, 4 heads × 16", "kgnn", "PyG GATv2Conv, union", "time", 5),
    ("GATv2 layer, 4 heads × 16", "kgnn", "PyG GATv2Conv, union", "memory", 5),
    ("R-GCN layer, 5 relations", "kgnn", "PyG RGCNConv, union", "time", 5),
]


def measure(work: str, case: str, runs: int) -> dict[str, Any]:
    """Run one case in this process."""
    device = sparse_methods.DEVICE
    if device == "cuda" and case == "SciPy":
        return {"left_out": "runs on the CPU"}
    if case == "torch-scatter" and find_spec("torch_scatter") is None:
        return {"left_out": "not installed"}
    torch.manual_seed(0)
    forward, inputs, shape = METHODS[work][case]()
    grad = torch.randn(shape, device=device)

    def both() -> None:
        for leaf in inputs:
            leaf.grad = None
        forward().backward(grad)

    if case.startswith("torch.compile"):
        both()  # compiling is not what is measured
    torch.ones(1, requires_grad=True).mul(1).backward(torch.ones(1))  # its first call imports 30 MB of Python
    added = added_memory_mb(both, device)
    times = milliseconds(both, runs, device=device)
    with torch.no_grad():
        alone = milliseconds(forward, runs, device=device)
    return {"added_mb": added, "forward_backward": times, "forward": alone}


def bounds(runs: int) -> dict[str, Any]:
    """Copy bandwidth of the features, and of one cell's features, which stay in a core's cache."""
    device = sparse_methods.DEVICE
    x = torch.randn(CELLS, GENES, CHANNELS, device=device)
    y = torch.empty_like(x)
    large = milliseconds(lambda: y.copy_(x), 3 * runs, device=device)
    copy = {"copy_gb_s": [2 * x.nbytes / 1e6 / ms for ms in large]}
    if device == "cuda":
        return copy
    size = x[0].nbytes // 4
    a, b = torch.randn(2, size // 2), torch.empty(2, size // 2)  # one half a core

    def in_cache() -> None:
        for _ in range(200):
            b.copy_(a)

    small = milliseconds(in_cache, runs)
    return {**copy, "cache_gb_s": [200 * 2 * a.nbytes / 1e6 / ms for ms in small]}


def attempt(work: str, case: str, runs: int) -> dict[str, Any]:
    """Measure; another's method may fail (memory, a compiler), ours may not."""
    try:
        if sparse_methods.DEVICE == "cpu":
            return in_a_process("benchmarks.sparse_ops", "--case", work, case, "--runs", str(runs))
        return here(work, case, runs)
    except (subprocess.CalledProcessError, RuntimeError):
        if work == "bounds" or case.startswith("kgnn"):
            raise
        return {"left_out": "failed"}


def here(work: str, case: str, runs: int) -> dict[str, Any]:
    """Measure in this process, with the backend that is chosen of itself unless the case asks for another."""
    from kgnn.ops import set_backend

    before = set_backend("auto")
    try:
        return bounds(runs) if work == "bounds" else measure(work, case, runs)
    finally:
        set_backend(before)


def table(results: dict[str, dict[str, dict[str, list[float]]]]) -> list[str]:
    lines = []
    for work, cases in results.items():
        base = statistics.median(cases["kgnn"]["forward_backward"])
        lines += [
            "",
            f"## {work}",
            "",
            "| method | forward, ms | forward + backward, ms | of kgnn's time | added memory, MB |",
            "|---|---|---|---|---|",
        ]
        for case, of_case in cases.items():
            if "left_out" in of_case:
                lines.append(f"| {case} | {of_case['left_out'][0]} | | | |")
                continue
            ratio = statistics.median(of_case["forward_backward"]) / base
            lines.append(
                f"| {case} | {spread(of_case['forward'])} | {spread(of_case['forward_backward'])} | {ratio:.1f} "
                f"| {statistics.median(of_case['added_mb']):.0f} |"
            )
    return lines


def goals(results: dict[str, dict[str, dict[str, list[float]]]]) -> list[str]:
    lines = ["", "## Ratios", "", "| work | | against | measured | asked |", "|---|---|---|---|---|"]
    for work, case, against, what, asked in GOALS:
        key = "forward_backward" if what == "time" else "added_mb"
        medians = {name: statistics.median(of[key]) for name, of in results[work].items() if "left_out" not in of}
        other = against
        if against not in medians and against != "the best of the others":
            lines.append(f"| {work} | {case} | {against}, {what} | not measured | {asked} |")
            continue
        if against == "the best of the others":
            other = min((name for name in medians if name.startswith(OTHERS)), key=lambda name: medians[name])
            against = f"{against}: {other}"
        ratio = medians[other] / medians[case]
        lines.append(f"| {work} | {case} | {against}, {what} | {ratio:.1f} | {asked} |")
    return lines


def bound_lines(found: dict[str, list[float]], results: dict[str, Any]) -> list[str]:
    moved = 2 * CELLS * GENES * CHANNELS * 4 / 1e6
    gathered = CELLS * EDGES * CHANNELS * 4 / 1e6
    forward = statistics.median(results["A x"]["kgnn"]["forward"])
    lines = ["", "## Bounds of the forward product A x", "", "| bound | MB | GB/s | ms | share reached |"]
    lines.append("|---|---|---|---|---|")
    for name, size, key in (
        ("every feature row moved once, copy bandwidth", moved, "copy_gb_s"),
        ("every edge's row read once from a core's cache", gathered, "cache_gb_s"),
    ):
        if key not in found:
            continue
        speed = statistics.median(found[key])
        share = size / speed / forward
        lines.append(f"| {name} | {size:.0f} | {spread(found[key])} | {size / speed:.1f} | {100 * share:.0f} % |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="processes a case")
    parser.add_argument("--runs", type=int, default=5, help="measured runs a process")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--growth", action="store_true", help="how the cost grows, instead")
    parser.add_argument("--out", type=Path, help="folder of the tables")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sparse_methods.DEVICE = arguments.device
    if arguments.case:
        work, case = arguments.case
        print(json.dumps(here(work, case, arguments.runs)))
        return
    if arguments.growth:
        from benchmarks import sparse_growth

        sparse_growth.draw(arguments.out or RESULTS["cpu"])
        return

    results: dict[str, dict[str, dict[str, list[float]]]] = {
        work: {case: {} for case in METHODS[work]} for work in METHODS
    }
    found: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        pairs = [("bounds", ""), *((work, case) for work, cases in METHODS.items() for case in cases)]
        for work, case in pairs:
            measured = attempt(work, case, arguments.runs)
            into = found if work == "bounds" else results[work][case]
            for key, value in measured.items():
                into.setdefault(key, []).extend(value if isinstance(value, list) else [value])

    machine = describe("torch-scatter", "scipy", "triton")
    out = arguments.out or RESULTS[arguments.device]
    out.mkdir(parents=True, exist_ok=True)
    raw = {"machine": machine, "bounds": found, "results": results}
    (out / "sparse_ops.json").write_text(json.dumps(raw, indent=1) + "\n")
    places = "processes" if arguments.device == "cpu" else "rounds"
    lines = [
        "# The sparse core",
        "",
        f"`python -m benchmarks.sparse_ops` ({arguments.device}) on {device_name(machine, arguments.device)}; "
        f"{machine['versions']}.",
        f"{GENES:,} genes, {EDGES:,} random edges, {CELLS} cells × {CHANNELS} channels, float32. Medians of "
        f"{arguments.rounds} {places} × {arguments.runs} runs, the range in brackets. Added memory: the peak of the "
        "first forward and backward pass above what graph, features and parameters take.",
        *goals(results),
        *bound_lines(found, results),
        *table(results),
    ]
    if arguments.device == "cpu" and not torch.cuda.is_available():
        lines += ["", "GPU: no CUDA device was at hand, so there are no figures (`benchmarks/gpu.sh` makes them)."]
    (out / "sparse_ops.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
