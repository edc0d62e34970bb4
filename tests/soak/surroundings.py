"""Small disks, names that want to be paths, and two hundred rounds."""

import random
import resource
import subprocess
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from kgnn.errors import OutputError
from kgnn.files import new_file
from kgnn.models import PerturbationModel
from tests.soak.made import ASKED, benchmark, network, of_model, screen
from tests.soak.together import hidden, two

console = Console()


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
