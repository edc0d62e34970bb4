"""Gene families: HGNC's gene groups and who is in them."""

import re
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.graph.edges import table_of
from kgnn.graph.knowledge_graph import KnowledgeGraph
from kgnn.graph.obo import read_obo
from kgnn.graph.reading import check_columns, read_table
from kgnn.graph.sources.collect import check_genes
from kgnn.graph.tables import GraphTables
from kgnn.names import all_named, as_names
from kgnn.parts import check_number

IN_FAMILY = ("gene", "in_family", "family")
CHILD_OF = ("family", "child_of", "family")
SAME_FAMILY = ("gene", "same_family", "gene")
ABBREVIATION = re.compile(r'^"([^"]+)"\s+\w+\s+OMO:0003000\b')


def load_gene_families(
    groups: str | Path | None = None,
    complete_set: str | Path | None = None,
    *,
    genes: list[str] | pd.Index | None = None,
    gene_edges: bool = False,
    max_family: int = 100,
    origin: str = "hgnc_families",
) -> KnowledgeGraph:
    """Read HGNC's gene families (Seal et al., NAR 2023; CC0).

    `hgnc_complete_set.txt` says who is in which group (columns `symbol`, `gene_group`, `gene_group_id`, the latter
    two joined by `|`, as many ids as names); `hgnc.genegroup.obo` says which group lies within which. Without the
    complete set, members are guessed from the groups' root symbols (the synonyms of type OMO:0003000): a gene
    belongs to the group with the longest root that its symbol begins with, followed by the symbol's end, by a digit
    (KRT18 → KRT), or, where the root itself ends in a digit, by a letter (CYP11A1 → CYP11, not CYP1). That is an
    approximation: it misses families without a root, and genes not named after theirs; the families' column
    `approximate` says so, and the origin ends in `_by_root`.

    Args:
        groups: `hgnc.genegroup.obo`, the hierarchy.
        complete_set: `hgnc_complete_set.txt` (.gz too).
        genes: symbols to assign by root, when there is no complete set.
        gene_edges: link genes of one family too, both directions; families of more than `max_family` genes are
            skipped and counted.
        max_family: see `gene_edges`.
        origin: name of this source in the graph.

    Returns:
        A graph with the relations `gene–in_family–family`, `family–child_of–family` (with `groups`) and perhaps
        `gene–same_family–gene`. Family nodes are named by HGNC's number (`HGNC_GROUP:589`), columns `label`, `root`.

    Raises:
        InputError: neither members nor genes given, a missing file or column, ids and names that do not pair (line).
    """
    check_number(max_family, "max_family", 1, whole=True)
    hierarchy = None if groups is None else read_obo(groups)
    if complete_set is not None:
        members, labels, record = _members(existing_file(complete_set))
        approximate = False
    elif hierarchy is not None and genes is not None:
        members, record = _by_root(hierarchy, list(dict.fromkeys(all_named(genes, "genes"))), str(groups))
        labels, approximate, origin = {}, True, f"{origin}_by_root"
    else:
        raise InputError("give complete_set (hgnc_complete_set.txt), or groups (hgnc.genegroup.obo) and genes")
    families, links, hierarchy_record = _hierarchy(hierarchy, labels, str(groups))
    for family in set(members["family"]) - set(families.index):
        families.loc[family] = {"label": labels.get(family, family), "root": ""}
    families["approximate"] = approximate
    tables = {IN_FAMILY: members.rename(columns={"gene": "source", "family": "target"}).assign(origin=origin)}
    account = [{"origin": origin, "relation": "–".join(IN_FAMILY), **record}]
    if hierarchy is not None:
        tables[CHILD_OF] = links.assign(origin=origin)
        account.append({"origin": origin, "relation": "–".join(CHILD_OF), **hierarchy_record})
    gene_names = sorted(set(members["gene"]))
    check_genes(gene_names, record["path"])
    graph = KnowledgeGraph({"gene": gene_names, "family": families}, tables, account)
    return graph | _same_family(graph, max_family, origin) if gene_edges else graph


def _id(term: str) -> str:
    return f"HGNC_GROUP:{term.rsplit(':', 1)[-1]}"


