"""Gene sets (GMT, GAF) → gene–gene similarity, or genes and their sets."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.edges import table_of
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.reading import origin_of, text_lines
from kgnn.graph.sources.collect import check_genes
from kgnn.graph.sources.gene_set_files import propagate, read_gaf, read_gmt
from kgnn.graph.structure import heaviest
from kgnn.graph.tables import GraphTables
from kgnn.names import listed
from kgnn.parts import check_number

SIMILAR = ("gene", "shares_gene_sets", "gene")
MEMBER = ("gene", "member_of", "gene_set")
SIMILARITIES = ("jaccard", "overlap", "information")
BLOCK = 512  # genes a block: bounds the memory of the product
ASPECTS = ("P", "F", "C")


def load_gene_sets(
    path: str | Path,
    *,
    k: int | None = 20,
    threshold: float = 0.1,
    similarity: str = "jaccard",
    relation: str = "shares_gene_sets",
    ontology: str | Path | None = None,
    evidence: Iterable[str] | None = None,
    exclude_evidence: Iterable[str] = ("ND",),
    aspect: str | None = None,
    origin: str | None = None,
) -> KnowledgeGraph:
    """Read gene sets and link genes that share them: GEARS' GO graph (Roohani et al., Nat Biotechnol 2024).

    GMT: one set a line, tab-separated: name, description (may be empty), genes; blank fields, such as a trailing tab
    leaves, are no genes; names may hold spaces. A gene may have a weight behind it, `TP53,1.0`, as Enrichr writes: that
    of the gene–member_of–gene_set edge (similarities take no weights); a gene of weight 0 is no member. GAF 2.x
    (Gene Ontology annotations): 15 to 17 columns, lines of comment begin with `!`; the set is the GO term, the gene the
    DB Object Symbol; rows with the qualifier NOT and rows of an excluded evidence code are dropped and counted.
    Licence: GO and Reactome are CC BY 4.0 and CC0.

    Similarity of two genes with the sets A and B: `jaccard` |A∩B| / |A∪B|; `overlap` |A∩B| / min(|A|, |B|);
    `information` Σ_{A∩B} IC / Σ_{A∪B} IC with IC(set) = −log(share of all genes in the set), as simGIC (Pesquita et
    al., BMC Bioinformatics 2008), so that sharing a small set counts for more. Edges above `threshold` stay, for each
    target its `k` heaviest sources (ties: the source that comes first in alphabetical order). GEARS keeps 21 and
    counts the self loop; here self loops are no edges, so 20 is the same graph.

    Args:
        path: GMT or GAF file, .gz too; told apart by their first line.
        k: sources a target; None keeps all.
        threshold: similarity above which an edge stays, in [0, 1).
        similarity: `jaccard`, `overlap` or `information`.
        relation: `shares_gene_sets` for gene–gene edges, or `member_of` for `gene–member_of–gene_set`.
        ontology: GO's OBO file; a gene of a term then belongs to the term's ancestors by is_a and part_of too (the
            true path rule); alternative ids are resolved, obsolete terms replaced where the file says by which one,
            others and unknown ones dropped, all counted. For GAF, or for a GMT whose sets are named by, or end in, a
            term id: `apoptosis (GO:0006915)`.
        evidence: GAF: evidence codes to keep, such as `["EXP", "IDA"]`; default: all but `exclude_evidence`.
        exclude_evidence: GAF: codes to leave out; ND means that nothing is known.
        aspect: GAF: `P` process, `F` function or `C` component; default: all three.
        origin: name of this source in the graph; by default the file's name without its ending.

    Returns:
        A graph with one relation; all genes of the file are nodes. Gene sets have the column `label`.

    Raises:
        InputError: missing or empty file; a line with too few fields (with its number); an unknown similarity.
    """
    path = existing_file(path)
    evidence = None if evidence is None else listed(evidence, "evidence")
    exclude_evidence = listed(exclude_evidence, "exclude_evidence")
    if similarity not in SIMILARITIES:
        raise InputError(f"similarity {similarity!r} is unknown; choose {', '.join(SIMILARITIES)}")
    if relation not in (SIMILAR[1], MEMBER[1]):
        raise InputError(f"relation {relation!r} is unknown; choose {SIMILAR[1]} or {MEMBER[1]}")
    check_number(threshold, "threshold", 0, 1, hint="it is a similarity")
    if k is not None:
        check_number(k, "k", 1, whole=True, hint="None keeps all")
    if aspect not in (None, *ASPECTS):
        raise InputError(f"aspect {aspect!r} is unknown; choose P (process), F (function) or C (component)")
    first = next((line for _, line in text_lines(path)), "")
    if first.startswith("!") or ".gaf" in path.name.lower():
        read = read_gaf(path, evidence=evidence, exclude_evidence=exclude_evidence, aspect=aspect)
    else:
        if evidence is not None or aspect is not None:
            raise InputError(f"{path}: a GMT file has neither evidence nor aspect to choose by; give GO's GAF file")
        read = read_gmt(path)
    if ontology is not None:
        propagate(read, ontology)
    if not read.sets:
        reasons = "; ".join(f"{reason}: {n}" for reason, n in read.dropped.items())
        raise InputError(f"{path}: no gene set left ({reasons or 'the file holds none'}); check the file and filters")
    genes, membership = _membership(read.sets)
    check_genes(genes, str(path))
    nodes: dict[str, Any] = {"gene": genes}
    origin = origin or origin_of(path)
    key = SIMILAR if relation == SIMILAR[1] else MEMBER
    if key == MEMBER:
        names = list(read.sets)
        labels = [read.labels.get(name, name) for name in names]
        nodes["gene_set"] = pd.DataFrame({"label": labels}, index=pd.Index(names, dtype=object))
        pairs = membership.tocoo()
        own = [read.sets[names[column]][genes[row]] for row, column in zip(pairs.row, pairs.col, strict=True)]
        table = table_of(pairs.row, pairs.col, origin, np.array(own))
    else:
        source, target, weight = similar(membership, similarity, k, threshold)
        table = table_of(source, target, origin, weight)
    counts: dict[str, Any] = {"rows_read": read.rows_read, "unit": read.unit, "dropped": read.dropped}
    counts |= {"replaced": read.replaced} if read.replaced else {}
    return KnowledgeGraph.of(GraphTables.of_relation(nodes, key, table, origin, path=str(path), **counts))


def _membership(sets: dict[str, dict[str, float]]) -> tuple[list[str], sparse.csr_array]:
    genes = sorted({gene for members in sets.values() for gene in members})
    code = {gene: number for number, gene in enumerate(genes)}
    rows = [code[gene] for members in sets.values() for gene in members]
    columns = np.repeat(np.arange(len(sets)), [len(members) for members in sets.values()])
    return genes, sparse.csr_array((np.ones(len(rows), np.float32), (rows, columns)), (len(genes), len(sets)))


def similar(
    membership: sparse.csr_array, similarity: str, k: int | None, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (source, target, weight) of the similarity graph of the rows of a 0/1 matrix [genes, sets]."""
    worth = np.ones(membership.shape[1], np.float32)
    if similarity == "information":
        worth = -np.log(np.asarray(membership.sum(axis=0)).ravel() / membership.shape[0]).astype(np.float32)
    weighted = (membership * worth).tocsr() if similarity == "information" else membership
    sizes = np.asarray(weighted.sum(axis=1)).ravel()
    transposed = membership.T.tocsr()
    parts = []
    for start in range(0, membership.shape[0], BLOCK):
        shared = weighted[start : start + BLOCK] @ transposed
        target = np.repeat(np.arange(start, start + shared.shape[0], dtype=np.int32), np.diff(shared.indptr))
        source, weight = shared.indices, shared.data
        a, b = sizes[target], sizes[source]
        whole = np.minimum(a, b) if similarity == "overlap" else a + b - weight
        keep = (weight > threshold * whole) & (source != target)
        source, target, weight, whole = source[keep], target[keep], weight[keep], whole[keep]
        parts.append(heaviest(source, target, np.minimum(weight / whole, 1), k))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))  # type: ignore[return-value]
