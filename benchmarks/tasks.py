"""The tasks on which the default model is measured: data, folds, graphs."""

import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from joblib import hash as digest
from scipy import sparse

from kgnn import KnowledgeGraph, PerturbationModel
from kgnn.graph.embeddings import node2vec
from kgnn.models.perturbation import source_vectors

WORK = Path("benchmarks/work")
PEERS = ("gears", "txpert", "txpert_exphormer", "presage", "fusion", "cpa")  # of tables of effects; hetero apart
RATES = Path(__file__).parent / "results/peer_rates.csv"
BATCH, STEPS = 128, 240


def node2vec_once(weights: sparse.csr_array, dim: int, seed: int) -> np.ndarray:
    """What `node2vec` gives, kept in a file: it takes minutes and is the same in every fold."""
    path = WORK / f"node2vec-{digest((weights, dim, seed))}.npy"
    if not path.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.npy")
        np.save(part, node2vec(weights, dim, seed))
        part.replace(path)
    return np.load(path)


class Stepped(PerturbationModel):
    """A network for tables of effects, trained step by step; all conditions train, the last step counts.

    Rate and number of steps of `hetero` were chosen on an inner fold of the up-ranks of K562, see docs/screens.md;
    the peers' rates by `benchmarks.peer_rates`."""

    def __init__(self, kg: KnowledgeGraph, encoder: str = "hetero", rate: float = 0.01) -> None:
        super().__init__(kg, encoder=encoder)
        self.rate = rate

    def fit(self, adata: AnnData, split: None = None, **options: object) -> "Stepped":
        source_vectors.node2vec = node2vec_once
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        epochs = -(-STEPS // -(-(adata.n_obs + 1) // BATCH))  # control is a row
        settings = {"max_epochs": epochs, "batch_size": BATCH, "learning_rate": self.rate, "schedule": "constant"}
        return super().fit(adata, split, **quiet, **settings, **options)


def peers(kg: KnowledgeGraph) -> dict[str, Callable[[], Stepped]]:
    """The other trained networks, each at the rate that `benchmarks.peer_rates` chose; those that it was run for."""
    found = pd.read_csv(RATES).sort_values("centred").drop_duplicates("model", keep="last").set_index("model")["rate"]
    return {name: partial(Stepped, kg, name, found[name]) for name in PEERS if name in found.index}


def changed(kg: KnowledgeGraph) -> dict[str, KnowledgeGraph | None]:
    """The controls that choose other edges, as names behind a model's: permuted, rewired, part random, part removed.

    Graphs without a source, and of one alone, are `benchmarks.node_types`' subject; a complete graph of so many genes
    would not fit; the human graph has no features to permute."""
    from kgnn.controls import variants

    found = variants(kg, (), ("permuted", "rewired", "random", "removed"), shares=(0.5,))
    return {name.removesuffix(" graph"): graph for name, graph in found.items()}


def norman(data: Path):
    """Norman et al. 2019, 500 genes, 33 conditions (CRISPRa), and its graph: DoRothEA A–C, Reactome, GO."""
    import scanpy as sc

    from kgnn import graph

    adata = sc.read_h5ad(data / "perturb/norman19_k562_hvg500.h5ad")
    kg = (
        graph.load_regulation(data / "kg/dorothea_hs.tsv.gz", min_confidence="C")
        | graph.load_gene_sets(data / "kg/ReactomePathways.gmt", origin="reactome")
        | graph.load_gene_sets(data / "kg/GO_Biological_Process_2021.gmt", origin="go")
    )
    return adata, kg


@cache
def norman_parts(data: Path, work: Path):
    """Cells and graph, rewired graphs by seed and the graph's spectral embedding from `work`, read once a process."""
    from kgnn import KnowledgeGraph

    rewired = {int(folder.name.split("-")[1]): KnowledgeGraph.load(folder) for folder in sorted(work.glob("rewired-*"))}
    return *norman(data), rewired, pd.read_parquet(work / "vectors.parquet")


def fold_without(held_out: str, names: list[str], sharing: bool) -> dict:
    """Leave one condition out; with `sharing` every condition that has a gene in common with it as well."""
    genes = set(held_out.split("+"))
    train = [name for name in names if name != held_out and not (sharing and genes & set(name.split("+")))]
    return {"kind": "leave_one_out", "seed": 0, "train": train, "val": [], "test": [held_out], "subgroups": {}}


def dream4(data: Path, network: int):
    """DREAM4 size-100 network: knock-outs, one cell each, against their median; its gold standard; co-expression
    over the time series; and what adds the effects that the time series lets one estimate along any edges."""
    from kgnn import graph

    folder = data / f"dream4/size100_{network}"
    knockouts = pd.read_csv(folder / "knockouts.tsv", sep="\t")
    series = pd.read_csv(folder / "timeseries.tsv", sep="\t").dropna()
    gold = pd.read_csv(folder / "goldStandard.tsv", sep="\t", header=None, names=["source", "target", "present"])
    genes = list(knockouts.columns)
    cells = np.vstack([knockouts.to_numpy(), knockouts.median().to_numpy()])
    names = [f"cell{number}" for number in range(len(cells))]
    adata = AnnData(cells.astype(np.float32), obs=pd.DataFrame({"condition": [*genes, "control"]}, index=names))
    adata.var_names = genes
    edges = gold[gold["present"] == 1][["source", "target"]]
    kg = graph.load_table(edges, relation="regulates", origin="gold_standard")
    course = AnnData(series[genes].to_numpy(np.float32))
    course.var_names = genes
    course.obs["time"] = series["Time"].to_numpy()
    course.obs["series"] = (series["Time"].diff() < 0).cumsum().astype(str).to_numpy()

    def with_effects(changed):
        return changed | graph.estimate_effects(changed, course, groupby="series", time_key="time")

    return adata, kg, graph.load_coexpression(course, k=5), with_effects


def five_folds(names: list[str], seed: int) -> list[dict]:
    folds = np.array_split(np.random.default_rng(seed).permutation(sorted(names)), 5)
    return [
        {
            "kind": "five_folds",
            "seed": seed,
            "train": sorted(set(names) - set(fold)),
            "val": [],
            "test": sorted(fold),
            "subgroups": {},
        }
        for fold in folds
    ]


def edges_alone(adata: AnnData):
    """The network of a simulated screen without the signs and strengths of its edges."""
    from kgnn import graph

    return graph.load_table(adata.uns["network"][["source", "target"]], relation="regulates", origin="network")


def simulated(seed: int, n_lines: int = 1):
    """500 genes, 100 training and 25 unseen single knock-outs, 100 cells each, 1,000 controls, and the true network
    with the signs and strengths by which the screen was simulated."""
    from kgnn import graph
    from kgnn.data import simulate

    sizes = {"n_genes": 500, "n_regulators": 150, "n_pairs": 0, "cells_per_condition": 100, "n_controls": 1000}
    adata = simulate(n_singles=125 if n_lines == 1 else 40, n_lines=n_lines, seed=seed, **sizes)
    kg = graph.load_table(adata.uns["network"], relation="regulates", origin="network")
    names = sorted(set(adata.obs["condition"]) - {"control"})
    test = sorted(np.random.default_rng(seed).permutation(names)[: len(names) - 100]) if n_lines == 1 else []
    split = {"kind": "unseen_single", "seed": seed, "train": sorted(set(names) - set(test)), "val": [], "test": test}
    return adata, kg, split | {"subgroups": {}}