def _members(path: Path) -> tuple[pd.DataFrame, dict[str, str], dict]:
    frame, label = read_table(path)
    check_columns(frame, ["symbol", "gene_group", "gene_group_id"], label, "hgnc_complete_set.txt")
    rows: list[tuple[str, str]] = []
    labels: dict[str, str] = {}
    without = 0
    columns = (as_names(frame[name]) for name in ("symbol", "gene_group", "gene_group_id"))
    for number, (gene, names, ids) in enumerate(zip(*columns, strict=True), 2):
        if gene is None:
            raise InputError(f"{label}:{number}: no symbol; correct the row or leave it out")
        if ids is None:
            without += 1
            continue
        # a Parquet or Excel round trip leaves 589.0 for 589
        numbers = [part.strip().removesuffix(".0") for part in ids.strip('"').split("|")]
        words = names.strip('"').split("|") if names else []  # the file puts fields of several in quotes
        if len(words) != len(numbers):
            raise InputError(f"{label}:{number}: {len(words)} gene groups but {len(numbers)} ids; they must pair")
        for word, key in zip(words, numbers, strict=True):
            rows.append((gene, _id(key)))
            labels[_id(key)] = word.strip()
    record = {
        "path": label,
        "rows_read": len(frame),
        "unit": "genes",
        "added": len(rows) - (len(frame) - without),
        "dropped": {"in no group": without} if without else {},
    }
    return pd.DataFrame(rows, columns=["gene", "family"]), labels, record


def _roots(hierarchy: nx.MultiDiGraph) -> dict[str, str]:
    """Return root symbol → family; a root of several groups belongs to the one of the lowest number."""
    roots: dict[str, str] = {}
    for term, data in sorted(hierarchy.nodes(data=True), key=lambda item: _order(item[0])):
        for synonym in data.get("synonym", []):
            hit = ABBREVIATION.match(synonym)
            if hit and "name" in data:
                roots.setdefault(hit.group(1).strip(), _id(term))
    return roots


def _order(term: str) -> tuple[int, str]:
    tail = term.rsplit(":", 1)[-1]
    return (int(tail), term) if tail.isdigit() and len(tail) < 12 else (10**12, term)


def _by_root(hierarchy: nx.MultiDiGraph, genes: list[str], label: str) -> tuple[pd.DataFrame, dict]:
    roots = _roots(hierarchy)
    rows = []
    for gene in genes:
        for end in range(len(gene), 0, -1):
            if gene[:end] in roots and _ends_here(gene, end):
                rows.append((gene, roots[gene[:end]]))
                break
    missed = len(genes) - len(rows)
    record = {"path": label, "rows_read": len(genes), "unit": "genes", "approximate": "by root symbol"}
    record["dropped"] = {"no root symbol fits": missed} if missed else {}
    return pd.DataFrame(rows, columns=["gene", "family"]), record


def _ends_here(gene: str, end: int) -> bool:
    """Whether a root that is the symbol's first `end` characters is no piece of a longer word or number."""
    return end == len(gene) or gene[end].isdigit() != gene[end - 1].isdigit()


def _hierarchy(
    hierarchy: nx.MultiDiGraph | None, labels: dict[str, str], path: str
) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Return the table of families, the edges child → parent, and the account."""
    if hierarchy is None:
        families = pd.DataFrame({"label": labels, "root": dict.fromkeys(labels, "")}, columns=["label", "root"])
        return families, pd.DataFrame(columns=["source", "target"]), {}
    kinds = {term for term, data in hierarchy.nodes(data=True) if "name" in data}
    root_of = {family: root for root, family in _roots(hierarchy).items()}
    described = {
        _id(term): {"label": data["name"], "root": root_of.get(_id(term), "")}
        for term, data in hierarchy.nodes(data=True)
        if term in kinds and "genegroup" in term.lower()
    }
    families = pd.DataFrame.from_dict(described, orient="index", columns=["label", "root"])
    is_a = [(child, parent) for child, parent, kind in hierarchy.edges(keys=True) if kind == "is_a"]
    rows = [
        (_id(a), _id(b)) for a, b in is_a if _id(a) in described and _id(b) in described and "genegroup" in b.lower()
    ]
    record = {"path": path, "rows_read": len(is_a), "unit": "is_a edges"}
    record["dropped"] = {"to a term that is no gene group": len(is_a) - len(rows)} if len(is_a) > len(rows) else {}
    return families, pd.DataFrame(rows, columns=["source", "target"]), record


def _same_family(graph: KnowledgeGraph, max_family: int, origin: str) -> KnowledgeGraph:
    edges = graph.edge_arrays(IN_FAMILY).sort_values(["target", "source"])
    groups = [part.to_numpy() for _, part in edges.groupby("target")["source"]]
    small = [genes for genes in groups if 1 < len(genes) <= max_family]
    pairs = [np.stack(np.meshgrid(genes, genes, indexing="ij"), -1).reshape(-1, 2) for genes in small]
    both = np.concatenate([np.empty((0, 2), np.int32), *pairs])
    both = both[both[:, 0] != both[:, 1]]
    skipped = sum(len(genes) > max_family for genes in groups)
    dropped = {f"family of more than {max_family} genes": skipped} if skipped else {}
    counts = {"rows_read": len(groups), "unit": "families", "dropped": dropped}
    table = table_of(both[:, 0], both[:, 1], origin)
    return KnowledgeGraph.of(
        GraphTables.of_relation({"gene": graph.nodes("gene")}, SAME_FAMILY, table, origin, **counts)
    )
