"""A graph described by a TOML file, built source by source; what has not changed comes from a cache."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kgnn.errors import InputError, OutputError
from kgnn.files import cache_folder, existing_file, read_h5ad
from kgnn.folders import check_folder
from kgnn.graph import sources
from kgnn.graph.identifiers import GeneNames
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.orthologs import Orthologs, join_species
from kgnn.graph.storage import FORMAT_VERSION, KIND, read_manifest
from kgnn.version import __version__

logger = logging.getLogger("kgnn")

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
    "kgx": sources.load_kgx,
    "ntriples": sources.load_ntriples,
}
FROM_CELLS = ("coexpression", "markers")
FILES = ("path", "table", "groups", "complete_set", "ontology", "names", "nodes", "edges", "genes")
GRAPH_KEYS = ("root", "species", "namespace", "genes", "keep_unknown")
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
    settings = _read_toml(path)
    if out is not None:
        check_folder(out, KIND)
    key = _digest(_inputs(path, settings, cells_key))
    if out is not None and (found := _built(Path(out), key)) is not None:
        return found
    if "join" in settings:
        graph = _join(path, settings["join"], cells, cells_key, progress)
    else:
        graph = _merge(path, settings, cells, cells_key, progress)
    if out is not None:
        graph.save(out, {"build": key})
    return graph


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from None
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
    for name in source:
        if name != "kind" and name not in allowed:
            raise InputError(f"{path}: source {number} ({kind}) has no option {name!r}; it has {', '.join(allowed)}")


def _root(path: Path, settings: Mapping[str, Any]) -> Path:
    return path.parent / Path(os.path.expandvars(settings.get("graph", {}).get("root", "."))).expanduser()


def _merge(
    path: Path, settings: Mapping[str, Any], cells: Cells | None, cells_key: str, progress: Progress | None
) -> KnowledgeGraph:
    graph, root = settings.get("graph", {}), _root(path, settings)
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
        key = _digest({"source": _source_inputs(root, source, cells_key), "graph": _graph_inputs(path, settings)})
        folder = cache_folder() / key
        try:
            part = KnowledgeGraph.load(folder)
        except InputError:
            part = _load_source(path, root, source, cells, gene_names)
            if graph.get("namespace") and "gene" in part.node_types:
                keep = graph.get("keep_unknown", False)
                part = part.map_genes(gene_names(), graph["namespace"], keep_unknown=keep)
            elif graph.get("species") and "gene" in part.node_types:
                part = part.with_node_column("species", graph["species"])
            try:
                part.save(folder)
            except OutputError as error:
                logger.warning("no cache, the source is read again next time: %s", error)
        parts.append(part)
    return KnowledgeGraph.merge(parts)


def _load_source(
    path: Path, root: Path, source: Mapping[str, Any], cells: Cells | None, gene_names: Callable[[], GeneNames]
) -> KnowledgeGraph:
    kind = source["kind"]
    options = {name: value for name, value in source.items() if name not in ("kind", "obs", "cells")}
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
            species: _inputs(path.parent / part, _read_toml(existing_file(path.parent / part)), cells_key)
            for species, part in join.get("graphs", {}).items()
        }
        orthologs = path.parent / os.path.expandvars(join.get("orthologs", ""))
        return {"join": {**join, "orthologs": _hash_file(orthologs)}, "parts": parts}
    root = _root(path, settings)
    inputs = [_source_inputs(root, source, cells_key) for source in settings["source"]]
    return {"sources": inputs, "graph": _graph_inputs(path, settings)}


def _graph_inputs(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    graph = {name: value for name, value in settings.get("graph", {}).items() if name != "root"}
    return graph | {"genes": [_hash_file(_root(path, settings) / table) for table in graph.get("genes", [])]}


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
