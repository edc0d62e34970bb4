"""Estimators whose methods are functions of the one value that fit made."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, Generic, ParamSpec, TypeVar

from kgnn.errors import InputError

F = TypeVar("F")
P = ParamSpec("P")
T = TypeVar("T")


class Estimator(Generic[F]):
    """What holds `fitted_` once it is fitted."""

    fitted_: F

    def _need_fit(self) -> F:
        if not hasattr(self, "fitted_"):
            raise InputError("the model is not fitted; call fit first, or load a saved one")
        return self.fitted_


def use(function: Callable[Concatenate[F, P], T]) -> Callable[Concatenate[Estimator[F], P], T]:
    """Make a method of a function of what fit made."""

    @wraps(function)
    def method(self: Estimator[F], *args: P.args, **options: P.kwargs) -> T:
        return function(self._need_fit(), *args, **options)

    return method
