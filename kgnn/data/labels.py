"""Labels of conditions that are probably not meant as they stand: found, told, and cleaned."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd
from anndata import AnnData

from kgnn.data.conditions import SEPARATOR, ConditionNames, perturbed_genes, read_part
from kgnn.errors import DataWarning, InputError
from kgnn.names import ENOUGH, as_names, listed, names_in

SEPARATORS = (",", ";", "|", "/", "&", ":", "~", "_", "-", " ")
LIKE_CONTROL = re.compile(
    r"(non|not?)?[-_. ]?(targett?ing|target)([-_. ]?(control|ctrl))?|safe([-_. ]?(targett?ing|target|harbou?r))?"
    r"|ntc?|neg(ative)?([-_. ]?(control|ctrl|ctl))?|(control|ctrl|ctl)s?|aavs1|rosa26|ccr5[-_]?safe|intergenic|inter"
    r"|scr|scrambled?|luc|luciferase|e?gfp|m?cherry|rfp|bfp|lacz|mock|dmso|vehicle|unperturbed|unmodified|untreated"
    r"|wt|wild[-_ ]?type|empty([-_ ]?vector)?|ev|no[-_ ]?(guide|perturbation|target|grna|sgrna)",
    re.IGNORECASE,
)
NUMBERED = re.compile(r"[-_. ]?(sg|g|grna|sgrna|guide|rep)?[-_. ]?\d+([-_.]\d+)*", re.IGNORECASE)
MISSING = re.compile(
    r"nan|none|nat|n/?a|<na>|null|nil|[-*?.]+|unknown|unassigned|unmapped|ambiguous|multiplet|doublet|multiple|blank|",
    re.IGNORECASE,
)
GUIDE = re.compile(  # the ending of a guide; a mere number after - or . may be a part of a gene's name
    r"(?P<sure>[-_.:| ]((sg|g|grna|sgrna|guide|crrna|sh|shrna|oligo|pos)[-_.]?\d{1,4}|P\dP\d|[ACGT]{17,24})|_\d{1,4}"
    r"|_P\d|[-_ ](ko|kd|oe|crispr[aio]?))|[-.:]\d{1,3}|\(\d+\)",
    re.IGNORECASE,
)
BEFORE = re.compile(r"(sg|g|grna|sh|si|ko|kd|oe|crispr[aio]?)[-_ ]?", re.IGNORECASE)
GUIDE_ALONE = re.compile(r"(sg|g|grna|sgrna|guide|sh|shrna)?[-.]?\d{1,4}|P\dP\d|[ACGT]{17,24}", re.IGNORECASE)


class Doubt(NamedTuple):
    """A part of a label that names no known gene: its cells, why, and the option of `parse_conditions` that helps."""

    part: str
    cells: int
    why: str
    option: str
    value: str


def parse_conditions(
    labels: Iterable[Any],
    *,
    separator: str | Iterable[str] = SEPARATOR,
    guides: bool | str = False,
    controls: str | Iterable[str] = (),
    missing: str | Iterable[str] = (),
    genes: Iterable[str] | None = None,
) -> pd.Series:
    """Clean labels of conditions: `GENE1_sg2,GENE7` → `GENE1+GENE7`, `NTC_3` → `control`, `nan` → missing.

    Args:
        labels: a column of obs, or a list; the index is kept.
        separator: the text, or texts, that join genes in a label, besides `+`.
        guides: True takes the usual endings of guides off (`_sg1`, `-g2`, `_3`, `_P1P2`, a spacer's sequence; `-1` and
            `.2`, and what stands before a gene, where the rest is among `genes`); or a regular expression of what to
            take off.
        controls: labels of control cells besides the usual ones; `*` stands for anything (`NTC*`, `safe-*`).
        missing: labels that stand for a missing value, likewise.
        genes: names of genes; a part that differs from one in its case alone becomes it.

    Returns:
        Series of `control`, `A`, `A+B` (in alphabetical order), and None where nothing is known: drop those cells.

    Raises:
        InputError: a regular expression that is none; a label of which nothing is left.
    """
    series = labels if isinstance(labels, pd.Series) else pd.Series(listed(labels, "labels"), dtype=object)
    joins, unknown, other = (
        [value] if isinstance(value, str) else listed(value, option)
        for option, value in {"separator": separator, "missing": missing, "controls": controls}.items()
    )
    names, known = ConditionNames(), ConditionNames()
    gene_set = set() if genes is None else set(map(str, genes))
    by_case = {gene.upper(): gene for gene in sorted(gene_set, reverse=True)}
    try:
        ending = GUIDE if guides is True else re.compile(guides) if guides else None
    except re.error as error:
        raise InputError(f"guides={guides!r} is no regular expression: {error}") from None

    def is_control(text: str) -> bool:
        return known.is_control(text) or (SEPARATOR not in text and _matches(text, other))

    def clean(part: str, alone: bool) -> str:
        if is_control(part) or (not alone and part not in gene_set and is_like_control(part)):
            return "control"
        if ending is not None and part not in gene_set:
            part = without_guide(part, gene_set) if guides is True else ending.sub("", part)
        part = part if part in gene_set else by_case.get(part.upper(), part)
        return "control" if is_control(part) else part

    def clean_part(text: str, alone: bool) -> str:
        part = read_part(text)
        name = clean(part.name, alone)
        return str(part._replace(name=name)) if name and name != "control" else name

    def parse(label: str) -> str | None:
        if _matches(label, unknown):
            return None
        if is_control(label):
            return "control"
        text = without_guide(label, gene_set) if guides is True and label not in gene_set else label
        for join in joins:
            text = text.replace(join, SEPARATOR) if text not in gene_set else text
        pieces = [part.strip() for part in text.split(SEPARATOR)]
        if guides is True and len(pieces) > 1:  # `A_sg1_B_sg2`, split at `_`
            pieces = [part for part in pieces if part in gene_set or not GUIDE_ALONE.fullmatch(part)] or pieces
        parts = [clean_part(part, len(pieces) == 1) for part in pieces]
        if not all(parts):
            raise InputError(f"condition {label!r}: nothing is left of a part; narrow separator= or guides=")
        return names.canonical(SEPARATOR.join(parts)) or "control"

    texts = as_names(series.astype(object).to_numpy())
    found = {text: parse(text) for text in pd.unique(texts) if text is not None}
    return pd.Series([found.get(text) for text in texts], index=series.index, name=series.name, dtype=object)


def _matches(text: str, patterns: Iterable[str]) -> bool:
    """Whether a text is one of some, in which `*` stands for anything; alone it is itself."""
    return any(
        text == pattern or (len(pattern) > 1 and re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text))
        for pattern in patterns
    )


def without_guide(part: str, genes: Collection[str]) -> str:
    """A name without the ending, or the beginning, of its guide."""
    for start in range(1, len(part)):
        ending = GUIDE.fullmatch(part, start)
        if ending is not None and (ending["sure"] or part[:start] in genes):
            return part[:start]
    before = BEFORE.match(part)
    return part[before.end() :] if before is not None and part[before.end() :] in genes else part


def is_like_control(part: str) -> bool:
    """Whether a word is one of those that are written for control cells, also with a number behind it."""
    ends = [len(part), *(start for start in range(2, len(part)) if NUMBERED.fullmatch(part, start))]
    return any(LIKE_CONTROL.fullmatch(part, 0, end) for end in ends)


def doubts(
    cells: Mapping[str, int], names: ConditionNames, genes: Collection[str], graph: Collection[str] | None = None
) -> list[Doubt]:
    """Hold every part of every label against known genes and words for control.

    Without a graph a gene that is not measured may well be meant; with one also those parts are doubted for which there
    is no likely reason, unless they are most: then the graph's coverage is the matter.

    Args:
        cells: label → number of its cells.
        names: which labels are control.
        genes: the measured genes; graph: those of a graph.
    """
    counts: dict[str, int] = {}
    for label, number in cells.items():
        for part in perturbed_genes(names.canonical(label)):
            counts[part] = counts.get(part, 0) + number
    genes = {*genes, *(graph or ())}
    unknown = [part for part in counts if part not in genes]
    by_case = {gene.upper(): gene for gene in genes} if unknown else {}
    found, others = [], []
    for part in unknown:
        why = _why(part, names, genes, counts.keys() - {part} if len(unknown) < 1_000 else set(), by_case)
        if why is not None:
            found.append(Doubt(part, counts[part], *why))
        else:
            others.append(Doubt(part, counts[part], "neither measured nor in the graph", "", ""))
    return found + (others if graph and len(others) <= (1 - ENOUGH) * len(counts) else [])


def _why(
    part: str, names: ConditionNames, genes: Collection[str], others: Collection[str], by_case: Mapping[str, str]
) -> tuple[str, str, str] | None:
    """Why a part names no gene, and the option of `parse_conditions` with its value; None where nothing is likely."""
    if MISSING.fullmatch(part):
        return "a missing value as text?", "missing", part
    if is_like_control(part):
        return "a kind of control?", "controls", part
    if part.upper() in by_case:
        return f"{by_case[part.upper()]} in another case?", "genes", ""

    def means(piece: str) -> bool:
        return piece in genes or piece in others or names.is_control(piece) or is_like_control(piece)

    for separator in SEPARATORS:
        pieces = [piece.strip() for piece in part.split(separator)]
        if len(pieces) > 1 and all(piece and means(piece) for piece in pieces):
            return f"genes joined by {separator!r}?", "separator", separator
    stem = without_guide(part, genes)
    if stem != part and means(stem):
        return f"a guide of {stem}?", "guides", ""
    return None


def warn_of_labels(found: list[Doubt], column: str) -> None:
    """One `DataWarning` that lists what names no gene, how many cells, the likely reason and what to do."""
    if not found:
        return
    found = sorted(found, key=lambda doubt: -doubt.cells)
    told = ", ".join(f"{doubt.part!r} ({doubt.cells} cells: {doubt.why})" for doubt in found[:5])
    remedy = remedy_of(found, column)
    warnings.warn(
        f"obs[{column!r}]: {len(found)} names of perturbed genes in {sum(doubt.cells for doubt in found)} cells are no "
        f"gene that is known: {told}{', …' if len(found) > 5 else ''}{remedy}",
        DataWarning,
        stacklevel=4,
    )


def remedy_of(found: Iterable[Doubt], column: str) -> str:
    """The call of `parse_conditions` that cleans the labels, as the end of a message; "" where none would."""
    values: dict[str, list[str]] = {}
    for doubt in found:
        values.setdefault(doubt.option, []).append(doubt.value)
    written = {
        "separator": lambda seen: repr(seen[0]) if len(set(seen)) == 1 else repr(sorted(set(seen))),
        "guides": lambda _: "True",
        "controls": lambda seen: repr(seen[:5]),
        "missing": lambda seen: repr(seen[:5]),
        "genes": lambda _: "adata.var_names",
    }
    if {"separator", "guides"} & values.keys():
        values.setdefault("genes", [""])  # what is a gene as it stands stays one
    options = ", ".join(f"{name}={write(values[name])}" for name, write in written.items() if name in values)
    if not options:
        return "; check their names, or map them (kg.map_genes)" if values else ""
    return (
        f"; clean them: adata.obs[{column!r}] = kgnn.data.parse_conditions(adata.obs[{column!r}], {options})"
        f"{', and drop the cells without a label' if 'missing' in values else ''}"
    )


def canonical_labels(
    adata: AnnData,
    condition_key: str,
    control: Any,
    graph: Collection[str] | None = None,
) -> pd.Series:
    """Return each cell's canonical condition name, '' for control.

    Every part of every label is held against the measured genes, the genes of `graph` and words for control; one
    `DataWarning` lists what names none of them, see `doubts`.

    Raises:
        InputError: no such column, cells without a label.
    """
    canonical, found = read_labels(adata, condition_key, control, graph)
    warn_of_labels(found, condition_key)
    return canonical


def read_labels(
    adata: AnnData,
    condition_key: str,
    control: Any,
    graph: Collection[str] | None = None,
) -> tuple[pd.Series, list[Doubt]]:
    """As `canonical_labels`; what would be warned of comes back."""
    labels, names = names_in(adata.obs, condition_key, "condition_key"), ConditionNames(control)
    cells = labels.value_counts().to_dict()
    found = doubts(cells, names, adata.var_names.astype(str), graph)
    return labels.map({label: names.canonical(label) for label in cells}), found
