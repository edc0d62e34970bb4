"""Seconds a training step and peak memory of GEARS: kgnn against cell-gears' own model, in one run.

    python -m benchmarks.gears_step

G = 5,045 measured genes, P = 9,853 perturbable genes, graphs of 20 random neighbours a gene and the self loop,
hidden size 64, float32: the sizes of Norman et al. 2019 as cell-gears prepares it. A step is forward, loss with
direction term, backward, gradient clipping and Adam. Every case runs in a process of its own, the cases of a
round in turn, so that memory is the case's own and a drift of the machine's speed meets all of them.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch

from benchmarks.machine import RESULTS, describe, device_name, in_a_process, milliseconds, peak_memory_mb

GENES, PERTURBABLE, NEIGHBOURS, CHANNELS = 5045, 9853, 20, 64
CASES = {  # name: (model, cells, distinct conditions)
    "cell-gears, 32 cells of 32 conditions": ("cell-gears", 32, 32),
    "kgnn, 32 cells of 32 conditions": ("kgnn", 32, 32),
    "cell-gears, 32 cells of 8 conditions": ("cell-gears", 32, 8),
    "kgnn, 32 cells of 8 conditions": ("kgnn", 32, 8),
    "kgnn, 256 cells of 16 conditions": ("kgnn", 256, 16),
}


def random_graph(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.arange(n).repeat_interleave(NEIGHBOURS)
    source = torch.randint(n, (len(target),), generator=generator)
    pairs = torch.stack([source, target])[:, source != target].unique(dim=1)
    loops = torch.arange(n).repeat(2, 1)
    return torch.cat([pairs, loops], 1), torch.cat([torch.rand(pairs.shape[1], generator=generator), torch.ones(n)])


DEVICE = "cpu"


def data(cells: int, conditions: int):
    """Graphs, control cells, perturbed cells, and the two perturbed genes of each condition."""
    generator = torch.Generator().manual_seed(0)
    graphs = random_graph(GENES, generator), random_graph(PERTURBABLE, generator)
    x, y = (torch.rand(cells, GENES, generator=generator) for _ in range(2))
    genes = torch.randperm(PERTURBABLE, generator=generator)[: 2 * conditions].reshape(conditions, 2).tolist()
    graphs = tuple(tuple(part.to(DEVICE) for part in graph) for graph in graphs)
    x, y = x.to(DEVICE), y.to(DEVICE)
    return graphs, x, y, genes, [number % conditions for number in range(cells)]


def kgnn_step(cells: int, conditions: int):
    from kgnn.nn import GEARS, ConditionBatch, GearsEncoder, gears_loss
    from kgnn.ops import Adjacency

    graphs, x, y, genes, condition = data(cells, conditions)
    torch.manual_seed(0)
    adjacencies = [
        Adjacency(edges, weight, n_nodes=n, normalization="symmetric", self_loops=True)
        for (edges, weight), n in zip(graphs, (GENES, PERTURBABLE), strict=True)
    ]
    model = GEARS(GearsEncoder(*adjacencies, CHANNELS), GENES, channels=CHANNELS).to(DEVICE).train()
    perturbed, offsets = torch.tensor(genes).ravel().to(DEVICE), torch.arange(conditions + 1, device=DEVICE) * 2
    number = torch.tensor(condition, device=DEVICE)
    counts = number.bincount(minlength=conditions)
    expressed = torch.ones(conditions, GENES, dtype=torch.bool, device=DEVICE)
    control = x.mean(0)

    def loss():
        change, _ = model(ConditionBatch(perturbed, offsets, counts))
        return gears_loss(x + change.index_select(0, number), y, control, number, expressed)

    return model, loss


def cell_gears_step(cells: int, conditions: int):
    import numpy as np
    from gears.model import GEARS_Model
    from gears.utils import loss_fct
    from torch_geometric.data import Batch, Data

    graphs, x, y, genes, condition = data(cells, conditions)
    torch.manual_seed(0)
    model = (
        GEARS_Model(
            {
                "num_genes": GENES,
                "num_perts": PERTURBABLE,
                "hidden_size": CHANNELS,
                "uncertainty": False,
                "num_go_gnn_layers": 1,
                "num_gene_gnn_layers": 1,
                "decoder_hidden_size": 16,
                "no_perturb": False,
                "G_coexpress": graphs[0][0],
                "G_coexpress_weight": graphs[0][1],
                "G_go": graphs[1][0],
                "G_go_weight": graphs[1][1],
                "device": DEVICE,
            }
        )
        .to(DEVICE)
        .train()
    )
    batch = Batch.from_data_list([Data(x=row.reshape(-1, 1)) for row in x])
    batch.pert_idx = [genes[number] for number in condition]
    names = [f"condition {number}" for number in condition]
    expressed = {name: np.arange(GENES) for name in names}
    control = x.mean(0)
    return model, lambda: loss_fct(model(batch), y, names, ctrl=control, direction_lambda=0.1, dict_filter=expressed)


def measure(case: str, steps: int, warm_up: int) -> dict[str, object]:
    """Run one case in this process."""
    kind, cells, conditions = CASES[case]
    model, loss = (kgnn_step if kind == "kgnn" else cell_gears_step)(cells, conditions)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-4)
    before = peak_memory_mb()

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), 1.0)
        optimizer.step()

    seconds = [ms / 1000 for ms in milliseconds(step, steps, warm_up, DEVICE)]
    peak = peak_memory_mb() if DEVICE == "cpu" else torch.cuda.max_memory_allocated() / 1e6
    return {"seconds": seconds, "peak_mb": peak, "before_mb": before if DEVICE == "cpu" else 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes a case")
    parser.add_argument("--steps", type=int, default=5, help="measured steps a process, after two that are not")
    parser.add_argument("--out", type=Path, help="the JSON file; the table goes beside it")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    global DEVICE
    DEVICE = arguments.device
    if arguments.case:
        print(json.dumps(measure(arguments.case, arguments.steps, warm_up=2)))
        return

    runs: dict[str, list[dict]] = {case: [] for case in CASES}
    for _ in range(arguments.rounds):
        for case in CASES:
            options = ("--case", case, "--steps", str(arguments.steps), "--device", arguments.device)
            runs[case].append(in_a_process("benchmarks.gears_step", *options))

    rows = []
    for case, results in runs.items():
        seconds = [second for result in results for second in result["seconds"]]
        cells = CASES[case][1]
        rows.append(
            {
                "case": case,
                "seconds_median": statistics.median(seconds),
                "seconds_min": min(seconds),
                "seconds_max": max(seconds),
                "ms_per_cell": 1000 * statistics.median(seconds) / cells,
                "peak_mb": statistics.median(result["peak_mb"] for result in results),
                "added_mb": statistics.median(result["peak_mb"] - result["before_mb"] for result in results),
            }
        )
    from benchmarks import gears_scale

    theirs = {CASES[row["case"]][2]: row for row in rows if row["case"].startswith("cell-gears")}
    for row in rows:
        reference = theirs.get(CASES[row["case"]][2], theirs[32])
        row["times_faster_per_cell"] = reference["ms_per_cell"] / row["ms_per_cell"]
        row["share_of_peak"] = row["peak_mb"] / reference["peak_mb"]
        row["share_of_added"] = row["added_mb"] / reference["added_mb"]

    out = arguments.out or RESULTS[arguments.device] / "gears_step.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    machine = describe("cell-gears")
    scale = {}
    if arguments.device == "cpu":
        scale = {work: in_a_process("benchmarks.gears_scale", work) for work in gears_scale.WORK}
    out.write_text(json.dumps({"machine": machine, "rows": rows, "scale": scale}, indent=2) + "\n")
    lines = [
        "# One GEARS training step, kgnn against cell-gears",
        "",
        f"`python -m benchmarks.gears_step` ({arguments.device}) on {device_name(machine, arguments.device)}; "
        f"{machine['versions']}.",
        f"Medians of {arguments.rounds} processes × {arguments.steps} steps; the range in brackets.",
        "",
        "| case | seconds a step | ms a cell | times faster a cell | peak MB | of theirs | added MB | of theirs |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {row['case']} | {row['seconds_median']:.3f} ({row['seconds_min']:.3f}–{row['seconds_max']:.3f}) "
            f"| {row['ms_per_cell']:.2f} | {row['times_faster_per_cell']:.1f} | {row['peak_mb']:.0f} "
            f"| {row['share_of_peak']:.2f} | {row['added_mb']:.0f} | {row['share_of_added']:.2f} |"
            for row in rows
        ),
        *(gears_scale.lines(*scale.values()) if scale else []),
    ]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
