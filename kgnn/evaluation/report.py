"""What a benchmark's folder says: summary, paired differences, figures, one page that stands alone."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from kgnn import plotting
from kgnn.evaluation.metrics import noise_ceiling, paired_difference, summarize
from kgnn.files import new_file, read_h5ad
from kgnn.models import BASELINES

SHOWN = (
    "mse",
    "mae",
    "pearson_delta",
    "pearson_delta_top20",
    "wrong_direction_top20",
    "retrieval_rank",
    "discrimination",
    "de_overlap_top20",
    "de_auprc",
    "coverage_90",
)
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#1a202c}
table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}td,th{padding:.25em .6em;text-align:right;
border-bottom:1px solid #e2e8f0;white-space:nowrap}td:first-child,th:first-child{text-align:left}img{max-width:100%}"""


def summary_table(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a data set, kind of split and model: each score's mean over conditions of the mean over seeds, its 95 %
    bootstrap interval over conditions (`_low`, `_high`), and `_sd`, the standard deviation over seeds."""
    rows = []
    shown = [name for name in SHOWN if name in scores]
    for (dataset, split, model), part in scores.groupby(["dataset", "split", "model"], sort=False):
        summary = summarize(part.groupby("condition")[shown].mean())
        spread = part.groupby("seed")[shown].mean().std(ddof=1)
        row: dict[str, Any] = {"dataset": dataset, "split": split, "model": model, "seeds": part["seed"].nunique()}
        row["conditions"] = part["condition"].nunique()
        for name in shown:
            values = summary.loc[name]
            row |= {name: values["mean"], f"{name}_low": values["low"], f"{name}_high": values["high"]}
            row[f"{name}_sd"] = spread[name]
        rows.append(row)
    return pd.DataFrame(rows)


def paired_table(scores: pd.DataFrame, score: str = "pearson_delta", best: str | None = None) -> pd.DataFrame:
    """Difference of each model to the best baseline, paired by condition, with its 95 % bootstrap interval.

    The best baseline is the one of the highest mean score; `best` names another model to compare with.
    """
    rows = []
    for (dataset, split), part in scores.groupby(["dataset", "split"], sort=False):
        means = part.groupby(["model", "condition"])[score].mean()
        baselines = [name for name in means.index.unique("model") if name in BASELINES]
        if best is None and not baselines:
            continue
        against = best or max(baselines, key=lambda name: means[name].mean())
        for model in means.index.unique("model"):
            if model != against:
                gap = paired_difference(means[model].to_frame(score), means[against].to_frame(score), score)
                rows.append({"dataset": dataset, "split": split, "model": model, "against": against} | gap)
    return pd.DataFrame(rows, columns=["dataset", "split", "model", "against", "mean", "low", "high", "n"])


def write_report(scores: pd.DataFrame, settings: dict[str, Any], out: Path) -> None:
    """Write `scores.csv`, `summary.csv`, `paired.csv`, one figure a data set and split, and `report.html`."""
    out.mkdir(parents=True, exist_ok=True)
    summary, paired = summary_table(scores), paired_table(scores)
    for name, table in {"scores": scores, "summary": summary, "paired": paired}.items():
        with new_file(out / f"{name}.csv") as file:
            table.to_csv(file, index=False)
    paths = {row["name"]: row for row in settings["datasets"]}
    sections = []
    for (dataset, split), part in scores.groupby(["dataset", "split"], sort=False):
        ceiling = _ceiling(paths[dataset], part) if dataset in paths else None
        image = _figure(part, f"{dataset}, {split}", out / f"{dataset}-{split}.png", ceiling)
        here = summary[(summary["dataset"] == dataset) & (summary["split"] == split)]
        gaps = paired[(paired["dataset"] == dataset) & (paired["split"] == split)]
        sections.append(_section(dataset, split, here, gaps, image, ceiling))
    title = "kgnn benchmark"
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>"
    )
    note = (
        "<p>Means over conditions of the mean over seeds; in brackets the 95 % bootstrap interval over conditions; "
        "± the standard deviation over seeds. Differences are paired by condition.</p>"
    )
    with new_file(out / "report.html") as file:
        file.write_text(page + note + "".join(sections) + "</html>\n")


def _ceiling(dataset: dict[str, Any], part: pd.DataFrame) -> float | None:
    names = {key: dataset[key] for key in ("condition_key", "control") if key in dataset}
    table = noise_ceiling(read_h5ad(dataset["path"]), part["condition"].unique(), **names)
    return None if table["ceiling"].isna().all() else float(table["ceiling"].mean())


def _figure(part: pd.DataFrame, title: str, path: Path, ceiling: float | None) -> str:
    shown = [name for name in SHOWN if name in part]
    summaries = {model: summarize(rows.groupby("condition")[shown].mean()) for model, rows in part.groupby("model")}
    axes = plotting.model_scores(summaries, highlight=[name for name in summaries if name not in BASELINES])
    if ceiling is not None:
        axes.axvline(ceiling, color="#b7791f", linestyle="--", linewidth=1)
        axes.annotate("noise ceiling", (ceiling, axes.get_ylim()[1]), ha="right", va="top", fontsize=8, rotation=90)
    axes.set_title(title)
    buffer = io.BytesIO()
    axes.figure.savefig(buffer, dpi=130, format="png")  # type: ignore[union-attr]
    plt.close(axes.figure)
    with new_file(path) as file:
        file.write_bytes(buffer.getvalue())
    return base64.b64encode(buffer.getvalue()).decode()


def _section(
    dataset: str, split: str, summary: pd.DataFrame, paired: pd.DataFrame, image: str, ceiling: float | None
) -> str:
    shown = [name for name in SHOWN if name in summary]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["model", *shown])
    body = ""
    for row in summary.sort_values("pearson_delta", ascending=False).to_dict("records"):
        cells = "".join(f"<td>{_number(row, name)}</td>" for name in shown)
        body += f"<tr><td>{html.escape(str(row['model']))}</td>{cells}</tr>"
    lines = "".join(
        f"<li>{html.escape(str(row['model']))} − {html.escape(str(row['against']))}: {row['mean']:+.3f} "
        f"({row['low']:+.3f} to {row['high']:+.3f}), {row['n']:.0f} conditions</li>"
        for row in paired.to_dict("records")
    )
    limit = "" if ceiling is None else f"<p>Noise ceiling of Pearson-delta, from split halves: {ceiling:.3f}.</p>"
    picture = f"<img alt='scores' src='data:image/png;base64,{image}'>"
    return (
        f"<h2>{html.escape(dataset)}, {html.escape(split)}</h2>{limit}{picture}"
        f"<table><tr>{head}</tr>{body}</table><h3>Pearson-delta against the best baseline</h3><ul>{lines}</ul>"
    )


def _number(row: dict[str, Any], name: str) -> str:
    if pd.isna(row[name]):
        return ""
    spread = "" if pd.isna(row[f"{name}_sd"]) else f" ± {row[f'{name}_sd']:.3f}"
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f}–{row[f'{name}_high']:.3f}){spread}"
