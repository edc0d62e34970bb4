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


NODES = (
    "id\tcategory\tname\n"
    "HGNC:1\tbiolink:Gene|biolink:NamedThing\tTP53\n"
    "HGNC:2\tbiolink:Gene\tMDM2\n"
    "GO:1\tbiolink:BiologicalProcess\tdeath\n"
)
EDGES = (
    "subject\tpredicate\tobject\tprimary_knowledge_source\tweight\n"
    "HGNC:1\tbiolink:regulates\tHGNC:2\tinfores:x\t-0.5\n"
    "HGNC:1\tbiolink:involved_in\tGO:1\t\t\n"
    "HGNC:1\tbiolink:regulates\tHGNC:9\tinfores:x\t1\n"
)


@pytest.fixture
def files(tmp_path):
    def write(nodes=NODES, edges=EDGES):
        (tmp_path / "n.tsv").write_text(nodes)
        (tmp_path / "e.tsv").write_text(edges)
        return tmp_path / "n.tsv", tmp_path / "e.tsv"

    return write


def test_kgx_of_others(files):
    kg = load_kgx(*files(), use_names=True)
    assert set(kg.relations) == {("gene", "regulates", "gene"), ("gene", "involved_in", "biological_process")}
    edge = kg.edges(("gene", "regulates", "gene")).iloc[0]
    assert edge[["source", "target", "weight", "sign", "origin"]].tolist() == ["TP53", "MDM2", 0.5, -1, "infores:x"]
    assert kg.edges(("gene", "involved_in", "biological_process")).iloc[0]["origin"] == "e"
    assert kg.nodes("biological_process").loc["GO:1", "label"] == "death"
    assert kg.account[-1]["dropped"] == {"an end is not among the nodes, or no predicate": 1}
    assert sum(record["rows_read"] for record in kg.account) == 3


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        (NODES.replace("category", "kind"), EDGES, r"n.tsv: no column 'category', which a KGX node table has"),
        (NODES, EDGES.replace("subject", "from"), r"e.tsv: no column 'subject'"),
        (NODES.replace("HGNC:2", "HGNC:1"), EDGES, r"n.tsv:3: the id 'HGNC:1' stands twice"),
        (NODES.replace("biolink:Gene\tMDM2", "\tMDM2"), EDGES, r"n.tsv:3: no category"),
        (NODES, EDGES.replace("HGNC:9\tinfores:x\t1", "HGNC:2\tinfores:x\tmuch"), r"e.tsv:4: weight 'much' is not"),
        (NODES, EDGES.replace("-0.5", "much"), r"e.tsv:2: weight 'much' is not a finite number"),
    ],
)
def test_bad_kgx_is_refused(files, nodes, edges, message):
    with pytest.raises(InputError, match=message):
        load_kgx(*files(nodes, edges))


def test_scipy_out_is_sources_by_targets(small_kg):
    matrix = small_kg.to_scipy(("gene", "regulates", "gene"), signed=True).toarray()
    expected = np.zeros((4, 4))
    expected[0, 2], expected[0, 1], expected[1, 3] = -0.5, 0, 0
    np.testing.assert_array_equal(matrix, expected)
