"""What a fit reads: the cells, the split, which genes the graph knows, what a perturbation does."""

from __future__ import annotations

import logging
import warnings
from collections import Counter, defaultdict
from typing import Any

import pandas as pd
from anndata import AnnData

from kgnn.data.conditions import CONTROL, ConditionNames, perturbed_genes, read_part
from kgnn.data.leaks import warn_of_leaks
from kgnn.data.lines import fitting_cells
from kgnn.data.screen import Screen, read_screen
from kgnn.data.splits import SETS, Split, check_split
from kgnn.errors import DataWarning, InputError
from kgnn.graph import KnowledgeGraph
from kgnn.graph.coverage import Coverage, check_coverage
from kgnn.models.perturbation.nodes import other_nodes
from kgnn.models.perturbation.predictions import some
from kgnn.models.perturbation.predictor import Strength, Training
from kgnn.names import as_names

logger = logging.getLogger("kgnn")

TYPE = "perturbation_type"
KNOCK_OUT, KNOCK_DOWN, ACTIVATION = -1.0, -0.9, 1.0  # CRISPRi leaves about a tenth (Replogle et al., Cell 2022)
TYPES = {
    **dict.fromkeys(("ko", "knockout", "crisprko", "crispr", "crisprcas9", "cas9", "deletion", "null"), KNOCK_OUT),
    **dict.fromkeys(("kd", "knockdown", "crispri", "rnai", "sirna", "shrna", "degron"), KNOCK_DOWN),
    **dict.fromkeys(("oe", "overexpression", "crispra", "activation", "orf", "gainoffunction", "ca"), ACTIVATION),
}


def read_training(
    adata: AnnData,
    split: Split | None,
    kg: KnowledgeGraph | None,
    *,
    types: bool = False,
    takes_missing: bool = False,
    any_node: bool = False,
    **names: Any,
) -> tuple[Training, dict[str, Coverage]]:
    """Read what a predictor learns from, and how many genes the graph knows, measured and perturbed by the split.

    Args:
        adata: the screen.
        split: as `read_split` gives it; None trains on all conditions.
        kg: the knowledge, None where none is used.
        types: whether what a perturbation does is read from `obs["perturbation_type"]`.
        takes_missing: whether it learns from effects of which some are missing.
        any_node: whether nodes of all types can be perturbed; else whatever is perturbed counts as a gene.
        **names: `condition_key, control, group_key`, see `kgnn.data.read_screen`.

    Cells of test conditions among those that the graph was made from are told, `kgnn.data.leaks.warn_of_leaks`.

    Raises:
        InputError: see `read_screen`, `check_split`, `check_coverage`; a graph that shares no gene with the data.
    """
    labels = {key: names[key] for key in ("condition_key", "control")}
    warn_of_leaks({} if kg is None else kg.cells, adata, split, **labels, stacklevel=4)
    if split is not None:
        adata = fitting_cells(adata, split, names["condition_key"], names["control"])
    known = set() if kg is None else set(kg.nodes("gene").index)
    no_genes = set() if kg is None else other_nodes(kg)
    others = no_genes if any_node else set()
    screen = read_screen(adata, graph=known | no_genes, **names)
    parts = {"train": screen.conditions, "val": []}
    if split is not None:
        parts = check_split(split, screen.conditions, names["control"])
    screen = screen.filled(parts["train"], told=not takes_missing)
    measured = set(screen.genes)
    if known and not known & (screen.perturbed | measured) and not others & screen.perturbed:
        raise InputError(
            f"the graph shares no gene with the data: it has {some(known)}, the data {some(measured)}; "
            "check species and gene namespace"
        )
    conditions = [name for part in SETS for name in parts[part]] if split is not None else screen.conditions
    perturbed = {gene for name in conditions for gene in perturbed_genes(name)}
    perturbed -= _warn_of_no_genes(perturbed & no_genes - others - known - measured, len(perturbed))
    coverage = {}
    for side, genes in {"measured": measured, "perturbed": perturbed}.items() if known else ():
        coverage[side] = check_coverage(genes, known | others, f"{side} genes", "the graph", none=False)
    nodes = pd.Index(sorted(known | measured | (screen.perturbed - others)), dtype=object)
    strength = read_types(adata, screen, names["condition_key"], names["control"]) if types else KNOCK_OUT
    return Training(screen, parts["train"], parts["val"], nodes, kg, strength), coverage


