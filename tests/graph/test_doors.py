"""Names and types at every door: missing and numeric names, texts in place of lists, things of another kind."""

import io
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from torch_geometric.data import Data, HeteroData

import kgnn.graph as g
from kgnn import KnowledgeGraph
from kgnn.errors import DataWarning, InputError

INTERACTS = ("gene", "interacts", "gene")
REGULATES = ("gene", "regulates", "gene")
GENES = pd.DataFrame(
    {"symbol": ["SCN11A", "TP53", "NA"], "alias": ["NaN", "p53", None], "entrez": [11280.0, 7157.0, None]}
)
EDGES = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"]})
IS_A = pd.DataFrame({"source": ["T:1"], "target": ["T:0"]})


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# missing and numeric names


def test_a_missing_name_is_nobodys_alias():
    with pytest.warns(DataWarning, match="genes are called 'NaN', 'None', a missing value written as text"):
        found = g.GeneNames(GENES).map([np.nan, None, float("nan"), pd.NA, "NaN", "NA", 7157, 11280.0, "None"])
    assert found["how"].tolist() == ["missing", "alias", "symbol", "entrez", "entrez", "unknown"]
    assert found["id"].tolist() == [None, "SCN11A", "NA", "TP53", "SCN11A", None]


def test_the_shipped_table_of_aliases_too(real_data):
    names = g.GeneNames(real_data / "genes" / "human_aliases.tsv.gz")
    assert names.map([np.nan])["how"].tolist() == ["missing"]
    with pytest.warns(DataWarning, match="genes are called 'NaN'"):
        assert names.map(["NaN"])["id"].tolist() == ["SCN11A"]  # an alias of that gene indeed


def test_gene_symbols_na_and_nan_are_genes_in_files_and_frames(write, tmp_path):
    text = "source,target\nNA,NAN\nNAN,TP53\n,TP53\n"
    for table in (write("t.csv", text), pd.read_csv(io.StringIO(text), keep_default_na=False)):
        kg = g.load_table(table)
        assert kg.nodes("gene").index.tolist() == ["NA", "NAN", "TP53"]
        assert kg.account[0]["dropped"] == {"no source or target": 1}
    assert g.load_gene_sets(write("s.gmt", "one\t\tNA\tNAN\n")).nodes("gene").index.tolist() == ["NA", "NAN"]


@pytest.mark.parametrize("kind", ["float", "object", "Int64", "category", "file", "parquet"])
def test_numeric_names_are_whole_numbers_whatever_the_column(kind, tmp_path):
    frame = pd.DataFrame({"source": [7157.0, 4193.0, np.nan], "target": [4193, 4609, 4609]})
    if kind in ("object", "Int64", "category"):
        frame["source"] = frame["source"].astype("Int64" if kind == "Int64" else kind)
    table = frame
    if kind == "parquet":
        frame.to_parquet(tmp_path / "t.parquet")
        table = tmp_path / "t.parquet"
    if kind == "file":
        frame.astype("Int64").to_csv(tmp_path / "t.csv", index=False)
        table = tmp_path / "t.csv"
    kg = g.load_table(table)
    assert kg.nodes("gene").index.tolist() == ["4193", "4609", "7157"]
    assert kg.account[0]["dropped"] == {"no source or target": 1}


def test_nodes_and_edges_of_the_class_are_named_alike():
    edges = pd.DataFrame({"source": [1, 2.0], "target": [2, 3]})
    for nodes in ([1, 2, 3], np.array([1.0, 2.0, 3.0]), pd.DataFrame(index=[1, 2, 3])):
        kg = KnowledgeGraph({"gene": nodes}, {INTERACTS: edges})
        assert kg.nodes("gene").index.tolist() == ["1", "2", "3"]
        assert kg.edges(INTERACTS)["source"].tolist() == ["1", "2"]
    with pytest.raises(InputError, match="names of gene nodes: 1 of 2 names are missing or blank, the first at 1"):
        KnowledgeGraph({"gene": pd.DataFrame(index=["A", np.nan])}, {})
    with pytest.raises(InputError, match=r"row 1 of the edges of .* has no target"):
        KnowledgeGraph({"gene": ["A", "B"]}, {INTERACTS: pd.DataFrame({"source": ["A", "B"], "target": ["B", None]})})


