"""docs/results.md, and the README's table, from the figures that benchmarks.perturbation wrote."""

import json
from pathlib import Path

import pandas as pd

from kgnn.evaluation.headline import POINTS
from kgnn.evaluation.metrics.table import RATIOS
from kgnn.evaluation.report import summaries
from kgnn.metrics import paired_difference

DOCS, README = Path("docs/results.md"), Path("README.md")
START, END = "<!-- results -->", "<!-- end of results -->"
COLUMNS = {
    "pearson_centred": "Pearson-delta, centred",
    "pds_cosine": "PDS cosine",
    "mse_ratio": "MSE ratio",
    "pearson_crossed": "Pearson-delta, crossed",
    "pearson_delta": "Pearson-delta, shared control",
}
RATIO = {name: list(RATIOS.get(name, (name,))) for name in COLUMNS}  # columns that the differences are of
PLAIN = ("no_change", "mean", "additive", "linear", "composition_ridge", "knn", "embedding_ridge", "set_kernel_ridge")


def interval(row: pd.Series) -> str:
    return f"{row['mean']:.3f} ({row['low']:.3f}–{row['high']:.3f})"


def spread(values: pd.Series) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1):.3f}" if len(values) > 1 else f"{values.mean():.3f}"


def gap(ours: pd.DataFrame, other: pd.DataFrame, score: str) -> str:
    row = paired_difference(ours, other, score)
    return f"{row['mean']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def means(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Model → a row a condition, mean over seeds."""
    return {name: part.groupby("condition").mean(numeric_only=True) for name, part in table.groupby("model")}


