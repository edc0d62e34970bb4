"""Pictures of what a model took from the graph: what sources weigh, which conditions told of a prediction."""

import pandas as pd
from matplotlib.axes import Axes

from kgnn.errors import InputError
from kgnn.plotting.style import PALE, PREDICTED, RELATION_COLOURS, new_axes, open_frame

LETTERS = 46  # of what two conditions have in common


def sources(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw `PerturbationModel.sources_`: a bar a source, its weight; behind it the share of the genes that it knows."""
    table = table.sort_values("weight")
    ax = new_axes(ax, 7, 0.6 + 0.32 * len(table))
    ax.barh(table.index, table["known"], color=PALE, height=0.8, label="share of the perturbed genes that it knows")
    ax.barh(table.index, table["weight"], color=PREDICTED, height=0.45, label="weight")
    ax.set_xlim(0, 1.02)
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, 0), borderaxespad=2.2, ncols=2)
    ax.set_title("what each source weighs")
    open_frame(ax)
    return ax


def relatives(table: pd.DataFrame, *, n: int = 12, ax: Axes | None = None) -> Axes:
    """Draw `PerturbationModel.relatives`: the share of the prediction that each training condition told, its sources in
    colours, and beside it what both have in common.

    Raises:
        InputError: no training condition told anything.
    """
    if not len(table):
        raise InputError("no training condition told anything of the prediction; there is nothing to draw")
    total = table.groupby("condition")["share"].sum()
    order = total.loc[total.abs().sort_values(ascending=False).index[:n]].index[::-1]
    ax = new_axes(ax, 8, 0.9 + 0.34 * len(order))
    names = table.groupby("source")["share"].apply(lambda share: share.abs().sum()).sort_values(ascending=False).index
    colours = dict(zip(names, (PREDICTED, *RELATION_COLOURS), strict=False))
    right, left = pd.Series(0.0, order), pd.Series(0.0, order)
    for source in names:
        share = table[table["source"] == source].groupby("condition")["share"].sum().reindex(order, fill_value=0.0)
        start = right.where(share >= 0, left)
        ax.barh(order, share, left=start, color=colours.get(source, PALE), height=0.7, label=source)
        right, left = right + share.clip(lower=0), left + share.clip(upper=0)
    first = table.loc[table["share"].abs().sort_values(ascending=False).index].query("through != ''")
    common = first.groupby("condition", sort=False)["through"].first()
    for place, condition in enumerate(order):
        text = common.get(condition, "")
        text = text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"
        ax.annotate(text, (right[condition], place), (4, 0), textcoords="offset points", va="center", fontsize=7)
    ax.axvline(0, color="black", linewidth=0.6)
    ax.margins(x=0.45)
    ax.legend(frameon=False, fontsize=7, loc="lower right")
    ax.set_xlabel("share of the predicted change")
    ax.set_title(f"what told of {table.attrs.get('condition', '')}")
    open_frame(ax)
    return ax
