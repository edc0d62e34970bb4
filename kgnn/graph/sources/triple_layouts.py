"""How the public tables of triples are laid out: which columns say what, and what their texts mean."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from kgnn.errors import InputError
from kgnn.graph.biolink import node_type, plain
from kgnn.names import as_name

TYPED = re.compile(r"[A-Za-z][A-Za-z ]*::\S.*")  # Gene::9021, Biological Process::GO:0071357
CURIE = re.compile(r"[A-Za-z][\w.]*:\S+")
# describe/edges/metaedges.tsv of github.com/hetio/hetionet
METAEDGES = {
    "AdG": "downregulates", "AeG": "expresses", "AuG": "upregulates", "CbG": "binds", "CcSE": "causes",
    "CdG": "downregulates", "CpD": "palliates", "CrC": "resembles", "CtD": "treats", "CuG": "upregulates",
    "DaG": "associates", "DdG": "downregulates", "DlA": "localizes", "DpS": "presents", "DrD": "resembles",
    "DuG": "upregulates", "GcG": "covaries", "GiG": "interacts", "GpBP": "participates", "GpCC": "participates",
    "GpMF": "participates", "GpPW": "participates", "Gr>G": "regulates", "PCiC": "includes",
}  # fmt: skip
OPTIMUS = {"GEN": "gene", "DRG": "drug", "DIS": "disease", "PHE": "phenotype", "ANA": "anatomy", "PWY": "pathway",
           "EXP": "exposure", "BPO": "biological_process", "CCO": "cellular_component",
           "MFN": "molecular_function"}  # fmt: skip
OPENBIOLINK = {"NCBIGENE": "gene", "DOID": "disease", "HP": "phenotype", "UBERON": "anatomy", "CL": "anatomy",
               "GO": "go", "REACTOME": "pathway", "KEGG": "pathway", "PUBCHEM.COMPOUND": "drug"}  # fmt: skip
USUAL = (("source", "relation", "target"), ("head", "relation", "tail"))
KINDS = {"source": "source_type", "target": "target_type", "head": "head_type", "tail": "tail_type"}
PADDED = {"GO": "GO", "MONDO": "MONDO", "HPO": "HP", "UBERON": "UBERON"}  # PrimeKG writes GO:0006915 as GO, 6915


class Node(NamedTuple):
    """What a table calls a node: its type, the name that it gets, and what else is known of it."""

    kind: str
    name: str
    label: str | None = None
    id: str | None = None


class Link(NamedTuple):
    """A relation, and the source that an edge comes from where the table tells it."""

    relation: str
    origin: str | None = None


@dataclass(frozen=True)
class Layout:
    """A kind of table.

    Attributes:
        name: the default origin; empty where the file's name is.
        source, target: the columns that together name an end. relation: the column of relations.
        node: texts of an end's columns, and 0 for a source or 1 for a target → the node.
        relation_of: text of a relation → the relation, and its origin where the text tells it.
        header: names of the columns of a file that has no header line.
        negative: a column whose value 0 marks what is not an edge.
        origin: a column that tells where each row comes from.
    """

    name: str
    source: tuple[str, ...]
    target: tuple[str, ...]
    relation: str
    node: Callable[[Sequence[str], int], Node]
    relation_of: Callable[[str], Link]
    header: list[str] | None = None
    negative: str | None = None
    origin: str | None = None

    @property
    def link(self) -> tuple[str, ...]:
        """The columns that together tell a row's relation and origin."""
        return (self.relation,) if self.origin is None else (self.relation, self.origin)


def _primekg_node(parts: Sequence[str], side: int) -> Node:
    kind, database, number, name = parts
    kind = node_type(kind)
    if kind == "gene":
        return Node(kind, name or number, id=number)
    prefix = PADDED.get(database, database)
    if database in PADDED and number.isdigit():
        number = number.zfill(7)
    return Node(kind, number and f"{prefix}:{number}", name)


def _numbered_node(parts: Sequence[str], side: int) -> Node:
    if not parts[0]:
        return Node("", "")
    name = repr(parts[0])
    raise InputError(
        f"the edges name node {name} by its number alone; give the table of nodes too, nodes=, of the same release"
    )


def _typed_node(parts: Sequence[str], side: int) -> Node:
    kind, _, name = parts[0].partition("::")
    return Node(node_type(kind), name)


def _optimus_node(parts: Sequence[str], side: int) -> Node:
    code = parts[0].split("-")[min(side, parts[0].count("-"))]
    return Node(OPTIMUS.get(code, node_type(code)), parts[1])


def _openbiolink_node(parts: Sequence[str], side: int) -> Node:
    prefix, _, number = parts[0].partition(":")
    kind = OPENBIOLINK.get(prefix.upper(), node_type(prefix))
    return Node(kind, number if kind == "gene" else parts[0])


def _drkg_link(text: str) -> Link:
    origin, relation = (*re.split(":+", text), "")[:2]
    return Link(plain(METAEDGES.get(relation, relation)), origin)


