"""Pictures of predictions: against what was observed, and the edges that carried them."""

from collections.abc import Iterable

import networkx as nx
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from kgnn.data.conditions import ConditionNames, perturbed_genes
from kgnn.data.differential import top_de_genes
from kgnn.data.screen import read_screen
from kgnn.errors import InputError
from kgnn.plotting.style import OBSERVED, PALE, PREDICTED, TARGET, new_axes, open_frame


def predicted_vs_observed(
    prediction: AnnData,
    adata: AnnData,
    condition: str,
    *,
    n_top: int = 20,
    condition_key: str = "condition",
    control: str | Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a condition's top DE genes: boxes for the real cells' change against control, a dot for the prediction.

    Perturbed genes among them are labelled in colour. Boxes: quartiles, whiskers at 1.5 interquartile ranges, mean
    as a line. Of a table of effects: the largest that were measured, boxes of replicates.
    """
    names = ConditionNames(control)
    name = names.canonical(condition)
    screen = read_screen(adata, condition_key=condition_key, control=control).filled([])
    row = np.flatnonzero(prediction.obs["condition"].map(names.canonical) == name)
    if not len(row):
        raise InputError(f"no prediction of {condition!r}; predict it first")
    top = top_de_genes(screen, [name], len(screen.genes))[name]
    top = top[screen.measures([name])[0][top]][:n_top]
    cells = screen.x[screen.cells([name])][:, top].toarray() - screen.control_mean[top]
    genes = screen.genes[top]
    delta = np.asarray(prediction[row, genes].layers["delta"]).mean(axis=0)

    ylabel = "effect" if screen.is_effects else "change against control\n(log-normalised)"
    of = "effects" if screen.is_effects else "cells"

    ax = new_axes(ax, 0.42 * len(top) + 1.6, 3.8)
    ax.axhline(0, color="black", linewidth=0.8)
    _draw_boxes(ax, cells)
    ax.scatter(np.arange(1, len(top) + 1), delta, color=PREDICTED, zorder=3, s=28)
    ax.set_xticks(np.arange(1, len(top) + 1), genes, rotation=90)
    for label in ax.get_xticklabels():
        if label.get_text() in perturbed_genes(name):
            label.set(color=TARGET, fontweight="bold")
    ax.set(title=f"{condition}: top {len(top)} DE genes", ylabel=ylabel)
    observed = Line2D([], [], color=OBSERVED, linewidth=8, alpha=0.7, label=f"observed {of} (line: mean)")
    predicted = Line2D([], [], color=PREDICTED, marker="o", linestyle="", label="predicted")
    ax.legend(handles=[observed, predicted], frameon=False, loc="best")
    open_frame(ax)
    return ax


def _draw_boxes(ax: Axes, values: np.ndarray) -> None:
    """Draw a box for each column of [cells, genes]."""
    ax.boxplot(
        values,
        showfliers=False,
        showmeans=True,
        meanline=True,
        patch_artist=True,
        medianprops={"linewidth": 0},
        meanprops={"color": "black", "linestyle": "-", "linewidth": 1.4},
        boxprops={"facecolor": OBSERVED, "edgecolor": "none", "alpha": 0.7},
        whiskerprops={"color": OBSERVED},
        capprops={"color": OBSERVED},
    )


def explanation(edges: pd.DataFrame, *, max_edges: int = 30, ax: Axes | None = None) -> Axes:
    """Draw the edges that carried a prediction, from `PerturbationModel.explain`: the perturbed genes in the middle.

    Red edges raise what they reach, blue ones lower it; the wider, the more they carry.
    """
    if not len(edges):
        raise InputError("no edge carried the prediction; there is nothing to draw")
    total = edges.groupby(["source", "target"])["contribution"].sum()
    total = total.loc[total.abs().sort_values(ascending=False).index[:max_edges]]
    network = nx.DiGraph()
    network.add_weighted_edges_from((source, target, value) for (source, target), value in total.items())
    centre = [gene for gene in edges.attrs.get("perturbed", []) if gene in network]
    rest = [node for node in network if node not in centre]
    start = nx.shell_layout(network, [centre, rest] if centre and rest else None)
    place = nx.spring_layout(network, pos=start, fixed=centre or None, seed=0, k=1.6 / max(len(network), 1) ** 0.5)
    ax = new_axes(ax, 7, 6)
    values = np.array([value for *_, value in network.edges(data="weight")])
    colours = [PREDICTED if value > 0 else TARGET for value in values]
    widths = 0.6 + 3.4 * np.abs(values) / np.abs(values).max()
    nx.draw_networkx_edges(network, place, ax=ax, edge_color=colours, width=widths, alpha=0.8, arrowsize=9)
    nodes = [PREDICTED if node in centre else PALE for node in network]
    nx.draw_networkx_nodes(network, place, ax=ax, node_color=nodes, node_size=240)
    nx.draw_networkx_labels(network, place, ax=ax, font_size=7)
    ax.set_title(f"edges that carried the prediction of {edges.attrs.get('condition', '')}")
    ax.set_axis_off()
    return ax
