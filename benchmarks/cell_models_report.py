"""docs/cells.md, and the README's table of cell models, from what benchmarks.cell_models and .cell_speed wrote.

python -m benchmarks.cell_models_report
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.perturbation_report import gap, spread

DOCS, README = Path("docs/cells.md"), Path("README.md")
START, END = "<!-- cell models -->", "<!-- end of cell models -->"


def table(rows: pd.DataFrame, first: str) -> list[str]:
    head = [f"| {first} | " + " | ".join(map(str, rows.columns)) + " |", "|---" * (len(rows.columns) + 1) + "|"]
    return head + [
        f"| {name} | " + " | ".join(map(str, row)) + " |" for name, row in zip(rows.index, rows.values, strict=True)
    ]


def pivot(rows: pd.DataFrame, index: str, columns: str, value: str = "value") -> pd.DataFrame:
    """Mean ± spread over seeds."""
    by_seed = rows.groupby([index, columns, "seed"], sort=False)[value].mean()
    return by_seed.groupby([index, columns], sort=False).agg(spread).unstack(columns).fillna("")


def cells(rows: pd.DataFrame) -> list[str]:
    found = pivot(rows, "model", "score")
    plain = rows[rows["model"] == "plain"]
    smoothing = plain[plain["score"].str.endswith("nearest")].groupby("score")["value"].mean()
    named = {"macro_f1": "macro-F1", "shape": "shape", "denoise": "held-out counts", "masked": "masked values"}
    models = found.drop(index="plain")[list(named)].rename(columns=named)
    names = ["logistic regression", f"kNN smoothing ({smoothing.idxmin()[9:]})", "scVI", "principal components"]
    extra = pd.DataFrame("", index=names, columns=models.columns)
    extra.iloc[0, 0] = found.loc["plain", "macro_f1"]
    extra.iloc[1, 2] = found.loc["plain", smoothing.idxmin()]
    if "denoise, scVI" in found:
        extra.iloc[2, 2] = found.loc["plain", "denoise, scVI"]
    extra.iloc[3, 3] = found.loc["plain", "masked"]
    by_fold = rows.set_index(["score", "model", "seed"])["value"]
    ours = {score: by_fold[score]["transformer"] for score in ("macro_f1", "denoise", "shape", "masked")}
    flat = "transformer, flat labels"
    return [
        *table(pd.concat([models, extra]), "model"),
        "",
        "Paired over the folds, transformer less the other: "
        f"macro-F1 less logistic regression {spread(ours['macro_f1'] - by_fold['macro_f1']['plain'])}, "
        f"with flat labels {spread(by_fold['macro_f1'][flat] - by_fold['macro_f1']['plain'])}; "
        f"held-out counts less kNN smoothing {spread(ours['denoise'] - by_fold[smoothing.idxmin()]['plain'])}; "
        f"shape less flat labels {spread(ours['shape'] - by_fold['shape'][flat])}; "
        f"masked values less principal components {spread(ours['masked'] - by_fold['masked']['plain'])}.",
    ]


def truth(rows: pd.DataFrame) -> list[str]:
    by_seed = rows.set_index(["model", "seed"])["value"]
    lines = ["| model | masked values | less its rewired graph | less principal components |", "|---|---|---|---|"]
    for name in rows["model"].unique():
        own, control = by_seed[name], f"{name}, rewired"
        scrambled = spread(own - by_seed[control]) if control in by_seed else ""
        start = "" if name == "components" else spread(own - by_seed["components"])
        lines.append(f"| {name} | {spread(own)} | {scrambled} | {start} |")
    return lines


def shape(rows: pd.DataFrame) -> list[str]:
    rows = rows.assign(losses=np.where(rows["ontology"], "with the ontology's losses", "without"))
    return table(pivot(rows, "encoder", "losses"), "encoder")


def left_out(rows: pd.DataFrame) -> list[str]:
    rows = rows.assign(case=rows["where"] + ", " + rows["encoder"] + ", threshold " + rows["threshold"].astype(str))
    lines = table(pivot(rows, "case", "score"), "data")
    pbmc = rows[(rows["where"] == "pbmc") & (rows["threshold"] == 0.9) & (rows["encoder"] == "transformer")]
    each = pbmc.pivot_table(index="type", columns="score", values="value").round(2)
    return [*lines, "", "Each type of the PBMCs, transformer, threshold 0.9:", "", *table(each, "type")]


def perturbation(rows: pd.DataFrame) -> list[str]:
    """Every seed of a simulated screen has conditions of its own; those of Norman et al. are the same in each."""
    lines = ["| screen | gene vectors | Pearson-delta | less none |", "|---|---|---|---|"]
    for screen, part in rows.groupby("screen", sort=False):
        by_seed = part.groupby(["features", "seed"])["value"].mean()
        key = part["condition"] if screen == "Norman" else part["condition"] + part["seed"].astype(str)
        means = part.groupby(["features", key])["value"].mean().unstack("features")
        of_none = means[["none"]].set_axis(["value"], axis=1)
        for name in ("none", "vectors", "shuffled", "loadings"):
            if name in means:
                less = "" if name == "none" else gap(means[[name]].set_axis(["value"], axis=1), of_none, "value")
                lines.append(f"| {screen} | {name} | {spread(by_seed[name])} | {less} |")
    return lines


def speed(result: dict) -> list[str]:
    steps = pd.DataFrame(result["steps"])
    seconds = steps.pivot(index="genes", columns="encoder", values="seconds")
    memory = steps.pivot(index="genes", columns="encoder", values="memory_mb")
    mix = steps.pivot(index="genes", columns="encoder", values="mix_seconds")
    both = seconds.map("{:.3f} s, ".format) + memory.map("{:.0f} MB".format)
    order = ["transformer", "graph_transformer", "graph", "alternating"]
    lines = [
        "Forward and backward of the encoders, 4 cells, 20 edges a gene, equal parameters; memory that a step adds:"
    ]
    lines += ["", *table(both[order], "genes")]
    for genes in (5000, 10_000):
        whole, alone = (
            part.loc[genes, "transformer"] / part.loc[genes, "graph_transformer"] for part in (seconds, mix)
        )
        lines += [
            "",
            f"At {genes:,} genes attention along edges is {alone:.1f} times as fast as full attention, and the whole "
            f"encoder, with the feed-forward parts that both have, {whole:.1f} times.",
        ]
    a, ours, bert = result["alignment"], result["tokens_ours"], result["tokens_bert"]
    size, (disk, memory_case) = result["atlas"], result["reading"]
    return [
        *lines,
        "",
        f"Relational alignment, 256 cells × {a['levels']} levels, forward and backward: {1000 * a['ours']:.1f} ms; the "
        f"literal loop over anchors, levels and positives {a['literal']:.2f} s, "
        f"{a['literal'] / a['ours']:.0f} times as long.",
        "",
        f"Masked training step, 2,000 genes, 8 cells, 4 layers of 256 channels ({ours['parameters']:,} parameters in "
        f"the layers): {ours['tokens']:,.0f} tokens a second; BERT of the same size from `transformers` "
        f"({bert['parameters']:,} parameters, attention `{bert['attention']}`): {bert['tokens']:,.0f}; "
        f"{ours['tokens'] / bert['tokens']:.2f} times as many.",
        "",
        f"Atlas of {size['cells']:,} cells × {size['genes']:,} genes, {disk['stored_mb']:.0f} MB as sparse values, "
        f"{size['steps']} steps of 64 cells × 256 genes, start included: from disk (H5AD, in shuffled blocks) "
        f"{disk['fit_seconds']:.0f} s and {disk['memory_mb']:.0f} MB, from memory {memory_case['fit_seconds']:.0f} s "
        f"and {memory_case['memory_mb']:.0f} MB, the data included.",
    ]


def readme_table(tables: dict[str, pd.DataFrame]) -> list[str]:
    by_model = tables["cells"].groupby(["score", "model"])["value"]
    cell, mean = by_model.agg(spread), by_model.mean()
    shape = tables["shape"].query("encoder == 'transformer'").groupby("ontology")["value"].agg(spread)
    truth = tables["truth"].groupby("model")["value"].agg(spread)
    out = tables["left_out"]
    out = out[(out["encoder"] == "transformer") & (out["score"] == "ancestor")]
    out = out.groupby(["where", "threshold", "seed"])["value"].mean().groupby(level=[0, 1]).agg(spread)
    net = tables["network"].assign(value=lambda rows: rows["auprc"] / rows["chance"])
    net = net.groupby(["where", "scores"])["value"].agg(spread)
    nearest = min((name for name in cell.index if name[0].endswith("nearest")), key=lambda name: mean[name])
    flat = "transformer, flat labels"
    rows = [
        (
            "PBMCs, labels of held-out cells, macro-F1",
            f"{cell['macro_f1', 'transformer']}; without the ontology {cell['macro_f1', flat]}",
            f"logistic regression {cell['macro_f1', 'plain']}",
        ),
        (
            "PBMCs, held-out counts, −log likelihood (less is better)",
            cell["denoise", "transformer"],
            f"kNN smoothing {cell[nearest]}, scVI {cell['denoise, scVI', 'plain']}",
        ),
        (
            "PBMCs, masked values, squared error",
            f"{cell['masked', 'transformer']}; along a graph {cell['masked', 'graph_transformer']}",
            f"principal components {cell['masked', 'plain']}; along a rewired graph "
            f"{cell['masked', 'graph_transformer, rewired']}",
        ),
        (
            "simulated atlas, masked values, true network as graph",
            truth["graph_transformer"],
            f"rewired {truth['graph_transformer, rewired']}, principal components {truth['components']}",
        ),
        (
            "types in the space as in the ontology, Spearman",
            f"PBMCs {cell['shape', 'transformer']}, atlas {shape[True]}",
            f"without its losses {cell['shape', flat]}, {shape[False]}",
        ),
        (
            "a type that training lacks, called by an ancestor's name (`validation=0.1`, threshold 0.9; 0.5)",
            f"PBMCs {out['pbmc', 0.9]}; {out['pbmc', 0.5]}; atlas {out['atlas', 0.9]}; {out['atlas', 0.5]}",
            "",
        ),
        (
            "gene network read from the model, AUPRC over chance",
            f"atlas {net['atlas', 'attribution']}, PBMCs {net['pbmc', 'attribution']}",
            f"correlation {net['atlas', 'correlation']}, {net['pbmc', 'correlation']}",
        ),
    ]
    return ["| task | kgnn | beside it |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]


def main(folder: Path = Path("benchmarks/results/cell_models")) -> None:
    tables = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
    text = (Path(__file__).parent / "cells_template.md").read_text()
    make = {
        "cells": cells,
        "truth": truth,
        "shape": shape,
        "left_out": left_out,
        "tokens": lambda rows: table(
            pivot(rows.assign(row=rows["encoder"] + ", " + rows["class"]), "row", "token"), "encoder and class"
        ),
        "network": lambda rows: table(
            pivot(rows.assign(value=rows["auprc"] / rows["chance"]), "scores", "where").add_suffix(", times chance"),
            "scores",
        ),
        "knowledge": lambda rows: table(pivot(rows, "knowledge", "cells"), "knowledge"),
        "perturbation": perturbation,
        "species": lambda rows: table(pivot(rows, "model", "trained on"), "model"),
    }
    for name, function in make.items():
        lines = ["Not measured yet."]
        if name in tables:
            about = json.loads((folder / f"{name}.json").read_text())
            end = f"{about['cpu']}, {about['cores']} cores; {about['seconds']} s in {about['processes']} processes."
            lines = [*function(tables[name]), "", end]
        text = text.replace(f"{{{name}}}", "\n".join(lines))
    file = folder / "speed.json"
    measured = ["Not measured yet."]
    if file.exists():
        result = json.loads(file.read_text())
        about = result["machine"]
        measured = [*speed(result), "", f"{about['cpu']}, {about['cores']} cores; {about['versions']}."]
    DOCS.write_text(text.replace("{speed}", "\n".join(measured)))
    page = README.read_text()
    before, after = page.split(START)[0], page.split(END)[1]
    README.write_text(before + START + "\n" + "\n".join(readme_table(tables)) + "\n" + END + after)


if __name__ == "__main__":
    main()
