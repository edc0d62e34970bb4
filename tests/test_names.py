"""Names that are missing, numbers, texts in place of lists, or damaged by Excel."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kgnn.errors import DataWarning, InputError
from kgnn.names import all_named, as_name, as_names, as_number, date_gene, listed, warn_if_damaged

MISSING = [None, np.nan, float("nan"), pd.NA, pd.NaT, np.datetime64("NaT"), "", "  ", "\ufeff"]


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_what_is_missing_has_no_name(value):
    assert as_name(value) is None
    assert as_names([value, "A"]).tolist() == [None, "A"]
    with pytest.raises(InputError, match="genes: 1 of 2 names are missing or blank, the first at 1"):
        all_named(["A", value], "genes")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (3.0, "3"),
        (np.int64(3), "3"),
        (np.float32(3), "3"),
        (torch.tensor(3), "3"),
        (2.5, "2.5"),
        (b"TP53", "TP53"),
        (" TP53\u200b\t", "TP53"),
        ("NA", "NA"),
        ("NAN", "NAN"),
        ("3.0", "3.0"),  # a text stays as it is written
        (np.str_("A"), "A"),
    ],
)
def test_what_values_are_called(value, name):
    assert as_name(value) == name


@given(st.lists(st.sampled_from(["A", " B ", "", None, 3, 4.0, np.nan])))
def test_columns_of_every_type_give_what_their_values_give(values):
    expected = [as_name(value) for value in values]
    assert as_names(values).tolist() == expected
    assert as_names(pd.Series(values, dtype=object)).tolist() == expected
    assert as_names(pd.Index(values, dtype=object)).tolist() == expected
    words = [value if isinstance(value, str) else None for value in values]
    for kind in ("category", "string"):
        assert as_names(pd.Series(words, dtype=object).astype(kind)).tolist() == [as_name(word) for word in words]


def test_a_text_is_no_list():
    with pytest.raises(InputError, match=r"genes: the text 'TP53' where a list is asked for; write \['TP53'\]"):
        listed("TP53", "genes")
    with pytest.raises(InputError, match="genes: int where a list is asked for"):
        listed(3, "genes")
    assert listed((name for name in "AB"), "genes") == ["A", "B"]


@pytest.mark.parametrize(
    ("name", "gene"),
    [
        ("1-Mar", "MARCH1"),
        ("Mar-01", "MARCH1"),
        ("2-Sep", "SEPT2"),
        ("12-SEP", "SEPT12"),
        ("1-Dec", "DEC1"),
        ("4-Oct", "OCT4"),
        ("2020-09-02 00:00:00", "SEPT2"),
        ("2020-09-02", "SEPT2"),
        ("OCT-4", None),
        ("HLA-A", None),
        ("1-Abc", None),
        ("MARCH1", None),
        ("SEPT2", None),
        ("NKX2-1", None),
    ],
)
def test_dates_are_told_from_symbols(name, gene):
    found = date_gene(name)
    assert (found and found.split(" ")[0]) == gene


def test_damaged_names_are_told_once_a_kind_with_counts():
    names = ["TP53", "1-Mar", "2-Sep", "2.31E+13", "nan", "None", "NA", "NAN"]
    with pytest.warns(DataWarning) as caught:
        warn_if_damaged(names, "counts.csv")
    told = [str(warning.message) for warning in caught]
    assert told[0].startswith(
        "counts.csv: 2 gene names are dates, as Excel makes of symbols (1-Mar = MARCH1 (now MARCH"
    )
    assert told[1].startswith("counts.csv: 1 gene names are rounded numbers")
    assert told[2].startswith("counts.csv: genes are called 'nan', 'None', a missing value written as text")
    assert len(told) == 3
    warn_if_damaged(["TP53", "NA", "NAN", "DEC1", "2310009E13Rik"], "clean.csv")


@pytest.mark.parametrize(("text", "number"), [
    ("12", 12.0), ("-0.5", -0.5), ("+1", 1.0), (".5", 0.5), ("1e-3", 0.001), (" 2 ", 2.0), ("inf", math.inf),
    ("1_2", None), ("1_000.0", None), ("\uff11\uff12", None), ("\u0661", None), ("", None), ("x", None), ("1,5", None),
    ("0x10", None),
])  # fmt: skip
def test_a_number_is_what_other_programs_take_for_one_too(text, number):
    """Python takes underscores and digits of all scripts: `G1_2` at the dose `1_2` is no dose of 12."""
    assert as_number(text) == number
    assert number is None or pd.to_numeric(pd.Series([text])).tolist() == [number]
