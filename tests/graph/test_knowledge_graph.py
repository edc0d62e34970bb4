import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kgnn import KnowledgeGraph
from kgnn.errors import InputError
from tests.folders import sealed_again

REGULATES = ("gene", "regulates", "gene")
GENES = list("ABCDEFGH")

edge = st.tuples(
    st.sampled_from(GENES),
    st.sampled_from(GENES),
    st.floats(0.5, 4, width=16),
    st.sampled_from([-1, 0, 1]),
    st.sampled_from(["one", "two", "three"]),
)
tables = st.lists(edge, min_size=1, max_size=40).map(
    lambda rows: pd.DataFrame(rows, columns=["source", "target", "weight", "sign", "origin"])
)


def graph_of(table: pd.DataFrame) -> KnowledgeGraph:
    return KnowledgeGraph({"gene": GENES}, {REGULATES: table})


def as_dict(kg: KnowledgeGraph) -> dict:
    table = kg.edges(REGULATES, by_origin=True)
    return {(r.source, r.target, r.origin): (r.weight, r.sign) for r in table.itertuples()}


@given(tables)
def test_duplicates_merge_and_self_loops_drop_as_counted_by_hand(table):
    expected: dict = {}
    for source, target, weight, sign, origin in table.itertuples(index=False):
        if source != target:
            expected.setdefault((source, target, origin), []).append((weight, sign))
    merged = {
        key: (max(weight for weight, _ in rows), np.sign(sum(sign for _, sign in rows)))
        for key, rows in expected.items()
    }
    assert as_dict(graph_of(table)) == merged


@pytest.mark.parametrize(("signs", "expected"), [([1, 1, -1], 1), ([1, -1], 0), ([0, -1], -1), ([1, -1, -1], -1)])
def test_the_majority_of_duplicate_rows_gives_the_sign(signs, expected):
    table = pd.DataFrame({"source": "A", "target": "B", "sign": signs, "origin": "x"})
    assert graph_of(table).edges(REGULATES)["sign"].tolist() == [expected]


def test_merged_rows_and_loops_are_booked_in_the_account():
    table = pd.DataFrame({"source": list("AAAB"), "target": list("BBAC"), "origin": "x"})
    kg = KnowledgeGraph(
        {"gene": GENES}, {REGULATES: table}, [{"origin": "x", "relation": "gene–regulates–gene", "rows_read": 4}]
    )
    row = kg.summary().iloc[0]
    assert (row["edges"], row["merged"], row["self_loops"], row["rows_read"]) == (2, 1, 1, 4)


@given(tables, tables)
def test_merge_then_drop_source_leaves_what_the_other_sources_say(first, second):
    first, second = first.assign(origin="one"), second.assign(origin="two")
    merged = graph_of(first) | graph_of(second)
    for origin, table in (("two", first), ("one", second)):
        if origin in merged.origins:
            alone = graph_of(table)
            left = merged.drop_source(origin)
            assert left.relations == alone.relations if alone.origins else left.relations == []
            if alone.origins:
                assert as_dict(left) == as_dict(alone)
                assert as_dict(merged.only_sources(*alone.origins)) == as_dict(alone)


def test_edges_combine_origins_by_largest_weight_and_majority_sign(small_kg):
    edges = small_kg.edges(REGULATES).set_index(["source", "target"])
    values = ["weight", "sign", "origin"]
    assert edges.loc[("A", "B"), values].tolist() == [3.0, 0, "one|two"]
    assert edges.loc[("A", "C"), values].tolist() == [0.5, -1, "one"]
    assert len(small_kg.edges(REGULATES, by_origin=True)) == 4


def test_merge_unites_nodes_in_order_and_fills_attributes():
    first = KnowledgeGraph({"gene": pd.DataFrame({"species": ["human", None]}, index=["A", "B"])}, {})
    second = KnowledgeGraph({"gene": pd.DataFrame({"species": ["mouse", "mouse"]}, index=["B", "C"])}, {})
    nodes = KnowledgeGraph.merge([first, second]).nodes("gene")
    assert nodes["species"].to_dict() == {"A": "human", "B": "mouse", "C": "mouse"}
    with pytest.raises(InputError, match="nothing to merge"):
        KnowledgeGraph.merge([])


