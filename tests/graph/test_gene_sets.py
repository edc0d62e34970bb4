import gzip
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn.errors import DataWarning, InputError
from kgnn.graph import load_gene_sets
from kgnn.graph.sources import gene_sets
from kgnn.graph.sources.gene_set_files import read_gmt

RELATION = ("gene", "shares_gene_sets", "gene")
GENES = [f"G{i}" for i in range(12)]
collections = st.dictionaries(
    st.text("abcdef ()':-", min_size=1, max_size=8).filter(str.strip),
    st.lists(st.sampled_from(GENES), min_size=1, max_size=8),
    min_size=1,
    max_size=10,
)


def write_gmt(path, sets, description=""):
    path.write_text("".join(f"{name}\t{description}\t" + "\t".join(genes) + "\t\n" for name, genes in sets.items()))
    return path


def gears_loop(sets, threshold):
    """GEARS' make_GO: every pair of genes by Python sets."""
    of = {g: {name for name, genes in sets.items() if g in genes} for genes in sets.values() for g in genes}
    edges = {}
    for a in of:
        for b in of:
            score = len(of[a] & of[b]) / len(of[a] | of[b])
            if a != b and score > threshold:
                edges[a, b] = score
    return edges


def loaded(kg):
    if not kg.relations:
        return {}
    return {(row.source, row.target): row.weight for row in kg.edges(RELATION).itertuples()}


@given(collections, st.sampled_from([0.0, 0.1, 0.4]), st.sampled_from([1, 3, 64]))
def test_jaccard_equals_the_loop_over_pairs_whatever_the_block(tmp_path_factory, sets, threshold, block):
    path = write_gmt(tmp_path_factory.mktemp("gmt") / "sets.gmt", sets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gene_sets, "BLOCK", block)
        kg = load_gene_sets(path, k=None, threshold=threshold)
    assert loaded(kg) == pytest.approx(gears_loop(sets, threshold), abs=1e-6)
    assert kg.nodes("gene").index.tolist() == sorted({g for genes in sets.values() for g in genes})


@given(collections, st.integers(1, 4))
def test_k_keeps_the_heaviest_sources_of_each_target(tmp_path_factory, sets, k):
    path = write_gmt(tmp_path_factory.mktemp("gmt") / "sets.gmt", sets)
    by_target: dict = {}
    for (source, target), weight in gears_loop(sets, 0.1).items():
        by_target.setdefault(target, []).append((-weight, source))
    expected = {(s, t): -w for t, edges in by_target.items() for w, s in sorted(edges)[:k]}
    assert loaded(load_gene_sets(path, k=k)) == pytest.approx(expected, abs=1e-6)


def test_repeated_genes_are_counted_and_the_origin_is_the_file(tmp_path):
    kg = load_gene_sets(write_gmt(tmp_path / "mine.gmt", {"s 1": ["A", "B", "A"], "s 2": ["A", "B"]}, "description"))
    assert kg.origins == ["mine"]
    assert kg.account[0]["dropped"] == {"gene repeated in its set": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("set1\t\tA\tB\nset2\tdescription\n", r"s.gmt:2: 2 fields and no gene"),
        ("set1\t\tA\n\nset1\t\tB\n", r"s.gmt:3: the gene set 'set1' stands twice"),
        ("\n\n", "no gene set"),
    ],
)
def test_bad_gmt_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "s.gmt").write_text(text)
    with pytest.raises(InputError, match=message):
        load_gene_sets(tmp_path / "s.gmt")


def test_a_set_of_more_genes_than_there_are_is_refused(tmp_path):
    (tmp_path / "s.gmt").write_text("name\tabout\t" + "\t".join(f"G{number}" for number in range(100_001)) + "\n")
    with pytest.raises(InputError, match=r"s\.gmt: 100,00\d columns"):
        load_gene_sets(tmp_path / "s.gmt")


def test_binary_missing_and_empty_files_are_refused(tmp_path):
    (tmp_path / "s.gmt").write_bytes(b"\xff\xfe\x00bin")
    with pytest.raises(InputError, match="not UTF-8"):
        load_gene_sets(tmp_path / "s.gmt")
    with pytest.raises(InputError, match="no such file"):
        load_gene_sets(tmp_path / "t.gmt")
    (tmp_path / "s.gmt").write_text("")
    with pytest.raises(InputError, match="is empty"):
        load_gene_sets(tmp_path / "s.gmt")


