"""The encoder of the typed graph against PyG's layers: a training step's time and added memory, and how they grow.

    python -m benchmarks.hetero_ops
    python -m benchmarks.hetero_ops --growth    # with the edges, to 100 million; the other tables stay as they are

A synthetic graph of the human graph's size: 29,000 genes, 2,000 families, 8,500 sets, 3,300 cell types, 1.5 million
random edges of 10 relations, each walked both ways (3 million messages a layer), 64 channels, float32. A step is one
layer forward and backward, its time the processor's in one thread, so that other processes count little. Every case
runs in a process of its own, the cases of a round in turn; a case that does not fit `--limit-gb` is written down so.
"""

import argparse
import ctypes
import json
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import added_memory_mb, describe, in_a_process, spread

NODES = {"gene": 29_000, "family": 2000, "set": 8500, "cell_type": 3300}
EDGES = {  # thousands; 1.5 million together
    ("gene", "regulates", "gene"): 100,
    ("gene", "coexpressed", "gene"): 400,
    ("gene", "interacts", "gene"): 300,
    ("gene", "phosphorylates", "gene"): 50,
    ("gene", "member_of", "set"): 350,
    ("gene", "in_family", "family"): 50,
    ("gene", "expressed_in", "cell_type"): 200,
    ("cell_type", "is_a", "cell_type"): 5,
    ("set", "part_of", "set"): 10,
    ("family", "part_of", "family"): 35,
}
CHANNELS, HEADS = 64, 4
SIZES = (0.25, 1, 4, 16, 67)  # of the edges, where growth is measured
SEEDS, FANOUT = 1024, [10]  # genes a batch, neighbours a relation
Step = tuple[Callable[[], torch.Tensor], list[torch.Tensor]]


def edges(size: float) -> dict[tuple[str, str, str], torch.Tensor]:
    """Random edges of each relation and, turned around, of its reverse."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for (source, name, target), thousands in EDGES.items():
        number = int(1000 * thousands * size)
        ends = [torch.randint(NODES[kind], (number,), generator=generator) for kind in (source, target)]
        found[source, name, target] = torch.stack(ends)
        found[target, f"rev_{name}", source] = torch.stack(ends[::-1])
    return found


def states() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {kind: torch.randn(n, CHANNELS, generator=generator) for kind, n in NODES.items()}


def kgnn_layer(kind: str, size: float, **options: Any) -> Step:
    from kgnn.nn.typed_conv import TYPED_CONVS
    from kgnn.ops import TypedAdjacency

    graph = TypedAdjacency(edges(size), NODES)
    layer = TYPED_CONVS[kind](CHANNELS, graph, **options)
    if kind == "hgt":
        assert graph.attention.n_nodes  # made before the clock starts
    x = graph.join(states()).requires_grad_()
    relations = torch.randn(len(graph.relations), CHANNELS).requires_grad_()
    return lambda: layer(x, graph, relations)[0], [x, *layer.parameters()]


def kgnn_batch(kind: str, size: float) -> Step:
    """A part drawn around some genes, anew each step, and the layer on it."""
    from kgnn.nn.typed_conv import TYPED_CONVS
    from kgnn.ops import TypedAdjacency, sample_neighbours

    graph = TypedAdjacency(edges(size), NODES)
    layer = TYPED_CONVS[kind](CHANNELS, graph)
    x = graph.join(states()).requires_grad_()
    relations = torch.randn(len(graph.relations), CHANNELS).requires_grad_()

    def step() -> torch.Tensor:
        part = sample_neighbours(graph, {"gene": torch.randperm(NODES["gene"])[:SEEDS]}, FANOUT)
        places = torch.cat([numbers + graph.slices[kind].start for kind, numbers in part.nodes.items()])
        out: torch.Tensor = layer(x[places], part.graph, relations)[0]
        return out[:SEEDS]  # genes are the first type, and seeds the first of theirs

    return step, [x, *layer.parameters()]


def pyg_hetero(kind: str, size: float) -> Step:
    import torch_geometric.nn as pyg

    graph = edges(size)
    x = {name: value.requires_grad_() for name, value in states().items()}
    if kind == "sage":
        layer = pyg.HeteroConv({relation: pyg.SAGEConv(CHANNELS, CHANNELS) for relation in graph}, aggr="sum")
    else:
        layer = pyg.HGTConv(CHANNELS, CHANNELS, (list(NODES), list(graph)), heads=HEADS)
    return lambda: torch.cat(list(layer(x, graph).values())), [*x.values(), *layer.parameters()]


def pyg_union(name: str, size: float, **options: Any) -> Step:
    """R-GCN's layers of PyG on the nodes of all types, numbered one type after the other."""
    import torch_geometric.nn as pyg

    starts, n = {}, 0
    for kind, number in NODES.items():
        starts[kind], n = n, n + number
    graph = edges(size)
    pairs = torch.cat([pair + torch.tensor([[starts[r[0]]], [starts[r[2]]]]) for r, pair in graph.items()], 1)
    counts = torch.tensor([pair.shape[1] for pair in graph.values()])
    kinds = torch.repeat_interleave(torch.arange(len(graph)), counts)
    layer = getattr(pyg, name)(CHANNELS, CHANNELS, len(graph), **options)
    x = torch.cat(list(states().values())).requires_grad_()
    return lambda: layer(x, pairs, kinds), [x, *layer.parameters()]


