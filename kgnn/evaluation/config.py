"""The file that describes a benchmark, read and checked."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kgnn.data.effects import KINDS
from kgnn.errors import InputError
from kgnn.evaluation.headline import POINTS
from kgnn.files import as_path, is_table, read_toml
from kgnn.models import make_model
from kgnn.parts import check_number, name_of

GRAPHS = ("true", "rewired", "permuted", "none")
REFERENCES = "references"  # the folder of what anyone could predict
NUMBERS = ("seeds", "tuning_budget", "crossed")
ENTRIES = {
    "datasets": {
        "name",
        "path",
        "effects",
        "graph",
        "coexpression",
        "exclude_targets",
        "condition_key",
        "control",
        "group_key",
    },
    "splits": {"name", "kind", "path", "test_fraction", "val_fraction", "held_out", "seen_fraction"},
    "models": {"name", "type", "graph", "options", "fit", "grid"},
}


def read_config(config: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Read and check a benchmark's TOML file, or the same as a dictionary.

    `seeds` (list), `tuning_budget` (combinations of a model's `grid` tried on validation conditions, default 8),
    `crossed` (halvings of the control cells that each model is fitted on twice more, default 1, see
    `kgnn.metrics.crossed_scores`; 0 leaves it out),
    `[[datasets]]` with `name`, `path` (relative to the file; H5AD, or a table, of which `effects` says what it holds,
    `change` or `binary`, see `kgnn.data.effects`: no score is crossed, no co-expression learned), `graph` (saved graph,
    optional), `coexpression` (default true), `condition_key`, `control`, `group_key`, `exclude_targets`; `[[splits]]`
    with `kind` and the options of `kgnn.data.split`, or `path` of a split; `[[models]]` with `name`, `type` (encoder,
    baseline, or a model or encoder of one's own as `"package.module:Name"`, in a dictionary also the class or an
    instance), `graph` (`true`, `rewired`, `permuted`, `none`), `options`, `fit`, and `grid`: option → values to choose
    from.

    Raises:
        InputError: unreadable, or an entry is missing or unknown.
    """
    if isinstance(config, Mapping):
        return _check(copy.deepcopy(dict(config)), Path(), "the configuration")
    return _check(read_toml(config), as_path(config).parent, str(config))


def _check(config: dict[str, Any], folder: Path, where: str) -> dict[str, Any]:
    _check_entries(config, where)
    for row in config["models"]:
        row.setdefault("type", row.get("name"))
        if row["type"] is None:
            raise InputError(f"{where}: a [[models]] entry has neither type nor name")
        row.setdefault("name", name_of(row["type"]))
        if row["name"] in (REFERENCES, *POINTS):
            raise InputError(f"{where}: a model called {row['name']!r}, which names a point of reference")
        if row.setdefault("graph", "true") not in GRAPHS:
            raise InputError(f"{where}: model {row['name']!r}: graph must be one of {', '.join(GRAPHS)}")
        make_model(row["type"], **row.get("options", {}))  # an unknown type ends here
    for row in config["datasets"]:
        for entry in ("name", "path"):
            if entry not in row:
                raise InputError(f"{where}: a [[datasets]] entry lacks {entry!r}")
        row["path"] = str(folder / row["path"])
        _check_effects(row, where)
        row["graph"] = str(folder / row["graph"]) if row.get("graph") else None
    for row in config["splits"]:
        if "path" in row:
            row["path"] = str(folder / row["path"])
        elif "kind" not in row:
            raise InputError(f"{where}: a [[splits]] entry has neither kind nor path")
        row.setdefault("name", row.get("kind") or Path(row["path"]).stem)
    for table in ENTRIES:
        names = [row["name"] for row in config[table]]
        if len(set(names)) < len(names):
            raise InputError(f"{where}: two [[{table}]] have the same name; give each its own")
    settings = {"seeds": [0], "tuning_budget": 8, "crossed": 1} | config
    check_number(settings["crossed"], f"{where}: crossed", 0, whole=True)
    return settings


def _check_effects(row: dict[str, Any], where: str) -> None:
    """Whether a data set says of a table what it holds, and of H5AD, which says so itself, nothing."""
    what = f"{where}: data set {row['name']!r}"
    if is_table(row["path"]) and row.get("effects") not in KINDS:
        raise InputError(f"{what} is a table; say what it holds, effects = 'change' or 'binary'")
    if "effects" in row and not is_table(row["path"]):
        raise InputError(f"{what} is no table (.csv, .tsv, .parquet); leave effects out")


def _check_entries(config: dict[str, Any], where: str) -> None:
    unknown = set(config) - {*ENTRIES, *NUMBERS}
    if unknown:
        raise InputError(f"{where}: unknown entry {sorted(unknown)[0]!r}; known are {', '.join((*NUMBERS, *ENTRIES))}")
    for table, entries in ENTRIES.items():
        if not config.get(table):
            raise InputError(f"{where}: no [[{table}]]; give at least one")
        for number, row in enumerate(config[table], 1):
            wrong = set(row) - entries
            if wrong:
                known = ", ".join(sorted(entries))
                raise InputError(
                    f"{where}: [[{table}]] {number}: unknown entry {sorted(wrong)[0]!r}; known are {known}"
                )
