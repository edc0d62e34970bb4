import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from kgnn import KnowledgeGraph
from kgnn.errors import DataWarning, InputError
from kgnn.graph import GeneNames, Orthologs, gaf_aliases, join_species, load_table
from kgnn.graph.identifiers import looks_like

REGULATES = ("gene", "regulates", "gene")
ALIASES = pd.DataFrame(
    {
        "symbol": ["TP53", "TP53", "MDM2", "KLF1", "CAP1", "BRF1", "HIST1"],
        "entrez": ["7157.0", "7157.0", "4193", "10661", "10487", "2972", "99"],
        "alias": ["p53", "LFS1", "HDMX", "EKLF", "CAP", "MDM2", "CAP"],
    }
)
ENSEMBL = pd.DataFrame(
    {
        "ensembl_id": ["ENSG00000141510", "ENSG00000135679", "ENSG00000105610.7", "ENSG00000000001", "ENSG00000000002"],
        "symbol": ["TP53", "MDM2", "KLF1", "CAP1", "CAP1"],
    }
)


@pytest.fixture(scope="module")
def human():
    return GeneNames(ALIASES, ENSEMBL)


@pytest.mark.parametrize(
    ("name", "gene", "how"),
    [
        ("TP53", "TP53", "symbol"),
        ("tp53", "TP53", "case"),
        ("p53", "TP53", "alias"),
        ("ENSG00000141510", "TP53", "ensembl"),
        ("ENSG00000141510.18", "TP53", "ensembl version"),
        ("7157", "TP53", "entrez"),
        ("7157.0", "TP53", "entrez"),
        ("MDM2", "MDM2", "symbol"),  # and not BRF1, whose alias it is
        ("CAP", None, "ambiguous"),
        ("XYZ", None, "unknown"),
    ],
)
def test_every_kind_of_name(human, name, gene, how):
    row = human.map([name]).loc[name]
    assert (row["id"], row["how"]) == (gene, how)


def test_ambiguous_names_are_reported_with_their_candidates(human):
    assert human.map(["CAP"]).loc["CAP", "candidates"] == "CAP1|HIST1"
    row = human.map(["CAP1"], "ensembl").loc["CAP1"]
    assert (row["how"], row["candidates"]) == ("ambiguous", "ENSG00000000001|ENSG00000000002")
    assert human.map(["ENSG00000000002.1"], "ensembl")["id"].tolist() == ["ENSG00000000002"]
    assert human.map(["BRF1"], "ensembl").loc["BRF1", "how"] == "no id"
    assert human.map(["p53"], "entrez")["id"].tolist() == ["7157"]
    with pytest.raises(InputError, match="namespace 'hgnc' is unknown"):
        human.map(["TP53"], "hgnc")


def test_hgnc_and_ncbi_tables(tmp_path):
    hgnc = tmp_path / "hgnc_complete_set.txt"
    hgnc.write_text(
        "hgnc_id\tsymbol\talias_symbol\tprev_symbol\tentrez_id\tensembl_gene_id\n"
        'HGNC:1\tKMT2A\t"HRX|CXXC7"\t"MLL|MLL1"\t4297\tENSG00000118058\n'
        "HGNC:2\tSELENOP\tSeP\tSEPP1\t6414\t\n"
    )
    found = GeneNames(hgnc).map(["MLL", "HRX", "SEPP1", "4297"])
    assert found["id"].tolist() == ["KMT2A", "KMT2A", "SELENOP", "KMT2A"]
    assert found["how"].tolist() == ["previous", "alias", "previous", "entrez"]
    info = tmp_path / "gene_info.tsv"
    info.write_text("#tax_id\tGeneID\tSymbol\tSynonyms\n9606\t7157\tTP53\tp53|LFS1\n9606\t1\tA1BG\t-\n")
    assert GeneNames(info).map(["LFS1", "1", "-"])["how"].tolist() == ["alias", "entrez", "unknown"]


def test_synonyms_of_a_gaf_file_make_a_table(tmp_path):
    line = ["UniProtKB", "P04637", "TP53", "", "GO:0006915", "PMID:1", "IDA", "", "P", "name", "p53|P53_HUMAN"]
    line += ["protein", "taxon:9606", "20200101", "UniProt", "", ""]
    (tmp_path / "a.gaf").write_text("!gaf-version: 2.2\n" + "\t".join(line) + "\n")
    assert GeneNames(gaf_aliases(tmp_path / "a.gaf")).map(["p53"])["id"].tolist() == ["TP53"]


def edges_of(kg, relation=REGULATES):
    return {(e.source, e.target): e.weight for e in kg.edges(relation).itertuples()}


