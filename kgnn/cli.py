"""The command line: `kgnn demo | graph build/info | train | predict | evaluate`."""

import logging
import math
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from kgnn.errors import InputError
from kgnn.files import existing_file, new_file, write_json

app = typer.Typer(help="Graph neural networks on knowledge graphs for single-cell biology.", no_args_is_help=True)
graph_app = typer.Typer(help="Build and look at knowledge graphs.", no_args_is_help=True)
app.add_typer(graph_app, name="graph")
console = Console()

Json = Annotated[Path | None, typer.Option("--json", help="Write the result for programs to this file.")]
ConditionKey = Annotated[str, typer.Option(help="Column of obs with each cell's condition.")]
Control = Annotated[str | None, typer.Option(help="Label of control cells; default: control, ctrl, non-targeting, NT.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for graph, model, predictions, figure.")] = Path(
        "demo"
    ),
    seed: int = 0,
    json: Json = None,
) -> None:
    """Simulate a screen; compare GEARS on the true, a rewired and no graph with the baselines."""
    from kgnn.demo import run_demo

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
    table = _table(title, ["model", *columns.values()])
    for name, row in scores.sort_values("pearson_delta", ascending=False).iterrows():
        table.add_row(str(name), *(f"{row[column]:.3f}" for column in columns))
    console.print(table)
    console.print(
        f"{result['seconds']:.0f} s; {out}/scores.png shows the 95 % intervals. Where a baseline leads, it leads: "
        "that is what the comparison is for."
    )
    _write(json, result)


@graph_app.command("build")
def graph_build(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write the graph to.")],
    regulation: Annotated[list[Path] | None, typer.Option(help="DoRothEA or TRRUST file.")] = None,
    min_confidence: Annotated[str | None, typer.Option(help="DoRothEA: A (best) to E.")] = None,
    gene_sets: Annotated[list[Path] | None, typer.Option(help="GMT file.")] = None,
    k: Annotated[int, typer.Option(help="Gene sets, co-expression: sources a target gene.")] = 20,
    ontology: Annotated[Path | None, typer.Option(help="Cell Ontology, OBO.")] = None,
    table: Annotated[list[Path] | None, typer.Option(help="Edges of your own: CSV, TSV or Parquet.")] = None,
    source: Annotated[str, typer.Option(help="--table: column of sources.")] = "source",
    target: Annotated[str, typer.Option(help="--table: column of targets.")] = "target",
    relation: Annotated[str, typer.Option(help="--table: name of the relation.")] = "interacts",
    weight: Annotated[str | None, typer.Option(help="--table: column of weights.")] = None,
    sign: Annotated[str | None, typer.Option(help="--table: column of signs.")] = None,
    undirected: Annotated[bool, typer.Option(help="--table: add each edge in the other direction.")] = False,
    coexpression: Annotated[Path | None, typer.Option(help="H5AD; use the training cells of --split.")] = None,
    split: Annotated[Path | None, typer.Option(help="Split (JSON) whose training cells --coexpression uses.")] = None,
    condition_key: ConditionKey = "condition",
    control: Control = None,
    json: Json = None,
) -> None:
    """Build a graph from knowledge files and save it."""
    from kgnn import graph as g
    from kgnn.data import load_split, training_cells

    parts = [g.load_regulation(path, min_confidence=min_confidence) for path in regulation or []]
    parts += [g.load_gene_sets(path, k=k) for path in gene_sets or []]
    parts += [g.load_cell_ontology(ontology)] if ontology else []
    own = {"source": source, "target": target, "relation": relation, "weight": weight, "sign": sign}
    parts += [g.load_table(path, **own, undirected=undirected) for path in table or []]  # type: ignore[arg-type]
    if coexpression:
        if split is None:
            raise InputError("--coexpression needs --split, so that only training cells shape the graph")
        cells = training_cells(
            _read_adata(coexpression), load_split(split), condition_key=condition_key, control=control
        )
        parts.append(g.load_coexpression(cells, k=k))
    if not parts:
        raise InputError("no knowledge given; add --regulation, --gene-sets, --ontology, --table or --coexpression")
    kg = g.KnowledgeGraph.merge(parts)
    kg.save(out)
    _show_graph(kg, json)
    console.print(f"saved to {out}")


