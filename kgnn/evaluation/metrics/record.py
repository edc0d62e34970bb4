"""What a metric is: a pure function, and what tables and pictures must know of it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, Literal

from kgnn.errors import InputError

FURTHER = ("variance", "significant", "panel", "own", "strongest", "center", "targets", "weights", "noise", "halves",
           "called", "predictions", "place", "cells", "real_cells")  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """A score of one condition.

    Attributes:
        name: column of the scores.
        function: (predicted, observed, reference) → number, on mean expression [genes]: predicted, of the condition's
            cells, of control cells. By naming it a function gets more: `variance` [genes] of the prediction (no column
            where there is none); `significant` [genes] bool, differs from control (t test, Benjamini–Hochberg 5 %);
            `panel` [conditions, genes], the observed means of all conditions, and `own`, the row of this one;
            `strongest`, numbers of its top DE genes, strongest first (the column then ends in `_top20`, say); `center`
            [genes], mean over training perturbations, without a split over the others of the panel; `targets` [genes]
            bool, perturbed anywhere in the panel; `weights` [genes], see `weighted_mse`; `noise` [2, genes], variance
            of the observed and of the control mean; `halves` [draws, 2, genes], means of two random halves of the
            control cells; `called` [genes] bool, differs from control in the prediction; `predictions` [predicted
            conditions, genes] and `place`, the row of this one; `cells`, `real_cells` [cells, genes] (no column for a
            mean).
        larger_is_better: direction.
        genes: taken on `all` genes, on the `top` DE genes (column `_top20`, say), or on `both`.
        limits: least and greatest value.
        source: where the score comes from.

    Raises:
        InputError: a function of other parameters.
    """

    name: str
    function: Callable[..., float]
    larger_is_better: bool = True
    genes: Literal["all", "top", "both"] = "all"
    limits: tuple[float, float] = (float("-inf"), float("inf"))
    source: str = ""

    def __post_init__(self) -> None:
        unknown = [name for name in self.further if name not in FURTHER]
        if unknown:
            known = ", ".join(FURTHER)
            raise InputError(f"metric {self.name!r} asks for {unknown[0]!r}; a metric can ask for {known}")

    @cached_property
    def further(self) -> list[str]:
        """Names of the parameters after the first three, without those that have a default of their own."""
        try:
            signature = inspect.signature(self.function)
            named = list(signature.parameters.values())[3:]
            signature.bind(0, 0, 0, **{p.name: 0 for p in named})
        except (TypeError, ValueError):
            raise InputError(f"metric {self.name!r} is no function of (predicted, observed, reference)") from None
        return [p.name for p in named if p.default is p.empty or p.name in FURTHER]

    def columns(self, n_top: int = 20) -> dict[str, str]:
        """Column → the genes that it is taken on, `all` or `top`."""
        top = f"{self.name}_top{n_top}"
        if self.genes == "all":
            return {top if "strongest" in self.further else self.name: "all"}
        return {top: "top"} if self.genes == "top" else {self.name: "all", top: "top"}

    def __call__(self, predicted: Any, observed: Any, reference: Any, **inputs: Any) -> float:
        """Return the score; `inputs` may hold more than the function asks for."""
        value = self.function(predicted, observed, reference, **{name: inputs[name] for name in self.further})
        if not isinstance(value, Real):
            raise InputError(f"metric {self.name!r} returned {type(value).__name__}; a metric returns one number")
        return float(value)


def metric(name: str = "", **fields: Any) -> Callable[[Callable[..., float]], Metric]:
    """Make a `Metric` of the function below, named as that is unless `name` says otherwise; `fields`: the record's."""
    return lambda function: Metric(name or function.__name__, function, **fields)
