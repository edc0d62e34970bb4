"""The command line: `kgnn links`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from kgnn.cli.common import Json, cell, console, new_table, short, target_folder, write_result
from kgnn.errors import InputError


def links(
    graph: Annotated[Path, typer.Argument(help="Folder of a saved graph.")],
    out: Annotated[Path, typer.Option("--out", "-o", callback=target_folder("model"), help="Folder for the model.")],
    decoder: Annotated[
        str, typer.Option(help="complex, distmult, rotate, transe, or package.module:Name.")
    ] = "complex",
    negatives: Annotated[str, typer.Option(help="all, uniform, bernoulli or degree.")] = "all",
    channels: Annotated[int, typer.Option(help="Width of a node's state.")] = 64,
    relation: Annotated[
        list[str] | None, typer.Option(help="Hold out edges of this relation (its name) alone; may be repeated.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Learn from all edges; nothing is held out or scored.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="So many passes over the edges at most.")] = 100,
    batch_size: Annotated[int, typer.Option(help="Questions a step.")] = 256,
    learning_rate: Annotated[float, typer.Option(help="Of Adam.")] = 0.01,
    source: Annotated[list[str] | None, typer.Option(help="Predict the targets of this node; may be repeated.")] = None,
    predict: Annotated[
        str | None, typer.Option(help="The relation to predict, gene–regulates–gene or regulates.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Predicted edges a node.")] = 20,
    accelerator: Annotated[str, typer.Option(help="cpu, gpu, auto.")] = "auto",
    seed: int = 0,
    json: Json = None,
) -> None:
    """Learn a graph's nodes and relations, score held-out edges, predict missing ones into OUT/predictions.csv.

    Predictions leave out what was learned from; held_out says which of them the graph has all the same.
    """
    from kgnn.folders import new_folder
    from kgnn.graph import KnowledgeGraph, split_edges
    from kgnn.models import LinkModel
    from kgnn.models.storage import KIND

    if (source is None) != (predict is None):
        raise InputError("--predict and --source go together: a relation, and the nodes to predict targets of")
    if whole and relation:
        raise InputError("--whole holds nothing out; leave --relation away")
    kg = KnowledgeGraph.load(graph)
    asked = None if predict is None else _relation(kg, predict)
    chosen = [_relation(kg, name) for name in relation] if relation else None
    split = None if whole else split_edges(kg, relations=chosen, seed=seed)
    model = LinkModel(kg, decoder=decoder, negatives=negatives, channels=channels)
    model.fit(
        split,
        max_epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        accelerator=accelerator,
        seed=seed,
    )
    model.save(out)
    result: dict[str, Any] = {"epochs": len(model.history_), "history": model.history_}
    if split is not None:
        scores = model.evaluate(split)
        table = new_table("Held-out edges, both ends asked for", list(scores))
        for row in scores.itertuples(index=False):
            table.add_row(row.relation if row.relation == "all" else short(row.relation), *map(cell, row[1:]))
        console.print(table)
        result["scores"] = scores.to_dict("records")
    if asked is not None:
        found = model.predict(asked, source=source, k=k)
        known = set(_pairs(kg.edges(asked)))
        found["held_out"] = [pair in known for pair in _pairs(found)]
        with new_folder(out, KIND) as folder:
            model.write(folder)
            found.to_csv(folder / "predictions.csv", index=False)
        result["predictions"] = found.to_dict("records")
    console.print(f"{len(model.history_)} epochs; model in {out}")
    write_result(json, result)


def _pairs(edges: Any) -> Iterator[tuple[str, str]]:
    return zip(edges["source"], edges["target"], strict=True)


def _relation(kg: Any, name: str) -> tuple[str, str, str]:
    found = [relation for relation in kg.relations if name in (relation[1], "–".join(relation))]
    if len(found) != 1:
        known = ", ".join("–".join(relation) for relation in found or kg.relations)
        raise InputError(f"relation {name!r} stands for {len(found)} relations; give one of {known}")
    return found[0]
