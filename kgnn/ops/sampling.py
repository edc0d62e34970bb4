"""A part of the typed graph around some nodes, for graphs whose states do not fit a step."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kgnn.ops.csr import Csr
from kgnn.ops.relational import Relation
from kgnn.ops.typed import TypedAdjacency


class Sample(NamedTuple):
    """nodes: type → their numbers in the whole graph, seeds first; graph: what was drawn, over these nodes."""

    nodes: dict[str, Tensor]
    graph: TypedAdjacency


def sample_neighbours(
    graph: TypedAdjacency,
    seeds: Mapping[str, Tensor],
    fanout: Sequence[int],
    generator: torch.Generator | None = None,
) -> Sample:
    """Draw in-neighbours, layer by layer: for each node at most so many edges of each relation into it, without
    replacement (Hamilton et al., NeurIPS 2017).

    Args:
        graph: the whole; the drawn weights of a relation into a node are divided by the sum of their sizes.
        seeds: type → numbers of nodes, each once.
        fanout: edges a relation and node, for the seeds, for what these hear, …; one number a layer.
        generator: of random numbers, on the graph's device.

    Raises:
        ValueError: seeds of an unknown type, out of range or repeated; a negative fanout.
    """
    if any(k < 0 for k in fanout):
        raise ValueError(f"fanout {list(fanout)} must not be negative; for all edges give the largest degree")
    device = graph.indices.device
    place = torch.full((graph.n,), -1, device=device)  # of each node among those found, by type
    found: dict[str, list[Tensor]] = {kind: [] for kind in graph.n_nodes}
    frontier = _add(graph, _whole_numbers(graph, seeds), place, found)
    drawn: list[list[tuple[Tensor, ...]]] = [[] for _ in graph.relations]  # sources, targets, weights
    for k in fanout:
        heard = []
        for block in graph.targets():
            width, here = len(block.relations), graph.slices[block.kind]
            targets = frontier[(frontier >= here.start) & (frontier < here.stop)]
            rows = (targets - here.start).unsqueeze(1) * width + torch.arange(width, device=device)
            rows, entries = sample_rows(block.csr, rows.flatten(), k, generator)
            source, target = block.csr.indices[entries].long(), rows // width + here.start
            heard.append(source)
            for slot, number in enumerate(block.relations):
                of_relation = rows % width == slot
                edges = (source, target, block.values[entries])
                drawn[number].append(tuple(part[of_relation] for part in edges))
        sources = torch.cat(heard).unique() if heard else frontier[:0]
        frontier = _add(graph, sources[place[sources] < 0], place, found)
    nodes = {kind: torch.cat(parts) - graph.slices[kind].start for kind, parts in found.items()}
    pairs: dict[Relation, Tensor] = {}
    weights: dict[Relation, Tensor] = {}
    for relation, parts in zip(graph.relations, drawn, strict=True):
        none = (frontier[:0], frontier[:0], graph.edge_weight[:0])
        sources, targets, weights[relation] = (torch.cat(part) for part in zip(none, *parts, strict=True))
        pairs[relation] = place[torch.stack([sources, targets])]
    return Sample(nodes, TypedAdjacency(pairs, {kind: len(part) for kind, part in nodes.items()}, weights))


def sample_rows(csr: Csr, rows: Tensor, k: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw at most k entries of each of some rows, without replacement (Floyd's algorithm, Bentley & Floyd 1987).

    Returns:
        [drawn], the row of each, and which entry of the CSR it is.
    """
    start = csr.indptr[rows].long()
    degree = csr.indptr[rows + 1].long() - start
    few = degree <= k
    row, counts = rows[few], degree[few]
    within = torch.arange(int(counts.sum()), device=rows.device)
    within -= torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    whole = torch.repeat_interleave(start[few], counts) + within
    degree, many = degree[~few], rows[~few]
    chosen = torch.empty(len(many), k, dtype=torch.int64, device=rows.device)
    for i in range(k):
        last = degree - k + i
        random = torch.rand(len(many), generator=generator, dtype=torch.float64, device=rows.device)
        drawn = (random * (last + 1)).long()
        taken = (chosen[:, :i] == drawn.unsqueeze(1)).any(1)
        chosen[:, i] = torch.where(taken, last, drawn)
    entries = (start[~few].unsqueeze(1) + chosen).flatten()
    return torch.cat([torch.repeat_interleave(row, counts), many.repeat_interleave(k)]), torch.cat([whole, entries])


def _whole_numbers(graph: TypedAdjacency, seeds: Mapping[str, Tensor]) -> Tensor:
    parts = []
    for kind, numbers in seeds.items():
        if kind not in graph.n_nodes:
            raise ValueError(f"seeds of type {kind!r}; the graph has {', '.join(graph.n_nodes)}")
        if len(numbers) and (int(numbers.min()) < 0 or int(numbers.max()) >= graph.n_nodes[kind]):
            raise ValueError(f"seeds of type {kind!r} must lie in [0, {graph.n_nodes[kind]})")
        if len(numbers.unique()) != len(numbers):
            raise ValueError(f"seeds of type {kind!r} are repeated; give each once")
        parts.append(numbers.long().to(graph.indices.device) + graph.slices[kind].start)
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64, device=graph.indices.device)


def _add(graph: TypedAdjacency, nodes: Tensor, place: Tensor, found: dict[str, list[Tensor]]) -> Tensor:
    for kind, part in graph.slices.items():
        of_kind = nodes[(nodes >= part.start) & (nodes < part.stop)]
        before = sum(map(len, found[kind]))
        place[of_kind] = torch.arange(before, before + len(of_kind), device=place.device)
        found[kind].append(of_kind)
    return nodes
