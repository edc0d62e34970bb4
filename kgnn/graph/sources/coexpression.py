"""Co-expression of genes over cells."""

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kgnn.errors import InputError
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.sources.gene_sets import heaviest

RELATION = ("gene", "coexpressed", "gene")
BLOCK = 1024  # genes a block: the dense correlations held at a time are [BLOCK, genes]


def load_coexpression(
    adata: AnnData,
    *,
    threshold: float = 0.4,
    k: int | None = 20,
    layer: str | None = None,
    origin: str = "coexpression",
) -> KnowledgeGraph:
    """Link genes whose expression correlates over the cells of `adata` (GEARS, Roohani et al. 2024).

    The weight is |Pearson r|, the sign that of r. Edges with |r| > `threshold` stay, for each target gene its `k`
    strongest sources. Give training cells only, or the graph has seen what it is tested on:
    `load_coexpression(kgnn.data.training_cells(adata, split))`.

    Args:
        adata: cells × genes, log-normalised; `X` dense or sparse (a sparse one is not densified as a whole).
        threshold: |r| above which an edge stays.
        k: sources a target; None keeps all. GEARS keeps 21 and counts the self loop; here self loops are no edges.
        layer: use this layer instead of `X`.
        origin: name of this source in the graph.

    Returns:
        A graph with the relation `("gene", "coexpressed", "gene")`; all genes of `adata` are nodes. A gene that
        is constant over the cells has no edges.

    Raises:
        InputError: fewer than three cells, NaN in the data, duplicate gene names.
    """
    if adata.n_obs < 3:
        raise InputError(f"{adata.n_obs} cells are too few for correlations; give at least 3")
    if not adata.var_names.is_unique:
        twice = adata.var_names[adata.var_names.duplicated()][0]
        raise InputError(f"gene {twice!r} stands twice in var_names; call adata.var_names_make_unique() or merge them")
    raw = adata.X if layer is None else adata.layers[layer]
    x: Any = sparse.csc_matrix(raw, dtype=np.float64) if sparse.issparse(raw) else np.asarray(raw, dtype=np.float64)
    mean = np.asarray(x.mean(axis=0)).ravel()
    if not np.isfinite(mean).all():
        gene = adata.var_names[int(np.argmin(np.isfinite(mean)))]
        raise InputError(f"gene {gene!r} has NaN or infinite values; remove or impute them first")
    squares = x.multiply(x).mean(axis=0) if sparse.issparse(x) else np.square(x).mean(axis=0)
    variance = np.maximum(np.asarray(squares).ravel() - mean**2, 0)
    deviation = np.where(variance > 1e-12 * np.maximum(mean**2, 1e-12), np.sqrt(variance), np.inf)

    parts, signs = [], {}
    for start in range(0, adata.n_vars, BLOCK):
        stop = min(start + BLOCK, adata.n_vars)
        product = x[:, start:stop].T @ x
        product = product.toarray() if sparse.issparse(product) else product
        r = (product / adata.n_obs - np.outer(mean[start:stop], mean)) / np.outer(deviation[start:stop], deviation)
        r[np.arange(stop - start), np.arange(start, stop)] = 0
        row, source = np.nonzero(np.abs(r) > threshold)
        parts.append(heaviest(source, row + start, np.abs(r[row, source]), k))
        kept_source, kept_target, _ = parts[-1]
        signs[start] = np.sign(r[kept_target - start, kept_source])
    source, target, weight = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    names = adata.var_names.astype(str).to_numpy(dtype=object)
    edges = pd.DataFrame(
        {
            "source": names[source],
            "target": names[target],
            "weight": np.minimum(weight, 1),
            "sign": np.concatenate(list(signs.values())),
            "origin": origin,
        }
    )
    record = {"origin": origin, "relation": RELATION[1], "rows_read": adata.n_obs, "dropped": {}}
    if np.isinf(deviation).any():
        record["dropped"] = {"constant genes": int(np.isinf(deviation).sum())}
    return KnowledgeGraph({"gene": list(names)}, {RELATION: edges} if len(edges) else {}, [record])
