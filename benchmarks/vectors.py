"""Do vectors of a graph's nodes that were trained on its edges help to predict perturbations?

    python -m benchmarks.vectors --data ../shared/data

Gene vectors of the human graph, 64 channels: of a `LinkModel` (ComplEx, negatives matched in degree), node2vec and
spectral embeddings of the whole graph, and those of links dealt to other genes. Alone in `embedding_ridge`, and those
of links as gene features beside the graph of the default model. Up-ranks by their random folds, PerturbQA's tasks by
their split, as `benchmarks.upranks` and `benchmarks.perturbqa` score them. And in the tokens of a `CellModel`: squared
error of masked values of PBMCs after training on 200 others, as in `benchmarks.cell_models`, three seeds. Resumable: a
file a task, model and kind of vectors under benchmarks/work/vectors; prints a table and writes it to
benchmarks/results/vectors.csv.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from benchmarks.cell_models import error_with
from benchmarks.human_graph import human_graph
from benchmarks.perturbqa import predict, spread
from benchmarks.upranks import fold_scores, folds, interval, scores_of
from kgnn import KnowledgeGraph, LinkModel
from kgnn.evaluation.metrics.gene_auc import gene_auc
from kgnn.graph import embed_graph
from kgnn.models import make_model

OUT, WORK = Path("benchmarks/results/vectors.csv"), Path("benchmarks/work/vectors")
CHANNELS, EPOCHS = 64, 10
CELLS, SEEDS = 200, range(3)
DEALT = "links, dealt to other genes"
KINDS = {
    "embedding_ridge": ("links", "node2vec", "spectral", DEALT),
    "kg": ("none", "links", DEALT),
    "CellModel": ("none", "links", "node2vec", "spectral", DEALT),
}
LINES = {"k562": "K562", "hepg2": "HepG2"}
TASKS = [("k562", "de"), ("k562", "dir"), ("hepg2", "de"), ("hepg2", "dir")]


def vectors(kg: KnowledgeGraph) -> dict[str, pd.DataFrame | None]:
    """Each kind of gene vectors, [genes, channels]; made once and kept."""
    path = WORK / "links.parquet"
    if not path.exists():
        model = LinkModel(kg, negatives="degree", channels=CHANNELS).fit(max_epochs=EPOCHS, batch_size=4096)
        table = model.embeddings()["gene"]
        table.columns = table.columns.astype(str)
        table.to_parquet(path)
    links = pd.read_parquet(path)
    found = {"none": None, "links": links}
    for method in ("node2vec", "spectral"):
        path = WORK / f"{method}.parquet"
        if not path.exists():
            table = embed_graph(kg, method, dim=CHANNELS, whole=True)
            table.columns = table.columns.astype(str)
            table.to_parquet(path)
        found[method] = pd.read_parquet(path)
    order = np.random.default_rng(0).permutation(len(links))
    return found | {DEALT: links.iloc[order].set_axis(links.index)}


def make(kg: KnowledgeGraph, model: str, table: pd.DataFrame | None, _held_out: object = None) -> object:
    if model == "kg":
        return make_model("kg", kg if table is None else kg.with_features("vectors", table))
    return make_model(model, vectors=table)


def upranks(path: Path, y: pd.DataFrame, fold: np.ndarray, maker: partial) -> None:
    pd.concat([fold_scores(y, fold == one, maker) for one in np.unique(fold)]).loc[y.index].round(4).to_csv(path)


def questions(path: Path, file: Path, maker: partial) -> None:
    table = pd.read_csv(file)
    test = table[table["split"] == "test"].reset_index(drop=True)
    score, _ = predict(table[table["split"] == "train"], test, maker)
    scored = test.assign(score=score)
    low, high = spread(scored)
    row = {"auc": gene_auc(scored)["auc"].mean(), "low": low, "high": high}
    pd.DataFrame([row]).round(4).to_csv(path, index=False)


def tokens(path: Path, table: pd.DataFrame | None) -> None:
    given = {} if table is None else {"vectors": table}
    errors = [error_with(given, seed, CELLS) for seed in SEEDS]
    pd.DataFrame({"seed": SEEDS, "value": errors}).round(4).to_csv(path, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    kg = human_graph(args.data / "kg")
    jobs, rows = [], {}
    made = vectors(kg)
    for model, kinds in KINDS.items():
        for kind in kinds:
            if model == "CellModel":
                path = WORK / f"pbmc-{kind.replace(' ', '_').replace(',', '')}.csv"
                rows[model, kind, "PBMCs, masked values"] = path
                if not path.exists():
                    jobs.append(delayed(tokens)(path, made[kind]))
                continue
            maker, name = partial(make, kg, model, made[kind]), f"{model}-{kind.replace(' ', '_').replace(',', '')}.csv"
            for line in ("k562", "rpe1"):
                path = WORK / f"{line}-upranks-{name}"
                rows[model, kind, f"up-ranks, {line.upper()}, centred"] = path
                if not path.exists():
                    y = scores_of(args.data / "replogle_upranks" / f"{line}_uprank.parquet")
                    jobs.append(delayed(upranks)(path, y, folds("random", y.index, kg), maker))
            for line, task in TASKS:
                path = WORK / f"{line}-{task}-{name}"
                rows[model, kind, f"{LINES[line]}, {task.upper()}"] = path
                if not path.exists():
                    jobs.append(delayed(questions)(path, args.data / "perturbqa" / f"{line}-{task}.csv.gz", maker))
    Parallel(args.processes, verbose=5)(jobs)
    told: dict[tuple[str, str], dict[str, str]] = {}
    for (model, kind, task), path in rows.items():
        told.setdefault((model, kind), {})[task] = _told(pd.read_csv(path))
    summary = pd.DataFrame.from_dict(told, orient="index").fillna("")
    summary = summary.rename_axis(["model", "vectors"]).reset_index()
    summary.to_csv(OUT, index=False)
    print(summary.to_string(index=False))


def _told(table: pd.DataFrame) -> str:
    if "auc" in table:
        return f"{table['auc'][0]:.3f} ({table['low'][0]:.3f}–{table['high'][0]:.3f})"
    if "value" in table:
        return f"{table['value'].mean():.3f} ± {table['value'].std():.3f}"
    return interval(table["centred"].dropna().to_numpy())


if __name__ == "__main__":
    main()
