"""Tasks in processes side by side: one whose process dies is told, and the others go on."""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from joblib import Parallel, delayed

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Task], Result], tasks: Sequence[Task], processes: int, died: Callable[[Task, str], Result]
) -> Iterator[Result]:
    """Yield what `work` makes of each task, as they are done; what `died` makes of one whose process dies, and why.

    With one process the work is done here. A process that dies ends its pool: what was at work is done again, each task
    alone, since any of them may have been the one; then the others go on in a new pool.
    """
    waiting = dict(enumerate(tasks))
    with tempfile.TemporaryDirectory() as begun:
        while waiting:
            suspects = [number for number in waiting if Path(begun, str(number)).exists()]
            now = suspects[:1] or list(waiting)
            jobs = (delayed(_noted)(work, waiting[number], number, begun) for number in now)
            try:
                for number, result in Parallel(processes, return_as="generator_unordered", batch_size=1)(jobs):
                    del waiting[number]
                    yield result
            except BrokenProcessPool as error:
                if suspects:
                    yield died(waiting.pop(now[0]), reason_of(error))
                elif not any(Path(begun).iterdir()):  # nothing was begun: not the work's fault
                    raise


def _noted(work: Callable[[Task], Result], task: Task, number: int, begun: str) -> tuple[int, Result]:
    Path(begun, str(number)).touch()
    return number, work(task)


def reason_of(error: BrokenProcessPool) -> str:
    """What became of the process, and what to do."""
    codes = re.search(r"\{(.+?)\}", str(error))
    told = f"its process died ({codes[1] if codes else 'no exit code'})"
    if "SIGKILL" in told:
        return f"{told}, most likely since memory ran out; take fewer processes or a smaller model"
    return f"{told}: a crash of compiled code; run it with one process to see where"
