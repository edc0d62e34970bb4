import gzip

import numpy as np
import pandas as pd
import pytest

from kgnn.errors import DataWarning, InputError
from kgnn.graph import load_regulation

RELATION = ("gene", "regulates", "gene")
DOROTHEA = """tf\tconfidence\ttarget\tmor
TP53\tA\tMDM2\t1.0
TP53\tC\tMYC\t-1.0
MYC\tE\tTP53\t1.0
MYC\tA\tMYC\t1.0
TP53\tB\tMDM2\t1.0
"""
TRRUST = """AATF\tBAX\tRepression\t22909821
AATF\tBAX\tActivation\t1;2;3
AATF\tCDKN1A\tUnknown\t17157788
ABL1\tBAX\tActivation\t11753601
ABL1\tBAX\tRepression\t9
ABL1\tABL1\tActivation\t9
MYC\tTP53\tUnknown\t5;6;7
MYC\tTP53\tRepression\t8
"""


def write(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def signs(kg):
    return {(row.source, row.target): row.sign for row in kg.edges(RELATION).itertuples()}


def test_dorothea_keeps_levels_signs_and_counts(tmp_path):
    kg = load_regulation(write(tmp_path, "d.tsv", DOROTHEA), min_confidence="C")
    assert signs(kg) == {("TP53", "MDM2"): 1, ("TP53", "MYC"): -1}
    row = kg.summary().iloc[0]
    assert (row["origin"], row["rows_read"], row["merged"], row["self_loops"]) == ("dorothea", 5, 1, 1)
    assert row["dropped"] == "confidence below C: 1"
    assert len(signs(load_regulation(tmp_path / "d.tsv"))) == 3


def test_gzip_reads_the_same(tmp_path):
    (tmp_path / "d.tsv.gz").write_bytes(gzip.compress(DOROTHEA.encode()))
    assert load_regulation(tmp_path / "d.tsv.gz") == load_regulation(write(tmp_path, "d.tsv", DOROTHEA))


def test_trrust_sign_is_the_majority_of_publications_and_zero_if_tied_or_unknown(tmp_path):
    kg = load_regulation(write(tmp_path, "trrust_rawdata.human.tsv", TRRUST))
    assert signs(kg) == {
        ("AATF", "BAX"): 1,  # three publications against one
        ("AATF", "CDKN1A"): 0,  # unknown
        ("ABL1", "BAX"): 0,  # tied
        ("MYC", "TP53"): -1,  # unknown rows do not vote
    }
    row = kg.summary().iloc[0]
    assert (row["origin"], row["rows_read"], row["merged"], row["self_loops"]) == ("trrust", 8, 3, 1)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("gene\tother\nA\tB\n", {}, "neither DoRothEA .* TRRUST"),
        (DOROTHEA.replace("\tE\t", "\tX\t"), {"min_confidence": "C"}, r"d.tsv:4: confidence 'X'"),
        (DOROTHEA.replace("-1.0", "down"), {}, r"d.tsv:3: mor 'down' is not a finite number"),
        (DOROTHEA, {"min_confidence": "Z"}, "'Z' is none of"),
        (
            DOROTHEA.replace("\tA\t", "\tD\t").replace("\tB\t", "\tD\t").replace("\tC\t", "\tD\t"),
            {"min_confidence": "A"},
            "no edge left",
        ),
        (TRRUST.replace("CDKN1A\tUnknown", "CDKN1A\tMaybe"), {}, r"d.tsv:3: mode 'Maybe'"),
        (TRRUST.replace("AATF\tCDKN1A", "\tCDKN1A"), {}, r"d.tsv:3: a TF or target is missing"),
        (TRRUST, {"min_confidence": "A"}, "no confidence levels"),
        ("tf\ttarget\tmor\nA\tB\t1\n", {"min_confidence": "A"}, "no confidences to filter by"),
    ],
)
def test_bad_files_are_refused_with_their_line(tmp_path, text, options, message):
    with pytest.raises(InputError, match=message):
        load_regulation(write(tmp_path, "d.tsv", text), **options)


def test_rows_without_a_name_are_counted(tmp_path):
    kg = load_regulation(write(tmp_path, "d.tsv", DOROTHEA + "\tA\tMYC\t1.0\n"))
    assert kg.summary().iloc[0]["dropped"] == "no source or target: 1"


