"""`KnowledgeGraph` for other programs: networkx, SciPy, KGX."""

from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
from scipy import sparse

from kgnn.folders import new_folder
from kgnn.graph.edges import Relation, sides, triple
from kgnn.graph.tables import GraphTables

KGX_EDGES = "edges.tsv"
KGX_COLUMNS = {"source": "subject", "target": "object", "origin": "knowledge_source"}


def to_networkx(graph: GraphTables) -> nx.MultiDiGraph:
    """Return a directed multigraph. Nodes are `(type, name)` with the node table's columns as attributes and `type`;
    edges have the relation's name as key and `weight`, `sign`, `confidence`, `origin`."""
    result = nx.MultiDiGraph()
    for kind, table in graph.nodes.items():
        columns = {str(column): table[column].tolist() for column in table}
        for row, name in enumerate(table.index):
            result.add_node((kind, name), type=kind, **{column: values[row] for column, values in columns.items()})
    for source_type, relation, target_type in graph.edges:
        edges = graph.named((source_type, relation, target_type))
        values = edges[["weight", "sign", "confidence", "origin"]].to_dict("records")
        for source, target, row in zip(edges["source"], edges["target"], values, strict=True):
            result.add_edge((source_type, source), (target_type, target), key=relation, **row)
    return result


def to_scipy(graph: GraphTables, relation: Relation, *, signed: bool = False) -> sparse.csr_array:
    """Return the matrix [sources, targets] of a relation's weights, times the sign (unknown: 0) if `signed`."""
    relation = triple(relation)
    edges = graph.pairs(relation)
    values = edges["weight"] * edges["sign"] if signed else edges["weight"]
    shape = len(graph.nodes[relation[0]]), len(graph.nodes[relation[2]])
    return sparse.csr_array(
        (values.to_numpy(np.float32), (edges["source"].to_numpy(), edges["target"].to_numpy())), shape=shape
    )


def to_kgx(graph: GraphTables, path: str | Path) -> None:
    """Write `nodes.tsv` and `edges.tsv` in the Knowledge Graph Exchange format into the folder `path`.

    Node columns `id, category, name` and the node table's own; edge columns `id, subject, predicate, object` and
    `weight, sign, confidence, knowledge_source` (one row a pair and origin). Node types become categories as they
    are (`gene` → `biolink:Gene`), relations predicates (`regulates` → `biolink:regulates`). An id is the node's
    name, with its type in front (`family:12`) only where two types share the name.
    """
    counts = pd.concat([pd.Series(1, index=table.index) for table in graph.nodes.values()]).groupby(level=0).sum()
    shared = set(counts.index[counts > 1])

    def ids(kind: str, names: pd.Series | pd.Index) -> list[str]:
        return [f"{kind}:{name}" if name in shared else str(name) for name in names]

    with new_folder(path, "KGX") as folder:
        nodes = []
        for kind, table in graph.nodes.items():
            category = "biolink:" + "".join(word.capitalize() for word in kind.split("_"))
            head = pd.DataFrame({"id": ids(kind, table.index), "category": category, "name": table.index})
            if "label" in table:
                head["name"] = table["label"].to_numpy()
            nodes.append(pd.concat([head, table.drop(columns="label", errors="ignore").reset_index(drop=True)], axis=1))
        pd.concat(nodes).to_csv(folder / "nodes.tsv", sep="\t", index=False)
        edges = []
        for relation in graph.edges:
            table = graph.named(relation, by_origin=True)
            table = table.assign(**{side: ids(kind, table[side]) for side, kind in sides(relation)})
            table.insert(1, "predicate", f"biolink:{relation[1]}")
            edges.append(table.rename(columns=KGX_COLUMNS))
        rows = pd.concat(edges) if edges else pd.DataFrame(columns=["subject", "predicate", "object"])
        rows.insert(0, "id", [f"e{number}" for number in range(len(rows))])
        rows.to_csv(folder / KGX_EDGES, sep="\t", index=False)
