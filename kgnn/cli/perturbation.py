"""The command line: `kgnn train | predict | evaluate`."""

import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from kgnn.cli.common import (
    ConditionKey,
    Control,
    EffectKind,
    GroupKey,
    Json,
    console,
    new_table,
    say_coverage,
    target,
    target_folder,
    write_result,
)
from kgnn.cli.runs import Start, run, stoppable
from kgnn.errors import DataWarning, InputError
from kgnn.files import new_file, read_h5ad


def train(
    ctx: typer.Context,
    data: Annotated[
        Path | None, typer.Argument(help="Perturbation screen, H5AD, log-normalised; or a table of effects.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", callback=target_folder("model"), help="Folder for the model and its split."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the unfinished training of this folder; takes no other options.")
    ] = None,
    graph: Annotated[Path | None, typer.Option(help="Folder of a saved graph.")] = None,
    model: Annotated[
        str, typer.Option(help="kg, gears, txpert, …, a baseline: mean, linear, …, or your own: package.module:Name.")
    ] = "kg",
    split: Annotated[str, typer.Option(help="Kind of split, or a split's JSON file.")] = "simulation",
    held_out: Annotated[str | None, typer.Option(help="Test condition of leave_one_out.")] = None,
    coexpression: Annotated[bool, typer.Option(help="Add co-expression of the training cells to the graph.")] = True,
    uncertainty: Annotated[bool, typer.Option(help="GEARS: also predict variances (kg always does).")] = False,
    strength: Annotated[
        float | None, typer.Option(help="kg: −1 knock-out, between −1 and 0 knock-down, above 0 activation.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of models that are trained by epochs; 20.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Cells a batch, likewise; 32.")] = None,
    seed: int = 0,
    condition_key: ConditionKey = "condition",
    control: Control = None,
    group_key: GroupKey = None,
    effects: EffectKind = "change",
    accelerator: Annotated[str | None, typer.Option(help="cpu, gpu, auto.")] = None,
    precision: Annotated[str | None, typer.Option(help="32-true, bf16-mixed, 16-mixed.")] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar on a terminal.")] = True,
    json: Json = None,
) -> None:
    """Train a model on a screen and save it with its split. Ctrl-C keeps what was learned; `--resume` goes on."""
    options = {"uncertainty": uncertainty or None, "strength": strength}
    fit = {"max_epochs": epochs, "batch_size": batch_size, "accelerator": accelerator, "precision": precision}
    asked = {
        "data": data,
        "graph": graph,
        "split": split if split.endswith(".json") else None,
        "kind": split,
        "held_out": held_out,
        "model": model,
        "coexpression": coexpression,
        "names": {"condition_key": condition_key, "control": control or None},
        "options": {"group_key": group_key} | {name: value for name, value in options.items() if value is not None},
        "fit": {name: value for name, value in fit.items() if value is not None},
        "progress": progress,
        "kind_of_effects": effects,
        "seed": seed,
    }
    run(ctx, _train, asked, ("data", "graph", "split"), out, resume, json)


def _train(asked: dict[str, Any], out: Path, start: Start) -> dict[str, Any]:
    from kgnn.data import load_split, save_split, training_cells
    from kgnn.data import split as make_split
    from kgnn.data.effects import is_effects, read_data
    from kgnn.graph import KnowledgeGraph, load_coexpression
    from kgnn.models import PerturbationModel, make_model
    from kgnn.models.perturbation.graphs import COEXPRESSED

    names, options = asked["names"], asked["options"] | asked["names"]
    blank = make_model(asked["model"], **options)  # what is unknown ends here
    if not isinstance(blank, PerturbationModel):
        raise InputError(f"{asked['model']}: a whole model of your own is not saved here; see kgnn evaluate, benchmark")
    if asked["graph"] and not blank.uses_graph:
        raise InputError(f"the model {asked['model']} takes no graph; leave --graph out")
    adata = read_data(asked["data"], asked.get("kind_of_effects", "change"), names["control"], names["condition_key"])
    seed = asked["seed"]
    if asked["split"]:
        parts = load_split(asked["split"])
    else:
        by_line = {"group_key": options["group_key"]} if asked["kind"] == "unseen_line" else {}
        parts = make_split(adata, asked["kind"], seed=seed, held_out=asked["held_out"], **by_line, **names)
    kg = KnowledgeGraph.load(asked["graph"]) if asked["graph"] else None
    if (
        blank.uses_graph
        and asked["coexpression"]
        and not is_effects(adata)
        and (kg is None or COEXPRESSED not in kg.relations)
    ):
        learned = load_coexpression(training_cells(adata, parts, **names))
        kg = learned if kg is None else kg | learned
    model = PerturbationModel(kg, encoder=asked["model"], **options)
    fit = asked["fit"] | ({} if asked["progress"] or not model.by_epochs else {"enable_progress_bar": False})

    def write(folder: Path) -> None:
        model.write(folder)
        save_split(parts, folder / "split.json")

    checkpoints = start()
    with stoppable(out, write, lambda: hasattr(model, "predictor_"), "train"):
        model.fit(adata, parts, seed=seed, **fit, **(checkpoints if model.by_epochs else {}))
    sizes = {part: len(parts[part]) for part in ("train", "val", "test", "unused")}
    told = ", ".join(f"{n} {part}" for part, n in sizes.items())
    console.print(f"saved {asked['model']} to {out}; conditions: {told}")
    say_coverage(model.coverage_)
    known = {side: found._asdict() for side, found in model.coverage_.items()}
    return {"model": asked["model"], "conditions": sizes, "coverage": known, "history": list(model.history_)}


def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a saved model.")],
    conditions: Annotated[list[str] | None, typer.Argument(help="Such as KLF1 KLF1+MAP2K6.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", callback=target, help="H5AD to write.")] = Path(
        "predictions.h5ad"
    ),
    split: Annotated[Path | None, typer.Option(help="Predict the test conditions of this split.")] = None,
    n_cells: Annotated[int | None, typer.Option(help="Cells a condition instead of its mean.")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="package.module:Name of the class, for a model with an encoder of your own.")
    ] = None,
    line: Annotated[
        str | None, typer.Option(help="Cell line of training, for a model fitted with --group-key.")
    ] = None,
    seed: int = 0,
    json: Json = None,
) -> None:
    """Predict conditions with a saved model."""
    from kgnn.data import load_split
    from kgnn.models import CellModel, LinkModel, load_model
    from kgnn.models.factory import line_of

    parts = load_split(split) if split else {"test": []}
    wanted = [*(conditions or []), *parts["test"]]
    if not wanted:
        raise InputError("no condition to predict; name some, or give --split")
    loaded = load_model(model, encoder=encoder)
    if isinstance(loaded, CellModel):
        raise InputError(f"{model}: holds a cell model, which predicts no perturbations; use kgnn embed")
    if isinstance(loaded, LinkModel):
        raise InputError(f"{model}: holds a model of links, which predicts no perturbations; see kgnn links --help")
    given = line_of(loaded, parts) if line is None else {"line": line}
    prediction = loaded.predict(wanted, n_cells=n_cells, seed=seed, **given)
    with new_file(out) as file:
        prediction.write_h5ad(file)
    console.print(f"{prediction.n_obs} rows × {prediction.n_vars} genes to {out}")
    write_result(json, {"conditions": wanted, "rows": prediction.n_obs, "genes": prediction.n_vars, "file": str(out)})


