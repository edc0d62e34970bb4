"""The tasks on which cell models are measured: data, folds, scores, plain competitors."""

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse, stats

KEPT = 0.4  # share of counts that a cell to be denoised keeps


def pbmc() -> AnnData:
    """`scanpy.datasets.pbmc68k_reduced()`: 700 cells, 765 genes, as counts, with Cell Ontology terms.

    The file has log-normalised values with three decimals. A cell's smallest one is one count, so its counts follow:
    99.98 % of the entries lie within 0.05 of a whole number.
    """
    import scanpy as sc

    small = sc.datasets.pbmc68k_reduced()
    level = np.expm1(small.raw.X.toarray())
    one = np.where(level > 0, level, np.inf).min(axis=1, keepdims=True)
    adata = AnnData(sparse.csr_matrix(np.round(level / one).astype(np.float32)), obs=small.obs[["bulk_labels"]].copy())
    adata.var_names = small.raw.var_names
    table = pd.read_csv(Path(__file__).parent / "pbmc68k_cell_types.csv").set_index("label")["term"]
    adata.obs["cell_type"] = adata.obs["bulk_labels"].astype(str).map(table)
    return adata


def cell_ontology(data: Path):
    from kgnn.graph import load_cell_ontology
    from kgnn.graph.ontology import Ontology

    return Ontology(load_cell_ontology(data / "kg/cl.obo"))


def atlas(seed: int, branches: tuple[int, ...] = (3, 3), cells_per_type: int = 100):
    """A simulated atlas and the ontology of its types."""
    from kgnn import KnowledgeGraph
    from kgnn.data import simulate_atlas
    from kgnn.graph.ontology import Ontology

    adata = simulate_atlas(n_genes=200, branches=branches, cells_per_type=cells_per_type, inner=0.1, seed=seed)
    edges = adata.uns["ontology"].rename(columns={"child": "source", "parent": "target"})
    terms = sorted({*edges["source"], *edges["target"]})
    nodes = pd.DataFrame({"label": terms}, index=terms)
    return adata, Ontology(KnowledgeGraph({"cell_type": nodes}, {("cell_type", "is_a", "cell_type"): edges}))


def fold(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four fifths to train on, one to test, each label in proportion."""
    from sklearn.model_selection import StratifiedKFold

    return next(StratifiedKFold(5, shuffle=True, random_state=seed).split(labels, labels))


def log_values(adata: AnnData) -> np.ndarray:
    x = adata.X.toarray()
    return np.log1p(1e4 * x / x.sum(1, keepdims=True))


def macro_f1(true: np.ndarray, said: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(true, said, average="macro"))


def best_leaf(model, adata: AnnData, name: str) -> np.ndarray:
    """The leaf with the largest logit, without backing off."""
    import torch

    with torch.no_grad():
        logits = [model.network_.class_logits(name, state).numpy() for _, _, state in model.encoded(adata)]
    leaves = np.array(model.labels_[name].leaves, dtype=object)
    return leaves[np.concatenate(logits)[:, : len(leaves)].argmax(1)]


def shape(model, adata: AnnData, ontology, column: str = "cell_type") -> float:
    """Spearman between nearness in the ontology and cosine of the types' centroids, over pairs of types.

    Nearness: personalised PageRank (scCello's), mean of both directions.
    """
    labels = adata.obs[column].astype(str).to_numpy()
    terms = sorted(set(labels))
    embedding = model.embed(adata, key_added=None)
    centroid = np.stack([embedding[labels == term].mean(0) for term in terms])
    centroid /= np.linalg.norm(centroid, axis=1, keepdims=True)
    near = ontology.pagerank(starts=terms)[terms].to_numpy()
    pairs = np.triu_indices(len(terms), 1)
    return float(stats.spearmanr((near + near.T)[pairs], (centroid @ centroid.T)[pairs])[0])


def untrained(model, adata: AnnData):
    """A cell model as it starts: its values are those of the cells' principal components."""
    return model.fit(adata, max_epochs=1, learning_rate=0.0, enable_progress_bar=False, accelerator="cpu")


def masked_error(model, adata: AnnData, seed: int) -> float:
    """Mean squared error of 15 % masked values of the gene tokens."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    error, n = 0.0, 0
    with torch.no_grad():
        for _, batch in model.batches(adata):
            masked = torch.rand(batch.value.shape, generator=generator) < 0.15
            state = model.network_.encode(batch, masked)
            square = (model.network_.values(state, batch) - batch.value).square()[masked]
            error, n = error + float(square.sum()), n + len(square)
    return error / n


def thinned(adata: AnnData, seed: int) -> tuple[AnnData, np.ndarray]:
    """Cells with two fifths of their counts, and the counts that were taken away."""
    counts = adata.X.toarray().astype(int)
    seen = np.random.default_rng(seed).binomial(counts, KEPT)
    some = adata.copy()
    some.X = sparse.csr_matrix(seen.astype(np.float32))
    return some, counts - seen


def held_out_error(share: np.ndarray, left: np.ndarray) -> float:
    """Mean negative Poisson log-likelihood an entry of held-out counts, at predicted shares of their total."""
    share = share / share.sum(1, keepdims=True)
    return float(-stats.poisson.logpmf(left, share.clip(1e-4) * left.sum(1, keepdims=True)).mean())


def smoothed(train: AnnData, seen: AnnData, k: int) -> np.ndarray:
    """kNN smoothing: counts summed over the k nearest cells in 10 principal components."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    pool = np.concatenate([train.X.toarray(), seen.X.toarray()])
    place = PCA(10, random_state=0).fit_transform(np.log1p(1e4 * pool / pool.sum(1, keepdims=True).clip(1)))
    near = NearestNeighbors(n_neighbors=k).fit(place).kneighbors(place[train.n_obs :])[1]
    return pool[near].sum(1)


def scvi(train: AnnData, seen: AnnData, seed: int) -> np.ndarray:
    """scvi-tools' scVI with its defaults (ZINB, 10 latent channels, 400 epochs): expected shares of the seen cells."""
    import scvi

    scvi.settings.seed = seed
    cells, query = train.copy(), seen.copy()
    scvi.model.SCVI.setup_anndata(cells)
    model = scvi.model.SCVI(cells)
    model.train(accelerator="cpu", enable_progress_bar=False)
    return model.get_normalized_expression(query, return_numpy=True, n_samples=10)


def area(
    scores: pd.Series, truth: set[tuple[str, str]], genes: list[str], regulators: set[str] | None = None
) -> tuple[float, float]:
    """AUPRC of scored undirected pairs of genes and chance; `scores` is indexed by (source, target).

    regulators: count pairs with at least one of these genes only.
    """
    from sklearn.metrics import average_precision_score

    number = {gene: n for n, gene in enumerate(genes)}
    matrix = np.zeros((len(genes), len(genes)))
    for (a, b), score in scores.items():
        i, j = sorted((number[a], number[b]))
        matrix[i, j] = max(matrix[i, j], score)
    linked = np.zeros_like(matrix, dtype=bool)
    for a, b in truth:
        if a in number and b in number and a != b:
            linked[tuple(sorted((number[a], number[b])))] = True
    one = np.array([regulators is None or gene in regulators for gene in genes])
    pairs = np.nonzero(np.triu(one[:, None] | one, 1))
    return float(average_precision_score(linked[pairs], matrix[pairs])), float(linked[pairs].mean())
