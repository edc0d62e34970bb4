"""Hard knocks for folders: damage, kills, writers side by side, full disks, hostile names, two hundred rounds.

python -m tests.soak [--form short|medium|long] [--seed 0] [--only damage kills parallel disk names rounds trainings]
"""

import argparse
import hashlib
import itertools
import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from safetensors.numpy import load_file, save_file

from kgnn.benchmark import run_benchmark
from kgnn.data import simulate, simulate_atlas
from kgnn.errors import InputError, OutputError
from kgnn.evaluation.runs import KIND, RUN, SCORES
from kgnn.files import new_file, read_json
from kgnn.folders import LIST, read_folder
from kgnn.graph import KnowledgeGraph, load_table
from kgnn.models import CellModel, PerturbationModel, load_model
from tests import kills
from tests.folders import sealed_again
from tests.fuzz import mutate

FORMS = {  # damage, kills, seconds of writers, disks, rounds, stopped trainings
    "short": (300, 30, 5, 10, 0, 0),
    "medium": (2_000, 200, 20, 30, 60, 3),
    "long": (10_000, 1_000, 60, 100, 200, 30),
}
ASKED = ["G001", "G003+G004"]
MEMORY, SECONDS, BATCH = 6 << 30, 60, 25
WRITERS, READERS = 10, 3
console = Console()
Answer = Callable[[Path], bytes]


def screen() -> Any:
    """A simulated screen without what only its simulation knows."""
    adata = simulate(n_genes=60, n_singles=12, n_pairs=4, cells_per_condition=20, seed=0)
    del adata.varm["true_delta"]
    return adata


def network(adata: Any) -> KnowledgeGraph:
    table = np.random.default_rng(0).normal(size=(adata.n_vars, 3))
    kg = load_table(adata.uns["network"], relation="regulates", origin="network")
    return kg.with_features("own", pd.DataFrame(table, adata.var_names))


def digest(*parts: Any) -> bytes:
    return hashlib.sha256(pickle.dumps(parts)).digest()


def of_graph(path: Path) -> bytes:
    kg = KnowledgeGraph.load(path)
    edges = [kg.edges(relation).to_numpy().tolist() for relation in kg.relations]
    return digest(kg.relations, edges, [list(kg.nodes(kind).index) for kind in kg.node_types], kg.account)


def of_model(path: Path) -> bytes:
    found = load_model(path).predict(ASKED)
    return digest(found.X.tobytes(), list(found.var_names), str(found.uns["kgnn"]["encoder"]))


def of_cells(path: Path) -> bytes:
    model = CellModel.load(path)
    adata = simulate_atlas(n_genes=40, branches=(2, 2), cells_per_type=3)
    found = model.annotate(adata)
    return digest(found.to_numpy().tolist(), model.gene_embeddings().to_numpy().tobytes())


def of_run(path: Path) -> bytes:
    return read_folder(path, KIND, lambda run: digest((run / SCORES).read_bytes(), read_json(run / RUN)))


def make(folder: Path) -> dict[str, tuple[Path, Answer]]:
    """One folder of every kind, and how it is read and used."""
    adata = screen()
    kg = network(adata)
    kg.save(folder / "graph")
    made: dict[str, tuple[Path, Answer]] = {"graph": (folder / "graph", of_graph)}
    options: dict[str, dict[str, Any]] = {"gears": {"channels": 4}, "cpa": {"channels": 4}}
    for name in ("kg", "gears", "cpa", "set_kernel_ridge", "linear"):
        fit = {"max_epochs": 1, "enable_progress_bar": False} if name in options else {}
        graph = None if name == "linear" else kg
        PerturbationModel(graph, encoder=name, **options.get(name, {})).fit(adata, **fit).save(folder / name)
        made[name] = folder / name, of_model
    atlas = simulate_atlas(n_genes=40, branches=(2, 2), cells_per_type=15)
    fit = {"max_epochs": 1, "enable_progress_bar": False}
    CellModel(classes=["cell_type"], channels=8, heads=2).fit(atlas, **fit).save(folder / "cells")
    made["cells"] = folder / "cells", of_cells
    adata.write_h5ad(folder / "screen.h5ad")
    benchmark(folder, "screen.h5ad", folder / "out", "random_condition")
    made["run"] = next((folder / "out" / "runs").glob("*/*/mean")), of_run
    return made


def benchmark(folder: Path, data: str, out: Path, kind: str) -> Any:
    settings = {"datasets": [{"name": "sim", "path": str(folder / data)}], "splits": [{"kind": kind}], "crossed": 0}
    return run_benchmark(settings | {"models": [{"type": "mean"}]}, out, report=lambda text: None)


# damage


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
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("too slow")))
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            same = answer(copy) == expected
        return f"same: {what}" if same else f"other: {what}" if again else f"silent: {what}"
    except InputError as error:
        return f"own error: {what}: {error}"
    except Exception:
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


