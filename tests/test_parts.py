"""Parts by name, class, instance and import string; what is unknown is refused with what is near."""

import sys
from functools import partial

import pytest

from kgnn.errors import InputError
from kgnn.parts import (
    check_call,
    check_number,
    check_options,
    did_you_mean,
    expect,
    import_part,
    name_of,
    options_of,
    resolve,
    taken,
)

TABLE = {"gears": 1, "transformer": 2, "graph_transformer": 3}


class Part:
    class Inner:
        pass

    def __init__(self, graph, *, channels=4, dropout=0.1):
        self.channels = channels

    def method(self, x):
        return x


def function(a, /, b, *more, c=1):
    return a, b, more, c


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("part_"):
            del sys.modules[name]


def test_a_name_stands_for_its_entry():
    assert resolve("transformer", TABLE, "encoder") == 2


@pytest.mark.parametrize("part", [Part, Part(None), function, None, 3])
def test_what_is_no_text_stays_as_it_is(part):
    assert resolve(part, TABLE, "encoder") is part


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("geers", "; did you mean gears?;"),
        ("GEARS", "; did you mean gears?;"),
        ("transformers", "; did you mean transformer or graph_transformer?;"),
        ("xyz", "unknown encoder 'xyz'; choose"),
        ("", "unknown encoder ''; choose"),
    ],
)
def test_an_unknown_name_is_refused_with_what_is_near_and_all_there_is(name, near):
    with pytest.raises(InputError) as error:
        resolve(name, TABLE, "encoder")
    assert near in str(error.value)
    assert "choose gears, transformer, graph_transformer, or give a class" in str(error.value)


def test_suggestions_keep_their_own_capitals_and_say_nothing_where_nothing_is_near():
    assert did_you_mean("tp53", ["TP53", "KLF1"]) == "; did you mean TP53?"
    assert did_you_mean("zzz", ["TP53", "KLF1"]) == ""
    assert did_you_mean("a", []) == ""


def test_an_import_string_leads_to_classes_functions_and_what_they_hold():
    assert resolve(f"{__name__}:Part", TABLE, "encoder") is Part
    assert import_part(f"{__name__}:Part.Inner") is Part.Inner
    assert import_part(f"{__name__}:function") is function


def test_the_working_folder_is_searched_last(here):
    (here / "part_of_mine.py").write_text("class Mine:\n    number = 7\n")
    (here / "json.py").write_text("Mine = 1\n")
    assert import_part("part_of_mine:Mine").number == 7
    assert import_part("part_of_mine:Mine.number") == 7
    with pytest.raises(InputError, match="module 'json' has no attribute 'Mine'"):
        import_part("json:Mine")
    assert sys.path[-1] == str(here)
    import_part("part_of_mine:Mine")
    assert sys.path.count(str(here)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "no_such_module:Name",
        "kgnn.no_such_module:Name",
        "kgnn:NoSuchName",
        "kgnn:PerturbationModel.no_such",
        "kgnn:",
        ":Name",
        ":",
        "kgnn:a:b",
        "kgnn.:Name",
        ".kgnn:Name",
        "..:Name",
    ],
)
def test_an_import_string_that_leads_nowhere_is_refused(here, text):
    with pytest.raises(InputError) as error:
        import_part(text)
    assert str(error.value).startswith(f"{text!r} cannot be imported: ")
    assert str(error.value).endswith("write package.module:Name")


def test_a_module_that_lacks_what_it_imports_says_what(here):
    (here / "part_that_lacks.py").write_text("import no_such_package\nMine = 1\n")
    with pytest.raises(InputError, match="No module named 'no_such_package'"):
        import_part("part_that_lacks:Mine")


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("gears", "gears"),
        ("my.module:Name", "my.module:Name"),
        (Part, f"{__name__}:Part"),
        (Part(None), f"{__name__}:Part"),
        (Part.Inner, f"{__name__}:Part.Inner"),
        (function, f"{__name__}:function"),
        (partial(function, 1), "functools:partial"),
    ],
)
def test_what_a_part_is_called(part, name):
    assert name_of(part) == name


def test_the_name_of_a_class_leads_back_to_it():
    for part in (Part, Part.Inner, function):
        assert import_part(name_of(part)) is part


def test_options_are_what_can_be_given_by_keyword():
    assert options_of(Part) == ["graph", "channels", "dropout"]
    assert options_of(Part.__init__) == ["graph", "channels", "dropout"]
    assert options_of(function) == ["b", "c"]
    assert options_of(lambda *a, **b: None) == []


def test_what_a_function_takes_of_the_options_given():
    given = {"channels": 3, "kg": None, "dropout": 0.5}
    assert taken(Part, given) == {"channels": 3, "dropout": 0.5}
    assert taken(lambda **options: None, given) == given
    assert taken(lambda kg, **options: None, given) == given
    assert taken(lambda: None, given) == {}
    assert taken(Part(None).method, {"x": 1, "self": 2}) == {"x": 1}


def test_an_option_that_its_owner_lacks_is_refused():
    check_options(["a", "b"], ["a", "b", "c"], "fit")
    check_options([], [], "fit")
    for options, known, message in (
        ({"chanels": 4}, ["channels", "dropout"], "has no option 'chanels'; did you mean channels?; it takes channels"),
        (["foo"], ["channels", "dropout"], "encoder 'x' has no option 'foo'; it takes channels, dropout"),
        (["channels", "foo"], ["channels"], "has no option 'foo'; it takes channels"),
        (["foo"], [], "encoder 'x' has no option 'foo'; it takes none"),
    ):
        with pytest.raises(InputError) as error:
            check_options(options, known, "encoder 'x'")
        assert message in str(error.value)


def test_what_cannot_be_called_as_it_must_be_is_refused_before_it_is():
    check_call(Part, None, channels=3)
    for call in (lambda: check_call(Part), lambda: check_call(Part, None, 1), lambda: check_call(Part, None, x=1)):
        with pytest.raises(
            InputError, match=r"test_parts:Part cannot be called as it must be: .*; see docs/extend\.md"
        ):
            call()
    with pytest.raises(InputError, match="missing a required argument: 'b'"):
        check_call(function, 1)


def test_what_is_asked_for_passes_and_another_type_is_named():
    expect([1], list, "names")
    with pytest.raises(InputError, match=r"^names: tuple where list is asked for$"):
        expect((1,), list, "names")


@pytest.mark.parametrize("value", [0, 1, 2, 2.0, 0.5])
def test_numbers_within_bounds_pass(value):
    check_number(value, "n", 0, 2)


@pytest.mark.parametrize(
    ("value", "options", "match"),
    [
        (-0.1, {"low": 0}, "^n = -0.1; it must be a number of 0 or more$"),
        (2.1, {"low": 0, "high": 2}, "it must be a number from 0 to 2"),
        (0.5, {"whole": True, "hint": "see docs"}, "it must be a whole number; see docs$"),
        (True, {}, "n = True; it must be a number"),
        ("1", {}, "n = '1'; it must be a number"),
        (float("nan"), {"low": 0}, "n = nan"),
    ],
)
def test_numbers_out_of_bounds_are_refused(value, options, match):
    with pytest.raises(InputError, match=match):
        check_number(value, "n", **options)


def test_three_near_names_are_told():
    assert did_you_mean("abcd", ["abcd1", "abcd2", "abcd3", "abcd4"]).count(" or ") == 2
