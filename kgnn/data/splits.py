"""Splits of conditions into train, validation and test, as plain mappings of names.

A split is a dict `{"kind", "seed", "train", "val", "test", "unused", "subgroups"}`: lists of canonical condition
names (genes in alphabetical order, joined by `+`), and for the test conditions the subgroup each belongs to. Control
cells belong to training and are not listed.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from kgnn.data.conditions import CONTROL, SEPARATOR, ConditionNames, perturbed_genes
from kgnn.data.labels import canonical_labels
from kgnn.data.lines import conditions_of_lines, draw, in_line, unseen_line
from kgnn.errors import InputError
from kgnn.files import as_adata, read_json, write_json
from kgnn.names import listed
from kgnn.parts import check_number, did_you_mean

Split = dict[str, Any]
SETS = ("train", "val", "test")
NO_SPLIT = "not a split; it must map train, val and test to lists of condition names"


def split(
    adata: AnnData | str | Path | Iterable[str],
    kind: str = "simulation",
    *,
    seed: int = 0,
    test_fraction: float = 0.2,
    val_fraction: float = 0.1,
    held_out: str | None = None,
    seen_fraction: float = 1.0,
    condition_key: str = "condition",
    control: Any = None,
    group_key: str | None = None,
) -> Split:
    """Divide the conditions of a screen; the same seed gives the same split.

    Args:
        adata: the screen, the path of its H5AD file, or a list of condition names.
        kind: what is held out.
            `random_condition`: any conditions.
            `unseen_single`: singles of held-out genes; other conditions with these genes are not used at all.
            `unseen_combo`: combinations, at all their doses; subgroups `seen_0`, `seen_1`, `seen_2` … by how many of
            a combination's genes are seen alone in training.
            `simulation`: GEARS' split (Roohani et al. 2024): 75 % of the genes are seen; test subgroups
            `unseen_single`, `combo_seen0`, `combo_seen1`, `combo_seen2` by how many genes of a combination are
            seen genes; of the combinations of seen genes, 75 % stay in training. `test_fraction` is not used.
            Validation conditions are split off training in the same way, at 90 %.
            `leave_one_out`: the condition `held_out`.
            `unseen_line`: all conditions of the cell line `held_out`, of which `seen_fraction` may be in training in
            other lines; subgroups `seen_elsewhere`, `unseen`. Control cells of the line are known. Predict with
            `line=split["line"]`.
        seed: for the random choices.
        test_fraction, val_fraction: shares of the conditions (of the single genes, for `unseen_single`; of the
            combinations, for `unseen_combo`), validation's of what is left after test; at least one each.
        held_out: the test condition of `leave_one_out`, the line of `unseen_line`.
        seen_fraction: of `unseen_line`, 0 to 1.
        condition_key, control, group_key: as for `read_screen`; `unseen_line` needs the column of lines.

    Raises:
        InputError: unknown kind; a group that would be empty, with what would work.
    """
    if kind not in _KINDS:
        raise InputError(f"unknown kind of split {kind!r}; choose one of {', '.join(_KINDS)}")
    lines = None
    if (kind == "unseen_line") != (group_key is not None):
        raise InputError("unseen_line needs group_key=, the column of cell lines; other kinds take none")
    if group_key is not None:
        adata = as_adata(adata)
        lines = conditions_of_lines(adata, condition_key, control, group_key)
    names = condition_names(adata, condition_key, control)
    if len(names) < 3:
        raise InputError(f"{len(names)} conditions besides control are too few to split; at least 3 are needed")
    for option, value in (("test_fraction", test_fraction), ("val_fraction", val_fraction)):
        check_number(value, option, 1e-9, 1 - 1e-9)
    check_number(seed, "seed", 0, whole=True)
    if (kind in ("leave_one_out", "unseen_line")) != (held_out is not None):
        raise InputError(
            "leave_one_out needs held_out=, the test condition, and unseen_line the line; other kinds take none"
        )
    rng = np.random.default_rng(seed)
    result: Split = {"kind": kind, "seed": seed}
    if lines is not None:
        result |= {"group_key": group_key} | unseen_line(lines, str(held_out), rng, val_fraction, seen_fraction)
    else:
        held_out = None if held_out is None else ConditionNames(control).canonical(held_out)
        result |= _KINDS[kind][0](names, rng, test_fraction, val_fraction, held_out)
    result["unused"] = sorted(set(names) - {name for part in SETS for name in result[part]})
    _check_groups(result, len(names))
    return result


def leave_one_out(adata: AnnData | Iterable[str], *, seed: int = 0, **options: Any) -> dict[str, Split]:
    """Return one `leave_one_out` split a condition, by the condition's name."""
    names = condition_names(adata, options.get("condition_key", "condition"), options.get("control"))
    return {name: split(adata, "leave_one_out", seed=seed, held_out=name, **options) for name in names}


