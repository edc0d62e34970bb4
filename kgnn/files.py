"""Writing whole folders and files or nothing: to a temporary place first, then renamed."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kgnn.errors import InputError

MAX_COLUMNS = 100_000  # of a table that is text; all genes of a genome with their transcripts are fewer
TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq")  # also .gz


def as_path(path: Any) -> Path:
    """Return a text or a path as a `Path`; raise `InputError` for anything else, such as an open file."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{type(path).__name__} where a path is asked for; give the file's name")
    return Path(path)


def existing_file(path: str | Path) -> Path:
    """Return `path` as a `Path`; raise `InputError` when it is no path, missing, a folder or empty."""
    path = as_path(path)
    try:
        there = path.exists()
    except OSError as error:  # a name too long, a folder that may not be searched
        raise InputError(f"{str(path)[:200]}: {error.strerror}; check the path") from None
    if not there:
        raise InputError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a folder where a file was expected")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; download or export it again")
    return path


def check_folder(path: str | Path, *markers: str) -> Path:
    """Return `path` as a `Path`; raise `InputError` when it holds a user's own files: none of the files `markers`."""
    path = as_path(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: a file of this name exists; give a folder")
    if path.is_dir() and any(path.iterdir()) and not any((path / marker).is_file() for marker in markers):
        raise InputError(f"{path}: the folder holds other files (no {markers[0]}); give a new or an empty folder")
    return path


@contextmanager
def new_folder(path: str | Path, *markers: str) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path` when the block ends without an error.

    An existing `path` is replaced only if it is empty or holds one of the files `markers`, so that a mistyped path
    never costs a user their own files.
    """
    path = check_folder(path, *markers)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
            path.rename(old / path.name)
            try:
                temporary.rename(path)
            except OSError:
                (old / path.name).rename(path)
                raise
            finally:
                shutil.rmtree(old, ignore_errors=True)
        else:
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        temporary.chmod(0o644)
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON to `path`, whole or not at all."""
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=_plain) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as plain ones."""
    if not hasattr(value, "tolist"):
        raise InputError(f"{value!r} ({type(value).__name__}) cannot be written as JSON; give plain values")
    return value.tolist()


def read_json(path: str | Path) -> Any:
    """Read a JSON file; raise `InputError` with file, line and column when it is not JSON."""
    path = existing_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); is it the right file?") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None


def check_width(path: Path, columns: int) -> None:
    """Raise `InputError` for a table so wide that it must be another file, or on its side: reading would not end."""
    if columns > MAX_COLUMNS:
        raise InputError(
            f"{path}: {columns:,} columns, where {MAX_COLUMNS:,} are the most that is read; is it the right file, "
            "with the right separator, or to be transposed? Parquet may be wider"
        )


def is_table(path: str | Path) -> bool:
    """Whether a file is a table by the ending of its name."""
    return Path(path).name.lower().removesuffix(".gz").endswith(TABLES)


def read_h5ad(path: str | Path) -> Any:
    """Read an AnnData; raise `InputError` when the file is missing or not H5AD."""
    import anndata

    path = existing_file(path)
    if is_table(path):
        raise InputError(
            f"{path}: a table where cells (AnnData, or a path to H5AD) are asked for; if it holds effects, read it "
            f"first, kgnn.data.effects({str(path)!r}), and give what that returns"
        )
    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise many kinds for files that are not H5AD
        what = (str(error).splitlines() or [""])[0]
        raise InputError(f"{path}: cannot be read as H5AD ({type(error).__name__}: {what})") from None


def as_adata(cells: Any) -> Any:
    """Return an AnnData as it is, or read from the path of an H5AD file; raise `InputError` for anything else."""
    import anndata

    if isinstance(cells, str | os.PathLike):
        return read_h5ad(cells)  # type: ignore[arg-type]
    if not isinstance(cells, anndata.AnnData):
        raise InputError(f"{type(cells).__name__} where cells (AnnData, or a path to H5AD) are asked for")
    return cells


def content_of(paths: Iterable[str | Path]) -> str:
    """SHA-256 over the contents of files, and of the files in folders by name."""
    digest = hashlib.sha256()
    for path in map(Path, paths):
        for file in sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]:
            with existing_file(file).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
