"""The command line: `kgnn pretrain | embed`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kgnn.cli.common import Json, console, say_coverage, target, target_folder, write_result
from kgnn.cli.runs import Start, run, stoppable
from kgnn.errors import InputError
from kgnn.files import new_file, read_h5ad

Layer = Annotated[str | None, typer.Option(help="Layer to take instead of X.")]


def pretrain(
    ctx: typer.Context,
    data: Annotated[
        Path | None, typer.Argument(help="Cells, H5AD or a Zarr folder; raw counts or log-normalised.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", callback=target_folder("model"), help="Folder for the model.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the unfinished training of this folder; takes no other options.")
    ] = None,
    graph: Annotated[Path | None, typer.Option(help="Folder of a saved graph: edges, and gene features.")] = None,
    encoder: Annotated[str, typer.Option(help="transformer, graph_transformer, graph or alternating.")] = "transformer",
    label: Annotated[list[str] | None, typer.Option(help="Column of obs to predict; may be repeated.")] = None,
    ontology: Annotated[Path | None, typer.Option(help="OBO file of which the first label's values are terms.")] = None,
    objective: Annotated[
        list[str] | None, typer.Option(help="Objective and weight, such as denoise=1; may be repeated.")
    ] = None,
    genes: Annotated[str, typer.Option(help="variable, all, sampled or expressed.")] = "variable",
    context: Annotated[int, typer.Option(help="Gene tokens a cell at most.")] = 1000,
    channels: Annotated[int, typer.Option(help="Width of a token.")] = 64,
    layers: Annotated[int, typer.Option(help="Layers of the encoder.")] = 2,
    epochs: Annotated[int, typer.Option(min=1, help="So many passes over the cells.")] = 20,
    batch_size: Annotated[int, typer.Option(help="Cells a batch.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW.")] = 3e-3,
    validation: Annotated[
        float,
        typer.Option(
            help="Share of the cells that choose the best epoch; 0: the last one. With 0.1, "
            "`kgnn embed --threshold 0.9` calls types that training lacks by an ancestor."
        ),
    ] = 0.0,
    layer: Layer = None,
    seed: int = 0,
    json: Json = None,
) -> None:
    """Learn genes and cells from annotated single-cell data; the data may be larger than memory.

    Ctrl-C keeps what was learned; `--resume` goes on.
    """
    classes = label or []
    if ontology is not None and not classes:
        raise InputError("--ontology needs --label, the column whose values are its terms")
    options = {"encoder": encoder, "classes": classes, "genes": genes, "context": context, "channels": channels}
    fit = {"max_epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "validation": validation}
    run(
        ctx,
        _pretrain,
        {
            "data": data,
            "graph": graph,
            "ontology": ontology,
            "options": options | {"layers": layers, "objectives": _weights(objective) if objective else None},
            "fit": fit | {"layer": layer, "seed": seed},
        },
        ("data", "graph", "ontology"),
        out,
        resume,
        json,
    )


def _pretrain(asked: dict[str, Any], out: Path, start: Start) -> dict[str, Any]:
    from kgnn.graph import KnowledgeGraph, Ontology, load_cell_ontology
    from kgnn.models import CellModel

    found = asked["ontology"]
    model = CellModel(
        KnowledgeGraph.load(asked["graph"]) if asked["graph"] else None,
        ontology={asked["options"]["classes"][0]: Ontology(load_cell_ontology(found))} if found else None,
        **asked["options"],
    )
    with stoppable(out, model.write, lambda: hasattr(model, "fitted_"), "pretrain"):
        model.fit(asked["data"], **asked["fit"], **start())
    epochs = len(model.history_)
    console.print(f"{len(model.genes_)} genes, {epochs} epochs, loss {model.history_[-1]:.4f}; model in {out}")
    say_coverage(model.coverage_)
    return {"genes": len(model.genes_), "epochs": epochs, "loss": model.history_}


def _weights(objectives: list[str]) -> dict[str, float]:
    found = {}
    for text in objectives:
        name, _, weight = text.partition("=")
        try:
            found[name] = float(weight)
        except ValueError:
            raise InputError(f"--objective {text!r}: write name=weight, such as denoise=1") from None
    return found


def embed(
    model: Annotated[Path, typer.Argument(help="Folder of a saved cell model.")],
    data: Annotated[Path, typer.Argument(help="Cells, H5AD.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", callback=target, help="H5AD with obsm['X_kgnn'] and the predicted labels in obs."),
    ],
    threshold: Annotated[
        float, typer.Option(help="Least probability of a label; below it an ancestor is given.")
    ] = 0.5,
    layer: Layer = None,
    json: Json = None,
) -> None:
    """Embed and annotate cells with a saved model."""
    from kgnn.models import CellModel

    loaded, adata = CellModel.load(model), read_h5ad(data)
    loaded.embed(adata, layer=layer)
    result: dict[str, object] = {"cells": adata.n_obs, "channels": loaded.channels, "file": str(out)}
    if loaded.classes:
        said = loaded.annotate(adata, layer=layer, threshold=threshold)
        for name in said:
            adata.obs[f"kgnn_{name}"] = said[name]
        result["labels"] = {name: said[name].value_counts().to_dict() for name in loaded.classes}
    with new_file(out) as file:
        adata.write_h5ad(file)
    console.print(f"{adata.n_obs} cells × {loaded.channels} channels to {out}")
    write_result(json, result)
