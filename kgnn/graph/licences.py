"""Which licence and version each source of a graph has."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace

from kgnn.errors import DataWarning, InputError
from kgnn.graph.tables import GraphTables
from kgnn.names import as_name


def with_source(
    graph: GraphTables, *origins: str, licence: str | None = None, version: str | None = None
) -> GraphTables:
    """Note the licence and the version of sources; the record is merged and saved with the graph.

    Args:
        origins: origins of edges, or names of features; default: all of the graph.
        licence: its name, best an SPDX identifier: `CC-BY-4.0`, `CC0-1.0`.
        version: what its maker calls the release, or the date of the download.

    Raises:
        InputError: no such source in the graph; neither a licence nor a version.
    """
    said = {"licence": as_name(licence), "version": as_name(version)}
    known = {name: value for name, value in said.items() if value is not None}
    if not known:
        raise InputError("neither a licence nor a version to note; give licence= or version=")
    for origin in origins:
        if origin not in graph.sources:
            there = ", ".join(sorted(graph.sources)) or "none"
            raise InputError(f"no source or feature {origin!r} in the graph; it has {there}")
    new = {name: graph.provenance.get(name, {}) | known for name in origins or sorted(graph.sources)}
    return replace(graph, provenance=graph.provenance | new)


def merged(parts: Iterable[Mapping[str, Mapping[str, str]]]) -> dict[str, dict[str, str]]:
    """Unite records source by source; where two tell different things of one source, both are kept and told of.

    What differs is joined by `|`, with a `DataWarning`.
    """
    result: dict[str, dict[str, str]] = {}
    differing: dict[str, None] = {}
    for part in parts:
        for source, known in part.items():
            own = result.setdefault(source, {})
            for what, value in known.items():
                before = own.get(what, value)
                values = list(dict.fromkeys([*before.split("|"), *value.split("|")]))
                if before != value:
                    differing[f"{source}: {what} {' and '.join(values)}"] = None
                own[what] = "|".join(values)
    if differing:
        told = "; ".join(list(differing)[:5])
        text = f"{len(differing)} records of sources differ among the graphs ({told}); give each an origin= of its own"
        warnings.warn(text, DataWarning, stacklevel=5)
    return result


def allowed_sources(graph: GraphTables, licences: Iterable[str]) -> set[str]:
    """Return the sources whose licences (all, where several are told) are among these, whatever case and hyphens.

    Raises:
        InputError: none of the sources has one of these licences. Sources without a licence are a `DataWarning`.
    """
    wanted = {_plain(name) for name in licences}
    told = {source: known["licence"] for source, known in graph.provenance.items() if "licence" in known}
    allowed = {name for name, text in told.items() if all(_plain(part) in wanted for part in text.split("|"))}
    if not allowed:
        there = ", ".join(sorted(set(told.values()))) or "none; note them with with_source"
        raise InputError(f"no source has one of the licences {', '.join(sorted(wanted))}; the graph tells {there}")
    silent = sorted(graph.sources - set(told))
    if silent:
        some = ", ".join(silent[:5])
        warnings.warn(
            f"{len(silent)} sources tell no licence and are left out ({some}); note it with kg.with_source",
            DataWarning,
            stacklevel=5,
        )
    return allowed


def _plain(licence: str) -> str:
    return re.sub(r"[\s_-]+", "-", licence.strip().lower())
