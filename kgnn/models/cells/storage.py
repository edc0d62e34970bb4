"""A `CellModel` on disk, and its parameters taken over into a network with other genes or labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from kgnn.errors import InputError
from kgnn.models.cells.fitting import build_network
from kgnn.models.cells.labels import Above, Labels
from kgnn.models.storage import load_arrays, load_config, load_graph, load_weights, save_model
from kgnn.nn.cells import CellNetwork, LabelTree

if TYPE_CHECKING:
    from kgnn.models.cells.model import CellModel

OPTIONS = (
    "encoder",
    "classes",
    "channels",
    "layers",
    "heads",
    "dropout",
    "parameters",
    "genes",
    "context",
    "value",
    "objectives",
    "species_key",
)


def save_cell_model(model: CellModel, path: str | Path) -> None:
    """Write configuration, weights and graph; the knowledge is in the weights' buffers."""
    labels: dict[str, dict[str, Any]] = {}
    for name, found in model.labels_.items():
        tree = {key: value.tolist() for key, value in found.tree._asdict().items() if key != "tree"}
        above = [
            {"term": item.term, "name": item.name, "below": item.below.tolist(), "output": item.output}
            for item in found.above
        ]
        labels[name] = {"labels": found.labels, "names": found.names, "tree": tree, "above": above}
        labels[name]["is_tree"] = found.tree.tree
    config = {
        "model": "cell",
        "options": {name: getattr(model, name) for name in OPTIONS},
        "vocabulary": list(model.genes_),
        "kind": model.kind_,
        "species": model.species_,
        "labels": labels,
        "knowledge": {name: table.shape[1] for name, table in model.network_.tokens.tables().items()},
        "positions": model.network_.tokens.position is not None,
        "history": model.history_,
    }
    arrays = {f"network.{name}": value.cpu().numpy() for name, value in model.network_.state_dict().items()}
    save_model(path, config, arrays | {"chosen": model.chosen_.numpy()}, None, model.kg)


def load_cell_model(cls: type[CellModel], path: str | Path) -> CellModel:
    """Read what `save_cell_model` wrote."""
    config = load_config(path)
    if config["model"] != "cell":
        raise InputError(f"{path}: holds a {config['model']!r} model; use kgnn.models.load_model")
    model = cls(load_graph(path), **config["options"])
    model.genes_ = pd.Index(config["vocabulary"], dtype=object)
    model.kind_, model.species_, model.history_ = config["kind"], config["species"], config["history"]
    model.labels_ = {name: _labels(entry) for name, entry in config["labels"].items()}
    arrays, _ = load_arrays(path)
    model.chosen_ = torch.from_numpy(arrays.pop("chosen"))
    state = {name.removeprefix("network."): torch.from_numpy(value) for name, value in arrays.items()}
    tables = {name: torch.zeros(len(model.genes_), width) for name, width in config["knowledge"].items()}
    build_network(model, tables, torch.zeros(len(model.genes_)) if config["positions"] else None)
    load_weights(model.network_, state, path)
    return model


def _labels(entry: dict[str, Any]) -> Labels:
    tree = entry["tree"]
    types = {
        "below": torch.bool,
        "leaf": torch.int64,
        "inner": torch.int64,
        "level": torch.int64,
        "ancestor": torch.bool,
    }
    arrays = {name: torch.tensor(tree[name], dtype=kind) for name, kind in types.items()}
    arrays["inner"] = arrays["inner"].reshape(len(entry["labels"]), -1)
    above = [
        Above(item["term"], item["name"], np.array(item["below"], bool), item["output"]) for item in entry["above"]
    ]
    return Labels(entry["labels"], entry["names"], LabelTree(**arrays, tree=entry["is_tree"]), above)


@torch.no_grad()
def take_over(network: CellNetwork, old: CellNetwork, old_genes: pd.Index, genes: pd.Index) -> None:
    """Copy the parameters of `old`: those of genes by the gene's name, others where the shapes agree.

    A new gene's embedding starts at the mean of the old ones with its own random part. A class with new labels keeps
    nothing of its classifier: its outputs may stand for other labels even where they are as many.
    """
    row = genes.get_indexer(old_genes)
    state, found = network.state_dict(), old.state_dict()
    trees = zip(network.labels.values(), old.labels.values(), strict=True)
    changed = tuple(f"classifiers.{n}." for n, (new, known) in enumerate(trees) if len(new.leaf) != len(known.leaf))
    by_gene = {
        "tokens.embedding",
        "special.profile",
        "decoder.weight",
        "decoder.base",
    }
    for name, value in found.items():
        if name in by_gene:
            fresh = state[name] - state[name].mean(0) + value.mean(0)
            fresh[row] = value
            state[name].copy_(fresh)
        elif name in ("special.mean", "components"):
            state[name][row] = value
        elif (
            name in state
            and state[name].shape == value.shape
            and not name.startswith(("tokens.table_", "tokens.known_", "tokens.position", *changed))
        ):
            state[name].copy_(value)
