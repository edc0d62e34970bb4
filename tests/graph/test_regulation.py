import gzip

import numpy as np
import pandas as pd
import pytest

from kgnn.errors import InputError
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
    assert signs(load_regulation(path)) == {pair: np.sign(vote) for pair, vote in votes.items()}
