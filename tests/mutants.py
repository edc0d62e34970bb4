"""Mutation testing: change one operator, number or condition of a file at a time, and see whether the tests notice.

python -m tests.mutants kgnn/data/splits.py [-n 40] [--seed 0] [--processes 1] [--tests PATH ...] [--json FILE]

The mutants are cosmic-ray's, applied in a temporary copy of the repository; the working tree is never touched.
"""

import argparse
import ast
import contextlib
import difflib
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from rich.console import Console
from rich.table import Table
from rich.text import Text

PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0")
LEAVE = (".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "work")
ROOT = Path(__file__).resolve().parents[1]
DATA = {"KGNN_TEST_DATA": str(ROOT.parent / "shared" / "data")}
MESSAGES = ("warn", "debug", "info", "warning", "error", "exception")


@dataclass(order=True)
class Mutant:
    """A place where an operator of cosmic-ray changes a file, and what came of it."""

    file: str
    line: int
    column: int
    operator: str
    occurrence: int
    code: str = ""
    change: str = ""
    outcome: str = ""
    seconds: float = 0.0


def unmeant(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a file that no test can see: annotations, what type checkers import, texts of messages."""
    for node in ast.walk(tree):
        yield from filter(None, (getattr(node, "annotation", None), getattr(node, "returns", None)))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from node.body
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Raise) or getattr(called, "attr", getattr(called, "id", "")) in MESSAGES:
            yield from (part for part in ast.walk(node) if isinstance(part, ast.JoinedStr))
            yield from (part for part in ast.walk(node) if isinstance(part, ast.keyword) and part.arg == "stacklevel")


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Return all mutants of a file, from its top to its end."""
    lines = source.splitlines()

    def position(line: int, offset: int) -> tuple[int, int]:  # ast counts bytes, cosmic-ray characters
        return line, len(lines[line - 1].encode()[:offset].decode())

    parts = list(unmeant(ast.parse(source)))
    spans = [(position(p.lineno, p.col_offset), position(p.end_lineno, p.end_col_offset)) for p in parts]
    nodes = list(ast_nodes(get_ast(source)))
    found = []
    for name in operator_names():
        if get_operator(name).arguments():
            continue  # needs the names of variables
        operator = get_operator(name)()
        places = (place for node in nodes for place, _ in operator.mutation_positions(node))
        for occurrence, place in enumerate(places):
            if "# pragma: no mutate" not in lines[place[0] - 1] and not any(a <= place < b for a, b in spans):
                found.append(Mutant(file, *place, name.removeprefix("core/"), occurrence))
    return sorted(found)


def apply(mutant: Mutant, source: str) -> bool:
    """Put the mutated code into a mutant; False where it is no Python or means the same."""
    code = mutate_code(source, get_operator(f"core/{mutant.operator}")(), mutant.occurrence)
    try:
        if code is None or ast.dump(ast.parse(code)) == ast.dump(ast.parse(source)):
            return False
    except SyntaxError:
        return False
    lines = difflib.unified_diff(source.splitlines(), code.splitlines(), n=0, lineterm="")
    mutant.code = code
    mutant.change = "\n".join(f"{line[0]} {line[1:].strip()}" for line in list(lines)[2:] if line[0] in "+-")
    return True


def sample(mutants: Sequence[Mutant], sources: dict[str, str], n: int, seed: int) -> list[Mutant]:
    """Return `n` mutants, one out of each of `n` equal stretches of the files."""
    rng = random.Random(seed)
    n = min(n, len(mutants))
    chosen = []
    for i in range(n):
        stretch = list(mutants[i * len(mutants) // n : (i + 1) * len(mutants) // n])
        rng.shuffle(stretch)
        chosen += next(([mutant] for mutant in stretch if apply(mutant, sources[mutant.file])), [])
    return chosen


def mirror(file: str, root: Path) -> tuple[str, ...]:
    """Return the tests of a file, nearest first.

    For kgnn/a/b/c.py: what is named after c, b or a in tests/a/b/ and tests/a/, or else tests/; then all of tests/a/b/.
    """
    _, *folders, stem = Path(file).with_suffix("").parts
    names = [name.removesuffix("s") for name in (stem, *folders[::-1])]
    places = [root.joinpath("tests", *folders[:depth]) for depth in range(len(folders), -1, -1)]

    def named(places: Sequence[Path]) -> list[Path]:
        return [path for name in names for place in places for path in sorted(place.glob(f"test_{name}*.py"))]

    found = (named(places[:-1]) or named(places[-1:])) + (sorted(places[0].rglob("test_*.py")) if folders else [])
    if not found:
        raise SystemExit(f"no tests mirror {file}: name them with --tests")
    return tuple(dict.fromkeys(path.relative_to(root).as_posix() for path in found))


def run(copy: Path, arguments: Sequence[str], limit: float | None = None, **settings: str) -> tuple[str, float, str]:
    """Run Python in a copy of the repository; return how it went, the seconds, and the end of what it wrote."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        places = dict.fromkeys(("TMPDIR", "KGNN_CACHE", "HYPOTHESIS_STORAGE_DIRECTORY"), scratch)
        environment = DATA | os.environ | places | {"PYTHONPATH": str(copy), "PYTEST_ADDOPTS": ""} | settings
        start, log = time.perf_counter(), Path(scratch, "log")
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=copy, env=environment, stdout=out, stderr=out, start_new_session=True
            )
            try:
                outcome = "failed" if process.wait(limit) else "passed"
            except subprocess.TimeoutExpired:
                outcome = "time-out"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with all that it started
                process.wait()
        return outcome, time.perf_counter() - start, log.read_text(errors="replace")[-3000:].strip()


def unmutated_seconds(copy: Path, tests: Sequence[str]) -> float:
    """Return how long tests take without any mutant; they must pass."""
    outcome, seconds, output = run(copy, [*PYTEST, *tests])
    if outcome != "passed":
        raise SystemExit(f"{' '.join(tests)}: red without any mutant\n{output}")
    return seconds


def examine(mutant: Mutant, copy: Path, tests: Sequence[str], limit: float) -> None:
    """Run the tests of a mutant, and note in it what came of them."""
    path = copy / mutant.file
    source = path.read_text()
    path.write_text(mutant.code)
    mutant.outcome, mutant.seconds, _ = run(copy, [*PYTEST, *tests], limit, PYTHONDONTWRITEBYTECODE="1")
    path.write_text(source)


def examine_all(arguments: argparse.Namespace, folder: Path, console: Console) -> list[Mutant]:
    """Return a sample of the mutants of some files, each with what came of it in one of several copies."""
    copies = [folder / str(i) for i in range(arguments.processes)]
    shutil.copytree(arguments.root, copies[0], ignore=shutil.ignore_patterns(*LEAVE))
    for package in {Path(file).with_suffix("").parts[0] for file in arguments.files}:
        _, _, place = run(copies[0], ["-c", f"import {package}; print({package}.__file__)"])
        if not Path(place).is_relative_to(copies[0]):
            raise SystemExit(f"{package} is imported from elsewhere: {place}")
    sources = {file: (copies[0] / file).read_text() for file in arguments.files}
    everything = [mutant for file, source in sources.items() for mutant in mutants_of(file, source)]
    chosen = sample(everything, sources, arguments.n, arguments.seed)
    tests = {mutant.file: tuple(arguments.tests) or mirror(mutant.file, copies[0]) for mutant in chosen}
    seconds = {names: unmutated_seconds(copies[0], names) for names in dict.fromkeys(tests.values())}
    console.print(f"{len(chosen)} of {len(everything)} mutants; their tests take {sum(seconds.values()):.0f} s without")
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for copy in copies:
        if copy != copies[0]:
            shutil.copytree(copies[0], copy)  # with the bytecode
        free.put(copy)

    def work(mutant: Mutant) -> Mutant:
        copy = free.get()
        examine(mutant, copy, tests[mutant.file], 3 * seconds[tests[mutant.file]] + 30)
        free.put(copy)
        return mutant

    with ThreadPoolExecutor(arguments.processes) as pool:
        for number, mutant in enumerate(pool.map(work, chosen), 1):
            where = f"{number}/{len(chosen)} {mutant.file}:{mutant.line}"
            console.print(f"{where} {mutant.outcome} after {mutant.seconds:.0f} s", markup=False)
    return chosen


def report(mutants: Sequence[Mutant], console: Console) -> None:
    """Print a table of the mutants, and how many were noticed."""
    table = Table("file", "line", "operator", "change", "", show_lines=True)
    for mutant in mutants:
        outcome = {"passed": "[red]survived[/]", "failed": "killed"}.get(mutant.outcome, "killed (time-out)")
        table.add_row(mutant.file, str(mutant.line), mutant.operator, Text(mutant.change), outcome)
    console.print(table)
    console.print(f"noticed {sum(mutant.outcome != 'passed' for mutant in mutants)} of {len(mutants)}")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", help="paths from the root of the repository")
    parser.add_argument("-n", type=int, default=40, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--tests", nargs="+", action="extend", default=[], help="in place of the tests that mirror the files"
    )
    parser.add_argument("--json", type=Path, help="write the mutants and their outcomes to this file")
    parser.add_argument("--root", type=Path, default=ROOT)
    arguments = parser.parse_args(words)
    arguments.files = sorted(set(arguments.files))
    for file in arguments.files:
        if not (arguments.root / file).is_file():
            parser.error(f"there is no {file} in {arguments.root}")
    console = Console()
    console.width = max(console.width, 140)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        mutants = examine_all(arguments, Path(folder).resolve(), console)
    report(mutants, console)
    if arguments.json:
        rows = [asdict(mutant) for mutant in mutants]
        arguments.json.write_text(json.dumps([{k: v for k, v in row.items() if k != "code"} for row in rows], indent=1))


if __name__ == "__main__":
    main()
