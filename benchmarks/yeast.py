"""Yeast regulators deleted, or induced for 15 minutes: 179 regulators × 573 genes, log2 fold change.

    python -m benchmarks.yeast --data ../shared/data --out benchmarks/results/yeast

Five random folds of regulators. Graph: YEASTRACT's edges (binding and expression evidence, some of it from these very
deletions: partly circular), motif hits in promoters (sequence alone), STRING's actions; all of them, each alone, their
controls, and the other screen's effects as gene features, of all regulators or without those that are predicted. None
of the perturbed genes is measured. Resumable: a file a screen × model.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from benchmarks.upranks import fold_scores, interval, plain_model, with_screen
from kgnn import KnowledgeGraph
from kgnn.graph import load_table

FILES = {
    "deletion": "deletion_kemmeren2014.tsv.gz",
    "induction": "induction15min_hackett2020.tsv.gz",
}
MOTIFS, CIRCULAR, STRING = "motifs", "YEASTRACT", "STRING"


def yeast_graph(data: Path) -> KnowledgeGraph:
    """The three sources, systematic names."""
    folder = data / "yeast_network"
    told = pd.read_csv(data / "yeast_tf_ko_and_induction" / "yeast_gene_names.tsv", sep="\t", header=None, dtype=str)
    told = told.dropna(subset=[0, 2])
    systematic = dict(zip(told[2], told[0], strict=True))
    edges = pd.read_csv(folder / "yeastract_2019_both.tsv.gz", sep="\t").replace(systematic)
    regulation = load_table(edges, source="tf", target="target", relation="regulates", origin=CIRCULAR)
    hits = pd.read_csv(folder / "motif_prior.tsv.gz", sep="\t")
    motifs = load_table(hits, source="tf", target="target", relation="binds_promoter", origin=MOTIFS)
    actions = pd.read_csv(folder / "string_actions_scores.tsv.gz", sep="\t")
    actions["weight"] = actions.drop(columns=["Source", "Target"]).max(axis=1) / 1000
    string = load_table(
        actions, source="Source", target="Target", relation="acts", weight="weight", undirected=True, origin=STRING
    )
    return KnowledgeGraph.merge([regulation, motifs, string])


def makers(kg: KnowledgeGraph, other: pd.DataFrame) -> dict[str, object]:
    graphs = {
        "kg": kg,
        "kg, YEASTRACT alone": kg.only_sources(CIRCULAR),
        "kg, motifs alone": kg.only_sources(MOTIFS),
        "kg, STRING alone": kg.only_sources(STRING),
        "kg, without YEASTRACT": kg.drop_source(CIRCULAR),
        "kg, nodes permuted": kg.permute(0),
        "kg, rewired": kg.rewire(0),
        "kg, no graph": None,
    }
    found: dict[str, object] = {name: partial(plain_model, "kg", graph) for name, graph in graphs.items()}
    found |= {name: partial(plain_model, name, None) for name in ("mean", "no_change")}
    found["kg and the other screen"] = partial(with_screen, kg, "the other screen", other, False)
    found["kg and the other screen, unseen there too"] = partial(with_screen, kg, "the other screen", other, True)
    found["embedding_ridge on the other screen"] = partial(plain_model, "embedding_ridge", None, vectors=other)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    kg = yeast_graph(args.data)
    folder = args.data / "yeast_tf_ko_and_induction"
    screens = {name: pd.read_csv(folder / file, sep="\t", index_col=0) for name, file in FILES.items()}
    rows = []
    for screen, y in screens.items():
        fold = np.random.default_rng(0).permutation(np.arange(len(y)) % 5)
        other = screens["induction" if screen == "deletion" else "deletion"]
        for name, make in makers(kg, other).items():
            path = args.out / f"{screen}-{name.replace(' ', '_').replace(',', '')}.csv"
            if not path.exists():
                jobs = [delayed(fold_scores)(y, fold == one, make) for one in range(5)]
                pd.concat(Parallel(args.processes)(jobs)).loc[y.index].round(4).to_csv(path)
            found = pd.read_csv(path)
            scores = {score: interval(found[score].dropna().to_numpy()) for score in ("plain", "centred")}
            scores["MSE ratio"] = f"{found['error'].sum() / found['of_mean'].sum():.3f}"
            rows.append({"screen": screen, "model": name} | scores)
            pd.DataFrame(rows).to_csv(args.out / "summary.csv", index=False)
            print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
