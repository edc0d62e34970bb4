"""A fitted `PerturbationModel` as a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from kgnn.errors import InputError
from kgnn.graph.coverage import Coverage
from kgnn.models.perturbation.origin import Origin, cells_of
from kgnn.models.perturbation.predictor import Known, Start, check_changes
from kgnn.models.perturbation.starts import Controls
from kgnn.models.perturbation.table import PREDICTORS
from kgnn.models.storage import CONFIG, load_arrays, load_graph, load_var, write_model
from kgnn.parts import name_of
from kgnn.schema import check_schema

SCHEMA = {
    "encoder": str,
    "options": {str: object},
    "names": {"condition_key": str, "control": (None, str, [str]), "group_key": (None, str)},
    "coverage": {str: [int]},
    "genes": [str],
    "perturbable": [str],
    "conditions": [str],
    "groups": [str],
    "origin": {"kgnn": str, "encoder": str, "scale": (None, str), "graph": {str: object}, "split": {str: object}},
    "history": [float],
    "predictor": {str: object},
}


def write_fit(model: Any, folder: Path) -> None:
    """Write the files of a fitted model into an empty folder."""
    state, arrays = model.predictor_.state()
    names = {key: getattr(model, key) for key in ("condition_key", "control", "group_key")}
    groups, controls = model.controls_.state()
    own = model.predictor_.own_options()
    config = {
        "model": "perturbation",
        "encoder": name_of(model.encoder),
        "options": {name: value for name, value in model.options.items() if name not in own},
        "names": names,
        "coverage": {side: list(found) for side, found in model.coverage_.items()},
        "genes": list(model.genes_),
        "perturbable": list(model.perturbable_),
        "conditions": model.conditions_,
        "groups": groups,
        "origin": model.origin_.facts,
        "history": list(model.history_),
        "predictor": state,
    }
    graph = model.predictor_.graph(model.kg)
    write_model(folder, config, arrays | controls, model.controls_.cells, graph, model.origin_.var)


def read_fit(cls: type, encoder: Any, path: Path, config: dict[str, Any]) -> Any:
    """Return a model of the class `cls` as `write_fit` found it.

    Raises:
        InputError: one of an encoder that is to be given; a damaged folder.
    """
    check_schema(config, SCHEMA, str(path / CONFIG))
    if encoder is None and config["encoder"] not in PREDICTORS:
        raise InputError(f"{path}: was saved with {config['encoder']}, which is not kgnn's; give it as encoder=")
    kg = load_graph(path)
    model = cls(kg, encoder=encoder or config["encoder"], **config["names"], **config["options"])
    arrays, cells = load_arrays(path)
    genes, nodes = (pd.Index(config[name], dtype=object) for name in ("genes", "perturbable"))
    if not (genes.is_unique and nodes.is_unique):
        raise InputError(f"{path / CONFIG}: a gene stands twice; save the model again")
    controls = Controls.restored(cells, genes, config["groups"], arrays, str(path))
    predictor = model._blank
    predictor.restore(Known(genes, nodes, kg, controls.mean, str(path)), config["predictor"], arrays)
    predictor.history = config["history"]
    first = config["conditions"][:1]  # what was put together wrongly shows itself here
    check_changes(predictor.predict(first, Start(controls.mean)), first, genes)
    vars(model).update(
        options=model.options | predictor.own_options(),
        uses_graph=predictor.uses_graph,
        genes_=genes,
        perturbable_=nodes,
        conditions_=config["conditions"],
        coverage_={side: Coverage(*found) for side, found in config["coverage"].items()},
        controls_=controls,
        origin_=Origin(load_var(path, genes), config["origin"], cells_of(kg) if model.uses_graph else {}),
        predictor_=predictor,
        _lonely=predictor.unlinked(),
    )
    return model
