"""A graph described by a TOML file, built source by source; what has not changed comes from a cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kgnn.cache import cache_folder
from kgnn.errors import InputError
from kgnn.files import existing_file, read_h5ad
from kgnn.folders import check_folder
from kgnn.graph import sources
from kgnn.graph.description import FILES, FROM_CELLS, KINDS, SOURCE_KEYS, read_description, root_of
from kgnn.graph.identifiers import GeneNames
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.orthologs import Orthologs, join_species
from kgnn.graph.storage import FORMAT_VERSION, KIND, read_manifest
from kgnn.version import __version__

log = logging.getLogger(__name__)
Cells = Callable[[Any], Any]
Progress = Callable[[str, int, int], None]


def build(
    config: str | Path,
    *,
    cells: Cells | None = None,
    cells_key: str = "",
    progress: Progress | None = None,
    out: str | Path | None = None,
) -> KnowledgeGraph:
    """Build the graph that a TOML file describes, and save it if `out` is given.

    ```toml
    [graph]
    root = "../data"                 # paths are relative to it, and it to this file; default: this file's folder
    species = "human"
    namespace = "symbol"             # symbol, ensembl or entrez: genes are renamed to it by the tables in `genes`
    genes = ["human_aliases.tsv.gz", "human_ensembl.tsv.gz"]

    [[source]]
    kind = "regulation"              # the loader: load_regulation; all other keys are its arguments
    path = "dorothea_hs.tsv.gz"
    min_confidence = "C"
    licence = "GPL-3.0"              # these two may stand with any source: see KnowledgeGraph.with_source
    version = "2021-06"

    [[source]]
    kind = "coexpression"
    path = "screen.h5ad"
    obs = { condition = "control" }  # only these cells; or cells = "all"; or `cells=` here
    ```

    Several species: `[join]` with `orthologs = FILE` and `graphs = { human = "human.toml", mouse = "mouse.toml" }`.

    Each source is kept in a cache (`$KGNN_CACHE`, else `~/.cache/kgnn`) under a hash of its files' contents, its
    options and kgnn's own code; the saved graph holds the hash of everything, and is loaded if nothing changed.

    Args:
        config: the TOML file.
        cells: for sources made from cells: AnnData in, the cells to use out (the training cells, say).
        cells_key: names that choice, for the cache.
        progress: called before each source with its name, its number from 0, and the number of sources.
        out: folder to save to.

    Raises:
        InputError: not TOML (line), an unknown kind or key, whatever a loader finds wrong.
    """
    path = existing_file(config)
    settings = read_description(path)
    if out is not None:
        check_folder(out, KIND)
    inputs = _inputs(path, settings, cells_key)
    key = _digest(inputs)
    if out is not None and (found := _built(Path(out), key)) is not None:
        return found
    if "join" in settings:
        graph = _join(path, settings["join"], cells, cells_key, progress)
        _check_unchanged(path, inputs, _inputs(path, settings, cells_key))
    else:
        graph = _merge(path, settings, inputs, cells, cells_key, progress)
    if out is not None:
        graph.save(out, {"build": key})
    return graph


def _merge(
    path: Path,
    settings: Mapping[str, Any],
    inputs: Mapping[str, Any],
    cells: Cells | None,
    cells_key: str,
    progress: Progress | None,
) -> KnowledgeGraph:
    graph, root = settings.get("graph", {}), root_of(path, settings)
    tables = [root / table for table in graph.get("genes", [])]
    if graph.get("namespace") and not tables:
        raise InputError(f'{path}: namespace = {graph["namespace"]!r} needs tables of genes: genes = ["…"]')
    species = graph.get("species", "human")

    @cache
    def gene_names() -> GeneNames:
        return GeneNames(*map(existing_file, tables), species=species)

    parts = []
    for number, source in enumerate(settings["source"]):
        if progress is not None:
            progress(f"{source['kind']} {Path(_first_file(source)).name}", number, len(settings["source"]))
        made_of = {"source": inputs["sources"][number], "graph": inputs["graph"]}
        key = _digest(made_of)
        part = _cached(key)
        if part is None:
            part = _load_source(path, root, source, cells, gene_names)
            if any(source.get(name) for name in SOURCE_KEYS):
                part = part.with_source(licence=source.get("licence"), version=source.get("version"))
            if graph.get("namespace") and "gene" in part.node_types:
                keep = graph.get("keep_unknown", False)
                part = part.map_genes(gene_names(), graph["namespace"], keep_unknown=keep)
            elif graph.get("species") and "gene" in part.node_types:
                part = part.with_node_column("species", graph["species"])
            now = {"source": _source_inputs(root, source, cells_key), "graph": _graph_inputs(path, settings)}
            _check_unchanged(path, made_of, now)
            _keep(part, key)
        parts.append(part)
    return KnowledgeGraph.merge(parts)


def _cached(key: str) -> KnowledgeGraph | None:
    folder = cache_folder()
    try:
        return KnowledgeGraph.load(folder / key) if folder else None
    except InputError:  # not there yet, or damaged
        return None


def _keep(part: KnowledgeGraph, key: str) -> None:
    folder = cache_folder()
    try:
        if folder:
            part.save(folder / key)
    except (OSError, InputError) as error:  # a full disk, a folder damaged by hand
        log.warning("a source is not kept in the cache: %s", error)


def _check_unchanged(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `InputError` when what was read is not what was hashed: it must not stand under that hash."""
    if before != now:
        raise InputError(f"{path}: a file that the graph is made of changed while it was read; build it again")


