"""One message-passing step, computed in every way that a PyG user has today, and by kgnn.

Each method is a function that builds its graph and features and returns (forward, inputs, shape of the output): the
features, and the parameters of a layer, are the inputs that gradients are taken of.
"""

from collections.abc import Callable

import torch
from torch import nn

DEVICE = "cpu"
GENES, EDGES, CELLS, CHANNELS, RELATIONS, HEADS = 5045, 105_766, 32, 64, 5, 4
Method = tuple[Callable[[], torch.Tensor], list[torch.Tensor], tuple[int, ...]]


def graph(genes: int = GENES, edges: int = EDGES, seed: int = 0):
    """Random edges (the hardest case for a cache: no two targets share more neighbours than by chance)."""
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(genes, (2, edges), generator=generator)
    kinds = torch.randint(RELATIONS, (edges,), generator=generator)
    return edge_index.to(DEVICE), torch.rand(edges, generator=generator).to(DEVICE), kinds.to(DEVICE)


def features(cells: int = CELLS, genes: int = GENES, channels: int = CHANNELS):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(cells, genes, channels, generator=generator).to(DEVICE).requires_grad_()


def union():
    """The disjoint union of one copy of the graph a cell: what PyG's batches are."""
    edge_index, weight, kinds = graph()
    steps = (torch.arange(CELLS).repeat_interleave(EDGES) * GENES).to(DEVICE)
    return edge_index.repeat(1, CELLS) + steps, weight.repeat(CELLS), kinds.repeat(CELLS)


def flat():
    return features().detach().reshape(CELLS * GENES, CHANNELS).requires_grad_()


# A x alone


def kgnn_spmm(backend: str = "auto", **options) -> Method:
    from kgnn.ops import Adjacency, set_backend, spmm

    set_backend(backend)
    edge_index, weight, _ = graph()
    adjacency = Adjacency(edge_index, weight, n_nodes=GENES, **options)
    x = features()
    return lambda: spmm(adjacency, x), [x], tuple(x.shape)


def kgnn_clustered(cells: int, reorder: str = "none", shuffled: bool = True) -> Method:
    """20,000 genes that hear 20 of the 200 nearest in an order that is hidden (`shuffled`) or the features' own."""
    from kgnn.ops import Adjacency, spmm

    genes, generator = 20_000, torch.Generator().manual_seed(0)
    target = torch.arange(genes).repeat_interleave(20)
    source = (target + torch.randint(-100, 101, target.shape, generator=generator)) % genes
    names = torch.randperm(genes, generator=generator) if shuffled else torch.arange(genes)
    edge_index = names[torch.stack([source, target])].to(DEVICE)
    adjacency = Adjacency(edge_index, n_nodes=genes, reorder=reorder)
    x = features(cells, genes)
    return lambda: spmm(adjacency, x), [x], tuple(x.shape)


def kgnn_learned() -> Method:
    from kgnn.ops import Adjacency, spmm

    edge_index, weight, _ = graph()
    adjacency = Adjacency(edge_index, n_nodes=GENES)
    x, learned = features(), weight.requires_grad_()
    return lambda: spmm(adjacency, x, learned), [x, learned], tuple(x.shape)


def pyg_propagate(learned: bool = False) -> Method:
    from torch_geometric.nn import SGConv

    edge_index, weight, _ = union()
    x, layer = flat(), SGConv(1, 1)
    if not learned:
        return lambda: layer.propagate(edge_index, x=x, edge_weight=weight), [x], tuple(x.shape)
    of_edge = graph()[1].requires_grad_()
    forward = lambda: layer.propagate(edge_index, x=x, edge_weight=of_edge.repeat(CELLS))  # noqa: E731
    return forward, [x, of_edge], tuple(x.shape)