def test_missing_labels_and_ids_of_terms_are_no_names():
    nodes = pd.DataFrame(
        {"label": ["cell", np.nan], "alt_ids": [np.nan, None], "synonyms": [np.nan, "kid"]}, index=["T:0", "T:1"]
    )
    kg = KnowledgeGraph({"cell_type": nodes}, {("cell_type", "is_a", "cell_type"): IS_A})
    ontology = g.Ontology(kg)
    assert ontology.match(["nan", "None", "kid"])["how"].tolist() == ["none", "none", "synonym"]
    found = ontology.match(["cell", np.nan, None])
    assert found["how"].tolist() == ["name", "missing"]
    with pytest.raises(InputError, match="no term 'nan' in the ontology"):
        ontology.ancestors("nan")
    with pytest.raises(InputError, match="no term None in the ontology"):
        ontology.ancestors(None)


def test_other_doors_refuse_or_pass_over_missing_names(write):
    kg = g.load_table(EDGES)
    assert kg.subset(["A", None, np.nan, "B"]).nodes("gene").index.tolist() == ["A", "B"]
    with pytest.raises(InputError, match="names: 1 of 2 names are missing"):
        g.from_edge_index(np.array([[0], [1]]), ["A", None])
    with pytest.raises(InputError, match="the node nan has no name"):
        g.from_networkx(nx.Graph([("A", np.nan)]))
    graph = nx.DiGraph()
    graph.add_node("A", type=None)
    graph.add_edge("A", "B", relation=None, origin=None)
    assert g.from_networkx(graph).edges(INTERACTS)["origin"].tolist() == ["networkx"]
    table = write("h.txt", "symbol\tgene_group\tgene_group_id\nA\t\t7\n")
    with pytest.raises(InputError, match=r"h.txt:2: 0 gene groups but 1 ids"):
        g.load_gene_families(complete_set=table)
    orthologs = g.Orthologs(pd.DataFrame({"human_entrez": [1.0, np.nan], "mouse_entrez": [2, 3]}), namespace="entrez")
    assert orthologs.pairs.to_numpy().tolist() == [["1", "2"]]


def test_names_of_vectors(tmp_path):
    np.savez(tmp_path / "e.npz", genes=np.array([b"A", b"B"]), x=np.eye(2))
    assert g.load_gene_embedding(tmp_path / "e.npz").nodes("gene").index.tolist() == ["A", "B"]
    pd.DataFrame({"gene": ["A", None], "x": [1.0, 2.0]}).to_parquet(tmp_path / "e.parquet")
    with pytest.raises(
        InputError, match=r"e.parquet: names of rows: 1 of 2 names are missing or blank, the first at 1"
    ):
        g.load_gene_embedding(tmp_path / "e.parquet")


def test_numeric_clusters_are_named_by_whole_numbers():
    rng = np.random.default_rng(0)
    x = np.log1p(rng.poisson(1, (40, 5)).astype(float))
    x[:20, 0] += 3
    x[20:, 1] += 3
    adata = AnnData(x, var=pd.DataFrame(index=list("ABCDE")))
    adata.obs["leiden"] = [1.0] * 20 + [2.0] * 19 + [np.nan]
    kg = g.load_markers(adata, "leiden", method="t-test")
    assert set(kg.nodes("cell_type").index) == {"1", "2"}


# damaged names


def damaged_doors(write):
    x = np.log1p(np.random.default_rng(0).poisson(2, (20, 3)).astype(float))
    adata = AnnData(x, var=pd.DataFrame(index=["1-Mar", "B", "C"]))
    edges = pd.DataFrame({"source": ["1-Mar", "B"], "target": ["B", "C"]})
    names = ["1-Mar", "B", "C"]
    yield lambda: g.load_table(edges)
    yield lambda: g.load_regulation(edges.assign(sign=1))
    yield lambda: g.load_interactions(write("p.tsv", "1-Mar\tB\n"))
    yield lambda: g.load_gene_sets(write("s.gmt", "one\t\t1-Mar\tB\n"))
    yield lambda: g.load_coexpression(adata)
    yield lambda: g.load_gene_families(
        complete_set=write("h.txt", "symbol\tgene_group\tgene_group_id\n1-Mar\tring\t7\n")
    )
    yield lambda: g.load_kgx(
        write("n.tsv", "id\tcategory\n1-Mar\tbiolink:Gene\nB\tbiolink:Gene\n"),
        write("e.tsv", "subject\tpredicate\tobject\n1-Mar\tbiolink:regulates\tB\n"),
    )
    yield lambda: g.load_promoter_sequences(write("p.fa", ">1-Mar\nACGTACGT\n"))
    yield lambda: g.from_edge_index(np.array([[0], [1]]), names)
    yield lambda: g.from_scipy(sparse.eye_array(3), names)
    yield lambda: g.from_networkx(nx.Graph([("1-Mar", "B")]))
    yield lambda: g.GeneNames(GENES).map(names)


