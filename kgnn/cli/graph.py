"""The command line: `kgnn graph build | info`."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from kgnn.cli.common import (
    ConditionKey,
    Control,
    Json,
    Once,
    cell,
    console,
    new_table,
    short,
    target,
    target_folder,
    write_result,
)
from kgnn.files import existing_file, new_file, read_h5ad

graph_app = typer.Typer(help="Build and look at knowledge graphs.", no_args_is_help=True)


@graph_app.command("build", cls=Once)
def graph_build(
    config: Annotated[Path, typer.Argument(help="TOML file that describes the graph.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", callback=target_folder("graph"), help="Folder to write the graph to.")
    ],
    split: Annotated[
        Path | None, typer.Option(help="Split (JSON): co-expression and markers use its training cells.")
    ] = None,
    condition_key: ConditionKey = "condition",
    control: Control = None,
    json: Json = None,
) -> None:
    """Build the graph that a TOML file describes and save it; what has not changed comes from a cache."""
    from kgnn.graph import build

    options: dict[str, Any] = {}
    if split is not None:
        from kgnn.data import load_split, training_cells

        parts = load_split(split)
        names: dict[str, Any] = {"condition_key": condition_key, "control": control or None}
        options["cells"] = lambda adata: training_cells(adata, parts, **names)
        text = f"{condition_key} {control or None} ".encode() + existing_file(split).read_bytes()
        options["cells_key"] = hashlib.sha256(text).hexdigest()
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading", total=None)
        kg = build(
            config,
            out=out,
            progress=lambda name, number, total: bar.update(task, description=name, completed=number, total=total),
            **options,
        )
    _show(kg.report(), json)
    console.print(f"saved to {out}")


@graph_app.command("info", cls=Once)
def graph_info(
    path: Annotated[Path, typer.Argument(help="Folder of a saved graph.")],
    genes: Annotated[Path | None, typer.Option(help="H5AD: how many of its genes does the graph cover?")] = None,
    plot: Annotated[
        Path | None, typer.Option(callback=target, help="Draw sources, degrees and overlaps to this PNG, PDF or SVG.")
    ] = None,
    json: Json = None,
) -> None:
    """Print the account of a graph: what was read, kept, merged and dropped, and what the graph looks like."""
    from kgnn.graph import KnowledgeGraph

    kg = KnowledgeGraph.load(path)
    report = kg.report(None if genes is None else read_h5ad(genes).var_names)
    _show(report, json)
    if plot is not None:
        from kgnn.plotting import graph_account

        with new_file(plot) as file:
            graph_account(kg, report).savefig(file, dpi=150, bbox_inches="tight")
        console.print(f"drawn to {plot}")


def _show(report: Any, json: Path | None) -> None:
    console.print("nodes: " + ", ".join(f"{number:,} {kind}" for kind, number in report.nodes.items()))
    if report.namespace:
        console.print(f"genes look like {report.namespace}", highlight=False)
    console.print("weak components: " + ", ".join(f"{what} {number:,}" for what, number in report.components.items()))
    for line in report.reading():
        console.print(Text("·", "dim"), line, highlight=False, soft_wrap=True)
    for note in report.history:
        words = ", ".join(f"{key} {value}" for key, value in note.items() if key != "operation")
        console.print(Text("· then", "dim"), f"{note['operation']}: {words}", highlight=False, soft_wrap=True)
    sources = {"relation": "relation", "origin": "source", "edges": "edges", "positive": "+", "negative": "−"}
    _print("Sources", report.sources, sources | {"unsigned": "unsigned", "weight_median": "weight"})
    degrees = {name: name for name in ("relation", "side", "nodes", "without", "mean", "median", "p99", "max")}
    _print("Edges a node", report.degrees, degrees)
    overlap = {"relation": "relation", "origin": "source", "other": "other", "shared": "shared"}
    _print("Overlap of sources", report.overlap, overlap | {"of_smaller": "of the smaller", "jaccard": "Jaccard"})
    _print(
        "The data's genes", report.coverage, {"genes": "relation", "covered": "covered", "of": "of", "share": "share"}
    )
    write_result(json, report.to_dict())


def _print(title: str, frame: pd.DataFrame, columns: dict[str, str]) -> None:
    if frame.empty:
        return
    table = new_table(title, list(columns.values()))
    for _, row in frame.iterrows():
        table.add_row(*(short(row[c]) if columns[c] == "relation" else cell(row[c]) for c in columns))
    console.print(table)
