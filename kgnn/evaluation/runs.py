"""A benchmark's runs on disk: one folder each, written whole, read only if nothing in it changed."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import pandas as pd
from anndata import AnnData

from kgnn.data.splits import Split, save_split
from kgnn.errors import DataWarning, InputError
from kgnn.files import json_text, looked_for, read_json
from kgnn.folders import new_folder, read_folder
from kgnn.parts import name_of
from kgnn.version import __version__

logger = logging.getLogger("kgnn")

KIND, RUN, PREDICTIONS, SCORES = "benchmark run", "run.json", "predictions.h5ad", "scores.csv"


class Task(NamedTuple):
    """One fit: its place in the folder and everything that its result depends on."""

    folder: Path
    names: tuple[str, str, str]  # data set, split and seed, model
    dataset: dict[str, Any]
    split: Split
    model: dict[str, Any]  # empty for what anyone could predict
    seed: int
    budget: int
    crossed: int
    content: str
    home: str  # where import strings are found

    @property
    def name(self) -> str:
        return "/".join(self.names)


def _key(task: Task) -> str:
    """What the result depends on: kgnn, the task, the data's content and the graph's."""
    parts = [__version__, task.content, task.dataset, task.split, task.model, task.seed, task.budget, task.crossed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=_identity).encode()).hexdigest()


def _identity(part: Any) -> list[str]:
    """What tells one's own part from others: its name, and what an instance holds."""
    return [name_of(part), "" if inspect.isclass(part) or inspect.isfunction(part) else joblib.hash(part)]


def is_done(task: Task) -> bool:
    """Whether the run is there, whole, and of the same task."""
    try:
        with looked_for(task.folder):
            if not task.folder.exists():
                return False
        return read_folder(task.folder, KIND, lambda path: read_json(path / RUN)).get("key") == _key(task)
    except InputError as error:
        logger.warning("done again: %s", error)
        return False


def write_run(task: Task, prediction: AnnData | None, scores: pd.DataFrame, told: dict[str, Any]) -> None:
    """Write a run's folder; told: what was tried and chosen."""
    with new_folder(task.folder, KIND) as folder:
        if prediction is not None:
            prediction.write_h5ad(folder / PREDICTIONS)
        scores.to_csv(folder / SCORES)
        save_split(task.split, folder / "split.json")
        (folder / RUN).write_text(json_text({"key": _key(task), "seed": task.seed} | told), encoding="utf-8")


def all_scores(tasks: list[Task], failures: list[dict[str, str]]) -> pd.DataFrame:
    """Scores of the runs that are there; `attrs["failures"]` has the others, each its run and what was wrong."""
    failures = sorted(failures, key=lambda row: row["run"])
    failed = {row["run"] for row in failures}
    if failures:
        first = f"{failures[0]['run']}: {failures[0]['error']}"
        told = f"{len(failures)} of {len(tasks)} runs failed, the first {first}"
        if len(failed) == len(tasks):
            raise InputError(told)
        warnings.warn(f"{told}; mend them and run again, the others are done", DataWarning, stacklevel=3)
    scores = pd.concat([_read_scores(task) for task in tasks if task.name not in failed], ignore_index=True)
    scores.attrs["failures"] = failures
    return scores


def _read_scores(task: Task) -> pd.DataFrame:
    scores = read_folder(task.folder, KIND, lambda path: pd.read_csv(path / SCORES, keep_default_na=True))
    dataset, split, model = task.names
    kind = task.split["kind"] if "kind" in task.split else split.rsplit("-seed", 1)[0]
    if task.model:
        scores["model"] = model
    return scores.assign(dataset=dataset, split=kind, seed=task.seed)
