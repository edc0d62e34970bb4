"""Gene sets (GMT) → gene–gene similarity."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.knowledge_graph import KnowledgeGraph

RELATION = ("gene", "shares_gene_sets", "gene")
BLOCK = 512  # genes a block: bounds the memory of the product


def load_gene_sets(
    path: str | Path, *, k: int | None = 20, threshold: float = 0.1, origin: str | None = None
) -> KnowledgeGraph:
    """Read gene sets and link genes that share them: GEARS' GO graph (Roohani et al., Nat Biotechnol 2024).

    Format GMT: one set a line, tab-separated: name, description (may be empty), genes. The weight of two genes is
    the Jaccard index |A∩B| / |A∪B| of their sets of gene sets; edges above `threshold` stay, for each target its
    `k` heaviest sources (ties: the source that comes first in alphabetical order). GEARS keeps 21 and counts the
    self loop; here self loops are no edges, so 20 is the same graph.

    Args:
        path: GMT file, for example `GO_Biological_Process_2021.gmt` (Gene Ontology, CC BY 4.0).
        k: sources a target; None keeps all.
        threshold: Jaccard index above which an edge stays, in [0, 1).
        origin: name of this source in the graph; by default the file's name without its ending.

    Returns:
        A graph with the relation `("gene", "shares_gene_sets", "gene")`; all genes of the file are nodes.

    Raises:
        InputError: missing or empty file; a line with fewer than three fields (with its number).
    """
    path = existing_file(path)
    sets, repeated = read_gmt(path)
    genes = sorted({gene for members in sets.values() for gene in members})
    code = {gene: number for number, gene in enumerate(genes)}
    rows = [code[gene] for members in sets.values() for gene in members]
    columns = np.repeat(np.arange(len(sets)), [len(members) for members in sets.values()])
    membership = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (len(genes), len(sets)))
    source, target, weight = jaccard(membership, k, threshold)
    names = np.array(genes, dtype=object)
    origin = origin or path.name.removesuffix(".gmt")
    edges = pd.DataFrame({"source": names[source], "target": names[target], "weight": weight, "origin": origin})
    record = {
        "origin": origin,
        "relation": RELATION[1],
        "path": str(path),
        "rows_read": len(sets),
        "dropped": {},
    }
    if repeated:
        record["dropped"] = {"gene repeated in its set": repeated}
    return KnowledgeGraph({"gene": genes}, {RELATION: edges} if len(edges) else {}, [record])


def read_gmt(path: Path) -> tuple[dict[str, list[str]], int]:
    """Return set name → its genes, and how many genes were repeated within a set."""
    sets: dict[str, list[str]] = {}
    repeated = 0
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); is it a GMT file?") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        genes = [gene.strip() for gene in rest[1:] if gene.strip()]
        if not genes:
            raise InputError(
                f"{path}:{number}: {len(rest) + 1} fields and no gene; a GMT line has a name, a description "
                "(may be empty) and at least one gene, separated by tabs"
            )
        if name in sets:
            raise InputError(f"{path}:{number}: the gene set {name!r} stands twice; rename or remove one")
        sets[name] = list(dict.fromkeys(genes))
        repeated += len(genes) - len(sets[name])
    if not sets:
        raise InputError(f"{path}: no gene set in the file")
    return sets, repeated


def jaccard(
    membership: sparse.csr_matrix, k: int | None, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (source, target, weight) of the Jaccard graph of the rows of a 0/1 matrix [genes, sets]."""
    sizes = np.asarray(membership.sum(axis=1)).ravel()
    transposed = membership.T.tocsr()
    parts = []
    for start in range(0, membership.shape[0], BLOCK):
        shared = (membership[start : start + BLOCK] @ transposed).tocoo()
        target, source = shared.row + start, shared.col
        weight = shared.data / (sizes[target] + sizes[source] - shared.data)
        keep = (weight > threshold) & (source != target)
        parts.append(heaviest(source[keep], target[keep], weight[keep], k))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))  # type: ignore[return-value]


def heaviest(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray, k: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keep for each target its `k` heaviest edges; ties go to the smaller source number."""
    order = np.lexsort((source, -weight, target))
    source, target, weight = source[order], target[order], weight[order]
    if k is not None:
        first = np.searchsorted(target, target)  # targets are sorted: where each one's edges begin
        keep = np.arange(len(target)) - first < k
        source, target, weight = source[keep], target[keep], weight[keep]
    return source, target, weight
