"""Edge tables as numbers: ends are row numbers of the node tables, one row a pair of nodes and origin.

Everything here works on whole columns, so that tens of millions of edges are a matter of seconds.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.graph.options import as_signs
from kgnn.graph.reading import as_numbers
from kgnn.names import as_names
from kgnn.parts import expect

COLUMNS = ["source", "target", "weight", "sign", "confidence", "origin"]
Relation = tuple[str, str, str]


def triple(relation: Any) -> Relation:
    """Return a relation as a tuple of three texts, or raise `InputError`."""
    parts = tuple(relation) if isinstance(relation, tuple | list) else ()
    if len(parts) != 3 or not all(isinstance(part, str) for part in parts):
        raise InputError(
            f"{relation!r}: a relation is a triple (source type, relation, target type), such as "
            "('gene', 'regulates', 'gene')"
        )
    return parts


def sides(relation: Relation) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the two columns of ends, each with the type of its nodes."""
    return ("source", relation[0]), ("target", relation[2])


def table_of(
    source: np.ndarray,
    target: np.ndarray,
    origin: str | pd.Categorical,
    weight: np.ndarray | float = 1.0,
    sign: np.ndarray | int = 0,
    confidence: np.ndarray | float = np.nan,
) -> pd.DataFrame:
    """Put columns together in the stored types; scalars hold for all edges."""
    n = len(source)
    if not isinstance(origin, pd.Categorical):
        expect(origin, str, "origin")
        origin = pd.Categorical.from_codes(np.zeros(n, np.int8), [origin])
    numbers = {"weight": (weight, np.float32), "sign": (sign, np.int8), "confidence": (confidence, np.float32)}
    return pd.DataFrame(
        {
            "source": np.asarray(source, np.int32),
            "target": np.asarray(target, np.int32),
            **{name: np.broadcast_to(np.asarray(x, kind), (n,)) for name, (x, kind) in numbers.items()},
            "origin": origin,
        },
        copy=False,
    )


def encode(nodes: Mapping[str, pd.DataFrame], relation: Relation, table: pd.DataFrame) -> pd.DataFrame:
    """Check an edge table of names and replace the names by row numbers.

    Of a negative weight the size is the weight, and its sign the edge's sign where there is no column of signs.
    """
    expect(table, pd.DataFrame, f"edges of {relation}")
    missing = [column for column in ("source", "target") if column not in table]
    if missing:
        raise InputError(f"edges of {relation} lack the column {missing[0]!r}; they have {', '.join(table.columns)}")
    ends = []
    for column, kind in sides(relation):
        if kind not in nodes:
            raise InputError(f"relation {relation} needs nodes of type {kind!r}; the graph has {', '.join(nodes)}")
        names = as_names(table[column])
        codes = nodes[kind].index.get_indexer(names)
        if (codes < 0).any():
            row = int(np.argmax(codes < 0))
            if (name := names[row]) is None:
                raise InputError(f"row {row} of the edges of {relation} has no {column}; name it or leave the row out")
            raise InputError(f"an edge of {relation} names the unknown {kind} {name!r}; add it to the nodes first")
        ends.append(codes)

    def edge(row: int) -> str:
        return f"edge {table['source'].iloc[row]}→{table['target'].iloc[row]} of {relation}"

    weight = as_numbers(table["weight"]) if "weight" in table else np.ones(len(table))
    if not np.isfinite(weight).all():
        row = int(np.argmin(np.isfinite(weight)))
        raise InputError(f"{edge(row)} has the weight {table['weight'].iloc[row]}; weights must be finite")
    named = table["origin"].astype(object).fillna("unnamed") if "origin" in table else ["unnamed"] * len(table)
    origin = pd.Categorical(named)
    sign = as_signs(table["sign"], edge) if "sign" in table else np.where(weight < 0, -1, 0)
    confidence = as_numbers(table["confidence"]) if "confidence" in table else np.full(len(table), np.nan)
    if "confidence" in table and (wrong := np.isnan(confidence) & table["confidence"].notna().to_numpy()).any():
        row = int(np.argmax(wrong))
        raise InputError(f"{edge(row)} has the confidence {table['confidence'].iloc[row]!r}, which is no number")
    return table_of(ends[0], ends[1], origin, np.abs(weight), sign, confidence)


