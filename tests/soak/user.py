"""What belongs to another user, read, replaced, left behind and planted: by one without rights, and by root."""

import _ctypes
import contextlib
import hashlib
import io
import logging
import os
import shutil
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numba
from rich.console import Console

from kgnn import cli
from kgnn.errors import InputError
from kgnn.files import write_json
from kgnn.models import PerturbationModel, load_model
from kgnn.ops.backends import native_library
from tests.soak.made import forked, of_graph, of_model, screen

ROOT, OTHER = 0, 65534  # the other has no account, no home and no groups
SECONDS = 60
CLOSED, STICKY, OPEN = 0o755, 0o1777, 0o777  # modes of folders: one's own; as /tmp; all may write
LEFT = "0123abcd"  # of the names of hidden places
COMMANDS = (  # 0: what is read; 1: where it is written
    "graph build {0}/g.toml -o {1}/kg",
    "graph info {0}/kg",
    "train {0}/screen.h5ad --graph {0}/kg --model gears --epochs 1 --no-progress -o {1}/model",
    "train --resume {0}/training",
    "predict {0}/model --split {0}/model/split.json -o {1}/p.h5ad",
    "evaluate {0}/p.h5ad {0}/screen.h5ad --split {0}/model/split.json -o {1}/scores.csv --json {1}/scores.json",
    "benchmark {0}/b.toml -o {1}/out",
    "benchmark {0}/b.toml -o {0}/out",
)
GRAPH = '[[source]]\nkind = "table"\ntable = "edges.csv"\nrelation = "regulates"\n'
BENCHMARK = (
    'crossed = 0\n[[datasets]]\nname = "s"\npath = "screen.h5ad"\ngraph = "kg"\n[[splits]]\nkind = "random_condition"\n'
    '[[models]]\ntype = "mean"\n'
)
console = Console()


class Case(NamedTuple):
    """Its name; the folder it happens in; what is done; what in the folder may be another afterwards, if it is done."""

    name: str
    place: Path
    act: Callable[[], str | None]
    target: str = "no file"


def another_user(folder: Path) -> dict[str, Any]:
    """Do everything as another user with root's files, and as root with another user's; count how it ended."""
    if os.geteuid() != ROOT:
        return {"skipped": "only root can become another user", "wrong": 0}
    numba.config.THREADING_LAYER = "workqueue"  # OpenMP's threads survive no fork
    folder.chmod(CLOSED)
    made = _made(folder / "made")
    found = Counter({"done": 0, "refused": 0, "foreign used": 0, "lost": 0, "raw": 0})
    for actor, owner in ((OTHER, ROOT), (ROOT, OTHER)):
        for case in _cases(made, Places(folder / f"as-{actor}", actor, owner)):
            before = _tree(case.place)
            told = _as_user(actor, case.act)
            after = _tree(case.place)
            lost = [path for path, what in before.items() if after.get(path) != what]
            if told == "done":
                lost = [path for path in lost if not path.startswith(case.target)]
            found[told.partition(":")[0]] += 1
            found["lost"] += bool(lost)
            if lost or told.startswith(("raw", "foreign")) or "KGNN_SOAK_ALL" in os.environ:
                who = "root" if actor == ROOT else "another user"
                console.print(f"{who}, {case.name}: {told} {lost[:3] or ''}", soft_wrap=True, markup=False)
    wrong = found["foreign used"] + found["lost"] + found["raw"]
    return {"tried": sum(found.values()) - found["lost"], "wrong": wrong, **found}


def _made(folder: Path) -> Path:
    """Everything that the commands read, made by them; all modules are imported meanwhile."""
    folder.mkdir()
    adata = screen()
    adata.write_h5ad(folder / "screen.h5ad")
    adata.uns["network"].to_csv(folder / "edges.csv", index=False)
    (folder / "g.toml").write_text(GRAPH)
    (folder / "b.toml").write_text(BENCHMARK)
    for command in (*COMMANDS[:3], *COMMANDS[4:]):
        told = _command(command.format(folder, folder))
        assert told is None, told
    with mock.patch.object(PerturbationModel, "fit", side_effect=KeyboardInterrupt):
        _command(COMMANDS[2].format(folder, folder).replace(f"{folder}/model", f"{folder}/training"))
    assert (folder / "training" / "training.json").exists()
    found, _ = native_library.compiler()
    if found:
        _library(folder / "cache")
    return folder


