"""Pictures: predicted against observed change, the graph round a gene, scores of models."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kgnn.data.conditions import ConditionNames
from kgnn.data.differential import top_de_genes
from kgnn.data.screen import perturbed_genes, read_screen
from kgnn.errors import InputError
from kgnn.graph import KnowledgeGraph
from kgnn.graph.report import Report

OBSERVED, PREDICTED, TARGET = "#9aa5b1", "#c8371e", "#1f6f8b"
RELATION_COLOURS = ("#1f6f8b", "#b7791f", "#6b4c9a", "#2f855a", "#97266d")


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
    as a line.
    """
    names = ConditionNames(control)
    name = names.canonical(condition)
    screen = read_screen(adata, condition_key=condition_key, control=control)
    row = np.flatnonzero(prediction.obs["condition"].map(names.canonical) == name)
    if not len(row):
        raise InputError(f"no prediction of {condition!r}; predict it first")
    top = top_de_genes(screen, [name], n_top)[name]
    cells = screen.x[screen.cells([name])][:, top].toarray() - screen.control_mean[top]
    genes = screen.genes[top]
    delta = np.asarray(prediction[row, genes].layers["delta"]).mean(axis=0)

    ax = plt.subplots(figsize=(0.42 * len(top) + 1.6, 3.8), layout="constrained")[1] if ax is None else ax
    ax.axhline(0, color="black", linewidth=0.8)
    ax.boxplot(
        cells,
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
    ax.scatter(np.arange(1, len(top) + 1), delta, color=PREDICTED, zorder=3, s=28)
    ax.set_xticks(np.arange(1, len(top) + 1), genes, rotation=90)
    for label in ax.get_xticklabels():
        if label.get_text() in perturbed_genes(name):
            label.set(color=TARGET, fontweight="bold")
    ax.set(title=f"{condition}: top {len(top)} DE genes", ylabel="change against control\n(log-normalised)")
    handles = [
        Line2D([], [], color=OBSERVED, linewidth=8, alpha=0.7, label="observed cells (line: mean)"),
        Line2D([], [], color=PREDICTED, marker="o", linestyle="", label="predicted"),
    ]
    ax.legend(handles=handles, frameon=False, loc="best")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def neighbourhood(kg: KnowledgeGraph, gene: str, *, max_neighbours: int = 20, ax: Axes | None = None) -> Axes:
    """Draw the gene–gene edges round a gene: its heaviest neighbours on a circle, and the edges among them.

    Colour: relation; arrow: activation or unknown sign; bar: repression.
    """
    if gene not in kg.nodes("gene").index:
        raise InputError(f"the gene {gene!r} is not in the graph")
    tables = []
    for relation in kg.relations:
        if relation[0] == relation[2] == "gene":
            tables.append(kg.edges(relation).assign(relation=relation[1]))
    edges = pd.concat(tables) if tables else pd.DataFrame(columns=["source", "target", "weight", "sign", "relation"])
    near = edges[(edges["source"] == gene) | (edges["target"] == gene)]
    other = near["target"].where(near["source"] == gene, near["source"])
    kept = near.assign(other=other).groupby("other")["weight"].max().sort_values(ascending=False, kind="stable")
    shown = [gene, *kept.index[:max_neighbours]]
    edges = edges[edges["source"].isin(shown) & edges["target"].isin(shown)]

    ax = plt.subplots(figsize=(6.4, 5.2), layout="constrained")[1] if ax is None else ax
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(shown)
    graph.add_edges_from(edges[["source", "target"]].itertuples(index=False))
    angle = np.linspace(0, 2 * np.pi, len(shown) - 1, endpoint=False)
    position = {gene: (0.0, 0.0)} | {other: (np.cos(a), np.sin(a)) for other, a in zip(shown[1:], angle, strict=True)}
    relations = list(dict.fromkeys(edges["relation"]))
    colours = {name: RELATION_COLOURS[number % len(RELATION_COLOURS)] for number, name in enumerate(relations)}
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
    colour_of = [TARGET if node == gene else "#e2e8f0" for node in graph]
    nx.draw_networkx_nodes(graph, position, node_color=colour_of, node_size=420, ax=ax)
    for node, (x, y) in position.items():
        ax.annotate(node, (x, y), ha="center", va="center", fontsize=7, color="white" if node == gene else "black")
    hidden = len(kept) - (len(shown) - 1)
    ax.set_title(f"{gene} and {len(shown) - 1} neighbours" + (f" of {len(kept)}" if hidden > 0 else ""))
    handles = [Line2D([], [], color=colours[name], label=name) for name in relations]
    if (edges["sign"] != 0).any():
        handles.append(Line2D([], [], linestyle="", label="→ activates, ⊣ represses"))
    ax.legend(handles=handles, frameon=False, loc="upper left", bbox_to_anchor=(-0.02, 1.02))
    ax.margins(0.12)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


def model_scores(
    summaries: Mapping[str, pd.DataFrame],
    score: str = "pearson_delta",
    *,
    highlight: Sequence[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw one score of several models with its intervals, best at the top.

    Args:
        summaries: model name → what `kgnn.metrics.summarize` returned.
        score: the row of the summaries to draw.
        highlight: models to draw in colour.
    """
    table = pd.DataFrame({name: summary.loc[score] for name, summary in summaries.items()}).T
    lower_is_better = score.startswith(("mse", "mae", "wrong", "retrieval"))
    table = table.sort_values("mean", ascending=not lower_is_better, kind="stable")
    ax = plt.subplots(figsize=(6.4, 0.42 * len(table) + 1.2), layout="constrained")[1] if ax is None else ax
    for row, (name, values) in enumerate(table.iterrows()):
        colour = PREDICTED if name in highlight else "#4a5568"
        ax.plot([values["low"], values["high"]], [row, row], color=colour, linewidth=2, alpha=0.6)
        ax.plot(values["mean"], row, "o", color=colour)
    ax.set_yticks(range(len(table)), [str(name) for name in table.index])
    ax.set_xlabel(f"{score} ({'lower' if lower_is_better else 'higher'} is better; 95 % interval over conditions)")
    ax.grid(axis="x", color="#e2e8f0")
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return ax


def ablation(summary: pd.DataFrame, sources: pd.DataFrame | None = None, score: str = "pearson_delta") -> Figure:
    """Draw what each source contributes, and how the quality of the graph turns into quality of the prediction.

    Args:
        summary: from `kgnn.controls.summarize_ablation`.
        sources: from `kgnn.controls.shapley`; without it the left panel shows every variant that is no share of edges.
        score: name of the score, for the axes.
    """
    share = summary.index.str.extract(r"^([0-9]+)% of edges (random|removed)$").set_axis(summary.index)
    curve = share[0].notna().to_numpy()
    others = summary[~curve & ~summary.index.str.startswith("sources ")]
    left_rows = others if sources is None else sources
    height = max(3.2, 0.4 * max(len(left_rows), 6) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, height), layout="constrained")
    for row, (name, values) in enumerate(left_rows.iloc[::-1].iterrows()):
        left.plot([values["low"], values["high"]], [row, row], color=TARGET, linewidth=2, alpha=0.6)
        left.plot(values["mean"], row, "o", color=PREDICTED if name == "true graph" else TARGET)
    left.set_yticks(range(len(left_rows)), [str(name) for name in left_rows.index[::-1]])
    left.set_xlabel(f"{score}, 95 % interval" if sources is None else f"contribution to {score} (Shapley value)")
    if sources is not None:
        left.axvline(0, color="#4a5568", linewidth=0.8)
    for kind, colour in (("random", PREDICTED), ("removed", TARGET)):
        part = summary[curve & (share[1] == kind).to_numpy()]
        if len(part):
            x = np.array([0.0, *share.loc[part.index, 0].astype(float)])
            rows = pd.concat([summary.loc[["true graph"]], part]) if "true graph" in summary.index else part
            x = x[-len(rows) :]
            right.plot(x, rows["mean"], "o-", color=colour, label=f"edges {kind}")
            right.fill_between(x, rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
    for name, style in (("rewired graph", "--"), ("no graph", ":"), ("complete graph", "-.")):
        if name in summary.index:
            right.axhline(summary.loc[name, "mean"], color="#4a5568", linestyle=style, linewidth=1, label=name)
    right.set_xlabel("share of edges, %")
    right.set_ylabel(score)
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


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
    ax = plt.subplots(figsize=(7, 6), layout="constrained")[1] if ax is None else ax
    values = np.array([value for *_, value in network.edges(data="weight")])
    colours = [PREDICTED if value > 0 else TARGET for value in values]
    widths = 0.6 + 3.4 * np.abs(values) / np.abs(values).max()
    nx.draw_networkx_edges(network, place, ax=ax, edge_color=colours, width=widths, alpha=0.8, arrowsize=9)
    nodes = [PREDICTED if node in centre else "#e2e8f0" for node in network]
    nx.draw_networkx_nodes(network, place, ax=ax, node_color=nodes, node_size=240)
    nx.draw_networkx_labels(network, place, ax=ax, font_size=7)
    ax.set_title(f"edges that carried the prediction of {edges.attrs.get('condition', '')}")
    ax.set_axis_off()
    return ax


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
    relations = list(dict.fromkeys(report.sources["relation"]))
    palette = plt.get_cmap("tab20").colors[::2] + plt.get_cmap("tab20").colors[1::2]
    colours = {name: palette[number % len(palette)] for number, name in enumerate(relations)}
    rows = np.arange(len(sources))
    left.barh(rows, sources["edges"], color=[colours[name] for name in sources["relation"]], height=0.7)
    for row, (_, source) in zip(rows, sources.iterrows(), strict=True):
        signs = (
            f"  (+{source['positive']:,} −{source['negative']:,})" if source["positive"] + source["negative"] else ""
        )
        left.text(source["edges"], row, f" {source['edges']:,}{signs}", va="center", fontsize=8)
    left.set_yticks(rows, sources["relation"].str.replace("–", " ") + ": " + sources["origin"], fontsize=8)
    left.set(xscale="log", xlabel="edges", title="Sources", xlim=(0.7, 60 * max(sources["edges"], default=1)))
    for relation in kg.relations:
        name = "–".join(relation)
        degree = np.bincount(kg.edge_arrays(relation)["target"])
        degree = np.sort(degree[degree > 0])
        if len(degree):
            share = 1 - np.arange(len(degree)) / len(degree)
            right.step(degree, share, where="post", color=colours[name], label=name.replace("–", " "), linewidth=1.6)
    right.set(xscale="log", yscale="log", xlabel="edges into a node", ylabel="share of nodes with at least as many")
    right.set_title("Degrees")
    right.legend(frameon=False, fontsize=8)
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
    return figure
