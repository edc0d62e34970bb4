"""Knock-downs left out of two real screens, ranks of up-regulated genes (Replogle et al., Cell 2022).

    python -m benchmarks.upranks --data ../shared/data/replogle_upranks --kg ../shared/data/kg --out DIR

Score of a gene: (1001 − rank) / 1000, 0 where it is not among the 1,000. Five folds of knock-downs, random or whole
clusters of similar knowledge; RPE1 also with K562's effects as gene features: of all its knock-downs, or without those
that are predicted. Correlation over genes, plain and after the training mean is taken from both, with 95 % intervals by
a bootstrap over knock-downs. Resumable: a file a screen × folds × model.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from threadpoolctl import threadpool_limits

from benchmarks import tasks
from benchmarks.human_graph import SETS, human_graph
from kgnn import KnowledgeGraph
from kgnn.errors import DataWarning
from kgnn.models import make_model

CUT = 0.93
KINDS = ("random", "clusters")
VECTORS = ("knn", "embedding_ridge")


def scores_of(path: Path) -> pd.DataFrame:
    """[knock-downs, genes] of a screen's file."""
    ranks = pd.read_parquet(path).astype(float)
    return ((1001 - ranks) / 1000).where(ranks > 0, 0.0)


def clusters(names: pd.Index, kg: KnowledgeGraph) -> np.ndarray:
    """Number of the cluster of each knock-down: average linkage, cut at 0.93, on 1 − the mean over CORUM, Reactome and
    GO of the Jaccard similarity of the sets that two are in, sets weighted by log(N / size) among the knock-downs."""
    alike = []
    for origin in SETS:
        sets = kg.only_sources(origin)
        row = sets.nodes("gene").index.get_indexer(names)
        member = sparse.csr_array(sets.to_scipy(("gene", "member_of", "gene_set")) != 0, dtype=float)
        member = member[np.maximum(row, 0)].multiply((row >= 0)[:, None]).tocsr()
        size, known = member.sum(axis=0), (member.sum(axis=1) > 0).sum()
        weighted = member @ sparse.diags_array(np.where(size > 1, np.log(known / np.maximum(size, 1)), 0))
        shared, total = (weighted @ member.T).toarray(), weighted.sum(axis=1)
        union = total[:, None] + total - shared
        alike.append(shared / np.where(union > 1e-12, union, 1))
    apart = (1 - np.mean(alike, axis=0)).clip(0)
    np.fill_diagonal(apart, 0)
    return fcluster(linkage(squareform(apart, checks=False), "average"), CUT, "distance")


def folds(kind: str, names: pd.Index, kg: KnowledgeGraph, seed: int = 0) -> np.ndarray:
    """Number of the fold of each knock-down."""
    rng = np.random.default_rng(seed)
    if kind == "random":
        return rng.permutation(np.arange(len(names)) % 5)
    cluster = clusters(names, kg)
    found, sizes = np.zeros(len(names), int), np.zeros(5)
    for one in rng.permutation(np.unique(cluster)):
        place = np.argmin(sizes)
        found[cluster == one] = place
        sizes[place] += (cluster == one).sum()
    return found


