"""Speed of cell models: encoders against the number of genes, the alignment loss, tokens a second against BERT.

    python -m benchmarks.cell_speed

Each case runs in a process of its own, on all cores; medians.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import added_memory_mb, describe, in_a_process, milliseconds

CELLS, CHANNELS, LAYERS, HEADS, SPECIAL, DEGREE = 4, 64, 2, 4, 5, 20
GENES = (500, 1000, 2000, 5000, 10_000)
ENCODERS = ("transformer", "graph_transformer", "graph", "alternating")
ATLAS = {"cells": 100_000, "genes": 5000, "steps": 100}
BERT = {"cells": 8, "genes": 2000, "channels": 256, "layers": 4, "heads": 4}


def median_time(work: Callable[[], object], runs: int, warm_up: int = 1) -> float:
    return statistics.median(milliseconds(work, runs, warm_up)) / 1000


def encoder_step(name: str, genes: int) -> dict:
    """Forward and backward of one encoder over a random graph with 20 edges a gene, and of its first layer's mixing
    alone (attention or convolution). Memory: what the first step adds, after one of 100 genes."""
    import torch

    from kgnn.nn.token_encoders import make_token_encoder, shared_graph

    torch.manual_seed(0)
    encoder = make_token_encoder(name, CHANNELS, layers=LAYERS, heads=HEADS, parameters=110_000)

    def case(n: int) -> tuple[Callable[[], None], Callable[[], None]]:
        edges = torch.stack([torch.randint(n, (n * DEGREE,)), torch.arange(n).repeat_interleave(DEGREE)])
        edges = edges[:, edges[0] != edges[1]]
        graph = shared_graph(torch.unique(edges, dim=1), n, SPECIAL)
        x = torch.randn(CELLS, SPECIAL + n, CHANNELS, requires_grad=True)
        return (
            lambda: encoder(x, graph).square().mean().backward(),
            lambda: encoder.layers[0].mix(x, graph).square().mean().backward(),
        )

    case(100)[0]()
    step, mix = case(genes)
    memory = added_memory_mb(step)
    times = {"seconds": median_time(step, 7), "mix_seconds": median_time(mix, 7)}
    return {"encoder": name, "genes": genes, "memory_mb": memory, **times}


def alignment() -> dict:
    """scCello's relational alignment, 256 cells × 8 levels, forward and backward, against the literal loop."""
    import torch
    from torch.nn import functional as F

    from kgnn.nn.losses import relational_alignment_loss

    torch.manual_seed(0)
    n, kinds = 256, 20
    table = torch.randint(1, 9, (kinds, kinds))
    table = torch.maximum(table, table.T).fill_diagonal_(9)
    kind = torch.randint(kinds, (n,))
    level = table[kind[:, None], kind]
    level = level.clamp(1, 9)
    ancestor = (torch.rand(kinds, kinds) < 0.05)[kind[:, None], kind]
    state, again = torch.randn(n, CHANNELS, requires_grad=True), torch.randn(n, CHANNELS)

    def ours() -> None:
        relational_alignment_loss(state, again, level, ancestor).backward()

    def literal() -> None:
        h, second = F.normalize(state, dim=1) / math.sqrt(0.1), F.normalize(again, dim=1) / math.sqrt(0.1)
        lowest, losses = int(level.min()), []
        for a in range(n):
            for one in [one for one in level.unique().tolist() if one > lowest]:
                far = (level[a] < one) & ~ancestor[a]
                below = (h[far] @ h[a]).exp().sum()
                each = []
                for p in (level[a] >= one).nonzero().flatten().tolist():
                    near = (h[a] @ (second[a] if p == a else h[p])).exp()
                    each.append(-(near / (near + below)).log())
                if each:
                    losses.append(torch.stack(each).mean())
        torch.stack(losses).mean().backward()

    return {"levels": len(level.unique()) - 1, "ours": median_time(ours, 20), "literal": median_time(literal, 1, 0)}


def tokens_ours() -> dict:
    """Masked training step of the network at the size of BERT."""
    import torch

    from kgnn.data.cells import CellRows
    from kgnn.models.cells.training import CellTraining
    from kgnn.nn.cells import CellNetwork
    from kgnn.nn.token_encoders import TokenGraph, count_parameters, make_token_encoder
    from kgnn.nn.tokens import GeneTokens, SpecialTokens

    torch.manual_seed(0)
    cells, genes, channels = BERT["cells"], BERT["genes"], BERT["channels"]
    special = SpecialTokens(genes, [], channels)
    encoder = make_token_encoder("transformer", channels, layers=BERT["layers"], heads=BERT["heads"])
    network = CellNetwork(GeneTokens(genes, channels), special, encoder, {})
    weights = dict.fromkeys(("denoise", "bottleneck", "classify", "dissimilar", "coherence", "relation"), 0.0)
    task = CellTraining(
        network,
        weights | {"gene": 1.0, "value": 1.0},
        kind="counts",
        genes="all",
        context=genes,
        chosen=torch.arange(genes),
        graph=lambda _genes, present: TokenGraph(2, present=present),
        aligned=None,
        learning_rate=1e-3,
        weight_decay=0.01,
    )
    type(task).warmup = 1.0  # there is no trainer
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    x = torch.poisson(torch.rand(cells, genes))
    rows = CellRows(
        x, torch.zeros(cells, 0, dtype=torch.int64), torch.zeros(cells, dtype=torch.int64), torch.arange(cells)
    )

    def step() -> None:
        optimizer.zero_grad()
        task._total(rows).backward()
        optimizer.step()

    step()
    seconds = median_time(step, 5)
    return {"seconds": seconds, "tokens": cells * genes / seconds, "parameters": count_parameters(encoder)}