CASES: dict[str, dict[str, Callable[[float], Step]]] = {
    "GraphSAGE a relation": {
        "kgnn": lambda size: kgnn_layer("sage", size),
        "PyG HeteroConv(SAGEConv)": lambda size: pyg_hetero("sage", size),
    },
    "R-GCN": {
        "kgnn": lambda size: kgnn_layer("rgcn", size),
        "PyG RGCNConv": lambda size: pyg_union("RGCNConv", size),
        "PyG FastRGCNConv": lambda size: pyg_union("FastRGCNConv", size),
    },
    "HGT, 4 heads": {
        "kgnn": lambda size: kgnn_layer("hgt", size, heads=HEADS),
        "PyG HGTConv": lambda size: pyg_hetero("hgt", size),
    },
    "CompGCN, correlation": {"kgnn": lambda size: kgnn_layer("compgcn", size)},
}
GROWING: dict[str, Callable[[float], Step]] = {
    "kgnn, the whole graph": CASES["GraphSAGE a relation"]["kgnn"],
    f"kgnn, {SEEDS:,} genes with {FANOUT[0]} neighbours a relation": lambda size: kgnn_batch("sage", size),
    "PyG HeteroConv(SAGEConv), the whole graph": CASES["GraphSAGE a relation"]["PyG HeteroConv(SAGEConv)"],
}


def cpu_milliseconds(work: Callable[[], object], runs: int) -> list[float]:
    """Processor time of each run."""
    times = [time.process_time()]
    for _ in range(runs):
        work()
        times.append(time.process_time())
    return [1000 * (end - start) for start, end in pairwise(times)]


def measure(work: str, case: str, size: float, runs: int, limit_gb: float) -> dict[str, Any]:
    """Run one case in this process."""
    resource.setrlimit(resource.RLIMIT_AS, (int(limit_gb * 1e9),) * 2)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        forward, leaves = (GROWING if work == "growth" else CASES[work])[case](size)

        def step() -> None:
            for leaf in leaves:
                leaf.grad = None
            forward().square().sum().backward()

        torch.ones(1, requires_grad=True).mul(1).backward(torch.ones(1))  # its first call imports 30 MB of Python
        ctypes.CDLL(None).malloc_trim(0)  # what building the graph left behind would hide what a step takes
        added = added_memory_mb(step)
        return {"added_mb": added, "ms": cpu_milliseconds(step, runs)}
    except (RuntimeError, MemoryError) as error:
        if "alloc" not in str(error).lower() and not isinstance(error, MemoryError):
            raise
        return {"left_out": f"does not fit {limit_gb:g} GB"}


