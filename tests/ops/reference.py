"""The operations as PyG would compute them on the disjoint union: a row an edge and cell, gathered and scattered."""

import torch
from torch_geometric.utils import scatter, softmax


def union(edge_index, n_nodes, cells):
    """[2, cells · edges]; n_nodes (targets, sources)."""
    steps = torch.tensor([[n_nodes[1]], [n_nodes[0]]])
    return torch.cat([edge_index + steps * cell for cell in range(cells)], 1)


def _edges(adjacency, x):
    cells = x.shape[:-2].numel()
    source, target = union(adjacency.edge_index, adjacency.shape, cells)
    return source, target, cells, cells * adjacency.shape[0]


def spmm(adjacency, x, weight=None, reduce="sum"):
    source, target, cells, n = _edges(adjacency, x)
    weight = adjacency.edge_weight if weight is None else weight
    weight = weight.unsqueeze(-1) if weight.ndim == 1 else weight
    weight = weight.expand(*x.shape[:-2], *weight.shape[-2:]).reshape(cells * adjacency.n_edges, -1).to(x.dtype)
    messages = x.reshape(-1, x.shape[-1])[source].unflatten(-1, (weight.shape[-1], -1)) * weight.unsqueeze(-1)
    out = scatter(messages.flatten(-2), target, dim_size=n, reduce=reduce)
    return out.reshape(*x.shape[:-2], adjacency.shape[0], x.shape[-1])


def sddmm(adjacency, target, source, heads=1):
    s, t, _, _ = _edges(adjacency, source)
    products = target.reshape(-1, target.shape[-1])[t] * source.reshape(-1, source.shape[-1])[s]
    sums = products.unflatten(-1, (heads, -1)).sum(-1)
    return sums.reshape(*source.shape[:-2], adjacency.n_edges, heads)


def edge_softmax(adjacency, scores):
    flat = scores.reshape(-1, scores.shape[-1])
    cells = scores.shape[:-2].numel()
    target = union(adjacency.edge_index, adjacency.shape, cells)[1]
    return softmax(flat, target, num_nodes=cells * adjacency.shape[0]).reshape(scores.shape)


def attend(adjacency, scores, value):
    """Σ softmax(scores) · value; scores [..., edges, heads]."""
    return spmm(adjacency, value, edge_softmax(adjacency, scores))


def ends(adjacency, target, source, heads):
    """Each edge's target and source, [..., edges, heads, width]."""
    s, t = adjacency.edge_index
    return target[..., t, :].unflatten(-1, (heads, -1)), source[..., s, :].unflatten(-1, (heads, -1))


def gat_attention(adjacency, value, target_score, source_score, negative_slope=0.2):
    to, of = ends(adjacency, target_score, source_score, target_score.shape[-1])
    scores = torch.nn.functional.leaky_relu(to + of, negative_slope).squeeze(-1)
    return attend(adjacency, scores, value)


def gatv2_attention(adjacency, target, source, attention, negative_slope=0.2):
    to, of = ends(adjacency, target, source, len(attention))
    scores = (torch.nn.functional.leaky_relu(to + of, negative_slope) * attention).sum(-1)
    return attend(adjacency, scores, source)


def dot_attention(adjacency, query, key, value, heads=1, scale=None):
    scores = sddmm(adjacency, query, key, heads) * ((query.shape[-1] // heads) ** -0.5 if scale is None else scale)
    return attend(adjacency, scores, value)