@pytest.mark.parametrize("door", range(12))
def test_genes_that_are_dates_are_told_once_and_kept(write, door):
    with pytest.warns(DataWarning) as caught:
        found = list(damaged_doors(write))[door]()
    (told,) = [str(warning.message) for warning in caught]
    assert "1 gene names are dates, as Excel makes of symbols (1-Mar = MARCH1 (now MARCHF1" in told
    assert "1-Mar" in (found.index if isinstance(found, pd.DataFrame) else found.nodes("gene").index)


# types


def ontology():
    nodes = pd.DataFrame({"label": ["a", "b"]}, index=["T:0", "T:1"])
    return KnowledgeGraph({"cell_type": nodes}, {("cell_type", "is_a", "cell_type"): IS_A})


@pytest.mark.parametrize(
    "call",
    [
        lambda: g.load_table(EDGES).subset("A"),
        lambda: g.GeneNames(GENES).map("TP53"),
        lambda: g.Ontology(ontology()).match("T:0"),
        lambda: g.Ontology(ontology(), relations="is_a"),
        lambda: g.Ontology(ontology()).pagerank(starts="T:0"),
        lambda: g.from_edge_index(np.array([[0], [1]]), "AB"),
        lambda: g.from_scipy(np.eye(2), "AB"),
        lambda: g.from_pyg(Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2), "AB"),
        lambda: KnowledgeGraph({"gene": "AB"}, {}),
        lambda: g.Orthologs(pd.DataFrame({"human_symbol": ["A"], "mouse_symbol": ["a"]}), species="human"),
        lambda: g.load_gene_sets(__file__, evidence="IDA"),
        lambda: g.load_gene_sets(__file__, exclude_evidence="ND"),
        lambda: g.load_gene_families("x.obo", genes="TP53"),
        lambda: g.load_table(EDGES).report("TP53"),
        lambda: g.embed_graph(g.load_table(EDGES), relations="interacts"),
    ],
)
def test_one_text_in_place_of_a_list_is_refused(call, monkeypatch):
    monkeypatch.setattr("kgnn.graph.sources.families.read_obo", lambda path: nx.MultiDiGraph())
    with pytest.raises(InputError, match=r"the text '.*' where a list is asked for"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: g.load_table(EDGES).undirected("interacts"),
        lambda: g.load_table(EDGES).edges("interacts"),
        lambda: g.load_table(EDGES).edges(("gene", "interacts")),
        lambda: g.load_table(EDGES).nearest(1, "interacts"),
        lambda: g.load_table(EDGES).filter("interacts"),
        lambda: g.embed_graph(g.load_table(EDGES), relations=("gene", "interacts", "gene"), dim=1),
        lambda: KnowledgeGraph({"gene": ["A", "B", "C"]}, {"interacts": EDGES}),
    ],
)
def test_a_relation_is_a_triple(call):
    with pytest.raises(InputError, match=r"a relation is a triple"):
        call()


@pytest.mark.parametrize(
    "thing", [None, 3, io.StringIO("a"), ["a"], {"a": [1]}, io.BytesIO(b"a")], ids=lambda thing: type(thing).__name__
)
@pytest.mark.parametrize(
    "door",
    [
        g.load_table,
        g.load_triples,
        g.load_mappings,
        g.load_regulation,
        g.load_gene_sets,
        g.load_interactions,
        g.load_cell_ontology,
        g.load_promoter_motifs,
        g.load_promoter_sequences,
        g.load_gene_embedding,
        g.GeneNames,
        g.Orthologs,
        g.gaf_aliases,
        g.build,
        lambda path: g.load_kgx(path, path),
        lambda path: g.load_ntriples(path, {"p": "r"}, types={"t": "gene"}),
        lambda path: g.load_gene_families(complete_set=path, genes=["A"]) if path else g.load_gene_families(path),
        KnowledgeGraph.load,
    ],
)
def test_a_path_is_a_path(door, thing):
    with pytest.raises(InputError, match=r"where a path .*is asked for|give complete_set"):
        door(thing)


