"""The rooms import only what stands before them, and nothing prints or loads pickles."""

import ast
from pathlib import Path

import pytest

import kgnn

ROOT = Path(kgnn.__file__).parent
BELOW = {"errors", "files"}
ALLOWED = {
    "graph": {"graph"},
    "data": {"data"},
    "ops": {"ops"},
    "nn": {"nn", "ops"},
    "models": {"models", "graph", "data", "nn", "ops"},
}
FILES = sorted(ROOT.rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        rooms |= {name.split(".")[1] for name in names if name.startswith("kgnn.")}
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_never_point_back_up(path):
    room = path.relative_to(ROOT).parts[0]
    if room in ALLOWED:
        assert imported_rooms(path) <= ALLOWED[room] | BELOW
    assert len(path.read_text().splitlines()) <= 330, "a file reads like a text; split it"


def test_the_check_sees_imports(tmp_path):
    (tmp_path / "x.py").write_text("import kgnn.models.training\nfrom kgnn.graph import KnowledgeGraph\n")
    assert imported_rooms(tmp_path / "x.py") == {"models", "graph"}
