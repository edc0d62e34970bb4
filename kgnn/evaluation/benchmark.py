"""Data sets × splits × models × seeds, into a folder: every prediction, every score, figures and a page."""

from __future__ import annotations

import hashlib
import json
import logging
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from kgnn.data.splits import Split, leave_one_out, load_split, merge_validation, save_split, training_cells
from kgnn.data.splits import split as make_split
from kgnn.errors import DataWarning, InputError
from kgnn.evaluation.metrics import evaluate
from kgnn.files import existing_file, new_file, new_folder, read_h5ad, read_json, write_json
from kgnn.graph import KnowledgeGraph, load_coexpression
from kgnn.graph.storage import read_manifest
from kgnn.models import BASELINES, make_model
from kgnn.models.perturbation.graphs import COEXPRESSED

logger = logging.getLogger("kgnn")

RUN, PREDICTIONS, SCORES = "run.json", "predictions.h5ad", "scores.csv"
GRAPHS = ("true", "rewired", "none")
UNTRAINED = {"kg", *BASELINES}  # nothing to select: validation conditions join training


class Task(NamedTuple):
    """One fit: its place in the folder and everything that its result depends on."""

    folder: Path
    dataset: dict[str, Any]
    split: Split
    model: dict[str, Any]
    seed: int
    budget: int
    content: str


def read_config(path: str | Path) -> dict[str, Any]:
    """Read and check a benchmark's TOML file.

    `seeds` (list), `tuning_budget` (combinations of a model's `grid` tried on validation conditions, default 8),
    `[[datasets]]` with `name`, `path` (H5AD, relative to the file), `graph` (saved graph, optional), `coexpression`
    (default true), `condition_key`, `control`, `group_key`, `exclude_targets`; `[[splits]]` with `kind` and the
    options of `kgnn.data.split`, or `path` of a split; `[[models]]` with `name`, `type` (encoder or baseline), `graph`
    (`true`, `rewired`, `none`), `options`, `fit`, and `grid`: option → values to choose from.

    Raises:
        InputError: unreadable, or an entry is missing or unknown.
    """
    path = existing_file(path)
    try:
        config = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as TOML: {error}") from None
    known = {
        "datasets": {
            "name",
            "path",
            "graph",
            "coexpression",
            "exclude_targets",
            "condition_key",
            "control",
            "group_key",
        },
        "splits": {"name", "kind", "path", "test_fraction", "val_fraction"},
        "models": {"name", "type", "graph", "options", "fit", "grid"},
    }
    unknown = set(config) - {*known, "seeds", "tuning_budget"}
    if unknown:
        raise InputError(
            f"{path}: unknown entry {sorted(unknown)[0]!r}; known are seeds, tuning_budget, {', '.join(known)}"
        )
    for table, entries in known.items():
        if not config.get(table):
            raise InputError(f"{path}: no [[{table}]]; give at least one")
        for number, row in enumerate(config[table], 1):
            wrong = set(row) - entries
            if wrong:
                where = f"{path}: [[{table}]] {number}"
                raise InputError(f"{where}: unknown entry {sorted(wrong)[0]!r}; known are {', '.join(sorted(entries))}")
    for row in config["models"]:
        row.setdefault("type", row.get("name"))
        row.setdefault("name", row["type"])
        if row["name"] is None:
            raise InputError(f"{path}: a [[models]] entry has neither type nor name")
        if row.setdefault("graph", "true") not in GRAPHS:
            raise InputError(f"{path}: model {row['name']!r}: graph must be one of {', '.join(GRAPHS)}")
        make_model(row["type"])  # an unknown type ends here
    for row in config["datasets"]:
        for entry in ("name", "path"):
            if entry not in row:
                raise InputError(f"{path}: a [[datasets]] entry lacks {entry!r}")
        row["path"] = str(path.parent / row["path"])
        row["graph"] = str(path.parent / row["graph"]) if "graph" in row else None
    for row in config["splits"]:
        if "path" in row:
            row["path"] = str(path.parent / row["path"])
        elif "kind" not in row:
            raise InputError(f"{path}: a [[splits]] entry has neither kind nor path")
        row.setdefault("name", row.get("kind") or Path(row["path"]).stem)
    for table in known:
        names = [row["name"] for row in config[table]]
        if len(set(names)) < len(names):
            raise InputError(f"{path}: two [[{table}]] have the same name; give each its own")
    config.setdefault("seeds", [0])
    config.setdefault("tuning_budget", 8)
    return config