@given(tables, st.lists(st.sampled_from(GENES), min_size=1, unique=True))
def test_subset_is_the_induced_subgraph(table, kept):
    import networkx as nx

    kg = graph_of(table)
    expected = nx.DiGraph()
    expected.add_nodes_from(GENES)
    expected.add_edges_from((s, t) for s, t, _ in as_dict(kg))
    smaller = kg.subset(kept)
    assert smaller.nodes("gene").index.tolist() == kept
    found = {(s, t) for s, t, _ in as_dict(smaller)} if smaller.relations else set()
    assert found == set(expected.subgraph(kept).edges)


def test_subset_that_shares_nothing_says_so(small_kg):
    with pytest.raises(InputError, match="none of the 2 names"):
        small_kg.subset(["X", "Y"])


@given(tables, st.integers(0, 5))
def test_rewire_keeps_degrees_weights_and_signs(table, seed):
    kg = graph_of(table)
    if not len(kg.edges(REGULATES)):
        return
    wired = kg.rewire(seed)
    assert wired == kg.rewire(seed)
    before, after = kg.edges(REGULATES), wired.edges(REGULATES)
    for end in ("source", "target"):
        assert before[end].value_counts().to_dict() == after[end].value_counts().to_dict()
    assert not (after["source"] == after["target"]).any()
    assert not after.duplicated(["source", "target"]).any()
    carried = ["source", "weight", "sign", "origin"]
    assert sorted(map(tuple, before[carried].values)) == sorted(map(tuple, after[carried].values))


def test_rewire_changes_most_edges_of_a_sparse_graph():
    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(300)]
    table = pd.DataFrame({"source": rng.choice(genes, 1500), "target": rng.choice(genes, 1500)})
    kg = KnowledgeGraph({"gene": genes}, {REGULATES: table})
    before, after = (
        set(zip(g.edges(REGULATES).source, g.edges(REGULATES).target, strict=True)) for g in (kg, kg.rewire(0))
    )
    assert len(before & after) < 0.1 * len(before)
    assert kg.rewire(0) != kg.rewire(1)


