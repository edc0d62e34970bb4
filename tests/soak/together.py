"""Writers that are killed, and writers and readers of one folder side by side."""

import itertools
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from kgnn.errors import InputError
from kgnn.models import PerturbationModel
from tests.soak.made import forked, network, of_model, screen

WRITERS, READERS = 10, 3
WRONG = ("lost", "mixed", "left", "died")  # died: of itself, before it was killed
console = Console()


def two(folder: Path) -> tuple[list[Any], list[bytes]]:
    """Two models that differ, and what each answers."""
    adata = screen()
    models = [PerturbationModel(network(adata).rewire(seed)).fit(adata) for seed in (0, 1)]
    for number, model in enumerate(models):
        model.save(folder / f"model{number}")
    return models, [of_model(folder / f"model{number}") for number in (0, 1)]


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def killed(folder: Path, n: int, seed: int) -> dict[str, Any]:
    """Kill a process that replaces a model over and over: a model is there whole, and the next save tidies up."""
    models, answers = two(folder)
    rng = random.Random(seed)
    found = Counter({"lost": 0, "mixed": 0, "left": 0, "died": 0, "hidden before the next save": 0})
    path = folder / "at" / "m"
    models[0].save(path)
    for _ in range(n):
        child = os.fork()
        if child == 0:
            try:
                for model in itertools.cycle(models):
                    model.save(path)
            finally:  # a writer that fails is none of the parent's
                traceback.print_exc()
                os._exit(1)
        time.sleep(rng.uniform(0, 0.4))
        os.kill(child, signal.SIGKILL)
        found["died"] += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL
        found["hidden before the next save"] += bool(hidden(path.parent))
        try:
            found["mixed"] += of_model(path) not in answers
        except InputError as error:
            console.print(f"lost: {error}", markup=False)
            found["lost"] += 1
        models[0].save(path)
        found["left"] += bool(hidden(path.parent))
    return {"kills": n, "wrong": sum(found[what] for what in WRONG), **found}


def parallel(folder: Path, seconds: int) -> dict[str, Any]:
    """Ten processes replace one model, three read it."""
    models, answers = two(folder)
    path, end = folder / "at" / "m", time.time() + seconds
    models[0].save(path)

    def writing(number: int) -> Iterator[str]:
        while time.time() < end:
            models[number % 2].save(path)
            yield "saved"

    def reading(number: int) -> Iterator[str]:
        while time.time() < end:
            try:
                yield "read" if of_model(path) in answers else "mixed"
            except InputError as error:
                yield "replaced too often" if "was replaced" in str(error) else f"error: {error}"

    found = side_by_side([*[writing] * WRITERS, *[reading] * READERS])
    wrong = sum(n for what, n in found.items() if what.startswith(("mixed", "error", "died")))
    wrong += bool(hidden(path.parent))
    return {"writers": WRITERS, "readers": READERS, "seconds": seconds, "wrong": wrong, **found}


def side_by_side(works: list[Callable[[int], Iterator[str]]]) -> Counter[str]:
    with ThreadPoolExecutor(len(works)) as pool:
        ends = list(pool.map(lambda item: forked(lambda: item[1](item[0])), enumerate(works)))
    found = Counter(text for told, _ in ends for text in told)
    found.update(f"died: {status}" for _, status in ends if status)
    return found
