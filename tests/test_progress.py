"""Progress: nothing where nobody looks; on a terminal, after a while, once."""

import re
import time
from io import StringIO

import pytest
from rich.console import Console

from kgnn import progress as module
from kgnn.progress import progress, silent, track


@pytest.fixture
def terminal(monkeypatch):
    """What a terminal is sent."""
    out = StringIO()
    monkeypatch.setenv("TERM", "xterm")

    def make(stderr):
        assert stderr
        return Console(file=out, force_terminal=True, width=100)

    monkeypatch.setattr(module, "Console", make)
    return out


def shown(out):
    """What is read there: without colours and movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def wait_for(out, text, seconds=5.0):
    """Whether the text appears in time."""
    end = time.monotonic() + seconds
    while text not in shown(out) and time.monotonic() < end:
        time.sleep(0.02)
    return text in shown(out)


def test_nothing_is_shown_where_there_is_no_terminal(monkeypatch, capsys):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    with progress("working", 3, delay=0) as advance:
        advance(1)
        time.sleep(0.2)
        advance(2)
    assert list(track(range(3), "working")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_n_of_n_appears_on_a_terminal(terminal):
    with progress("working", 37, delay=0) as advance:
        assert wait_for(terminal, " 0/37 left")
        assert "working" in shown(terminal)
        advance(5)
        assert wait_for(terminal, " 5/37 left")
        advance(32)
        assert wait_for(terminal, "37/37 left")


def test_nothing_appears_before_the_delay(terminal):
    with progress("working", 3, delay=60) as advance:
        advance(1)
        time.sleep(0.2)
    assert "working" not in shown(terminal)
    with progress("working", 3, delay=0.3) as advance:
        start = time.monotonic()
        advance(2)
        assert wait_for(terminal, "2/3 left")
        assert time.monotonic() - start > 0.25


def test_an_unknown_total_shows_that_work_goes_on_but_no_number(terminal):
    with progress("reading", None, delay=0) as advance:
        assert wait_for(terminal, "reading")
        advance(1)
        time.sleep(0.2)
    assert "left" not in shown(terminal)
    assert "1/" not in shown(terminal)


def test_work_inside_other_work_shows_nothing_of_its_own(terminal):
    with progress("outer", 2, delay=0) as advance:
        with progress("inner", 7, delay=0) as inner:
            inner(4)
            assert wait_for(terminal, "0/2 left")
        assert list(track("ab", "innermost")) == ["a", "b"]
        advance(1)
        assert wait_for(terminal, "1/2 left"), "the outer bar goes on after the inner work"
    assert "inner" not in shown(terminal)
    assert "4/7" not in shown(terminal)


def test_work_after_other_work_shows_again(terminal):
    for name in ("first", "second"):
        with progress(name, 2, delay=0):
            assert wait_for(terminal, name)


def test_silent_shows_nothing_and_ends(terminal):
    with silent():
        with progress("hidden", 2, delay=0) as advance:
            advance(1)
            time.sleep(0.3)
        assert terminal.getvalue() == ""
        with silent(), progress("hidden", 2, delay=0):
            time.sleep(0.2)
    assert terminal.getvalue() == ""
    with progress("seen", 2, delay=0):
        assert wait_for(terminal, "seen")


def test_track_passes_items_on_and_counts_them(terminal, monkeypatch):
    monkeypatch.setattr(module, "progress", lambda what, total: progress(what, total, delay=0))
    seen = []
    for item in track(iter("abcd"), "counting", 4):
        seen.append(item)
        assert wait_for(terminal, f"{len(seen) - 1}/4 left")
    assert seen == list("abcd")


@pytest.mark.parametrize("delay", [0, 60])
def test_work_that_fails_leaves_no_bar_behind(terminal, delay):
    def fail():
        with progress("failing", 2, delay=delay) as advance:
            if not delay:
                assert wait_for(terminal, "failing")
            advance(1)
            raise ValueError("as told")

    with pytest.raises(ValueError, match="as told"):
        fail()
    assert module._shown == []
    end = len(terminal.getvalue())
    time.sleep(0.3)
    assert len(terminal.getvalue()) == end


def test_items_that_are_not_used_up_leave_no_bar_behind(terminal):
    items = track(range(5), "tracking")
    assert next(items) == 0
    items.close()
    assert module._shown == []
