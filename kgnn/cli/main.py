"""The command line: `kgnn demo | graph | train | predict | evaluate | benchmark | ablate | pretrain | embed`."""

import logging
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console

from kgnn.cli.cells import embed, pretrain
from kgnn.cli.common import ConditionKey, Control, Json, console, new_table, write_result
from kgnn.cli.compare import ablate, benchmark
from kgnn.cli.graph import graph_app
from kgnn.errors import InputError
from kgnn.files import new_file, read_h5ad

app = typer.Typer(help="Graph neural networks on knowledge graphs for single-cell biology.", no_args_is_help=True)
app.add_typer(graph_app, name="graph")
app.command()(benchmark)
app.command()(ablate)
app.command()(pretrain)
app.command()(embed)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for graph, model, predictions, figure.")] = Path(
        "demo"
    ),
    seed: int = 0,
    json: Json = None,
) -> None:
    """Simulate a screen; compare the default model and GEARS on the true, a rewired and no graph with baselines."""
    from kgnn.cli.demo import run_demo

    result = run_demo(out, seed, lambda step: console.print(f"[dim]· {step}[/]"))
    scores = pd.DataFrame(
        {
            name: {score: values["mean"] for score, values in summary.items()}
            for name, summary in result["models"].items()
        }
    ).T
    columns = {
        "mse": "MSE",
        "pearson_delta": "Pearson Δ",
        "pearson_delta_top20": "top 20",
        "wrong_direction_top20": "wrong way",
        "retrieval_rank": "rank",
    }
    title = f"{result['conditions']['test']} unseen conditions, perturbed genes left out"
    table = new_table(title, ["model", *columns.values()])
    for name, row in scores.sort_values("pearson_delta", ascending=False).iterrows():
        table.add_row(str(name), *(f"{row[column]:.3f}" for column in columns))
    console.print(table)
    console.print(
        f"{result['seconds']:.0f} s; {out}/scores.png shows the 95 % intervals. The same model on scrambled edges "
        "tells what the graph is worth."
    )
    write_result(json, result)


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Perturbation screen, H5AD, log-normalised.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model and its split.")],
    graph: Annotated[Path | None, typer.Option(help="Folder of a saved graph.")] = None,
    model: Annotated[str, typer.Option(help="kg, gears, txpert, …, or a baseline: mean, additive, linear, …")] = "kg",
    split: Annotated[str, typer.Option(help="Kind of split, or a split's JSON file.")] = "simulation",
    held_out: Annotated[str | None, typer.Option(help="Test condition of leave_one_out.")] = None,
    coexpression: Annotated[bool, typer.Option(help="Add co-expression of the training cells to the graph.")] = True,
    uncertainty: Annotated[bool, typer.Option(help="GEARS: also predict variances (kg always does).")] = False,
    strength: Annotated[
        float, typer.Option(help="kg: −1 knock-out, between −1 and 0 knock-down, above 0 activation.")
    ] = -1.0,
    epochs: int = 20,
    batch_size: int = 32,
    seed: int = 0,
    condition_key: ConditionKey = "condition",
    control: Control = None,
    group_key: Annotated[str | None, typer.Option(help="Column of obs within which controls are paired.")] = None,
    accelerator: Annotated[str, typer.Option(help="cpu, gpu, auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed, 16-mixed.")] = "32-true",
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
    json: Json = None,
) -> None:
    """Train a model on a screen and save it with its split."""
    from kgnn.data import load_split, save_split, training_cells
    from kgnn.data import split as make_split
    from kgnn.graph import KnowledgeGraph, load_coexpression
    from kgnn.models import BASELINES, make_model
    from kgnn.models.perturbation.graphs import COEXPRESSED

    make_model(model)  # an unknown name ends here
    adata = read_h5ad(data)
    names: dict[str, Any] = {"condition_key": condition_key, "control": control}
    if split.endswith(".json"):
        parts = load_split(split)
    else:
        parts = make_split(adata, split, seed=seed, held_out=held_out, **names)
    if model in BASELINES:
        fitted: Any = make_model(model, **names).fit(adata, parts, seed=seed)
    else:
        kg = KnowledgeGraph.load(graph) if graph else None
        if coexpression and (kg is None or COEXPRESSED not in kg.relations):
            learned = load_coexpression(training_cells(adata, parts, **names))
            kg = learned if kg is None else kg | learned
        estimator = make_model(model, kg, uncertainty=uncertainty, strength=strength, group_key=group_key, **names)
        options: dict[str, Any] = {"accelerator": accelerator, "precision": precision, "enable_progress_bar": progress}
        fitted = estimator.fit(adata, parts, max_epochs=epochs, batch_size=batch_size, seed=seed, **options)
    fitted.save(out)
    save_split(parts, out / "split.json")
    sizes = {part: len(parts[part]) for part in ("train", "val", "test", "unused")}
    console.print(f"saved {model} to {out}; conditions: " + ", ".join(f"{n} {part}" for part, n in sizes.items()))
    write_result(json, {"model": model, "conditions": sizes, "history": getattr(fitted, "history_", [])})


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    conditions: Annotated[list[str] | None, typer.Argument(help="Such as KLF1 KLF1+MAP2K6.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="H5AD to write.")] = Path("predictions.h5ad"),
    split: Annotated[Path | None, typer.Option(help="Predict the test conditions of this split.")] = None,
    n_cells: Annotated[int | None, typer.Option(help="Cells a condition instead of its mean.")] = None,
    seed: int = 0,
    json: Json = None,
) -> None:
    """Predict conditions with a saved model."""
    from kgnn.data import load_split
    from kgnn.models import CellModel, load_model

    wanted = [*(conditions or []), *(load_split(split)["test"] if split else [])]
    if not wanted:
        raise InputError("no condition to predict; name some, or give --split")
    loaded = load_model(model)
    if isinstance(loaded, CellModel):
        raise InputError(f"{model}: holds a cell model, which predicts no perturbations; use kgnn embed")
    prediction = loaded.predict(wanted, n_cells=n_cells, seed=seed)
    with new_file(out) as file:
        prediction.write_h5ad(file)
    console.print(f"{prediction.n_obs} rows × {prediction.n_vars} genes to {out}")
    write_result(json, {"conditions": wanted, "rows": prediction.n_obs, "genes": prediction.n_vars, "file": str(out)})


@app.command()
def evaluate(
    prediction: Annotated[Path, typer.Argument(help="H5AD that `kgnn predict` wrote.")],
    data: Annotated[Path, typer.Argument(help="The screen with the real cells, H5AD.")],
    split: Annotated[Path | None, typer.Option(help="Score the test conditions of this split only.")] = None,
    exclude_targets: Annotated[bool, typer.Option(help="Leave the perturbed genes out of the scores.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV, one row a condition.")] = None,
    condition_key: ConditionKey = "condition",
    control: Control = None,
    json: Json = None,
) -> None:
    """Score predictions against real cells."""
    from kgnn.data import load_split
    from kgnn.evaluation.metrics import evaluate as score
    from kgnn.evaluation.metrics import summarize

    scores = score(
        read_h5ad(prediction),
        read_h5ad(data),
        load_split(split) if split else None,
        exclude_targets=exclude_targets,
        condition_key=condition_key,
        control=control,
    )
    summary = summarize(scores)
    table = new_table(f"{len(scores)} conditions", ["score", "mean", "95 % interval over conditions"])
    for name, row in summary.iterrows():
        table.add_row(str(name), f"{row['mean']:.4f}", f"{row['low']:.4f} – {row['high']:.4f}")
    console.print(table)
    if out:
        with new_file(out) as file:
            scores.to_csv(file)
    write_result(json, {"summary": summary.to_dict("index"), "conditions": scores.to_dict("index")})


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
