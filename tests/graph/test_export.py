import numpy as np
import pandas as pd
import pytest

from kgnn import KnowledgeGraph
from kgnn.errors import InputError
from kgnn.graph import load_kgx


def test_kgx_and_back(small_kg, tmp_path):
    kg = small_kg.with_node_column("species", "human")
    kg.to_kgx(tmp_path / "kgx")
    again = load_kgx(tmp_path / "kgx" / "nodes.tsv", tmp_path / "kgx" / "edges.tsv")
    assert again.node_types == kg.node_types
    for relation in kg.relations:
        pd.testing.assert_frame_equal(again.edges(relation, by_origin=True), kg.edges(relation, by_origin=True))
    assert again.nodes("gene")["species"].tolist() == ["human"] * 4
    assert again.nodes("cell_type")["label"].tolist() == ["cell", "T cell"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(InputError, match="the folder holds other files"):
        kg.to_kgx(tmp_path / "full")


def test_names_that_two_types_share_get_their_type_in_front(tmp_path):
    edges = {("gene", "in", "set"): pd.DataFrame({"source": ["A"], "target": ["A"]})}
    KnowledgeGraph({"gene": ["A"], "set": ["A"]}, edges).to_kgx(tmp_path / "k")
    nodes = pd.read_csv(tmp_path / "k" / "nodes.tsv", sep="\t")
    assert nodes["id"].tolist() == ["gene:A", "set:A"]
    again = load_kgx(tmp_path / "k" / "nodes.tsv", tmp_path / "k" / "edges.tsv")
    assert again.edges(("gene", "in", "set"))[["source", "target"]].to_numpy().tolist() == [["gene:A", "set:A"]]


def test_scipy_out_is_sources_by_targets(small_kg):
    matrix = small_kg.to_scipy(("gene", "regulates", "gene"), signed=True).toarray()
    expected = np.zeros((4, 4))
    expected[0, 2], expected[0, 1], expected[1, 3] = -0.5, 0, 0
    np.testing.assert_array_equal(matrix, expected)
