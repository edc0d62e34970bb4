"""The table of predictors, a line each, and how one is made."""

import copy
import inspect
from typing import Any

from torch import nn

from kgnn.errors import InputError
from kgnn.models.baselines import ALL_BASELINES
from kgnn.models.perturbation.closed_form import ClosedForm
from kgnn.models.perturbation.hetero import Hetero
from kgnn.models.perturbation.peers import PEERS
from kgnn.models.perturbation.predictor import Predictor
from kgnn.models.perturbation.trained import Gears, Trained
from kgnn.parts import check_options, name_of, options_of, resolve

PREDICTORS: dict[str, type[Predictor]] = {"kg": ClosedForm, "gears": Gears, "hetero": Hetero, **PEERS, **ALL_BASELINES}


def make_predictor(encoder: Any, options: dict[str, Any]) -> Predictor:
    """Return an unfitted predictor: by name, by class, as a copy of an instance, or by import string."""
    found = resolve(encoder, PREDICTORS, "encoder")
    kind = found if inspect.isclass(found) else type(found)
    if issubclass(kind, Predictor):
        if not inspect.isclass(found):
            check_options(options, [], "an encoder that is made already")
            return copy.deepcopy(found)
        if inspect.isabstract(kind):
            lacks = ", ".join(sorted(kind.__abstractmethods__))
            raise InputError(f"the predictor {kind.__name__} lacks {lacks}; see docs/extend.md")
        check_options(options, options_of(kind), f"encoder {name_of(encoder)!r}")
        return kind(**options)
    if issubclass(kind, nn.Module):
        return Trained(found, **options)
    raise InputError(f"encoder {encoder!r} is neither a Predictor nor a torch.nn.Module; see docs/extend.md")
