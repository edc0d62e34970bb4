"""Models by name, by class, as an instance, by import string; saved models of any kind."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData
from torch import nn

from kgnn.data.leaks import warn_of_leaks
from kgnn.data.splits import Split, read_split
from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.models.cells.model import CellModel
from kgnn.models.links.model import LinkModel
from kgnn.models.perturbation.folder import read_fit
from kgnn.models.perturbation.model import PerturbationModel
from kgnn.models.perturbation.origin import cells_of
from kgnn.models.perturbation.predictor import Predictor, as_prediction
from kgnn.models.perturbation.table import PREDICTORS
from kgnn.models.storage import read_model
from kgnn.parts import check_call, check_options, options_of, resolve, taken

NAMING = ("condition_key", "control", "group_key")


class OwnModel:
    """A user's whole model, `fit(adata, split)` and `predict(conditions)`, with the interface of `PerturbationModel`.

    Args:
        model: a class, made anew with `kg` and those options that its constructor takes; or an instance, copied, whose
            `kg` is set where it has one.
    """

    by_epochs = True  # validation conditions are its own to use

    def __init__(self, model: Any, kg: KnowledgeGraph | None, **options: Any) -> None:
        if not callable(getattr(model, "fit", None)) or not callable(getattr(model, "predict", None)):
            raise InputError(f"{model!r} is no model: it needs fit(adata, split) and predict(conditions)")
        self.cells = {} if kg is None else cells_of(kg)
        self.names = {"condition_key": options.get("condition_key", "condition"), "control": options.get("control")}
        if inspect.isclass(model):
            given = taken(model, {"kg": kg} | options)
            check_options(set(options) - {*given, *NAMING}, options_of(model), f"model {model.__name__}")
            check_call(model, **given)
            self.uses_graph = "kg" in given
            self.model: Any = model(**given)
        else:
            check_options(options, NAMING, f"a model that is made already ({type(model).__name__})")
            self.model, self.uses_graph = copy.deepcopy(model), hasattr(model, "kg")
            if self.uses_graph:
                self.model.kg = kg

    def fit(self, adata: AnnData, split: Split | None = None, **options: Any) -> OwnModel:
        """Fit on the split; options, `seed` among them, that the model's own `fit` takes are handed on."""
        fit, given = self.model.fit, taken(self.model.fit, options)
        check_options(set(options) - {*given, "seed"}, options_of(fit), f"fit of {type(self.model).__name__}")
        check_call(fit, adata, split, **given)
        if self.uses_graph and split is not None:
            warn_of_leaks(self.cells, adata, read_split(split, self.names["control"]), **self.names)
        fit(adata, split, **given)
        self.genes_ = pd.Index(adata.var_names.astype(str), dtype=object)
        return self

    def predict(self, conditions: str | Sequence[str]) -> AnnData:
        """Predict; arrays become AnnData."""
        names = [conditions] if isinstance(conditions, str) else list(conditions)
        found = as_prediction(self.model.predict(names), names, self.genes_)
        if self.uses_graph and self.cells:
            found = found.copy()
            found.uns["kgnn"] = {**found.uns.get("kgnn", {}), "cells": dict(self.cells)}
        return found


def make_model(model: Any, kg: KnowledgeGraph | None = None, **options: Any) -> PerturbationModel | OwnModel:
    """Return an unfitted model.

    Args:
        model: name of an encoder of `PerturbationModel` or of a baseline (which takes no graph); an encoder of one's
            own (`torch.nn.Module` or `Predictor`); a whole model of one's own; an import string of either.
        kg: the knowledge. options: of the model.

    Raises:
        InputError: an unknown name, something that is no model, options that it does not take.
    """
    found = resolve(model, PREDICTORS, "model")
    kind = found if inspect.isclass(found) else type(found)
    if issubclass(kind, Predictor | nn.Module):
        return PerturbationModel(kg, encoder=model, **options)
    return OwnModel(found, kg, **options)


def load_model(path: str | Path, *, encoder: Any = None) -> PerturbationModel | CellModel | LinkModel:
    """Read a saved model of any kind.

    Args:
        encoder: see `PerturbationModel.load`.

    Raises:
        InputError: a missing, foreign or damaged folder.
    """
    perturbation = partial(read_fit, PerturbationModel, encoder)
    return read_model(path, {"perturbation": perturbation, "cell": CellModel.read, "links": LinkModel.read})


def line_of(model: Any, split: Mapping[str, Any]) -> dict[str, Any]:
    """How `predict` is told the cell line that a split holds out, by a model that was fitted with lines."""
    known = isinstance(model, PerturbationModel) and model.group_key is not None and "line" in split
    return {"line": split["line"]} if known else {}
