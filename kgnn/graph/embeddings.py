"""One vector a node from the graph alone, for GeneCompass-style priors: node2vec, spectral, personalised PageRank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.linalg import eigsh

from kgnn.errors import InputError
from kgnn.graph.edges import Relation, triple
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.pagerank import pagerank_operator, transition
from kgnn.names import listed
from kgnn.parts import check_number, expect

if TYPE_CHECKING:
    from torch import Tensor


def embed_graph(
    graph: KnowledgeGraph,
    method: str = "node2vec",
    *,
    dim: int = 64,
    node_type: str = "gene",
    relations: Sequence[Relation] | None = None,
    whole: bool = False,
    seed: int = 0,
    **options: float,
) -> pd.DataFrame:
    """Return one vector a node, over the relations within one node type or of the whole graph, taken as undirected.

    Args:
        graph: the knowledge.
        method: `node2vec` (Grover & Leskovec 2016; options `p`, `q`, `walk_length`, `walks`, `window`, `epochs`);
            `spectral` (the eigenvectors of the symmetrically normalised adjacency of largest eigenvalue, the trivial
            one left out: Belkin & Niyogi 2003; option `tau`: every degree plus `tau` times their mean, and none left
            out, so that small loose pieces do not take all channels: Zhang & Rohe 2018); `pagerank` (truncated
            singular value decomposition of log personalised PageRank's low-rank sketch; options `alpha`).
        dim: channels.
        node_type: nodes to embed.
        relations: relations to use; default: all within the node type. Weights add up where a pair stands in several.
        whole: over the nodes of all types and, by default, all relations: genes of one complex are near each other.
        seed: same seed, same vectors on the same machine with as many threads; with others, `spectral` vectors of
            equal eigenvalues (a graph in several pieces) come out turned among themselves.

    Returns:
        A table [nodes, dim] indexed by node name, ready for `graph.with_features("node2vec", table)`. A node without
        an edge has a vector of zeros.

    Raises:
        InputError: unknown method, no relation, one that leaves the node type, fewer nodes with an edge than channels.
    """
    methods: dict[str, Callable[..., np.ndarray]] = {
        "node2vec": node2vec,
        "spectral": _spectral,
        "pagerank": _pagerank,
    }
    if method not in methods:
        raise InputError(f"method {method!r} is unknown; choose {', '.join(methods)}")
    expect(graph, KnowledgeGraph, "graph")
    check_number(dim, "dim", 1, whole=True)
    kinds = graph.node_types if whole else [node_type]
    within = [rel for rel in graph.relations if {rel[0], rel[2]} <= {*kinds}]
    chosen = within if relations is None else list(map(triple, listed(relations, "relations")))
    if not chosen:
        raise InputError("no relation in the graph" if whole else f"no relation within {node_type} nodes in the graph")
    if strange := [rel for rel in chosen if not {rel[0], rel[2]} <= {*kinds}]:
        raise InputError(f"relation {strange[0]!r} leaves the {node_type} nodes; whole=True embeds those of all types")
    names = graph.nodes(node_type).index
    links, first = _links(graph, kinds, chosen, node_type)
    linked = np.flatnonzero(np.diff(links.indptr))
    if len(linked) <= dim:
        raise InputError(f"{len(linked)} {node_type} nodes with an edge cannot have {dim} channels; lower dim")
    vectors = np.zeros((links.shape[0], dim), np.float32)
    vectors[linked] = methods[method](sparse.csr_array(links[linked][:, linked]), dim, seed, **options)
    return pd.DataFrame(vectors[first : first + len(names)], index=names)


def _links(
    graph: KnowledgeGraph, kinds: Sequence[str], relations: Sequence[Relation], node_type: str
) -> tuple[sparse.csr_array, int]:
    """Undirected weights [nodes of all kinds, nodes of all kinds], and where those of `node_type` begin."""
    ends = np.cumsum([0, *(len(graph.nodes(kind)) for kind in kinds)]).tolist()
    start, n = dict(zip(kinds, ends, strict=False)), ends[-1]
    links = sparse.csr_array((n, n))
    for relation in relations:
        part = sparse.coo_array(graph.to_scipy(relation))
        place = part.row + start[relation[0]], part.col + start[relation[2]]
        links = links + sparse.csr_array((part.data, place), shape=(n, n))
    return sparse.csr_array((links + links.T) / 2, dtype=np.float64), start[node_type]


def _spectral(links: sparse.csr_array, dim: int, seed: int, tau: float = 0.0) -> np.ndarray:
    degree, first = np.asarray(links.sum(axis=1)).ravel(), int(tau == 0)
    scale = sparse.diags_array(1 / np.sqrt(degree + tau * degree.mean()))
    normalised = sparse.csr_array(scale @ links @ scale)
    start = np.random.default_rng(seed).standard_normal(links.shape[0])
    # from −1..1 to 0..2, so that the largest in size are the largest
    shifted = normalised + sparse.eye_array(links.shape[0])
    values, vectors = eigsh(shifted, k=min(dim + first, links.shape[0] - 1), v0=start)
    vectors = vectors[:, np.argsort(-values)][:, first : dim + first]
    return _fix_signs(np.pad(vectors, ((0, 0), (0, dim - vectors.shape[1]))))


def _fix_signs(vectors: np.ndarray) -> np.ndarray:
    """An eigenvector is defined up to its sign: make the entry of largest size positive."""
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.where(vectors[largest, np.arange(vectors.shape[1])] < 0, -1, 1)


def _pagerank(links: sparse.csr_array, dim: int, seed: int, alpha: float = 0.85) -> np.ndarray:
    """Randomised singular value decomposition (Halko et al. 2011) of the PageRank matrix, never written out."""
    times, transposed = pagerank_operator(links, alpha)
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((links.shape[0], min(dim + 16, links.shape[0])))
    for _ in range(4):
        basis, _ = np.linalg.qr(times(basis))
        basis, _ = np.linalg.qr(transposed(basis))
    basis, _ = np.linalg.qr(times(basis))
    left, values, _ = np.linalg.svd(transposed(basis).T, full_matrices=False)
    return _fix_signs((basis @ left)[:, :dim]) * np.sqrt(values[:dim])


def node2vec(
    links: sparse.csr_array,
    dim: int,
    seed: int,
    p: float = 1.0,
    q: float = 1.0,
    walk_length: int = 20,
    walks: int = 5,
    window: int = 5,
    epochs: int = 3,
    batch: int = 4096,
) -> np.ndarray:
    """Vectors [nodes, dim] of undirected weights [nodes, nodes], each node linked (Grover & Leskovec, KDD 2016).

    Skip-gram with one negative sample a pair over biased random walks, trained with Adam. The loss is that of
    `torch_geometric.nn.Node2Vec`, whose own walks need pyg-lib, which is not on PyPI.
    """
    import torch

    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    n = links.shape[0]
    table = torch.nn.Parameter(torch.randn(n, dim, generator=generator))
    optimizer = torch.optim.Adam([table], lr=0.01)
    walk, _ = transition(links)
    for _ in range(epochs):
        paths = np.concatenate([random_walks(walk, walk_length, rng, p, q) for _ in range(walks)])
        pairs = np.concatenate(
            [
                np.stack([paths[:, i], paths[:, i + gap]], 1)
                for gap in range(1, window + 1)
                for i in range(walk_length - gap)
            ]
        )
        for rows in np.array_split(rng.permutation(len(pairs)), max(1, len(pairs) // batch)):
            start, near = torch.from_numpy(pairs[rows].astype(np.int64)).T
            far = torch.randint(n, (len(rows),), generator=generator)
            loss = skip_gram_loss(table[start], table[near], table[far])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return table.detach().numpy()


def skip_gram_loss(start: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """−log σ(start·near) − log(1 − σ(start·far)), each averaged; inputs `[pairs, channels]`."""
    from torch.nn.functional import softplus

    near_score, far_score = (start * near).sum(1), (start * far).sum(1)
    return softplus(-near_score).mean() + softplus(far_score).mean()


def random_walks(
    walk: sparse.csr_array, length: int, rng: np.random.Generator, p: float = 1.0, q: float = 1.0
) -> np.ndarray:
    """Return one node2vec walk from each node, `[nodes, length]`, for a random walk's matrix (rows sum to 1).

    From t over v to x the chance is that of the edge times 1/p if x = t, 1 if x is a neighbour of t, else 1/q; by
    rejection: an edge is proposed by its weight and accepted by that factor.
    """
    n = walk.shape[0]
    cumulative = np.cumsum(walk.data)
    before = np.concatenate([[0], cumulative])[walk.indptr[:-1]]
    total = np.concatenate([[0], cumulative])[walk.indptr[1:]] - before
    edges = np.repeat(np.arange(n, dtype=np.int64), np.diff(walk.indptr)) * n + walk.indices
    edges.sort()
    largest = max(1 / p, 1, 1 / q)

    def step(here: np.ndarray) -> np.ndarray:
        spot = np.searchsorted(cumulative, before[here] + rng.random(len(here)) * total[here], side="right")
        return walk.indices[np.clip(spot, walk.indptr[here], walk.indptr[here + 1] - 1)]

    paths = np.empty((n, length), np.int64)
    paths[:, 0] = np.arange(n)
    for i in range(1, length):
        here = paths[:, i - 1]
        there = step(here)
        if i > 1 and (p != 1 or q != 1):
            waiting = np.arange(n)
            while len(waiting):
                last, new = paths[waiting, i - 2], there[waiting]
                key = last * n + new
                spot = np.minimum(np.searchsorted(edges, key), len(edges) - 1)
                factor = np.where(new == last, 1 / p, np.where(edges[spot] == key, 1.0, 1 / q))
                waiting = waiting[rng.random(len(waiting)) * largest >= factor]
                there[waiting] = step(here[waiting])
        paths[:, i] = there
    return paths