def rowwise(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of each row of a with the same row of b; NaN where one is constant."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    size = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.where(size > 1e-9, (a * b).sum(axis=1) / np.where(size > 1e-9, size, 1), np.nan)


def interval(values: np.ndarray, seed: int = 0) -> str:
    """Mean and 95 % interval; nothing where no value is known: no change has no correlation."""
    if not len(values):
        return ""
    means = np.random.default_rng(seed).choice(values, (1000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():.3f} ({low:.3f}–{high:.3f})"


def fold_scores(y: pd.DataFrame, test: np.ndarray, make: Callable) -> pd.DataFrame:
    """Scores of the knock-downs `test` [knock-downs] bool, by a model that saw the others.

    make: a model, of the names of the held-out ones. A knock-down that the model does not know gets the training mean.
    """
    from kgnn.data import effects

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        centre, truth = y[~test].mean(axis=0).to_numpy(), y[test].to_numpy()
        model = make(set(y.index[test])).fit(effects(y[~test]))
        known = [name for name in y.index[test] if not model.uses_graph or name in model.perturbable_]
        found = pd.DataFrame(np.tile(centre, (test.sum(), 1)), y.index[test], y.columns)
        if known:
            found.loc[known] = model.predict(known).layers["delta"]
        values = found.to_numpy()
    centred = np.nan_to_num(rowwise(values - centre, truth - centre))
    of_mean = np.square(truth - centre).sum(axis=1)
    error = np.square(truth - values).sum(axis=1) / of_mean.mean()
    table = {"plain": rowwise(values, truth), "centred": centred, "error": error, "of_mean": of_mean / of_mean.mean()}
    return pd.DataFrame(table, index=y.index[test]).rename_axis("perturbed")


def makers(kg: KnowledgeGraph, vectors: pd.DataFrame, other: pd.DataFrame | None) -> dict[str, Callable]:
    """Each model of the table, made of the names of the held-out knock-downs."""
    graphs = {"kg": kg, **{f"kg, {name}": graph for name, graph in tasks.changed(kg).items()}, "kg, no graph": None}
    found: dict[str, Callable] = {name: partial(plain_model, "kg", graph) for name, graph in graphs.items()}
    found |= {
        f"hetero{name.removeprefix('kg')}": partial(trained, partial(tasks.Stepped, graph))
        for name, graph in graphs.items()
        if graph
    }
    found |= {name: partial(trained, peer) for name, peer in tasks.peers(kg).items()}
    found |= {name: partial(plain_model, name, None) for name in ("mean", "no_change")}
    found |= {"set_kernel_ridge": partial(plain_model, "set_kernel_ridge", kg)}
    found |= {name: partial(plain_model, name, None, vectors=vectors) for name in VECTORS}
    if other is not None:
        centred = other - other.mean()
        found |= {"kg and K562's screen": partial(with_screen, kg, "K562", centred, False)}
        found |= {"kg and K562's screen, unseen there too": partial(with_screen, kg, "K562", centred, True)}
        found |= {"embedding_ridge on K562's screen": partial(plain_model, "embedding_ridge", None, vectors=centred)}
    return found


def plain_model(name: str, kg: KnowledgeGraph | None, held_out: set[str], **options: object) -> object:
    """The same model, whatever is held out."""
    return make_model(name, kg, **options)


def trained(make: Callable[[], tasks.Stepped], held_out: set[str]) -> tasks.Stepped:
    """The same network, whatever is held out."""
    return make()


def with_screen(kg: KnowledgeGraph, name: str, other: pd.DataFrame, unseen: bool, held_out: set[str]) -> object:
    """The default model with another screen's effects as gene features; `unseen`: without what is held out."""
    table = other.drop(index=list(held_out), errors="ignore") if unseen else other
    return make_model("kg", kg.with_features(name, table))


def main() -> None:
    from kgnn.models.baselines.vectors import graph_vectors

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data", "--kg", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="+", help="models")
    parser.add_argument("--folds", nargs="+", choices=KINDS, default=KINDS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    kg = human_graph(args.kg)
    vectors = graph_vectors(kg, 0)
    screens = {line: scores_of(args.data / f"{line}_uprank.parquet") for line in ("k562", "rpe1")}
    rows = []
    for line, y in screens.items():
        made = makers(kg, vectors, screens["k562"] if line == "rpe1" else None)
        for kind in KINDS:
            fold = folds(kind, y.index, kg)
            for name, make in made.items():
                path = args.out / f"{line}-{kind}-{name.replace(' ', '_').replace(',', '')}.csv"
                if not path.exists() and kind in args.folds and (args.only is None or name in args.only):
                    start = time.perf_counter()
                    jobs = [delayed(fold_scores)(y, fold == one, make) for one in np.unique(fold)]
                    table = pd.concat(Parallel(args.processes)(jobs)).loc[y.index].round(4)
                    table.to_csv(path)
                    print(line, kind, name, f"{time.perf_counter() - start:.0f} s", flush=True)
                if path.exists():
                    found = pd.read_csv(path)
                    scores = {score: interval(found[score].dropna().to_numpy()) for score in ("plain", "centred")}
                    scores["MSE ratio"] = f"{found['error'].sum() / found['of_mean'].sum():.3f}"
                    rows.append({"screen": line, "folds": kind, "model": name} | scores)
                    pd.DataFrame(rows).to_csv(args.out / "summary.csv", index=False)
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