@given(tables)
def test_save_and_load_give_the_same_graph(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("kg") / "graph"
    kg = graph_of(table)
    kg.save(path)
    assert KnowledgeGraph.load(path) == kg


def test_saved_graph_keeps_nodes_relations_and_account(small_kg, tmp_path):
    small_kg.save(tmp_path / "kg")
    small_kg.save(tmp_path / "kg")  # replacing an own folder is allowed
    again = KnowledgeGraph.load(tmp_path / "kg")
    assert again == small_kg
    assert again.account == small_kg.account
    assert again.nodes("cell_type")["label"].tolist() == ["cell", "T cell"]
    assert [p.name for p in tmp_path.iterdir()] == ["kg"], "temporary folders must not stay"


def test_save_never_replaces_a_folder_of_other_files(small_kg, tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(InputError, match="holds other files"):
        small_kg.save(tmp_path)
    assert (tmp_path / "thesis.txt").exists()
    with pytest.raises(InputError, match="a file of this name"):
        small_kg.save(tmp_path / "thesis.txt")


def test_a_save_that_fails_leaves_the_old_graph(small_kg, tmp_path, monkeypatch):
    small_kg.save(tmp_path / "kg")
    monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        small_kg.rewire(0).save(tmp_path / "kg")
    monkeypatch.undo()
    assert KnowledgeGraph.load(tmp_path / "kg") == small_kg
    assert [p.name for p in tmp_path.iterdir()] == ["kg"]


def test_foreign_and_damaged_folders_are_refused(small_kg, tmp_path):
    with pytest.raises(InputError, match="not a graph folder"):
        KnowledgeGraph.load(tmp_path / "nothing")
    small_kg.save(tmp_path / "kg")
    manifest = tmp_path / "kg" / "manifest.json"
    good = manifest.read_text()

    def damage(**changes):
        write(json.dumps(json.loads(good) | changes))

    def write(text):
        manifest.write_text(text)
        sealed_again(tmp_path / "kg")

    damage(format="other")
    with pytest.raises(InputError, match="not the manifest"):
        KnowledgeGraph.load(tmp_path / "kg")
    damage(format_version=99)
    with pytest.raises(InputError, match="build the graph again"):
        KnowledgeGraph.load(tmp_path / "kg")
    write(good[:50])
    with pytest.raises(InputError, match=r"manifest.json:\d+:\d+: not JSON"):
        KnowledgeGraph.load(tmp_path / "kg")
    write("{}")
    with pytest.raises(InputError, match="not the manifest"):
        KnowledgeGraph.load(tmp_path / "kg")
    write(good)
    table = tmp_path / "kg" / "edges_0.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"edges_0.parquet: damaged, edited or cut short"):
        KnowledgeGraph.load(tmp_path / "kg")
    sealed_again(tmp_path / "kg")
    with pytest.raises(InputError, match=r"edges_0.parquet: damaged or cut short"):
        KnowledgeGraph.load(tmp_path / "kg")
    table.unlink()
    with pytest.raises(InputError, match=r"edges_0.parquet: missing"):
        KnowledgeGraph.load(tmp_path / "kg")
    table.write_bytes(whole)
    pd.read_parquet(table).iloc[:1].to_parquet(table, index=False)
    sealed_again(tmp_path / "kg")
    with pytest.raises(InputError, match="1 rows where the manifest says 4"):
        KnowledgeGraph.load(tmp_path / "kg")
    pd.concat([pd.read_parquet(table).assign(target=77)] * 4).to_parquet(table, index=False)
    sealed_again(tmp_path / "kg")
    with pytest.raises(InputError, match="outside the gene table"):
        KnowledgeGraph.load(tmp_path / "kg")


def test_operations_return_new_graphs_and_tables_are_copies(small_kg):
    before = as_dict(small_kg)
    edges = small_kg.edges(REGULATES)
    edges["weight"] = 99
    nodes = small_kg.nodes("gene")
    nodes["new"] = 1
    for changed in (small_kg.rewire(0), small_kg.drop_source("two"), small_kg.subset(["A", "B"]), small_kg | small_kg):
        assert changed is not small_kg
    assert as_dict(small_kg) == before
    assert small_kg | small_kg == small_kg
    assert small_kg.drop_source("one", "two").relations == [("cell_type", "is_a", "cell_type")]


@pytest.mark.parametrize(
    ("nodes", "table", "message"),
    [
        (["A", "A"], {"source": [], "target": []}, "'A' stands twice"),
        (["A"], {"source": ["A"], "target": ["Z"]}, "unknown gene 'Z'"),
        (["A", "B"], {"source": ["A"]}, "lack the column 'target'"),
        (["A", "B"], {"source": ["A"], "target": ["B"], "weight": [np.inf]}, "A→B.*weights must be finite"),
    ],
)
def test_wrong_tables_are_refused(nodes, table, message):
    with pytest.raises(InputError, match=message):
        KnowledgeGraph({"gene": nodes}, {REGULATES: pd.DataFrame(table)})


def test_unknown_names_are_refused(small_kg):
    for call in (
        lambda: small_kg.nodes("protein"),
        lambda: small_kg.edges(("gene", "likes", "gene")),
        lambda: small_kg.drop_source("three"),
        lambda: KnowledgeGraph({"gene": ["A"]}, {("gene", "in", "family"): pd.DataFrame({"source": [], "target": []})}),
    ):
        with pytest.raises(InputError, match=r"(it|the graph) has"):
            call()


def test_to_hetero_is_valid_and_runs_through_pyg(small_kg):
    from torch_geometric.nn import HeteroConv, SAGEConv

    data = small_kg.to_hetero()
    assert data.validate()
    assert data.node_names["gene"] == ["A", "B", "C", "D"]
    for relation in small_kg.relations:
        table = small_kg.edges(relation)
        source, target = (
            small_kg.nodes(relation[side]).index.get_indexer(table[end]) for side, end in ((0, "source"), (2, "target"))
        )
        assert data[relation].edge_index.tolist() == [source.tolist(), target.tolist()]
        assert data[relation].edge_weight.tolist() == table["weight"].tolist()
        assert data[relation].edge_sign.tolist() == table["sign"].tolist()
    for kind in small_kg.node_types:
        data[kind].x = torch.rand(data[kind].num_nodes, 3)
    conv = HeteroConv({relation: SAGEConv((3, 3), 2) for relation in small_kg.relations})
    out = conv(data.x_dict, data.edge_index_dict)
    assert out["gene"].shape == (4, 2)


def test_repr_and_equality(small_kg):
    assert repr(small_kg).startswith("KnowledgeGraph(gene: 4, cell_type: 2; gene–regulates–gene: 3")
    assert small_kg != "graph"
