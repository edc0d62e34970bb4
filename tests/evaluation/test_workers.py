"""A process that dies costs its task alone."""

import os
import signal
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from kgnn.evaluation.workers import in_processes


def work(task):
    """Note that it was done, and end with the signal that the task names."""
    folder, name, number = task
    with Path(folder, name).open("a") as file:
        file.write("done\n")
    if number:
        os.kill(os.getpid(), number)
    return name, None


@pytest.mark.parametrize("processes", [2, 3])
def test_each_task_is_done_and_each_death_told(tmp_path, processes):
    ends = {"b": signal.SIGKILL, "d": signal.SIGSEGV, "e": signal.SIGKILL, "i": signal.SIGTERM}
    tasks = [(tmp_path, name, ends.get(name)) for name in "abcdefghi"]
    found = list(in_processes(work, tasks, processes, lambda task, why: (task[1], why)))
    assert sorted(name for name, _ in found) == list("abcdefghi")
    told = {name: why for name, why in found if why}
    assert set(told) == set(ends)
    for name, number in ends.items():
        assert f"its process died ({number.name}({-number}))" in told[name]
        assert ("memory" in told[name]) == (number == signal.SIGKILL)
        assert (tmp_path / name).read_text() in ("done\n", "done\n" * 2)  # among others, and alone


def test_with_one_process_the_work_is_done_here(tmp_path):
    tasks = [os.getpid()] * 3
    assert list(in_processes(lambda pid: pid == os.getpid(), tasks, 1, None)) == [True] * 3


def test_an_error_of_the_work_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(in_processes(lambda task: 1 / task, [1, 0], 2, None))


class Unreadable:
    """Work that no other process can read."""

    def __reduce__(self):
        return int, ("no number",)


def test_where_no_task_can_begin_that_is_told():
    with pytest.raises(BrokenProcessPool):
        list(in_processes(Unreadable(), [1, 2], 2, None))
