"""Writing that survives being killed: in a hidden place beside the target, on the disk before it takes its name."""

import ctypes
import errno
import fcntl
import glob
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kgnn.errors import InputError, OutputError

EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2), RENAME_SWAP of renamex_np(2)
HERE = -100  # AT_FDCWD
CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOENT)
THERE_ALREADY = (errno.ENOTEMPTY, errno.EEXIST)
OTHER_NUMBERS = re.compile(r"(?:os error|errno =|\[Errno) ?(\d+)")  # of Rust's, HDF5's and Arrow's messages
OLD = "old"  # begins the name of the folder of a version that must come back when its writer dies
PART = ".part"  # ends the hidden place of a file being written
SHORT = 40  # characters of the target's name in that of a hidden place: the longest names leave no room

Settle = Callable[[Path], None]


def _nothing(place: Path) -> None:
    """Nothing in it must stay."""


@contextmanager
def workplace(path: Path, ending: str, settle: Settle = _nothing) -> Iterator[Path]:
    """Yield a new hidden folder beside `path`, removed with all that is in it when the block ends.

    One's own places whose process died are removed first: a place is locked (flock) as long as its process lives.

    Args:
        path: what is being written. ending: of the place's name. settle: called before a place is removed, this one or
            a dead one's, to take out of it what must stay.
    """
    clear(path, ending, settle)
    place, lock = _new_place(path, ending)
    try:
        yield place
    finally:
        try:
            _discard(place, settle)
        finally:
            os.close(lock)


def clear(path: Path, ending: str, settle: Settle = _nothing) -> None:
    """Remove the places beside `path` whose process died; another user's stay, and links, which lead anywhere."""
    for place in places(path, ending):
        lock = None
        with suppress(OSError):  # alive, no folder, or just removed by another process
            lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _discard(place, settle)
        if lock is not None:
            os.close(lock)


def places(path: Path, ending: str) -> list[Path]:
    """The hidden places beside `path`, in use or left behind."""
    with suppress(OSError):
        return list(path.parent.glob(f".{glob.escape(path.name[:SHORT])}-????????{ending}"))
    return []


def _new_place(path: Path, ending: str) -> tuple[Path, int]:
    while True:
        place = path.parent / f".{path.name[:SHORT]}-{secrets.token_hex(4)}{ending}"
        place.mkdir()
        with suppress(FileNotFoundError):  # taken for dead in the moment before it was locked
            lock = os.open(place, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks: nobody will take it for dead there
                fcntl.flock(lock, fcntl.LOCK_EX)
            if place.exists():
                return place, lock
            os.close(lock)


def _discard(place: Path, settle: Settle) -> None:
    settle(place)
    shutil.rmtree(place, ignore_errors=True)


def put(new: Path, path: Path) -> None:
    """Give the folder `new` the name `path` in one step; what was there is left in the place that `new` was in.

    Where the system cannot exchange two folders, two renames do it: who dies between them leaves the old version in
    `old*/`, beside the folder that `new` is in. When `path` is the new one, they become `was*/`.
    """
    place, turn = new.parent.parent, 0
    while not _takes(new, path) and not exchange(new, path):
        old = place / f"{OLD}{turn}" / path.name
        old.parent.mkdir()
        turn += 1
        try:
            path.rename(old)
        except FileNotFoundError:  # another writer is between its two renames
            continue
        try:
            if _takes(new, path):
                break
        except OSError:
            old.rename(path)
            raise
    for number in range(turn):
        (place / f"{OLD}{number}").rename(place / f"was{number}")


def _takes(new: Path, path: Path) -> bool:
    """Rename a folder; False where one is there already."""
    try:
        new.rename(path)
    except OSError as error:
        if error.errno not in THERE_ALREADY:
            raise
        return False
    return True


def exchange(one: Path, other: Path) -> bool:
    """Let two paths change names, at once; whether the system can."""
    system = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(system, "renameat2"):
        failed = system.renameat2(HERE, names[0], HERE, names[1], EXCHANGE)
    elif hasattr(system, "renamex_np"):
        failed = system.renamex_np(*names, EXCHANGE)
    else:
        return False
    number = ctypes.get_errno()
    if failed and number not in CANNOT_EXCHANGE:
        raise OSError(number, os.strerror(number), str(other))
    return not failed


def sync(path: Path) -> None:
    """Bring a file, or a folder and all that is in it, onto the disk."""
    if path.is_dir():
        for part in path.iterdir():
            sync(part)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # folders of some file systems
            raise
    finally:
        os.close(descriptor)


def sync_name(path: Path) -> None:
    """Bring onto the disk that `path` has its name."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Raise the system's refusal to write `path`, whichever library met it, as an `OutputError` that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise OutputError(f"{path}: cannot be written: {reason}; nothing there was changed") from error


def _reason(error: BaseException | None) -> str | None:
    while error is not None:
        found = OTHER_NUMBERS.search(str(error))
        if isinstance(error, OSError) and error.errno:
            return os.strerror(error.errno)
        if found:
            return os.strerror(int(found[1]))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def check_place(path: Path) -> None:
    """Refuse a path beside which nothing can be written, by trying.

    Raises:
        OutputError: a file where a folder is needed, no permission, a read-only or full file system.
    """
    with told(path):
        parent = path.parent
        while not parent.exists() and parent != parent.parent:
            parent = parent.parent
        with workplace(parent / path.name, PART):
            pass
