"""What all sources made from cells check of them."""

from typing import Any

from anndata import AnnData

from kgnn.expression import matrix_of, warn_of_scale
from kgnn.files import as_adata
from kgnn.graph.sources.collect import check_genes
from kgnn.names import check_once


def cells_of(adata: Any) -> AnnData:
    """Return an AnnData, or read it from a path; its genes are told apart and undamaged, or it is said.

    Raises:
        InputError: something else; a gene name that stands twice.
    """
    adata = as_adata(adata)
    check_once(adata.var_names)
    check_genes(adata.var_names, "var_names")
    return adata


def expression_in(adata: AnnData, layer: str | None, what: str, fine: tuple[str, ...]) -> Any:
    """Return `X` or a layer as it is stored; a scale that is not among `fine` is told."""
    x = matrix_of(adata, layer)
    warn_of_scale(x, f"{'X' if layer is None else f'the layer {layer!r}'}, for {what},", fine)
    return x
