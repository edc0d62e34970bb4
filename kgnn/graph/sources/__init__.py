"""One file a kind of knowledge; each is a function: a path or AnnData in, a `KnowledgeGraph` out."""

from kgnn.graph.sources.cell_ontology import load_cell_ontology
from kgnn.graph.sources.coexpression import load_coexpression
from kgnn.graph.sources.families import load_gene_families
from kgnn.graph.sources.gene_set_files import gaf_aliases
from kgnn.graph.sources.gene_sets import load_gene_sets
from kgnn.graph.sources.interactions import load_interactions
from kgnn.graph.sources.kgx import load_kgx
from kgnn.graph.sources.markers import load_markers
from kgnn.graph.sources.ntriples import load_ntriples
from kgnn.graph.sources.objects import from_edge_index, from_networkx, from_pyg, from_scipy
from kgnn.graph.sources.promoters import load_gene_embedding, load_promoter_motifs, load_promoter_sequences
from kgnn.graph.sources.regulation import load_regulation
from kgnn.graph.sources.tables import load_table
from kgnn.graph.sources.triples import load_triples

__all__ = [
    "from_edge_index",
    "from_networkx",
    "from_pyg",
    "from_scipy",
    "gaf_aliases",
    "load_cell_ontology",
    "load_coexpression",
    "load_gene_embedding",
    "load_gene_families",
    "load_gene_sets",
    "load_interactions",
    "load_kgx",
    "load_markers",
    "load_ntriples",
    "load_promoter_motifs",
    "load_promoter_sequences",
    "load_regulation",
    "load_table",
    "load_triples",
]
