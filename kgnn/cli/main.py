"""The command line: `kgnn demo | graph | train | predict | evaluate | benchmark | ablate | pretrain | embed | links`"""

import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

from kgnn.cli.cells import embed, pretrain
from kgnn.cli.common import Json, Once, console, new_table, write_result
from kgnn.cli.compare import ablate, benchmark
from kgnn.cli.graph import graph_app
from kgnn.cli.links import links
from kgnn.cli.perturbation import evaluate, predict, train
from kgnn.errors import InputError

app = typer.Typer(help="Graph neural networks on knowledge graphs for single-cell biology.", no_args_is_help=True)
app.add_typer(graph_app, name="graph")
for command in (train, predict, evaluate, benchmark, ablate, pretrain, embed, links):
    app.command(cls=Once)(command)


@app.command(cls=Once)
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for graph, model, predictions, figure.")] = Path(
        "demo"
    ),
    seed: int = 0,
    json: Json = None,
) -> None:
    """Simulate a screen; compare the default model and GEARS on the true, a rewired and no graph with baselines."""
    from kgnn.cli.demo import run_demo
    from kgnn.evaluation.headline import HEADLINE

    result = run_demo(out, seed, lambda step: console.print(f"[dim]· {step}[/]"))
    rows = result["models"] | result["references"]
    means = {name: {score: values["mean"] for score, values in summary.items()} for name, summary in rows.items()}
    columns = {**HEADLINE, "mse": "MSE", "pearson_delta": "Pearson Δ, control"}
    scores = pd.DataFrame(means).T
    title = f"{result['conditions']['test']} unseen conditions, perturbed genes left out"
    table = new_table(title, ["model", *columns.values()])
    for name, row in scores.sort_values("pearson_centred", ascending=False).iterrows():
        table.add_row(str(name), *("" if pd.isna(row[column]) else f"{row[column] + 0:.3f}" for column in columns))
    console.print(table)
    console.print(f"The default model, true graph: {result['verdict']}")
    console.print(
        f"{result['seconds']:.0f} s; {out}/scores.png shows the 95 % intervals. The same model on scrambled edges "
        "tells what the graph is worth."
    )
    write_result(json, result)


def main() -> None:
    """Run the command line; an unusable input ends it with one line on stderr and exit status 1."""
    errors = Console(stderr=True)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, category, *_args, **_more: (
            errors.print(f"[yellow]warning:[/] {message}", highlight=False, soft_wrap=True)
            if category.__name__ == "DataWarning"
            else logging.getLogger("kgnn").debug("%s", message)
        )
        try:
            app()
        except InputError as error:
            errors.print("[red]error:[/]", str(error), highlight=False, soft_wrap=True, markup=True)
            sys.exit(1)