@pytest.mark.parametrize("door", [g.load_coexpression, lambda adata: g.load_markers(adata, "type")])
def test_cells_are_an_anndata_or_a_path_to_one(door, tmp_path):
    with pytest.raises(InputError, match=r"DataFrame where cells .* are asked for"):
        door(EDGES)
    x = np.log1p(np.random.default_rng(0).poisson(2, (20, 3)).astype(float))
    x[:10, 0] += 4
    x[10:, 1] += 4
    adata = AnnData(x, var=pd.DataFrame(index=list("ABC")))
    adata.obs["type"] = ["a"] * 10 + ["b"] * 10
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert door(tmp_path / "a.h5ad") == door(str(tmp_path / "a.h5ad")) == door(adata)


def test_tables_of_odd_types():
    frame = pd.DataFrame(
        {
            "source": pd.Categorical(["A", "B"]),
            "target": pd.array(["B", "C"], dtype="string"),
            "weight": pd.array([1, 2], dtype="Int64"),
            "sign": pd.Categorical(["activation", "repression"]),
        }
    )
    kg = g.load_table(frame)
    assert kg.edges(INTERACTS)[["weight", "sign"]].to_numpy().tolist() == [[1, 1], [2, -1]]
    assert KnowledgeGraph({"gene": list("ABC")}, {INTERACTS: frame.assign(origin="table")}) == kg
    twice = pd.DataFrame([["A", "B", "C"]], columns=["source", "target", "target"])
    for door in (g.load_table, g.load_regulation, g.GeneNames, g.Orthologs):
        with pytest.raises(InputError, match="the column 'target' stands twice"):
            door(twice)
    for column, value in (("weight", "high"), ("weight", None), ("confidence", "sure")):
        with pytest.raises(InputError, match=f"edge A→B .* has the {column} "):
            KnowledgeGraph({"gene": list("ABC")}, {INTERACTS: EDGES.assign(**{column: value})})


def test_networkx_signs_weights_and_other_things():
    graph = nx.DiGraph()
    graph.add_edge("A", "B", sign="repression")
    graph.add_edge("B", "C", sign=None)
    graph.add_edge("C", "A", sign=np.nan)
    assert g.from_networkx(graph).edges(INTERACTS)["sign"].tolist() == [-1, 0, 0]
    for thing in (EDGES, None, {"A": ["B"]}):
        with pytest.raises(InputError, match="where a networkx graph is asked for"):
            g.from_networkx(thing)


def test_pyg_data_as_they_come():
    index = torch.tensor([[0, 1], [1, 2]])
    weight = torch.tensor([0.5, -2.0], requires_grad=True)
    found = g.from_pyg(Data(edge_index=index, edge_weight=weight[:, None], num_nodes=3), list("ABC")).edges(INTERACTS)
    assert found[["weight", "sign"]].to_numpy().tolist() == [[0.5, 0], [2.0, -1]]
    assert g.from_edge_index(index, list("ABC"), weight=weight).edges(INTERACTS)["weight"].tolist() == [0.5, 2.0]
    with pytest.warns(DataWarning, match=r"edge_attr of shape \[2, 3\] is not read; give weights as edge_weight"):
        g.from_pyg(Data(edge_index=index, edge_attr=torch.ones(2, 3), num_nodes=3))
    hetero = HeteroData()
    hetero["gene"].num_nodes = 3
    hetero["gene", "binds", "gene"].edge_index = index
    for thing, names, message in (
        (Data(edge_index=index, num_nodes=3), list("AB"), "2 names for 3 gene nodes"),
        (hetero, list("ABC"), "names are for Data; HeteroData has them as data.node_names"),
        (Data(x=torch.ones(3, 2)), None, "has no edge_index"),
        (EDGES, None, "where PyG's Data or HeteroData is asked for"),
        (index, None, "where PyG's Data or HeteroData is asked for"),
    ):
        with pytest.raises(InputError, match=message):
            g.from_pyg(thing, names)
    with pytest.raises(InputError, match="weights must be finite numbers"):
        g.from_edge_index(index, list("ABC"), weight=["a", "b"])
    with pytest.raises(InputError, match="give a matrix"):
        g.from_scipy(3, ["A"])


