"""The command line: `kgnn benchmark | ablate`."""

from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from kgnn.cli.common import (
    ConditionKey,
    Control,
    EffectKind,
    GroupKey,
    Json,
    console,
    new_table,
    shared_folder,
    write_result,
)
from kgnn.files import new_file


def benchmark(
    config: Annotated[Path, typer.Argument(help="TOML file of data sets, splits and models.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", callback=shared_folder, help="Folder for predictions, scores, figures, the page."),
    ],
    processes: Annotated[int, typer.Option(help="Fits side by side.")] = 1,
    json: Json = None,
) -> None:
    """Compare models on data sets and splits; what is done is not done again."""
    from kgnn.evaluation.benchmark import run_benchmark
    from kgnn.evaluation.headline import HEADLINE
    from kgnn.evaluation.report import paired_table, summary_table
    from kgnn.plotting.report import write_report

    scores = run_benchmark(
        config, out, processes=processes, report=lambda text: console.print(f"· {text}", style="dim"), page=write_report
    )
    summary, paired = summary_table(scores), paired_table(scores)
    for (dataset, split), part in summary.groupby(["dataset", "split"], sort=False):
        columns = {name: words for name, words in {**HEADLINE, "pearson_crossed": "Δ crossed"}.items() if name in part}
        first, *others = columns.values()
        table = new_table(f"{dataset}, {split}", ["model", first, "95 % interval", *others])
        for row in part.sort_values("pearson_centred", ascending=False).to_dict("records"):
            centred, *further = ("" if pd.isna(row[name]) else f"{row[name] + 0:.3f}" for name in columns)
            interval = f"{row['pearson_centred_low']:.3f} – {row['pearson_centred_high']:.3f}" if centred else ""
            table.add_row(str(row["model"]), centred, interval, *further)
        console.print(table)
        for row in part[part["verdict"] != ""].to_dict("records"):
            console.print(f"{row['model']}: {row['verdict']}")
    console.print(f"{out}/report.html holds everything on one page")
    failures = scores.attrs["failures"]
    tables = {"summary": summary.to_dict("records"), "paired": paired.to_dict("records")}
    write_result(json, tables | {"failures": failures})
    if failures:
        raise typer.Exit(1)


def ablate(
    data: Annotated[Path, typer.Argument(help="Perturbation screen, H5AD, log-normalised; or a table of effects.")],
    graph: Annotated[Path, typer.Option(help="Folder of a saved graph.")],
    out: Annotated[Path, typer.Option("--out", "-o", callback=shared_folder, help="Folder for scores and figure.")],
    model: Annotated[str, typer.Option(help="Encoder: kg, gears, txpert, …")] = "kg",
    split: Annotated[str, typer.Option(help="Kind of split, or a split's JSON file.")] = "simulation",
    controls: Annotated[
        str | None,
        typer.Option(
            help="Of true,rewired,permuted,features,noise,none,complete,without,only,shapley,random,removed; default: "
            "all that fit."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 5,
    processes: Annotated[int, typer.Option(help="Fits side by side.")] = 1,
    condition_key: ConditionKey = "condition",
    control: Control = None,
    group_key: GroupKey = None,
    effects: EffectKind = "change",
    json: Json = None,
) -> None:
    """Ask whether the graph helped: the same model on scrambled, empty, complete and partial graphs."""
    from kgnn import plotting
    from kgnn.data import load_split
    from kgnn.data import split as make_split
    from kgnn.data.effects import read_data
    from kgnn.evaluation.controls import KINDS, MAX_SOURCES, shapley, summarize_ablation
    from kgnn.evaluation.controls import ablate as run
    from kgnn.graph import KnowledgeGraph

    names: dict[str, Any] = {"condition_key": condition_key, "control": control or None}
    adata, kg = read_data(data, effects, **names), KnowledgeGraph.load(graph)  # type: ignore[arg-type]
    parts = load_split(split) if split.endswith(".json") else make_split(adata, split, **names)
    several = 1 < len(kg.origins) <= MAX_SOURCES
    kinds = controls.split(",") if controls else [*KINDS, *(["shapley"] if several else [])]
    scores = run(
        kg,
        adata,
        parts,
        model=model,
        kinds=kinds,
        seeds=range(seeds),
        processes=processes,
        options=names | {"group_key": group_key},
    )
    summary = summarize_ablation(scores)
    sources = shapley(scores, kg.origins) if "shapley" in kinds else None
    out.mkdir(parents=True, exist_ok=True)
    tables: dict[str, pd.DataFrame] = {"scores": scores.set_index("variant"), "summary": summary}
    if sources is not None:
        tables["sources"] = sources
    for name, frame in tables.items():
        with new_file(out / f"{name}.csv") as file:
            frame.to_csv(file)
    with new_file(out / "ablation.png") as file:
        plotting.ablation(summary, sources).savefig(file, dpi=150, format="png")
    table = new_table(
        f"{model}, {len(parts['test'])} test conditions", ["graph", "Pearson Δ, centred", "95 % interval", "± seeds"]
    )
    for name, row in summary.iterrows():
        if not str(name).startswith("sources "):
            interval = f"{row['low']:.3f} – {row['high']:.3f}"
            table.add_row(str(name), f"{row['mean']:.3f}", interval, f"{row['seed_sd']:.3f}")
    console.print(table)
    if sources is not None:
        for name, row in sources.iterrows():
            console.print(f"{name} contributes {row['mean']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})")
    result = {"summary": summary.to_dict("index"), "sources": None if sources is None else sources.to_dict("index")}
    write_result(json, result)
