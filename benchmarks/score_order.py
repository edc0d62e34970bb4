"""Which scores put models of known quality in the right order, with few and with many control cells.

    python -m benchmarks.score_order

Simulated screens of which everything is known: control level + a change that all perturbations share + a change of
their own, and cells around it. Three models take q = 0.8, 0.6, 0.4 of a perturbation's own change and 1 − q of
another's; the fourth is the mean of training, the fifth no change: with endless cells their order by any error. Two
take the shared change from the
truth (`0.8`, `0.4`: their changes hold no noise of the control cells), two from the measured training perturbations
(`0.6`, `mean`: their changes against the measured control mean hold all of it). For every score: the share of the ten
pairs of models that its mean over the test conditions puts in the right order (a tie is half right), and how often all
five stand right. `pearson_delta, fitted on halves` is `kgnn.metrics.crossed_scores`.
"""

import argparse
import json
import time
import warnings
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from anndata import AnnData

from benchmarks.machine import describe
from kgnn.data import read_screen
from kgnn.evaluation.metrics.table import larger_is_better
from kgnn.metrics import crossed_scores, evaluate, summarize
from kgnn.plotting.style import DARK, PREDICTED, TARGET, open_frame

CONTROLS, FEW, MANY = (20, 50, 200, 1000), 20, 1000
GENES, CONDITIONS, TEST, CELLS = 200, 30, 12, 40
EXACT = "pearson_delta, fitted on halves"