def training_cells(
    adata: AnnData,
    split: Split,
    *,
    condition_key: str = "condition",
    control: str | Iterable[str] | None = None,
) -> AnnData:
    """Return the control cells and the cells of training conditions, for graphs that are learned from data."""
    adata = as_adata(adata)
    labels = canonical_labels(adata, condition_key, control)
    split = check_split(split, set(labels), control)
    keep = labels.isin([CONTROL, *split["train"]]).to_numpy() & ~in_line(adata, labels, split)
    return adata[keep]


def merge_validation(split: Split) -> Split:
    """Return the split with validation conditions in training, for models that have nothing to select."""
    split = read_split(split)
    return split | {"train": sorted([*split["train"], *split["val"]]), "val": []}


def save_split(split: Split, path: str | Path) -> None:
    """Write a split as JSON."""
    write_json(path, split)


def load_split(path: str | Path) -> Split:
    """Read a split that `save_split` wrote; raises `InputError` when the file is none."""
    value = read_json(path)
    if not isinstance(value, dict) or not set(SETS) <= value.keys():
        raise InputError(f"{path}: {NO_SPLIT}")
    return read_split(value, where=str(path))


def read_split(split: Any, control: Any = None, *, where: str = "split") -> Split:
    """Return a split with canonical names, control left out, whatever wrote it; a path is read. In memory groups that
    nobody asks for may be missing.

    Raises:
        InputError: no split; a condition in two of its groups.
    """
    if isinstance(split, str | Path):
        return load_split(split)
    given = [split[part] for part in SETS if part in split] if isinstance(split, Mapping) else []
    if not given or not all(map(_is_name_list, given)):
        raise InputError(f"{where}: {NO_SPLIT}")
    names = ConditionNames(control)

    def canonical(listed: Iterable[str]) -> list[str]:
        return [name for name in dict.fromkeys(map(names.canonical, listed)) if name != CONTROL]

    result = dict(split) | {part: canonical(split.get(part, [])) for part in (*SETS, "unused")}
    result["subgroups"] = {group: canonical(listed) for group, listed in split.get("subgroups", {}).items()}
    counts = Counter(name for part in SETS[: 2 if "line" in split else 3] for name in result[part])
    twice = sorted(name for name, number in counts.items() if number > 1)
    if twice:
        raise InputError(f"{where}: the condition {twice[0]!r} stands twice; a condition belongs to one of {SETS}")
    return result


def check_split(split: Any, conditions: Collection[str], control: Any = None) -> Split:
    """Return a split as `read_split` does, whose training and validation conditions are all among `conditions`.

    Raises:
        InputError: one is not, with names that are near.
    """
    result = read_split(split, control)
    missing = [name for part in ("train", "val") for name in result[part] if name not in conditions]
    if missing:
        raise InputError(
            f"no cell of the condition {missing[0]!r} in the data, which the split lists"
            f"{did_you_mean(missing[0], conditions)} ({len(missing)} of its conditions have none)"
        )
    return result


def condition_names(
    adata: AnnData | str | Path | Iterable[str],
    condition_key: str = "condition",
    control: str | Iterable[str] | None = None,
) -> list[str]:
    """Return the canonical names of the conditions, sorted, without control."""
    if isinstance(adata, AnnData | str | Path):
        found = set(canonical_labels(as_adata(adata), condition_key, control))
    else:
        found = {ConditionNames(control).canonical(name) for name in listed(adata, "conditions")}
    return sorted(found - {CONTROL})


# the kinds: (names, rng, test_fraction, val_fraction, held_out) → train, val, test, subgroups


def _random_condition(names: list[str], rng: np.random.Generator, test: float, val: float, _: str | None) -> Split:
    rest, held = draw(names, test, rng)
    train, validation = draw(rest, val, rng)
    return {"train": train, "val": validation, "test": held, "subgroups": {"random_condition": held}}


def _leave_one_out(names: list[str], rng: np.random.Generator, _: float, val: float, held_out: str | None) -> Split:
    if held_out not in names:
        hint = did_you_mean(str(held_out), names)
        raise InputError(f"held_out {held_out!r} is no condition of the data{hint}; it has {', '.join(names[:5])}, …")
    train, validation = draw([name for name in names if name != held_out], val, rng)
    return {"train": train, "val": validation, "test": [held_out], "subgroups": {"leave_one_out": [held_out]}}


