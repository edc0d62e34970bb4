"""Splits of a graph's edges into those to learn from and those held out; which of the first give the second away."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kgnn.errors import DataWarning, InputError
from kgnn.graph.edges import Relation, pair_keys, sides, triple, turned
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.operations import keep_edges
from kgnn.names import as_names, listed
from kgnn.parts import check_number, expect

KINDS = ("random", "node", "source", "time")
IMPLIES = 0.8  # Akrami et al., SIGMOD 2020, call relations of which so large a share overlaps redundant
LEAK_COLUMNS = ["relation", "through", "kind", "edges"]


class EdgeSplit(NamedTuple):
    """Three graphs over the same nodes: `train` to learn from, `val` to choose the epoch by, `test` to be scored on."""

    train: KnowledgeGraph
    val: KnowledgeGraph
    test: KnowledgeGraph


def split_edges(
    kg: KnowledgeGraph,
    kind: str = "random",
    *,
    relations: Iterable[Relation] | None = None,
    held_out: str | Sequence[str] | None = None,
    dates: pd.DataFrame | None = None,
    test_fraction: float = 0.1,
    val_fraction: float = 0.1,
    seed: int = 0,
) -> EdgeSplit:
    """Hold out edges; a pair of nodes is held out with all its origins, and in both directions of a symmetric relation.

    Training edges that give a held-out one away (`find_leaks`) are dropped, and validation edges that give a test edge
    away; the last note of each graph's history says how many. The same seed gives the same split.

    Args:
        kind: what is held out of each relation.
            `random`: any edges.
            `node`: all edges, of the relations named, of nodes drawn from each type; their other relations stay.
            `source`: what the origins `held_out` say and no other does; validation edges are any of the others.
            `time`: the newest by `dates`, before them the validation edges. No date is cut in two; without one an edge
            belongs to training.
        relations: those of which edges are held out; default all. The others belong to training.
        held_out: origins, for `source`.
        dates: for `time`: columns `source`, `target` and `date` (numbers such as years, or what pandas reads as dates).
            Of several dates of a pair the first counts.
        test_fraction, val_fraction: shares of the edges (of the nodes, for `node`; `source` takes the second alone).

    Raises:
        InputError: an unknown kind, relation or origin; dates that are none or of no edge; nothing held out.
    """
    if kind not in KINDS:
        raise InputError(f"unknown kind of split {kind!r}; choose one of {', '.join(KINDS)}")
    for name, share in (("test_fraction", test_fraction), ("val_fraction", val_fraction)):
        check_number(share, name, 0, 1)
    check_number(seed, "seed", 0, whole=True)
    if (kind == "source") != (held_out is not None):
        raise InputError("a split by source needs held_out=, names of origins; other kinds take none")
    if (kind == "time") != (dates is not None):
        raise InputError("a split by time needs dates=, a table of source, target and date; other kinds take none")
    if test_fraction + val_fraction >= 1:
        raise InputError(
            f"test_fraction + val_fraction = {test_fraction + val_fraction:g} leaves nothing to learn from"
        )
    chosen = kg.relations if relations is None else [triple(relation) for relation in listed(relations, "relations")]
    origins = {held_out} if isinstance(held_out, str) else set(held_out or ())
    if unknown := origins - set(kg.origins):
        raise InputError(f"no source {min(unknown)!r} in the graph; it has {', '.join(kg.origins)}")
    rng = np.random.default_rng(seed)
    shares = test_fraction, val_fraction
    tables = {relation: kg.tables.table(relation) for relation in chosen}
    nodes = _draw_nodes(kg, tables, shares, rng) if kind == "node" else {}
    when = None if dates is None else _dated(kg, chosen, dates)
    part: dict[Relation, np.ndarray] = {}  # of each row: 0 train, 1 val, 2 test
    for relation, table in tables.items():
        if kind == "node":
            ends = (
                nodes[name][table[side].to_numpy()] for name, side in ((relation[0], "source"), (relation[2], "target"))
            )
            part[relation] = np.maximum(*ends)
            continue
        units = _units(relation, table)
        if when is not None:
            part[relation] = _newest(units, when[relation], shares)
            continue
        other = ~table["origin"].isin(origins).to_numpy()
        free = np.unique(units[other])
        found = _draw(len(free), (0, val_fraction) if kind == "source" else shares, rng)
        place = np.searchsorted(free, units).clip(max=max(len(free) - 1, 0))
        part[relation] = np.where(np.isin(units, free), found[place] if len(free) else 2, 2)
    if not any((rows == 2).any() for rows in part.values()):
        raise InputError("no edge is held out; take a larger test_fraction, other relations, another source or dates")
    train, val, test = (_of_part(kg, part, number, kind, seed) for number in range(3))
    every = _pairs(kg)
    train, val = (_without(seen, _leaks(seen, held, every)) for seen, held in ((train, [val, test]), (val, [test])))
    return EdgeSplit(train, val, test)


def _draw(n: int, shares: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Put n things into part 2 (test), 1 (validation) and 0: [n] int8."""
    test, val = (round(share * n) for share in shares)
    return rng.permutation(np.repeat(np.array([2, 1, 0], np.int8), [test, val, n - test - val]))


