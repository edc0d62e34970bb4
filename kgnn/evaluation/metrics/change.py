"""Changes, and below which size they are rounding."""

import numpy as np

SHARE = 1e-5  # of the largest value: float32 and means of it are wrong by up to a tenth of this


def rounding(*values: np.ndarray) -> float:
    """Size below which a difference of such values [genes] is rounding."""
    return SHARE * max(float(np.abs(value).max(initial=0)) for value in values)


def change(values: np.ndarray, start: np.ndarray) -> np.ndarray:
    """values − start, [genes], 0 where it is within rounding."""
    difference = values - start
    return np.where(np.abs(difference) <= rounding(values, start), 0.0, difference)
