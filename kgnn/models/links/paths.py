"""The short paths between two nodes, along any relations in either direction."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from kgnn.models.links.baselines import neighbours
from kgnn.models.links.fitted import FittedLinks
from kgnn.parts import check_number

PATH_COLUMNS = ["path", "edges", "weight"]


def explain(links: FittedLinks, source: Any, relation: Any, target: Any, *, n_paths: int = 20) -> pd.DataFrame:
    """Say which known paths of up to 3 edges lead from the source to the target, the edge itself left out.

    Paths are what the graph offers for the edge; a model of embeddings does not walk them. Each weighs Π 1 / log degree
    over its inner nodes (Adamic & Adar 2003), so that a path through a node that everything is linked with comes last.

    Args:
        source, relation, target: the edge, known or not. n_paths: so many, the heaviest.

    Returns:
        `path` (`MYC –regulates→ CDK4 ←phosphorylates– CDK7`; several relations between two nodes are joined by `|`),
        `edges`, `weight`.

    Raises:
        InputError: an unknown node or relation.
    """
    check_number(n_paths, "n_paths", 1, whole=True)
    asked = links.question(relation, "source")
    learned = links.learned
    start, end = links.number(learned.relations[asked][0], source), links.number(learned.relations[asked][2], target)
    near = neighbours(learned)
    weight = 1 / np.log(np.maximum(np.diff(near.indptr), 2))
    found = [(float(np.prod(weight[list(nodes[1:-1])])), nodes) for nodes in _walks(near, start, end)]
    found.sort(key=lambda row: (-row[0], len(row[1]), row[1]))
    names = np.concatenate([table.index.to_numpy() for table in links.graph.tables.nodes.values()])
    rows: list[tuple[str, int, float]] = []
    for heavy, nodes in found:
        if len(rows) == n_paths:
            break
        steps = [_step(links, a, b, asked if (a, b) == (start, end) else -1) for a, b in pairwise(nodes)]
        if all(steps):
            text = str(names[nodes[0]]) + "".join(
                f" {step} {names[node]}" for step, node in zip(steps, nodes[1:], strict=True)
            )
            rows.append((text, len(steps), heavy))
    return pd.DataFrame(rows, columns=PATH_COLUMNS)


def _walks(near: Any, start: int, end: int) -> Iterator[tuple[int, ...]]:
    """Yield the paths of 1 to 3 edges, no node twice."""
    first, last = (set(near.indices[near.indptr[x] : near.indptr[x + 1]].tolist()) - {start, end} for x in (start, end))
    if near[start, end]:
        yield start, end
    yield from ((start, middle, end) for middle in first & last)
    rows, columns = np.array(sorted(first), np.int64), np.array(sorted(last), np.int64)
    between = near[rows][:, columns].tocoo()
    for a, b in zip(rows[between.row].tolist(), columns[between.col].tolist(), strict=True):
        yield start, a, b, end


def _step(links: FittedLinks, a: int, b: int, left_out: int) -> str:
    """The relations between two nodes, `–regulates→|←interacts–`, but for one."""
    learned = links.learned
    forward = learned.relation[(learned.source == a) & (learned.target == b)]
    backward = learned.relation[(learned.source == b) & (learned.target == a)]
    texts = [f"–{learned.relations[r][1]}→" for r in forward if r != left_out]
    return "|".join(texts + [f"←{learned.relations[r][1]}–" for r in backward])