def scores_table(table: pd.DataFrame) -> list[str]:
    """A row a model and point of reference, best centred first: each score with its interval, calibrated in front."""
    found = summaries(table)
    centred = pd.Series({name: summary.loc["pearson_centred", "mean"] for name, summary in found.items()})
    order = centred.sort_values(ascending=False, kind="stable", na_position="last").index
    lines = ["| model | calibrated | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for model in order:
        summary = found[model]
        worth = summary.get("calibrated", pd.Series(dtype=float)).get("pearson_centred", float("nan"))
        cells = [interval(summary.loc[name]) if name in summary.index else "" for name in COLUMNS]
        cells = ["" if cell.startswith("nan") else cell for cell in cells]
        name = f"*{model}*" if model in POINTS else model
        lines.append(f"| {name} | {'' if pd.isna(worth) else f'{worth:.2f}'} | " + " | ".join(cells) + " |")
    return lines


def gaps(table: pd.DataFrame, ours: str, others: list[str]) -> list[str]:
    """Paired differences of one model to some others, a line each, of the scores that both have."""
    of, lines = means(table), []
    for other in others:
        if other in of:
            both = [
                name for name in RATIO if (of[ours][RATIO[name]] - of[other][RATIO[name]]).notna().all(axis=1).any()
            ]
            told = [f"{COLUMNS[name]} {gap(of[ours], of[other], name)}" for name in both]
            lines.append(f"- {ours} − {other}: " + "; ".join(told))
    return lines


def best_plain(table: pd.DataFrame, score: str) -> str:
    found = summaries(table)
    values = pd.Series({name: found[name].loc[score, "mean"] for name in PLAIN if name in found})
    return str(values.idxmin() if score == "mse_ratio" else values.idxmax())


def norman(table: pd.DataFrame) -> list[str]:
    """One condition left out, and with it all that share a gene with it; doubles of which both singles are there."""
    names = sorted(set(table["condition"]))
    doubles = [name for name in names if "+" in name and set(name.split("+")) <= set(names)]
    lines = []
    for sharing, title in ((False, "One condition left out."), (True, "All that share a gene with it left out too.")):
        part = table[table["sharing"] == sharing]
        others = ["composition_ridge", best_plain(part, "pearson_centred"), "mean", "kg, no graph", "kg, rewired"]
        lines += [f"**{title}**", "", *scores_table(part), "", *gaps(part, "kg", list(dict.fromkeys(others))), ""]
    part = table[~table["sharing"] & table["condition"].isin(doubles)]
    part = part[part["model"].isin(["kg", "additive", "composition_ridge", "mean", "replicate", "training mean"])]
    lines += [f"**The {len(doubles)} doubles of which both singles were seen.**", "", *scores_table(part), ""]
    rewired = table[table["model"] == "kg, rewired"].groupby(["sharing", "seed"])["pearson_centred"].mean()
    lines.append(
        f"Spread of the centred score over the five rewired graphs: {spread(rewired[False])}; {spread(rewired[True])}. "
        "The model itself has no randomness. In brackets 95 % bootstrap intervals over conditions; differences are "
        "paired by condition."
    )
    return lines


def dream4(table: pd.DataFrame) -> list[str]:
    """One cell a knock-out: no replicate, no unbiased error; the squared error is that of the mean of training."""
    models = list(table["model"].unique())
    lines = ["| model | network | Pearson-delta | centred | squared error of the mean's |", "|---" * 5 + "|"]
    for model in models:
        for network, part in table.groupby("network"):
            by = part.groupby(["model", "seed"])[["pearson_delta", "pearson_centred", "mse"]].mean()
            base = by.loc["mean", "mse"].mean()
            own = by.loc[model]
            cells = [spread(own["pearson_delta"]), spread(own["pearson_centred"]), spread(own["mse"] / base)]
            lines.append(f"| {model} | {network} | " + " | ".join(cells) + " |")
    lines.append("")
    for network, part in table.groupby("network"):
        of = means(part)
        told = [
            f"{COLUMNS[s]} {gap(of['kg'], of['composition_ridge'], s)}" for s in ("pearson_delta", "pearson_centred")
        ]
        lines.append(f"- network {network}: kg − composition_ridge: " + "; ".join(told))
    return lines


def simulated(table: pd.DataFrame, column: str) -> list[str]:
    lines = [f"| {column} | share of the explainable variance | centred | Pearson-delta |", "|---|---|---|---|"]
    for name, part in table.groupby(column, sort=False):
        cells = [spread(part[score]) for score in ("share", "pearson_centred", "pearson_delta")]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def peers(table: pd.DataFrame) -> list[str]:
    by_seed = table.groupby(["model", "seed"])["pearson_centred"].mean().groupby("model").std(ddof=1)
    told = ", ".join(f"{name} {value:.3f}" for name, value in by_seed.items() if name not in POINTS)
    best = best_plain(table, "pearson_centred")
    models = [name for name in table["model"].unique() if name not in (*POINTS, *PLAIN)]
    differences = [line for name in models for line in gaps(table, name, [best])]
    return [*scores_table(table), "", f"Standard deviation of the centred score over seeds: {told}.", "", *differences]


def machine(folder: Path, name: str) -> str:
    about = json.loads((folder / f"{name}.json").read_text())
    run = f"{about['seconds']} s in {about['processes']} processes"
    if "models" in about:
        run += f" for {'; '.join(about['models'])} (the other rows were made before)"
    return f"{about['cpu']}, {about['cores']} cores; {about['versions']}; {run}."


def write(folder: Path) -> None:
    """Write docs/results.md from whatever figures are there, and the table between the marks of the README."""
    tables = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
    text = (Path(__file__).parent / "results_template.md").read_text()
    parts: dict[str, list[str]] = {}
    if "norman" in tables:
        parts["norman"] = norman(tables["norman"])
    if "dream4" in tables:
        parts["dream4"] = dream4(tables["dream4"])
    for name, column in (("simulated", "graph"), ("lines", "model")):
        if name in tables:
            parts[name] = simulated(tables[name], column)
    if "peers" in tables:
        parts["peers"] = peers(pd.concat([tables[name] for name in ("peers", "cell-gears") if name in tables]))
    for name, lines in parts.items():
        text = text.replace(f"{{{name}}}", "\n".join(lines) + "\n\n" + machine(folder, name))
    for number in ("split_half", "ceiling"):
        about = json.loads((folder / "norman.json").read_text()) if "norman" in tables else {}
        text = text.replace(f"{{{number}}}", f"{about[number]:.3f}" if number in about else "…")
    for name in ("norman", "dream4", "simulated", "lines", "peers"):
        text = text.replace(f"{{{name}}}", "Not measured yet.")
    DOCS.write_text(text)
    if set(parts) >= {"norman", "dream4", "simulated", "lines"}:
        page = README.read_text()
        before, after = page.split(START)[0], page.split(END)[1]
        README.write_text(before + START + "\n" + "\n".join(readme_table(tables)) + "\n" + END + after)


def readme_table(tables: dict[str, pd.DataFrame]) -> list[str]:
    lines = ["| task | score | kg | same model, scrambled graph | best plain baseline | mean | replicate |"]
    lines.append("|---" * 7 + "|")
    for sharing, title in ((False, "Norman, one left out"), (True, "all that share a gene left out too")):
        part = tables["norman"][tables["norman"]["sharing"] == sharing]
        found = summaries(part)
        for score, words in COLUMNS.items():
            best = best_plain(part, score)
            names = ("kg", "kg, rewired", best, "mean", "replicate")
            cells = [interval(found[name].loc[score]) for name in names]
            cells[2] += f", {best}"
            cells[3:] = [cell.split(" (")[0] for cell in cells[3:]]
            lines.append(f"| {title} | {words} | " + " | ".join(cells) + " |")
    for network, part in tables["dream4"].groupby("network"):
        by = part.groupby(["model", "seed"])["pearson_delta"].mean()
        cells = [spread(by[name]) for name in ("kg", "kg, rewired", "composition_ridge", "mean")]
        cells[2] += ", composition_ridge"
        lines.append(f"| DREAM4 network {network}, unseen knock-outs | Pearson-delta | " + " | ".join(cells) + " | |")
    by = tables["simulated"].set_index("graph")
    cells = [spread(by.loc[name, "share"]) for name in ("0% random", "rewired", "composition_ridge", "mean")]
    cells[2] += ", composition_ridge"
    lines.append("| simulated, unseen knock-outs | share of variance | " + " | ".join(cells) + " | |")
    by = tables["lines"].set_index("model")
    best = by.loc[["other_lines", "template_same"], "share"].groupby(level=0).mean().idxmax()
    cells = [spread(by.loc[name, "share"]) for name in ("kg", best)]
    lines.append(f"| simulated, unseen cell line | share of variance | {cells[0]} | | {cells[1]}, {best} | | |")
    return lines


if __name__ == "__main__":
    write(Path("benchmarks/results/perturbation"))