def tidy_origins(table: pd.DataFrame) -> pd.DataFrame:
    """Sort the origin's categories and drop those that no edge has, so that equal graphs are equal tables."""
    origin = table["origin"].array.remove_unused_categories()
    table = table.copy(deep=False)
    table["origin"] = origin.reorder_categories(sorted(origin.categories))
    return table


def concat(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Stack edge tables over the same node tables."""
    if len(tables) == 1:
        return tables[0]
    origin = pd.api.types.union_categoricals([table["origin"].array for table in tables], sort_categories=True)
    numbers = {name: np.concatenate([table[name].to_numpy() for table in tables]) for name in COLUMNS[:-1]}
    return pd.DataFrame(numbers | {"origin": origin}, copy=False)


def replaced(table: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """Replace columns without copying the others."""
    return pd.DataFrame({name: columns.get(name, table[name].array) for name in COLUMNS}, copy=False)


def take(table: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """Choose rows by number or mask, column by column; the index starts anew."""
    return pd.DataFrame({name: table[name].array[rows] for name in COLUMNS}, copy=False)


def pair_keys(table: pd.DataFrame) -> np.ndarray:
    """One int64 a row that is equal for equal (source, target) and sorts as they do."""
    return (table["source"].to_numpy().astype(np.int64) << 32) | table["target"].to_numpy()


def collapse(table: pd.DataFrame, *, drop_loops: bool) -> tuple[pd.DataFrame, dict[str, dict[str, int]]]:
    """Drop self loops, merge duplicates within an origin (largest weight and confidence, majority sign), sort.

    Returns the table and, for each origin, how many rows were `merged` and how many `self_loops` dropped.
    """
    counts: dict[str, dict[str, int]] = {}
    table = tidy_origins(table)
    names = table["origin"].cat.categories

    def count(reason: str, codes: np.ndarray) -> None:
        for code, n in zip(*np.unique(codes, return_counts=True), strict=True):
            counts.setdefault(str(names[code]), {})[reason] = int(n)

    if drop_loops:
        loops = table["source"].to_numpy() == table["target"].to_numpy()
        if loops.any():
            count("self_loops", table["origin"].cat.codes.to_numpy()[loops])
            table = tidy_origins(take(table, ~loops))
            names = table["origin"].cat.categories
    if not len(table):
        return table.reset_index(drop=True), counts
    codes = table["origin"].cat.codes.to_numpy()
    keys = table["source"].to_numpy().astype(np.int64)
    keys *= int(table["target"].max()) + 1
    keys += table["target"].to_numpy()
    keys *= len(names)
    keys += codes
    if np.all(keys[1:] > keys[:-1]):
        return table.reset_index(drop=True), counts
    order = np.argsort(keys)
    keys = keys[order]
    again = keys[1:] == keys[:-1]
    del keys
    if not again.any():
        return take(table, order), counts
    count("merged", codes[order[1:][again]])
    first = np.flatnonzero(np.concatenate([[True], ~again]))
    kept = order[first]
    merged = table_of(
        table["source"].to_numpy()[kept],
        table["target"].to_numpy()[kept],
        pd.Categorical.from_codes(codes[kept], names),
        np.maximum.reduceat(table["weight"].to_numpy()[order], first),
        np.sign(np.add.reduceat(table["sign"].to_numpy()[order].astype(np.int32), first)),
        np.fmax.reduceat(table["confidence"].to_numpy()[order], first),
    )
    return merged, counts


def combine_origins(table: pd.DataFrame) -> pd.DataFrame:
    """One row a pair: largest weight and confidence, majority sign (0 when tied), origins joined by `|`."""
    keys = pair_keys(table)  # tables are sorted by pair
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.array([], np.int64)
    if len(first) == len(table):
        return table.copy()
    codes, names = table["origin"].cat.codes.to_numpy(), list(table["origin"].cat.categories)
    # a pair's origins as bits of whole numbers, 62 origins a number
    bits = [
        np.bitwise_or.reduceat(np.where(codes // 62 == part, 1 << (codes % 62).astype(np.int64), 0), first)
        for part in range(len(names) // 62 + 1)
    ]
    sets, label = np.unique(np.stack(bits, axis=1), axis=0, return_inverse=True)
    labels = ["|".join(name for code, name in enumerate(names) if row[code // 62] >> (code % 62) & 1) for row in sets]
    label = label.ravel()
    return table_of(
        table["source"].to_numpy()[first],
        table["target"].to_numpy()[first],
        pd.Categorical.from_codes(label, labels),
        np.maximum.reduceat(table["weight"].to_numpy(), first),
        np.sign(np.add.reduceat(table["sign"].to_numpy().astype(np.int32), first)),
        np.fmax.reduceat(table["confidence"].to_numpy(), first),
    )


def is_symmetric(table: pd.DataFrame) -> bool:
    """Whether every edge has one of the same weight, sign and origin in the other direction."""
    if not len(table):
        return False
    order = np.lexsort((table["origin"].cat.codes, table["source"], table["target"]))
    return all(
        np.array_equal(table[a].to_numpy(), table[b].to_numpy()[order])
        for a, b in (("source", "target"), ("target", "source"), ("weight", "weight"), ("sign", "sign"))
    ) and np.array_equal(table["origin"].cat.codes.to_numpy(), table["origin"].cat.codes.to_numpy()[order])


SIMILARITIES = ("coexpressed", "shares_gene_sets")  # relations that hold the k most similar sources of each target


ACTS = "may_regulate"  # each on each other, in both directions: symmetric, and no similarity


def is_similarity(relation: Relation, table: pd.DataFrame) -> bool:
    """Whether a relation says that two nodes are alike, and not that one acts on the other."""
    if relation[1] == ACTS:
        return False
    return relation[0] == relation[2] and (relation[1] in SIMILARITIES or is_symmetric(table))


def reverse(table: pd.DataFrame) -> pd.DataFrame:
    """The same edges in the other direction."""
    return replaced(table, source=table["target"].array, target=table["source"].array)


def mirror(table: pd.DataFrame) -> pd.DataFrame:
    """Add, for each pair and origin that lacks it, the same edge in the other direction."""
    backward = reverse(table)
    codes = table["origin"].cat.codes.to_numpy().astype(np.int64)
    if table["origin"].cat.categories.size <= 1:
        written = np.isin(pair_keys(backward), pair_keys(table))
    else:
        forward_keys = pd.MultiIndex.from_arrays([pair_keys(table), codes])
        written = pd.MultiIndex.from_arrays([pair_keys(backward), codes]).isin(forward_keys)
    return collapse(concat([table, take(backward, ~written)]), drop_loops=False)[0]


class Pairs(NamedTuple):
    """The linked pairs of a relation, whatever the direction where each edge stands in both."""

    keys: np.ndarray  # [pairs], source << 32 | target
    of_row: np.ndarray  # the number of each row's pair
    symmetric: bool


def linked_pairs(relation: Relation, table: pd.DataFrame) -> Pairs:
    """Number the linked pairs of a relation; those of a symmetric one have the smaller row number as source."""
    keys = pair_keys(table)
    symmetric = relation[0] == relation[2] and is_symmetric(table)
    if symmetric:
        keys = np.minimum(keys, pair_keys(reverse(table)))
    return Pairs(*np.unique(keys, return_inverse=True), symmetric=symmetric)


def pair_ends(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sources and targets [pairs] that keys stand for."""
    return keys >> 32, keys & 0xFFFFFFFF


def turned(keys: np.ndarray) -> np.ndarray:
    """Return the keys of the same pairs in the other direction."""
    source, target = pair_ends(keys)
    return (target << 32) | source


def named(table: pd.DataFrame, relation: Relation, nodes: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Replace row numbers by names."""
    ends: dict[str, Any] = {side: nodes[kind].index.to_numpy()[table[side]] for side, kind in sides(relation)}
    rest: dict[str, Any] = {name: table[name].to_numpy() for name in COLUMNS[2:-1]}
    return pd.DataFrame(ends | rest | {"origin": table["origin"].astype(object).to_numpy()})