@pytest.mark.parametrize(("kind", "door"), [("GO.term", "class"), ("", "class"), (3, "class"), ("type", "hetero")])
def test_node_types_that_pyg_cannot_name_are_refused(kind, door):
    with pytest.raises(InputError, match=f"node type {kind!r}"):
        KnowledgeGraph({"gene": ["A"], kind: ["x"]}, {}).to_hetero()
    if door == "hetero":
        assert KnowledgeGraph({kind: ["x"]}, {}).node_types == [kind]
    if door == "class" and isinstance(kind, str):
        for source, target in ((kind, "gene"), ("gene", kind)):
            with pytest.raises(InputError, match=f"node type {kind!r}"):
                g.load_table(EDGES, source_type=source, target_type=target)


def test_features_that_pyg_would_take_for_its_own_are_refused():
    with pytest.raises(InputError, match="feature 'num_nodes' of gene nodes is a name that PyG uses"):
        g.load_table(EDGES).with_features("num_nodes", np.eye(3)).to_hetero()


def test_features_from_tables():
    kg = KnowledgeGraph({"gene": [1, 2]}, {})
    found = kg.with_features("x", pd.DataFrame({"a": pd.array([5, None], dtype="Int64")}, index=[2.0, 1.0]))
    np.testing.assert_array_equal(found.features("gene")["x"], [[np.nan], [5]])
    for values, message in (
        (pd.DataFrame({"a": [1.0, 2.0]}, index=["1", "1"]), "'1' stands twice among the rows"),
        (pd.DataFrame({"a": ["high"]}, index=["1"]), "column 'a' of the feature 'x' holds"),
    ):
        with pytest.raises(InputError, match=message):
            kg.with_features("x", values)
    with pytest.raises(InputError, match="3 values of 'species' for 2 gene nodes"):
        kg.with_node_column("species", ["a", "b", "c"])


def test_merging_and_dropping_take_graphs_and_names():
    kg = g.load_table(EDGES, origin="mine")
    with pytest.raises(InputError, match="KnowledgeGraph where a list is asked for"):
        KnowledgeGraph.merge(kg)
    with pytest.raises(InputError, match="DataFrame among the graphs to merge"):
        KnowledgeGraph.merge([kg, EDGES])
    with pytest.raises(InputError, match="DataFrame among the graphs to merge"):
        kg | EDGES
    with pytest.raises(InputError, match=r"no source \['mine'\]; write the names one by one"):
        kg.drop_source(["mine"])


# what people bring


ORTHOLOGS = g.Orthologs(pd.DataFrame({"human_symbol": ["A"], "mouse_symbol": ["a"]}))


def small_cells():
    x = np.log1p(np.random.default_rng(0).poisson(2, (30, 4)).astype(float))
    x[:15, 0] += 3
    x[15:, 1] += 3
    obs = pd.DataFrame(
        {"type": ["a"] * 15 + ["b"] * 15, "time": ["early"] * 15 + ["late"] * 15}, index=map(str, range(30))
    )
    return AnnData(x, obs=obs, var=pd.DataFrame(index=list("ABCD")))


FROM_CELLS = {
    "coexpression": lambda adata, **o: g.load_coexpression(adata, groupby=o.get("groupby")),
    "markers": lambda adata, **o: g.load_markers(adata, o.get("groupby", "type"), method="t-test"),
    "effects": lambda adata, **o: g.estimate_effects(g.load_table(EDGES), adata, groupby=o.get("groupby")),
}


@pytest.mark.parametrize("door", FROM_CELLS)
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_what_all_doors_check_of_cells(door, form):
    adata = small_cells()
    adata.var_names = ["A", "A", "C", "D"]
    with pytest.raises(InputError, match="gene 'A' stands twice in var_names"):
        FROM_CELLS[door](adata)
    for value in (np.nan, np.inf):
        adata = small_cells()
        adata.X[3, 1] = value
        adata.X = sparse.csr_matrix(adata.X) if form == "sparse" else adata.X
        with pytest.raises(InputError, match=r"gene 'B' has NaN or infinite|first for gene 'B' in cell '3'"):
            FROM_CELLS[door](adata)
    for column in ("none", ["type"], 3):
        with pytest.raises(InputError, match=r"no column .* in adata.obs; it has type, time"):
            FROM_CELLS[door](small_cells(), groupby=column)


def test_columns_of_time_courses():
    kg, adata = g.load_table(EDGES), small_cells()
    with pytest.raises(InputError, match="obs, row 0: time 'early' is not a finite number"):
        g.estimate_effects(kg, adata, groupby="type", time_key="time")
    adata.obs["type"] = [None] * 3 + ["a"] * 27
    with pytest.raises(InputError, match=r"obs\['type'\] has missing values"):
        g.estimate_effects(kg, adata, groupby="type")