def read_types(adata: AnnData, screen: Screen, condition_key: str = "condition", control: Any = None) -> Strength:
    """What the perturbations do by `obs["perturbation_type"]`: a number, or one a gene; −1 where there is none.

    `KO`, `CRISPR`: −1; `CRISPRi`, `RNAi`: −0.9; `CRISPRa`, `OE`: 1. For a combination one word for all its genes, or
    one a gene joined by `+`, in the order of the label. It is told (logger `kgnn`) where it is not −1.
    """
    if TYPE not in adata.obs:
        return KNOCK_OUT
    words, perturbed = as_names(adata.obs[TYPE].astype(object).to_numpy()), screen.condition != CONTROL
    labels, names = adata.obs[condition_key].to_numpy(object)[perturbed], ConditionNames(control)
    cells = Counter(zip(labels, words[perturbed], strict=True))
    unknown: Counter[str] = Counter()
    votes: dict[str, Counter[float]] = defaultdict(Counter)
    for (label, word), number in cells.items():
        genes, parts = [read_part(part).gene for part in names.parts(label)], (word or "").split("+")
        for gene, part in zip(genes, parts if len(parts) == len(genes) else [word or ""] * len(genes), strict=True):
            value = TYPES.get("".join(letter for letter in part.lower() if letter.isalnum()))
            if value is None:
                unknown[part] += number
            else:
                votes[gene][value] += number
    if unknown:
        warnings.warn(
            f"obs[{TYPE!r}]: {sum(unknown.values())} cells are of a type that is not known ({some(unknown)}) and count "
            "as knock-outs; say what they do by strength=",
            DataWarning,
            stacklevel=4,
        )
    torn = sorted(gene for gene, found in votes.items() if len(found) > 1)
    if torn:
        warnings.warn(
            f"obs[{TYPE!r}]: {len(torn)} genes are perturbed in several ways ({some(torn)}) under one name; that of "
            "most cells counts for all. Model one type at a time, or give strength=",
            DataWarning,
            stacklevel=4,
        )
    strengths = {gene: found.most_common(1)[0][0] for gene, found in votes.items()}
    values = set(strengths.values()) | ({KNOCK_OUT} if unknown else set())
    if not values or values == {KNOCK_OUT}:
        return KNOCK_OUT
    counts = Counter(strengths.values())
    told = ", ".join(f"{value:g} for {number} genes" for value, number in counts.most_common())
    logger.warning("strength %s, by obs[%r]; strength= says otherwise", told, TYPE)
    return values.pop() if len(values) == 1 else strengths


def warn_of_lonely(genes: set[str], consequence: str) -> set[str]:
    """Name the perturbed genes of which a graph with edges says nothing, and return them."""
    if genes:
        message = f"{len(genes)} perturbed genes have no neighbour in the graph: {some(genes, 10)}; {consequence}"
        warnings.warn(message, DataWarning, stacklevel=3)
    return genes


def _warn_of_no_genes(names: set[str], total: int) -> set[str]:
    """Name what is perturbed and no gene but another node, for an encoder that takes genes alone, and return it."""
    if names:
        warnings.warn(
            f"the graph knows {len(names)} of the {total} perturbed names ({some(names)}) as nodes of other types, and "
            "this encoder takes genes alone; take encoder='hetero', or leave them out of the split",
            DataWarning,
            stacklevel=4,
        )
    return names


def warn_of_doses(conditions: list[str], encoder: str) -> None:
    """Tell conditions that differ in their doses alone, of an encoder that takes none."""
    alike = Counter(perturbed_genes(name) for name in conditions)
    number = sum(count for count in alike.values() if count > 1)
    if number:
        first = next("+".join(genes) for genes, count in alike.items() if count > 1)
        warnings.warn(
            f"{number} of {len(conditions)} conditions differ in their doses alone (of {first}, …), which encoder="
            f"{encoder!r} does not tell apart; take encoder='hetero'",
            DataWarning,
            stacklevel=3,
        )
