"""What is known: knowledge sources → `KnowledgeGraph` → PyG `HeteroData`."""

from kgnn.graph.knowledge_graph import KnowledgeGraph, Relation
from kgnn.graph.sources.cell_ontology import load_cell_ontology
from kgnn.graph.sources.coexpression import load_coexpression
from kgnn.graph.sources.gene_sets import load_gene_sets
from kgnn.graph.sources.regulation import load_regulation
from kgnn.graph.sources.tables import load_table

__all__ = [
    "KnowledgeGraph",
    "Relation",
    "load_cell_ontology",
    "load_coexpression",
    "load_gene_sets",
    "load_regulation",
    "load_table",
]