def run_benchmark(
    config: str | Path | dict[str, Any],
    out: str | Path,
    *,
    processes: int = 1,
    report: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Run what is not done yet, write the folder, return all scores.

    `out/runs/<dataset>/<split>/<model>/` holds `predictions.h5ad`, `scores.csv` and `run.json`, written whole or not at
    all, so that a run that was killed goes on where it stopped; a run whose configuration or data changed is done
    again. `out/` holds `scores.csv`, `summary.csv`, `paired.csv`, figures and `report.html`.

    Args:
        config: the TOML file, see `read_config`, or what `read_config` returned.
        out: the folder.
        processes: fits side by side, one thread each.
        report: is told what happens.

    Raises:
        InputError: an unusable configuration or data set.
    """
    from kgnn.evaluation.report import write_report

    settings = config if isinstance(config, dict) else read_config(config)
    out, say = Path(out), report or logger.info
    tasks = [task for dataset in settings["datasets"] for task in _tasks(dataset, settings, out)]
    waiting = [task for task in tasks if not _is_done(task)]
    say(f"{len(tasks)} fits, {len(tasks) - len(waiting)} of them done before")
    jobs = (delayed(_run)(task) for task in waiting)
    for number, name in enumerate(Parallel(n_jobs=processes, return_as="generator_unordered")(jobs), 1):
        say(f"{number} of {len(waiting)}: {name}")
    scores = pd.concat([_read_scores(task) for task in tasks], ignore_index=True)
    write_report(scores, settings, out)
    return scores


def _tasks(dataset: dict[str, Any], settings: dict[str, Any], out: Path) -> list[Task]:
    adata = read_h5ad(dataset["path"])
    names = {key: dataset[key] for key in ("condition_key", "control") if key in dataset}
    content = _content(dataset)
    tasks = []
    for row in settings["splits"]:
        options = {key: row[key] for key in ("test_fraction", "val_fraction") if key in row}
        for seed in settings["seeds"]:
            if "path" in row:
                parts = {row["name"]: load_split(row["path"])}
            elif row["kind"] == "leave_one_out":
                folds = leave_one_out(adata, seed=seed, **names)
                parts = {f"{row['name']}-{name}": fold for name, fold in folds.items()}
            else:
                parts = {row["name"]: make_split(adata, row["kind"], seed=seed, **options, **names)}
            for name, fold in parts.items():
                for model in settings["models"]:
                    folder = out / "runs" / dataset["name"] / f"{name}-seed{seed}" / model["name"]
                    tasks.append(Task(folder, dataset, fold, model, seed, settings["tuning_budget"], content))
    return tasks


def _content(dataset: dict[str, Any]) -> str:
    """Hash of the data's file and of the graph's: an equal graph saved again is the same graph."""
    files = [Path(dataset["path"])]
    if dataset["graph"]:
        read_manifest(Path(dataset["graph"]))  # a folder that is none ends here
        files += sorted(path for path in Path(dataset["graph"]).iterdir() if path.is_file())
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _key(task: Task) -> str:
    """What the result depends on: the task, the data's content and the graph's."""
    parts = [task.content, task.dataset, task.split, task.model, task.seed, task.budget]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _is_done(task: Task) -> bool:
    file = task.folder / RUN
    return file.is_file() and read_json(file).get("key") == _key(task)


def _run(task: Task) -> str:
    adata = read_h5ad(task.dataset["path"])
    with threadpool_limits(1), warnings.catch_warnings(), _quiet():
        if task.model["graph"] != "true":
            warnings.simplefilter("ignore", DataWarning)  # genes without neighbours are the point of these graphs
        kg = None if task.model["type"] in BASELINES else _graph(task, adata)
        tried, chosen = _tune(task, adata, kg)
        prediction, scores = _fit(task, adata, kg, task.split, chosen, "test")
    with new_folder(task.folder, RUN) as folder:
        with new_file(folder / PREDICTIONS) as file:
            prediction.write_h5ad(file)
        with new_file(folder / SCORES) as file:
            scores.to_csv(file)
        save_split(task.split, folder / "split.json")
        write_json(folder / RUN, {"key": _key(task), "chosen": chosen, "tried": tried, "seed": task.seed})
    return "/".join(task.folder.parts[-3:])


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what Lightning says of every fit."""
    talker = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = talker.level
    talker.setLevel(logging.WARNING)
    try:
        yield
    finally:
        talker.setLevel(level)


def _graph(task: Task, adata: AnnData) -> KnowledgeGraph | None:
    if task.model["graph"] == "none":
        return None
    kg = KnowledgeGraph.load(task.dataset["graph"]) if task.dataset["graph"] else None
    if task.dataset.get("coexpression", True) and (kg is None or COEXPRESSED not in kg.relations):
        names = {key: task.dataset[key] for key in ("condition_key", "control") if key in task.dataset}
        learned = load_coexpression(training_cells(adata, task.split, **names))
        kg = learned if kg is None else kg | learned
    assert kg is not None or not task.dataset.get("coexpression", True)
    return kg.rewire(task.seed) if kg is not None and task.model["graph"] == "rewired" else kg


def _tune(task: Task, adata: AnnData, kg: KnowledgeGraph | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Try up to `budget` combinations of the grid on validation conditions; the best mean Pearson-delta wins."""
    grid = task.model.get("grid", {})
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    if len(combinations) <= 1:
        return [], combinations[0] if combinations else {}
    rng = np.random.default_rng(task.seed)
    drawn = rng.permutation(len(combinations))[: task.budget]
    tried = []
    for number in sorted(drawn.tolist()):
        scores = _fit(task, adata, kg, task.split, combinations[number], "val")[1]
        tried.append(combinations[number] | {"pearson_delta": float(scores["pearson_delta"].mean())})
    best = max(tried, key=lambda row: row["pearson_delta"])
    return tried, {name: best[name] for name in grid}


def _fit(
    task: Task, adata: AnnData, kg: KnowledgeGraph | None, parts: Split, chosen: Mapping[str, Any], on: str
) -> tuple[AnnData, pd.DataFrame]:
    """Fit on training conditions and predict those of the group `on`."""
    keys = (
        ("condition_key", "control") if task.model["type"] in BASELINES else ("condition_key", "control", "group_key")
    )
    names = {key: task.dataset[key] for key in keys if key in task.dataset}
    fit_options = dict(task.model.get("fit", {}))
    options = dict(task.model.get("options", {}))
    for name, value in chosen.items():
        (fit_options if name in FIT_OPTIONS else options)[name] = value
    if task.model["type"] in UNTRAINED:
        fitting = merge_validation(parts) if on == "test" else parts
    else:
        fitting = parts
        fit_options = {"enable_progress_bar": False, "accelerator": "cpu"} | fit_options
    model = make_model(task.model["type"], kg, **options, **names)
    model.fit(adata, fitting, seed=task.seed, **fit_options)
    prediction = model.predict(["control", *parts[on]])  # with control, as cell-eval and other tools expect
    scored = parts | {"test": parts[on]}
    scores = evaluate(
        prediction,
        adata,
        scored,
        exclude_targets=task.dataset.get("exclude_targets", True),
        **{key: value for key, value in names.items() if key != "group_key"},
    )
    return prediction, scores


FIT_OPTIONS = {"max_epochs", "batch_size", "learning_rate", "weight_decay", "patience", "conditions_per_batch"}


def _read_scores(task: Task) -> pd.DataFrame:
    scores = pd.read_csv(task.folder / SCORES, keep_default_na=True)
    dataset, split, model = task.folder.parts[-3:]
    kind = task.split["kind"] if "kind" in task.split else split.rsplit("-seed", 1)[0]
    return scores.assign(dataset=dataset, split=kind, model=model, seed=task.seed)
