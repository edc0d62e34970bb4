"""Options against what they are for: levels and numbers of confidence, scores in their units, words of signs."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from kgnn import KnowledgeGraph
from kgnn.errors import InputError
from kgnn.graph import (
    embed_graph,
    estimate_effects,
    load_coexpression,
    load_gene_families,
    load_gene_sets,
    load_interactions,
    load_kgx,
    load_markers,
    load_promoter_sequences,
    load_regulation,
    load_table,
)
from kgnn.graph.options import as_signs

REGULATES = ("gene", "regulates", "gene")
# two edges for which levels and references say the opposite, one of several levels, one of another data set
OMNIPATH = pd.DataFrame(
    {
        "source_genesymbol": ["A", "B", "C", "D"],
        "target_genesymbol": ["X", "X", "X", "X"],
        "is_stimulation": [True, True, False, True],
        "is_inhibition": [False, False, True, False],
        "references": ["1;2;3;4", "1;2", "5", "6;7;8"],
        "dorothea_level": ["D", "A", "E;B", None],
    }
)


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def sources(kg, relation=REGULATES):
    return set(kg.edges(relation)["source"])


def test_letters_go_with_levels_and_numbers_with_references(tmp_path):
    OMNIPATH.to_csv(tmp_path / "o.tsv", sep="\t", index=False)
    for table in (OMNIPATH, tmp_path / "o.tsv"):
        kg = load_regulation(table, min_confidence="C")
        assert kg.edges(REGULATES).set_index("source")["confidence"].to_dict() == {"B": 5, "C": 4}
        assert kg.account[0]["dropped"] == {"no level of DoRothEA's": 1, "confidence below C": 1}
        assert kg.origins == ["dorothea"]
        assert sources(load_regulation(table, min_confidence=3)) == {"A", "D"}
        assert load_regulation(table).edges(REGULATES)["confidence"].tolist() == [4, 2, 1, 3]


@pytest.mark.parametrize(
    ("columns", "limit", "message"),
    [
        (
            {"references": ["1;2"], "dorothea_level": None},
            "C",
            "no confidence levels here but the number of references",
        ),
        ({"references": None, "dorothea_level": ["A"]}, 3, "is a number, and the file has levels; give A to E"),
        ({"references": ["1;2"], "dorothea_level": ["high"]}, None, "table, row 0: dorothea_level 'high' is none of A"),
        ({"references": ["1;2"], "dorothea_level": ["A"]}, "c", "min_confidence 'c' is none of A, B, C, D, E"),
        ({"references": ["1;2"], "dorothea_level": ["A"]}, ["A", "B"], "none of A, B, C, D, E and no number"),
        ({"references": ["1;2"], "dorothea_level": ["A"]}, np.nan, "none of A, B, C, D, E and no number"),
        ({"references": ["1;2"], "dorothea_level": ["A"]}, True, "none of A, B, C, D, E and no number"),
    ],
)
def test_a_level_for_a_file_of_numbers_and_the_reverse_are_refused(columns, limit, message):
    table = OMNIPATH.head(1).assign(**columns).dropna(axis=1)
    with pytest.raises(InputError, match=message):
        load_regulation(table, min_confidence=limit)


def test_every_format_of_regulation_knows_its_measure():
    dorothea = pd.DataFrame({"tf": ["A", "B"], "confidence": ["D", "A"], "target": ["X", "X"], "mor": [1.0, 1.0]})
    decoupler = dorothea.rename(columns={"tf": "source", "mor": "weight"})  # decoupler's get_dorothea
    for table in (dorothea, decoupler):
        assert sources(load_regulation(table, min_confidence="C")) == {"B"}
        with pytest.raises(InputError, match="is a number, and the file has levels"):
            load_regulation(table, min_confidence=2)
    plain = decoupler.assign(confidence=[0.2, 0.9])
    assert sources(load_regulation(plain, min_confidence=0.5)) == {"B"}
    with pytest.raises(InputError, match="no confidence levels here but the column confidence"):
        load_regulation(plain, min_confidence="C")
    aracne = pd.DataFrame({"Regulator": ["A", "B"], "Target": "X", "MI": [1, 1], "pvalue": [0.2, 0.01]})
    assert sources(load_regulation(aracne, min_confidence=0.9)) == {"B"}
    with pytest.raises(
        InputError, match=r"min_confidence = 5.0; it must be a number from 0 to 1; the confidence is 1 − p"
    ):
        load_regulation(aracne, min_confidence=5)
    with pytest.raises(InputError, match=r"table, row 1: pvalue 3 is not between 0 and 1"):
        load_regulation(aracne.assign(pvalue=[0.2, 3]))


def test_a_level_filters_only_what_has_levels():
    dorothea = pd.DataFrame({"tf": ["A", "B"], "confidence": ["D", "A"], "target": ["X", "X"], "mor": [1.0, 1.0]})
    counted = OMNIPATH.drop(columns="dorothea_level")
    kg = load_regulation(dorothea) | load_regulation(counted)
    with pytest.raises(InputError, match=r"collectri: min_confidence 'C' .* filter the edges with levels by origin="):
        kg.filter(min_confidence="C")
    kept = kg.filter(min_confidence="C", origin="dorothea").edges(REGULATES, by_origin=True)
    assert (kept["origin"] == "dorothea").sum() == 1
    assert len(kept) == 5
    assert sources(load_regulation(dorothea).filter(min_confidence="C")) == {"B"}


STRING = "protein1 protein2 combined_score\n9.A 9.B 900\n9.A 9.C 400\n"
PAIRS = "A\tB\t0.9\nA\tC\t0.4\n"
BIOGRID = (
    "#BioGRID Interaction ID\tEntrez Gene Interactor A\tEntrez Gene Interactor B\tOfficial Symbol Interactor A\t"
    "Official Symbol Interactor B\tExperimental System Type\tOrganism ID Interactor A\tOrganism ID Interactor B\n"
    "1\t7157\t4193\tTP53\tMDM2\tphysical\t9606\t9606\n"
)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (STRING, {"min_score": 0.7}, "scores run from 0 to 1000: every interaction would stay; for 0.7 give 700"),
        (STRING, {"min_score": 1}, "for 1 give 1000"),
        (STRING, {"min_score": 1200}, "min_score = 1200; it must be a number from 0 to 1000"),
        (STRING, {"min_score": -1}, "min_score = -1; it must be a number of 0 or more"),
        (STRING, {"min_score": "high"}, "min_score = 'high'; it must be a number"),
        (STRING.replace("400", "0.4"), {}, "f.txt:3: combined_score 0.4 is no whole number"),
        (STRING, {"organism": 9606}, "a STRING file has nothing that organism could choose"),
        (STRING, {"namespace": "entrez"}, "entrez names need STRING's protein.aliases file"),
        (PAIRS, {"system_type": "physical"}, "a file of pairs has nothing that system_type could choose"),
        ("A\tB\n", {"min_score": 0.5}, "pairs without weights have nothing to compare min_score with"),
        (BIOGRID, {"min_score": 400}, "a BioGRID file has nothing that min_score could choose"),
        (BIOGRID, {"organism": "human"}, "organism 'human' is no NCBI taxon id; human is 9606"),
        (BIOGRID, {"system_type": "Physical"}, "system_type 'Physical' is unknown; choose physical or genetic"),
    ],
)
def test_options_of_interactions_are_for_the_format_of_the_file(write, text, options, message):
    with pytest.raises(InputError, match=message):
        load_interactions(write("f.txt", text), **options)


def test_scores_in_the_files_units(write):
    relation = ("gene", "interacts", "gene")
    assert sources(load_interactions(write("s.txt", STRING), min_score=700), relation) == {"A", "B"}
    assert sources(load_interactions(write("p.txt", PAIRS), min_score=0.7), relation) == {"A", "B"}


GMT = "one\t\tA\tB\n"
GAF = "!gaf-version: 2.2\n"
CELLS = AnnData(np.random.default_rng(0).random((6, 3)), var=pd.DataFrame(index=list("ABC")))
CELLS.obs["type"] = list("aaabbb")
EDGES = pd.DataFrame({"source": ["A"], "target": ["B"]})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: load_coexpression(CELLS, threshold=40), "threshold = 40; it must be a number from 0 to 1"),
        (lambda w: load_coexpression(CELLS, k=0), "k = 0; it must be a whole number of 1 or more"),
        (lambda w: load_coexpression(CELLS, k=2.5), "k = 2.5; it must be a whole number"),
        (lambda w: load_markers(CELLS, "type", max_p=5), "max_p = 5; it must be a number from 0 to 1"),
        (lambda w: load_markers(CELLS, "type", n_genes=0), "n_genes = 0"),
        (lambda w: load_gene_sets(w("s.gmt", GMT), threshold=10), "threshold = 10; .*; it is a similarity"),
        (lambda w: load_gene_sets(w("s.gmt", GMT), aspect="process"), "aspect 'process' is unknown; choose P"),
        (lambda w: load_gene_sets(w("s.gmt", GMT), aspect="P"), "neither evidence nor aspect to choose by"),
        (lambda w: load_gene_families(genes=["A"], max_family=0), "max_family = 0"),
        (lambda w: load_table(EDGES, min_weight=0.5), "no column of weights to compare min_weight with"),
        (lambda w: load_promoter_sequences(w("p.fa", ">A\nACGT\n"), k="4"), "k = '4'; it must be a whole number"),
        (lambda w: estimate_effects(load_table(EDGES), CELLS, ridge=-1), "ridge = -1; it must be a number of 0 or"),
        (lambda w: load_table(EDGES).nearest(1.5), "k = 1.5; it must be a whole number of 1 or more"),
        (lambda w: load_table(EDGES).filter(min_weight="heavy"), "min_weight = 'heavy'; it must be a number"),
        (lambda w: embed_graph(load_table(EDGES), dim=0), "dim = 0"),
    ],
)
def test_numbers_out_of_their_range_are_refused(write, call, message):
    with pytest.raises(InputError, match=message):
        call(write)


# signs


@given(st.lists(st.sampled_from([-2.5, 0.0, 3.0, np.nan])), st.sampled_from(["float", "object", "text", "Float64"]))
def test_signs_of_numbers_are_numpys_in_every_type_and_missing_is_unknown(values, kind):
    column = pd.Series(values, dtype=np.float64)
    if kind == "text":
        column = column.map(str, na_action="ignore")
    expected = np.sign(np.nan_to_num(np.array(values, float)))
    assert as_signs(column.astype("object" if kind == "text" else kind), str).tolist() == expected.tolist()


WORDS = {
    "activation": 1,
    "Activation": 1,
    "repression": -1,
    " Inhibition ": -1,
    "unknown": 0,
    None: 0,
    " ": 0,
    "+": 1,
    "-": -1,
}


def test_words_of_signs_are_read_at_every_door(tmp_path):
    import networkx as nx

    names = [f"G{i}" for i in range(len(WORDS))]
    frame = pd.DataFrame({"source": "TF", "target": names, "sign": list(WORDS)})
    expected = dict(zip(names, WORDS.values(), strict=True))
    graph = nx.DiGraph()
    graph.add_edges_from(("TF", name, {"sign": word}) for name, word in zip(names, WORDS, strict=True))
    frame.to_csv(tmp_path / "t.csv", index=False)
    nodes = pd.DataFrame({"id": ["TF", *names], "category": "biolink:Gene"})
    nodes.to_csv(tmp_path / "nodes.tsv", sep="\t", index=False)
    columns = {"source": "subject", "target": "object"}
    frame.rename(columns=columns).assign(predicate="regulates").to_csv(tmp_path / "e.tsv", sep="\t", index=False)
    from kgnn.graph import from_networkx

    doors = [
        load_table(frame, relation="regulates"),
        load_table(tmp_path / "t.csv", relation="regulates"),
        load_regulation(frame),
        load_kgx(tmp_path / "nodes.tsv", tmp_path / "e.tsv"),
        from_networkx(graph, relation="regulates"),
        KnowledgeGraph({"gene": ["TF", *names]}, {REGULATES: frame}),
    ]
    for number, kg in enumerate(doors):
        assert kg.edges(REGULATES).set_index("target")["sign"].to_dict() == expected, number
    assert doors[0].filter(sign="repression") == doors[0].filter(sign=-1)
    assert set(doors[0].filter(sign=["activation", 0]).edges(REGULATES)["sign"]) == {0, 1}


def test_words_that_are_no_signs_are_named(tmp_path):
    import networkx as nx

    from kgnn.graph import from_networkx

    for word in ("1_2", "\uff11"):  # which Python's float takes
        with pytest.raises(InputError, match=f"the sign '{word}' is no number"):
            as_signs([word], str)
    frame = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"], "sign": ["activation", "often"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    graph = nx.DiGraph()
    graph.add_edge("A", "B", sign="often")
    for call, where in (
        (lambda: load_table(frame), "table, row 1"),
        (lambda: load_table(tmp_path / "t.csv"), "t.csv:3"),
        (lambda: load_regulation(tmp_path / "t.csv"), "t.csv:3"),
        (lambda: from_networkx(graph), "edge A→B of"),
        (lambda: KnowledgeGraph({"gene": list("ABC")}, {REGULATES: frame}), "edge B→C"),
        (lambda: load_table(frame.head(1)).filter(sign="often"), "sign = 'often'"),
    ):
        with pytest.raises(InputError, match=f"{where}.*the sign 'often' is no number and no word like activation"):
            call()
