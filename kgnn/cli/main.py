"""`kgnn demo | graph | train | predict | evaluate | benchmark | ablate | pretrain | embed | links | doctor`."""

import logging
import sys
import warnings
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.text import Text

from kgnn.cli.cells import embed, pretrain
from kgnn.cli.common import Console, Json, Once, console, new_table, shared_folder, write_result
from kgnn.cli.compare import ablate, benchmark
from kgnn.cli.doctor import doctor
from kgnn.cli.graph import graph_app
from kgnn.cli.links import links
from kgnn.cli.perturbation import evaluate, predict, train
from kgnn.errors import InputError, OutputError

app = typer.Typer(help="Graph neural networks on knowledge graphs for single-cell biology.", no_args_is_help=True)
app.add_typer(graph_app, name="graph")
for command in (train, predict, evaluate, benchmark, ablate, pretrain, embed, links, doctor):
    app.command(cls=Once)(command)


@app.command(cls=Once)
def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", callback=shared_folder, help="Folder for graph, model, predictions, figure.")
    ] = Path("demo"),
    seed: int = 0,
    json: Json = None,
) -> None:
    """Simulate a screen; compare the default model and GEARS on the true, a rewired and no graph with baselines."""
    from kgnn.cli.demo import run_demo
    from kgnn.evaluation.headline import HEADLINE

    result = run_demo(out, seed, lambda step: console.print(f"· {step}", style="dim"))
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
    """Run the command line; one line on stderr says what is wrong: exit status 1 for an input, 2 for a target."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # what a terminal's encoding lacks ends no command
    errors = Console(stderr=True)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, category, *_args, **_more: (
            errors.print(Text("warning:", "yellow"), str(message), highlight=False, soft_wrap=True)
            if category.__name__ == "DataWarning"
            else logging.getLogger("kgnn").debug("%s", message)
        )
        try:
            app()
        except InputError as error:
            errors.print(Text("error:", "red"), str(error), highlight=False, soft_wrap=True)
            sys.exit(2 if isinstance(error, OutputError) else 1)