def run(work: str, case: str, size: float, arguments: argparse.Namespace) -> dict[str, Any]:
    runs = 1 if work == "growth" else arguments.runs
    options = (str(size), "--runs", str(runs), "--limit-gb", str(arguments.limit_gb))
    try:
        return in_a_process("benchmarks.hetero_ops", "--case", work, case, *options)
    except subprocess.CalledProcessError as error:
        return {"left_out": f"ended by the system ({error.returncode})"}


def tables(results: dict[str, Any]) -> list[str]:
    lines = []
    for work, cases in results.items():
        heads = ("layer", "CPU ms", "of kgnn's time", "added MB", "of kgnn's memory")
        lines += ["", f"## {work}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        ours = cases["kgnn"]
        for case, found in cases.items():
            if "left_out" in found:
                lines.append(f"| {case} | {found['left_out']} | | | |")
                continue
            slower = statistics.median(found["ms"]) / statistics.median(ours["ms"])
            memory = statistics.median(found["added_mb"])
            ratio = memory / max(1.0, statistics.median(ours["added_mb"]))
            lines.append(f"| {case} | {spread(found['ms'])} | {slower:.1f} | {memory:.0f} | {ratio:.1f} |")
    return lines


def growth_table(growth: dict[str, Any], cpu: str) -> list[str]:
    heads = [f"{1.5 * size:g} million edges" for size in SIZES]
    lines = [
        "",
        "## Growth with the edges",
        "",
        f"GraphSAGE a relation; CPU milliseconds / added MB, one step each; {cpu}.",
        "",
    ]
    lines += [f"| layer | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, points in growth.items():
        cells = [p.get("left_out") or f"{statistics.median(p['ms']):.0f} / {p['added_mb']:.0f}" for p in points]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def merge(into: dict[str, Any], found: dict[str, Any]) -> None:
    if "left_out" in found:
        into["left_out"] = found["left_out"]
    else:
        into.setdefault("ms", []).extend(found["ms"])
        into.setdefault("added_mb", []).append(found["added_mb"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="processes a case")
    parser.add_argument("--runs", type=int, default=2, help="measured steps a process")
    parser.add_argument("--limit-gb", type=float, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--growth", action="store_true", help="measure this alone")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        work, case, size = arguments.case
        print(json.dumps(measure(work, case, float(size), arguments.runs, arguments.limit_gb)))
        return
    results: dict[str, Any] = {work: {case: {} for case in cases} for work, cases in CASES.items()}
    machine = describe()
    cpu = str(machine["cpu"])
    if arguments.growth:
        kept = json.loads((arguments.out / "hetero_ops.json").read_text())
        results, machine = kept["results"], kept["machine"]
    for _ in range(0 if arguments.growth else arguments.rounds):
        for work, cases in results.items():
            for case, into in cases.items():
                if "left_out" not in into:
                    merge(into, run(work, case, 1, arguments))
    growth = {case: [run("growth", case, size, arguments) for size in SIZES] for case in GROWING}
    arguments.out.mkdir(parents=True, exist_ok=True)
    raw = {"machine": machine, "results": results, "growth": growth, "growth_cpu": cpu}
    (arguments.out / "hetero_ops.json").write_text(json.dumps(raw, indent=1) + "\n")
    lines = [
        "# A layer over the whole typed graph",
        "",
        f"`python -m benchmarks.hetero_ops` on {machine['cpu']}, one thread; {machine['versions']}.",
        f"{sum(NODES.values()):,} nodes of {len(NODES)} types, 1.5 million random edges of {len(EDGES)} relations,",
        f"each walked both ways, {CHANNELS} channels, float32; one layer forward and backward. Medians of",
        f"{arguments.rounds} processes × {arguments.runs} steps, the range in brackets; processor time of one thread.",
        "Added memory: the peak of the first step above what graph, features and parameters take.",
        *tables(results),
        *growth_table(growth, cpu),
    ]
    (arguments.out / "hetero_ops.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
