"""Data sets × splits × models × seeds, into a folder: every prediction, every score, figures and a page."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from threadpoolctl import threadpool_limits

from kgnn.data.effects import is_effects, read_data
from kgnn.data.lines import fitting_cells
from kgnn.data.screen import read_screen
from kgnn.data.splits import Split, leave_one_out, load_split, merge_validation, training_cells
from kgnn.data.splits import split as make_split
from kgnn.errors import DataWarning, InputError
from kgnn.evaluation.config import REFERENCES, read_config
from kgnn.evaluation.metrics import crossed_scores, evaluate, reference_scores
from kgnn.evaluation.runs import KIND, Task, all_scores, is_done, write_run
from kgnn.evaluation.workers import in_processes
from kgnn.files import check_target, content_of, file_name
from kgnn.folders import check_folder
from kgnn.graph import KnowledgeGraph, load_coexpression
from kgnn.graph.coverage import SAYS_LITTLE
from kgnn.graph.storage import read_manifest
from kgnn.models import PerturbationModel, make_model
from kgnn.models.factory import line_of
from kgnn.models.perturbation.graphs import COEXPRESSED
from kgnn.models.perturbation.trained import Trained
from kgnn.parts import options_of, search_too
from kgnn.progress import silent, track

logger = logging.getLogger("kgnn")

NAMES, CHOSEN_BY = ("condition_key", "control", "group_key"), "pearson_centred"
FIT_OPTIONS = set(options_of(Trained.fit)) - {"data", "seed"}  # of a grid; the others are the model's


def run_benchmark(
    config: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    processes: int = 1,
    report: Callable[[str], None] | None = None,
    page: Callable[[pd.DataFrame, dict[str, Any], Path], None] | None = None,
) -> pd.DataFrame:
    """Run what is not done yet, write the folder, return all scores.

    `out/runs/<dataset>/<split>/<model>/` holds `predictions.h5ad`, `scores.csv` and `run.json`, written whole or not at
    all, so that a run that was killed goes on where it stopped; a run whose configuration, data or kgnn changed, or
    whose files are damaged, is done again. A run that fails, or whose process dies where there are several, leaves the
    others alone: it stands in `attrs["failures"]` of the result, in a warning and on the page. `references/` beside the
    models holds the scores of `kgnn.metrics.reference_scores`, rows of the result like theirs. `pearson_crossed` and
    `pds_cosine` are of fits on halves of the control cells. `out/` holds `scores.csv`, `summary.csv`, `paired.csv`,
    figures and `report.html`.

    Args:
        config: the TOML file, or the same as a dictionary; see `read_config`.
        out: the folder.
        processes: fits side by side, one thread each.
        report: is told what happens.
        page: writes the tables, figures and the page, given scores, configuration and folder;
            `kgnn.benchmark.run_benchmark` brings `kgnn.plotting.report.write_report`.

    Raises:
        InputError: an unusable configuration or data set; a folder that cannot be written; no run succeeds.
    """
    settings = read_config(config)
    check_target(Path(out) / "scores.csv")
    out, say = Path(out), report or logger.info
    tasks = [task for dataset in settings["datasets"] for task in _tasks(dataset, settings, out)]
    waiting = [task for task in tasks if not is_done(task)]
    say(f"{len(tasks)} runs, {len(tasks) - len(waiting)} of them done before")
    done = in_processes(_try, waiting, processes, lambda task, reason: (task.name, reason))
    failures = []
    for number, (name, wrong) in enumerate(track(done, "fitting", len(waiting)), 1):
        say(f"{number} of {len(waiting)}: {name}{f' failed: {wrong}' if wrong else ''}")
        failures += [{"run": name, "error": wrong}] if wrong else []
    scores = all_scores(tasks, failures)
    if page is not None:
        page(scores, settings, out)
    return scores


def _tasks(dataset: dict[str, Any], settings: dict[str, Any], out: Path) -> list[Task]:
    adata, names, content = _read(dataset), _names(dataset, *NAMES[:2]), _content(dataset)
    tasks = []
    for row in settings["splits"]:
        options = {key: row[key] for key in set(row) - {"name", "kind", "path"}}
        if row.get("kind") == "unseen_line":
            options["group_key"] = dataset.get("group_key")
        for seed in settings["seeds"]:
            if "path" in row:
                parts = {row["name"]: load_split(row["path"])}
            elif row["kind"] == "leave_one_out":
                folds = leave_one_out(adata, seed=seed, **names)
                parts = {f"{row['name']}-{name}": fold for name, fold in folds.items()}
            else:
                parts = {row["name"]: make_split(adata, row["kind"], seed=seed, **options, **names)}
            for name, fold in parts.items():
                for model in [*settings["models"], {}]:
                    called = dataset["name"], f"{name}-seed{seed}", model.get("name", REFERENCES)
                    folder = out.joinpath("runs", *map(file_name, called))
                    numbers = seed, settings["tuning_budget"], settings["crossed"]
                    tasks.append(Task(folder, called, dataset, fold, model, *numbers, content, str(Path.cwd())))
    return tasks


def _read(dataset: dict[str, Any]) -> AnnData:
    return read_data(dataset["path"], dataset.get("effects", "change"), **_names(dataset, *NAMES[:2]))


def _content(dataset: dict[str, Any]) -> str:
    """Hash of the data's file and of the graph's: an equal graph saved again is the same graph."""
    files = [Path(dataset["path"])]
    if dataset["graph"]:
        read_manifest(Path(dataset["graph"]))  # a folder that is none ends here
        files += [Path(dataset["graph"])]
    return content_of(files)


def _try(task: Task) -> tuple[str, str | None]:
    """Run a task; its name, and what was wrong where it fails."""
    try:
        _run(task)
    except Exception as error:
        logger.debug("%s", task.name, exc_info=True)
        return task.name, str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    return task.name, None


def _run(task: Task) -> None:
    check_folder(task.folder, KIND)
    search_too(task.home)
    adata = _read(task.dataset)
    with threadpool_limits(1), warnings.catch_warnings(), silent(), _quiet():
        if task.model.get("graph", "none") != "true":
            warnings.filterwarnings("ignore", SAYS_LITTLE, DataWarning)
        prediction, scores, told = _references(task, adata) if not task.model else _fitted(task, adata)
    write_run(task, prediction, scores, told)


def _references(task: Task, adata: AnnData) -> tuple[None, pd.DataFrame, dict[str, Any]]:
    """Scores of no change, the mean of training and the experiment repeated."""
    options = {"exclude_targets": task.dataset.get("exclude_targets", True)} | _names(task.dataset, *NAMES)
    found = reference_scores(adata, merge_validation(task.split), seed=task.seed, **options)
    return None, found.rename_axis(["model", "condition"]), {}


def _fitted(task: Task, adata: AnnData) -> tuple[AnnData, pd.DataFrame, dict[str, Any]]:
    """Prediction and scores of a model, its options chosen on validation conditions; what was tried and chosen."""
    kg = _graph(task, adata) if make_model(task.model["type"], **task.model.get("options", {})).uses_graph else None
    with _told_once():
        tried, chosen = _tune(task, adata, kg)
    prediction, scores = _fit(task, adata, kg, task.split, chosen, "test")
    if task.crossed and not is_effects(adata):
        scores = scores.assign(**_crossed(task, adata, kg, chosen))
    return prediction, scores, {"chosen": chosen, "tried": tried}


def _crossed(task: Task, adata: AnnData, kg: KnowledgeGraph | None, chosen: Mapping[str, Any]) -> pd.DataFrame:
    """`pearson_crossed` and `pds_cosine` of fits on halves of the control cells; nothing where one cell is all."""
    names = _names(task.dataset, *NAMES)
    screen = read_screen(adata, **names)
    if np.unique(screen.group[screen.controls], return_counts=True)[1].min() < 2:
        warnings.warn("one control cell, which cannot be halved: no score is crossed", DataWarning, stacklevel=2)
        return pd.DataFrame()
    model, fit_options, fitting = _model(task, kg, task.split, chosen, "test")
    with _told_once():
        found = crossed_scores(
            lambda: copy.deepcopy(model),
            adata,
            fitting,
            n_draws=task.crossed,
            exclude_targets=task.dataset.get("exclude_targets", True),
            seed=task.seed,
            fit_options=fit_options,
            **names,
        )
    return found[["pearson_delta", "pds_cosine"]].rename(columns={"pearson_delta": "pearson_crossed"})


@contextmanager
def _told_once() -> Iterator[None]:
    """Hold back what the fit on all cells tells of the same data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield


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
    learns = task.dataset.get("coexpression", True) and not is_effects(adata)
    if learns and (kg is None or COEXPRESSED not in kg.relations):
        learned = load_coexpression(training_cells(adata, task.split, **_names(task.dataset, *NAMES[:2])))
        kg = learned if kg is None else kg | learned
    if kg is None or task.model["graph"] == "true":
        return kg
    return kg.rewire(task.seed) if task.model["graph"] == "rewired" else kg.permute(task.seed)


