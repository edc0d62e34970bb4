"""Pictures of a graph: what is round a gene, what it is made of."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.graph.report import Report
from kgnn.plotting.style import PALE, RELATION_COLOURS, TARGET, new_axes, open_frame


def neighbourhood(kg: KnowledgeGraph, gene: str, *, max_neighbours: int = 20, ax: Axes | None = None) -> Axes:
    """Draw the gene–gene edges round a gene: its heaviest neighbours on a circle, and the edges among them.

    Colour: relation; arrow: activation or unknown sign; bar: repression.
    """
    if gene not in kg.nodes("gene").index:
        raise InputError(f"the gene {gene!r} is not in the graph")
    edges = _edges_of_genes(kg)
    near = edges[(edges["source"] == gene) | (edges["target"] == gene)]
    other = near["target"].where(near["source"] == gene, near["source"])
    kept = near.assign(other=other).groupby("other")["weight"].max().sort_values(ascending=False, kind="stable")
    shown = [gene, *kept.index[:max_neighbours]]
    edges = edges[edges["source"].isin(shown) & edges["target"].isin(shown)]

    ax = new_axes(ax, 6.4, 5.2)
    angle = np.linspace(0, 2 * np.pi, len(shown) - 1, endpoint=False)
    position = {gene: (0.0, 0.0)} | {other: (np.cos(a), np.sin(a)) for other, a in zip(shown[1:], angle, strict=True)}
    colours = _draw_edges(ax, edges, position)
    colour_of = [TARGET if node == gene else PALE for node in shown]
    nx.draw_networkx_nodes(position, position, node_color=colour_of, node_size=420, ax=ax)
    for node, (x, y) in position.items():
        ax.annotate(node, (x, y), ha="center", va="center", fontsize=7, color="white" if node == gene else "black")
    hidden = len(kept) - (len(shown) - 1)
    ax.set_title(f"{gene} and {len(shown) - 1} neighbours" + (f" of {len(kept)}" if hidden > 0 else ""))
    handles = [Line2D([], [], color=colour, label=relation) for relation, colour in colours.items()]
    if (edges["sign"] != 0).any():
        handles.append(Line2D([], [], linestyle="", label="→ activates, ⊣ represses"))
    ax.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(-0.02, 1.02))
    ax.margins(0.12)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


def _edges_of_genes(kg: KnowledgeGraph) -> pd.DataFrame:
    """All gene–gene edges: `source, target, weight, sign, relation`."""
    kinds = [kind for kind in kg.relations if kind[0] == kind[2] == "gene"]
    if not kinds:
        return pd.DataFrame(columns=["source", "target", "weight", "sign", "relation"])
    return pd.concat([kg.edges(kind).assign(relation=kind[1]) for kind in kinds])


def _draw_edges(ax: Axes, edges: pd.DataFrame, position: Mapping[str, tuple[float, float]]) -> dict[str, str]:
    """Draw edges as arrows or bars by their sign, and return the colour of each relation."""
    colours = dict(zip(edges["relation"].unique(), cycle(RELATION_COLOURS), strict=False))
    graph = nx.MultiDiGraph(list(edges[["source", "target"]].itertuples(index=False, name=None)))
    for (relation, repressing), part in edges.groupby(["relation", edges["sign"] < 0]):
        nx.draw_networkx_edges(
            graph,
            position,
            edgelist=list(part[["source", "target"]].itertuples(index=False, name=None)),
            edge_color=colours[relation],
            alpha=0.55,
            arrowstyle="-[,widthB=0.8,lengthB=0" if repressing else "-|>",
            arrowsize=9,
            width=1.3,
            node_size=420,
            min_target_margin=14,
            connectionstyle="arc3,rad=0.06",
            ax=ax,
        )
    return colours


def graph_account(kg: KnowledgeGraph, report: Report | None = None) -> Figure:
    """Draw what a graph is made of: edges a source, degrees a relation, overlap of sources.

    Args:
        kg: the graph.
        report: what `kg.report()` returned, if it is at hand.
    """
    report = kg.report() if report is None else report
    sources = report.sources[report.sources["edges"] > 0].iloc[::-1]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, max(3.6, 0.36 * len(sources) + 1.4)), width_ratios=(1.25, 1), layout="constrained"
    )
    palette = plt.get_cmap("tab20").colors
    colours = dict(zip(report.sources["relation"].unique(), cycle(palette[::2] + palette[1::2]), strict=False))
    _draw_sources(left, sources, colours)
    for relation in kg.relations:
        name = "–".join(relation)
        degree = np.bincount(kg.edge_arrays(relation)["target"])
        degree = np.sort(degree[degree > 0])
        if len(degree):
            share = 1 - np.arange(len(degree)) / len(degree)
            right.step(degree, share, where="post", color=colours[name], label=name.replace("–", " "), linewidth=1.6)
    right.set(xscale="log", yscale="log", xlabel="edges into a node", ylabel="share of nodes with at least as many")
    right.set_title("Degrees")
    right.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    open_frame(left, right)
    return figure


def _draw_sources(ax: Axes, sources: pd.DataFrame, colours: Mapping[str, Any]) -> None:
    """Draw a bar of edges for each row of a report's `sources`, the first at the bottom."""
    rows = range(len(sources))
    ax.barh(rows, sources["edges"], color=[colours[name] for name in sources["relation"]], height=0.7)
    for row, (_, source) in enumerate(sources.iterrows()):
        signed = source["positive"] + source["negative"]
        signs = f"  (+{source['positive']:,} −{source['negative']:,})" if signed else ""
        ax.text(source["edges"], row, f" {source['edges']:,}{signs}", va="center", fontsize=8)
    ax.set_yticks(rows, sources["relation"].str.replace("–", " ") + ": " + sources["origin"], fontsize=8)
    ax.set(xscale="log", xlabel="edges", title="Sources", xlim=(0.7, 60 * max(sources["edges"], default=1)))