def test_real_go_agrees_with_the_loop_for_some_genes(real_data):
    path = real_data / "kg" / "GO_Biological_Process_2021.gmt"
    sets = read_gmt(path).sets
    kg = load_gene_sets(path)
    assert len(kg.nodes("gene")) == 14_937
    edges = kg.edges(RELATION)
    of: dict = {}
    for name, genes in sets.items():
        for gene in genes:
            of.setdefault(gene, set()).add(name)
    for target in ("TP53", "KLF1", "MYC", "GATA1"):
        scores = sorted((len(of[target] & of[g]) / len(of[target] | of[g]) for g in of if g != target), reverse=True)
        expected = [score for score in scores if score > 0.1][:20]
        found = sorted(edges.loc[edges["target"] == target, "weight"], reverse=True)
        assert found == pytest.approx(expected, abs=1e-6)


# other similarities, formats, and genes with their sets

MEMBER = ("gene", "member_of", "gene_set")
SETS = {"s": ["A", "B", "C"], "t": ["A", "B"], "u": ["A", "D"], "all": ["A", "B", "C", "D"]}


@given(collections)
def test_overlap_and_information_equal_the_formula_by_hand(tmp_path_factory, sets):
    path = write_gmt(tmp_path_factory.mktemp("gmt") / "sets.gmt", sets)
    of = {g: {name for name, genes in sets.items() if g in genes} for genes in sets.values() for g in genes}
    worth = {name: -math.log(len(set(genes)) / len(of)) for name, genes in sets.items()}
    overlap, information = {}, {}
    for a in of:
        for b in of:
            if a != b and (both := of[a] & of[b]):
                overlap[a, b] = len(both) / min(len(of[a]), len(of[b]))
                whole = sum(worth[name] for name in of[a] | of[b])
                if whole > 0 and sum(worth[name] for name in both) > 1e-6:
                    information[a, b] = sum(worth[name] for name in both) / whole
    for similarity, expected in (("overlap", overlap), ("information", information)):
        found = loaded(load_gene_sets(path, k=None, threshold=0, similarity=similarity))
        assert found == pytest.approx(expected, abs=1e-5)


def test_genes_and_their_sets(tmp_path):
    kg = load_gene_sets(write_gmt(tmp_path / "s.gmt", SETS), relation="member_of")
    found = set(map(tuple, kg.edges(MEMBER)[["source", "target"]].to_numpy()))
    assert found == {(gene, name) for name, genes in SETS.items() for gene in genes}


def test_oddities_of_gmt(tmp_path):
    (tmp_path / "s.gmt").write_bytes(b"\xef\xbb\xbfset one (x)\t\tA\t B \t\t\r\n\r\nset two\tabout it\tA\tB\tC\r\n")
    kg = load_gene_sets(tmp_path / "s.gmt", relation="member_of")
    assert kg.nodes("gene").index.tolist() == ["A", "B", "C"]
    assert kg.nodes("gene_set").index.tolist() == ["set one (x)", "set two"]
    with pytest.raises(InputError, match="similarity 'cosine' is unknown"):
        load_gene_sets(tmp_path / "s.gmt", similarity="cosine")
    with pytest.raises(InputError, match="relation 'in' is unknown"):
        load_gene_sets(tmp_path / "s.gmt", relation="in")


def gaf_line(gene, term, code="IDA", qualifier="involved_in", aspect="P", synonyms="x|y"):
    fields = ["UniProtKB", f"ID{gene}", gene, qualifier, term, "PMID:1", code, "", aspect, "a name", synonyms]
    return "\t".join([*fields, "protein", "taxon:9606", "20200101", "UniProt", "", ""]) + "\n"


GAF = "!gaf-version: 2.2\n!a comment\n" + "".join(
    [
        gaf_line("A", "GO:3"),
        gaf_line("A", "GO:3", code="IEA"),
        gaf_line("B", "GO:3"),
        gaf_line("B", "GO:2", qualifier="NOT|involved_in"),
        gaf_line("C", "GO:9", code="IEA"),  # alternative id of GO:2
        gaf_line("C", "GO:8"),  # obsolete
        gaf_line("D", "GO:1", code="ND"),
        gaf_line("E", "GO:5", aspect="F"),
    ]
)
GO = """format-version: 1.2

[Term]
id: GO:1
name: process

[Term]
id: GO:2
name: death
alt_id: GO:9
is_a: GO:1

[Term]
id: GO:3
name: apoptosis
relationship: part_of GO:2
relationship: regulates GO:5

[Term]
id: GO:5
name: activity

[Term]
id: GO:8
name: old
is_obsolete: true
"""


