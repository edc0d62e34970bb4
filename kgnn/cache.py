"""The cache folder: what can be made again is kept there. Code is loaded from it, so it must be the user's alone."""

import logging
import os
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """Return where what can be made again is kept, or None where no folder can be trusted or written to.

    `$KGNN_CACHE`, else `kgnn` in `$XDG_CACHE_HOME`, else in `~/.cache`: an absolute path. Made with mode 0700; a folder
    that is another user's, or that others may write to or replace, is not used.
    """
    folder, reason = find()
    if reason:
        _tell(reason)
    return folder


def find() -> tuple[Path | None, str]:
    """Return the cache folder, made where it is missing; or None and why there is none."""
    asked = os.environ.get("KGNN_CACHE")
    if asked:
        folder = Path(asked)
        if not folder.is_absolute():
            return None, f"KGNN_CACHE is {asked!r}; give an absolute path"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        try:  # the XDG specification: a path that is not absolute is as if not set
            folder = (base if base.is_absolute() else Path.home() / ".cache") / "kgnn"
        except RuntimeError:  # a user without a name
            return None, "there is no home folder; set KGNN_CACHE to a folder of your own"
    try:
        reason = _prepare(folder)
    except OSError as error:
        reason = f"{error.strerror or error}; set KGNN_CACHE to a folder of your own"
    return (None, f"{folder}: {reason}") if reason else (folder.resolve(), "")


def is_ours(path: Path) -> bool:
    """Whether a file or folder belongs to this user and nobody else may write to it."""
    status = path.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _prepare(folder: Path) -> str:
    """Make the folder where it is missing; return why it must not be used, or ""."""
    for parent in folder.resolve().parents:
        with suppress(FileNotFoundError):
            status = parent.stat()
            if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
                return f"anybody may replace it, since all may write to {parent}; set KGNN_CACHE to another folder"
            if status.st_uid != os.geteuid() == 0:  # sudo with the user's HOME: he could not use what root makes in it
                return f"{parent} is another user's, who may replace it; set HOME or KGNN_CACHE to a folder of root's"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_ours(folder):
        return "another user's, or others may write to it; remove it, or set KGNN_CACHE to a folder of your own"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "cannot be written to; set KGNN_CACHE to another folder"


@cache
def _tell(reason: str) -> None:
    log.warning("nothing is kept in a cache: %s", reason)
