"""`KnowledgeGraph` as a PyG `HeteroData`."""

import numpy as np
import torch
from torch_geometric.data import HeteroData

from kgnn.errors import InputError
from kgnn.graph.tables import GraphTables

RESERVED = ("num_nodes", "edge_index", "batch", "ptr", "n_id", "node_id")


def to_hetero(graph: GraphTables) -> HeteroData:
    """Return the graph as `HeteroData`, ready for PyG's own layers and loaders.

    `data.node_names[type]` is the list of node names, in the order of the node table (it belongs to the whole graph, as
    PyG's loaders cut node attributes that are tensors only). Each node feature stands under
    its own name as float32 `[nodes, channels]`; `data[type].x` holds all of a type's features side by side, in the
    order in which they were added, with 0 where a node has none. Layers that need features for a type that has none
    take a learned embedding of `num_nodes` rows. `data[relation]` has `edge_index` [2, edges] (row 0 source, row 1
    target), `edge_weight` [edges] float32 and `edge_sign` [edges] int8.

    Raises:
        InputError: a node type that torch's `ModuleDict` refuses, such as `type`; a feature `num_nodes`.
    """
    for kind in graph.nodes:
        try:
            torch.nn.ModuleDict({kind: torch.nn.Identity()})
        except KeyError as error:
            raise InputError(
                f"node type {kind!r} cannot be a key of PyG's layers ({error.args[0]}); load it under another name"
            ) from None
        for name in graph.features.get(kind, {}):
            if name in RESERVED:
                raise InputError(f"feature {name!r} of {kind} nodes is a name that PyG uses itself; call it otherwise")
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
