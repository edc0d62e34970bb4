"""N-Triples (RDF), read in a stream: what is not asked for never stays in memory."""

import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kgnn.errors import InputError
from kgnn.files import MAX_LINE, existing_file, open_bytes
from kgnn.graph.edges import Relation
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.reading import origin_of, text_lines
from kgnn.graph.sources.collect import EdgeCollector, Names
from kgnn.parts import expect

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

    The file is streamed in pieces of 16 MB: memory is taken by the edges that are kept (17 bytes each), their nodes'
    names, and the labels of nodes of known types, where they are asked for; not by the file. Of the triples with a
    wanted predicate those whose ends are of known types become edges; `rdfs:label` becomes the nodes' column `label`
    where `relations` asks for it (`{"http://www.w3.org/2000/01/rdf-schema#label": "label"}`). All else is dropped and
    counted.

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
    for what, given in (("relations", relations), ("types", types)):
        expect(given, Mapping, what)
    if not types or not relations:
        raise InputError(f"{path}: give relations (predicate → name) and types (beginning of an IRI → node type)")
    gathered = _Gathered(relations, types, strip)
    first, done, triples = 1, 0, 0
    for block in _blocks(path):
        read, table = _parse(path, block, relations, first)
        gathered.add(table, read)
        triples += read
        first += block.count(b"\n")
        done += len(block)
        if progress is not None:
            progress(done)
    if not gathered.collectors:
        reasons = "; ".join(f"{reason}: {n}" for reason, n in gathered.dropped.items())
        raise InputError(
            f"{path}: no edge among {triples} triples ({reasons or 'none read'}); check relations and types"
        )
    return gathered.graph(origin or origin_of(path), str(path))


class _Gathered:
    """The edges and labels of the triples read so far."""

    def __init__(self, relations: Mapping[str, str], types: Mapping[str, str], strip: bool) -> None:
        self.wanted = pa.array([f"<{predicate}>" for predicate in relations])
        self.relation_names = list(relations.values())
        self.keep_labels = relations.get(LABEL) == "label"
        self.beginnings = sorted(types, key=len, reverse=True)
        self.kinds = [types[beginning] for beginning in self.beginnings]
        self.strip = strip
        self.names: dict[str, Names] = {}
        self.collectors: dict[Relation, EdgeCollector] = {}
        self.labels: dict[str, dict[str, str]] = {}
        self.dropped: dict[str, int] = {}

    def _count(self, reason: str, n: int) -> None:
        if n:
            self.dropped[reason] = self.dropped.get(reason, 0) + n

    def add(self, table: pa.Table, n_read: int) -> None:
        """Take what is wanted of a block's triples (columns s, p, o, l), of which `n_read` were read in all."""
        table = table.filter(pc.is_in(table["p"], self.wanted))
        self._count("other predicate", n_read - len(table))
        literal = pc.not_equal(table["l"], "")
        texts = table.filter(literal)
        if self.keep_labels:
            self._add_labels(texts.filter(pc.equal(texts["p"], f"<{LABEL}>")))
            texts = texts.filter(pc.not_equal(texts["p"], f"<{LABEL}>"))
        self._count("literal object", len(texts))
        self._add_edges(table.filter(pc.invert(literal)))

    def _add_labels(self, table: pa.Table) -> None:
        self._count("label", len(table))
        kind, name = _typed(table["s"], self.beginnings, self.strip)
        for number, node, text in zip(kind, name.to_pylist(), table["l"].to_pylist(), strict=True):
            if number >= 0:
                self.labels.setdefault(self.kinds[number], {})[node] = _text(text)

    def _add_edges(self, table: pa.Table) -> None:
        source_kind, source = _typed(table["s"], self.beginnings, self.strip)
        target_kind, target = _typed(table["o"], self.beginnings, self.strip)
        known = (source_kind >= 0) & (target_kind >= 0)
        self._count("an end of no known type", int((~known).sum()))
        predicate = pc.index_in(table["p"], self.wanted).to_numpy()
        group = np.stack([source_kind, predicate, target_kind])
        for a, p, b in np.unique(group[:, known], axis=1).T:
            rows = pa.array(np.flatnonzero(known & (group == [[a], [p], [b]]).all(axis=0)))
            key = (self.kinds[a], self.relation_names[p], self.kinds[b])
            collector = self.collectors.setdefault(key, EdgeCollector(key, self.names))
            collector.add(source.take(rows), target.take(rows))

    def graph(self, origin: str, label: str) -> KnowledgeGraph:
        """Return the graph, with all triples in its account."""
        parts = [collector.graph(origin, label=label, unit="triples") for collector in self.collectors.values()]
        record = {"origin": origin, "relation": "other triples", "path": label, "unit": "triples"}
        counts = {"rows_read": sum(self.dropped.values()), "kept": 0, "merged": 0, "self_loops": 0}
        if self.dropped:
            parts.append(KnowledgeGraph({}, {}, [record | counts | {"dropped": self.dropped}]))
        graph = KnowledgeGraph.merge(parts)
        for kind, labels in self.labels.items():
            if kind in graph.node_types:
                graph = graph.with_node_column("label", labels, kind)
        return graph


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield whole lines, many at a time."""
    try:
        with open_bytes(path) as file:
            rest, n_lines = file.read(3).removeprefix(b"\xef\xbb\xbf"), 0
            while True:
                piece = file.read(CHUNK)
                if not piece:
                    break
                if b"\0" in piece:
                    raise OSError("a null character")
                end = piece.rfind(b"\n") + 1
                if not end:
                    rest += piece
                    if len(rest) > MAX_LINE:
                        raise InputError(
                            f"{path}:{n_lines + 1}: a line longer than {MAX_LINE >> 20} MB; is it an N-Triples file?"
                        )
                    continue
                block = rest + piece[:end]
                rest = piece[end:]
                n_lines += block.count(b"\n")
                yield block
            if rest:
                yield rest
    except (EOFError, OSError, zlib.error) as error:
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


def _typed(column: pa.ChunkedArray, beginnings: list[str], strip: bool) -> tuple[np.ndarray, pa.Array]:
    """Return the number of the IRI's beginning that each node has (−1: none), and the node's name."""
    iri = pc.replace_substring_regex(column.combine_chunks(), r"^<(.*)>$", r"\1")
    kind = np.full(len(iri), -1)
    name = iri
    for number, beginning in enumerate(beginnings):
        fits = pc.starts_with(iri, beginning).to_numpy(zero_copy_only=False) & (kind < 0)
        if fits.any():
            kind[fits] = number
            if strip:
                name = pc.if_else(pa.array(fits), pc.utf8_slice_codeunits(iri, len(beginning)), name)
    kind[pc.equal(pc.utf8_length(name), 0).to_numpy(zero_copy_only=False)] = -1
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
