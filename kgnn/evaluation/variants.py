"""Changed graphs, by name: scrambled, permuted, empty, complete ones, parts of the graph, features made random."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.graph.edges import ACTS

KINDS = ("true", "rewired", "permuted", "features", "noise", "none", "complete", "without", "only", "random", "removed")
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
MAX_COMPLETE, MAX_SOURCES = 3_000, 6
TRUE, NO_GRAPH = "true graph", "no graph"


def complete_graph(genes: Iterable[str], *, directed: bool = False) -> KnowledgeGraph:
    """Every gene linked to every other: what is left when the graph no longer chooses.

    Args:
        genes: names.
        directed: each gene may regulate each other one, so that effects can be estimated along the edges
            (`estimate_effects`: for each gene one ridge regression on all others): effects without a network. Otherwise
            the edges say that genes are alike, and carry no effects.

    Raises:
        InputError: more than 3,000 genes, whose complete graph would not fit.
    """
    names = sorted(set(genes))
    if len(names) > MAX_COMPLETE:
        raise InputError(f"a complete graph of {len(names)} genes is too large; {MAX_COMPLETE} are the most")
    source, target = np.nonzero(~np.eye(len(names), dtype=bool))
    index = np.array(names, dtype=object)
    edges = pd.DataFrame({"source": index[source], "target": index[target], "origin": "complete"})
    return KnowledgeGraph({"gene": names}, {("gene", ACTS if directed else "linked", "gene"): edges})


def variants(
    kg: KnowledgeGraph,
    genes: Iterable[str],
    kinds: Sequence[str] = KINDS,
    *,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    directed: bool = False,
) -> dict[str, KnowledgeGraph | None]:
    """Return the changed graphs by name; a kind is left out where the graph has nothing that it would change.

    Args:
        kg: the true graph.
        genes: measured and perturbed genes, the nodes of the complete graph.
        kinds: of `true`;
            `rewired`, who is linked to whom is random, degrees stay;
            `permuted`, names are dealt anew to the nodes of a type: the same graph, with its features, of other genes;
            `features`, features are dealt anew to the nodes that have some, edges stay;
            `noise`, features are normal noise of the same mean and spread (noise in the place of edges: `random`);
            `none`; `complete`, all genes are linked;
            `without` and `only`, each source left out and each alone, or all combinations of sources with `shapley`;
            `random`, a share of edges made random; `removed`, a share of edges left out.
        shares: of edges, for `random` and `removed`.
        seed: for the random ones.
        directed: of the complete graph, see `complete_graph`.

    Raises:
        InputError: an unknown kind; nothing that the graph has is changed by any; too many sources or genes.
    """
    unknown = set(kinds) - {*KINDS, "shapley"}
    if unknown:
        raise InputError(f"unknown control {sorted(unknown)[0]!r}; choose of {', '.join((*KINDS, 'shapley'))}")
    found: dict[str, KnowledgeGraph | None] = {}
    sources = kg.origins
    if "true" in kinds:
        found[TRUE] = kg
    if "rewired" in kinds:
        found["rewired graph"] = kg.rewire(seed)
    if "permuted" in kinds:
        found["nodes permuted"] = kg.permute(seed)
    if any(map(kg.features, kg.node_types)):
        found |= {"features permuted": kg.permute_features(seed)} if "features" in kinds else {}
        found |= {"features noise": kg.randomize_features(seed)} if "noise" in kinds else {}
    if "none" in kinds or "shapley" in kinds:
        found[NO_GRAPH] = None
    if "complete" in kinds:
        name = "complete directed graph" if directed else "complete graph"
        found[name] = complete_graph(genes, directed=directed)
    if "without" in kinds and len(sources) > 1:
        found |= {f"without {source}": kg.drop_source(source) for source in sources}
    if "only" in kinds and len(sources) > 1:
        found |= {f"only {source}": kg.only_sources(source) for source in sources}
    if "shapley" in kinds:
        if len(sources) > MAX_SOURCES:
            raise InputError(
                f"{len(sources)} sources have {2 ** len(sources)} combinations; Shapley values need at most 6"
            )
        found |= {coalition(part): kg.only_sources(*part) for part in subsets(sources)}
    if "random" in kinds:
        found |= {f"{share:.0%} of edges random": kg.randomize_edges(share, seed) for share in shares}
    if "removed" in kinds:
        found |= {f"{share:.0%} of edges removed": kg.drop_edges(share, seed) for share in shares}
    if not found:
        raise InputError(f"the graph has nothing that {', '.join(kinds)} would change; choose other controls")
    return found


def coalition(sources: Iterable[str]) -> str:
    """Name of the graph that holds these sources alone."""
    return "sources " + " + ".join(sorted(sources))


def subsets(sources: Sequence[str]) -> list[tuple[str, ...]]:
    """All combinations of sources but the empty one, the small ones first."""
    return [part for size in range(1, len(sources) + 1) for part in combinations(sorted(sources), size)]
