import math

import pytest

from kgnn.errors import InputError
from kgnn.schema import check_schema

SCHEMA = {"name": str, "sizes": [int], "rate": float, "control": (None, str, [str]), "of": {str: {"n": int}}}
GOOD = {"name": "x", "sizes": [1, 2], "rate": 1, "control": None, "of": {"a": {"n": 1}}, "more": object()}


def test_what_fits_comes_back_as_it_is():
    assert check_schema(GOOD, SCHEMA, "f") is GOOD
    for control in ("ctrl", ["a", "b"], []):
        check_schema(GOOD | {"control": control}, SCHEMA, "f")
    check_schema(GOOD | {"rate": math.nan}, SCHEMA, "f")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": 3}, r"f: name is '3' \(int\) where str is expected"),
        ({"sizes": [1, "2"]}, r"f: sizes\[1\] is '2' \(str\)"),
        ({"sizes": [True]}, r"f: sizes\[0\] is 'True' \(bool\)"),
        ({"rate": False}, "f: rate is 'False'"),
        ({"control": ["a", 1]}, "f: control is .* none of what it may be"),
        ({"of": {"a": {}}}, r"f: of\.a has no 'n'"),
        ({"of": []}, "f: of is '\\[\\]'"),
    ],
)
def test_what_does_not_names_file_and_place(changes, told):
    with pytest.raises(InputError, match=told):
        check_schema(GOOD | changes, SCHEMA, "f")


def test_a_file_that_is_no_object():
    for value in (None, [], "x"):
        with pytest.raises(InputError, match="f: the file is"):
            check_schema(value, SCHEMA, "f")