def table(*rows):
    return load_table(pd.DataFrame(rows, columns=["source", "target", "weight"]), relation="regulates", origin="x")


def test_a_graph_gets_one_namespace_and_says_what_became_of_every_name(human):
    kg = table(
        ("p53", "MDM2", 1),
        ("TP53", "MDM2", 3),
        ("ENSG00000141510.1", "EKLF", 2),
        ("CAP", "MDM2", 1),
        ("p53", "TP53", 9),
    )
    kg = kg.with_features("x", pd.DataFrame({"a": [5.0]}, index=["p53"]))
    mapped = kg.map_genes(human)
    assert edges_of(mapped) == {("TP53", "MDM2"): 3, ("TP53", "KLF1"): 2}
    assert mapped.nodes("gene")["species"].tolist() == ["human"] * 3
    note = mapped.history[-1]
    assert {key: note[key] for key in ("genes", "removed", "became one", "alias", "ambiguous")} == {
        "genes": 6, "removed": 1, "became one": 2, "alias": 2, "ambiguous": 1
    }  # fmt: skip
    assert (note["edges_before"], note["edges_after"]) == (5, 2)
    kept = kg.map_genes(human, keep_unknown=True)
    assert ("CAP", "MDM2") in edges_of(kept)
    assert edges_of(kg.map_genes(human, "entrez"))["7157", "4193"] == 3


def test_another_species_or_namespace_is_named(human):
    with pytest.raises(InputError, match=r"none of the 2 genes .* look like Ensembl gene ids \(mouse\) \(2 of 2\)"):
        table(("ENSMUSG00000059552", "ENSMUSG00000020184", 1)).map_genes(human)
    many = GeneNames(pd.DataFrame({"symbol": [f"GENE{i}" for i in range(20)], "entrez": range(20)}))
    with pytest.raises(InputError, match=r"20 of 20 genes fit human symbols only if case is ignored; .*mouse symbols"):
        table(*((f"Gene{i}", f"Gene{i + 1}", 1) for i in range(19))).map_genes(many)
    with pytest.warns(DataWarning, match="2 of 3 genes are unknown"):
        table(("TP53", "Q1", 1), ("TP53", "Q2", 1)).map_genes(human)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["ENSG00000141510.3"], "Ensembl gene ids (human)"),
        (["7157", "4193"], "Entrez numbers"),
        (["Trp53", "Mdm2"], "mouse symbols"),
        (["TP53", "C1orf112"], "human symbols"),
        (["9606.ENSP00000000233"], "Ensembl transcript or protein ids"),
        (["P04637"], "UniProt"),
        (["???"], "no namespace"),
    ],
)
def test_what_names_look_like(names, kind):
    assert looks_like(names).startswith(kind)


def test_bad_tables_are_refused(tmp_path):
    with pytest.raises(InputError, match="at least one table"):
        GeneNames()
    with pytest.raises(InputError, match="no table of human genes; it needs a column symbol"):
        GeneNames(pd.DataFrame({"symbol": ["A"]}))


# orthologues

PAIRS = pd.DataFrame(
    {
        "human_symbol": ["TP53", "MDM2", "KLF1", "F2", "HBA1", "HBA2", "CYP2D6", "CYP2D6"],
        "mouse_symbol": ["Trp53", "Mdm2", "Klf1", "F2", "Hba-a1", "Hba-a1", "Cyp2d22", "Cyp2d9"],
    }
)


def test_one_to_one_by_default_and_one_to_many_on_request():
    orthologs = Orthologs(PAIRS)
    assert orthologs.one_to_one()["human"].tolist() == ["TP53", "MDM2", "KLF1", "F2"]
    kg = table(("Trp53", "Mdm2", 1), ("Trp53", "Hba-a1", 2), ("Cyp2d22", "Cyp2d9", 1), ("Trp53", "Unknown1", 1))
    human = orthologs.translate(kg, "human")
    assert edges_of(human) == {("TP53", "MDM2"): 1}
    assert human.history[-1]["removed"] == 4
    many = orthologs.translate(kg, "human", one_to_many=True)
    assert edges_of(many) == {("TP53", "MDM2"): 1, ("TP53", "HBA1"): 1, ("TP53", "HBA2"): 1}
    with pytest.raises(
        InputError, match=r"none of the 2 genes .* look like human symbols .*; the table translates mouse"
    ):
        orthologs.translate(table(("TP53", "MYC", 1)), "human")
    with pytest.raises(InputError, match="species 'rat' is unknown"):
        orthologs.translate(kg, "rat")
    with pytest.raises(InputError, match="no column 'rat_symbol'"):
        Orthologs(PAIRS, ("human", "rat"))


