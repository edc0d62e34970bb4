"""A `FittedCells` on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kgnn.errors import InputError
from kgnn.graph.coverage import Coverage
from kgnn.models.cells.fitted import KINDS, CellOptions, FittedCells
from kgnn.models.cells.labels import Above, Labels
from kgnn.models.storage import CONFIG, load_arrays, load_graph, load_weights, write_model
from kgnn.nn.cells import LabelTree
from kgnn.schema import check_schema

SCHEMA = {
    "options": {str: object},
    "vocabulary": [str],
    "kind": str,
    "species": [str],
    "labels": {
        str: {
            "labels": [str],
            "names": [str],
            "tree": {"below": [[bool]], "leaf": [int], "inner": [[int]], "level": [[int]], "ancestor": [[bool]]},
            "above": [{"term": str, "name": str, "below": [bool], "output": int}],
            "is_tree": bool,
        }
    },
    "knowledge": {str: int},
    "positions": bool,
    "history": [float],
    "coverage": {str: [int]},
}
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


def read_cells(path: Path, config: dict[str, Any]) -> FittedCells:
    """Read what `write_cells` wrote."""
    where = str(path / CONFIG)
    check_schema(config, SCHEMA, where)
    options = CellOptions(kg=load_graph(path), ontology={}, knowledge={}, positions=None, **config["options"])
    labels = {name: _labels(entry, where) for name, entry in config["labels"].items()}
    arrays, _ = load_arrays(path)
    genes = pd.Index(config["vocabulary"], dtype=object)
    chosen = arrays.pop("chosen", np.array([]))
    if chosen.dtype != np.int64 or chosen.ndim != 1 or not np.isin(chosen, np.arange(len(genes))).all():
        raise InputError(f"{path}: gene tokens of other genes than the model's; save the model again")
    if set(labels) != set(options.classes) or not genes.is_unique or config["kind"] not in KINDS:
        raise InputError(f"{where}: classes without labels, a gene twice, or unknown values; save the model again")
    tables = {name: torch.zeros(len(genes), width) for name, width in config["knowledge"].items()}
    position = torch.zeros(len(genes)) if config["positions"] else None
    parts = config["kind"], labels, config["species"], torch.from_numpy(chosen), tables, position
    cells = FittedCells(options, genes, *parts)
    cells.history = config["history"]
    cells.coverage = {side: Coverage(*found) for side, found in config["coverage"].items()}
    state = {name.removeprefix("network."): torch.from_numpy(value) for name, value in arrays.items()}
    load_weights(cells.network, state, path)
    return cells


def _entry(found: Labels) -> dict[str, Any]:
    tree = {key: value.tolist() for key, value in found.tree._asdict().items() if key != "tree"}
    above = [item._asdict() | {"below": item.below.tolist()} for item in found.above]
    return {"labels": found.labels, "names": found.names, "tree": tree, "above": above, "is_tree": found.tree.tree}


def _labels(entry: dict[str, Any], where: str) -> Labels:
    boolean = ("below", "ancestor")
    arrays = {
        key: torch.tensor(x, dtype=torch.bool if key in boolean else torch.int64) for key, x in entry["tree"].items()
    }
    arrays["inner"] = arrays["inner"].reshape(len(entry["labels"]), -1)
    above = [Above(**item | {"below": np.array(item["below"], bool)}) for item in entry["above"]]
    found = Labels(entry["labels"], entry["names"], LabelTree(**arrays, tree=entry["is_tree"]), above)
    _check_tree(found, where)
    return found


def _check_tree(found: Labels, where: str) -> None:
    """Refuse a tree whose parts are not of its labels."""
    n, tree = len(found.labels), found.tree
    n_leaves, n_outputs = tree.below.shape[-1], tree.below.shape[-1] + tree.inner.shape[1]
    shapes = [list(part.shape) for part in (tree.below, tree.leaf, tree.level, tree.ancestor)]
    leaves = sorted(number for number in tree.leaf.tolist() if number >= 0)
    if (
        shapes != [[n, n_leaves], [n], [n, n], [n, n]]
        or leaves != list(range(n_leaves))
        or len(found.names) != n
        or any(len(item.below) != n_leaves or not -1 <= item.output < n_outputs for item in found.above)
        or not set(tree.inner.unique().tolist()) <= {-1, 0, 1}
    ):
        raise InputError(f"{where}: the tree of the labels does not fit together; save the model again")