def members(kg):
    edges = kg.edges(MEMBER)
    return {name: set(part["source"]) for name, part in edges.groupby("target")}


def test_gaf_qualifiers_evidence_and_aspects(tmp_path):
    path = tmp_path / "goa.gaf.gz"
    path.write_bytes(gzip.compress(GAF.encode()))
    kg = load_gene_sets(path, relation="member_of")
    assert members(kg) == {"GO:3": {"A", "B"}, "GO:9": {"C"}, "GO:8": {"C"}, "GO:5": {"E"}}
    record = kg.account[0]
    assert record["dropped"] == {"gene repeated in its set": 1, "qualifier NOT": 1, "evidence ND": 1}
    assert record["rows_read"] == record["kept"] + sum(record["dropped"].values()) == 8
    strict = load_gene_sets(path, relation="member_of", evidence=["IDA"], aspect="P")
    assert members(strict) == {"GO:3": {"A", "B"}, "GO:8": {"C"}}
    assert set(loaded(load_gene_sets(path, threshold=0))) == {("A", "B"), ("B", "A")}


@pytest.mark.parametrize(("gene", "term"), [("", "GO:3"), ("F", ""), ("", "")])
def test_gaf_lines_without_gene_or_term_are_left_out(tmp_path, gene, term):
    (tmp_path / "a.gaf").write_text(GAF + gaf_line(gene, term))
    kg = load_gene_sets(tmp_path / "a.gaf", relation="member_of")
    assert members(kg) == {"GO:3": {"A", "B"}, "GO:9": {"C"}, "GO:8": {"C"}, "GO:5": {"E"}}
    assert kg.account[0]["dropped"]["no gene symbol or term"] == 1


def test_ancestors_by_the_true_path_rule(tmp_path):
    (tmp_path / "a.gaf").write_text(GAF)
    (tmp_path / "go.obo").write_text(GO)
    with pytest.warns(DataWarning, match=r"^1 name 1 obsolete terms that nothing replaces and are dropped \(GO:8\);"):
        kg = load_gene_sets(tmp_path / "a.gaf", relation="member_of", ontology=tmp_path / "go.obo")
    assert members(kg) == {"GO:3": {"A", "B"}, "GO:2": {"A", "B", "C"}, "GO:1": {"A", "B", "C"}, "GO:5": {"E"}}
    assert kg.nodes("gene_set").loc["GO:2", "label"] == "death"
    assert kg.account[0]["dropped"]["term unknown or obsolete in the ontology"] == 1
    named = write_gmt(tmp_path / "s.gmt", {"apoptosis (GO:3)": ["A"], "old (GO:8)": ["B"]})
    with pytest.warns(DataWarning, match="obsolete terms that nothing replaces"):
        kg = load_gene_sets(named, relation="member_of", ontology=tmp_path / "go.obo")
    assert members(kg) == {"GO:3": {"A"}, "GO:2": {"A"}, "GO:1": {"A"}}


def test_annotations_of_obsolete_terms_go_to_what_replaces_them(tmp_path):
    (tmp_path / "a.gaf").write_text(GAF)
    (tmp_path / "go.obo").write_text(GO + "replaced_by: GO:9\n")  # an alternative id of GO:2
    with pytest.warns(DataWarning) as caught:
        kg = load_gene_sets(tmp_path / "a.gaf", relation="member_of", ontology=tmp_path / "go.obo")
    assert [str(warning.message) for warning in caught] == [
        "1 annotations name 1 obsolete terms that are replaced (GO:8 by GO:2); take annotations and ontology of the "
        "same release"
    ]
    assert members(kg)["GO:2"] == {"A", "B", "C"}
    assert kg.account[0]["dropped"].get("term unknown or obsolete in the ontology") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!gaf-version: 2.2\nA\tB\n", r"a.gaf:2: 2 fields; a GAF 2 line has 15 to 17"),
        ("!gaf-version: 1.0\n", "GAF 1 is not readable"),
        ("!gaf-version: 2.2\n" + gaf_line("A", "GO:1", code="ND"), r"no gene set left \(evidence ND: 1\)"),
    ],
)
def test_bad_gaf_is_refused(tmp_path, text, message):
    (tmp_path / "a.gaf").write_text(text)
    with pytest.raises(InputError, match=message):
        load_gene_sets(tmp_path / "a.gaf")
