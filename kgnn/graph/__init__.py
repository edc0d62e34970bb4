"""What is known: knowledge sources → `KnowledgeGraph` → PyG `HeteroData`."""

from kgnn.graph.knowledge_graph import KnowledgeGraph, Relation  # isort: skip
from kgnn.graph.config import build
from kgnn.graph.edge_splits import EdgeSplit, find_leaks, split_edges
from kgnn.graph.effects import estimate_effects
from kgnn.graph.embeddings import embed_graph
from kgnn.graph.identifiers import GeneNames
from kgnn.graph.mappings import Mappings, load_mappings
from kgnn.graph.ontology import Ontology
from kgnn.graph.orthologs import Orthologs, join_species
from kgnn.graph.sources import *  # noqa: F403
from kgnn.graph.sources import __all__ as _sources

__all__ = [
    "EdgeSplit",
    "GeneNames",
    "KnowledgeGraph",
    "Mappings",
    "Ontology",
    "Orthologs",
    "Relation",
    "build",
    "embed_graph",
    "estimate_effects",
    "find_leaks",
    "join_species",
    "load_mappings",
    "split_edges",
    *_sources,
]
