"""Simulated cell atlases with a known hierarchy of types and a known regulatory network."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kgnn.data.simulate import (
    basal_rates,
    control_level,
    count_cells,
    gene_names,
    named_edges,
    random_network,
    steady_state,
)
from kgnn.errors import InputError

STEP = 0.8  # standard deviation of the log production factor that a step down the hierarchy adds: chosen here
TISSUE, BATCH, SPECIES = 0.5, 0.15, 0.4  # the same for a tissue, a batch and a second species: chosen here


def simulate_atlas(
    *,
    n_genes: int = 200,
    branches: tuple[int, ...] = (3, 3),
    cells_per_type: int = 100,
    n_tissues: int = 2,
    n_batches: int = 2,
    n_species: int = 1,
    inner: float = 0.0,
    regulators_per_gene: float = 3.0,
    repressing: float = 0.3,
    noise: float = 0.4,
    library_size: float = 2_000.0,
    dropout: float = 30.0,
    seed: int = 0,
) -> AnnData:
    """Simulate annotated cells whose types descend from one another and whose genes regulate each other.

    Genes follow `kgnn.data.simulate`'s network: production is multiplied by a factor, and levels are the steady state.
    Each step down the hierarchy multiplies the factors of regulators by log-normal numbers (standard deviation 0.8),
    so that sister types are alike and differ by programmes of the network; tissues (0.5) and batches (0.15) do the same
    to a tenth of all genes. A second species (0.4, all genes) has the same network and the same gene names (its
    orthologues').

    Args:
        n_genes: genes G000, G001, …; a quarter may regulate others.
        branches: children of each node on each level below the root; (3, 3) gives 9 leaf types in 3 lineages.
        cells_per_type: cells of each leaf type in each species.
        n_tissues, n_batches, n_species: classes besides, spread evenly at random.
        inner: share of cells labelled with their type's parent instead of the type itself.
        regulators_per_gene, repressing, noise, library_size, dropout: as for `kgnn.data.simulate`.
        seed: same seed, same atlas.

    Returns:
        AnnData, cells × genes: `X` raw counts (CSR float32); obs `cell_type` (`T:1.2`, a term), `true_type`, `tissue`,
        `batch`, `species`; `uns["ontology"]`, the terms' `child`, `parent`; `uns["network"]`, the true edges `source,
        target, sign, weight`.

    Raises:
        InputError: sizes that do not fit together.
    """
    if n_genes < 8 or cells_per_type < 1 or not branches or min(branches) < 1:
        raise InputError("n_genes must be at least 8, cells_per_type and every number of branches at least 1")
    if not 0 <= inner <= 1:
        raise InputError(f"inner {inner} is not between 0 and 1")
    rng = np.random.default_rng(seed)
    genes = gene_names(n_genes)
    n_regulators = n_genes // 4
    network = random_network(n_genes, n_regulators, regulators_per_gene, repressing, rng)
    basal = basal_rates(network, n_genes, rng)

    edges: list[tuple[str, str]] = []
    nodes = {"T:0": np.zeros(n_genes)}
    level = ["T:0"]
    for n_children in branches:
        children = []
        for parent in level:
            for number in range(1, n_children + 1):
                child = f"T:{number}" if parent == "T:0" else f"{parent}.{number}"
                step = np.zeros(n_genes)
                step[:n_regulators] = STEP * rng.standard_normal(n_regulators)
                nodes[child] = nodes[parent] + step
                edges.append((child, parent))
                children.append(child)
        level = children
    n_cells = len(level) * cells_per_type * n_species
    kind = np.tile(np.repeat(np.arange(len(level)), cells_per_type), n_species)
    species = np.repeat(np.arange(n_species), len(level) * cells_per_type)
    tissue, batch = rng.integers(n_tissues, size=n_cells), rng.integers(n_batches, size=n_cells)
    factor = np.stack([nodes[name] for name in level])[kind]
    for groups, spread, share in ((tissue, TISSUE, 0.1), (batch, BATCH, 0.1), (species, SPECIES, 1.0)):
        shift = spread * rng.standard_normal((groups.max() + 1, n_genes)) * (rng.random(n_genes) < share)
        shift[0] = 0
        factor = factor + shift[groups]
    rates = np.exp(factor + noise * rng.standard_normal(factor.shape))
    levels = steady_state(network, basal, control_level(network, basal), rates)
    counts = count_cells(levels, library_size, dropout, rng)

    parents = dict(edges)
    true = np.array(level, dtype=object)[kind]
    said = np.where(rng.random(n_cells) < inner, np.array([parents[name] for name in true], dtype=object), true)
    adata = AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    adata.var_names = genes
    adata.obs_names = [f"cell{number}" for number in range(n_cells)]
    columns = {"cell_type": said, "true_type": true}
    for name, groups in (("tissue", tissue), ("batch", batch), ("species", species)):
        columns[name] = np.array([f"{name}{number}" for number in groups], dtype=object)
    for name, column in columns.items():
        adata.obs[name] = pd.Categorical(column)
    adata.uns["ontology"] = pd.DataFrame(edges, columns=["child", "parent"])
    adata.uns["network"] = named_edges(network, genes)
    return adata
