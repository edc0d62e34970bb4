"""Pictures of scores: models side by side, what the parts of a graph contribute."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kgnn.evaluation.metrics import Metric
from kgnn.evaluation.metrics.table import larger_is_better
from kgnn.plotting.style import DARK, PALE, PREDICTED, TARGET, new_axes, open_frame


def model_scores(
    summaries: Mapping[str, pd.DataFrame],
    score: str | Metric = "pearson_centred",
    *,
    highlight: Sequence[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw one score of several models with its intervals, best at the top.

    Args:
        summaries: model name → what `kgnn.metrics.summarize` returned.
        score: the row of the summaries to draw, or the metric, which says whether larger is better.
        highlight: models to draw in colour.
    """
    rising = score.larger_is_better if isinstance(score, Metric) else larger_is_better(score)
    score = score.name if isinstance(score, Metric) else score
    table = pd.DataFrame({name: summary.loc[score] for name, summary in summaries.items()}).T
    table = table.sort_values("mean", ascending=rising, kind="stable")
    ax = new_axes(ax, 6.4, 0.42 * len(table) + 1.2)
    _draw_intervals(ax, table, {name: PREDICTED if name in highlight else DARK for name in table.index})
    ax.set_xlabel(f"{score} ({'higher' if rising else 'lower'} is better; 95 % interval over conditions)")
    ax.grid(axis="x", color=PALE)
    ax.set_axisbelow(True)
    open_frame(ax)
    ax.spines["left"].set_visible(False)
    return ax


def ablation(summary: pd.DataFrame, sources: pd.DataFrame | None = None, score: str = "pearson_centred") -> Figure:
    """Draw what each source contributes, and how the quality of the graph turns into quality of the prediction.

    Args:
        summary: from `kgnn.controls.summarize_ablation`.
        sources: from `kgnn.controls.shapley`; without it the left panel shows every variant that is no share of edges.
        score: name of the score, for the axes.
    """
    share = summary.index.str.extract(r"^([0-9]+)% of edges (random|removed)$").set_axis(summary.index)
    others = summary[share[0].isna() & ~summary.index.str.startswith("sources ")]
    rows = (others if sources is None else sources).iloc[::-1]
    height = max(3.2, 0.4 * max(len(rows), 6) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, height), layout="constrained")
    _draw_intervals(left, rows, {name: PREDICTED if name == "true graph" else TARGET for name in rows.index})
    left.set_xlabel(f"{score}, 95 % interval" if sources is None else f"contribution to {score} (Shapley value)")
    if sources is not None:
        left.axvline(0, color=DARK, linewidth=0.8)
    _draw_shares(right, summary, share)
    right.set_ylabel(score)
    open_frame(left, right)
    return figure


def _draw_intervals(ax: Axes, table: pd.DataFrame, colours: Mapping[str, str]) -> None:
    """Draw a line from `low` to `high` and a dot at `mean` for each row, the first at the bottom."""
    for row, (name, values) in enumerate(table.iterrows()):
        ax.plot([values["low"], values["high"]], [row, row], color=colours[name], linewidth=2, alpha=0.6)
        ax.plot(values["mean"], row, "o", color=colours[name])
    ax.set_yticks(range(len(table)), [str(name) for name in table.index])


def _draw_shares(ax: Axes, summary: pd.DataFrame, share: pd.DataFrame) -> None:
    """Draw the score over the share of edges changed; `share` [variants]: per cent, and how they were changed."""
    for kind, colour in (("random", PREDICTED), ("removed", TARGET)):
        part = summary[share[1] == kind]
        if len(part):
            x = np.array([0.0, *share.loc[part.index, 0].astype(float)])
            rows = pd.concat([summary.loc[["true graph"]], part]) if "true graph" in summary.index else part
            x = x[-len(rows) :]
            ax.plot(x, rows["mean"], "o-", color=colour, label=f"edges {kind}")
            ax.fill_between(x, rows["low"], rows["high"], color=colour, alpha=0.15, linewidth=0)
    for name, style in (
        ("rewired graph", "--"),
        ("no graph", ":"),
        ("complete graph", "-."),
        ("complete directed graph", "-."),
    ):
        if name in summary.index:
            ax.axhline(summary.loc[name, "mean"], color=DARK, linestyle=style, linewidth=1, label=name)
    ax.set_xlabel("share of edges, %")
    ax.legend(frameon=False, fontsize=8)