def _load_source(
    path: Path, root: Path, source: Mapping[str, Any], cells: Cells | None, gene_names: Callable[[], GeneNames]
) -> KnowledgeGraph:
    kind = source["kind"]
    options = {name: value for name, value in source.items() if name not in ("kind", "obs", "cells", *SOURCE_KEYS)}
    for name in FILES:
        if isinstance(options.get(name), str):
            options[name] = root / options[name]
    if kind in FROM_CELLS:
        adata = read_h5ad(options.pop("path"))
        adata = _choose_cells(path, adata, source, cells)
        if "ontology" in options:
            options["ontology"] = sources.load_cell_ontology(options["ontology"])
        return KINDS[kind](adata, **options)
    if kind == "gene_families" and "complete_set" not in options and "genes" not in options:
        options["genes"] = sorted(gene_names().symbols)
    try:
        return KINDS[kind](**options)
    except TypeError as error:
        raise InputError(f"{path}: {kind}: {error}") from None


def _choose_cells(path: Path, adata: Any, source: Mapping[str, Any], cells: Cells | None) -> Any:
    if "obs" in source:
        for column, wanted in source["obs"].items():
            if column not in adata.obs:
                raise InputError(f"{path}: obs has no column {column!r}; it has {', '.join(adata.obs.columns)}")
            values = wanted if isinstance(wanted, list) else [wanted]
            adata = adata[adata.obs[column].isin(values).to_numpy()]
        return adata
    if source.get("cells") == "all":
        return adata
    if cells is None:
        raise InputError(
            f"{path}: {source['kind']} must say which cells it is made from, or it sees what it is tested on: "
            'obs = { column = "value" }, cells = "all", or a split on the command line (--split)'
        )
    return cells(adata)


def _join(
    path: Path, settings: Mapping[str, Any], cells: Cells | None, cells_key: str, progress: Progress | None
) -> KnowledgeGraph:
    graphs = {
        species: build(path.parent / part, cells=cells, cells_key=cells_key, progress=progress)
        for species, part in settings["graphs"].items()
    }
    table = path.parent / os.path.expandvars(settings["orthologs"])
    orthologs = Orthologs(table, tuple(graphs), settings.get("namespace", "symbol"))
    return join_species(graphs, orthologs, one_to_many=settings.get("one_to_many", False))


# the hash of all that a graph is made of


def _inputs(path: Path, settings: Mapping[str, Any], cells_key: str) -> dict[str, Any]:
    if "join" in settings:
        join = settings["join"]
        parts = {
            species: _inputs(path.parent / part, read_description(existing_file(path.parent / part)), cells_key)
            for species, part in join.get("graphs", {}).items()
        }
        orthologs = path.parent / os.path.expandvars(join.get("orthologs", ""))
        return {"join": {**join, "orthologs": _hash_file(orthologs)}, "parts": parts}
    root = root_of(path, settings)
    inputs = [_source_inputs(root, source, cells_key) for source in settings["source"]]
    return {"sources": inputs, "graph": _graph_inputs(path, settings)}


def _graph_inputs(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    graph = {name: value for name, value in settings.get("graph", {}).items() if name != "root"}
    return graph | {"genes": [_hash_file(root_of(path, settings) / table) for table in graph.get("genes", [])]}


def _source_inputs(root: Path, source: Mapping[str, Any], cells_key: str) -> dict[str, Any]:
    files = {name: _hash_file(root / source[name]) for name in FILES if isinstance(source.get(name), str)}
    paths = {name: str(root / source[name]) for name in files}  # stand in the account
    return {
        "options": dict(source),
        "files": files,
        "paths": paths,
        "cells": cells_key if source["kind"] in FROM_CELLS else "",
    }


def _first_file(source: Mapping[str, Any]) -> str:
    return next((source[name] for name in FILES if isinstance(source.get(name), str)), "")


def _hash_file(path: Path) -> str:
    with existing_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(inputs: Mapping[str, Any]) -> str:
    code = _hash_of(file.read_bytes() for file in sorted(Path(__file__).parent.rglob("*.py")))
    text = json.dumps([__version__, FORMAT_VERSION, code, inputs], sort_keys=True, default=str)
    return _hash_of([text.encode()])


def _hash_of(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _built(out: Path, key: str) -> KnowledgeGraph | None:
    """The graph of a folder, if it was built of the same."""
    try:
        return KnowledgeGraph.load(out) if read_manifest(out).get("build") == key else None
    except InputError:
        return None
