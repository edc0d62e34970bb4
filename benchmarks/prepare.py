"""Make a screen ready for kgnn from a public H5AD: normalised, log1p, variable genes, conditions joined by '+'.

    python -m benchmarks.prepare NormanWeissman2019_filtered.h5ad -o norman2019.h5ad --separator _

scPerturb's files (Peidli et al., Nat Methods 2024) hold raw counts and a column `perturbation`. Measured genes are the
`--genes` most variable ones and every perturbed gene that is measured, as in GEARS; but variable over the control
cells, where GEARS takes all cells: a condition that is held out later must not choose the genes on which it is scored.
Cells without a label, cells of conditions with fewer than `--min-cells` cells and empty genes are dropped, and counted.
"""

import argparse
import re
from pathlib import Path

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from kgnn.errors import InputError
from kgnn.files import new_file, read_h5ad


def prepare(
    adata: AnnData,
    *,
    column: str = "perturbation",
    separator: str = "+",
    control: str = "control",
    strip: str | None = None,
    n_genes: int = 5_000,
    min_cells: int = 20,
) -> tuple[AnnData, dict[str, int]]:
    """Return the screen and how many cells were dropped, by reason.

    Args:
        column: of obs, with the label of each cell.
        separator: between the genes of a combination.
        control: regular expression that control labels match as a whole.
        strip: regular expression of what to cut out of labels, such as a guide's name.
        n_genes: the most variable ones over the control cells, and the perturbed ones that are measured.
    """
    if column not in adata.obs:
        raise InputError(f"no column {column!r} in obs; it has {', '.join(map(str, adata.obs.columns))}")
    labels = adata.obs[column].astype(object)
    known = labels.notna() & ~labels.astype(str).isin(["", "nan", "None", "*"])
    dropped = {"without a label": int((~known).sum())}
    adata = adata[known.to_numpy()].copy()
    mapping = {}
    for label in adata.obs[column].astype(str).unique():
        if re.fullmatch(control, label):
            mapping[label] = "control"
            continue
        short = re.sub(strip, "", label) if strip else label
        genes = sorted({part for part in short.split(separator) if part and not re.fullmatch(control, part)})
        mapping[label] = "+".join(genes) or "control"
    adata.obs["condition"] = adata.obs[column].astype(str).map(mapping).astype("category")
    if "control" not in set(adata.obs["condition"]):
        raise InputError(f"no label of {column!r} matches the control pattern {control!r}; give --control")
    counts = adata.obs["condition"].value_counts()
    enough = adata.obs["condition"].isin(counts[counts >= min_cells].index).to_numpy()
    dropped["of conditions with too few cells"] = int((~enough).sum())
    adata = adata[enough].copy()
    sc.pp.filter_genes(adata, min_cells=1)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    if adata.n_vars > n_genes:
        controls = adata[adata.obs["condition"] == "control"].copy()
        sc.pp.highly_variable_genes(controls, n_top_genes=n_genes)
        perturbed = {gene for name in adata.obs["condition"].unique() for gene in str(name).split("+")}
        adata = adata[:, controls.var["highly_variable"].to_numpy() | adata.var_names.isin(perturbed)].copy()
    screen = AnnData(sparse.csr_matrix(adata.X, dtype=np.float32), obs=adata.obs[["condition"]].copy())
    screen.var_names = adata.var_names.astype(str)
    screen.obs["condition"] = screen.obs["condition"].astype(str).astype("category")
    return screen, dropped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--column", default="perturbation")
    parser.add_argument("--separator", default="+")
    parser.add_argument("--control", default="control")
    parser.add_argument("--strip")
    parser.add_argument("--genes", type=int, default=5_000, dest="n_genes")
    parser.add_argument("--min-cells", type=int, default=20)
    options = vars(parser.parse_args())
    file, out = options.pop("file"), options.pop("out")
    screen, dropped = prepare(read_h5ad(file), **options)
    with new_file(out) as path:
        screen.write_h5ad(path)
    print(f"{screen.n_obs} cells × {screen.n_vars} genes, {screen.obs['condition'].nunique()} conditions to {out}")
    print("dropped: " + ", ".join(f"{number} cells {reason}" for reason, number in dropped.items()))


if __name__ == "__main__":
    main()