class Places:
    """Makes folders that belong to another user."""

    def __init__(self, folder: Path, actor: int, owner: int) -> None:
        self.folder, self.actor, self.owner, self.n = folder, actor, owner, 0
        folder.mkdir()

    def __call__(self, source: Path | None, mode: int, private: str | None = None, add: tuple[str, ...] = ()) -> Path:
        """A folder of a mode with a copy `m` of another one, files added to it, one of its files or folders private."""
        place = self.folder / str(self.n)
        self.n += 1
        place.mkdir()
        if source is not None:
            shutil.copytree(source, place / "m")
        for name in add:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text("mine")
        self.give(place)
        for path in [] if private is None else place.glob(f"m/{private}" if private else "m"):
            path.chmod(path.stat().st_mode & 0o700)
        if mode == STICKY:
            os.chown(place, ROOT, ROOT)
        place.chmod(mode)
        return place

    def ways(self, n: int) -> int:
        """Of n ways in which rights are missing, how many differ to the actor: root lacks none."""
        return 1 if self.actor == ROOT else n

    def give(self, path: Path, to_actor: bool = False) -> Path:
        uid = self.actor if to_actor else self.owner
        for part in (path, *path.rglob("*")):
            os.chown(part, uid, uid, follow_symlinks=False)
        return path


def _cases(made: Path, places: Places) -> Iterator[Case]:
    yield from _reading(made, places)
    yield from _replacing(made, places)
    yield from _planted(made, places)
    yield from _commands(made, places)
    if (made / "cache").exists():
        yield from _caches(made, places)


def _reading(made: Path, places: Places) -> Iterator[Case]:
    for what, answer in (("kg", of_graph), ("model", of_model)):
        expected = answer(made / what)
        for private in (None, "", "kgnn.json", "*.json", "*.parquet", "*.safetensors", "graph")[: places.ways(7)]:
            place = places(made / what, CLOSED, private)

            def act(path: Path = place / "m", answer: Any = answer, expected: bytes = expected) -> str | None:
                return None if answer(path) == expected else "raw: another answer"

            yield Case(f"read a {what}, private {private}", place, act)


def _replacing(made: Path, places: Places) -> Iterator[Case]:
    model = load_model(made / "model")
    for mode in (STICKY, CLOSED, OPEN)[: places.ways(3)]:
        for private, add in ((None, ()), ("", ()), (None, ("m/notes.txt",)), ("secret", ("m/secret/notes.txt",))):
            place = places(made / "model", mode, private, add)
            yield Case(f"replace a model, {mode:o} {add}", place, lambda p=place: model.save(p / "m"), "m")
            place = places(made / "model", mode, private, add)
            places.give(place / "m", to_actor=True)
            for name in add:
                places.give((place / name) if "secret" not in name else (place / name).parent)
            yield Case(f"replace one's own model, {mode:o} {add}", place, lambda p=place: model.save(p / "m"), "m")
        for target in ("notes.json", "m/notes.json", "new.json"):
            place = places(made / "model", mode, None, ("notes.json", "m/notes.json"))
            yield Case(f"write {target}, {mode:o}", place, lambda p=place / target: write_json(p, 1), target)


def _planted(made: Path, places: Places) -> Iterator[Case]:
    """What looks like the leftover of a writer that died."""
    model = load_model(made / "model")
    for mode in (STICKY, OPEN):
        place = places(made / "model", mode)
        (place / f".x-{LEFT}.kgnn" / "old0").mkdir(parents=True)
        (place / "m").rename(place / f".x-{LEFT}.kgnn" / "old0" / "x")
        places.give(place / f".x-{LEFT}.kgnn")
        yield Case("read what another left", place, lambda p=place: load_model(p / "x") and "foreign used")
        yield Case("write beside what another left", place, lambda p=place: model.save(p / "x"))
        place = places(None, mode, None, ("mine/old0/m/notes.txt", "mine/new/x/notes.txt", "x/notes.txt"))
        shutil.rmtree(place / "x")
        places.give(place / "mine", to_actor=True)
        (place / f".x-{LEFT}.kgnn").symlink_to(place / "mine")
        yield Case("write beside a link", place, lambda p=place: model.save(p / "x"))
        place = places(None, mode)
        os.mkfifo(place / f".x-{LEFT}.kgnn")
        yield Case("write beside a pipe", place, lambda p=place: model.save(p / "x"))
        place = places(None, mode, None, (f".new.json-{LEFT}.part/new.json",))
        yield Case("write a file beside what another left", place, lambda p=place: write_json(p / "new.json", 1))


