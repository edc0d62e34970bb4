import pytest

from kgnn.errors import InputError
from kgnn.graph import load_kgx

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