def test_real_dorothea_agrees_with_pandas(real_data):
    path = real_data / "kg" / "dorothea_hs.tsv.gz"
    table = pd.read_csv(path, sep="\t")
    expected = table[table["confidence"].isin(list("ABC")) & (table["tf"] != table["target"])]
    kg = load_regulation(path, min_confidence="C")
    assert signs(kg) == {(r.tf, r.target): r.mor for r in expected.itertuples()}
    assert kg.summary().iloc[0]["rows_read"] == len(table) == 454_504


def test_real_trrust_agrees_with_a_plain_count(real_data):
    path = real_data / "kg" / "trrust_rawdata.human.tsv"
    votes: dict = {}
    for line in path.read_text().splitlines():
        tf, target, mode, publications = line.split("\t")
        vote = {"Activation": 1, "Repression": -1, "Unknown": 0}[mode] * len(publications.split(";"))
        if tf != target:
            votes[tf, target] = votes.get((tf, target), 0) + vote
    with pytest.warns(DataWarning, match=r"2 gene names are dates.*1-Dec = DEC1 .*7-Sep = SEPT7 \(now SEPTIN7\)"):
        kg = load_regulation(path)
    assert signs(kg) == {pair: np.sign(vote) for pair, vote in votes.items()}


# other formats


def table(kg):
    edges = kg.edges(RELATION)
    return {(e.source, e.target): (round(e.weight, 4), e.sign, e.confidence) for e in edges.itertuples()}


OMNIPATH = """source\ttarget\tsource_genesymbol\ttarget_genesymbol\t\
is_directed\tis_stimulation\tis_inhibition\treferences
P04637\tP38936\tTP53\tCDKN1A\tTrue\tTrue\tFalse\tCollecTRI:1;CollecTRI:2
P01106\tP38936\tMYC\tCDKN1A\t1\t0\t1\tCollecTRI:3
P01106\tP1\tMYC\tODC1\tTrue\tTrue\tTrue\t
COMPLEX:P01100_P05412\tP2\tFOS_JUN\tMMP1\tTrue\tTrue\tFalse\tCollecTRI:4
"""


def test_collectri_from_omnipath_signs_references_and_complexes(tmp_path):
    kg = load_regulation(write(tmp_path, "collectri.tsv", OMNIPATH))
    assert table(kg) == {
        ("TP53", "CDKN1A"): (1, 1, 2),
        ("MYC", "CDKN1A"): (1, -1, 1),
        ("MYC", "ODC1"): (1, 0, 0),
        ("FOS", "MMP1"): (1, 1, 1),
        ("JUN", "MMP1"): (1, 1, 1),
    }
    assert kg.origins == ["collectri"]
    assert (kg.account[0]["rows_read"], kg.account[0]["added"]) == (4, 1)
    assert len(load_regulation(tmp_path / "collectri.tsv", min_confidence=2).edges(RELATION)) == 1
    consensus = OMNIPATH.replace("is_inhibition", "is_inhibition\tconsensus_stimulation\tconsensus_inhibition", 1)
    consensus = consensus.replace("\tTrue\tTrue\t\n", "\tTrue\tTrue\tFalse\tTrue\t\n").replace(
        "False\tColl", "False\t1\t0\tColl"
    )
    consensus = consensus.replace("0\t1\tColl", "0\t1\t0\t1\tColl")
    found = load_regulation(write(tmp_path, "c.tsv", consensus))
    assert table(found)["MYC", "ODC1"][1] == -1
    with pytest.raises(InputError, match=r"b.tsv:3: is_stimulation 'maybe' is neither true nor false"):
        load_regulation(write(tmp_path, "b.tsv", OMNIPATH.replace("\t1\t0\t1\t", "\t1\tmaybe\t1\t")))


def test_rows_of_other_omnipath_data_sets_are_left_out(tmp_path):
    lines = OMNIPATH.splitlines()
    text = "\n".join([lines[0] + "\tcollectri", *(f"{line}\t{i > 0}" for i, line in enumerate(lines[1:]))]) + "\n"
    kg = load_regulation(write(tmp_path, "o.tsv", text))
    assert ("TP53", "CDKN1A") not in table(kg)
    record = kg.account[0]
    assert record["dropped"] == {"of another data set than CollecTRI": 1}
    assert record["rows_read"] + record["added"] == record["kept"] + 1


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("decoupler.csv", "source,target,weight\nTP53,MDM2,1\nMYC,TP53,-1\n", [1, -1]),
        ("plain.tsv", "TF\tTarget\tsign\nTP53\tMDM2\t1\nMYC\tTP53\t-1\n", [1, -1]),
        ("mor.tsv", "tf\ttarget\tmor\nTP53\tMDM2\t1\nMYC\tTP53\t-1\n", [1, -1]),
        ("net.sif", "TP53\tactivates\tMDM2\nMYC inhibits TP53\n\n", [1, -1]),
        ("net.sif", "TP53 pd MDM2\nMYC pd TP53\n", [0, 0]),
    ],
)
def test_plain_signed_tables_and_sif(tmp_path, name, text, expected):
    found = table(load_regulation(write(tmp_path, name, text)))
    assert [found["TP53", "MDM2"][1], found["MYC", "TP53"][1]] == expected