@graph_app.command("info")
def graph_info(path: Annotated[Path, typer.Argument(help="Folder of a saved graph.")], json: Json = None) -> None:
    """Print what a graph holds: relations, sources, signs, weights, and what loading dropped."""
    from kgnn.graph import KnowledgeGraph

    _show_graph(KnowledgeGraph.load(path), json)


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Perturbation screen, H5AD, log-normalised.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model and its split.")],
    graph: Annotated[Path | None, typer.Option(help="Folder of a saved graph.")] = None,
    model: Annotated[str, typer.Option(help="gears, or a baseline: no_change, mean, additive, linear, …")] = "gears",
    split: Annotated[str, typer.Option(help="Kind of split, or a split's JSON file.")] = "simulation",
    held_out: Annotated[str | None, typer.Option(help="Test condition of leave_one_out.")] = None,
    coexpression: Annotated[bool, typer.Option(help="Add co-expression of the training cells to the graph.")] = True,
    uncertainty: Annotated[bool, typer.Option(help="Also predict each gene's variance.")] = False,
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
    from kgnn.models import BASELINES, PerturbationModel
    from kgnn.models.graphs import COEXPRESSED

    if model != "gears" and model not in BASELINES:
        raise InputError(f"unknown model {model!r}; choose gears, {', '.join(BASELINES)}")
    adata = _read_adata(data)
    names: dict[str, Any] = {"condition_key": condition_key, "control": control}
    if split.endswith(".json"):
        parts = load_split(split)
    else:
        parts = make_split(adata, split, seed=seed, held_out=held_out, **names)
    if model in BASELINES:
        fitted: Any = BASELINES[model](**names).fit(adata, parts, seed=seed)
    else:
        kg = KnowledgeGraph.load(graph) if graph else None
        if coexpression and (kg is None or COEXPRESSED not in kg.relations):
            learned = load_coexpression(training_cells(adata, parts, **names))
            kg = learned if kg is None else kg | learned
        estimator = PerturbationModel(kg, uncertainty=uncertainty, group_key=group_key, **names)
        options: dict[str, Any] = {"accelerator": accelerator, "precision": precision, "enable_progress_bar": progress}
        fitted = estimator.fit(adata, parts, max_epochs=epochs, batch_size=batch_size, seed=seed, **options)
    fitted.save(out)
    save_split(parts, out / "split.json")
    sizes = {part: len(parts[part]) for part in ("train", "val", "test", "unused")}
    console.print(f"saved {model} to {out}; conditions: " + ", ".join(f"{n} {part}" for part, n in sizes.items()))
    _write(json, {"model": model, "conditions": sizes, "history": getattr(fitted, "history_", [])})


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
    from kgnn.models import load_model

    wanted = [*(conditions or []), *(load_split(split)["test"] if split else [])]
    if not wanted:
        raise InputError("no condition to predict; name some, or give --split")
    prediction = load_model(model).predict(wanted, n_cells=n_cells, seed=seed)
    with new_file(out) as file:
        prediction.write_h5ad(file)
    console.print(f"{prediction.n_obs} rows × {prediction.n_vars} genes to {out}")
    _write(json, {"conditions": wanted, "rows": prediction.n_obs, "genes": prediction.n_vars, "file": str(out)})


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
    from kgnn.metrics import evaluate as score
    from kgnn.metrics import summarize

    scores = score(
        _read_adata(prediction),
        _read_adata(data),
        load_split(split) if split else None,
        exclude_targets=exclude_targets,
        condition_key=condition_key,
        control=control,
    )
    summary = summarize(scores)
    table = _table(f"{len(scores)} conditions", ["score", "mean", "95 % interval over conditions"])
    for name, row in summary.iterrows():
        table.add_row(str(name), f"{row['mean']:.4f}", f"{row['low']:.4f} – {row['high']:.4f}")
    console.print(table)
    if out:
        with new_file(out) as file:
            scores.to_csv(file)
    _write(json, {"summary": summary.to_dict("index"), "conditions": scores.to_dict("index")})


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


def _read_adata(path: Path) -> Any:
    import anndata

    path = existing_file(path)
    try:
        return anndata.read_h5ad(path)
    except Exception as error:  # h5py and anndata raise many kinds for files that are not H5AD
        raise InputError(
            f"{path}: cannot be read as H5AD ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from None


def _show_graph(kg: Any, json: Path | None) -> None:
    summary = kg.summary()
    nodes = {kind: len(kg.nodes(kind)) for kind in kg.node_types}
    console.print("nodes: " + ", ".join(f"{number:,} {kind}" for kind, number in nodes.items()))
    columns = {
        "relation": "relation",
        "origin": "source",
        "edges": "edges",
        "positive": "+",
        "negative": "−",
        "unsigned": "unsigned",
        "weight_median": "weight",
    }
    table = _table(None, list(columns.values()))
    for _, row in summary.iterrows():
        source, relation, target = str(row["relation"]).split("–")
        name = relation if source == target == "gene" else f"{relation} ({source} → {target})"
        table.add_row(name, *(_cell(row[column]) for column in list(columns)[1:]))
    console.print(table)
    for record in kg.account:
        counts = {
            "merged": record.get("merged", 0),
            "self loops": record.get("self_loops", 0),
            **record["dropped"],
        }
        left_out = ", ".join(f"{reason}: {n:,}" for reason, n in counts.items() if n) or "nothing left out"
        console.print(f"{record['origin']}, {record['relation']}: {record['rows_read']:,} rows read; {left_out}")
    _write(json, {"nodes": nodes, "relations": summary.to_dict("records"), "account": list(kg.account)})


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:,.0f}" if value == round(value) else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _table(title: str | None, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 or column == "source" else "right", overflow="fold")
    return table


def _write(path: Path | None, result: Any) -> None:
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