def _plain_link(text: str) -> Link:
    return Link(plain(METAEDGES.get(text, text)))


X, Y = (tuple(f"{end}_{part}" for part in ("type", "source", "id", "name")) for end in "xy")
LAYOUTS = [
    Layout("primekg", X, Y, "display_relation", _primekg_node, _plain_link),
    Layout("primekg", ("x_index",), ("y_index",), "display_relation", _numbered_node, _plain_link),
    Layout("hetionet", ("source",), ("target",), "metaedge", _typed_node, _plain_link),
    Layout("optimuskg", ("label", "from"), ("label", "to"), "relation", _optimus_node, _plain_link),
]
DRKG = Layout("drkg", ("0",), ("2",), "1", _typed_node, _drkg_link, header=["0", "1", "2"])


def _openbiolink(fields: int) -> Layout:
    header = ["source", "relation", "target", "quality", "positive", "origin"]
    header = header[:fields] if fields in (3, 4, 6) else [*header[:4], "origin"]

    def link(text: str) -> Link:
        return Link(plain(text.removeprefix("EdgeType.")))

    negative, origin = (name if name in header else None for name in ("positive", "origin"))
    return Layout(
        "openbiolink", ("source",), ("target",), "relation", _openbiolink_node, link, header, negative, origin
    )


def layout_of(columns: Sequence[str], named: Sequence[str | None], types: Sequence[str | None], label: str) -> Layout:
    """Return the layout of a table.

    Args:
        columns: their names, or the first row of a file without such.
        named: columns of source, relation, target that the user names. types: of the types of sources and targets.

    Raises:
        InputError: none of the layouts that are known, and not all columns are named.
    """
    found = None if any((*named, *types)) else _recognised(columns)
    if found is not None:
        return found
    usual = next((names for names in USUAL if set(names) <= set(columns)), None)
    if usual is None and not all(named):
        raise InputError(
            f"{label}: none of the layouts that are known; name the columns of names and relations: source=, "
            f"relation=, target= (and source_type=, target_type=); the columns are {', '.join(columns[:12])}"
        )
    source, relation, target = (name or other or "" for name, other in zip(named, usual or named, strict=True))
    ends: list[tuple[str, ...]] = []
    for end, kind in zip((source, target), types, strict=True):
        kind = kind or (KINDS.get(end) if KINDS.get(end) in columns else None)
        ends.append((kind, end) if kind else (end,))

    def node(parts: Sequence[str], side: int) -> Node:
        return Node(node_type(parts[0]) if len(parts) > 1 else "gene", parts[-1])

    return Layout("", ends[0], ends[1], relation, node, _plain_link)


def _recognised(columns: Sequence[str]) -> Layout | None:
    """Return the layout that has these columns, or whose first row they are, if one is known."""
    for layout in LAYOUTS:
        if {*layout.source, *layout.target, layout.relation} <= set(columns):
            return layout
    if len(columns) == 3 and TYPED.fullmatch(columns[0]) and TYPED.fullmatch(columns[2]):
        return DRKG
    if 3 <= len(columns) <= 6 and CURIE.fullmatch(columns[0]) and CURIE.fullmatch(columns[2]):
        return _openbiolink(len(columns))
    return None


def nodes_of(table: pd.DataFrame, label: str) -> Mapping[str, Node]:
    """Return what a table of nodes says of each id that the edges name; see `load_triples`."""
    if "node_index" in table:
        rows = zip(
            *(table[f"node_{part}"].map(as_name) for part in ("index", "type", "source", "id", "name")), strict=True
        )
        return {row[0]: _primekg_node([part or "" for part in row[1:]], 0) for row in rows if row[0]}
    kinds = next((name for name in ("kind", "category", "type", "label") if name in table), None)
    if "id" not in table or kinds is None:
        has = ", ".join(map(str, table.columns[:12]))
        raise InputError(f"{label}: a table of nodes has the columns id and kind, category, type or label; not {has}")
    names = table["name"] if "name" in table else table["properties"].map(_said) if "properties" in table else None
    texts = [None] * len(table) if names is None else [as_name(name) for name in names]
    known = {}
    for key, kind, name in zip(table["id"].map(as_name), table[kinds].map(as_name), texts, strict=True):
        if key is None or kind is None:
            continue
        own = key.split("::", 1)[1] if TYPED.fullmatch(key) else key
        kind = OPTIMUS.get(kind, node_type(kind))
        own = own.partition(":")[2] if kind == "gene" and own.upper().startswith("NCBIGENE:") else own
        known[key] = Node(kind, name or own, id=own) if kind == "gene" else Node(kind, own, name)
    return known


def _said(properties: Any) -> str | None:
    """The symbol or name among a node's properties, a JSON text or a mapping."""
    try:
        said = json.loads(properties) if isinstance(properties, str) else properties
    except json.JSONDecodeError:
        return None
    return as_name(said.get("symbol") or said.get("name")) if isinstance(said, Mapping) else None
