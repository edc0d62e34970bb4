"""`KnowledgeGraph` as a PyG `HeteroData`."""

import numpy as np
import torch
from torch_geometric.data import HeteroData

from kgnn.graph.tables import GraphTables


def to_hetero(graph: GraphTables) -> HeteroData:
    """Return the graph as `HeteroData`, ready for PyG's own layers and loaders.

    `data.node_names[type]` is the list of node names, in the order of the node table (it belongs to the whole graph, as
    PyG's loaders cut node attributes that are tensors only). Each node feature stands under
    its own name as float32 `[nodes, channels]`; `data[type].x` holds all of a type's features side by side, in the
    order in which they were added, with 0 where a node has none. Layers that need features for a type that has none
    take a learned embedding of `num_nodes` rows. `data[relation]` has `edge_index` [2, edges] (row 0 source, row 1
    target), `edge_weight` [edges] float32 and `edge_sign` [edges] int8.
    """
    data = HeteroData()
    data.node_names = {kind: table.index.tolist() for kind, table in graph.nodes.items()}
    for kind, table in graph.nodes.items():
        data[kind].num_nodes = len(table)
        matrices = {name: torch.from_numpy(np.nan_to_num(x)) for name, x in graph.features.get(kind, {}).items()}
        for name, matrix in matrices.items():
            data[kind][name] = matrix
        if matrices:
            data[kind].x = torch.cat(list(matrices.values()), dim=1)
    for relation in graph.edges:
        edges = graph.pairs(relation)
        data[relation].edge_index = torch.from_numpy(edges[["source", "target"]].to_numpy(np.int64).T.copy())
        data[relation].edge_weight = torch.from_numpy(edges["weight"].to_numpy(np.float32).copy())
        data[relation].edge_sign = torch.from_numpy(edges["sign"].to_numpy(np.int8).copy())
    return data
