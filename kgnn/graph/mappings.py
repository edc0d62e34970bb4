"""Mappings between the identifiers of two databases or ontologies, in the exchange format SSSOM."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from kgnn.errors import DataWarning, InputError
from kgnn.files import existing_file
from kgnn.graph.identifiers import rename_nodes, sources_of
from kgnn.graph.reading import check_columns, read_table, text_lines
from kgnn.graph.tables import GraphTables
from kgnn.names import as_names, listed
from kgnn.parts import expect

SAME = ("skos:exactMatch", "owl:equivalentClass", "owl:sameAs")
ENDS = ("subject_id", "predicate_id", "object_id")


@dataclass(frozen=True, eq=False)
class Mappings:
    """What is the same in two databases: a table as SSSOM has it, and what its header says.

    Attributes:
        table: one row a mapping: `subject_id`, `predicate_id`, `object_id` and whatever else the file has.
        header: the mapping set's own description: `license`, `mapping_set_version`, `curie_map` and others.
    """

    table: pd.DataFrame
    header: dict[str, Any] = field(default_factory=dict)

    def pairs(self, to: str, predicates: Iterable[str] = SAME) -> dict[str, list[str]]:
        """Return identifier → those of the database `to` (`MONDO`) that mean the same, whichever side each stands on.

        Rows of another predicate and those that deny it (`predicate_modifier` Not) say nothing.
        """
        chosen = self.table["predicate_id"].isin(listed(predicates, "predicates"))
        if "predicate_modifier" in self.table:
            chosen &= self.table["predicate_modifier"].fillna("").str.strip().str.lower() != "not"
        found: dict[str, dict[str, None]] = {}
        rows = self.table.loc[chosen, ["subject_id", "object_id"]].itertuples(index=False)
        for subject, others in rows:
            for other in others.split("|"):  # some sets put several into one row
                for one, end in ((subject, other.strip()), (other.strip(), subject)):
                    if _prefix(end) == to.lower():
                        found.setdefault(one, {})[end] = None
        return {name: list(ends) for name, ends in found.items()}


def load_mappings(path: str | Path) -> Mappings:
    """Read mappings in SSSOM (Matentzoglu et al., Database 2022): TSV with a YAML header in lines that begin with `#`.

    Blank lines are passed over.

    Raises:
        InputError: missing file or column; a header that is not YAML; a row without an end or a predicate (line).
    """
    path = existing_file(path)
    header = _header(path)
    table, label = read_table(path, separator="\t", comment="#")
    check_columns(table, ENDS, label, "an SSSOM table")
    table = table.dropna(how="all")
    first = next(number for number, line in text_lines(path) if line.strip() and not line.startswith("#")) + 1
    for column in ENDS:
        names = as_names(table[column])
        missing = np.array([name is None for name in names], bool)
        if missing.any():
            row = table.index[np.argmax(missing)]
            raise InputError(f"{label}:{row + first}: no {column}; correct the row or leave it out")
        table[column] = names
    return Mappings(table.reset_index(drop=True), header)


def _comments(path: Path) -> Iterable[str]:
    for _, line in text_lines(path):
        if line.startswith("#"):
            yield line[1:]
        elif line.strip():
            return


def _header(path: Path) -> dict[str, Any]:
    try:
        header = yaml.safe_load("\n".join(_comments(path)))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0][:100]
        where = f":{mark.line + 1}" if mark is not None else ""
        raise InputError(f"{path}{where}: the header is not YAML ({what}); correct it") from None
    if header is not None and not isinstance(header, dict):
        raise InputError(f"{path}:1: the header is no list of 'key: value'; correct it or leave it out")
    return header or {}


def _prefix(name: str) -> str:
    return name.split(":", 1)[0].lower() if ":" in name else ""


def map_nodes(
    graph: GraphTables,
    mappings: Mappings,
    node_type: str,
    to: str,
    *,
    predicates: Iterable[str] = SAME,
    keep_unknown: bool = False,
) -> GraphTables:
    """Rename the nodes of a type to the identifiers of one database; nodes that turn out to be the same become one.

    As with `map_genes`, ambiguous and unknown names go, with their edges, and are counted in `history`; with
    `keep_unknown` they stay under their own name. A node that is of the database already keeps its name.

    Args:
        mappings: what `load_mappings` returns.
        node_type: for example `disease`.
        to: the beginning of the wanted identifiers, before the colon: `MONDO`.
        predicates: what counts as the same; add `skos:closeMatch` for less strict mappings.

    Raises:
        InputError: no such node type; no name is known.
    """
    expect(mappings, Mappings, "mappings (load_mappings gives them)")
    expect(to, str, "to")
    table = graph.node_table(node_type)
    pairs = mappings.pairs(to, predicates)
    names, how = np.empty(len(table), object), []
    for row, name in enumerate(table.index):
        own = _prefix(name) == to.lower()
        ends = [name] if own else pairs.get(name, [])
        names[row] = ends[0] if len(ends) == 1 else None
        how.append("same" if own else ("unknown", "mapped", "ambiguous")[min(len(ends), 2)])
    counts = pd.Series(how, dtype=object).value_counts().to_dict()
    known = pd.notna(names)
    if not known.any():
        raise InputError(
            f"none of the {len(table)} {node_type} nodes ({', '.join(map(str, table.index[:3]))}) has a mapping to "
            f"{to}; the mappings lead from {', '.join(list(pairs)[:3]) or 'nowhere'}; check the prefixes"
        )
    if known.mean() < 0.5:
        some = ", ".join(map(str, table.index[~known][:3]))
        text = f"{int((~known).sum())} of {len(table)} {node_type} nodes have no one mapping to {to} ({some})"
        remedy = "they keep their names" if keep_unknown else "keep_unknown=True keeps them"
        warnings.warn(f"{text}; {remedy}", DataWarning, stacklevel=3)
    if keep_unknown:
        names = np.where(known, names, table.index.to_numpy(object))
    version = mappings.header.get("mapping_set_version")
    details = {"node_type": node_type, "of": sources_of(graph), "to": to, **counts}
    return rename_nodes(
        graph, node_type, names, "map_nodes", **details, **({"version": str(version)} if version else {})
    )
