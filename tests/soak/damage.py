"""Folders with one file hurt: is it told?"""

import json
import os
import random
import resource
import shutil
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from safetensors.numpy import load_file, save_file

from kgnn.errors import InputError
from kgnn.folders import LIST
from tests.folders import sealed_again
from tests.fuzz import mutate
from tests.soak.made import Answer, forked, make

MEMORY, SECONDS, BATCH = 6 << 30, 60, 25
console = Console()


class TooSlow(BaseException):
    """No `Exception`, which a reader tells as damage."""


def _stop(*_: Any) -> None:
    raise TooSlow(f"not done after {SECONDS} s")


def damage(folder: Path, n: int, seed: int) -> dict[str, Any]:
    """Mutate folders of every kind, half of them with hashes that fit again; count what reading and using them gives.

    `silent`: another result although the hashes were left; `other`: another result of hashes that fit again.
    """
    made = make(folder)
    expected = {name: answer(path) for name, (path, answer) in made.items()}
    found: Counter[str] = Counter()
    for first in range(0, n, BATCH):
        numbers = list(range(first, min(n, first + BATCH)))
        while numbers:
            told, dead = forked(lambda todo=numbers: trials(folder, made, expected, todo, seed))
            for text in told:
                found[text.partition(":")[0]] += 1
                if text.startswith(("silent", "raw")) or "KGNN_SOAK_ALL" in os.environ:
                    console.print(text, soft_wrap=True, markup=False)
            numbers = numbers[len(told) :]
            if dead and numbers:
                console.print(f"crash: trial {numbers[0]} ended with {dead}", markup=False)
                found["crash"] += 1
                numbers = numbers[1:]
    wrong = found["silent"] + found["raw"] + found["crash"]
    return {"mutations": n, "wrong": wrong, **dict(sorted(found.items()))}


def trials(folder: Path, made: Any, expected: dict[str, bytes], numbers: list[int], seed: int) -> Iterator[str]:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for number in numbers:
        rng = random.Random(f"{seed} {number}")
        name = rng.choice(list(made))
        path, answer = made[name]
        copy = folder / "copies" / f"{number}"
        shutil.copytree(path, copy)
        again = rng.random() < 0.5
        what = hurt(copy, [other for other, _ in made.values()], rng, () if not again else (LIST,))
        if again:
            what += ", hashes fit"
            sealed_again(copy)
        yield outcome(copy, answer, expected[name], again, f"{name} {number}, {what}")
        shutil.rmtree(copy)


def outcome(copy: Path, answer: Answer, expected: bytes, again: bool, what: str) -> str:
    """How reading and using a hurt folder ended."""
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            same = answer(copy) == expected
        return f"same: {what}" if same else f"other: {what}" if again else f"silent: {what}"
    except InputError as error:
        return f"own error: {what}: {error}"
    except (Exception, TooSlow):
        return f"raw: {what}: {traceback.format_exc(limit=-3)}"
    finally:
        signal.alarm(0)


def hurt(folder: Path, all_folders: list[Path], rng: random.Random, but: tuple[str, ...]) -> str:
    """Damage one file, or two, of a folder, none of the name `but`; what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in but)
    file = rng.choice(files)
    arrays = [path for path in files if path.suffix == ".safetensors"]
    kind = rng.choice(["bit", "cut", "bytes", "swap", "foreign", "lost", *["json"] * 3, *["array"] * 3 * bool(arrays)])
    data = bytearray(file.read_bytes())
    if kind == "json":
        file = rng.choice([path for path in files if path.suffix == ".json"])
        value = json.loads(file.read_text())
        _change(value, rng)
        file.write_text(json.dumps(value))
    elif kind == "array":
        file = rng.choice(arrays)
        values = load_file(file)
        _change_array(values, rng)
        save_file(values, file)
    elif kind == "bit":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
    elif kind == "cut":
        os.truncate(file, rng.randrange(len(data)))
    elif kind == "bytes":
        file.write_bytes(mutate(bytes(data), rng))
    elif kind == "swap":
        other = rng.choice(files)
        one, two = file.read_bytes(), other.read_bytes()
        file.write_bytes(two)
        other.write_bytes(one)
    elif kind == "foreign":
        others = [path for where in all_folders for path in where.rglob(file.name) if path.is_file()]
        shutil.copyfile(rng.choice(others), file)
    else:
        file.unlink()
    return f"{kind} of {file.relative_to(folder)}"


def _change(value: Any, rng: random.Random) -> None:
    """Change one value, deep in JSON or on its top."""
    odd = [None, True, -1, 0, 3, 10**6, 10**40, 0.5, float("nan"), "", "x", "../x", [], {}, [None], {"x": 1}]
    while isinstance(value, dict | list) and value:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        if not isinstance(value[key], dict | list) or not value[key] or rng.random() < 0.3:
            if rng.random() < 0.2:
                del value[key]
            else:
                value[key] = rng.choice(odd)
            return
        value = value[key]


def _change_array(values: dict[str, np.ndarray], rng: random.Random) -> None:
    """Change a number, the shape or the type of one array, or lose it."""
    name = rng.choice(sorted(values))
    array = values[name].copy()
    if array.size and rng.random() < 0.7:
        whole = [-1, 1, 10**6, np.iinfo(array.dtype).max, np.iinfo(array.dtype).min] if array.dtype.kind == "i" else []
        with np.errstate(all="ignore"):
            array.flat[rng.randrange(array.size)] = rng.choice(whole or [np.nan, np.inf, -1e30, 1e30, 0.5])
    else:
        changed = [
            array[:-1],
            array.reshape(-1),
            array.astype(np.float16),
            array.astype(np.int32),
            np.stack([array] * 2),
        ]
        array = rng.choice(changed if array.ndim else changed[1:])
    values[name] = np.ascontiguousarray(array)
    if rng.random() < 0.1:
        del values[name]
