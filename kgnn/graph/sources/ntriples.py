"""N-Triples (RDF), read in a stream: what is not asked for never stays in memory."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.edges import Relation
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.sources.collect import EdgeCollector, Names
from kgnn.graph.sources.reading import MAX_LINE, open_bytes, origin_of, text_lines

CHUNK = 1 << 24
# subject, predicate, object, of which one is set: an IRI or blank node, or a literal
TRIPLE = (
    r'^\s*(?P<s><[^<>"{}|^`\\\x00-\x20]*>|_:[^\s<>"]+)\s*'
    r'(?P<p><[^<>"{}|^`\\\x00-\x20]*>)\s*'
    r'(?:(?P<o><[^<>"{}|^`\\\x00-\x20]*>|_:[^\s<>"]*[^\s<>".])|'
    r'(?P<l>"(?:[^"\\\n\r]|\\.)*"(?:\^\^<[^<>\s]*>|@[A-Za-z]+(?:-[A-Za-z0-9]+)*)?))\s*\.\s*(?:#.*)?$'
)
LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
ESCAPES = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f"}


def load_ntriples(
    path: str | Path,
    relations: Mapping[str, str],
    *,
    types: Mapping[str, str],
    strip: bool = True,
    origin: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> KnowledgeGraph:
    """Read edges from N-Triples (W3C Recommendation 2014), as Bio2RDF, UniProt and others hand them out.

    The file is streamed in pieces of 16 MB: memory is taken by the edges that are kept (17 bytes each) and their
    nodes' names, not by the file. Of the triples with a wanted predicate those whose ends are of known types become
    edges; `rdfs:label` of a node that has an edge becomes its column `label`, where the label is asked for in
    `relations` (`{"http://www.w3.org/2000/01/rdf-schema#label": "label"}`). All else is dropped and counted.

    Args:
        path: .nt file, .gz too.
        relations: predicate IRI → relation name.
        types: beginning of an IRI → node type, the longest that fits counts:
            `{"http://bio2rdf.org/ncbigene:": "gene"}`. `_:` stands for blank nodes.
        strip: nodes are called by what follows the type's beginning (`7157`); otherwise by the whole IRI.
        origin: name of this source in the graph; by default the file's name without its ending.
        progress: called with the number of bytes read so far, after each piece.

    Raises:
        InputError: missing file, a line that is no triple (with its number), no edge.
    """
    path = existing_file(path)
    if not types or not relations:
        raise InputError(f"{path}: give relations (predicate → name) and types (beginning of an IRI → node type)")
    beginnings = sorted(types, key=len, reverse=True)
    collectors: dict[Relation, EdgeCollector] = {}
    names: dict[str, Names] = {}
    labels: dict[str, str] = {}
    dropped: dict[str, int] = {}
    triples = 0

    def count(reason: str, n: int) -> None:
        if n:
            dropped[reason] = dropped.get(reason, 0) + n

    wanted = pa.array([f"<{predicate}>" for predicate in relations])
    first, done = 1, 0
    for block, n_lines, n_bytes in _blocks(path):
        read, table = _parse(path, block, relations, first)
        triples += read
        first += n_lines
        done += n_bytes
        keep = pc.is_in(table["p"], wanted)
        count("other predicate", read - pc.sum(keep).as_py() if len(table) else read)
        table = table.filter(keep)
        literal = pc.not_equal(table["l"], "")
        if relations.get(LABEL) == "label":
            named = table.filter(pc.and_(literal, pc.equal(table["p"], f"<{LABEL}>")))
            labels |= {s: _text(text) for s, text in zip(named["s"].to_pylist(), named["l"].to_pylist(), strict=True)}
            literal_count = pc.sum(literal).as_py() or 0
            count("literal object", literal_count - len(named))
            count("label", len(named))
        else:
            count("literal object", pc.sum(literal).as_py() or 0)
        table = table.filter(pc.invert(literal))
        source_kind, source = _typed(table["s"], beginnings, types, strip)
        target_kind, target = _typed(table["o"], beginnings, types, strip)
        known = (source_kind >= 0) & (target_kind >= 0)
        count("an end of no known type", int((~known).sum()))
        predicate = pc.index_in(table["p"], wanted).to_numpy(zero_copy_only=False)
        kinds, relation_names = [types[b] for b in beginnings], list(relations.values())
        group = (source_kind * len(wanted) + predicate) * len(kinds) + target_kind
        for code in np.unique(group[known]):
            rows = pa.array(np.flatnonzero(known & (group == code)))
            rest, t = divmod(int(code), len(kinds))
            s, p = divmod(rest, len(wanted))
            key = (kinds[s], relation_names[p], kinds[t])
            collector = collectors.setdefault(key, EdgeCollector(key, names))
            collector.add(source.take(rows), target.take(rows))
        if progress is not None:
            progress(done)
    if not collectors:
        reasons = "; ".join(f"{reason}: {n}" for reason, n in dropped.items())
        raise InputError(
            f"{path}: no edge among {triples} triples ({reasons or 'none read'}); check relations and types"
        )
    origin = origin or origin_of(path)
    graph = KnowledgeGraph.merge([c.graph(origin, label=str(path), unit="triples") for c in collectors.values()])
    record: dict[str, Any] = {
        "origin": origin,
        "relation": "other triples",
        "path": str(path),
        "unit": "triples",
        "kept": 0,
    }
    record |= {"rows_read": sum(dropped.values()), "dropped": dropped, "merged": 0, "self_loops": 0}
    graph.account = (*graph.account, record) if dropped else graph.account
    if labels:
        found = _by_node(labels, beginnings, types, strip)
        for kind in graph.node_types:
            graph = graph.with_node_column("label", found.get(kind, {}), kind) if kind in found else graph
    return graph


def _blocks(path: Path):  # type: ignore[no-untyped-def]
    """Yield (whole lines as bytes, their number, bytes of the file read for them)."""
    try:
        with open_bytes(path) as file:
            rest = b""
            while True:
                piece = file.read(CHUNK)
                if not piece:
                    break
                end = piece.rfind(b"\n") + 1
                if not end:
                    rest += piece
                    if len(rest) > MAX_LINE:
                        raise InputError(f"{path}: a line longer than {MAX_LINE >> 20} MB; is it an N-Triples file?")
                    continue
                block = rest + piece[:end]
                rest = piece[end:]
                yield block, block.count(b"\n"), len(block)
            if rest:
                yield rest, 1, len(rest)
    except (EOFError, OSError) as error:
        for _ in text_lines(path):  # names the line
            pass
        raise InputError(f"{path}: cannot be read: {error}") from None


def _parse(path: Path, block: bytes, relations: Mapping[str, str], first: int) -> tuple[int, pa.Table]:
    """Return the number of triples in the block, and s, p, o, l of those that may have a wanted predicate."""
    try:
        text = pa.array([block.decode("utf-8")], pa.large_string())
    except UnicodeDecodeError as error:
        line = first + block[: error.start].count(b"\n")
        raise InputError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    lines = pc.split_pattern(text, "\n").flatten()
    blank = pc.match_substring_regex(lines, r"^\s*(#.*)?$")
    read = len(lines) - (pc.sum(blank).as_py() or 0)
    likely = (
        pc.match_substring(lines, f"<{next(iter(relations))}>")
        if len(relations) == 1
        else pc.match_substring_regex(lines, "|".join(f"<{re.escape(predicate)}>" for predicate in relations))
    )
    chosen = pc.and_(likely, pc.invert(blank))
    # the other lines must at least begin and end like a triple
    odd = pc.and_(pc.invert(pc.match_substring_regex(lines, r"^\s*(<|_:).*\.\s*(#.*)?$")), pc.invert(blank))
    parsed = pc.extract_regex(lines.filter(chosen), TRIPLE)
    bad = odd
    if parsed.null_count:
        failed = np.zeros(len(lines), bool)
        failed[
            np.flatnonzero(chosen.to_numpy(zero_copy_only=False))[pc.is_null(parsed).to_numpy(zero_copy_only=False)]
        ] = True
        bad = pc.or_(bad, pa.array(failed))
    if pc.any(bad).as_py():
        row = int(np.argmax(bad.to_numpy(zero_copy_only=False)))
        raise InputError(f"{path}:{first + row}: no triple: {lines[row].as_py()[:80]!r}")
    columns = {name: parsed.field(i) for i, name in enumerate("spol")}
    return read, pa.table(columns)


def _typed(
    column: pa.ChunkedArray, beginnings: list[str], types: Mapping[str, str], strip: bool
) -> tuple[np.ndarray, pa.Array]:
    """Return the number of each node's type (−1: none) and its name."""
    values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    values = values if isinstance(values, pa.Array) else values.chunk(0)
    iri = pc.replace_substring_regex(values, r"^<(.*)>$", r"\1")
    kind = np.full(len(iri), -1)
    name = iri
    for number, beginning in enumerate(beginnings):
        fits = pc.starts_with(iri, beginning).to_numpy(zero_copy_only=False) & (kind < 0)
        if fits.any():
            kind[fits] = number
            if strip:
                name = pc.if_else(pa.array(fits), pc.utf8_slice_codeunits(iri, len(beginning)), name)
    empty = pc.equal(pc.utf8_length(name), 0).to_numpy(zero_copy_only=False)
    kind[empty] = -1
    return kind, name


def _text(literal: str) -> str:
    """Return what a literal says: without quotes, language and type, escapes resolved."""
    inner = literal[1 : literal.rindex('"')]
    pattern = r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))"

    def plain(hit: re.Match) -> str:
        code = hit[1] or hit[2]
        if code and int(code, 16) < 0x110000:
            return chr(int(code, 16))
        return ESCAPES.get(hit[3] or "", hit[3] or hit[0])

    return re.sub(pattern, plain, inner)


def _by_node(
    labels: dict[str, str], beginnings: list[str], types: Mapping[str, str], strip: bool
) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for subject, label in labels.items():
        iri = subject[1:-1] if subject.startswith("<") else subject
        beginning = next((b for b in beginnings if iri.startswith(b)), None)
        if beginning is not None:
            found.setdefault(types[beginning], {})[iri[len(beginning) :] if strip else iri] = label
    return found
