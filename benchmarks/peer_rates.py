"""Learning rate of the peers for tables of effects, on an inner fold that no test knock-down is in.

    python -m benchmarks.peer_rates --data ../shared/data/replogle_upranks --kg ../shared/data/kg

One of five random folds of the training part of the first random fold of K562's up-ranks is predicted at each of
three rates; the best centred correlation counts, in all benchmarks on tables of effects. Resumable: a row a setting in
benchmarks/results/peer_rates.csv.
"""

import argparse
import itertools
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from benchmarks import tasks
from benchmarks.human_graph import human_graph
from benchmarks.upranks import fold_scores, folds, scores_of, trained
from kgnn import KnowledgeGraph

RATES = (0.001, 0.003, 0.01)


def score(y: pd.DataFrame, test: np.ndarray, kg: KnowledgeGraph, name: str, rate: float) -> dict:
    """Centred correlation of one setting and its wall clock."""
    start = time.perf_counter()
    found = fold_scores(y, test, partial(trained, partial(tasks.Stepped, kg, name, rate)))
    row = {"model": name, "rate": rate, "centred": round(float(found["centred"].mean()), 4)}
    return row | {"seconds": round(time.perf_counter() - start)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data", "--kg"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=tasks.PEERS, default=tasks.PEERS)
    args = parser.parse_args()
    kg = human_graph(args.kg)
    y = scores_of(args.data / "k562_uprank.parquet")
    inner = y[folds("random", y.index, kg) != 0]
    test = folds("random", inner.index, kg, seed=1) == 0
    rows = pd.read_csv(tasks.RATES).to_dict("records") if tasks.RATES.exists() else []
    done = {(row["model"], row["rate"]) for row in rows}
    settings = [one for one in itertools.product(args.only, RATES) if one not in done]
    jobs = (delayed(score)(inner, test, kg, *one) for one in settings)
    for row in Parallel(args.processes, return_as="generator_unordered")(jobs):
        rows.append(row)
        print(row, flush=True)
        table = pd.DataFrame(rows).sort_values(["model", "rate"])
        table.to_csv(tasks.RATES, index=False)


if __name__ == "__main__":
    main()