def _tune(task: Task, adata: AnnData, kg: KnowledgeGraph | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Try up to `budget` combinations of the grid on validation conditions; the best centred Pearson-delta wins."""
    grid = task.model.get("grid", {})
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    if len(combinations) <= 1:
        return [], combinations[0] if combinations else {}
    parts = task.split
    if "line" in parts:  # validation conditions are those of the other lines: no cell of the one held out may choose
        adata = fitting_cells(adata, parts, task.dataset.get("condition_key", "condition"), task.dataset.get("control"))
        parts = {key: value for key, value in parts.items() if key != "line"} | {"test": []}
    rng = np.random.default_rng(task.seed)
    drawn = rng.permutation(len(combinations))[: task.budget]
    tried = []
    for number in sorted(drawn.tolist()):
        scores = _fit(task, adata, kg, parts, combinations[number], "val")[1]
        tried.append(combinations[number] | {CHOSEN_BY: float(scores[CHOSEN_BY].mean())})
    best = max(tried, key=lambda row: np.nan_to_num(row[CHOSEN_BY], nan=-np.inf))
    return tried, {name: best[name] for name in grid}


def _fit(
    task: Task, adata: AnnData, kg: KnowledgeGraph | None, parts: Split, chosen: Mapping[str, Any], on: str
) -> tuple[AnnData, pd.DataFrame]:
    """Fit on training conditions and predict those of the group `on`."""
    model, fit_options, fitting = _model(task, kg, parts, chosen, on)
    model.fit(adata, fitting, **fit_options)
    own = not isinstance(model, PerturbationModel)
    prediction = model.predict(parts[on] if own else ["control", *parts[on]], **line_of(model, parts))
    scored = merge_validation(parts) if on == "test" else parts | {"val": [], "test": parts[on]}
    options = {"exclude_targets": task.dataset.get("exclude_targets", True)} | _names(task.dataset, *NAMES)
    return prediction, evaluate(prediction, adata, scored, **options)


def _model(
    task: Task, kg: KnowledgeGraph | None, parts: Split, chosen: Mapping[str, Any], on: str
) -> tuple[Any, dict[str, Any], Split]:
    """The unfitted model, the options of its `fit`, and the split that it is fitted with to predict the group `on`."""
    fit_options, options = dict(task.model.get("fit", {})), dict(task.model.get("options", {}))
    for name, value in chosen.items():
        (fit_options if name in FIT_OPTIONS else options)[name] = value
    model = make_model(task.model["type"], kg, **options, **_names(task.dataset, *NAMES))
    if isinstance(model, PerturbationModel) and model.by_epochs:
        fit_options = {"enable_progress_bar": False, "accelerator": "cpu"} | fit_options
    fitting = parts if model.by_epochs or on == "val" else merge_validation(parts)
    return model, fit_options | {"seed": task.seed}, fitting


def _names(dataset: dict[str, Any], *keys: str) -> dict[str, Any]:
    """What the data set calls its columns, as far as it says."""
    return {key: dataset[key] for key in keys if key in dataset}
