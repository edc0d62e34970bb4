"""What looks wrong in a graph: names that nobody else uses, edges told twice, nodes that hang loose."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from kgnn.graph.biolink import inverse, model
from kgnn.graph.edges import is_symmetric, pair_keys, sides, turned
from kgnn.graph.tables import GraphTables
from kgnn.names import as_names
from kgnn.parts import did_you_mean

TWICE = 0.9  # share of the smaller relation's edges that the other holds turned round, above which it says nothing new
MINUS = re.compile(r"(?<=\w)-(?=\s|$)")  # CD4- is not CD4
BETWEEN_DIGITS = re.compile(r"(?<=\d)[^\w+−]+(?=\d)")  # NKX2-1 is not NKX21
MARKS = re.compile(r"[^\w+−|]+|_")
Finding = tuple[str, str, int, str, str]
COLUMNS = ["kind", "where", "count", "examples", "remedy"]


def validate(graph: GraphTables) -> pd.DataFrame:
    """Return what looks wrong in the graph, one row a finding; no row where nothing does. Nothing is changed.

    Kinds:
        `unknown category`, `unknown predicate`: a node type or a relation that the Biolink Model (Unni et al., Clin
        Transl Sci 2022; the version stands in the remedy) does not list; fine for kgnn, not for exchange.
        `inverse`: two relations that hold the same edges turned round, by Biolink (`regulates`, `regulated_by`) or by
        at least 90 % of the smaller one's edges.
        `no name`: nodes with edges but without a label, in a type whose other nodes have some.
        `no edge`: nodes without any edge.
        `same name`: nodes of a type whose names, or labels, differ in case, blanks and punctuation alone (`TNF alpha`,
        `TNF-alpha`).
        `obsolete`: terms whose label begins with `obsolete`, or that an ontology in the graph sends elsewhere.

    Returns:
        A table `kind, where` (node type or relation), `count` (nodes, or edges), `examples`, `remedy`.

    Example:
        >>> kg.validate()[["kind", "where", "count"]]
    """
    found = [*_categories(graph), *_predicates(graph), *_inverses(graph), *_loose(graph)]
    for kind, table in graph.nodes.items():
        labels = table.get("label")
        found += [*_same_names(kind, table.index, labels), *_obsolete(graph, kind, table)]
    return pd.DataFrame(found, columns=COLUMNS)


def _categories(graph: GraphTables) -> Iterator[Finding]:
    known = {_squashed(name) for name in model()["categories"]}
    for kind, table in graph.nodes.items():
        if _squashed(kind) not in known:
            near = did_you_mean(kind, model()["categories"])
            remedy = f"Biolink {model()['version']} has no such category{near}"
            yield "unknown category", kind, len(table), _some(table.index), remedy


def _predicates(graph: GraphTables) -> Iterator[Finding]:
    for relation, table in graph.edges.items():
        name = relation[1].removeprefix("rev_")
        if name not in model()["predicates"]:
            near = did_you_mean(name, model()["predicates"])
            remedy = f"Biolink {model()['version']} has no such predicate{near}"
            yield "unknown predicate", "–".join(relation), len(table), "", remedy


def _inverses(graph: GraphTables) -> Iterator[Finding]:
    keys = {relation: np.unique(pair_keys(table)) for relation, table in graph.edges.items() if len(table)}
    symmetric = {relation for relation in keys if relation[0] == relation[2] and is_symmetric(graph.edges[relation])}
    for first, second in combinations(keys, 2):
        named = inverse(first[1]) == second[1]
        if first[::2] != second[::-2] or (not named and symmetric & {first, second}):
            continue
        one, other = keys[first], turned(keys[second])
        both = np.intersect1d(one, other, assume_unique=True)
        if len(both) and (named or len(both) >= TWICE * min(len(one), len(other))):
            names = [graph.nodes[kind].index for _, kind in sides(first)]
            some = _some(f"{names[0][key >> 32]}→{names[1][key & 0xFFFFFFFF]}" for key in both[:3])
            where = f"{'–'.join(first)} and {'–'.join(second)}"
            remedy = "keep one of them; reverse() or undirected() makes the other where messages shall pass both ways"
            yield "inverse", where, len(both), some, remedy


def _loose(graph: GraphTables) -> Iterator[Finding]:
    linked = {kind: np.zeros(len(table), bool) for kind, table in graph.nodes.items()}
    for relation, edges in graph.edges.items():
        for side, kind in sides(relation):
            linked[kind][edges[side].to_numpy()] = True
    for kind, table in graph.nodes.items():
        if "label" in table:
            missing = linked[kind] & np.array([name is None for name in as_names(table["label"])], bool)
            if missing.any() and not missing.all():
                remedy = "give the table of nodes that names them, of the same release as the edges"
                yield "no name", kind, int(missing.sum()), _some(table.index[missing]), remedy
        alone = ~linked[kind]
        if alone.any():
            remedy = "subset() or largest_component() leaves them out"
            yield "no edge", kind, int(alone.sum()), _some(table.index[alone]), remedy


def _same_names(kind: str, index: pd.Index, labels: pd.Series | None) -> Iterator[Finding]:
    names = as_names(index if labels is None else labels)
    alike: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if name is not None and (key := _folded(name)):
            alike.setdefault(key, []).append(row)
    groups = [rows for rows in alike.values() if len(rows) > 1]
    if groups:
        some = _some(" = ".join(str(names[row]) if labels is None else f"{names[row]} ({index[row]})" for row in rows)
                     for rows in groups[:3])  # fmt: skip
        remedy = "if they are the same, make them one: map_genes, map_nodes, or one spelling in the source"
        yield "same name", kind, sum(map(len, groups)), some, remedy


def _obsolete(graph: GraphTables, kind: str, table: pd.DataFrame) -> Iterator[Finding]:
    sent: dict[str, str] = {}
    for other in graph.nodes.values():
        for column in ("considered_for", "replaces"):
            if column in other:
                for term, joined in zip(other.index, as_names(other[column]), strict=True):
                    sent |= {old: str(term) for old in (joined or "").split("|") if old}
    labels = as_names(table["label"]) if "label" in table else np.full(len(table), None)
    old = [name for name, label in zip(table.index, labels, strict=True)
           if name in sent or (label or "").lower().startswith("obsolete ")]  # fmt: skip
    if old:
        some = _some(f"{name} (now {sent[name]})" if name in sent else name for name in old[:3])
        yield "obsolete", kind, len(old), some, "rename them by the ontology's replaced_by, or leave them out"


def _folded(name: str) -> str:
    """A name without case, blanks and punctuation, but with what tells names apart."""
    text = BETWEEN_DIGITS.sub("|", MINUS.sub("−", name.casefold()))
    return MARKS.sub("", text)


def _squashed(name: str) -> str:
    return name.replace("_", "")


def _some(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name, _ in zip(names, range(3), strict=False))
