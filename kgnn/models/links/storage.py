"""A `FittedLinks` on disk: node states and the decoder's weights; an encoder has done its work and is not kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from kgnn.errors import InputError
from kgnn.models.links.fitted import FittedLinks
from kgnn.models.storage import CONFIG, check_array, load_arrays, load_graph, load_weights, write_model
from kgnn.nn.links import DECODERS
from kgnn.parts import name_of
from kgnn.schema import check_schema

OPTIONS = {"decoder": str, "channels": int, "inverses": bool, "negatives": str, "n_negatives": int, "dropout": float}
SCHEMA = {"options": OPTIONS, "inverses": bool, "history": [{str: (float, None)}]}


def write_links(links: FittedLinks, options: dict[str, Any], folder: Path) -> None:
    """Write configuration, weights and the graph that was learned from."""
    own = {kind: name for name, kind in DECODERS.items()}
    config = {
        "model": "links",
        "options": options | {"decoder": own.get(type(links.decoder), name_of(links.decoder))},
        "inverses": links.inverses,
        "history": links.history,
    }
    arrays = {f"decoder.{name}": value.numpy() for name, value in links.decoder.state_dict().items()}
    write_model(folder, config, arrays | {"states": links.states.numpy()}, None, links.graph)


def read_links(path: Path, config: dict[str, Any], decoder: nn.Module | None) -> FittedLinks:
    """Read what `write_links` wrote."""
    check_schema(config, SCHEMA, str(path / CONFIG))
    named = config["options"]["decoder"]
    if decoder is None and named not in DECODERS:
        raise InputError(f"{path}: was saved with {named}, which is not kgnn's; give an instance of it as decoder=")
    graph, (arrays, _) = load_graph(path), load_arrays(path)
    if graph is None or "states" not in arrays:
        raise InputError(f"{path}: has no graph or no node states; the folder is incomplete, save the model again")
    shape = sum(map(len, graph.tables.nodes.values())), arrays["states"].shape[-1] if arrays["states"].ndim else 0
    states = torch.from_numpy(check_array(arrays, "states", shape, str(path))).float()
    if decoder is None:
        decoder = DECODERS[named]((2 if config["inverses"] else 1) * len(graph.relations), states.shape[1])
    weights = {name.removeprefix("decoder."): torch.from_numpy(x) for name, x in arrays.items() if name != "states"}
    load_weights(decoder, weights, path)
    return FittedLinks(graph, states, decoder, config["inverses"], config["history"])
