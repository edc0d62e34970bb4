"""Arrows between the rooms never point back up, no two files import each other, and every file is short."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

import kgnn

ROOT = Path(kgnn.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# ground: below all rooms; face: the short names on top of them, for users alone
GROUND = (
    "cache", "durable", "errors", "expression", "files", "folders", "names", "parts", "progress", "schema", "threads",
    "version",
)  # fmt: skip
FACE = ("__init__", "benchmark", "controls", "interactions", "metrics")
BELOW_NN = ("graph", "data", "ops")
ALLOWED: dict[str, set[str]] = {
    "ground": set(),
    "graph": set(),
    "data": set(),
    "ops": set(),
    "nn": {"ops"},
    "models": {*BELOW_NN, "nn"},
    "evaluation": {*BELOW_NN, "nn", "models"},
    "plotting": {"graph", "data", "evaluation"},
    "cli": {*BELOW_NN, "nn", "models", "evaluation", "plotting"},
    "face": {*BELOW_NN, "nn", "models", "evaluation", "plotting", "cli"},
}


def room(file: str) -> str:
    """Return the room of a file that is named from the package's folder, such as `graph/edges.py`."""
    first, *rest = Path(file).with_suffix("").parts
    return first if rest else "ground" if first in GROUND else "face" if first in FACE else f"no room ({file})"


def imported_names(path: Path, root: Path) -> Iterator[str]:
    """Yield all that a file imports, as `kgnn.graph.edges.x`: on top, in functions, for type checkers, by name."""
    package = (root.name, *path.relative_to(root).parts[:-1])

    def absolute(name: str, level: int) -> str:
        return ".".join([*package[: len(package) - level + 1], *([name] if name else [])]) if level else name

    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(node.module or "", node.level)
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            function = getattr(node.func, "attr", getattr(node.func, "id", ""))
            name = getattr(node.args[0], "value", None)
            if function in ("import_module", "__import__") and isinstance(name, str):
                yield absolute(name.lstrip("."), len(name) - len(name.lstrip(".")))


def imported_files(path: Path, root: Path) -> set[str]:
    """Return the package's files that a file imports; a name that is no file is looked for in the file above it."""
    files = set()
    for name in imported_names(path, root):
        first, *parts = name.split(".")
        for end in range(len(parts) if first == root.name else -1, -1, -1):
            place = root.joinpath(*parts[:end])
            found = [file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()]
            if found:
                files.add(found[0].relative_to(root).as_posix())
                break
    return files


def import_graph(root: Path) -> nx.DiGraph:
    """Return the graph of a package's files: an edge from each file to each one that it imports."""
    graph = nx.DiGraph()
    for path in sorted(root.rglob("*.py")):
        file = path.relative_to(root).as_posix()
        graph.add_node(file)
        graph.add_edges_from((file, other) for other in sorted(imported_files(path, root)))
    return graph


def arrows_up(graph: nx.DiGraph) -> list[str]:
    """Return the imports of rooms that stand above the file's own, or of the face, or out of no room."""
    return [
        f"{file} -> {other}: {room(file)} may not import {room(other)}"
        for file, other in graph.edges
        if room(other) not in {room(file), "ground"} | ALLOWED.get(room(file), set())
    ]


def circles(graph: nx.DiGraph) -> list[str]:
    """Return the smallest circle of each group of files that import one another, as `a -> b -> a`."""
    found = []
    for group in nx.strongly_connected_components(graph):
        edges = sorted(graph.subgraph(group).edges)
        paths = [[file, *nx.shortest_path(graph, other, file)] for file, other in edges]
        found += [" -> ".join(min(paths, key=len))] if paths else []
    return sorted(found)


@pytest.fixture(scope="module")
def house() -> nx.DiGraph:
    return import_graph(ROOT)


def test_arrows_never_point_back_up(house):
    found = arrows_up(house)
    assert not found, "\n".join(["imports of what stands above:", *found])


def test_no_files_import_each_other(house):
    found = circles(house)
    assert not found, "\n".join(["circles of imports:", *found])


