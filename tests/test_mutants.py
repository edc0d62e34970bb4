"""The run of mutants notices what the tests notice, leaves what they miss, and does not touch the files."""

import json

import pytest

from tests import mutants
from tests.deliberate import PLACES

MODULE = '''
from __future__ import annotations


def share(part: int | None, whole: int | float) -> float | None:
    """Return part / whole, with two × signs ×."""
    if whole < 0:
        raise ValueError(f"× {whole + 1}")
    unseen = 3 * whole
    hidden = 4 - 2  # pragma: no mutate
    return part / whole
'''
TESTS = "from toy.parts import share\n\ndef test_share():\n    assert share(3, 4) == 0.75\n"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "repository"
    (folder / "tests").mkdir(parents=True)
    (folder / "toy").mkdir()
    (folder / "toy" / "__init__.py").touch()
    (folder / "toy" / "parts.py").write_text(MODULE)
    (folder / "tests" / "test_parts.py").write_text(TESTS)
    return folder


def test_only_code_that_runs_is_mutated():
    found = mutants.mutants_of("toy/parts.py", MODULE)
    assert {MODULE.splitlines()[mutant.line - 1].strip() for mutant in found} == {
        "if whole < 0:",
        "unseen = 3 * whole",
        "return part / whole",
    }


def test_the_seed_decides_the_sample():
    def lines(seed):
        found = mutants.mutants_of("toy/parts.py", MODULE)
        return [(mutant.line, mutant.change) for mutant in mutants.sample(found, {"toy/parts.py": MODULE}, 8, seed)]

    assert len(lines(0)) == 8
    assert lines(0) == lines(0) != lines(1)


def test_what_tests_see_is_noticed_and_the_rest_survives(root, tmp_path, capsys):
    out = tmp_path / "out.json"
    mutants.main(["toy/parts.py", "-n", "6", "--root", str(root), "--json", str(out), "--processes", "2"])
    rows = json.loads(out.read_text())
    assert {"unseen" in row["change"]: {row["outcome"]} for row in rows if "if" not in row["change"]} == {
        True: {"passed"},
        False: {"failed"},
    }
    noticed = sum(row["outcome"] == "failed" for row in rows)
    assert capsys.readouterr().out.rstrip().endswith(f"noticed {noticed} of 6")
    assert (root / "toy" / "parts.py").read_text() == MODULE


def test_an_endless_mutant_is_noticed_in_time(root):
    mutant = mutants.Mutant("toy/parts.py", 1, 0, "x", 0, code="while True:\n    pass\n")
    mutants.examine(mutant, root, ["tests"], limit=3)
    assert mutant.outcome == "time-out"
    assert (root / "toy" / "parts.py").read_text() == MODULE


def test_red_tests_are_told_before_any_mutant(root):
    (root / "tests" / "test_parts.py").write_text("def test_x():\n    assert False\n")
    with pytest.raises(SystemExit, match="red without any mutant"):
        mutants.main(["toy/parts.py", "--root", str(root)])


def test_the_tests_that_mirror_a_file_come_nearest_first(tmp_path):
    names = (
        "data/test_cells",
        "data/test_splits",
        "models/test_cell_model",
        "models/test_x",
        "test_metrics",
        "test_splits",
    )
    for name in names:
        path = tmp_path / "tests" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert mutants.mirror("kgnn/data/splits.py", tmp_path) == ("tests/data/test_splits.py", "tests/data/test_cells.py")
    assert mutants.mirror("kgnn/models/cells/model.py", tmp_path) == ("tests/models/test_cell_model.py",)
    assert mutants.mirror("kgnn/evaluation/metrics/mse.py", tmp_path) == ("tests/test_metrics.py",)
    with pytest.raises(SystemExit, match=r"no tests mirror kgnn/nn/x\.py"):
        mutants.mirror("kgnn/nn/x.py", tmp_path)


def test_what_deliberate_mutants_change_is_there():
    assert [
        name for name, file, text, *_ in PLACES if text not in (mutants.ROOT / file).read_text(encoding="utf-8")
    ] == []
