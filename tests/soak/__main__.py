"""Hard knocks: another user, hostile files, damage, kills, writers side by side, full disks, names, two hundred rounds.

python -m tests.soak [--form short|medium|long] [--seed 0] [--only damage kills parallel disk names user rounds …]
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from tests import kills
from tests.soak.damage import damage
from tests.soak.hostile import hostile
from tests.soak.surroundings import disk, names, rounds
from tests.soak.together import killed, parallel
from tests.soak.user import another_user

FORMS = {  # hostile files, damage, kills, seconds of writers, disks, rounds, stopped trainings
    "short": (200, 300, 30, 5, 10, 0, 0),
    "medium": (10_000, 2_000, 200, 20, 30, 60, 3),
    "long": (10_000, 10_000, 1_000, 60, 100, 200, 30),
}
PARTS = ("user", "hostile", "damage", "kills", "parallel", "disk", "names", "rounds", "trainings")
console = Console()


def trainings(folder: Path, n: int, seed: int) -> dict[str, Any]:
    """Trainings stopped at random moments, see `tests.kills`."""
    found = kills.trials(folder, "train", n, seed, ["--epochs", "10"])
    return {"stopped": n, "wrong": sum(bool(one.wrong) for one in found)}


def main() -> int:
    """Run the parts; the exit status is 1 when anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--form", choices=FORMS, default="short")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS)
    given = parser.parse_args()
    n_hostile, n_damage, n_kills, seconds, n_disks, n_rounds, n_trainings = FORMS[given.form]
    parts: dict[str, tuple[int, Callable[[Path], dict[str, Any]]]] = {
        "user": (1, another_user),  # first: it sets how numba has its threads
        "hostile": (n_hostile, lambda folder: hostile(folder, n_hostile, given.seed)),
        "damage": (n_damage, lambda folder: damage(folder, n_damage, given.seed)),
        "kills": (n_kills, lambda folder: killed(folder, n_kills, given.seed)),
        "parallel": (seconds, lambda folder: parallel(folder, seconds)),
        "disk": (n_disks, lambda folder: disk(folder, n_disks, given.seed)),
        "names": (1, names),
        "rounds": (n_rounds, lambda folder: rounds(n_rounds)),
        "trainings": (n_trainings, lambda folder: trainings(folder, n_trainings, given.seed)),
    }
    wrong = 0
    for name, (n, part) in parts.items():
        if n and name in (given.only or parts):
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                found = part(Path(folder))
            wrong += found["wrong"]
            took = {"seconds in all": round(time.perf_counter() - began)}
            console.print(f"{name}: {json.dumps(found | took)}", soft_wrap=True, markup=False)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
