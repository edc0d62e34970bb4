"""Folders that kgnn writes: each holds `kgnn.json` with the SHA-256 of every file and of itself, checked when read.

A folder is there whole or not at all, and a reader sees one version of it. Only what such a list names is ever removed.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from kgnn.durable import OLD, PART, check_place, clear, places, put, sync, sync_name, told, workplace
from kgnn.errors import InputError, OutputError
from kgnn.files import as_path, json_text, looked_for, read_json
from kgnn.schema import check_schema
from kgnn.version import __version__

T = TypeVar("T")
LIST = "kgnn.json"
TRAINING, CHECKPOINTS = "training.json", "checkpoints"  # of an unfinished training: they change, so no list has them
ENDING = ".kgnn"  # ends the hidden place of a folder being written
NEW = "new"
TRIES = 20
LISTED = {"kgnn": str, "kind": str, "files": {str: str}, "sha256": str}
MARKS = {"model": "config.json", "graph": "manifest.json", "benchmark run": "run.json", "KGX": "edges.tsv"}


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """`value` with the SHA-256 of itself, for `read_sealed`."""
    plain = json.loads(json_text(dict(value)))
    return plain | {"sha256": _hash_of_json(plain)}


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `sealed` gave; raise `InputError` when anything in it changed."""
    found = read_json(path)
    if not isinstance(found, dict) or "sha256" not in found:
        raise InputError(f"{path}: not written by kgnn, or damaged: it has no SHA-256 of itself")
    value = {name: part for name, part in found.items() if name != "sha256"}
    if _hash_of_json(value) != found["sha256"]:
        raise InputError(f"{path}: damaged or edited (its SHA-256 is another); save the folder again")
    return found


def _hash_of_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def seal(folder: Path, kind: str) -> None:
    """Write the list of a folder's files."""
    files = {name: _hash_file(folder / name) for name in sorted(_files_in(folder) - {LIST}) if not _of_training(name)}
    found = sealed({"kgnn": __version__, "kind": kind, "files": files})
    (folder / LIST).write_text(json_text(found), encoding="utf-8")


def _of_training(name: str) -> bool:
    return name == TRAINING or (name.startswith(f"{CHECKPOINTS}/") and name.endswith(".ckpt") and name.count("/") == 1)


def _hash_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files_in(folder: Path) -> set[str]:
    """Names of all files below, links among them, relative to the folder."""
    found: set[str] = set()
    for where, folders, files in os.walk(folder, onerror=_unless_gone):
        links = [name for name in folders if Path(where, name).is_symlink()]
        found.update(Path(where, name).relative_to(folder).as_posix() for name in (*files, *links))
    return found


def _unless_gone(error: OSError) -> None:
    """Stop at a folder that may not be looked into: whose files are in it cannot be told."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def others(folder: Path) -> list[str]:
    """Names of the files in a folder that kgnn did not write: no list has them, no unfinished training either."""
    for _ in range(TRIES):
        version, found = _version(folder), _others(folder)
        if not found or (LIST not in found and _version(folder) == version):
            break  # else it was replaced between its list and its files, or the list is damaged
    return found


def _others(folder: Path) -> list[str]:
    own: set[str] = set()
    for file, told_by in ((LIST, lambda found: {LIST, *found["files"]}), (TRAINING, lambda found: {TRAINING})):
        try:
            own |= told_by(read_sealed(folder / file))
        except (InputError, KeyError, TypeError, OSError):
            continue
    found = _files_in(folder) - own
    return sorted(name for name in found if not (TRAINING in own and _of_training(name)))


def check_folder(path: str | Path, kind: str) -> Path:
    """Return `path` as a `Path`, where a folder of a kind may be written.

    Raises:
        OutputError: a file, a mount point, the working folder, a folder with files that kgnn did not write or of
            another kind; a place where nothing can be written.
    """
    path, real = as_path(path), Path(os.path.realpath(path))
    with told(path):
        with suppress(FileNotFoundError):  # asked once: other writers may take it away meanwhile
            if not stat.S_ISDIR(path.stat().st_mode):
                raise OutputError(f"{path}: a file of this name exists; give a folder")
        if Path.cwd().is_relative_to(real):
            raise OutputError(f"{path}: is or holds the folder you are in, which cannot be replaced; give one inside")
        if os.path.ismount(real):
            raise OutputError(f"{path}: is a mount point, which cannot be replaced; give a folder inside")
        clear(real / TRAINING, PART)  # of one that died as it began
        found = others(real)
        if found:
            shown = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
            raise OutputError(
                f"{path}: the folder holds other files ({shown}), which kgnn did not write as they are; give a new or "
                "an empty folder, or move them away"
            )
        there = _kind_of(real)
        if there not in (None, kind):
            raise OutputError(f"{path}: holds a {there}, which a {kind} does not replace; give another folder")
        if _is_protected(real):
            raise OutputError(f"{path}: this folder is write-protected; give another, or change its mode")
        check_place(real)
    return path


def _is_protected(folder: Path) -> bool:
    try:
        opened = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not os.access(".", os.W_OK | os.X_OK, dir_fd=opened)
    finally:
        os.close(opened)


def _kind_of(folder: Path) -> str | None:
    try:
        return read_sealed(folder / LIST).get("kind")
    except InputError:
        return None


@contextmanager
def new_folder(path: str | Path, kind: str) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path`, its files listed, when the block ends without an error.

    An existing `path` is replaced in one step; a reader finds the old or the new version.

    Args:
        path: the folder. kind: what it holds, for `read_folder`.

    Raises:
        OutputError: see `check_folder`; a full disk. What was there is as it was.
    """
    path = as_path(path)
    real = Path(os.path.realpath(path))
    with told(path):
        check_folder(path, kind)
        real.parent.mkdir(parents=True, exist_ok=True)
        with workplace(real, ENDING, _settle) as place:
            new = place / NEW / real.name
            new.mkdir(parents=True)
            yield new
            for name in _files_in(new):
                (new / name).chmod(place.stat().st_mode & 0o666)  # some libraries make files for the user alone
            seal(new, kind)
            sync(new)
            check_folder(path, kind)
            put(new, real)
            sync_name(real)


