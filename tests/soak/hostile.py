"""Files that nobody writes by mistake, in every place that reads one: is there one line, in time and in memory?"""

import functools
import gzip
import os
import random
import re
import resource
import shutil
import signal
import stat
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import pandas as pd
from rich.console import Console

from kgnn.data import effects, load_split
from kgnn.data.cells import CellSource
from kgnn.errors import InputError
from kgnn.evaluation.config import read_config
from kgnn.files import read_h5ad
from kgnn.folders import LIST, read_sealed
from kgnn.graph import KnowledgeGraph
from kgnn.models import load_model
from tests.fuzz import PARSERS, parquet
from tests.soak.made import forked, screen
from tests.soak.together import two

NOTHING = "a terabyte of nothing"
MEMORY, SECONDS = 4 << 30, 60  # bytes besides those in use
LONG = pd.DataFrame({"condition": ["A", "A"], "gene": ["B", "C"], "value": [0.5, -1.0]})
SPLIT = b'{"train": ["A"], "val": ["B"], "test": ["C"]}'
CONFIG = b'[[datasets]]\nname = "a"\npath = "a.h5ad"\n[[splits]]\nkind = "simulation"\n[[models]]\ntype = "mean"\n'
SEALED = b'{"sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}'  # of {}
TEXTS: dict[str, tuple[str, bytes, Callable[[Path], Any]]] = {
    "effects csv": ("e.csv", LONG.to_csv(index=False).encode(), effects),
    "effects tsv.gz": ("e.tsv.gz", gzip.compress(LONG.to_csv(index=False, sep="\t").encode(), mtime=0), effects),
    "effects parquet": ("e.parquet", parquet(LONG), effects),
    "split": ("s.json", SPLIT, load_split),
    "benchmark": ("b.toml", CONFIG, read_config),
    "training": ("training.json", SEALED, read_sealed),
}
console = Console()


class Trial(NamedTuple):
    """Place and kind; puts the file there; the file; what reads it, or the folder around it."""

    name: str
    put: Callable[[Path], Any]
    file: Path
    read: Callable[[], Any]


def hostile(folder: Path, n: int, seed: int) -> dict[str, Any]:
    """Put each kind of file into each place, or n of these at random, and read it; count how that ended."""
    trials = list(_trials(folder))
    random.Random(seed).shuffle(trials)
    trials = trials[:n]
    found: Counter[str] = Counter({"own error": 0, "read": 0, "raw": 0, "hang or crash": 0})
    while trials:
        told, dead = forked(lambda todo=trials: map(_outcome, todo))
        for text in told:
            found[text.partition(":")[0]] += 1
            if text.startswith("raw") or "KGNN_SOAK_ALL" in os.environ:
                console.print(text, soft_wrap=True, markup=False)
        trials = trials[len(told) :]
        if trials:
            console.print(f"hang or crash: {trials[0].name} ended with {dead}", markup=False)
            found["hang or crash"] += 1
            trials = trials[1:]
    return {"tried": sum(found.values()), "wrong": found["raw"] + found["hang or crash"], **found}


