"""Marker genes of cell types, computed from an AnnData: they join the ontology to the genes."""

from pathlib import Path

import pandas as pd
from anndata import AnnData
from scipy import sparse

from kgnn.errors import InputError
from kgnn.expression import check_finite, summed
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.ontology import Ontology
from kgnn.graph.sources.cells import cells_of, expression_in
from kgnn.graph.sources.collect import EdgeCollector
from kgnn.names import as_names, column_in
from kgnn.parts import check_number
from kgnn.threads import same_threads

RELATION = ("cell_type", "has_marker", "gene")
METHODS = ("wilcoxon", "t-test", "t-test_overestim_var")


def load_markers(
    adata: AnnData | str | Path,
    groupby: str,
    *,
    ontology: KnowledgeGraph | None = None,
    n_genes: int = 50,
    max_p: float = 0.05,
    min_log_fold_change: float = 1.0,
    method: str = "wilcoxon",
    layer: str | None = None,
    origin: str = "markers",
) -> KnowledgeGraph:
    """Link cell types to the genes that they express more than the other cells do (scanpy's `rank_genes_groups`).

    Args:
        adata: cells × genes (or the path of an H5AD file), log-normalised; training cells only. Not changed.
        groupby: column of `obs` with the cell types.
        ontology: what `load_cell_ontology` returned: labels become its terms (matched by id, name or exact synonym);
            a label that matches none stays as it is and is counted. Default: labels as they are.
        n_genes: genes a type, at most, by score.
        max_p: largest adjusted p value (Benjamini–Hochberg).
        min_log_fold_change: smallest log2 fold change.
        method: scanpy's test: `wilcoxon`, `t-test` or `t-test_overestim_var`.
        layer: use this layer instead of `X`.
        origin: name of this source in the graph.

    Returns:
        A graph with the relation `("cell_type", "has_marker", "gene")`; the weight is the log2 fold change, the
        confidence 1 − adjusted p.

    Raises:
        InputError: no such column, an unknown method, NaN in the data, duplicate gene names, fewer than two types of at
            least two cells, no marker left.
    """
    import scanpy as sc  # takes seconds to import

    adata = cells_of(adata)
    column = column_in(adata.obs, groupby)
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; choose {', '.join(METHODS)}")
    check_number(n_genes, "n_genes", 1, whole=True)
    check_number(max_p, "max_p", 0, 1)
    check_number(min_log_fold_change, "min_log_fold_change", hint="it is a log2")
    labels = pd.Series(as_names(column), index=adata.obs_names)
    sizes = labels.value_counts()
    large = sizes.index[sizes >= 2]
    if len(large) < 2:
        raise InputError(f"{groupby!r} has {len(large)} types of at least two cells; markers need two")
    cells = labels.isin(large).to_numpy()
    x = expression_in(adata, layer, "markers", ("log",))[cells]
    x = summed(x) if sparse.issparse(x) else x
    check_finite(x, adata)
    part = AnnData(
        x,
        obs=pd.DataFrame({"type": labels[cells].astype("category")}),
        var=adata.var[[]],
    )
    with same_threads():
        sc.tl.rank_genes_groups(part, "type", method=method, use_raw=False, n_genes=part.n_vars)
    match = None if ontology is None else Ontology(ontology).match(large)
    collector = EdgeCollector(RELATION)
    dropped = {f"types of one cell ({groupby})": int((sizes < 2).sum())} if (sizes < 2).any() else {}
    unmatched = 0
    for label in part.obs["type"].cat.categories:
        rows = sc.get.rank_genes_groups_df(part, label)
        rows = rows[(rows["pvals_adj"] <= max_p) & (rows["logfoldchanges"] >= min_log_fold_change)].head(n_genes)
        term = label
        if match is not None:
            term = match.loc[label, "term"] or label
            unmatched += match.loc[label, "term"] is None
        collector.add([term] * len(rows), rows["names"], rows["logfoldchanges"], 0, 1 - rows["pvals_adj"])
    if unmatched:
        dropped["labels without a term (kept as they are)"] = unmatched
    graph = collector.graph(
        origin, label=f"obs[{groupby!r}]", dropped=dropped, unit="markers", confidence="1 − adjusted p"
    )
    return KnowledgeGraph.of(graph.tables.made_from(origin, adata.obs_names[cells]))
