"""The default model on every task, beside baselines and scrambled graphs: writes docs/results.md.

    python -m benchmarks.perturbation --data ../shared/data

Norman et al. 2019 (one condition left out, with and without those that share a gene), DREAM4 (unseen knock-outs, gold
standard and rewired networks), simulated screens (edges made random, an unseen cell line). Nothing is chosen on test
conditions: what the model learns it learns from left-out training conditions of the same fold.
"""

import argparse
import json
import os
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from benchmarks import tasks
from benchmarks.machine import describe

SEEDS = range(5)
PARTS = ("norman", "dream4", "simulated", "lines", "peers", "cell-gears")
WHOLE = {"": "true", ", rewired": "rewired"}
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
SCORES = ["pearson_centred", "pearson_delta"]
KEPT = ["model", "graph", "seed", "network", "sharing", "condition", "share", *SCORES]  # what the report reads
KEPT += ["pearson_crossed", "pds_cosine", "mse_unbiased", "size_unbiased", "mse"]
KNOWING = ("knn", "embedding_ridge", "set_kernel_ridge")


def prepare_norman(data: Path, work: Path) -> None:
    """What the folds share: five rewired graphs, and the graph's spectral embedding, which no fold changes."""
    from kgnn.models.baselines.vectors import graph_vectors

    kg = tasks.norman(data)[1]
    for seed in SEEDS:
        kg.rewire(seed).save(work / f"rewired-{seed}")
    table = graph_vectors(kg, 0)
    table.set_axis(table.columns.astype(str), axis=1).to_parquet(work / "vectors.parquet")


def norman_fold(data: Path, work: Path, held_out: str, sharing: bool) -> pd.DataFrame:
    """Every model, and what anyone could predict, on one left-out condition; scores of changes are of fits on halves of
    the control cells (of the rewired graphs, of which there are five, two). The kg model has no randomness."""
    import torch

    from kgnn.data.splits import condition_names
    from kgnn.errors import DataWarning
    from kgnn.metrics import crossed_scores, evaluate, reference_scores
    from kgnn.models import BASELINES, make_model

    torch.set_num_threads(1)
    adata, kg, rewired, vectors = tasks.norman_parts(data, work)
    fold = tasks.fold_without(held_out, condition_names(adata), sharing)
    graphs = {"kg": kg, "kg, no graph": None} | {("kg, rewired", seed): graph for seed, graph in rewired.items()}
    if not sharing:
        graphs |= {f"kg, without {source}": kg.drop_source(source) for source in kg.origins}
    makers = {name: partial(make_model, name) for name in BASELINES}
    makers |= {name: partial(make_model, name, vectors=vectors) for name in ("knn", "embedding_ridge")}
    makers |= {"set_kernel_ridge": partial(make_model, "set_kernel_ridge", kg)}
    makers |= {name: partial(make_model, "kg", graph, strength=1.0) for name, graph in graphs.items()}
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        for key, make in makers.items():
            name, seed = key if isinstance(key, tuple) else (key, 0)
            scores = evaluate(make().fit(adata, fold).predict([held_out]), adata, fold)
            crossed = {"pearson_delta": np.nan, "pds_cosine": np.nan}
            if not name.startswith("kg, without") and seed < 2:
                crossed = crossed_scores(make, adata, fold, n_draws=1)
            scores = scores.assign(pearson_crossed=crossed["pearson_delta"], pds_cosine=crossed["pds_cosine"])
            rows.append(scores.reset_index().assign(model=name, seed=seed, sharing=sharing))
        points = reference_scores(adata, fold).rename_axis(["model", "condition"])
    return pd.concat([*rows, points.reset_index().assign(seed=0, sharing=sharing)])


def dream_fold(data: Path, network: int, seed: int, number: int) -> pd.DataFrame:
    """One fold of a network: every graph of `dream_graphs`, and two baselines."""
    import torch

    from kgnn.errors import DataWarning
    from kgnn.metrics import evaluate
    from kgnn.models import make_model

    torch.set_num_threads(1)
    adata, gold, *_ = tasks.dream4(data, network)
    fold = tasks.five_folds(list(adata.var_names), seed)[number]
    regulators = set(gold.edges(("gene", "regulates", "gene"))["source"])
    graphs = dream_graphs(data, network, seed)
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        for key, graph in [*graphs.items(), ("composition_ridge", None), ("mean", None)]:
            name, of = key if isinstance(key, tuple) else (key, seed)
            baseline = name in ("composition_ridge", "mean")
            model = make_model(name if baseline else "kg", graph).fit(adata, fold)
            scores = evaluate(model.predict(fold["test"]), adata, fold, exclude_targets=True).reset_index()
            rows.append(scores[scores["condition"].isin(regulators)].assign(model=name, seed=of, network=network))
    return pd.concat(rows)


