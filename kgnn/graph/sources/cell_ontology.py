"""The Cell Ontology (OBO): how cell types descend from one another."""

import re
from pathlib import Path

import pandas as pd

from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.obo import living_terms, read_obo, successors
from kgnn.graph.ontology import DEVELOPS_FROM, PART_OF

RELATIONS = {"is_a": "is_a", "part_of": "part_of", PART_OF: "part_of"}
RELATIONS |= {"develops_from": "develops_from", DEVELOPS_FROM: "develops_from"}
EXACT = re.compile(r'^"((?:[^"\\]|\\.)*)"\s+EXACT\b')


def load_cell_ontology(
    path: str | Path, *, node_type: str = "cell_type", origin: str = "cell_ontology"
) -> KnowledgeGraph:
    """Read an ontology of cell types in OBO format (Cell Ontology, Diehl et al. 2016; CC BY 4.0).

    Obsolete terms are left out (counted), with edges to them. An edge that names an alternative id points to the
    term itself. `part_of` and `develops_from` are recognised under their identifiers `BFO:0000050` and `RO:0002202`
    too; other relations are dropped and counted by name.

    Args:
        path: OBO file, for example `cl.obo`; .gz is read as well.
        node_type: type of the nodes; another one for another ontology.
        origin: name of this source in the graph.

    Returns:
        A graph with nodes `cell_type` (term ids; columns `label`, `alt_ids`, `synonyms`, the exact ones, `replaces`
        and `considered_for`, the obsolete ids that the file sends here by `replaced_by` and `consider`; all joined by
        `|`) and the relations `is_a`, `part_of` and `develops_from` between them, from the special to the
        general, where the file has such edges. `Ontology(graph)` answers questions about it.

    Raises:
        InputError: missing or empty file, a file that is not OBO, a term without id, a duplicate id, a cycle of is_a.
    """
    ontology = read_obo(path)
    terms = {term: data for term, data in ontology.nodes(data=True) if "name" in data}
    living, main = living_terms(ontology)
    replaced, consider = successors(ontology)
    replaces, considered = _inverse({old: [new] for old, new in replaced.items()}), _inverse(consider)

    read: dict[str, int] = {}
    lost: dict[str, int] = {}
    other: dict[str, int] = {}
    rows = []
    for child, parent, kind in ontology.edges(keys=True):
        relation = RELATIONS.get(kind)
        if relation is None:
            other[f"relation {kind}"] = other.get(f"relation {kind}", 0) + 1
            continue
        read[relation] = read.get(relation, 0) + 1
        if main.get(child) and main.get(parent):
            rows.append((relation, main[child], main[parent]))
        else:
            lost[relation] = lost.get(relation, 0) + 1
    table = pd.DataFrame(rows, columns=["relation", "source", "target"]).assign(origin=origin)
    nodes = pd.DataFrame(
        {
            "label": [data["name"] for data in living.values()],
            "alt_ids": ["|".join(data.get("alt_id", [])) for data in living.values()],
            "synonyms": ["|".join(_exact(data.get("synonym", []))) for data in living.values()],
            "replaces": ["|".join(replaces.get(term, [])) for term in living],
            "considered_for": ["|".join(considered.get(term, [])) for term in living],
        },
        index=pd.Index(list(living), dtype=object),
    )
    account = [
        {
            "origin": origin,
            "relation": f"{node_type}–{relation}–{node_type}",
            "path": str(path),
            "rows_read": n,
            "unit": "edges",
            "dropped": {"obsolete or undefined term": lost[relation]} if relation in lost else {},
        }
        for relation, n in read.items()
    ]
    left_out = {"obsolete": len(terms) - len(living)}
    left_out["only named, not described"] = ontology.number_of_nodes() - len(terms)
    if any(left_out.values()) or other:
        record = {"origin": origin, "relation": "terms", "path": str(path), "unit": "terms", "kept": len(living)}
        dropped = {reason: n for reason, n in left_out.items() if n}
        account.append(record | {"rows_read": ontology.number_of_nodes(), "dropped": dropped})
    if other:
        record = {"origin": origin, "relation": "other relations", "path": str(path), "unit": "edges", "kept": 0}
        account.append(record | {"rows_read": sum(other.values()), "dropped": other})
    edges = {
        (node_type, str(relation), node_type): part.drop(columns="relation")
        for relation, part in table.groupby("relation")
    }
    return KnowledgeGraph({node_type: nodes}, edges, account)


def _inverse(ends: dict[str, list[str]]) -> dict[str, list[str]]:
    starts: dict[str, list[str]] = {}
    for start, found in ends.items():
        for end in found:
            starts.setdefault(end, []).append(start)
    return starts


def _exact(synonyms: list[str]) -> list[str]:
    found = (EXACT.match(synonym) for synonym in synonyms)
    return list(dict.fromkeys(hit.group(1).replace('\\"', '"').replace("|", "/") for hit in found if hit))
