"""A few mutated files for every parser; `python -m tests.fuzz` tries ten thousand."""

import pytest

from tests.fuzz import PARSERS, fuzz


@pytest.mark.parametrize("name", PARSERS)
def test_nothing_but_our_own_error_comes_out(name, monkeypatch):
    monkeypatch.setenv("KGNN_CACHE", "set by the run, and put back")
    _, refused, _, wrong = fuzz(name, 60, seed=1)
    assert refused
    assert not wrong, wrong[0]


def test_the_run_sees_a_crash_a_long_error_and_a_refused_original(monkeypatch):
    def crash(path):
        raise KeyError("x")

    monkeypatch.setitem(PARSERS, "broken", ("x", b"abc", lambda path: path.read_bytes() == b"abc" or crash(path)))
    assert "KeyError" in fuzz("broken", 20)[3][0]