def _commands(made: Path, places: Places) -> Iterator[Case]:
    ways = ((None, "."), ("", "mine"), ("**/*.*", "mine"))
    for command in COMMANDS:
        for private, into in ways[: places.ways(3)]:
            place = places(made, CLOSED, private)
            (place / "mine").mkdir()
            places.give(place / "mine", to_actor=True)
            text = command.format(place / "m", place / into)
            target = "m/training" if "resume" in command else "m/out" if "{1}" not in command else "no file"
            yield Case(f"{command}, private {private}", place, lambda text=text: _command(text), target)


def _caches(made: Path, places: Places) -> Iterator[Case]:
    real = Path(shutil.copyfile(_ctypes.__file__, places.folder / "real.so"))
    for name, below in (("KGNN_CACHE", "."), ("XDG_CACHE_HOME", "kgnn"), ("HOME", ".cache/kgnn")):
        for mode in (0o700, CLOSED, STICKY, OPEN):
            place = places(None, CLOSED)
            shutil.copytree(made / "cache", place / "m" / below, dirs_exist_ok=True)
            places.give(place)
            (place / "m" / below).chmod(mode)
            yield Case(f"{name} of another, {mode:o}", place, lambda p=place, n=name: _load({n: str(p / "m")}, real))
        place = places(None, CLOSED)
        yield Case(f"{name} in which there is none", place, lambda p=place, n=name: _load({n: str(p / "m")}, real))
    for environment in ({}, {"HOME": ""}, {"HOME": "/nowhere"}) if places.actor != ROOT else ():
        yield Case(f"{environment}", places(None, CLOSED), lambda e=environment: _load(e, real))


def _load(environment: dict[str, str], real: Path) -> str | None:
    """Load the kernels with the cache that the environment names; a library that is not ours must not be."""
    for name in ("KGNN_CACHE", "XDG_CACHE_HOME", "HOME"):
        os.environ.pop(name, None)
    os.environ.update(environment)
    path = Path(_library(None, real)._name)
    return "foreign used" if path.exists() and path.stat().st_uid != os.geteuid() else None


def _library(cache: Path | None, real: str | Path = _ctypes.__file__) -> Any:
    """Load the kernels; compiling is copying a library that is there."""
    change = {} if cache is None else {"KGNN_CACHE": str(cache)}
    copy = mock.patch.object(native_library, "_compile", lambda compiler, scratch, made: shutil.copyfile(real, made))
    with copy, mock.patch.dict(os.environ, change):
        return native_library._library(native_library.compiler()[0])


def _command(text: str) -> str | None:
    """Run a command here; None where it is done, and what is not one line of ours is raw."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", ["kgnn", *text.split()]),
    ):
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
    if status == 0:
        return None
    text = err.getvalue()
    last = (text.splitlines() or [""])[-1]
    ours = last.startswith("error: ") or (status == 2 and "Invalid value for" in text)  # typer's, of a private file
    return f"refused: {last}" if ours and "Traceback" not in text else f"raw: status {status}, {text[-2000:]}"


def _as_user(uid: int, act: Callable[[], str | None]) -> str:
    """How it ends in a process of another user."""
    told, ended = forked(lambda: _outcome(uid, act))
    return told[0] if told else f"raw: ended with {ended}"


def _outcome(uid: int, act: Callable[[], str | None]) -> Iterator[str]:
    os.chdir("/")
    if uid != ROOT:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        for name in ("KGNN_CACHE", "XDG_CACHE_HOME", "HOME"):
            os.environ.pop(name, None)
    signal.alarm(SECONDS)
    warnings.simplefilter("ignore")
    logging.disable()
    try:
        yield act() or "done"
    except InputError as error:
        yield f"refused: {error}" if "\n" not in str(error) else f"raw: several lines: {error}"
    except Exception:
        yield f"raw: {traceback.format_exc(limit=-6)}"


def _tree(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Owner, mode and content of everything in a folder."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else ""
        found[path.relative_to(folder).as_posix()] = (status.st_uid, status.st_mode, content)
    return found