def tokens_bert() -> dict:
    """Masked-language-model training step of transformers' BERT: the genes are words, 15 % of them masked."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    cells, genes, channels = BERT["cells"], BERT["genes"], BERT["channels"]
    config = BertConfig(
        vocab_size=genes + 2,
        hidden_size=channels,
        num_hidden_layers=BERT["layers"],
        num_attention_heads=BERT["heads"],
        intermediate_size=4 * channels,
        max_position_embeddings=genes,
    )
    model = BertForMaskedLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    words = torch.stack([torch.randperm(genes) for _ in range(cells)])
    masked = torch.rand(words.shape) < 0.15
    batch = {"input_ids": words.masked_fill(masked, genes), "labels": words.masked_fill(~masked, -100)}

    def step() -> None:
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()

    step()
    seconds = median_time(step, 5)
    n = sum(p.numel() for p in model.bert.encoder.parameters())
    attention = str(model.config._attn_implementation)
    return {"seconds": seconds, "tokens": cells * genes / seconds, "parameters": n, "attention": attention}


def write_atlas(path: Path, cells: int, genes: int) -> int:
    """An atlas on disk, written a part at a time; returns its non-zero values."""
    import anndata
    import h5py
    import numpy as np
    import pandas as pd
    from scipy import sparse

    rng = np.random.default_rng(0)
    rate = rng.gamma(0.5, 0.4, genes)
    with h5py.File(path, "w") as file:
        anndata.io.write_elem(file, "obs", pd.DataFrame(index=[f"c{n}" for n in range(cells)]))
        anndata.io.write_elem(file, "var", pd.DataFrame(index=[f"G{n}" for n in range(genes)]))
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for start in range(0, cells, 5000):
            part = sparse.csr_matrix(rng.poisson(rate, (min(5000, cells - start), genes)).astype(np.float32))
            if start == 0:
                anndata.io.write_elem(file, "X", part)
                stored = anndata.io.sparse_dataset(file["X"])
            else:
                stored.append(part)
        return int(file["X/data"].shape[0])


def atlas(where: str) -> dict:
    """Training steps of 64 cells × 256 genes on an atlas on disk, or on the same one in memory."""
    import tempfile
    import time

    import anndata

    from kgnn import CellModel

    options = {"accelerator": "cpu", "enable_progress_bar": False, "limit_train_batches": ATLAS["steps"]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "atlas.h5ad"
        stored = write_atlas(path, ATLAS["cells"], ATLAS["genes"])
        model = CellModel(objectives={"value": 1.0}, context=256, channels=CHANNELS, layers=LAYERS)
        small = anndata.read_h5ad(path, backed="r")[:500].to_memory()
        model.fit(small, max_epochs=1, batch_size=64, **options)
        found: dict[str, float] = {}

        def work() -> None:
            data = path if where == "disk" else anndata.read_h5ad(path)
            start = time.perf_counter()
            model.fit(data, max_epochs=1, batch_size=64, **options)
            found["fit_seconds"] = time.perf_counter() - start

        memory = added_memory_mb(work)
    return {"where": where, "stored_mb": stored * 8 / 1e6, "memory_mb": memory, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", help="for its own processes: encoder and genes, or a function's name")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cell_models/speed.json"))
    arguments = parser.parse_args()
    if arguments.case:
        name, *genes = arguments.case
        if name == "atlas":
            print(json.dumps(atlas(*genes)))
        else:
            print(json.dumps(encoder_step(name, int(genes[0])) if genes else globals()[name]()))
        return
    steps = [in_a_process("benchmarks.cell_speed", "--case", name, str(n)) for n in GENES for name in ENCODERS]
    parts = {
        name: in_a_process("benchmarks.cell_speed", "--case", name)
        for name in ("alignment", "tokens_ours", "tokens_bert")
    }
    disk = [in_a_process("benchmarks.cell_speed", "--case", "atlas", where) for where in ("disk", "memory")]
    result = {"machine": describe("transformers"), "steps": steps, **parts, "atlas": ATLAS, "reading": disk}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