def test_cells_of_one_species_get_the_other_ones_gene_names():
    cells = AnnData(np.arange(8.0).reshape(2, 4), var=pd.DataFrame(index=["Klf1", "Hba-a1", "Trp53", "Gm1"]))
    with pytest.warns(DataWarning, match="2 of 4 genes have no one-to-one orthologue in human"):
        found = Orthologs(PAIRS).translate_cells(cells, "human")
    assert list(found.var_names) == ["KLF1", "TP53"]
    np.testing.assert_array_equal(found.X, [[0, 2], [4, 6]])
    assert list(cells.var_names) == ["Klf1", "Hba-a1", "Trp53", "Gm1"]
    with pytest.raises(InputError, match=r"none of the 2 genes .*the table translates mouse to human"):
        Orthologs(PAIRS).translate_cells(found, "human")
    with pytest.raises(InputError, match="species 'rat' is unknown"):
        Orthologs(PAIRS).translate_cells(cells, "rat")


MOUSE = sorted(PAIRS["mouse_symbol"].unique())


@given(
    st.dictionaries(st.tuples(st.sampled_from(MOUSE), st.sampled_from(MOUSE)), st.sampled_from([1.0, 2.0]), min_size=1)
)
def test_one_to_many_shares_each_weight_among_all_copies(rows):
    kg = table(*((a, b, weight) for (a, b), weight in rows.items()))
    human_of = {mouse: part["human_symbol"].tolist() for mouse, part in PAIRS.groupby("mouse_symbol")}
    expected: dict = {}
    for (a, b), weight in edges_of(kg).items():
        copies = [(x, y) for x in human_of[a] for y in human_of[b]]
        for x, y in copies:
            if x != y:
                expected[x, y] = max(expected.get((x, y), 0), weight / len(copies))
    translated = Orthologs(PAIRS).translate(kg, "human", one_to_many=True)
    assert (edges_of(translated) if translated.relations else {}) == pytest.approx(expected)


def test_two_species_in_one_graph():
    human = table(("TP53", "MDM2", 1), ("F2", "KLF1", 2))
    mouse = table(("Trp53", "Mdm2", 5), ("F2", "Klf1", 7))
    kg = join_species({"human": human, "mouse": mouse}, Orthologs(PAIRS))
    nodes = kg.nodes("gene")["species"]
    assert nodes.to_dict() == {
        "F2": "human", "KLF1": "human", "MDM2": "human", "TP53": "human",
        "F2 (mouse)": "mouse", "Klf1": "mouse", "Mdm2": "mouse", "Trp53": "mouse",
    }  # fmt: skip
    assert edges_of(kg)["F2 (mouse)", "Klf1"] == 7
    links = set(edges_of(kg, ("gene", "orthologous_to", "gene")))
    one_way = {("TP53", "Trp53"), ("MDM2", "Mdm2"), ("KLF1", "Klf1"), ("F2", "F2 (mouse)")}
    assert links == one_way | {(b, a) for a, b in one_way}
    record = next(r for r in kg.account if r["origin"] == "orthologs")
    assert record["rows_read"] + record["added"] == record["kept"] + sum(record["dropped"].values())
    with pytest.raises(InputError, match="there is no graph of mouse"):
        join_species({"human": human}, Orthologs(PAIRS))
    with pytest.raises(InputError, match="'F2' is human in one graph and mouse in another"):
        KnowledgeGraph.merge([g.with_node_column("species", s) for g, s in ((human, "human"), (mouse, "mouse"))])


def test_the_real_tables(real_data):
    names = GeneNames(real_data / "genes" / "human_aliases.tsv.gz", real_data / "genes" / "human_ensembl.tsv.gz")
    mapped = names.map(["TP53", "P53", "p53", "ENSG00000141510.18", "7157", "MLL", "EKLF"])
    assert mapped["id"].tolist() == ["TP53"] * 5 + ["KMT2A", "KLF1"]
    pairs = pd.read_csv(real_data / "genes" / "human_mouse_orthologs.tsv.gz", sep="\t")
    once = pairs.drop_duplicates(["human_symbol", "mouse_symbol"])
    once = once[~once["human_symbol"].duplicated(keep=False) & ~once["mouse_symbol"].duplicated(keep=False)]
    found = Orthologs(real_data / "genes" / "human_mouse_orthologs.tsv.gz").one_to_one()
    assert set(map(tuple, found.to_numpy())) == set(map(tuple, once[["human_symbol", "mouse_symbol"]].to_numpy()))
