import numpy as np
import pandas as pd
import pytest

from kgnn import KnowledgeGraph
from kgnn.errors import DataWarning, InputError
from kgnn.graph import load_mappings

SSSOM = (
    "#curie_map:\n#  MONDO: http://purl.obolibrary.org/obo/MONDO_\n#license: https://creativecommons.org/licenses/by/4.0/\n"
    "#mapping_set_version: 2024-01-01\n"
    "subject_id\tsubject_label\tpredicate_id\tpredicate_modifier\tobject_id\tmapping_justification\n"
    "NANDO:1\tNeuromuscular disease\tskos:exactMatch\t\tMONDO:19\tsemapv:MappingCuration\n"
    "NANDO:2\tthe same\tskos:exactMatch\t\tMONDO:19\tsemapv:MappingCuration\n"
    "MONDO:5\tother way round\towl:equivalentClass\t\tDOID:5\tsemapv:MappingCuration\n"
    "NANDO:3\ttwo\tskos:exactMatch\t\tMONDO:8|MONDO:9\tsemapv:MappingCuration\n"
    "NANDO:4\twider\tskos:broadMatch\t\tMONDO:7\tsemapv:MappingCuration\n"
    "NANDO:6\tdenied\tskos:exactMatch\tNot\tMONDO:6\tsemapv:MappingCuration\n"
)
LINKS = ("gene", "linked_to", "disease")
DISEASES = ["NANDO:1", "NANDO:2", "NANDO:3", "NANDO:4", "NANDO:6", "DOID:5", "MONDO:1"]


@pytest.fixture
def mappings(tmp_path):
    (tmp_path / "m.sssom.tsv").write_text(SSSOM)
    return load_mappings(tmp_path / "m.sssom.tsv")


@pytest.fixture
def kg():
    edges = pd.DataFrame({"source": ["A"] * 7, "target": DISEASES, "weight": np.arange(1.0, 8)})
    nodes = pd.DataFrame({"label": [name.lower() for name in DISEASES]}, index=DISEASES)
    return KnowledgeGraph({"gene": ["A"], "disease": nodes}, {LINKS: edges})


def test_the_header_is_read(mappings):
    assert mappings.header["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert mappings.header["curie_map"]["MONDO"].endswith("MONDO_")
    assert len(mappings.table) == 6


def test_nodes_are_renamed_as_map_genes_does(kg, mappings):
    mapped = kg.map_nodes(mappings, "disease", "MONDO")
    assert mapped.edges(LINKS)[["target", "weight"]].to_numpy().tolist() == [
        ["MONDO:19", 2],
        ["MONDO:5", 6],
        ["MONDO:1", 7],
    ]
    assert mapped.nodes("disease")["label"].to_dict() == {
        "MONDO:19": "nando:1",
        "MONDO:5": "doid:5",
        "MONDO:1": "mondo:1",
    }
    note = mapped.history[-1]
    assert {name: note[name] for name in ("mapped", "same", "ambiguous", "unknown", "removed", "became one")} == {
        "mapped": 3, "same": 1, "ambiguous": 1, "unknown": 2, "removed": 3, "became one": 1,
    }  # fmt: skip
    assert note["version"] == "2024-01-01"
    kept = kg.map_nodes(mappings, "disease", "MONDO", keep_unknown=True)
    assert set(kept.nodes("disease").index) == {"MONDO:19", "MONDO:5", "MONDO:1", "NANDO:3", "NANDO:4", "NANDO:6"}
    wide = kg.map_nodes(
        mappings, "disease", "MONDO", predicates=["skos:exactMatch", "skos:broadMatch", "owl:equivalentClass"]
    )
    assert "MONDO:7" in wide.nodes("disease").index


def test_few_and_none_are_told(kg, mappings):
    with pytest.warns(
        DataWarning, match=r"6 of 7 disease nodes have no one mapping to DOID \(NANDO:1, NANDO:2, NANDO:3\)"
    ):
        kg.map_nodes(mappings, "disease", "DOID")
    with pytest.warns(DataWarning, match=r"NANDO:3\); they keep their names$"):
        kg.map_nodes(mappings, "disease", "DOID", keep_unknown=True)
    with pytest.raises(
        InputError, match=r"none of the 7 disease nodes .* has a mapping to HP; the mappings lead from nowhere"
    ):
        kg.map_nodes(mappings, "disease", "HP")
    with pytest.raises(InputError, match="no node type 'drug'"):
        kg.map_nodes(mappings, "drug", "MONDO")
    with pytest.raises(InputError, match=r"mappings .*: str where Mappings"):
        kg.map_nodes("m.tsv", "disease", "MONDO")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SSSOM.replace("object_id", "object"), "m.tsv: no column 'object_id', which an SSSOM table has"),
        (SSSOM.replace("MONDO:8|MONDO:9", ""), "m.tsv:9: no object_id; correct the row"),
        (SSSOM.replace("#license:", "#\tlicense:"), "m.tsv:3: the header is not YAML"),
        (SSSOM.replace("skos:broadMatch\t", "skos:broadMatch"), "m.tsv:10: 5 fields where the first line has 6"),
        ("#a\n" + SSSOM.split("01-01\n")[1], "m.tsv:1: the header is no list of 'key: value'"),
    ],
)
def test_damaged_files_are_refused_with_the_line(tmp_path, text, message):
    (tmp_path / "m.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        load_mappings(tmp_path / "m.tsv")


def test_blank_lines_are_passed_over_wherever_they_stand(tmp_path, mappings):
    lines = SSSOM.splitlines(keepends=True)
    (tmp_path / "m.tsv").write_text("\n" + "\n".join([*lines, "\t" * 5 + "\n\n"]))
    found = load_mappings(tmp_path / "m.tsv")
    pd.testing.assert_frame_equal(found.table, mappings.table)
    assert found.header == mappings.header
    (tmp_path / "m.tsv").write_text("\n".join([*lines, "NANDO:7\tno end\tskos:exactMatch\t\t\tx\n"]))
    number = 1 + (tmp_path / "m.tsv").read_text().splitlines().index("NANDO:7\tno end\tskos:exactMatch\t\t\tx")
    with pytest.raises(InputError, match=rf"m\.tsv:{number}: no object_id"):
        load_mappings(tmp_path / "m.tsv")


def test_a_file_of_no_mappings_is_an_empty_table(tmp_path):
    (tmp_path / "m.tsv").write_text(SSSOM.split("NANDO")[0])
    none = load_mappings(tmp_path / "m.tsv")
    assert list(none.table.columns[:3]) == ["subject_id", "subject_label", "predicate_id"]
    assert none.pairs("MONDO") == {}
