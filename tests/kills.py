"""Kill, interrupt and resume trainings at random moments: the result is that of the run that nobody touched.

python -m tests.kills [--trials 20] [--seed 0] [--only train pretrain]
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from kgnn.data import simulate, simulate_atlas

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
COMMANDS = {
    "train": ["--model", "gears"],
    "pretrain": ["--label", "true_type", "--channels", "16", "--validation", "0.2"],
}
RESULT = ("arrays.safetensors", "config.json", "split.json")
console = Console()


class Trial(NamedTuple):
    """signal sent; seconds after training began; exit status; epochs behind the checkpoint; what was wrong, or ''."""

    signal: str
    seconds: float
    status: int
    checkpoint: bool
    wrong: str


def kgnn(*arguments: object) -> subprocess.Popen:
    """Start the command line in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from kgnn.cli import main; main()", *map(str, arguments)]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, **options)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    text, _ = process.communicate(timeout=600)
    return process.returncode, text


def trial(folder: Path, command: str, data: Path, number: signal.Signals, seconds: float, extra: list[str]) -> Trial:
    """Stop one training at a moment, go on with it until it ends, and compare."""
    out, wrong = folder / "run", ""
    process = kgnn(command, data, "-o", out, *COMMANDS[command], *extra)
    while process.poll() is None and not (out / "training.json").exists():
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(number)
    status, text = finish(process)
    checkpoint = (out / "checkpoints" / "last.ckpt").exists()
    ended = not (out / "training.json").exists()
    if status not in (SIGNALS[number], *((0, -number) if ended else ())):
        wrong = f"exit status {status}: {text[-300:]}"
    elif status in (130, 143) and "--resume" not in text:
        wrong = f"nothing said of how to go on: {text[-300:]}"
    elif not ended:
        again, text = finish(kgnn(command, "--resume", out))
        wrong = f"resume ended with {again}: {text[-300:]}" if again else ""
    if not wrong:
        whole = [name for name in RESULT if (folder / "untouched" / name).exists()]  # no split of pretrain
        same = [(out / name).read_bytes() == (folder / "untouched" / name).read_bytes() for name in whole]
        left = sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
        wrong = "" if all(same) else "the result differs"
        wrong = wrong or (f"left behind: {left}" if left and not (ended and number == signal.SIGKILL) else "")
    subprocess.run(["rm", "-rf", str(out)], check=True)
    return Trial(number.name, seconds, status, checkpoint, wrong)


def trials(folder: Path, command: str, n: int, seed: int, extra: list[str]) -> list[Trial]:
    """Stop a training n times, at random moments between its first step and its end."""
    rng = random.Random(seed)
    data = folder / f"{command}.h5ad"
    if command == "train":
        adata = simulate(n_genes=100, n_singles=20, n_pairs=5, cells_per_condition=60, seed=0)
        del adata.varm["true_delta"]
    else:
        adata = simulate_atlas(cells_per_type=20, seed=0)
    adata.write_h5ad(data)
    began = time.perf_counter()
    process = kgnn(command, data, "-o", folder / "untouched", *COMMANDS[command], *extra)
    while process.poll() is None and not (folder / "untouched" / "training.json").exists():
        time.sleep(0.01)
    began = time.perf_counter()
    status, text = finish(process)
    assert status == 0, text
    length = time.perf_counter() - began
    found = []
    for turn in range(n):
        number = list(SIGNALS)[turn % len(SIGNALS)]
        found.append(trial(folder, command, data, number, rng.uniform(0, length), extra))
        console.print(f"{command} {turn + 1} of {n}: {json.dumps(found[-1]._asdict())}", soft_wrap=True, markup=False)
    return found


def main() -> int:
    """Run the trials; the exit status is 1 when any went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(COMMANDS))
    options = parser.parse_args()
    wrong = 0
    for command in options.only:
        with tempfile.TemporaryDirectory() as folder:
            found = trials(Path(folder), command, options.trials, options.seed, ["--epochs", "40"])
        bad = [one for one in found if one.wrong]
        wrong += len(bad)
        went_on = sum(one.checkpoint for one in found)
        console.print(f"{command}: {len(found)} trials, {went_on} with a checkpoint behind them, {len(bad)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