def _dated(kg: KnowledgeGraph, chosen: list[Relation], dates: Any) -> dict[Relation, pd.Series]:
    """Relation → first date of each of its pairs, by `pair_keys`."""
    expect(dates, pd.DataFrame, "dates")
    if missing := [name for name in ("source", "target", "date") if name not in dates]:
        raise InputError(f"dates lack the column {missing[0]!r}; they have {', '.join(map(str, dates.columns))}")
    date = dates["date"]
    if not pd.api.types.is_datetime64_any_dtype(date):
        numbers = pd.to_numeric(date, errors="coerce")
        if (numbers.notna() == date.notna()).all():
            date = numbers
    if not pd.api.types.is_numeric_dtype(date):
        try:
            date = pd.to_datetime(date)
        except (ValueError, TypeError) as error:
            raise InputError(f"dates: {str(error).splitlines()[0]}; give numbers such as years, or ISO dates") from None
    found, known = {}, np.zeros(len(dates), bool)
    for relation in chosen:
        ends = {side: kg.tables.nodes[kind].index.get_indexer(as_names(dates[side])) for side, kind in sides(relation)}
        keys = pair_keys(pd.DataFrame(ends))
        there = np.isin(keys, pair_keys(kg.tables.table(relation))) & (ends["source"] >= 0) & (ends["target"] >= 0)
        there &= date.notna().to_numpy()
        known |= there
        found[relation] = pd.Series(date[there].to_numpy(), keys[there]).groupby(level=0).min()
    if not known.any():
        raise InputError("no date is of an edge of the relations that are split; source and target are names of nodes")
    if not known.all():
        number = int((~known).sum())
        text = f"{number} of {len(known)} dates are missing or of no edge of the relations that are split"
        warnings.warn(f"{text}; they are left out", DataWarning, stacklevel=3)
    return found


def _newest(units: np.ndarray, when: pd.Series, shares: tuple[float, float]) -> np.ndarray:
    """Part of each row: the newest dates are 2 until the first share of the dated units is full, the next 1."""
    keys = when.index.to_numpy()
    first = pd.Series(when.to_numpy(), np.where(np.isin(keys, units), keys, turned(keys))).groupby(level=0).min()
    values, number = np.unique(first.to_numpy(), return_inverse=True)
    counts = np.bincount(number, minlength=len(values))
    newer = len(first) - np.cumsum(counts)  # units that are newer than each date
    test, val = (round(share * len(first)) for share in shares)
    part = np.where(newer < test, 2, np.where(newer < test + val, 1, 0)).astype(np.int8)
    found = pd.Series(part[number], first.index).reindex(units)
    return found.fillna(0).to_numpy(np.int8)


