"""Gene sets (GMT, GAF) → gene–gene similarity, or genes and their sets."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.edges import table_of
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.obo import read_obo
from kgnn.graph.ontology import PART_OF
from kgnn.graph.options import check_number
from kgnn.graph.reading import origin_of, text_lines
from kgnn.graph.sources.collect import check_genes
from kgnn.graph.structure import heaviest
from kgnn.graph.tables import GraphTables
from kgnn.names import listed

SIMILAR = ("gene", "shares_gene_sets", "gene")
MEMBER = ("gene", "member_of", "gene_set")
SIMILARITIES = ("jaccard", "overlap", "information")
BLOCK = 512  # genes a block: bounds the memory of the product
ASPECTS = ("P", "F", "C")
GAF_FIELDS = 15  # required columns of GAF 2.x, of 17


@dataclass
class GeneSets:
    """Sets of genes as they stand in a file: set name → genes, and what was left out while reading."""

    sets: dict[str, list[str]]
    labels: dict[str, str] = field(default_factory=dict)
    rows_read: int = 0
    unit: str = "gene sets"
    dropped: dict[str, int] = field(default_factory=dict)

    def count(self, reason: str, n: int = 1) -> None:
        """Note that `n` rows were left out."""
        self.dropped[reason] = self.dropped.get(reason, 0) + n


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
    leaves, are no genes; names may hold spaces. GAF 2.x (Gene Ontology annotations): 15 to 17 columns, lines of
    comment begin with `!`; the set is the GO term, the gene the DB Object Symbol; rows with the qualifier NOT and
    rows of an excluded evidence code are dropped and counted. Licence: GO and Reactome are CC BY 4.0 and CC0.

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
            true path rule), alternative ids are resolved, obsolete and unknown terms dropped and counted. For GAF, or
            for a GMT whose sets are named by, or end in, a term id: `apoptosis (GO:0006915)`.
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
        table = table_of(pairs.row, pairs.col, origin)
    else:
        source, target, weight = similar(membership, similarity, k, threshold)
        table = table_of(source, target, origin, weight)
    counts = {"rows_read": read.rows_read, "unit": read.unit, "dropped": read.dropped}
    return KnowledgeGraph.of(GraphTables.of_relation(nodes, key, table, origin, path=str(path), **counts))


def _membership(sets: dict[str, list[str]]) -> tuple[list[str], sparse.csr_array]:
    genes = sorted({gene for members in sets.values() for gene in members})
    code = {gene: number for number, gene in enumerate(genes)}
    rows = [code[gene] for members in sets.values() for gene in members]
    columns = np.repeat(np.arange(len(sets)), [len(members) for members in sets.values()])
    return genes, sparse.csr_array((np.ones(len(rows), np.float32), (rows, columns)), (len(genes), len(sets)))


def read_gmt(path: Path) -> GeneSets:
    """Read a GMT file; see `load_gene_sets`."""
    read = GeneSets({})
    for number, line in text_lines(path):
        if not line.strip():
            continue
        read.rows_read += 1
        name, *rest = line.split("\t")
        genes = [gene.strip() for gene in rest[1:] if gene.strip()]
        if not genes or not name.strip():
            raise InputError(
                f"{path}:{number}: {len(rest) + 1} fields and no gene or no name; a GMT line has a name, a description "
                "(may be empty) and at least one gene, separated by tabs"
            )
        if name in read.sets:
            raise InputError(f"{path}:{number}: the gene set {name[:80]!r} stands twice; rename or remove one")
        read.sets[name] = list(dict.fromkeys(genes))
        if len(genes) > len(read.sets[name]):
            read.count("gene repeated in its set", len(genes) - len(read.sets[name]))
    if not read.sets:
        raise InputError(f"{path}: no gene set in the file")
    return read


def read_gaf(
    path: Path,
    *,
    evidence: Iterable[str] | None = None,
    exclude_evidence: Iterable[str] = ("ND",),
    aspect: str | None = None,
) -> GeneSets:
    """Read a GAF 2.x file (GO annotation format): GO term → gene symbols; see `load_gene_sets`."""
    kept, left_out = None if evidence is None else set(evidence), set(exclude_evidence)
    read = GeneSets({}, unit="annotations")
    members: dict[str, dict[str, None]] = {}
    for number, line in text_lines(path):
        if line.startswith("!"):
            if line.lower().replace(" ", "").startswith("!gaf-version:1"):
                raise InputError(f"{path}:{number}: GAF 1 is not readable; download the GAF 2 file")
            continue
        if not line.strip():
            continue
        read.rows_read += 1
        fields = line.split("\t")
        if len(fields) < GAF_FIELDS:
            raise InputError(f"{path}:{number}: {len(fields)} fields; a GAF 2 line has {GAF_FIELDS} to 17, by tabs")
        gene, qualifier, term, code = fields[2].strip(), fields[3].strip(), fields[4].strip(), fields[6].strip()
        if not gene or not term:
            read.count("no gene symbol or term")
        elif "NOT" in qualifier.split("|"):
            read.count("qualifier NOT")
        elif (kept is not None and code not in kept) or (kept is None and code in left_out):
            read.count(f"evidence {code[:20]}")
        elif aspect is not None and fields[8].strip() != aspect:
            read.count(f"aspect other than {aspect}")
        elif gene in members.setdefault(term, {}):
            read.count("gene repeated in its set")
        else:
            members[term][gene] = None
    read.sets = {term: list(genes) for term, genes in members.items() if genes}
    return read


def gaf_aliases(path: str | Path) -> pd.DataFrame:
    """Return the synonyms in a GAF file as a table `symbol, alias`, ready for `GeneNames`."""
    pairs: dict[tuple[str, str], None] = {}
    for number, line in text_lines(existing_file(path)):
        if line.startswith("!") or not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < GAF_FIELDS:
            raise InputError(f"{path}:{number}: {len(fields)} fields; a GAF 2 line has {GAF_FIELDS} to 17, by tabs")
        pairs |= {(fields[2].strip(), alias.strip()): None for alias in fields[10].split("|") if alias.strip()}
    return pd.DataFrame(list(pairs), columns=["symbol", "alias"])


def propagate(read: GeneSets, ontology: str | Path) -> None:
    """Give each term's genes to its ancestors too (is_a and part_of), in place."""
    terms = read_obo(ontology)
    living = {t: data for t, data in terms.nodes(data=True) if "name" in data and data.get("is_obsolete") != "true"}
    main = {alias: term for term, data in living.items() for alias in data.get("alt_id", [])} | {t: t for t in living}
    parents: dict[str, list[str]] = {}
    for child, parent, kind in terms.edges(keys=True):
        if kind in ("is_a", "part_of", PART_OF) and parent in living:
            parents.setdefault(child, []).append(parent)
    members: dict[str, dict[str, None]] = {}
    for name, genes in read.sets.items():
        term = main.get(name) or main.get(name.rsplit("(", 1)[-1].rstrip(")").strip())
        if term is None:
            read.count("term unknown or obsolete in the ontology", 1 if read.unit == "gene sets" else len(genes))
            continue
        reached, stack = {term}, [term]
        while stack:
            new = [parent for parent in parents.get(stack.pop(), []) if parent not in reached]
            reached.update(new)
            stack += new
        for ancestor in sorted(reached):
            members.setdefault(ancestor, {}).update(dict.fromkeys(genes))
    read.sets = {term: list(genes) for term, genes in members.items()}
    read.labels = {term: living[term]["name"] for term in read.sets}


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
