"""A `FittedCells` on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kgnn.errors import InputError
from kgnn.graph.coverage import Coverage
from kgnn.models.cells.fitted import CellOptions, FittedCells
from kgnn.models.cells.labels import Above, Labels
from kgnn.models.storage import load_arrays, load_config, load_graph, load_weights, write_model
from kgnn.nn.cells import LabelTree

GIVEN_AGAIN = ("kg", "ontology", "knowledge", "positions")  # no JSON; the graph has a folder, the others are not kept


def write_cells(cells: FittedCells, folder: Path) -> None:
    """Write configuration, weights and graph; the knowledge is in the weights' buffers."""
    tokens = cells.network.tokens
    config = {
        "model": "cell",
        "options": {name: value for name, value in vars(cells.options).items() if name not in GIVEN_AGAIN},
        "vocabulary": list(cells.genes),
        "kind": cells.kind,
        "species": cells.species,
        "labels": {name: _entry(found) for name, found in cells.labels.items()},
        "knowledge": {name: table.shape[1] for name, table in tokens.tables().items()},
        "positions": tokens.position is not None,
        "history": cells.history,
        "coverage": {side: list(found) for side, found in cells.coverage.items()},
    }
    arrays = {f"network.{name}": value.cpu().numpy() for name, value in cells.network.state_dict().items()}
    write_model(folder, config, arrays | {"chosen": cells.chosen.numpy()}, None, cells.options.kg)


def load_cells(path: str | Path) -> FittedCells:
    """Read what `write_cells` wrote."""
    config = load_config(path)
    if config["model"] != "cell":
        raise InputError(f"{path}: holds a {config['model']!r} model; use kgnn.models.load_model")
    options = CellOptions(kg=load_graph(path), ontology={}, knowledge={}, positions=None, **config["options"])
    labels = {name: _labels(entry) for name, entry in config["labels"].items()}
    arrays, _ = load_arrays(path)
    chosen = torch.from_numpy(arrays.pop("chosen"))
    genes = pd.Index(config["vocabulary"], dtype=object)
    tables = {name: torch.zeros(len(genes), width) for name, width in config["knowledge"].items()}
    position = torch.zeros(len(genes)) if config["positions"] else None
    cells = FittedCells(options, genes, config["kind"], labels, config["species"], chosen, tables, position)
    cells.history = config["history"]
    cells.coverage = {side: Coverage(*found) for side, found in config["coverage"].items()}
    state = {name.removeprefix("network."): torch.from_numpy(value) for name, value in arrays.items()}
    load_weights(cells.network, state, path)
    return cells


def _entry(found: Labels) -> dict[str, Any]:
    tree = {key: value.tolist() for key, value in found.tree._asdict().items() if key != "tree"}
    above = [item._asdict() | {"below": item.below.tolist()} for item in found.above]
    return {"labels": found.labels, "names": found.names, "tree": tree, "above": above, "is_tree": found.tree.tree}


def _labels(entry: dict[str, Any]) -> Labels:
    boolean = ("below", "ancestor")
    arrays = {
        key: torch.tensor(x, dtype=torch.bool if key in boolean else torch.int64) for key, x in entry["tree"].items()
    }
    arrays["inner"] = arrays["inner"].reshape(len(entry["labels"]), -1)
    above = [Above(**item | {"below": np.array(item["below"], bool)}) for item in entry["above"]]
    return Labels(entry["labels"], entry["names"], LabelTree(**arrays, tree=entry["is_tree"]), above)