def _settle(place: Path) -> None:
    """Take out of a place what must stay: an old version that nothing replaced, others' files in one that is."""
    for version in place.glob("*/*"):
        path = place.parent / version.name
        if version.parent.name.startswith(OLD) and not path.exists():
            with suppress(OSError):  # another one took the name just now
                version.rename(path)
                continue
        if _kind_of(version) is not None and path.is_dir():  # without a whole list it was never there: all is ours
            for name in others(version):
                kept = path / name if not (path / name).exists() else path / f"{name}.kept"
                kept.parent.mkdir(parents=True, exist_ok=True)
                (version / name).rename(kept)


def read_folder(path: str | Path, kind: str, read: Callable[[Path], T]) -> T:
    """Return what `read` makes of a folder, all of whose files are as they were written.

    A folder that is replaced meanwhile is read again.

    Raises:
        InputError: missing, of another kind, damaged, cut short, incomplete; whatever `read` finds wrong.
    """
    path = as_path(path)
    for turn in range(TRIES):
        failure = None
        try:
            with looked_for(path):
                version, listed = _version(path), _list_of(path, kind)
        except InputError:
            if turn == TRIES - 1 or not _recovers(path):
                raise
            continue
        try:
            _check_files(path, listed["files"])
            return _if_same(path, version, read(path))
        except _Replaced:
            continue
        except InputError as error:
            failure = error
        except PermissionError as error:
            failure = InputError(f"{error.filename or path}: may not be read by you; ask its owner, or change its mode")
        except Exception as error:
            what = (str(error).splitlines() or [""])[0][:200]
            failure = InputError(
                f"{path}: its files do not fit together ({type(error).__name__}: {what}); save the {kind} again"
            )
            failure.__cause__ = error
        try:
            _if_same(path, version, None)
        except _Replaced:
            continue
        raise failure
    raise InputError(f"{path}: was replaced {TRIES} times while it was read; read it when its writers are done")


class _Replaced(Exception):
    """The folder is another one than a moment ago."""


def _if_same(path: Path, version: tuple[int, ...], value: T) -> T:
    if not version or _version(path) != version:  # none: it was between two renames, and may be so again
        raise _Replaced
    return value


def _version(path: Path) -> tuple[int, ...]:
    """What tells one writing of a folder from the next, of equal files too: A, B and A again are three."""
    try:
        found = (path / LIST).stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _recovers(path: Path) -> bool:
    """Bring back an old version whose writer died, or wait for a writer between two renames; False: there is none."""
    real = Path(os.path.realpath(path))
    if not places(real, ENDING):
        return False
    clear(real, ENDING, _settle)
    time.sleep(0.01)
    return True


def _list_of(path: Path, kind: str) -> dict[str, Any]:
    if not (path / LIST).is_file():
        if kind in MARKS and (path / MARKS[kind]).is_file():
            raise InputError(
                f"{path}: has no {LIST}, the list of its files: an older kgnn wrote it, or the list is lost; save the "
                f"{kind} again"
            )
        raise InputError(f"{path}: not a {kind} folder (no {LIST}); save a {kind} to make one")
    found = check_schema(read_sealed(path / LIST), LISTED, str(path / LIST))
    if found["kind"] != kind:
        raise InputError(f"{path}: holds a {found['kind']} where a {kind} is asked for; give the folder of one")
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in found["files"]):
        raise InputError(f"{path / LIST}: names files outside the folder; save the {kind} again")
    return found


def _check_files(path: Path, files: Mapping[str, str]) -> None:
    for name, digest in files.items():
        file = path / name
        if not file.is_file():
            raise InputError(f"{file}: missing; the folder is incomplete, save it again")
        if _hash_file(file) != digest:
            raise InputError(f"{file}: damaged, edited or cut short (its SHA-256 is another); save the folder again")
