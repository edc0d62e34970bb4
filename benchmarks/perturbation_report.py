"""docs/results.md, and the README's table, from the figures that benchmarks.perturbation wrote."""

import json
from pathlib import Path

import pandas as pd

from kgnn.metrics import summarize

DOCS, README = Path("docs/results.md"), Path("README.md")
START, END = "<!-- results -->", "<!-- end of results -->"


def interval(by_condition: pd.Series) -> str:
    row = summarize(by_condition.to_frame("score")).loc["score"]
    return f"{row['mean']:.3f} ({row['low']:.3f}–{row['high']:.3f})"


def gap(ours: pd.Series, other: pd.Series) -> str:
    row = summarize((ours - other).to_frame("gap")).loc["gap"]
    return f"{row['mean']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def spread(values: pd.Series) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1):.3f}" if len(values) > 1 else f"{values.mean():.3f}"


def norman(table: pd.DataFrame) -> tuple[list[str], dict[str, str]]:
    """One condition left out: mean over conditions, interval, difference to composition ridge; rewired: five graphs."""
    names = sorted(set(table["condition"]))
    doubles = [name for name in names if "+" in name and set(name.split("+")) <= set(names)]
    columns, lines = {}, []
    for sharing, title in ((False, "one condition left out"), (True, "and all that share a gene with it")):
        part = table[table["sharing"] == sharing]
        columns[title] = part.groupby(["model", "condition"])["pearson_delta"].mean()
    part = table[~table["sharing"] & table["condition"].isin(doubles)]
    columns[f"the {len(doubles)} doubles with both singles"] = part.groupby(["model", "condition"])[
        "pearson_delta"
    ].mean()
    lines.append("| model | " + " | ".join(columns) + " | less composition ridge, first column |")
    lines.append("|---" * (len(columns) + 2) + "|")
    first = next(iter(columns.values()))
    for model in table["model"].unique():
        cells = [interval(values[model]) if model in values else "" for values in columns.values()]
        difference = gap(first[model], first["composition_ridge"]) if model != "composition_ridge" else ""
        lines.append(f"| {model} | " + " | ".join(cells) + f" | {difference} |")
    rewired = table[table["model"] == "kg, rewired"].groupby(["sharing", "seed"])["pearson_delta"].mean()
    lines += [
        "",
        f"Spread over the five rewired graphs: {spread(rewired[False])}; {spread(rewired[True])}. The model itself ",
    ]
    lines[-1] += "has no randomness. In brackets 95 % bootstrap intervals over conditions; differences are paired."
    second = list(columns.values())[1]
    for title, values in (("one left out", first), ("sharing left out too", second)):
        for other in ("kg, no graph", "kg, rewired", "mean"):
            lines.append(f"- {title}: kg − {other}: {gap(values['kg'], values[other])}")
    return lines, {name: interval(values["kg"]) for name, values in columns.items()}


def dream4(table: pd.DataFrame) -> list[str]:
    lines = ["| network | " + " | ".join(table["model"].unique()) + " | kg less ridge |"]
    lines.append("|---" * (table["model"].nunique() + 2) + "|")
    for network, part in table.groupby("network"):
        by_seed = part.groupby(["model", "seed"])["pearson_delta"].mean()
        by_condition = part.groupby(["model", "condition"])["pearson_delta"].mean()
        cells = [spread(by_seed[model]) for model in table["model"].unique()]
        difference = gap(by_condition["kg"], by_condition["composition_ridge"])
        lines.append(f"| {network} | " + " | ".join(cells) + f" | {difference} |")
    return lines


def simulated(table: pd.DataFrame, column: str) -> list[str]:
    lines = [f"| {column} | share of the explainable variance | Pearson-delta |", "|---|---|---|"]
    for name, part in table.groupby(column, sort=False):
        lines.append(f"| {name} | {spread(part['share'])} | {spread(part['pearson'])} |")
    return lines


def peers(table: pd.DataFrame) -> list[str]:
    means = table.groupby(["model", "condition"])[["pearson_delta", "mse", "discrimination"]].mean()
    lines = [
        "| model | Pearson-delta | ± over seeds | MSE | discrimination | less composition ridge |",
        "|---" * 6 + "|",
    ]
    order = means["pearson_delta"].groupby("model").mean().sort_values(ascending=False).index
    for model in order:
        values, by_seed = means.loc[model], table[table["model"] == model].groupby("seed")["pearson_delta"].mean()
        ridge = means.loc["composition_ridge", "pearson_delta"]
        difference = gap(values["pearson_delta"], ridge) if model != "composition_ridge" else ""
        lines.append(
            f"| {model} | {interval(values['pearson_delta'])} | {by_seed.std(ddof=1):.3f} | {values['mse'].mean():.4f} "
            f"| {values['discrimination'].mean():.3f} | {difference} |"
        )
    return lines


def machine(folder: Path, name: str) -> str:
    about = json.loads((folder / f"{name}.json").read_text())
    run = f"{about['seconds']} s in {about['processes']} processes"
    return f"{about['cpu']}, {about['cores']} cores; {about['versions']}; {run}."


def write(folder: Path) -> None:
    """Write docs/results.md from whatever figures are there, and the table between the marks of the README."""
    tables = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
    text = (Path(__file__).parent / "results_template.md").read_text()
    summary: dict[str, str] = {}
    parts: dict[str, list[str]] = {}
    if "norman" in tables:
        parts["norman"], summary = norman(tables["norman"])
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
        README.write_text(before + START + "\n" + "\n".join(readme_table(tables, summary)) + "\n" + END + after)


def readme_table(tables: dict[str, pd.DataFrame], summary: dict[str, str]) -> list[str]:
    norman_means = tables["norman"].groupby(["sharing", "model", "condition"])["pearson_delta"].mean()
    lines = ["| task | kg | same model, scrambled graph | best plain baseline |", "|---|---|---|---|"]
    baselines = ["no_change", "mean", "additive", "linear", "composition_ridge"]
    for sharing, title in (
        (False, "Norman, one condition left out"),
        (True, "the same, all that share a gene left out too"),
    ):
        means = norman_means[sharing]
        best = max(baselines, key=lambda name: means[name].mean())
        cells = [interval(means[name]) for name in ("kg", "kg, rewired", best)]
        lines.append(f"| {title} | {cells[0]} | {cells[1]} | {cells[2]}, {best} |")
    for network, part in tables["dream4"].groupby("network"):
        by = part.groupby(["model", "seed"])["pearson_delta"].mean()
        cells = [spread(by[name]) for name in ("kg", "kg, rewired", "composition_ridge")]
        lines.append(
            f"| DREAM4 network {network}, unseen knock-outs | " + " | ".join(cells[:2]) + f" | {cells[2]}, ridge |"
        )
    by = tables["simulated"].set_index("graph")
    cells = [spread(by.loc[name, "share"]) for name in ("0% random", "rewired", "composition_ridge")]
    lines.append(
        "| simulated, unseen knock-outs, share of variance | " + " | ".join(cells[:2]) + f" | {cells[2]}, ridge |"
    )
    by = tables["lines"].set_index("model")
    shift = "mean shift of the other lines"
    cells = [spread(by.loc[name, "share"]) for name in ("kg", shift)]
    lines.append(f"| simulated, unseen cell line, share of variance | {cells[0]} | | {cells[1]}, {shift} |")
    return lines


if __name__ == "__main__":
    write(Path("benchmarks/results/perturbation"))
