"""The TOML file that describes a graph, read and checked."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kgnn.errors import InputError
from kgnn.files import read_toml
from kgnn.graph import sources
from kgnn.graph.knowledge_graph import KnowledgeGraph

KINDS: dict[str, Callable[..., KnowledgeGraph]] = {
    "regulation": sources.load_regulation,
    "gene_families": sources.load_gene_families,
    "coexpression": sources.load_coexpression,
    "gene_sets": sources.load_gene_sets,
    "cell_ontology": sources.load_cell_ontology,
    "interactions": sources.load_interactions,
    "promoter_motifs": sources.load_promoter_motifs,
    "promoter_sequences": sources.load_promoter_sequences,
    "gene_embedding": sources.load_gene_embedding,
    "markers": sources.load_markers,
    "table": sources.load_table,
    "triples": sources.load_triples,
    "kgx": sources.load_kgx,
    "ntriples": sources.load_ntriples,
}
SOURCE_KEYS = ("licence", "version")  # of every kind of source
FROM_CELLS = ("coexpression", "markers")
FILES = ("path", "table", "groups", "complete_set", "ontology", "names", "nodes", "edges", "genes")
GRAPH_KEYS = ("root", "species", "namespace", "genes", "keep_unknown")


def read_description(path: Path) -> dict[str, Any]:
    """Return the tables of a description, or raise `InputError` with what is wrong in it."""
    settings = read_toml(path)
    for name in settings:
        if name not in ("graph", "source", "join"):
            raise InputError(f"{path}: unknown table [{name}]; a graph has [graph], [[source]] or [join]")
    if not settings.get("source") and not settings.get("join"):
        raise InputError(f"{path}: no [[source]] and no [join]; say what the graph is made of")
    if not isinstance(settings.get("source", []), list):
        raise InputError(f"{path}: write [[source]] with two brackets; there may be several")
    for name in ("graph", "join"):
        _check_type(path, f"[{name}]", settings.get(name, {}), dict)
    _check_type(path, "genes of [graph]", settings.get("graph", {}).get("genes", []), list)
    _check_type(path, "graphs of [join]", settings.get("join", {}).get("graphs", {}), dict)
    join = settings.get("join", {"orthologs": "", "graphs": {}})
    if not {"orthologs", "graphs"} <= set(join) <= {"orthologs", "graphs", "one_to_many", "namespace"}:
        has = ", ".join(join) or "nothing"
        raise InputError(f"{path}: [join] has orthologs, graphs and perhaps one_to_many, namespace; not {has}")
    for name in settings.get("graph", {}):
        if name not in GRAPH_KEYS:
            raise InputError(f"{path}: [graph] has no key {name!r}; it has {', '.join(GRAPH_KEYS)}")
    for number, source in enumerate(settings.get("source", []), 1):
        _check_source(path, number, source)
    return settings


def _check_type(path: Path, what: str, value: Any, wanted: type) -> None:
    if not isinstance(value, wanted):
        kind = "a list: [ … ]" if wanted is list else "a table: { name = value }"
        raise InputError(f"{path}: {what} is {value!r}; it must be {kind}")


def _check_source(path: Path, number: int, source: Mapping[str, Any]) -> None:
    _check_type(path, f"source {number}", source, dict)
    _check_type(path, f"obs of source {number}", source.get("obs", {}), dict)
    kind = source.get("kind")
    if kind not in KINDS:
        raise InputError(f"{path}: source {number} has the kind {kind!r}; choose {', '.join(KINDS)}")
    allowed = [name for name in inspect.signature(KINDS[kind]).parameters if name not in ("adata", "progress")]
    allowed += ["path", "obs", "cells"] if kind in FROM_CELLS else []
    allowed += [name for name in SOURCE_KEYS if name not in allowed]
    for name in source:
        if name != "kind" and name not in allowed:
            raise InputError(f"{path}: source {number} ({kind}) has no option {name!r}; it has {', '.join(allowed)}")


def root_of(path: Path, settings: Mapping[str, Any]) -> Path:
    """Return the folder that the paths of a description are relative to."""
    return path.parent / Path(os.path.expandvars(settings.get("graph", {}).get("root", "."))).expanduser()
