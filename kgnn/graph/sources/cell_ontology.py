"""The Cell Ontology (OBO): how cell types descend from one another."""

from pathlib import Path

import networkx as nx
import obonet
import pandas as pd

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.knowledge_graph import KnowledgeGraph

RELATIONS = ("is_a", "part_of")
PART_OF = "BFO:0000050"  # the identifier behind part_of; releases write one or the other


def load_cell_ontology(path: str | Path, *, origin: str = "cell_ontology") -> KnowledgeGraph:
    """Read an ontology of cell types in OBO format (Cell Ontology, Diehl et al. 2016; CC BY 4.0).

    Obsolete terms are left out (counted), with edges to them. An edge that names an alternative id points to the
    term itself. `part_of` is recognised under its identifier `BFO:0000050` too.

    Args:
        path: OBO file, for example `cl.obo`; .gz is read as well.
        origin: name of this source in the graph.

    Returns:
        A graph with nodes `cell_type` (term ids; columns `label` and `alt_ids`, alternative ids joined by `|`) and
        the relations `("cell_type", "is_a", "cell_type")` and `("cell_type", "part_of", "cell_type")`, from the
        special to the general, where the file has such edges.

    Raises:
        InputError: missing or empty file, a file that is not OBO, no term, a cycle of is_a.
    """
    path = existing_file(path)
    try:
        ontology = obonet.read_obo(path, ignore_obsolete=False)
    except Exception as error:  # obonet raises whatever its line parser trips over
        raise InputError(f"{path}: cannot be read as OBO ({type(error).__name__}: {error})") from None
    terms = {term: data for term, data in ontology.nodes(data=True) if "name" in data}
    if not terms:
        raise InputError(f"{path}: no [Term] with an id and a name; is it an OBO file?")
    living = {term: data for term, data in terms.items() if data.get("is_obsolete", "false") != "true"}
    main = {alias: term for term, data in living.items() for alias in data.get("alt_id", [])}
    main |= {term: term for term in living}

    counts = dict.fromkeys(RELATIONS, 0)
    lost = dict.fromkeys(RELATIONS, 0)
    rows = []
    for child, parent, kind in ontology.edges(keys=True):
        relation = "part_of" if kind == PART_OF else kind
        if relation not in RELATIONS:
            continue
        counts[relation] += 1
        if main.get(child) and main.get(parent):
            rows.append((relation, main[child], main[parent]))
        else:
            lost[relation] += 1
    table = pd.DataFrame(rows, columns=["relation", "source", "target"]).assign(origin=origin)
    _check_acyclic(table[table["relation"] == "is_a"], path)

    nodes = pd.DataFrame(
        {
            "label": [data["name"] for data in living.values()],
            "alt_ids": ["|".join(data.get("alt_id", [])) for data in living.values()],
        },
        index=pd.Index(list(living), dtype=object),
    )
    account = []
    for relation in RELATIONS:
        dropped = {"obsolete or undefined term": lost[relation]} if lost[relation] else {}
        if relation == "is_a" and len(terms) > len(living):
            dropped["obsolete terms"] = len(terms) - len(living)
        account.append(
            {
                "origin": origin,
                "relation": relation,
                "path": str(path),
                "rows_read": counts[relation],
                "dropped": dropped,
            }
        )
    edges = {
        ("cell_type", str(relation), "cell_type"): part.drop(columns="relation")
        for relation, part in table.groupby("relation")
    }
    return KnowledgeGraph({"cell_type": nodes}, edges, account)


def _check_acyclic(is_a: pd.DataFrame, path: Path) -> None:
    graph = nx.DiGraph(list(zip(is_a["source"], is_a["target"], strict=True)))
    try:
        cycle = nx.find_cycle(graph)
    except nx.NetworkXNoCycle:
        return
    raise InputError(f"{path}: is_a goes in a circle: {' → '.join([a for a, _ in cycle] + [cycle[0][0]])}")