def _draw_nodes(
    kg: KnowledgeGraph, tables: dict[Relation, pd.DataFrame], shares: tuple[float, float], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Node type → part of each node; those that no edge touches are not drawn."""
    parts = {}
    for kind in kg.node_types:
        sides = [
            t[side] for r, t in tables.items() for side, end in (("source", r[0]), ("target", r[2])) if end == kind
        ]
        touched = np.unique(np.concatenate(sides)) if sides else np.zeros(0, np.int64)
        parts[kind] = np.zeros(len(kg.tables.nodes[kind]), np.int8)
        parts[kind][touched] = _draw(len(touched), shares, rng)
    return parts


def _units(relation: Relation, table: pd.DataFrame) -> np.ndarray:
    """A number a row that is equal for rows that must be held out together."""
    keys = pair_keys(table)
    if relation[0] == relation[2] and _share(turned(keys), keys) >= IMPLIES:
        keys = np.minimum(keys, turned(keys))
    return keys


def _of_part(kg: KnowledgeGraph, part: dict[Relation, np.ndarray], number: int, kind: str, seed: int) -> KnowledgeGraph:
    def choose(relation: Relation, table: pd.DataFrame) -> np.ndarray:
        return part[relation] == number if relation in part else np.full(len(table), number == 0)

    name = ("train", "val", "test")[number]
    return KnowledgeGraph.of(keep_edges(kg.tables, choose, "split_edges", kind=kind, seed=seed, part=name))


def _without(kg: KnowledgeGraph, leaks: list[_Leak]) -> KnowledgeGraph:
    bad: dict[Relation, list[np.ndarray]] = {}
    for leak in leaks:
        bad.setdefault(leak.through, []).append(leak.pairs)
    if not bad:
        return kg

    def choose(relation: Relation, table: pd.DataFrame) -> np.ndarray:
        return (
            ~np.isin(pair_keys(table), np.concatenate(bad[relation])) if relation in bad else np.ones(len(table), bool)
        )

    return KnowledgeGraph.of(keep_edges(kg.tables, choose, "drop_leaks"))


class _Leak(NamedTuple):
    relation: Relation
    through: Relation
    kind: str
    pairs: np.ndarray  # of `through`


def find_leaks(train: KnowledgeGraph, held: KnowledgeGraph) -> pd.DataFrame:
    """Say which training edges give held-out ones away.

    A relation gives another (or itself) away where at least 80 % of its pairs stand in the other too, turned round
    (`inverse`; `symmetric` within one relation) or not (`duplicate`): the redundant relations of Akrami et al.
    (SIGMOD 2020). The same pair in the same relation is a `duplicate` however few there are.

    Returns:
        A row a pair of relations: `relation` (held out), `through`, `kind`, `edges` (how many held-out ones).

    Raises:
        InputError: the graphs have not the same nodes in the same order, as the parts of a split have.
    """
    if not same_nodes(train, held):
        raise InputError("the two graphs have other nodes; make both of one graph with kgnn.graph.split_edges")
    leaks = _leaks(train, [held], _pairs(train, held))
    rows = [("–".join(leak.relation), "–".join(leak.through), leak.kind, len(leak.pairs)) for leak in leaks]
    return pd.DataFrame(rows, columns=LEAK_COLUMNS)


def same_nodes(one: KnowledgeGraph, other: KnowledgeGraph) -> bool:
    """Whether both have the same nodes in the same order."""
    a, b = one.tables.nodes, other.tables.nodes
    return list(a) == list(b) and all(a[kind].index.equals(b[kind].index) for kind in a)


def _leaks(seen: KnowledgeGraph, held: list[KnowledgeGraph], every: dict[Relation, np.ndarray]) -> list[_Leak]:
    """The edges of `seen` that give held-out ones away, by what relations imply each other among `every` pair."""
    leaks, learned = [], _pairs(seen)
    for relation, out in _pairs(*held).items():
        for through, pairs in learned.items():
            if through[::2] == relation[::2]:
                given = pairs[np.isin(pairs, out)]
                if len(given) and (through == relation or _share(every[through], every[relation]) >= IMPLIES):
                    leaks.append(_Leak(relation, through, "duplicate", given))
            if through[::2] == relation[::-2]:
                given = pairs[np.isin(turned(pairs), out)]
                if len(given) and _share(turned(every[through]), every[relation]) >= IMPLIES:
                    leaks.append(_Leak(relation, through, "symmetric" if through == relation else "inverse", given))
    return leaks


def _pairs(*graphs: KnowledgeGraph) -> dict[Relation, np.ndarray]:
    """The pairs that each relation links in any of the graphs."""
    found: dict[Relation, list[np.ndarray]] = {}
    for kg in graphs:
        for relation, table in kg.tables.edges.items():
            found.setdefault(relation, []).append(pair_keys(table))
    return {relation: np.unique(np.concatenate(keys)) for relation, keys in found.items()}


def _share(these: np.ndarray, of: np.ndarray) -> float:
    """How many of `these` stand among `of`."""
    return float(np.isin(these, of).mean()) if len(these) else 0.0
