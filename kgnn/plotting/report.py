"""A benchmark's folder: tables, figures, one page that stands alone."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

from kgnn.evaluation.headline import HEADLINE, POINTS
from kgnn.evaluation.report import SHOWN, is_baseline, paired_table, summaries, summary_table
from kgnn.files import file_name, new_file
from kgnn.plotting.scores import model_scores

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#1a202c}
table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}td,th{padding:.25em .6em;text-align:right;
border-bottom:1px solid #e2e8f0;white-space:nowrap}td:first-child,th:first-child{text-align:left}img{max-width:100%}"""
TITLE = "kgnn benchmark"
HEAD = f"<!doctype html><html lang=en><meta charset=utf-8><title>{TITLE}</title><style>{STYLE}</style><h1>{TITLE}</h1>"
NOTE = (
    "<p>First: Pearson-delta against the mean of the training perturbations, PDS cosine and the unbiased MSE ratio; "
    "pearson_crossed and pds_cosine are of fits on one half of the control cells, scored against the other. Means over "
    "conditions of the mean over seeds; in brackets the 95 % bootstrap interval over conditions; ± the standard "
    "deviation over seeds; after = the calibrated score: 0 is the mean of training, 1 the experiment repeated. "
    "Differences are paired by condition.</p>"
)


def write_report(scores: pd.DataFrame, settings: dict[str, Any], out: Path) -> None:
    """Write `scores.csv`, `summary.csv`, `paired.csv`, one figure a data set and split, and `report.html`.

    Args:
        scores: what `kgnn.benchmark.run_benchmark` returned; the runs that failed stand first on the page.
        settings: what `kgnn.benchmark.read_config` returned.
        out: the folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    tables = {"scores": scores, "summary": summary_table(scores), "paired": paired_table(scores)}
    for name, table in tables.items():
        with new_file(out / f"{name}.csv") as file:
            table.to_csv(file, index=False)
    sections = [_failures(scores.attrs.get("failures", []))]
    for dataset, split in scores[["dataset", "split"]].drop_duplicates().itertuples(index=False):
        here = {name: rows[(rows["dataset"] == dataset) & (rows["split"] == split)] for name, rows in tables.items()}
        image = _figure(here["scores"], f"{dataset}, {split}", out / file_name(f"{dataset}-{split}.png"))
        sections.append(_section(f"{dataset}, {split}", here["summary"], here["paired"], image))
    with new_file(out / "report.html") as file:
        file.write_text(HEAD + NOTE + "".join(sections) + "</html>\n", encoding="utf-8")


def _failures(failures: list[dict[str, str]]) -> str:
    rows = "".join(f"<li>{html.escape(row['run'])}: {html.escape(row['error'])}</li>" for row in failures)
    return f"<h2>Runs that failed</h2><ul>{rows}</ul>" if failures else ""


def _figure(part: pd.DataFrame, title: str, path: Path) -> str:
    """Draw the first scores of models and reference points into a file, and return it as base64."""
    found = summaries(part)
    own = [name for name in found if not is_baseline(name) and name not in POINTS]
    told = {name: {m: t for m, t in found.items() if name in t.index and t.loc[name, "n"]} for name in HEADLINE}
    shown = [name for name in HEADLINE if told[name]]
    height = 0.42 * len(found) + 1.4
    figure, axes = plt.subplots(
        1, max(len(shown), 1), figsize=(6.2 * len(shown) + 1, height), layout="constrained", squeeze=False
    )
    for name, ax in zip(shown, axes[0], strict=False):
        model_scores(told[name], name, highlight=own, ax=ax)
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130, format="png")
    plt.close(figure)
    with new_file(path) as file:
        file.write_bytes(buffer.getvalue())
    return base64.b64encode(buffer.getvalue()).decode()


def _section(title: str, summary: pd.DataFrame, paired: pd.DataFrame, image: str) -> str:
    shown = [name for name in SHOWN if name in summary]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ["model", *shown])
    body, words = "", ""
    for row in summary.sort_values("pearson_centred", ascending=False).to_dict("records"):
        cells = "".join(f"<td>{_number(row, name)}</td>" for name in shown)
        body += f"<tr><td>{html.escape(str(row['model']))}</td>{cells}</tr>"
        words += f"<li>{html.escape(str(row['model']))}: {html.escape(row['verdict'])}</li>" if row["verdict"] else ""
    gaps = ""
    for score, rows in paired.groupby("score", sort=False):
        lines = "".join(
            f"<li>{html.escape(str(row['model']))} − {html.escape(str(row['against']))}: {row['mean']:+.3f} "
            f"({row['low']:+.3f} to {row['high']:+.3f}), {row['n']:.0f} conditions</li>"
            for row in rows.to_dict("records")
        )
        gaps += f"<h3>{score}, against the best baseline</h3><ul>{lines}</ul>"
    picture = f"<img alt='scores' src='data:image/png;base64,{image}'>"
    table = f"<table><tr>{head}</tr>{body}</table>"
    return f"<h2>{html.escape(title)}</h2><ul>{words}</ul>{picture}{table}{gaps}"


def _number(row: dict[str, Any], name: str) -> str:
    if pd.isna(row[name]):
        return ""
    spread = "" if pd.isna(row[f"{name}_sd"]) else f" ± {row[f'{name}_sd']:.3f}"
    calibrated = row.get(f"{name}_calibrated")
    worth = f" = {calibrated:.2f}" if name in HEADLINE and not pd.isna(calibrated) else ""
    return f"{row[name]:.3f} ({row[f'{name}_low']:.3f}–{row[f'{name}_high']:.3f}){spread}{worth}"
