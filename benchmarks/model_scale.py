"""How long the default model takes on screens of real size, and how much memory.

    python -m benchmarks.model_scale --data ../shared/data

Replogle et al. 2022, genome-wide: 6,773 knock-downs × 6,882 genes, changed or not, with the whole human graph; parts of
it for the growth in conditions. Each size in a process of its own, on one thread: CPU seconds of `fit` and of `predict`
of 1,000 conditions, and the peak of memory, that of reading the graph (about 1 GB) included.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.machine import describe

SIZES = (500, 1000, 2000, 4000, 6773)


def one(data: Path, n: int) -> dict[str, float]:
    """Fit on `n` conditions, predict 1,000."""
    import torch
    from threadpoolctl import threadpool_limits

    from benchmarks.human_graph import human_graph
    from kgnn import PerturbationModel
    from kgnn.data import effects
    from kgnn.errors import DataWarning

    torch.set_num_threads(1)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        kg = human_graph(data / "kg")
        stored = np.load(data / "replogle_affected" / "k562_affected.npz", allow_pickle=False)
        genes = pd.Index(stored["genes"].astype(str))
        changed = np.unpackbits(stored["affected"], axis=1)[:, : len(genes)]
        table = pd.DataFrame(changed.astype(np.float32), stored["perturbed"].astype(str), genes)
        table = table[~table.index.duplicated()].sample(min(n, len(table)), random_state=0)
        answers = effects(table, kind="binary")
        start = time.process_time()
        model = PerturbationModel(kg).fit(answers)
        fitted = time.process_time()
        names = list(model.perturbable_.difference(table.index, sort=False)[:1000])
        start_predicting = time.process_time()
        model.predict(names)
        end = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "conditions": len(table),
        "genes": len(genes),
        "fit, CPU s": round(fitted - start, 1),
        "predict 1,000, CPU s": round(end - start_predicting, 1),
        "peak, GB": round(peak, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/model_scale.csv"))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.data, args.one)))
        return
    rows = []
    for size in args.sizes:
        command = [sys.executable, "-m", "benchmarks.model_scale", "--data", str(args.data), "--one", str(size)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append(json.loads(out.splitlines()[-1]))
        print(rows[-1], flush=True)
        pd.DataFrame(rows).to_csv(args.out, index=False)
    args.out.with_suffix(".json").write_text(json.dumps(describe(), indent=1))


if __name__ == "__main__":
    main()