def test_sif_lines_of_several_targets_and_other_interactions(tmp_path):
    kg = load_regulation(write(tmp_path, "n.sif", "TP53\tactivates\tMDM2\tCDKN1A\nA\tbinds\tB\n"))
    assert set(table(kg)) == {("TP53", "MDM2"), ("TP53", "CDKN1A")}
    record = kg.account[0]
    assert (record["rows_read"], record["added"], record["dropped"]) == (2, 1, {"interaction 'binds'": 1})
    for text, message in (
        ("A activates\n", r"n.sif:1: a SIF line is"),
        ("A binds B\n", "no line is a regulation"),
    ):
        with pytest.raises(InputError, match=message):
            load_regulation(write(tmp_path, "n.sif", text))


def test_inferred_networks_have_importances_and_no_sign(tmp_path):
    grn = load_regulation(write(tmp_path, "adj.tsv", "TF\ttarget\timportance\nKLF1\tHBB\t12.5\n"))
    assert table(grn)["KLF1", "HBB"][:2] == (12.5, 0)
    text = "Regulator\tTarget\tMI\tpvalue\nKLF1\tHBB\t0.5\t0.01\nKLF1\tHBA1\t0.1\t0.2\n"
    aracne = load_regulation(write(tmp_path, "network.txt", text), min_confidence=0.9)
    assert table(aracne) == {("KLF1", "HBB"): (0.5, 0, pytest.approx(0.99))}
    with pytest.raises(InputError, match=r"adj.tsv:2: importance -1.0 is negative"):
        load_regulation(write(tmp_path, "adj.tsv", "TF\ttarget\timportance\nKLF1\tHBB\t-1\n"))


def test_data_frames_and_parquet(tmp_path):
    frame = pd.DataFrame({"tf": ["A"], "confidence": ["B"], "target": ["C"], "mor": [-0.5]})
    frame.to_parquet(tmp_path / "d.parquet")
    for source in (frame, tmp_path / "d.parquet"):
        assert table(load_regulation(source, origin="x")) == {("A", "C"): (0.5, -1, 4)}
    trrust = load_regulation(write(tmp_path, "t.tsv", TRRUST), min_confidence=3)
    assert set(table(trrust)) == {("AATF", "BAX"), ("MYC", "TP53")}
    for options, message in (({"min_confidence": "A"}, "no confidence levels"),):
        with pytest.raises(InputError, match=message):
            load_regulation(tmp_path / "t.tsv", **options)
    with pytest.raises(InputError, match="SIF has no confidences"):
        load_regulation(write(tmp_path, "n.sif", "A activates B\n"), min_confidence=1)


def test_a_frame_with_an_index_of_its_own_reads_as_one_without():
    rows = {
        "source": ["P1", "COMPLEX:P01100_P05412", "P2"],
        "source_genesymbol": ["TP53", "FOS_JUN", "A_B"],
        "target_genesymbol": ["X", "Y", "Z"],
        "is_stimulation": [1.0, 0.0, 1.0],
        "is_inhibition": [0.0, 1.0, 0.0],
    }
    expected = {("TP53", "X"): 1, ("FOS", "Y"): -1, ("JUN", "Y"): -1, ("A_B", "Z"): 1}
    for index in ([0, 1, 2], [2, 0, 1], [7, 7, 7], list("abc")):
        assert signs(load_regulation(pd.DataFrame(rows, index=index))) == expected
    levels = pd.DataFrame({"tf": ["A", "B"], "target": ["X", "X"], "mor": [1, -1]})
    levels["confidence"] = pd.Categorical(["A", "D"])
    assert signs(load_regulation(levels, min_confidence="B")) == {("A", "X"): 1}
    with pytest.raises(InputError, match="table, row 1: confidence 'missing' is none of A"):
        load_regulation(levels.assign(confidence=pd.Categorical(["A", None])))