def _outcome(trial: Trial) -> str:
    """How reading ended, in a process that the alarm ends."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    trial.file.parent.mkdir(parents=True, exist_ok=True)
    trial.put(trial.file)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial.read()
        return f"read: {trial.name}"
    except InputError as error:
        return f"{'raw, several lines' if chr(10) in str(error) else 'own error'}: {trial.name}: {error}"[:1000]
    except Exception:
        return f"raw: {trial.name}: {traceback.format_exc(limit=-3)}"
    finally:
        signal.alarm(0)
        if trial.file.is_dir() and not trial.file.is_symlink():
            trial.file.rmdir()
        else:
            trial.file.unlink()


def _trials(folder: Path) -> Iterator[Trial]:
    kinds = _kinds(folder)
    for door, (name, good, read) in _doors(folder).items():
        for kind, put in (kinds | (_hdf5(folder) if "h5ad" in door else {})).items():
            file = folder / door / kind / name
            yield Trial(f"{door}, {kind}", functools.partial(put, good), file, functools.partial(read, file))
    for door, (whole, files, read) in _folders(folder).items():
        for name in files:
            for kind, put in kinds.items():
                if kind == NOTHING and name != LIST:
                    continue  # all that the list names is hashed, which takes as long as it is large
                copy = folder / "copies" / f"{door} {name.replace('/', ' ')} {kind}"
                placed = functools.partial(_in_copy, whole, copy, put, (whole / name).read_bytes())
                yield Trial(f"{door} {name}, {kind}", placed, copy / name, functools.partial(read, copy))


def _in_copy(whole: Path, copy: Path, put: Callable[[bytes, Path], Any], good: bytes, file: Path) -> None:
    shutil.copytree(whole, copy, dirs_exist_ok=True)
    file.unlink()
    put(good, file)


def _doors(folder: Path) -> dict[str, tuple[str, bytes, Callable[[Path], Any]]]:
    """Files: a name, contents as they should be, what reads it."""
    screen().write_h5ad(folder / "screen.h5ad")
    cells = (folder / "screen.h5ad").read_bytes()
    binary = {"h5ad": ("c.h5ad", cells, read_h5ad), "h5ad, backed": ("c.h5ad", cells, CellSource),
              "effects h5ad": ("e.h5ad", cells, effects)}  # fmt: skip
    parsers = {name: door for name, door in PARSERS.items() if not name.startswith("saved")}  # see `_folders`
    return parsers | TEXTS | binary


def _folders(folder: Path) -> dict[str, tuple[Path, list[str], Callable[[Path], Any]]]:
    """Folders: where, those of their files that are replaced, what reads it."""
    models, _ = two(folder)
    assert models[0].kg is not None
    models[0].kg.save(folder / "kg")
    screen().write_zarr(folder / "cells.zarr")
    store = folder / "cells.zarr"
    inside = sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())
    about = [name for name in inside if re.search(r"(^|^obs/|^X/)(zarr\.json|\.z\w+)$", name)]
    chunk = next(name for name in inside if name.startswith("X/") and name not in about)
    return {
        "graph": (folder / "kg", ["kgnn.json", "manifest.json", "edges_0.parquet"], KnowledgeGraph.load),
        "model": (folder / "model0", ["kgnn.json", "config.json", "arrays.safetensors", "var.parquet"], load_model),
        "zarr": (store, [chunk, *about], CellSource),
    }


def _kinds(folder: Path) -> dict[str, Callable[[bytes, Path], Any]]:
    """What is put at a path in place of the bytes that belong there."""
    rng = random.Random(0)
    noise = rng.randbytes(10_000)
    block, rows = (gzip.compress(part * (1 << 22), mtime=0) for part in (b"AAAA", b"A\tB\n"))  # 16 MB a member
    large = {"bomb of one line": block * 256, "bomb of rows": rows * 64, "a line of 32 MB": b"A" * (32 << 20)}
    for number, data in enumerate(large.values()):
        (folder / f"large{number}").write_bytes(data)
    links = {name: str(folder / f"large{number}") for number, name in enumerate(large)}
    (folder / "loops").mkdir()
    for name in ("a", "b"):
        (folder / "loops" / name).symlink_to(folder / "loops")
    links |= {"device": "/dev/zero", "link to nothing": "nothing", "folder of loops": str(folder / "loops")}
    written: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda good: b"",
        "zeros": lambda good: bytes(1 << 20),
        "zeros among it": lambda good: good[: len(good) // 2] + b"\0\0" + good[len(good) // 2 :],
        "200,000 columns": _wide,
        "gzip of noise": lambda good: b"\x1f\x8b\x08\0" + noise,
        "gzip of gzip": lambda good: gzip.compress(gzip.compress(good)),
        "HDF5 of noise": lambda good: b"\x89HDF\r\n\x1a\n" + noise,
        "Parquet of noise": lambda good: b"PAR1" + noise + b"PAR1",
        "zip of noise": lambda good: b"PK\x03\x04" + noise,
        "noise": lambda good: noise,
        "UTF-16": lambda good: good.decode("latin-1").encode("utf-16"),
        "deep JSON": lambda good: b"[" * 100_000,
        "deep TOML": lambda good: b"a = " + b"[" * 100_000,
        "deep objects": lambda good: b'{"a":' * 100_000,
        "long numbers": lambda good: re.sub(rb"\d+", b"9" * 5000, good),
        "large numbers": lambda good: re.sub(rb"\d+", b"1e999", good),
        "twice": lambda good: good + good,
        "quotes": lambda good: good.replace(b"\n", b'\n"'),
        "carriage returns": lambda good: good.replace(b"\n", b"\r"),
    }
    made: dict[str, Callable[[bytes, Path], Any]] = {
        "pipe": lambda good, path: os.mkfifo(path),
        "socket": lambda good, path: os.mknod(path, stat.S_IFSOCK | 0o600),
        "folder": lambda good, path: path.mkdir(),
        "link to itself": lambda good, path: path.symlink_to(path),
        NOTHING: lambda good, path: (path.touch(), os.truncate(path, 1 << 40)),
    }
    made |= {name: lambda good, path, to=to: path.symlink_to(to) for name, to in links.items()}
    return made | {name: lambda good, path, of=of: path.write_bytes(of(good)) for name, of in written.items()}


def _wide(good: bytes) -> bytes:
    separator = max((b",", b"\t", b" "), key=good.count)
    return separator.join([b"source", b"target", *(b"c%d" % number for number in range(200_000))]) + b"\n" + good


def _hdf5(folder: Path) -> dict[str, Callable[[bytes, Path], Any]]:
    """H5AD files whose X is elsewhere, nowhere or everything."""
    pipe = str(folder / "pipe")
    if not Path(pipe).exists():
        os.mkfifo(pipe)
    linked = {
        "X in a pipe": h5py.ExternalLink(pipe, "/X"),
        "X in no HDF5": h5py.ExternalLink("/etc/hostname", "/X"),
        "X linked to itself": h5py.SoftLink("/X"),
        "X linked to all": h5py.SoftLink("/"),
    }
    stored = {"X out of a pipe": pipe, "X out of a device": "/dev/zero", "X out of a file": "/etc/hostname"}

    def link(to: Any, good: bytes, path: Path) -> None:
        path.write_bytes(good)
        with h5py.File(path, "r+") as file:
            del file["X"]
            file["X"] = to

    def store(where: str, good: bytes, path: Path) -> None:
        path.write_bytes(good)
        with h5py.File(path, "r+") as file:
            del file["X"]
            shape = len(file["obs/condition/codes"]), len(file["var/_index"])
            parts = [(where, 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("X", shape, "f4", external=parts).attrs.update(
                {"encoding-type": "array", "encoding-version": "0.2.0"}
            )

    made = {name: functools.partial(link, to) for name, to in linked.items()}
    return made | {name: functools.partial(store, where) for name, where in stored.items()}
