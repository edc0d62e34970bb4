"""A benchmark's folder: tables, figures, one page that stands alone."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from kgnn.evaluation.report import SHOWN, is_baseline, mean_ceiling, paired_table, summarize_seeds, summary_table
from kgnn.files import new_file
from kgnn.plotting.scores import model_scores

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#1a202c}
table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}td,th{padding:.25em .6em;text-align:right;
border-bottom:1px solid #e2e8f0;white-space:nowrap}td:first-child,th:first-child{text-align:left}img{max-width:100%}"""
TITLE = "kgnn benchmark"
HEAD = f"<!doctype html><html lang=en><meta charset=utf-8><title>{TITLE}</title><style>{STYLE}</style><h1>{TITLE}</h1>"
NOTE = (
    "<p>Means over conditions of the mean over seeds; in brackets the 95 % bootstrap interval over conditions; "
    "± the standard deviation over seeds. Differences are paired by condition.</p>"
)


def write_report(scores: pd.DataFrame, settings: dict[str, Any], out: Path) -> None:
    """Write `scores.csv`, `summary.csv`, `paired.csv`, one figure a data set and split, and `report.html`.

    Args:
        scores: what `kgnn.benchmark.run_benchmark` returned.
        settings: what `kgnn.benchmark.read_config` returned.
        out: the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    tables = {"scores": scores, "summary": summary_table(scores), "paired": paired_table(scores)}
    for name, table in tables.items():
        with new_file(out / f"{name}.csv") as file:
            table.to_csv(file, index=False)
    datasets = {row["name"]: row for row in settings["datasets"]}
    sections = []
    for dataset, split in scores[["dataset", "split"]].drop_duplicates().itertuples(index=False):
        here = {name: rows[(rows["dataset"] == dataset) & (rows["split"] == split)] for name, rows in tables.items()}
        ceiling = mean_ceiling(datasets[dataset], here["scores"]) if dataset in datasets else None
        image = _figure(here["scores"], f"{dataset}, {split}", out / f"{dataset}-{split}.png", ceiling)
        sections.append(_section(f"{dataset}, {split}", here["summary"], here["paired"], image, ceiling))
    with new_file(out / "report.html") as file:
        file.write_text(HEAD + NOTE + "".join(sections) + "</html>\n")


def _figure(part: pd.DataFrame, title: str, path: Path, ceiling: float | None) -> str:
    """Draw the models' scores into a file, and return it as base64."""
    summaries = {str(model): summarize_seeds(rows) for model, rows in part.groupby("model")}
    axes = model_scores(summaries, highlight=[name for name in summaries if not is_baseline(name)])
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


def _section(title: str, summary: pd.DataFrame, paired: pd.DataFrame, image: str, ceiling: float | None) -> str:
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
        f"<h2>{html.escape(title)}</h2>{limit}{picture}"
        f"<table><tr>{head}</tr>{body}</table><h3>Pearson-delta against the best baseline</h3><ul>{lines}</ul>"
    )


def _number(row: dict[str, Any], name: str) -> str:
    if pd.isna(row[name]):
        return ""
    spread = "" if pd.isna(row[f"{name}_sd"]) else f" ± {row[f'{name}_sd']:.3f}"
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f}–{row[f'{name}_high']:.3f}){spread}"