class Screen:
    """A screen and what is true of it; genes are perturbed that are not measured."""

    def __init__(self, n_controls: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        names = [f"P{number:02d}" for number in range(CONDITIONS)]
        level, self.shared = rng.uniform(4, 7, GENES), rng.normal(0, 0.15, GENES)
        own = rng.normal(0, 0.4, (CONDITIONS, GENES)) * (rng.random((CONDITIONS, GENES)) < 0.15)
        self.own = dict(zip(names, own, strict=True))
        self.confused = dict(zip(names, np.roll(names, 1), strict=True))  # which other one a model takes it for
        cells = [level + rng.normal(0, 1, (n_controls, GENES))]
        cells += [level + self.shared + self.own[name] + rng.normal(0, 1, (CELLS, GENES)) for name in names]
        labels = np.repeat(["control", *names], [n_controls] + [CELLS] * CONDITIONS)
        obs = pd.DataFrame({"condition": labels}, index=[str(row) for row in range(len(labels))])
        self.adata = AnnData(np.concatenate(cells).astype(np.float32), obs=obs)
        self.adata.var_names = [f"G{number:03d}" for number in range(GENES)]
        self.split = {"train": names[TEST:], "val": [], "test": names[:TEST]}


class Model:
    """Takes q of a perturbation's own change and 1 − q of another's; 0: of none; None: no change at all."""

    def __init__(self, screen: Screen, q: float | None, measured: bool) -> None:
        self.screen, self.q, self.measured = screen, q, measured

    def fit(self, adata: AnnData, split: dict) -> "Model":
        read = read_screen(adata)
        self.control = read.control_mean
        self.shared = read.changes(split["train"]).mean().to_numpy() if self.measured else self.screen.shared
        return self

    def predict(self, conditions: list[str]) -> AnnData:
        delta = [self.change(name) for name in conditions]
        prediction = AnnData(self.control + np.array(delta), obs=pd.DataFrame({"condition": list(conditions)}))
        prediction.var_names, prediction.layers["delta"] = self.screen.adata.var_names, np.array(delta)
        return prediction

    def change(self, name: str) -> np.ndarray:
        if self.q is None:
            return 0 * self.shared
        own, other = self.screen.own[name], self.screen.own[self.screen.confused[name]]
        return self.shared + (self.q * own + (1 - self.q) * other if self.q else 0)


MODELS = {"0.8": (0.8, False), "0.6": (0.6, True), "0.4": (0.4, False), "mean": (0.0, True), "no change": (None, False)}


def scores_of(screen: Screen) -> pd.DataFrame:
    """Mean over the test conditions of every score, [scores, models in the right order]."""
    table = {}
    for name, (q, measured) in MODELS.items():
        fitted = Model(screen, q, measured).fit(screen.adata, screen.split)
        scores = evaluate(fitted.predict(screen.split["test"]), screen.adata, screen.split)
        means = summarize(scores, n_resamples=1)["mean"]
        exact = crossed_scores(lambda q=q, m=measured: Model(screen, q, m), screen.adata, screen.split)
        table[name] = pd.concat([means, pd.Series({EXACT: exact["pearson_delta"].mean()})])
    return pd.DataFrame(table)


def right(values: pd.Series) -> tuple[float, bool]:
    """Share of pairs in the right order, and whether all are."""
    sign = 1 if larger_is_better(str(values.name)) else -1
    gaps = [sign * (values.iloc[a] - values.iloc[b]) for a, b in combinations(range(len(values)), 2)]
    pairs = [0.5 if abs(gap) < 1e-9 or np.isnan(gap) else float(gap > 0) for gap in gaps]
    return float(np.mean(pairs)), all(pair == 1 for pair in pairs)


def measure(repeats: int) -> pd.DataFrame:
    """A row a number of control cells, repeat and score."""
    rows = []
    for n_controls in CONTROLS:
        for repeat in range(repeats):
            for name, values in scores_of(Screen(n_controls, repeat)).iterrows():
                pairs, whole = right(values)
                rows.append({"controls": n_controls, "repeat": repeat, "score": name, "pairs": pairs, "all": whole})
                rows[-1] |= values.to_dict()
        print(f"{n_controls} control cells", flush=True)
    return pd.DataFrame(rows)


def page(table: pd.DataFrame, repeats: int, seconds: float) -> str:
    """The table of the results."""
    means = table.groupby(["score", "controls"])[["pairs", "all"]].mean().unstack("controls")
    means = means.sort_values([("pairs", FEW), ("pairs", MANY)], ascending=False)
    head = [f"pairs, {FEW} controls", f"all, {FEW}", f"pairs, {MANY} controls", f"all, {MANY}"]
    lines = ["# Do scores put models in the right order?", ""]
    lines += [
        f"`python -m benchmarks.score_order --repeats {repeats}` on {describe()}, {seconds:.0f} s. {repeats} screens"
    ]
    lines[-1] += f" for each number of control cells, {GENES} genes, {TEST} test conditions of {CELLS} cells."
    lines += ["", f"| score | {' | '.join(head)} |", "|---|" + "---|" * 4]
    for name, row in means.iterrows():
        cells = [row[kind, number] for number in (FEW, MANY) for kind in ("pairs", "all")]
        lines.append(f"| {name} | " + " | ".join(f"{value:.2f}" for value in cells) + " |")
    lines += [
        "",
        "Mean scores:",
        "",
        f"| score, control cells | {' | '.join(MODELS)} |",
        "|---|" + "---|" * len(MODELS),
    ]
    for score in ("pearson_delta", EXACT, "pearson_crossed", "pearson_centred", "pds_cosine", "mse_ratio"):
        for number in (FEW, MANY):
            part = table[(table["score"] == score) & (table["controls"] == number)][list(MODELS)].mean()
            lines.append(f"| {score}, {number} | " + " | ".join(f"{value:.3f}" for value in part) + " |")
    return "\n".join(lines) + "\n"


def draw(table: pd.DataFrame, file: Path) -> None:
    """Pearson-delta over the number of control cells, of a model and of the mean, and without the shared noise."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(10.5, 3.4), sharey=True, layout="constrained")
    kinds = {"pearson_delta": "Pearson-delta", EXACT: "crossed: fitted on halves", "pearson_centred": "centred"}
    colours = {"0.8": PREDICTED, "0.6": TARGET, "0.4": "#2f855a", "mean": DARK}
    for axes, (score, title) in zip(panels, kinds.items(), strict=True):
        means = table[table["score"] == score].groupby("controls")[list(MODELS)].mean()
        for model, colour in colours.items():
            label = "mean of training" if model == "mean" else f"knows {model}"
            axes.plot(means.index, means[model], "o-", color=colour, label=label, markersize=4)
        axes.set(xscale="log", xlabel="control cells", title=title)
        open_frame(axes)
    panels[0].set_ylabel("mean over test conditions")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    matplotlib.use("Agg")
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    table = measure(options.repeats)
    seconds = time.perf_counter() - start
    (options.out / "score_order.md").write_text(page(table, options.repeats, seconds))
    rates = table.groupby(["score", "controls"]).mean(numeric_only=True).drop(columns="repeat").round(4)
    record = {"machine": describe(), "repeats": options.repeats, "seconds": round(seconds)}
    record["rows"] = rates.reset_index().to_dict("records")
    (options.out / "score_order.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(table, options.out / "score_order.png")


if __name__ == "__main__":
    main()