def _unseen_single(names: list[str], rng: np.random.Generator, test: float, val: float, _: str | None) -> Split:
    def hold_out(names: list[str], fraction: float) -> tuple[list[str], list[str]]:
        alone = _singles(names)
        genes = set(draw(sorted({*alone.values()}), fraction, rng)[1])  # at all their doses
        rest = [name for name in names if not genes & set(perturbed_genes(name))]
        return rest, [name for name, gene in alone.items() if gene in genes]

    rest, held = hold_out(names, test)
    train, validation = hold_out(rest, val)
    return {"train": train, "val": validation, "test": held, "subgroups": {"unseen_single": held}}


def _unseen_combo(names: list[str], rng: np.random.Generator, test: float, val: float, _: str | None) -> Split:
    singles = _singles(names)
    combos = {name: _genes_of(name) for name in names if name not in singles}
    rest, tested = draw(list(dict.fromkeys(combos.values())), test, rng)
    chosen = draw(rest, val, rng)[1]
    held = [name for name, genes in combos.items() if genes in tested]
    validation = [name for name, genes in combos.items() if genes in chosen]
    train = [name for name in names if name not in held and name not in validation]
    alone = set(_singles(train).values())
    subgroups: dict[str, list[str]] = {}
    for name in held:
        seen = sum(gene in alone for gene in perturbed_genes(name))
        subgroups.setdefault(f"seen_{seen}", []).append(name)
    return {"train": train, "val": validation, "test": held, "subgroups": dict(sorted(subgroups.items()))}


def _singles(names: list[str]) -> dict[str, str]:
    """Conditions that perturb one gene, and which."""
    return {name: genes[0] for name, genes in zip(names, map(perturbed_genes, names), strict=True) if len(genes) == 1}


def _genes_of(name: str) -> str:
    """What a condition perturbs, whatever the doses."""
    return SEPARATOR.join(sorted(perturbed_genes(name)))


def _simulation(names: list[str], rng: np.random.Generator, _test: float, _val: float, _: str | None) -> Split:
    rest, groups = _hold_out_genes(names, 0.75, 0.75, rng)
    train, val_groups = _hold_out_genes(rest, 0.9, 0.9, rng)
    validation, held = (sorted(chain(*found.values())) for found in (val_groups, groups))
    return {"train": train, "val": validation, "test": held, "subgroups": groups}


def _hold_out_genes(
    names: list[str], gene_share: float, combo_share: float, rng: np.random.Generator
) -> tuple[list[str], dict[str, list[str]]]:
    genes = sorted({gene for name in names for gene in perturbed_genes(name)})
    seen_genes = set(rng.choice(genes, int(len(genes) * gene_share), replace=False)) if genes else set()
    several = [name for name in names if len(perturbed_genes(name)) > 1]
    combos = list(dict.fromkeys(_genes_of(name) for name in several if seen_genes.issuperset(perturbed_genes(name))))
    in_training = set(rng.choice(combos, int(len(combos) * combo_share), replace=False)) if combos else set()
    kept, groups = list[str](), dict[str, list[str]]()
    for name in names:
        perturbed = perturbed_genes(name)
        seen = sum(gene in seen_genes for gene in perturbed)
        if seen == len(perturbed) and (seen == 1 or _genes_of(name) in in_training):
            kept.append(name)
        else:
            groups.setdefault("unseen_single" if len(perturbed) == 1 else f"combo_seen{seen}", []).append(name)
    return sorted(kept), dict(sorted(groups.items()))


_KINDS: dict[str, tuple[Callable[..., Split], str]] = {  # how it divides; what to do where that leaves a group empty
    "random_condition": (_random_condition, "use more conditions or smaller fractions"),
    "unseen_single": (_unseen_single, "it needs at least 3 singly perturbed genes; use random_condition"),
    "unseen_combo": (_unseen_combo, "it needs at least 2 combinations; use another kind, or smaller fractions"),
    "simulation": (_simulation, "it needs more genes and combinations; try another seed, or another kind"),
    "leave_one_out": (_leave_one_out, "use more conditions"),
    "unseen_line": (unseen_line, "hold out a line that has conditions, and leave others; raise seen_fraction"),
}


def _check_groups(result: Split, n_conditions: int) -> None:
    for part in SETS:
        if not result[part]:
            raise InputError(
                f"split {result['kind']!r} (seed {result['seed']}) of {n_conditions} conditions leaves the {part} "
                f"group empty: {_KINDS[result['kind']][1]}"
            )


def _is_name_list(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray | pd.Index) and all(isinstance(name, str) for name in value)
