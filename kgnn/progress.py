"""How far long work has come: n of N and the time that is left, on a terminal; nothing elsewhere."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

T = TypeVar("T")
DELAY = 2.0  # seconds of work before anything is shown
_shown: list[str] = []  # what is under way in this process: work inside other work shows nothing of its own


@contextmanager
def progress(what: str, total: int | None, delay: float = DELAY) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more of `total` are done (None: it is not known how many there are)."""
    console = Console(stderr=True)
    if _shown or not console.is_terminal:
        with silent():
            yield lambda done: None
        return
    columns = (MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn()) if total else ()
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        *columns,
        console=console,
        transient=True,
    )
    task = bar.add_task(what, total=total)
    timer = Timer(delay, bar.start)
    timer.daemon = True
    timer.start()
    try:
        with silent():
            yield lambda done: bar.advance(task, done)
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Pass items on and show how many of them are through."""
    with progress(what, total if total is not None else len(items)) as advance:  # type: ignore[arg-type]
        for item in items:
            yield item
            advance(1)


@contextmanager
def silent() -> Iterator[None]:
    """Show nothing of the work inside: other work reports it."""
    _shown.append("")
    try:
        yield
    finally:
        _shown.pop()
