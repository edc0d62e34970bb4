import inspect

import numpy as np
import pandas as pd
import pytest

from kgnn import KnowledgeGraph
from kgnn.errors import InputError
from kgnn.graph import operations, randomize
from kgnn.graph.edges import linked_pairs, pair_ends, table_of
from kgnn.graph.tables import GraphTables

REL, IN = ("gene", "regulates", "gene"), ("gene", "in_set", "set")
NAME = "–".join(REL)


def names(*words):
    return pd.DataFrame(index=pd.Index(words, dtype=object, name="name"))


def edges(*rows, origin="one"):
    """Encoded edges from (source, target, weight, sign)."""
    source, target, weight, sign = (np.array(column) for column in zip(*rows, strict=True))
    return table_of(source, target, origin, weight, sign)


def encoded():
    # A→B twice and B→B once: one merges, one is a self loop
    return {
        REL: edges((1, 2, 1, -1), (0, 1, 1, 1), (0, 1, 3, 0), (1, 1, 9, 1)),
        IN: edges((2, 0, 1, 0), origin="two"),
    }


@pytest.fixture
def tables():
    account = [
        {"origin": "one", "relation": NAME, "rows_read": 4},
        {"origin": "two", "relation": "–".join(IN), "rows_read": 1},
    ]
    features = {"gene": {"size": np.array([[1], [2], [3]])}}
    return GraphTables.collapsed({"gene": names("A", "B", "C"), "set": names("s")}, encoded(), account, (), features)


def test_collapsing_merges_drops_and_books_and_lets_go_of_what_it_was_given(tables):
    given = encoded()
    GraphTables.collapsed(tables.nodes, given)
    assert given == {}
    stored = tables.table(REL)
    assert stored[["source", "target", "weight", "sign"]].to_numpy().tolist() == [[0, 1, 3, 1], [1, 2, 1, -1]]
    assert tables.account[0] == {
        "origin": "one", "relation": NAME, "rows_read": 4, "kept": 2, "merged": 1, "self_loops": 1, "dropped": {},
    }  # fmt: skip
    assert tables.account[1]["kept"] == 1
    assert tables.features["gene"]["size"].dtype == np.float32


def test_names_stand_for_numbers_and_pairs_combine_origins(tables):
    assert tables.named(IN)[["source", "target", "origin"]].to_numpy().tolist() == [["C", "s", "two"]]
    more = GraphTables.of_relation(
        {"gene": ["A", "B"]}, REL, edges((0, 1, 1, -1), origin="three"), "three", rows_read=1
    )
    both = operations.merge([tables, more])
    assert both.named(REL, by_origin=True)["origin"].tolist() == ["one", "three", "one"]
    assert both.pairs(REL)[["source", "target", "weight", "sign"]].to_numpy().tolist() == [[0, 1, 3, 0], [1, 2, 1, -1]]
    assert both.pairs(REL)["origin"].tolist() == ["one|three", "one"]
    assert both.origins == ["one", "three", "two"]
    again = operations.merge([both, more])
    assert again == both
    assert [(r["kept"], r["merged"]) for r in again.account if r["origin"] == "three"] == [(0, 1), (1, 0)]


def test_what_is_derived_notes_the_operation_and_leaves_the_old_as_it_was(tables):
    less = tables.derive("cut", edges={REL: tables.edges[REL]}, why="test")
    assert less.history == ({"operation": "cut", "why": "test", "edges_before": 3, "edges_after": 2},)
    assert less.nodes is tables.nodes
    less.account[0]["kept"] = 0
    assert (tables.account[0]["kept"], len(tables.edges), tables.history) == (2, 2, ())
    assert tables.derive("clear", edges={}).edges == {}
    assert less != tables
    assert tables.derive("nothing") == tables


def test_nodes_are_taken_with_their_features_and_edges_recoded(tables):
    nodes, features = tables.take_nodes({"gene": np.array([2, 1])})
    assert nodes["gene"].index.tolist() == ["C", "B"]
    assert nodes["set"] is tables.nodes["set"]
    assert features["gene"]["size"].tolist() == [[3], [2]]
    recoded = operations.recoded(tables, {"gene": np.array([-1, 1, 0])})
    assert recoded[REL][["source", "target", "weight"]].to_numpy().tolist() == [[1, 0, 1]]  # A→B goes, B→C is 1→0
    assert recoded[IN][["source", "target"]].to_numpy().tolist() == [[0, 0]]
    assert list(operations.recoded(tables, {"set": np.array([-1])})) == [REL]


def test_linked_pairs_go_either_way_only_where_every_edge_has_its_reverse():
    one_way = edges((2, 1, 1, 0), (0, 1, 1, 0))
    pairs = linked_pairs(REL, one_way)
    assert [x.tolist() for x in pair_ends(pairs.keys)] == [[0, 2], [1, 1]]
    assert (pairs.of_row.tolist(), pairs.symmetric) == ([1, 0], False)
    both_ways = edges((0, 1, 1, 0), (1, 0, 1, 0), (1, 2, 1, 0), (2, 1, 1, 0))
    pairs = linked_pairs(REL, both_ways)
    assert [x.tolist() for x in pair_ends(pairs.keys)] == [[0, 1], [1, 2]]
    assert (pairs.of_row.tolist(), pairs.symmetric) == ([0, 0, 1, 1], True)
    assert not linked_pairs(IN, both_ways).symmetric


def test_what_cannot_be_is_refused(tables):
    with pytest.raises(InputError, match="no node type 'cell' in the graph; it has gene, set"):
        tables.node_table("cell")
    with pytest.raises(InputError, match=r"no relation \('a', 'b', 'c'\) in the graph; it has .*regulates"):
        tables.table(("a", "b", "c"))
    with pytest.raises(InputError, match=r"feature 'x' has the shape \(2, 2\); the graph has 3 gene nodes"):
        tables.derive("features", features={"gene": {"x": np.eye(2)}})
    with pytest.raises(InputError, match="gene 'A' stands twice"):
        GraphTables.of_relation({"gene": ["A", "A"]}, REL, edges((0, 1, 1, 0)), "one")


def test_the_graph_is_a_thin_face_of_its_tables(tables):
    class Mine(KnowledgeGraph):
        pass

    kg = Mine.of(tables)
    assert kg.tables is tables
    assert kg.rewire(0, swaps=2).tables == randomize.rewire(tables, 0, swaps=2)
    assert isinstance(kg.rewire(0), Mine)
    assert kg == KnowledgeGraph.of(tables)
    assert KnowledgeGraph.rewire.__doc__ == randomize.rewire.__doc__
    assert list(inspect.signature(kg.rewire).parameters) == ["seed", "swaps"]
    assert inspect.signature(kg.rewire).return_annotation == "KnowledgeGraph"
    with pytest.raises(TypeError, match="seed"):
        kg.rewire()
    assert "4 rows read; 2 edges kept; merged: 1; self loops: 1" in str(kg.report())