def pyg_csr() -> Method:
    """PyG's layer given the transposed adjacency in CSR, its documented fast path."""
    from torch_geometric.nn import SGConv
    from torch_geometric.utils import to_torch_csr_tensor

    edge_index, weight, _ = union()
    adj_t = to_torch_csr_tensor(edge_index.flip(0), weight, (CELLS * GENES, CELLS * GENES), is_coalesced=False)
    x, layer = flat(), SGConv(1, 1)
    return lambda: layer.propagate(adj_t, x=x, edge_weight=None), [x], tuple(x.shape)


def pyg_edge_index() -> Method:
    from torch_geometric import EdgeIndex

    edge_index, weight, _ = union()
    order = torch.argsort(edge_index[1], stable=True)
    size = (CELLS * GENES, CELLS * GENES)
    matrix = EdgeIndex(edge_index[:, order], sparse_size=size, sort_order="col").fill_cache_()
    weight, x = weight[order], flat()
    return lambda: matrix.matmul(x, weight, transpose=True), [x], tuple(x.shape)


def torch_csr() -> Method:
    """One graph, [genes, cells · channels]."""
    edge_index, weight, _ = graph()
    matrix = torch.sparse_coo_tensor(edge_index.flip(0), weight, (GENES, GENES)).to_sparse_csr()
    x = features().detach().transpose(0, 1).reshape(GENES, -1).contiguous().requires_grad_()
    return lambda: torch.sparse.mm(matrix, x), [x], tuple(x.shape)


