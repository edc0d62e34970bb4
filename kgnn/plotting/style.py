"""Colours and axes that the pictures share."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

OBSERVED, PREDICTED, TARGET = "#9aa5b1", "#c8371e", "#1f6f8b"
PALE, DARK = "#e2e8f0", "#4a5568"
RELATION_COLOURS = ("#1f6f8b", "#b7791f", "#6b4c9a", "#2f855a", "#97266d")


def new_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the axes that were given, or new ones of a size in inches."""
    return plt.subplots(figsize=(width, height), layout="constrained")[1] if ax is None else ax


def open_frame(*axes: Axes) -> None:
    """Draw no line at the top and at the right."""
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
