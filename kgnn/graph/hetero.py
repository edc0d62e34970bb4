"""`KnowledgeGraph` as a PyG `HeteroData`."""

import numpy as np
import torch
from torch_geometric.data import HeteroData

from kgnn.graph.knowledge_graph import KnowledgeGraph


def to_hetero(graph: KnowledgeGraph) -> HeteroData:
    """Return the graph as `HeteroData`; see `KnowledgeGraph.to_hetero`.

    `data[type].node_id` is the list of node names, in the order of the node table; `data[relation]` has
    `edge_index` [2, edges] (row 0 source, row 1 target), `edge_weight` [edges] float32, `edge_sign` [edges] int8.
    """
    data = HeteroData()
    for kind in graph.node_types:
        table = graph.nodes(kind)
        data[kind].num_nodes = len(table)
        data[kind].node_id = table.index.tolist()
    for relation in graph.relations:
        edges = graph.edge_arrays(relation)
        data[relation].edge_index = torch.from_numpy(edges[["source", "target"]].to_numpy(np.int64).T.copy())
        data[relation].edge_weight = torch.from_numpy(edges["weight"].to_numpy(np.float32).copy())
        data[relation].edge_sign = torch.from_numpy(edges["sign"].to_numpy(np.int8).copy())
    return data