def embedding_bag(transpose_kept: bool) -> Method:
    """One graph, one cell at a time; with the transpose at hand the gradient is an embedding_bag too."""
    edge_index, weight, _ = graph()

    def bags(edge_index: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        order = torch.argsort(edge_index[1], stable=True)
        source, sorted_weight = edge_index[0][order], weight[order]
        offsets = torch.zeros(GENES + 1, dtype=torch.long, device=DEVICE)
        offsets[1:] = torch.bincount(edge_index[1], minlength=GENES).cumsum(0)
        options = {"mode": "sum", "per_sample_weights": sorted_weight, "include_last_offset": True}
        return lambda x: torch.stack([nn.functional.embedding_bag(source, cell, offsets, **options) for cell in x])

    product, transposed = bags(edge_index), bags(edge_index.flip(0))

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return product(x)

        @staticmethod
        def backward(ctx, grad):
            return transposed(grad)

    x = features()
    return lambda: Product.apply(x) if transpose_kept else product(x), [x], tuple(x.shape)


def scipy_csr() -> Method:
    from scipy import sparse

    edge_index, weight, _ = graph()
    pair = (weight.numpy(), (edge_index[1].numpy(), edge_index[0].numpy()))
    matrix = sparse.csr_matrix(pair, (GENES, GENES))
    transposed = matrix.T.tocsr()

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.from_numpy(matrix @ x.detach().numpy())

        @staticmethod
        def backward(ctx, grad):
            return torch.from_numpy(transposed @ grad.numpy())

    x = features().detach().transpose(0, 1).reshape(GENES, -1).contiguous().requires_grad_()
    return lambda: Product.apply(x), [x], tuple(x.shape)


def torch_scatter() -> Method:
    from torch_scatter import segment_csr

    edge_index, weight, _ = graph()
    order = torch.argsort(edge_index[1], stable=True)
    source, weight = edge_index[0][order], weight[order].unsqueeze(-1)
    indptr = torch.zeros(1, GENES + 1, dtype=torch.long, device=DEVICE)
    indptr[0, 1:] = torch.bincount(edge_index[1], minlength=GENES).cumsum(0)
    x = features()
    return lambda: segment_csr(x.index_select(1, source) * weight, indptr), [x], tuple(x.shape)


def torch_compile() -> Method:
    edge_index, weight, _ = union()
    source, target = edge_index

    @torch.compile
    def step(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x).index_add(0, target, x[source] * weight.unsqueeze(-1))

    x = flat()
    return lambda: step(x), [x], tuple(x.shape)


# whole layers


def layer(name: str, ours: bool) -> Method:
    """PyG's layer on the union, or ours of the same name on the one graph."""
    torch.manual_seed(0)
    edge_index, weight, kinds = graph() if ours else union()
    x = features() if ours else flat()
    if ours:
        from kgnn import nn as layers
        from kgnn.ops import Adjacency, RelationalAdjacency

        if name == "R-GCN":
            arguments = (RelationalAdjacency(edge_index, kinds, RELATIONS, n_nodes=GENES),)
        else:
            arguments = (Adjacency(edge_index, None if name == "GATv2" else weight, n_nodes=GENES),)
    else:
        import torch_geometric.nn as layers

        arguments = {"SGC": (edge_index, weight), "R-GCN": (edge_index, kinds)}.get(name, (edge_index,))
    loops = {} if ours else {"add_self_loops": False}
    module = {
        "SGC": lambda: layers.SGConv(CHANNELS, CHANNELS, **loops),
        "GATv2": lambda: layers.GATv2Conv(CHANNELS, CHANNELS // HEADS, heads=HEADS, **loops),
        "R-GCN": lambda: layers.RGCNConv(CHANNELS, CHANNELS, RELATIONS),
    }[name]().to(DEVICE)
    if name == "SGC" and not ours:  # the same matrix: no normalisation on the way
        module.normalize = False
        forward = lambda: module.lin(module.propagate(edge_index, x=x, edge_weight=weight))  # noqa: E731
    else:
        forward = lambda: module(x, *arguments)  # noqa: E731
    return forward, [x, *module.parameters()], tuple(x.shape)


def without_compiler(method: Callable[[], Method]) -> Method:
    from kgnn.ops import set_backend

    set_backend("torch")
    return method()


METHODS: dict[str, dict[str, Callable[[], Method]]] = {
    "A x": {
        "kgnn": kgnn_spmm,
        "kgnn without a compiler": lambda: kgnn_spmm("torch"),
        "PyG propagate, union": pyg_propagate,
        "PyG, CSR union": pyg_csr,
        "PyG EdgeIndex, union": pyg_edge_index,
        "torch.sparse CSR": torch_csr,
        "embedding_bag": lambda: embedding_bag(transpose_kept=False),
        "embedding_bag, transpose kept": lambda: embedding_bag(transpose_kept=True),
        "SciPy": scipy_csr,
        "torch-scatter": torch_scatter,
        "torch.compile, union": torch_compile,
    },
    "A x, a weight an edge learned": {
        "kgnn": kgnn_learned,
        "PyG propagate, union": lambda: pyg_propagate(learned=True),
    },
    **{
        f"A x, 20,000 genes in hidden clusters, {cells} cells": {
            "kgnn": lambda cells=cells: kgnn_clustered(cells),
            "kgnn, reorder='degree'": lambda cells=cells: kgnn_clustered(cells, "degree"),
            "kgnn, reorder='rcm'": lambda cells=cells: kgnn_clustered(cells, "rcm"),
            "kgnn, genes stored in the clusters' order": lambda cells=cells: kgnn_clustered(cells, shuffled=False),
        }
        for cells in (2, 16)
    },
    "SGC layer": {
        "kgnn": lambda: layer("SGC", ours=True),
        "kgnn without a compiler": lambda: without_compiler(lambda: layer("SGC", ours=True)),
        "PyG SGConv, union": lambda: layer("SGC", ours=False),
    },
    "GATv2 layer, 4 heads × 16": {
        "kgnn": lambda: layer("GATv2", ours=True),
        "kgnn without a compiler": lambda: without_compiler(lambda: layer("GATv2", ours=True)),
        "PyG GATv2Conv, union": lambda: layer("GATv2", ours=False),
    },
    "R-GCN layer, 5 relations": {
        "kgnn": lambda: layer("R-GCN", ours=True),
        "kgnn without a compiler": lambda: without_compiler(lambda: layer("R-GCN", ours=True)),
        "PyG RGCNConv, union": lambda: layer("R-GCN", ours=False),
    },
}
