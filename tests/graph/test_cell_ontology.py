import re

import pytest

from kgnn.errors import InputError
from kgnn.graph import load_cell_ontology

IS_A, PART_OF = (("cell_type", name, "cell_type") for name in ("is_a", "part_of"))
OBO = """format-version: 1.2

[Term]
id: CL:0
name: cell

[Term]
id: CL:1
name: T cell
alt_id: CL:9
is_a: CL:0 ! cell

[Term]
id: CL:2
name: helper T cell
is_a: CL:9 ! T cell under its old id
relationship: part_of CL:0
relationship: RO:0002202 CL:1 ! develops from

[Term]
id: CL:3
name: old cell
is_obsolete: true
is_a: CL:0

[Term]
id: CL:4
name: strange cell
is_a: CL:3
is_a: XX:7
relationship: BFO:0000050 CL:1

[Typedef]
id: part_of
name: part of
"""


def write(tmp_path, text):
    (tmp_path / "c.obo").write_text(text)
    return tmp_path / "c.obo"


def pairs(kg, relation):
    return set(map(tuple, kg.edges(relation)[["source", "target"]].to_numpy()))


def test_terms_relations_obsolete_and_alternative_ids(tmp_path):
    kg = load_cell_ontology(write(tmp_path, OBO))
    nodes = kg.nodes("cell_type")
    assert nodes["label"].to_dict() == {
        "CL:0": "cell",
        "CL:1": "T cell",
        "CL:2": "helper T cell",
        "CL:4": "strange cell",
    }
    assert nodes.loc["CL:1", "alt_ids"] == "CL:9"
    assert pairs(kg, IS_A) == {("CL:1", "CL:0"), ("CL:2", "CL:1")}
    assert pairs(kg, PART_OF) == {("CL:2", "CL:0"), ("CL:4", "CL:1")}
    account = {record["relation"]: record for record in kg.account}
    assert account["cell_type–is_a–cell_type"]["dropped"] == {"obsolete or undefined term": 3}
    assert account["terms"]["dropped"] == {"obsolete": 1, "only named, not described": 2}


def test_blank_lines_within_a_term_and_other_stanzas_lose_nothing(tmp_path, caplog):
    expected = load_cell_ontology(write(tmp_path, OBO))
    odd = OBO.replace("name: helper T cell\n", "name: helper T cell\n\n").replace(
        "[Typedef]", "[Annotation]\nid: x\n\n[Typedef]"
    )
    odd = odd.replace("name: cell\n\n", "! a comment\n  name: cell\n").replace("format-version: 1.2\n\n", "")
    assert load_cell_ontology(write(tmp_path, odd)) == expected
    assert not caplog.records


def test_a_circle_of_is_a_is_named(tmp_path):
    circle = OBO.replace("name: cell\n", "name: cell\nis_a: CL:2\n")
    with pytest.raises(InputError, match=r"is_a goes in a circle: CL:\d → CL:\d → CL:\d → CL:\d"):
        load_cell_ontology(write(tmp_path, circle))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello\n", r"c.obo:1: 'hello' is no 'tag: value'"),
        ("[Term\nid: A:1\nname: x\n", r"c.obo:1: '\[Term' begins no stanza"),
        ("hello: you\n", r"c.obo: no \[Term\]"),
        ("[Term]\nname: nameless\n", r"c.obo:1: a \[Term\] without an id"),
        ("[Term]\nid:\nname: x\n", r"c.obo:2: an empty id"),
        ("[Term]\nid: A:1\n\n[Term]\nid: A:2\nname: x\n", r"c.obo:2: the term A:1 has no name"),
        (
            "[Term]\nid: A:1\nname: x\n\n[Term]\nid: A:1\nname: y\n",
            r"c.obo:6: the id A:1 stands twice, first on line 2",
        ),
        ("[Term]\nid: A:1\nname: x\nid: A:2\n", r"c.obo:4: a second id in one \[Term\]"),
        ("[Term]\nid: A:1\nname: x\nis_a: A:1\n", r"c.obo:2: is_a goes in a circle: A:1 → A:1"),
    ],
)
def test_malformed_files_are_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_cell_ontology(write(tmp_path, text))


def test_missing_and_empty_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_cell_ontology(tmp_path / "c.obo")
    with pytest.raises(InputError, match="is empty"):
        load_cell_ontology(write(tmp_path, ""))


def test_real_cell_ontology_agrees_with_the_lines_of_the_file(real_data):
    path = real_data / "kg" / "cl.obo"
    stanzas = [s for s in path.read_text().split("\n\n") if s.strip().startswith("[Term]")]
    living = [s for s in stanzas if "\nis_obsolete: true" not in s]
    expected = {
        (re.search(r"^id: (\S+)", s, re.M)[1], parent)
        for s in living
        for parent in re.findall(r"^is_a: (\S+)", s, re.M)
    }
    kg = load_cell_ontology(path)
    assert len(kg.nodes("cell_type")) == len(living) == 3324
    assert pairs(kg, IS_A) == expected
    assert len(pairs(kg, PART_OF)) == 3
