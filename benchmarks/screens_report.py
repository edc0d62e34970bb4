"""Write the tables of docs/screens.md and of the README from the figures of `upranks`, `node_types`, `vectors`,
`perturbqa`, `yeast`, `coverage` and `model_scale`.

python -m benchmarks.screens_report
"""

import re
from pathlib import Path

import pandas as pd

RESULTS = Path("benchmarks/results")
BASELINES = ["set_kernel_ridge", "knn", "embedding_ridge"]
TASKS = [("k562", "de"), ("k562", "dir"), ("hepg2", "de"), ("hepg2", "dir")]
SCREENS = {"k562": "K562, 468 knock-downs", "rpe1": "RPE1, 364 knock-downs"}


def table(rows: list[list[str]], header: list[str]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def told(scores: pd.Series, at: tuple) -> str:
    """A score, nothing where it was not run."""
    return str(scores[at]) if at in scores.index else ""


def ranks(summary: pd.DataFrame, screen: str) -> str:
    """A row a model of one screen."""
    columns = [(kind, score) for kind in ("random", "clusters") for score in ("plain", "centred", "MSE ratio")]
    of = summary[summary["screen"] == screen].set_index(["model", "folds"])
    rows = [[model, *(told(of[score], (model, kind)) for kind, score in columns)] for model in of.index.unique(0)]
    header = ["model", "random folds, plain", "centred", "MSE ratio", "cluster folds, plain", "centred", "MSE ratio"]
    return table(rows, header)


def short(summary: pd.DataFrame) -> str:
    """The README's table: the default model, its controls, the best baseline, centred."""
    centred = summary.set_index(["screen", "folds", "model"])["centred"].sort_index()
    rows = []
    for screen, name in SCREENS.items():
        for kind, told in (("random", "random folds"), ("clusters", "clusters of similar ones left out")):
            at = centred.loc[screen, kind]
            best = max(BASELINES, key=lambda model: float(at[model].split()[0]))
            controls = [at[f"kg, {control}"].split()[0] for control in ("nodes permuted", "rewired")]
            rows.append([f"{name}, {told}", at["kg"], *controls, f"{at[best]}, {best}"])
    return table(rows, ["screen", "kg", "names of the graph's nodes permuted", "rewired", "best baseline"])


def contributions(summary: pd.DataFrame) -> str:
    """A row a graph: its difference to the whole graph on each screen and folds; the whole graph's own score first."""
    score = summary["difference"].fillna(summary["centred"])
    score = score.set_axis(pd.MultiIndex.from_frame(summary[["graph", "screen", "folds"]]))
    columns = [tuple(task) for task in summary[["screen", "folds"]].drop_duplicates().to_numpy()]
    graphs = summary.drop_duplicates("graph").set_index("graph")
    rows = [
        [name, f"{row['edges']:,}", f"{row['linked']:.0%}", *(told(score, (name, *column)) for column in columns)]
        for name, row in graphs.iterrows()
    ]
    folds = [f"{screen.upper()}, {kind}" for screen, kind in columns]
    return table(rows, ["graph", "edges", "linked", *folds])


def answers(summary: pd.DataFrame) -> str:
    """A row a model, the AUC of each line and task."""
    at = summary.set_index(["model", "line", "task"])
    numbers = zip(at["auc"], at["low"], at["high"], strict=True)
    auc = pd.Series([f"{auc:.3f} ({low:.3f}–{high:.3f})" for auc, low, high in numbers], at.index)
    rows = []
    for model in summary["model"].unique():
        rows.append([model, *(told(auc, (model, *task)) for task in TASKS)])
    known = ["published best; plain kernel, smoothed over genes"]
    rows.append(known + [at.loc[("kg", *task), "published"] for task in TASKS])
    return table(rows, ["model", "K562, DE", "K562, DIR", "HepG2, DE", "HepG2, DIR"])


def fill(page: Path, parts: dict[str, str]) -> None:
    """Put each part between `<!-- name -->` and `<!-- end of name -->`."""
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        marks = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        if marks[0] not in text:
            raise SystemExit(f"{page}: no mark {marks[0].strip()}")
        text = re.sub(f"{marks[0]}.*?{marks[1]}", lambda _, p=part, m=marks: f"{m[0]}{p}{m[1]}", text, flags=re.S)
    page.write_text(text, encoding="utf-8")


def main() -> None:
    summary = pd.read_csv(RESULTS / "upranks" / "summary.csv", keep_default_na=False)
    size = pd.read_csv(RESULTS / "model_scale.csv", dtype=str)
    yeast = pd.read_csv(RESULTS / "yeast" / "summary.csv", dtype=str, keep_default_na=False)
    parts = {f"up-ranks {screen}": ranks(summary, screen) for screen in SCREENS}
    parts["node types"] = contributions(pd.read_csv(RESULTS / "node_types.csv"))
    vectors = pd.read_csv(RESULTS / "vectors.csv", dtype=str, keep_default_na=False)
    parts["vectors"] = table(vectors.to_numpy().tolist(), list(vectors))
    parts["perturbqa"] = answers(pd.read_csv(RESULTS / "perturbqa" / "summary.csv"))
    coverage = pd.read_csv(RESULTS / "coverage.csv", dtype=str)
    parts |= {"yeast": table(yeast.to_numpy().tolist(), list(yeast))}
    parts |= {"coverage": table(coverage.to_numpy().tolist(), list(coverage))}
    parts["size"] = table(size.to_numpy().tolist(), list(size))
    fill(Path("docs/screens.md"), parts)
    fill(Path("README.md"), {"screens": short(summary)})


if __name__ == "__main__":
    main()