def dream_graphs(data: Path, network: int, seed: int) -> dict:
    """By name: the whole graph, the same rewired twice (ten over the seeds), parts of it, no graph; and the complete
    graph with effects estimated along all its edges: what the time series tells without a network."""
    from kgnn.controls import complete_graph

    adata, gold, coexpression, with_effects = tasks.dream4(data, network)
    kg, complete = gold | coexpression, complete_graph(adata.var_names, directed=True)
    graphs = {"kg": with_effects(kg), "kg, no graph": None, "kg, gold standard without time series": gold}
    graphs |= {"kg, co-expression alone": coexpression, "kg, gold standard alone": with_effects(gold)}
    graphs |= {"kg, complete graph with effects": with_effects(complete)}
    return graphs | {("kg, rewired", 2 * seed + n): with_effects(kg.rewire(2 * seed + n)) for n in range(2)}


def simulated_screen(seed: int) -> pd.DataFrame:
    """Share of the explainable variance of unseen knock-outs, as edges of the true graph are made random.

    The true graph is the simulator's own: it carries the true sign and strength of every edge, which no real source
    does. "edges alone" has the same edges without signs and strengths.
    """
    import torch

    from kgnn.controls import complete_graph
    from kgnn.metrics import evaluate, explained_share
    from kgnn.models import make_model

    torch.set_num_threads(1)
    adata, kg, fold = tasks.simulated(seed)
    graphs = {"0% random": kg, "no graph": None, "complete graph": complete_graph(adata.var_names)}
    graphs |= {f"{share:.0%} random": kg.randomize_edges(share, seed) for share in SHARES}
    graphs |= {"rewired": kg.rewire(seed), "edges alone": tasks.edges_alone(adata)}
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, graph in [*graphs.items(), ("mean", None), ("composition_ridge", None)]:
            model = make_model(name if name in ("mean", "composition_ridge") else "kg", graph).fit(adata, fold)
            prediction = model.predict(fold["test"])
            scores = evaluate(prediction, adata, fold, exclude_targets=True)[SCORES].mean()
            rows.append({"graph": name, "seed": seed, "share": explained_share(prediction, adata)} | scores.to_dict())
    return pd.DataFrame(rows)


def unseen_line(seed: int) -> pd.DataFrame:
    """Four cell lines; the last is predicted from its control cells alone."""
    import torch

    from kgnn.metrics import evaluate, explained_share
    from kgnn.models import LINE_BASELINES, make_model

    torch.set_num_threads(1)
    adata, kg, _ = tasks.simulated(seed, n_lines=4)
    known, unseen = (
        adata[adata.obs["cell_line"].isin(lines)].copy() for lines in (["line0", "line1", "line2"], ["line3"])
    )
    controls = unseen[unseen.obs["condition"] == "control"]
    makers = {"kg": partial(make_model, "kg", kg), "kg, no graph": partial(make_model, "kg")}
    makers |= {name: partial(make_model, name) for name in LINE_BASELINES}
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = {name: make(group_key="cell_line").fit(known) for name, make in makers.items()}
        predictions = {
            name: model.predict(sorted(set(model.conditions_)), control_cells=controls)
            for name, model in models.items()
        }
    for name, prediction in predictions.items():
        scores = evaluate(prediction, unseen, exclude_targets=True)[SCORES].mean()
        rows.append({"model": name, "seed": seed, "share": explained_share(prediction, unseen)} | scores.to_dict())
    return pd.DataFrame(rows)


