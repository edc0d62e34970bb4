"""Options that are numbers, levels or signs: checked against what they are for, by the same functions everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.names import as_name, as_number
from kgnn.parts import is_number

LEVELS = {"A": 5, "B": 4, "C": 3, "D": 2, "E": 1}  # DoRothEA's levels of confidence as numbers, best highest
LEVEL = "level A to E"  # how the account calls this measure of confidence
ACTIVATES = "activates activation activate activator stimulates stimulation induces positive up + 1 -> -t>"
REPRESSES = "inhibits inhibition inhibit inhibitor represses repression repress repressor negative down - -1 -| -t|"
UNSIGNED = "regulates regulation controls-expression-of unknown tf pd 0 ? dual both mixed none na n/a nan"
SIGN_OF = {word: sign for words, sign in ((ACTIVATES, 1), (REPRESSES, -1), (UNSIGNED, 0)) for word in words.split()}


def confidence_limit(value: Any) -> tuple[float | None, bool]:
    """Return the smallest confidence to keep as a number (None: keep all), and whether it was given as a level.

    Raises:
        InputError: neither None, a number, nor a letter A to E.
    """
    if value is None:
        return None, False
    if isinstance(value, str) and value in LEVELS:
        return LEVELS[value], True
    if isinstance(value, str) or not is_number(value) or np.isnan(value):
        raise InputError(f"min_confidence {value!r} is none of A, B, C, D, E and no number")
    return float(value), False


def check_measure(limit: Any, measures: dict[str, str | None], remedy: str = "") -> None:
    """Refuse a level where confidences are no levels.

    Args:
        limit: what the user gave as min_confidence.
        measures: who gave confidences → what they measure; None where nobody knows.
        remedy: what else to do.
    """
    for owner, measure in measures.items():
        if isinstance(limit, str) and measure not in (None, LEVEL):
            raise InputError(
                f"{owner}: min_confidence {limit!r} is one of DoRothEA's levels, and there are no confidence levels "
                f"here but the {measure}; give a number{remedy}"
            )


def as_signs(values: Any, where: Any) -> np.ndarray:
    """Return signs as −1, 0, +1 [values]: of numbers their sign, of words what they mean, 0 where missing or unknown.

    Args:
        values: numbers, words such as `activation` and `repression` in any case, missing values; also mixed.
        where: the number of a value → the place to name.

    Raises:
        InputError: a word that is no sign.
    """
    column = pd.Series(values).reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        return np.sign(np.nan_to_num(column.to_numpy(np.float64, na_value=np.nan))).astype(np.int8)
    codes, words = pd.factorize(column.astype(object))
    signs = np.zeros(len(words) + 1, np.int8)  # the last one is that of missing values
    for number, word in enumerate(words):
        sign = _sign(word)
        if sign is None:
            row = int(np.argmax(codes == number))
            raise InputError(
                f"{where(row)}: the sign {word!r:.50} is no number and no word like activation, repression, unknown"
            )
        signs[number] = sign
    return signs[codes]


def _sign(value: Any) -> int | None:
    name = as_name(value)
    if name is None:
        return 0
    if name.lower() in SIGN_OF:
        return SIGN_OF[name.lower()]
    number = as_number(name)
    return None if number is None or np.isnan(number) else int(np.sign(number))
