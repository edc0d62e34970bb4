"""Files: what is read is there and what it says to be; what is written is there whole or not at all."""

import gzip
import hashlib
import io
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from kgnn.durable import PART, check_place, sync, sync_name, told, workplace
from kgnn.errors import InputError, OutputError

MAX_COLUMNS = 100_000  # of a table that is text; all genes of a genome with their transcripts are fewer
MAX_LINE = 1 << 24  # bytes; the longest line of the public files is a gene set of 100 kB
MAX_TEXT = 1 << 28  # bytes of a JSON or TOML file
GROWTH = 100  # times its size, besides FREE bytes, that a gzip file may unfold to; deflate can do 1,032
FREE = 1 << 27
TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq")  # also .gz
UNSAFE = re.compile(r"[^\w .,+()=@&-]|^[. ]|[. ]$")
LONGEST = 150  # bytes of a name of a file that is made of a name of something else


def as_path(path: Any) -> Path:
    """Return a text or a path as a `Path`; raise `InputError` for anything else, such as an open file."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{type(path).__name__} where a path is asked for; give the file's name")
    if "\0" in str(path):
        raise InputError(f"{str(path)!r}: holds a null character, which no name may; check the path")
    return Path(path)


@contextmanager
def looked_for(path: Path) -> Iterator[None]:
    """Raise the system's refusal to look for `path` as an `InputError`: a long name, a folder not to be searched."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{str(path)[:200]}: {error.strerror}; check the path") from None


def existing_file(path: str | Path) -> Path:
    """Return `path` as a `Path`; raise `InputError` when it is no path, missing, empty, no file or not ours to read."""
    path = as_path(path)
    with looked_for(path):
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"{path}: no such file; check the path") from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{path}: is a folder where a file was expected")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path}: is a device or a pipe, which may never end; write it into a file, and give that")
    if found.st_size == 0:
        raise InputError(f"{path}: the file is empty; download or export it again")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read by you; ask its owner, or change its mode")
    return path


def check_target(path: str | Path) -> Path:
    """Return a file's path as a `Path`; raise `OutputError` when it cannot be written: called before work begins."""
    path = as_path(path)
    with told(path):
        if not _is_device(path):
            check_place(Path(os.path.realpath(path)))
    return path


def _is_device(path: Path) -> bool:
    """Whether there is a terminal or a pipe, which is written and not replaced; refuses what must not be written."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; give the name of a file in it")
    if path.exists() and not os.access(path, os.W_OK):
        raise OutputError(f"{path}: is write-protected; give another name, or change its mode")
    return path.exists() and not path.is_file()


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path of the same name, which becomes `path` when the block ends without an error.

    Raises:
        OutputError: `path` cannot be written; what was there is as it was.
    """
    path = as_path(path)
    with told(path):
        if _is_device(path):
            yield path
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        with workplace(target, PART) as place:
            yield place / target.name
            sync(place / target.name)
            (place / target.name).replace(target)
            sync_name(target)


def file_name(name: str) -> str:
    """A name of anything, a condition or a model, as one of a file: other names, other files, all in the folder.

    Letters, digits, spaces and `.,+()=@&_-` stay; other characters become `%`, their number and `;`; long names end in
    a hash of the whole.
    """
    safe = UNSAFE.sub(lambda found: f"%{ord(found[0]):X};", name) or "%"
    if len(safe.encode()) > LONGEST:
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
        safe = f"{safe.encode()[: LONGEST - 20].decode(errors='ignore')}%-{digest}"
    return safe


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as JSON to `path`, whole or not at all."""
    with new_file(path) as temporary:
        temporary.write_text(json_text(value), encoding="utf-8")


def json_text(value: Any) -> str:
    """`value` as JSON, as it is written into files."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as plain ones."""
    if not hasattr(value, "tolist"):
        raise InputError(f"{value!r} ({type(value).__name__}) cannot be written as JSON; give plain values")
    return value.tolist()


def read_json(path: str | Path) -> Any:
    """Read a JSON file; raise `InputError` with file, line and column when it is not JSON."""
    text = _whole_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
        raise InputError(f"{path}: not usable JSON ({type(error).__name__}); is it the right file?") from None


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file; raise `InputError` with file and line when it is not TOML."""
    text = _whole_text(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not usable TOML ({type(error).__name__}); is it the right file?") from None


def _whole_text(path: str | Path) -> str:
    path = existing_file(path)
    with looked_for(path):  # its folder may be replaced meanwhile
        if path.stat().st_size > MAX_TEXT:
            raise InputError(f"{path}: larger than {MAX_TEXT >> 20} MB; is it the right file?")
        text = path.read_bytes()
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); is it the right file?") from None


def open_bytes(path: Path) -> IO[bytes]:
    """Open a plain or a gzipped file, told by its first bytes; one that unfolds without end raises `InputError`."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return io.BufferedReader(_Unfolded(path), 1 << 17) if zipped else path.open("rb")


class _Unfolded(io.RawIOBase):
    """A gzip file as it is read."""

    def __init__(self, path: Path) -> None:
        self.path, self.stream, self.done = path, gzip.GzipFile(path), 0
        self.most = FREE + GROWTH * path.stat().st_size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self.stream.readinto(buffer)
        self.done += n
        if self.done > self.most:
            raise InputError(f"{self.path}: gzip data that unfold to more than {GROWTH} times; is it the right file?")
        return n

    def close(self) -> None:
        self.stream.close()
        super().close()


def check_width(path: Path, columns: int) -> None:
    """Raise `InputError` for a table so wide that it must be another file, or on its side: reading would not end."""
    if columns > MAX_COLUMNS:
        raise InputError(
            f"{path}: {columns:,} columns, where {MAX_COLUMNS:,} are the most that is read; is it the right file, "
            "with the right separator, or to be transposed? Parquet may be wider"
        )


def is_parquet(path: str | Path) -> bool:
    """Whether a file is Parquet by the ending of its name."""
    return str(path).lower().endswith((".parquet", ".pq"))


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
        check_alone(path)
        return anndata.read_h5ad(path)
    except InputError:
        raise
    except Exception as error:  # h5py and anndata raise many kinds for files that are not H5AD
        what = (str(error).splitlines() or [""])[0]
        raise InputError(f"{path}: cannot be read as H5AD ({type(error).__name__}: {what})") from None


def check_alone(path: Path) -> None:
    """Refuse an HDF5 file of which parts lie in other files: whoever made it would choose what of ours is read."""
    import h5py

    with h5py.File(path, "r") as file:
        links = file.id.links

        def linked(name: bytes) -> str | None:
            return name.decode() if links.get_info(name).type == h5py.h5l.TYPE_EXTERNAL else None

        def elsewhere(name: str, part: Any) -> str | None:
            if not isinstance(part, h5py.Dataset):
                return None
            sources = part.virtual_sources() if part.is_virtual else []
            return name if part.external or any(source.file_name != "." for source in sources) else None

        found = links.visit(linked) or file.visititems(elsewhere)
    if found:
        raise InputError(f"{path}: {found} lies in another file; write it anew, all in one file")


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
        with looked_for(path):
            files = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
        for file in files:
            with existing_file(file).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