def evaluate(
    prediction: Annotated[
        str, typer.Argument(help="H5AD that `kgnn predict` wrote; or a model, also package.module:Name, with --split.")
    ],
    data: Annotated[Path, typer.Argument(help="The screen with the real cells, H5AD; or a table of effects.")],
    split: Annotated[Path | None, typer.Option(help="Score the test conditions of this split only.")] = None,
    exclude_targets: Annotated[bool, typer.Option(help="Leave the perturbed genes out of the scores.")] = False,
    metric: Annotated[
        list[str] | None, typer.Option(help="Of the table of metrics, or package.module:name; may be repeated.")
    ] = None,
    graph: Annotated[Path | None, typer.Option(help="Folder of a saved graph, for a model.")] = None,
    crossed: Annotated[
        bool, typer.Option(help="A model: fit four times more, on halves of the control cells; see docs/evaluation.md.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", callback=target, help="CSV, one row a condition.")] = None,
    condition_key: ConditionKey = "condition",
    control: Control = None,
    group_key: GroupKey = None,
    effects: EffectKind = "change",
    json: Json = None,
) -> None:
    """Score predictions against real cells, beside no change, the mean of training and the experiment repeated.

    A model is fitted on the split's training conditions first.
    """
    from kgnn.data import load_split
    from kgnn.data.effects import read_data
    from kgnn.data.leaks import leaks_told
    from kgnn.evaluation.headline import headline, verdict
    from kgnn.evaluation.metrics import crossed_scores, reference_scores, summarize
    from kgnn.evaluation.metrics import evaluate as score
    from kgnn.evaluation.metrics.references import MEAN, NO_CHANGE, REPLICATE
    from kgnn.graph import KnowledgeGraph
    from kgnn.models import make_model
    from kgnn.models.factory import line_of

    names: dict[str, Any] = {"condition_key": condition_key, "control": control or None, "group_key": group_key}
    parts = load_split(split) if split else None
    adata = read_data(data, effects, control or None, condition_key)  # type: ignore[arg-type]
    own = not (Path(prediction).exists() or prediction.endswith(".h5ad"))
    if own and parts is None:
        raise InputError(f"{prediction}: no such file; to fit a model of this name give --split")
    if crossed and not own:
        raise InputError(
            "--crossed fits a model on halves of the control cells; give its name in place of a prediction"
        )
    if graph and not own:
        raise InputError("--graph is for a model that is fitted here; a prediction holds what its graph said")
    kg = KnowledgeGraph.load(graph) if graph else None
    if own:
        model = make_model(prediction, kg, **names)
        predicted = model.fit(adata, parts).predict(parts["test"], **line_of(model, parts))  # type: ignore[index,arg-type]
    else:
        predicted = read_h5ad(prediction)
    with leaks_told() if own else nullcontext():
        scores = score(predicted, adata, parts, metrics=metric, exclude_targets=exclude_targets, **names)
        if crossed and parts is not None:
            fits = crossed_scores(
                lambda: make_model(prediction, kg, **names), adata, parts, exclude_targets=exclude_targets, **names
            )
            scores = scores.assign(pearson_crossed=fits["pearson_delta"], pds_cosine=fits["pds_cosine"])
    cells = predicted.obs["condition"].value_counts().max() > 1
    options = {"metrics": metric, "exclude_targets": exclude_targets, "cells": bool(cells)} | names
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # told of the same cells already
        summary = summarize(scores, references=reference_scores(adata, parts, scores.index, **options))
    first = headline(summary).dropna(subset="mean")
    if len(first):
        title = (
            f"{len(scores)} conditions, 95 % interval over them; calibrated: 0 is the mean, 1 the experiment repeated"
        )
        table = new_table(title, ["score", "of the prediction", "calibrated", "no change", "mean", "replicate"])
        for name, row in first.iterrows():
            score_of = f"{row['mean']:.3f} ({row['low']:.3f}, {row['high']:.3f})"
            points = row[["calibrated", NO_CHANGE, MEAN, REPLICATE]]  # JSON holds the interpolated duplicate as well
            table.add_row(str(name), score_of, *(_short(value) for value in points))
        console.print(table)
    words = verdict(summary)
    console.print(words)
    auc = _auc(predicted, adata, parts, condition_key, control or None)
    if auc:
        console.print(f"AUC of each gene over conditions, mean of {auc['genes']} genes: {auc['mean']:.3f} (mean: 0.5)")
    table = new_table("All scores", ["score", "mean", "95 % interval over conditions", "calibrated"])
    for name, row in summary.iterrows():
        interval = f"{row['low']:.4f} – {row['high']:.4f}"
        table.add_row(str(name), f"{row['mean']:.4f}", interval, _short(row["calibrated"]))
    console.print(table)
    if out:
        with new_file(out) as file:
            scores.to_csv(file)
    result = {"summary": summary.to_dict("index"), "verdict": words, "conditions": scores.to_dict("index")}
    write_result(json, result | ({"gene_auc": auc} if auc else {}))


def _auc(predicted: Any, adata: Any, split: Any, condition_key: str, control: Any) -> dict[str, float]:
    """Mean AUC of the genes of a table of answers, and of how many; nothing of other data, or where none has both."""
    from kgnn.data.effects import is_effects, kind_of
    from kgnn.evaluation.metrics import answers_auc

    if not is_effects(adata) or kind_of(adata) != "binary":
        return {}
    with warnings.catch_warnings(), suppress(InputError):  # told already; no gene has both
        warnings.simplefilter("ignore", DataWarning)
        auc = answers_auc(predicted, adata, split, condition_key=condition_key, control=control)["auc"]
        return {"mean": float(auc.mean()), "genes": len(auc)}
    return {}


def _short(value: float) -> str:
    """A number for a table, nothing for none."""
    return "" if value != value else f"{round(value, 3) + 0:.3f}"  # no −0
