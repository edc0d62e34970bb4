"""What the commands share: options, tables on the screen, results as JSON."""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand

from kgnn.durable import check_place
from kgnn.errors import InputError
from kgnn.files import check_target, write_json
from kgnn.folders import check_folder

CONTROL_CODES = re.compile(r"[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]")


class Console(RichConsole):
    """Prints texts as they are, since names may be anybody's: no markup, no emoji codes, no codes to the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Take every text that is printed, those in tables too."""
        return super().render_str(CONTROL_CODES.sub(lambda code: f"\\x{ord(code[0]):02x}", text), **options)


console = Console()


def target(path: Path | None) -> Path | None:
    """Refuse a file that cannot be written before any work is done."""
    return None if path is None else check_target(path)


def target_folder(kind: str) -> Callable[[Path | None], Path | None]:
    """Refuse a folder that cannot be written or replaced by one of a kind before any work is done."""
    return lambda path: None if path is None else check_folder(path, kind)


def shared_folder(path: Path) -> Path:
    """Refuse a folder into which no file can be written before any work is done."""
    check_place(Path(os.path.realpath(path), "kgnn"))
    return path


Json = Annotated[
    Path | None, typer.Option("--json", callback=target, help="Write the result for programs to this file.")
]
ConditionKey = Annotated[str, typer.Option(help="Column of obs with each cell's condition.")]
Control = Annotated[
    list[str] | None,
    typer.Option(help="Label of control cells, may be repeated; default: control, ctrl, non-targeting, NT."),
]
GroupKey = Annotated[str | None, typer.Option(help="Column of obs (batch, cell line) within which controls count.")]
EffectKind = Annotated[str, typer.Option(help="What a table of effects holds: change, or binary (0 and 1).")]


def new_table(title: str | None, columns: list[str]) -> Table:
    """Return an empty table; the first column and those of names stand left, numbers right."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        left = number == 0 or column in ("source", "side", "other")
        name = column == "model"  # a word; other columns give way
        table.add_column(column, justify="left" if left else "right", overflow="fold", no_wrap=name)
    return table


def cell(value: Any) -> str:
    """Write a value for a table."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:,.0f}" if value == round(value) else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def short(relation: str) -> str:
    """Write a relation for a table: `regulates` between genes, else with its types: `in_family (gene → family)`."""
    source, name, target = relation.split("–") if relation.count("–") == 2 else ("gene", relation, "gene")
    if source == target:
        return name if source == "gene" else f"{name} ({source})"
    return f"{name} ({source} → {target})"


def say_coverage(coverage: dict[str, Any]) -> None:
    """Say how many genes the graph knows."""
    if coverage:
        told = " and ".join(f"{found.known} of {found.total} {side}" for side, found in coverage.items())
        console.print(f"the graph knows {told} genes")


def write_result(path: Path | None, result: Any) -> None:
    """Write the result as JSON, if a file was asked for."""
    if path is not None:
        write_json(path, _plain(result))


def _plain(value: Any) -> Any:
    """Make a value JSON: NumPy numbers become plain ones, NaN becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Once(TyperCommand):
    """A command of which an option that takes one value may stand once: the last would win, and the others be lost."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for option in self.params:
            given = sum(text.partition("=")[0] in option.opts for text in args)
            if given > 1 and not getattr(option, "multiple", False) and getattr(option, "nargs", 1) == 1:
                raise InputError(f"{option.opts[0]} is given {given} times and takes one value; give it once")
        return super().parse_args(ctx, args)
