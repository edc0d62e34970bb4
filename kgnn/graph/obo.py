"""OBO files: obonet reads them; this checks what obonet lets pass or trips over, with lines."""

import io
import re
from itertools import takewhile
from pathlib import Path

import networkx as nx
import obonet

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.reading import text_lines

STANZAS = ("", "[Term]", "[Typedef]", "[Instance]")  # the first is the header
AFTER_ID = re.compile(r"(?:^|\s+)[!{]")  # a comment or a modifier; without a blank before it is a part of the id
ESCAPE = re.compile(r"\\(.)")  # OBO writes a comma in a name as \,


def read_obo(path: str | Path) -> nx.MultiDiGraph:
    """Return the ontology as obonet does (child → parent, the relation as key), obsolete terms included.

    Terms that are only named by others, but not described in the file, have no attribute `name`; an obsolete one that
    the file describes without a name is named by its id.

    Raises:
        InputError: missing file; not OBO; a [Term] without an id, or a living one without a name; an id that stands
            twice; a cycle of is_a. With the line.
    """
    path = existing_file(path)
    lines, line_of = _check(path)
    if not any(line.startswith("ontology: ") for line in takewhile(bool, lines)):
        lines.insert(0, f"ontology: {path.stem}")  # obonet would complain through the root logger
    try:
        ontology = obonet.read_obo(io.StringIO("\n".join(lines)), ignore_obsolete=False)
    except Exception as error:  # obonet raises whatever its line parser trips over
        what = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read as OBO ({type(error).__name__}: {what})") from None
    for data in dict(ontology.nodes(data=True)).values():
        if "name" in data:
            data["name"] = ESCAPE.sub(lambda hit: {"n": " ", "W": " ", "t": "\t"}.get(hit[1], hit[1]), data["name"])
    for term in line_of.keys() & ontology.nodes:
        ontology.nodes[term].setdefault("name", term)
    main = {alias: term for term, data in ontology.nodes(data=True) for alias in data.get("alt_id", [])}
    is_a = nx.DiGraph(
        (main.get(child, child), main.get(parent, parent))
        for child, parent, kind in ontology.edges(keys=True)
        if kind == "is_a"
    )
    try:
        cycle = [child for child, _ in nx.find_cycle(is_a)]
    except nx.NetworkXNoCycle:
        return ontology
    where = line_of.get(cycle[0], 0)
    raise InputError(f"{path}:{where}: is_a goes in a circle: {' → '.join([*cycle, cycle[0]])}")


def living_terms(ontology: nx.MultiDiGraph) -> tuple[dict[str, dict], dict[str, str]]:
    """Return the described terms that are not obsolete, and every id of theirs, alternative ones too → its term."""
    living = {t: d for t, d in ontology.nodes(data=True) if "name" in d and d.get("is_obsolete", "false") != "true"}
    main = {alias: term for term, data in living.items() for alias in data.get("alt_id", [])}
    return living, main | {term: term for term in living}


def successors(ontology: nx.MultiDiGraph) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return what follows obsolete terms: id → the one living term that replaces it, and id → those to consider.

    Replacements that are obsolete themselves are followed; where several replace a term, they are to be considered.
    """
    living, main = living_terms(ontology)

    def follow(term: str, seen: frozenset[str]) -> list[str]:
        if term in main:
            return [main[term]]
        if term in seen or term not in ontology:
            return []
        return [end for new in ontology.nodes[term].get("replaced_by", []) for end in follow(new, seen | {term})]

    replaced, consider = {}, {}
    for term, data in ontology.nodes(data=True):
        if "name" not in data or term in living:
            continue
        ends = list(dict.fromkeys(follow(term, frozenset())))
        others = [main[other] for other in data.get("consider", []) if other in main]
        if len(ends) == 1:
            replaced[term] = ends[0]
        elif ends or others:
            consider[term] = list(dict.fromkeys([*ends, *others]))
    return replaced, consider


def _check(path: Path) -> tuple[list[str], dict[str, int]]:
    """Return the file's lines, stanzas parted by one blank line and those of other kinds left out, and each id's line.

    obonet takes what follows a blank line within a stanza, or an unknown stanza, for the file's header, and loses it.
    """
    lines: list[str] = []
    line_of: dict[str, int] = {}
    stanza, begin, term, name, obsolete = "", 0, None, False, False

    def close() -> None:
        if stanza != "[Term]":
            return
        if term is None:
            raise InputError(f"{path}:{begin}: a [Term] without an id; add it or remove the term")
        if not name and not obsolete:
            raise InputError(f"{path}:{line_of[term]}: the term {term} has no name; add it or remove the term")

    for number, line in text_lines(path):
        text = line.strip()
        if not text or text.startswith("!"):
            continue
        if text.startswith("["):
            if not (found := re.match(r"\[(\w+)\]\s*(!.*)?$", text)):
                raise InputError(
                    f"{path}:{number}: {text[:60]!r} begins no stanza; one begins with [Term] or [Typedef]"
                )
            close()
            stanza, begin, term, name, obsolete = f"[{found[1]}]", number, None, False, False
            lines += ["", stanza] if stanza in STANZAS else []
            continue
        if stanza not in STANZAS:
            continue
        lines.append(text)
        if ":" not in text:
            raise InputError(f"{path}:{number}: {text[:60]!r} is no 'tag: value'; is it an OBO file?")
        if stanza == "[Term]" and text.startswith("id:"):
            if term is not None:
                raise InputError(f"{path}:{number}: a second id in one [Term]; is a line '[Term]' missing above?")
            term = AFTER_ID.split(text[3:].strip())[0]
            if not term:
                raise InputError(f"{path}:{number}: an empty id; add it or remove the term")
            if term in line_of:
                raise InputError(f"{path}:{number}: the id {term} stands twice, first on line {line_of[term]}")
            line_of[term] = number
        elif stanza == "[Term]" and text.startswith("name:"):
            name = bool(text[5:].strip())
        elif stanza == "[Term]" and text.startswith("is_obsolete:"):
            obsolete = text[12:].split("!")[0].strip() == "true"
    close()
    if not line_of:
        raise InputError(f"{path}: no [Term] with an id and a name; is it an OBO file?")
    return lines, line_of