def test_every_file_has_a_room(house):
    assert {room(file) for file in house} <= ALLOWED.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_reads_like_a_text(path):
    assert len(path.read_text().splitlines()) <= 330, "a file reads like a text; split it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_is_read_or_written_in_the_locale_s_encoding(path):
    calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    found = [
        node.lineno
        for node in calls
        if getattr(node.func, "attr", "") in ("read_text", "write_text")
        and "encoding" not in {keyword.arg for keyword in node.keywords}
    ]
    assert not found, f'lines {found}: give encoding="utf-8", or "utf-8-sig" for what users write'


CLEAN = {
    "__init__.py": "from kgnn import graph, models",
    "errors.py": "import json",
    "graph/__init__.py": "from kgnn.graph.edges import Edges",
    "graph/edges.py": "from ..errors import InputError\nfrom . import tables",
    "graph/tables.py": "",
    "models/__init__.py": "",
    "models/model.py": "import kgnn.graph.edges as e\nfrom kgnn.graph import Edges, tables\nfrom kgnn import graph",
}


@pytest.fixture
def fake(tmp_path):
    """Write a small package with some files changed, and return its imports."""

    def write(changed: dict[str, str]) -> nx.DiGraph:
        for name, text in (CLEAN | changed).items():
            path = tmp_path / "kgnn" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return import_graph(tmp_path / "kgnn")

    return write


def test_the_check_resolves_imports_to_files(fake):
    graph = fake({})
    assert set(graph["graph/edges.py"]) == {"errors.py", "graph/tables.py"}
    assert set(graph["models/model.py"]) == {"graph/edges.py", "graph/__init__.py", "graph/tables.py"}
    assert set(graph["__init__.py"]) == {"graph/__init__.py", "models/__init__.py"}
    assert not arrows_up(graph)
    assert not circles(graph)


@pytest.mark.parametrize(
    ("file", "text", "arrow"),
    [
        ("graph/tables.py", "import kgnn.models.model", "graph/tables.py -> models/model.py"),
        ("graph/tables.py", "def f():\n    from ..models import model", "graph/tables.py -> models/model.py"),
        ("errors.py", "from kgnn.graph import tables", "errors.py -> graph/tables.py"),
        ("models/__init__.py", "import kgnn", "models/__init__.py -> __init__.py"),
        ("models/__init__.py", "from kgnn import KnowledgeGraph", "models/__init__.py -> __init__.py"),
        (
            "graph/tables.py",
            "from importlib import import_module\nimport_module('kgnn.models')",
            "graph/tables.py -> models/__init__.py",
        ),
        (
            "graph/tables.py",
            "import importlib\nimportlib.import_module('..models.model', __package__)",
            "graph/tables.py -> models/model.py",
        ),
        ("graph/tables.py", "import kgnn.extra", "graph/tables.py -> extra.py"),
    ],
)
def test_the_check_sees_an_arrow_turned_round(fake, file, text, arrow):
    (found,) = arrows_up(fake({"extra.py": "", file: text}))
    assert found.startswith(f"{arrow}: ")


@pytest.mark.parametrize(
    ("changed", "circle"),
    [
        (
            {"graph/tables.py": "from kgnn.graph.edges import Edges"},
            "graph/edges.py -> graph/tables.py -> graph/edges.py",
        ),
        (
            {"graph/tables.py": "if TYPE_CHECKING:\n    from kgnn.graph.edges import Edges"},
            "graph/edges.py -> graph/tables.py -> graph/edges.py",
        ),
        (
            {"graph/tables.py": "from .more import x", "graph/more.py": "def f():\n    import kgnn.graph.edges"},
            "graph/edges.py -> graph/tables.py -> graph/more.py -> graph/edges.py",
        ),
        (  # a file of a room that imports the room's own face
            {"graph/edges.py": "from kgnn.graph import Graph"},
            "graph/__init__.py -> graph/edges.py -> graph/__init__.py",
        ),
        (  # the smallest of several
            {"graph/tables.py": "from .more import x\nfrom . import edges", "graph/more.py": "from . import edges"},
            "graph/edges.py -> graph/tables.py -> graph/edges.py",
        ),
    ],
)
def test_the_check_sees_circles(fake, changed, circle):
    assert circles(fake(changed)) == [circle]


def test_what_takes_seconds_to_import_is_imported_where_it_is_used():
    code = "import sys; from kgnn import benchmark, controls, data, graph, interactions, metrics, models, nn, ops\n"
    code += "print(*{'lightning', 'scanpy', 'torch_geometric', 'torch._dynamo'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not found.stdout.split()
