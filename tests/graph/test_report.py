import numpy as np
import pandas as pd
import pytest

from kgnn import KnowledgeGraph
from kgnn.errors import DataWarning
from kgnn.graph import load_gene_sets, load_interactions, load_regulation, load_table

REL = ("gene", "regulates", "gene")


def balance(record):
    """What must hold of a source whose rows are edges: every row is somewhere."""
    gone = record["merged"] + record["self_loops"] + sum(record["dropped"].values())
    return record["rows_read"] + record.get("added", 0) - record["kept"] - gone


def test_every_row_of_a_table_is_accounted_for():
    table = pd.DataFrame(
        {
            "source": ["A", "A", "A", None, "B", "C"],
            "target": ["B", "B", "A", "C", "C", "A"],
            "weight": [1, 2, 1, 1, 0.1, 1],
        }
    )
    for undirected in (False, True):
        kg = load_table(table, min_weight=0.5, undirected=undirected)
        assert balance(kg.account[0]) == 0
        assert kg.account[0]["kept"] == (4 if undirected else 2)


def test_every_row_of_the_real_files_is_accounted_for(real_data):
    folder = real_data / "kg"
    graphs = [
        load_regulation(folder / "dorothea_hs.tsv.gz", min_confidence="D"),
        load_regulation(folder / "dorothea_mm.tsv.gz"),
    ]
    with pytest.warns(DataWarning, match="1-Dec = DEC1"):  # TRRUST went through Excel
        graphs.append(load_regulation(folder / "trrust_rawdata.human.tsv"))
    for kg in graphs:
        assert balance(kg.account[0]) == 0
    merged = KnowledgeGraph.merge(graphs)
    assert sum(map(balance, merged.account)) == 0


def test_merging_the_same_source_twice_counts_it_as_merged():
    kg = load_table(pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"]}), origin="x")
    twice = kg | kg
    assert sum(record["rows_read"] for record in twice.account) == 4
    assert sum(record["kept"] for record in twice.account) == 2
    assert sum(record["merged"] for record in twice.account) == 2


def test_a_dropped_source_leaves_the_account_and_comes_back_with_its_graph():
    one, two = (
        load_table(pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"]}), origin=origin)
        for origin in ("one", "two")
    )
    both = one | two
    for left in (both.drop_source("two"), both.only_sources("one")):
        assert [record["origin"] for record in left.account] == ["one"]
        assert left.summary()["origin"].tolist() == ["one"]
        assert (left | two).summary()["rows_read"].tolist() == [2, 2]


def test_degrees_overlap_and_coverage_by_hand(small_kg):
    report = small_kg.report(["A", "B", "Z"])
    degrees = report.degrees.set_index(["relation", "side"])
    assert degrees.loc[("gene–regulates–gene", "out"), ["nodes", "without", "mean", "max"]].tolist() == [2, 2, 1.5, 2]
    overlap = report.overlap.iloc[0]
    assert (overlap["origin"], overlap["other"], overlap["shared"]) == ("one", "two", 1)
    assert overlap["of_smaller"] == 1
    assert overlap["jaccard"] == pytest.approx(1 / 3)
    coverage = report.coverage.set_index("genes")["covered"].to_dict()
    assert coverage == {
        "known to the graph": 2, "linked in any relation": 2, "gene–regulates–gene": 2, "gene–coexpressed–gene": 0
    }  # fmt: skip


def test_the_report_reads_as_text_html_and_json(small_kg):
    import json

    report = small_kg.drop_source("two").report(["A"])
    text = str(report)
    assert "drop_source" in text
    assert "4 gene, 2 cell_type" in text
    assert "genes look like:\n  human symbols" in text
    assert "<table" in report._repr_html_()
    assert json.loads(json.dumps(report.to_dict(), default=float))["nodes"] == {"gene": 4, "cell_type": 2}


def test_the_account_and_each_edges_sources_survive_merge_save_and_load(tmp_path):
    (tmp_path / "s.gmt").write_text("s\t\tA\tB\n")
    (tmp_path / "p.txt").write_text("A\tB\n")
    kg = load_gene_sets(tmp_path / "s.gmt") | load_interactions(tmp_path / "p.txt")
    kg = kg | load_table(pd.DataFrame({"source": ["A"], "target": ["B"]}), relation="interacts", origin="mine")
    kg = kg.with_features("x", np.eye(2)).filter(min_weight=0.5)
    kg.save(tmp_path / "kg")
    again = KnowledgeGraph.load(tmp_path / "kg")
    assert again == kg
    assert again.account == kg.account
    assert again.history == kg.history
    edges = again.edges(("gene", "interacts", "gene")).set_index(["source", "target"])["origin"]
    assert edges["A", "B"] == "mine|p"
    assert again.drop_source("p").edges(("gene", "interacts", "gene"))["origin"].tolist() == ["mine"]
    assert [note["operation"] for note in again.history] == ["with_features", "filter"]


def test_summary_names_what_a_source_lost(tmp_path):
    kg = load_table(pd.DataFrame({"source": ["A", None], "target": ["B", "C"]}), relation="regulates")
    row = kg.summary().iloc[0]
    assert (row["kept"], row["unit"], row["dropped"]) == (1, "rows", "no source or target: 1")