def test_matrices_of_odd_types():
    split = sparse.csr_matrix((np.array([100, 100], np.int8), [1, 1], [0, 2, 2]), shape=(2, 2))
    assert g.from_scipy(split, ["A", "B"]).edges(INTERACTS)[["weight", "sign"]].to_numpy().tolist() == [[200, 0]]
    for call in (
        lambda: g.from_scipy(np.array([[0, 1j], [0, 0]]), ["A", "B"]),
        lambda: g.from_scipy(np.array([["", "a"], ["", ""]]), ["A", "B"]),
        lambda: g.from_edge_index(np.array([[0], [1]]), ["A", "B"], weight=np.array([1j])),
    ):
        with pytest.raises(InputError, match=r"must be (real|finite) numbers"):
            call()


def test_a_negative_weight_is_repression_in_the_class_too():
    for table, sign in ((EDGES.assign(weight=[-2, 1]), [-1, 0]), (EDGES.assign(weight=[-2, 1], sign=[1, -1]), [1, -1])):
        kg = KnowledgeGraph({"gene": list("ABC")}, {INTERACTS: table})
        pd.testing.assert_frame_equal(
            kg.edges(INTERACTS).drop(columns="origin"), g.load_table(table).edges(INTERACTS).drop(columns="origin")
        )
        assert kg.edges(INTERACTS)["sign"].tolist() == sign


@pytest.mark.parametrize(
    "values", [torch.ones(3, 2, requires_grad=True), sparse.csr_array(np.ones((3, 2))), [[1, 1]] * 3]
)
def test_features_are_arrays_tensors_or_sparse(values):
    np.testing.assert_array_equal(g.load_table(EDGES).with_features("x", values).features("gene")["x"], np.ones((3, 2)))
    with pytest.raises(InputError, match="feature 'x' of gene nodes is not all numbers"):
        g.load_table(EDGES).with_features("x", [["a"], ["b"], ["c"]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda kg: KnowledgeGraph(["A"], {}), "nodes .*: list where Mapping is asked for"),
        (lambda kg: KnowledgeGraph({}, [EDGES]), "edges .*: list where Mapping is asked for"),
        (lambda kg: KnowledgeGraph({"gene": ["A"]}, {INTERACTS: [("A", "B")]}), "list where DataFrame is asked for"),
        (lambda kg: kg.map_genes("genes.tsv"), "genes: str where GeneNames is asked for"),
        (lambda kg: ORTHOLOGS.translate_cells(EDGES, "mouse"), "cells .*: DataFrame where AnnData is asked for"),
        (lambda kg: ORTHOLOGS.translate(small_cells(), "mouse"), "graph .*: AnnData where KnowledgeGraph is asked for"),
        (lambda kg: g.estimate_effects(None, small_cells()), "kg: NoneType where KnowledgeGraph is asked for"),
        (lambda kg: g.Ontology(Path("cl.obo")), "graph .*: PosixPath where KnowledgeGraph is asked for"),
        (lambda kg: g.embed_graph(EDGES), "graph: DataFrame where KnowledgeGraph is asked for"),
        (lambda kg: g.join_species([kg], None), "graphs .*: list where Mapping is asked for"),
        (lambda kg: g.join_species({"human": kg}, EDGES), "orthologs: DataFrame where Orthologs is asked for"),
        (lambda kg: g.load_ntriples(__file__, "p:r", types={"x:": "gene"}), "relations: str where Mapping is asked"),
        (lambda kg: kg.subset(["A"], neighbours="1"), "neighbours = '1'; it must be a whole number"),
        (lambda kg: kg.drop_edges("half", 0), "share = 'half'; it must be a number from 0 to 1"),
        (lambda kg: kg.randomize_edges(50, 0), "share = 50; it must be a number from 0 to 1"),
        (lambda kg: kg.add_random_edges(np.nan, 0), "share = nan; it must be a number of 0 or more"),
        (lambda kg: kg.rewire("a"), "seed = 'a'; it must be a whole number"),
    ],
)
def test_things_of_another_type_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call(g.load_table(EDGES))


def test_terms_without_labels_are_called_by_their_ids():
    kg = KnowledgeGraph({"cell_type": ["T:0", "T:1"]}, {("cell_type", "is_a", "cell_type"): IS_A})
    assert g.Ontology(kg).match(["T:0", "t:1", "x"])["how"].tolist() == ["id", "name", "none"]
