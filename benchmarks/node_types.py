"""Which knowledge contributes most? The default model on the human graph without each part of it, and on each alone.

    python -m benchmarks.node_types --data ../shared/data

Parts: each type of nodes beside genes with all edges that touch it, all edges among genes, and each source of those
that have several. All nodes stay. Up-ranks of K562 and RPE1 by their random and cluster folds, as `benchmarks.upranks`
scores them: centred correlation, and its difference to the whole graph, paired by knock-down; 95 % intervals by a
bootstrap over knock-downs. Resumable: a file a screen, folds and graph under benchmarks/work/node_types; prints a table
and writes it to benchmarks/results/node_types.csv.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from benchmarks.human_graph import human_graph
from benchmarks.upranks import KINDS, fold_scores, folds, interval, plain_model, scores_of
from kgnn import KnowledgeGraph

OUT, WORK = Path("benchmarks/results/node_types.csv"), Path("benchmarks/work/node_types")
SCREENS = ("k562", "rpe1")


class Variant(NamedTuple):
    """The whole graph, the graph without some sources, or these alone."""

    name: str
    how: str
    origins: tuple[str, ...] = ()

    def graph(self, kg: KnowledgeGraph) -> KnowledgeGraph:
        if self.how == "whole":
            return kg
        return kg.drop_source(*self.origins) if self.how == "without" else kg.only_sources(*self.origins)

    def path(self, screen: str, kind: str) -> Path:
        return WORK / f"{screen}-{kind}-{'-'.join([self.how, *self.origins])}.csv"


def parts(kg: KnowledgeGraph, sources: bool = True) -> dict[str, tuple[str, ...]]:
    """Each part of the graph and its sources, or those by node types alone; each source is taken to tell of one
    relation."""
    groups: dict[str, dict[str, str]] = {}
    for relation in kg.relations:
        kind = next((kind for kind in relation[::2] if kind != "gene"), "among genes")
        groups.setdefault(kind, {}).update(dict.fromkeys(kg.tables.table(relation)["origin"], relation[1]))
    found = {f"{kind} ({', '.join(sorted(group))})": tuple(sorted(group)) for kind, group in groups.items()}
    several = [group for group in groups.values() if len(group) > 1 and sources]
    return found | {f"{name} ({origin})": (origin,) for group in several for origin, name in sorted(group.items())}


def variants(kg: KnowledgeGraph, sources: bool = True) -> list[Variant]:
    """The whole graph; without each part; each part alone."""
    found = [Variant("whole graph", "whole")]
    for part, origins in parts(kg, sources).items():
        found += [Variant(f"without {part}", "without", origins), Variant(f"{part} alone", "alone", origins)]
    return found


def linked(kg: KnowledgeGraph, names: pd.Index) -> float:
    """Share of the knock-downs with an edge."""
    ends = [
        kg.nodes("gene").index[np.unique(table[side])]
        for relation, table in ((relation, kg.tables.table(relation)) for relation in kg.relations)
        for side, kind in (("source", relation[0]), ("target", relation[2]))
        if kind == "gene"
    ]
    return float(names.isin(np.concatenate(ends)).mean())


def run(path: Path, y: pd.DataFrame, fold: np.ndarray, kg: KnowledgeGraph, variant: Variant) -> None:
    make = partial(plain_model, "kg", variant.graph(kg))
    tables = [fold_scores(y, fold == one, make) for one in np.unique(fold)]
    pd.concat(tables).loc[y.index].round(4).to_csv(path)


def compared(screen: str, kind: str, y: pd.DataFrame, kg: KnowledgeGraph) -> Iterator[dict[str, object]]:
    """A row a graph: edges, share of the knock-downs that it links, centred correlation, less that of the whole."""
    whole = pd.read_csv(Variant("", "whole").path(screen, kind))["centred"]
    for variant in variants(kg):
        if not variant.path(screen, kind).exists():
            continue  # not run yet
        graph, centred = variant.graph(kg), pd.read_csv(variant.path(screen, kind))["centred"]
        edges = sum(len(graph.tables.table(relation)) for relation in graph.relations)
        yield {
            **{"screen": screen, "folds": kind, "graph": variant.name, "edges": edges},
            "linked": round(linked(graph, y.index), 3),
            "centred": interval(centred.to_numpy()),
            "difference": interval((centred - whole).to_numpy()) if variant.how != "whole" else "",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--screens", nargs="+", choices=SCREENS, default=SCREENS)
    parser.add_argument("--types", action="store_true", help="node types alone, not each source")
    parser.add_argument("--folds", nargs="+", choices=KINDS, default=KINDS)
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    kg = human_graph(args.data / "kg")
    screens = {line: scores_of(args.data / "replogle_upranks" / f"{line}_uprank.parquet") for line in args.screens}
    fold = {(line, kind): folds(kind, screens[line].index, kg) for line, kind in product(args.screens, args.folds)}
    jobs = [
        (variant.path(*task), screens[task[0]], fold[task], kg, variant)
        for task, variant in product(fold, variants(kg, not args.types))
    ]
    Parallel(args.processes, verbose=5)(delayed(run)(*job) for job in jobs if not job[0].exists())
    rows = [row for line, kind in fold for row in compared(line, kind, screens[line], kg)]
    summary = pd.DataFrame(rows)
    summary.to_csv(OUT, index=False)
    print(summary.to_string(index=False))


if __name__ == "__main__":
    main()
