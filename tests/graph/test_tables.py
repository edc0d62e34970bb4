import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn.errors import DataWarning, InputError
from kgnn.graph import load_table

EDGES = pd.DataFrame({"a": ["TP53", "MYC"], "b": ["MDM2", "CDK4"], "score": [0.5, 2.0], "effect": [1, -1]})


def write(frame: pd.DataFrame, path):
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="," if name.endswith(".csv") else "\t", index=False)
    return path


@pytest.mark.parametrize("name", ["e.csv", "e.tsv", "e.txt", "e.csv.gz", "e.tsv.gz", "e.parquet"])
def test_every_format_gives_the_same_graph(tmp_path, name):
    options = {"source": "a", "target": "b", "relation": "binds", "weight": "score", "sign": "effect"}
    kg = load_table(write(EDGES, tmp_path / name), **options)
    assert kg == load_table(EDGES, **options, origin="e")
    assert kg.relations == [("gene", "binds", "gene")]
    edges = kg.edges(kg.relations[0]).set_index(["source", "target"])
    assert edges.loc[("MYC", "CDK4"), ["weight", "sign", "origin"]].tolist() == [2.0, -1, "e"]


def test_weight_and_sign_columns_are_found_by_name_and_default_to_one_and_zero():
    plain = load_table(EDGES.iloc[:, :2], source="a", target="b").edges(("gene", "interacts", "gene"))
    assert plain[["weight", "sign"]].to_numpy().tolist() == [[1, 0], [1, 0]]
    named = EDGES.rename(columns={"score": "weight", "effect": "sign"})
    found = load_table(named, source="a", target="b").edges(("gene", "interacts", "gene"))
    assert sorted(map(tuple, found[["weight", "sign"]].to_numpy())) == [(0.5, 1), (2.0, -1)]


def test_negative_weights_are_repression_unless_a_sign_column_says_more():
    frame = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"], "weight": [-0.5, 2.0]})
    for table, signs in ((frame, [-1, 0]), (frame.assign(sign=[1, -1]), [1, -1])):
        edges = load_table(table).edges(("gene", "interacts", "gene"))
        assert edges["weight"].tolist() == [0.5, 2.0]
        assert edges["sign"].tolist() == signs


def test_bipartite_tables_keep_two_node_types():
    kg = load_table(EDGES, source="a", target="b", relation="in_family", target_type="family")
    assert kg.nodes("gene").index.tolist() == ["MYC", "TP53"]
    assert kg.nodes("family").index.tolist() == ["CDK4", "MDM2"]


@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.sampled_from("ABCD")), min_size=1, max_size=20))
def test_undirected_is_the_symmetric_closure(pairs):
    frame = pd.DataFrame(pairs, columns=["source", "target"])
    kg = load_table(frame, undirected=True)
    found = set(map(tuple, kg.edges(kg.relations[0])[["source", "target"]].to_numpy())) if kg.relations else set()
    assert found == {(a, b) for x, y in pairs if x != y for a, b in ((x, y), (y, x))}


def test_undirected_counts_the_duplicates_of_the_file_and_no_others():
    frame = pd.DataFrame({"source": ["A", "A", "B", "C", "D"], "target": ["B", "B", "A", "C", "A"]})
    row = load_table(frame, undirected=True).summary().iloc[0]
    assert (row["edges"], row["merged"], row["self_loops"]) == (4, 1, 1)


def test_a_source_of_which_nothing_is_left_still_shows_in_the_summary():
    row = load_table(pd.DataFrame({"source": ["A"], "target": ["A"]})).summary().iloc[0]
    assert (row["edges"], row["rows_read"], row["self_loops"]) == (0, 1, 1)


def test_dropped_merged_and_loops_are_counted():
    frame = pd.DataFrame({"source": ["A", "A", "A", None, " "], "target": ["B", "B", "A", "C", "D"]})
    row = load_table(frame).summary().iloc[0]
    assert (row["rows_read"], row["edges"], row["merged"], row["self_loops"]) == (5, 1, 1, 1)
    assert row["dropped"] == "no source or target: 2"


@pytest.mark.parametrize("value", ["high", "inf", "nan", "-inf", ""])
def test_a_weight_that_is_no_finite_number_is_named_by_line(tmp_path, value):
    path = tmp_path / "my_edges.csv"
    path.write_text(f"source,target,weight\nA,B,1.5\nB,C,2\nC,D,{value}\n")
    with pytest.raises(InputError, match=rf"my_edges.csv:4: weight (is missing|'{value}' is not a finite number)"):
        load_table(path)


def test_line_numbers_count_blank_lines(tmp_path):
    path = tmp_path / "e.tsv"
    path.write_text("source\ttarget\tweight\n\nA\tB\t1\n\nB\tC\tx\n")
    with pytest.raises(InputError, match=r"e.tsv:2: weight is missing"):
        load_table(path)


def test_a_missing_column_is_named_with_those_there_are(tmp_path):
    path = write(EDGES, tmp_path / "e.csv")
    with pytest.raises(InputError, match=r"e.csv: no column 'gene_a'; the columns are a, b, score, effect"):
        load_table(path, source="gene_a", target="b")
    with pytest.raises(InputError, match="no column 'strength'"):
        load_table(path, source="a", target="b", weight="strength")


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_table(tmp_path / "missing.csv")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(InputError, match="the file is empty"):
        load_table(tmp_path / "empty.csv")
    with pytest.raises(InputError, match="is a folder"):
        load_table(tmp_path)
    (tmp_path / "e.xlsx").write_text("x")
    with pytest.raises(InputError, match="unknown kind of table"):
        load_table(tmp_path / "e.xlsx")
    (tmp_path / "e.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        load_table(tmp_path / "e.parquet")
    (tmp_path / "latin.csv").write_bytes("source,target\nGène,B\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin.csv:2: not UTF-8 text \(byte 2 of the line\)"):
        load_table(tmp_path / "latin.csv")
    whole = gzip.compress(b"source,target\n" + b"A,B\n" * 5000)
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="gzip data damaged or cut short after line"):
        load_table(tmp_path / "cut.csv.gz")
    (tmp_path / "blank.csv").write_text("\n")
    with pytest.raises(InputError, match=r"blank\.csv"):
        load_table(tmp_path / "blank.csv")


def test_a_table_without_an_edge_is_refused():
    with pytest.raises(InputError, match="no edge left to load"):
        load_table(pd.DataFrame({"source": [np.nan], "target": ["A"]}))


def test_mixed_namespaces_in_a_column_are_told():
    names = [f"ENSG{i:011}" for i in range(10)] + [f"GENE{i}" for i in range(10)]
    frame = pd.DataFrame({"source": names, "target": names[::-1]})
    with pytest.warns(DataWarning, match="table: mixed namespaces: 10 of 20 genes are Ensembl gene ids"):
        load_table(frame)
    few = pd.DataFrame({"source": [*names[9:], *(f"G{i}" for i in range(90))], "target": "TP53"})
    load_table(few)  # a gene without a symbol among a hundred is usual