def peers(data: Path, work: Path, processes: int, models: list[str] | None = None) -> pd.DataFrame:
    """All models by one protocol, or some; the fits stay in `work`, and a second call goes on where the first one
    stopped."""
    from kgnn.benchmark import run_benchmark
    from kgnn.data.splits import condition_names
    from kgnn.models import BASELINES

    adata, kg = tasks.norman(data)
    genes = {*adata.var_names, *(gene for name in condition_names(adata) for gene in name.split("+"))}
    kg.subset(sorted(genes & set(kg.nodes("gene").index))).save(work / "graph")
    fit = {"max_epochs": 10, "batch_size": 64, "conditions_per_batch": 8}
    trained = {"fit": fit, "grid": {"learning_rate": [1e-3, 3e-3], "schedule": ["halve", "constant"]}}
    pooling = ("presage", "fusion")
    names = ("hetero", "gears", "txpert", "txpert_exphormer", "transformer", "graph_transformer", "cpa", *pooling)
    of_kg = {"type": "kg", "options": {"strength": 1.0}}
    rows = [of_kg | {"name": "kg", "graph": "true"}]
    rows += [of_kg | {"name": f"kg, {graph}", "graph": graph} for graph in ("rewired", "none")]
    rows += [{"name": name, "type": name, "graph": "true"} | trained for name in names]
    changed = {"rewired": "rewired", "nodes permuted": "permuted"}
    rows += [{"name": f"hetero, {name}", "type": "hetero", "graph": graph} | trained for name, graph in changed.items()]
    rows += [{"name": name, "type": name, "graph": "none"} for name in BASELINES]
    rows += [{"name": name, "type": name, "graph": "true"} for name in KNOWING]
    rows = [row for row in rows if models is None or row["name"] in models]
    screen = data / "perturb/norman19_k562_hvg500.h5ad"
    dataset = {"name": "norman", "path": str(screen), "graph": str(work / "graph")}
    config = {
        "seeds": list(SEEDS)[:3],
        "tuning_budget": 4,
        "datasets": [dataset | {"exclude_targets": False}],
        "splits": [{"name": "random_condition", "kind": "random_condition"}],
        "models": rows,
    }
    kg.save(work / "whole_graph")
    whole = [of_kg | {"name": f"kg, whole graph{add}", "graph": graph} for add, graph in WHOLE.items()]
    whole = [row for row in whole if models is None or row["name"] in models]
    wide = config | {"models": whole, "datasets": [config["datasets"][0] | {"graph": str(work / "whole_graph")}]}
    say = {"processes": processes, "report": lambda text: print(text, flush=True)}
    found = []
    for settings, name in ((wide, "peers_whole"), (config, "peers")):
        if settings["models"]:
            table = run_benchmark(settings, work / name, **say)
            found.append(table[table["model"].isin([row["name"] for row in whole])] if settings is wide else table)
    return pd.concat(found, ignore_index=True)


def cell_gears_fit(data: Path, work: Path, seed: int) -> pd.DataFrame:
    """cell-gears itself on the peers' split and graph."""
    import torch

    from benchmarks import cell_gears
    from kgnn import KnowledgeGraph
    from kgnn.data.splits import split
    from kgnn.metrics import evaluate

    torch.set_num_threads(1)
    adata, kg = tasks.norman(data)[0], KnowledgeGraph.load(work / "graph")
    fold = split(adata, "random_condition", seed=seed)
    scores = evaluate(cell_gears.predict(adata, kg, fold, seed, "test"), adata, fold).reset_index()
    return scores.assign(model="cell-gears", seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("KGNN_TEST_DATA", "../shared/data")))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=PARTS)
    parser.add_argument("--models", nargs="+", help="which of the peers")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/perturbation"))
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"), help="folder for the peers' fits")
    arguments = parser.parse_args()
    from kgnn.data.splits import condition_names
    from kgnn.metrics import noise_ceiling

    only = arguments.only or PARTS
    run = Parallel(n_jobs=arguments.processes)
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = arguments.data
    jobs = {
        "norman": lambda: [
            delayed(norman_fold)(data, arguments.work, name, sharing)
            for sharing in (False, True)
            for name in condition_names(tasks.norman(data)[0])
        ],
        "dream4": lambda: [
            delayed(dream_fold)(data, network, seed, number)
            for network in (1, 2, 3)
            for seed in SEEDS
            for number in range(5)
        ],
        "simulated": lambda: [delayed(simulated_screen)(seed) for seed in SEEDS],
        "lines": lambda: [delayed(unseen_line)(seed) for seed in SEEDS],
        "cell-gears": lambda: [delayed(cell_gears_fit)(data, arguments.work, seed) for seed in SEEDS[:3]],
    }
    if "norman" in only:
        prepare_norman(data, arguments.work)
    for name in only:
        start = time.perf_counter()
        if name == "peers":
            table = peers(data, arguments.work, arguments.processes, arguments.models)
            if arguments.models:  # the others stay as they are
                kept = pd.read_csv(arguments.out / "peers.csv")
                table = pd.concat([kept[~kept["model"].isin(table["model"])], table], ignore_index=True)
        else:
            table = pd.concat(run(jobs[name]()), ignore_index=True)
        kept = [column for column in KEPT if column in table]
        table[kept].to_csv(arguments.out / f"{name}.csv", index=False, float_format="%.5f")
        about = describe("scipy", "scikit-learn", *(["cell-gears"] if name == "cell-gears" else [])) | {
            "seconds": round(time.perf_counter() - start),
            "processes": arguments.processes,
        }
        if name == "peers" and arguments.models:
            about["models"] = arguments.models
        if name == "norman":
            about |= noise_ceiling(tasks.norman(data)[0]).mean().round(4).to_dict()
        (arguments.out / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n")
        print(name, f"{time.perf_counter() - start:.0f} s", flush=True)
    from benchmarks.perturbation_report import write

    write(arguments.out)


if __name__ == "__main__":
    main()