def forked(work: Callable[[], Iterator[str]]) -> tuple[list[str], int]:
    """Run in a process of its own; what it told, and how it ended."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        status = 1
        try:
            with os.fdopen(into, "w") as pipe:
                for text in work():
                    pipe.write(json.dumps(text) + "\n")
                    pipe.flush()
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    os.close(into)
    with os.fdopen(out) as pipe:
        told = [json.loads(line) for line in pipe]
    return told, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# kills, writers and readers


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
    rng, found = random.Random(seed), Counter({"lost": 0, "mixed": 0, "left": 0, "hidden before the next save": 0})
    path = folder / "at" / "m"
    models[0].save(path)
    for _ in range(n):
        child = os.fork()
        if child == 0:
            for model in itertools.cycle(models):
                model.save(path)
        time.sleep(rng.uniform(0, 0.4))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found["hidden before the next save"] += bool(hidden(path.parent))
        try:
            found["mixed"] += of_model(path) not in answers
        except InputError as error:
            console.print(f"lost: {error}", markup=False)
            found["lost"] += 1
        models[0].save(path)
        found["left"] += bool(hidden(path.parent))
    return {"kills": n, "wrong": found["lost"] + found["mixed"] + found["left"], **found}


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


# disks, names, rounds


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[str]:
    """A file system of so many bytes at `folder`, or else files that grow no larger; which."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if mounted.returncode:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 8, limits[1]))
        yield "files of limited size" if mounted.returncode else "a small tmpfs"
    finally:
        if mounted.returncode:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        else:
            subprocess.run(["umount", folder], check=True)


def disk(folder: Path, n: int, seed: int) -> dict[str, Any]:
    """Save and predict where there is too little room, at sizes from nothing to enough for all."""
    models, answers = two(folder)
    whole = sum(path.stat().st_size for path in (folder / "model0").rglob("*") if path.is_file())
    prediction = models[0].predict(ASKED)
    rng, found = random.Random(seed), Counter({"wrong": 0})
    for turn in range(n):
        place = folder / f"disk{turn}"
        with small_disk(place, int(whole * rng.uniform(1.3, 3.5))) as how:
            found[how] += 1
            for number in (0, 1, 0):
                try:
                    models[number].save(place / "m")
                    found["saved"] += 1
                except OutputError:
                    found["refused"] += 1
                except Exception as error:
                    console.print(f"raw: {type(error).__name__}: {error}", markup=False)
                    found["wrong"] += 1
                found["wrong"] += bool(hidden(place))
                found["wrong"] += (place / "m").exists() and of_model(place / "m") not in answers
            try:
                with new_file(place / "p.h5ad") as file:
                    prediction.write_h5ad(file)
            except OutputError:
                found["prediction refused"] += 1
            found["wrong"] += bool(hidden(place))
    return {"disks": n, **found}


def names(folder: Path) -> dict[str, Any]:
    """A benchmark with a fold a condition, whose names want to be paths elsewhere."""
    hostile = ["../../../out1", "/tmp/out2", "a/b", "..", ".", "~", "con", "x" * 400, "a\\b", "a b", "ü", "-rf", "$(x)"]
    adata = screen()
    old = sorted(set(adata.obs["condition"].astype(str)) - {"control"})[: len(hostile)]
    keep = adata.obs["condition"].isin(["control", *old]).to_numpy()
    adata = adata[keep].copy()
    adata.obs["condition"] = adata.obs["condition"].astype(str).replace(dict(zip(old, hostile, strict=True)))
    (folder / "in").mkdir()
    adata.write_h5ad(folder / "in" / "s.h5ad")
    before = set(folder.rglob("*"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = benchmark(folder / "in", "s.h5ad", folder / "in" / "out", "leave_one_out")
    runs = list((folder / "in" / "out" / "runs" / "sim").iterdir())
    outside = [p for p in folder.rglob("*") if p not in before and not p.is_relative_to(folder / "in" / "out")]
    wrong = len(outside) + abs(len(runs) - len(hostile)) + (scores["condition"].nunique() != len(hostile))
    return {"names": len(hostile), "folders": len(runs), "outside": len(outside), "wrong": wrong}


def rounds(n: int) -> dict[str, Any]:
    """Fit and predict again and again: the memory in use after the tenth round and after the last."""
    adata, sizes = screen(), []
    kg = network(adata)
    for _ in range(n):
        PerturbationModel(kg).fit(adata).predict(ASKED)
        gears = PerturbationModel(kg, encoder="gears", channels=4)
        gears.fit(adata, max_epochs=1, enable_progress_bar=False).predict(ASKED)
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6)
    grown = sizes[-1] - sizes[min(10, n - 1)]
    return {
        "rounds": n,
        "MB after ten": round(sizes[min(10, n - 1)]),
        "grown MB": round(grown),
        "wrong": int(grown > 50),
    }


def trainings(folder: Path, n: int, seed: int) -> dict[str, Any]:
    """Trainings stopped at random moments, see `tests.kills`."""
    found = kills.trials(folder, "train", n, seed, ["--epochs", "10"])
    return {"stopped": n, "wrong": sum(bool(one.wrong) for one in found)}


def main() -> int:
    """Run the parts; the exit status is 1 when anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--form", choices=FORMS, default="short")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*")
    given = parser.parse_args()
    n_damage, n_kills, seconds, n_disks, n_rounds, n_trainings = FORMS[given.form]
    parts: dict[str, tuple[int, Callable[[Path], dict[str, Any]]]] = {
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
