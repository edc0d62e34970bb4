"""The command line prints names as they are, whoever chose them and whatever the terminal can show."""

import io
import sys
import time
import warnings

import pytest
import rich.console

from kgnn import cli, progress
from kgnn.cli.common import Console, new_table, shared_folder
from kgnn.errors import DataWarning, InputError, OutputError

NAMES = ["[/red]", "[bold]x", "a[/]b", ":smile:", "[link=http://x]y[/link]", "\\[x]"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_printed_as_it_is(name, capsys):
    console = Console(width=80)
    console.print(name)
    table = new_table(name, ["relation", name])
    table.add_row(name, name)
    console.print(table)
    assert capsys.readouterr().out.count(name) == 5


@pytest.mark.parametrize(("name", "shown"), [("\x1b[31mred", r"\x1b[31mred"), ("\x9b2J", r"\x9b2J"), ("é–\n\t", "é–")])
def test_codes_to_the_terminal_are_shown(name, shown, capsys):
    console = Console(width=80)
    console.print(name)
    table = new_table(None, ["a"])
    table.add_row(name)
    console.print(table)
    out = capsys.readouterr().out
    assert out.count(shown) == 2
    assert "\x1b" not in out


@pytest.mark.parametrize("name", NAMES)
def test_errors_and_warnings_hold_names(name, monkeypatch, capsys):
    def app():
        warnings.simplefilter("always")
        warnings.warn(f"gene {name} is odd", DataWarning, stacklevel=2)
        raise InputError(f"gene {name} is none")

    monkeypatch.setitem(cli.main.__globals__, "app", app)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err == f"warning: gene {name} is odd\nerror: gene {name} is none\n"


@pytest.fixture
def graph(tmp_path):
    """A graph with such names in every place, built on the command line."""
    (tmp_path / "[red].csv").write_text("source,target\n[/red],:smile:\n[bold]x,[/red]\n")
    text = 'kind = "table"\ntable = "[red].csv"\nrelation = "[/b]"\norigin = "[/i]"\n'
    (tmp_path / "g.toml").write_text(f"[[source]]\n{text}")
    return tmp_path


def test_a_graph_of_a_stranger_and_a_terminal_without_letters(graph, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    monkeypatch.setattr(sys, "argv", ["kgnn", "graph", "build", f"{graph}/g.toml", "-o", f"{graph}/[/kg]"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert "? [/i], gene?[/b]?gene: 2 rows read; 2 edges kept" in written.getvalue().decode("ascii")


def test_a_progress_bar_takes_a_name_as_it_is(monkeypatch):
    written = io.StringIO()
    console = rich.console.Console(file=written, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "Console", lambda **_options: console)
    with progress.progress("[/red] [bold]x", 3, delay=0) as advance:
        advance(1)
        time.sleep(0.1)
    assert "[/red] [bold]x" in written.getvalue()


def test_a_folder_for_results_may_hold_one_of_any_name(tmp_path):
    (tmp_path / "kgnn").mkdir()
    assert shared_folder(tmp_path) == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["kgnn"]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Not a directory"):
        shared_folder(tmp_path / "file")
