"""Parts of the human graph that are left out, and what is compared with the whole."""

import pandas as pd
import pytest

from benchmarks import node_types
from benchmarks.node_types import Variant, compared, linked, parts, variants
from kgnn import KnowledgeGraph
from kgnn.graph import load_table


def edges(relation: str, origin: str, pairs: str, kind: str = "gene") -> KnowledgeGraph:
    table = pd.DataFrame([pair.split("-") for pair in pairs.split()], columns=["source", "target"])
    return load_table(table, relation=relation, origin=origin, target_type=kind)


@pytest.fixture
def kg() -> KnowledgeGraph:
    return KnowledgeGraph.merge(
        [
            edges("in", "GO", "A-s1 B-s1", "set"),
            edges("in", "CORUM", "A-s2 C-s2 D-s2", "set"),
            edges("of", "HGNC", "B-f", "family"),
            edges("binds", "PPI", "A-B"),
        ]
    )


def left(graph: KnowledgeGraph) -> set[str]:
    return {f"{a}-{b}" for relation in graph.relations for a, b in graph.edges(relation)[["source", "target"]].values}


def test_each_type_and_each_source_of_several_is_left_out_and_alone(kg):
    assert parts(kg) == {
        "set (CORUM, GO)": ("CORUM", "GO"),
        "family (HGNC)": ("HGNC",),
        "among genes (PPI)": ("PPI",),
        "in (CORUM)": ("CORUM",),
        "in (GO)": ("GO",),
    }
    graphs = {variant.name: variant.graph(kg) for variant in variants(kg)}
    assert len(graphs) == 1 + 2 * 5
    assert left(graphs["whole graph"]) == left(kg)
    assert left(graphs["without set (CORUM, GO)"]) == {"B-f", "A-B"}
    assert left(graphs["set (CORUM, GO) alone"]) == {"A-s1", "B-s1", "A-s2", "C-s2", "D-s2"}
    assert left(graphs["without in (GO)"]) == {"A-s2", "C-s2", "D-s2", "B-f", "A-B"}
    assert left(graphs["family (HGNC) alone"]) == {"B-f"}
    assert {len(graph.nodes("gene")) for graph in graphs.values()} == {4}


def test_linked_counts_knock_downs_with_an_edge(kg):
    names = pd.Index(["A", "B", "C", "E"])
    assert linked(kg, names) == 3 / 4
    assert linked(kg.only_sources("PPI"), names) == 2 / 4
    assert linked(kg.only_sources("HGNC"), names) == 1 / 4


def test_differences_are_paired_by_knock_down(kg, tmp_path, monkeypatch):
    monkeypatch.setattr(node_types, "WORK", tmp_path)
    whole = pd.Series([0.1, 0.5, 0.3], index=["A", "B", "C"], name="centred")
    for variant in variants(kg):
        lost = 0.2 if variant.how == "without" else 0.0
        (whole - lost).to_csv(variant.path("k562", "random"))
    y = pd.DataFrame(0.0, whole.index, ["g"])
    rows = pd.DataFrame(compared("k562", "random", y, kg)).set_index("graph")
    assert rows.loc["whole graph", "difference"] == ""
    assert rows.loc["whole graph", "centred"].startswith("0.300 (")
    assert rows.loc["without in (GO)", "centred"].startswith("0.100 (")
    assert rows.loc["without in (GO)", "difference"] == "-0.200 (-0.200–-0.200)"  # every knock-down loses as much
    assert rows.loc["in (GO) alone", "difference"] == "0.000 (0.000–0.000)"
    assert rows["edges"].to_dict()["without in (GO)"] == 5
    assert len({variant.path("k562", "random") for variant in variants(kg)}) == len(variants(kg))
    assert Variant("", "whole").path("rpe1", "clusters") != Variant("", "whole").path("rpe1", "random")
