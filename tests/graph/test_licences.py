import json

import pandas as pd
import pytest

from kgnn import KnowledgeGraph
from kgnn.errors import DataWarning, InputError
from kgnn.graph import load_table
from tests.folders import sealed_again


def graph(origin, weight=1.0):
    frame = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"], "weight": weight})
    return load_table(frame, origin=origin)


@pytest.fixture
def kg():
    corum = graph("CORUM").with_source("CORUM", licence="CC BY-NC 4.0", version="2022-11-28")
    return corum | graph("GO").with_source(licence="CC-BY-4.0") | graph("mine")


def test_the_record_is_merged_saved_and_shown(kg, tmp_path):
    known = {"CORUM": {"licence": "CC BY-NC 4.0", "version": "2022-11-28"}, "GO": {"licence": "CC-BY-4.0"}}
    kg.save(tmp_path / "kg")
    assert kg.provenance == KnowledgeGraph.load(tmp_path / "kg").provenance == known
    table = kg.summary().set_index("origin")
    assert table["licence"].tolist() == ["CC BY-NC 4.0", "CC-BY-4.0", None]
    assert table.loc["CORUM", "version"] == "2022-11-28"
    text = str(kg.report())
    assert "CORUM: CC BY-NC 4.0, version 2022-11-28\n  GO: CC-BY-4.0\n  mine: no licence told" in text
    assert "licences" not in str(graph("mine").report())


def test_it_goes_with_its_source_and_does_not_say_what_a_graph_is(kg):
    assert set(kg.drop_source("CORUM").provenance) == {"GO"}
    assert kg.subset(["A", "B"]).rewire(0).undirected().provenance == kg.provenance
    assert graph("GO") == graph("GO").with_source(licence="CC0-1.0")


def test_a_folder_whose_licences_are_no_texts_is_refused(kg, tmp_path):
    kg.save(tmp_path / "kg")
    path = tmp_path / "kg/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"provenance": ["CORUM"]}))
    sealed_again(tmp_path / "kg")
    with pytest.raises(InputError, match=r"manifest\.json: provenance is"):
        KnowledgeGraph.load(tmp_path / "kg")


def test_only_licences(kg):
    with pytest.warns(DataWarning, match=r"^1 sources tell no licence and are left out \(mine\); note it with"):
        free = kg.only_licences(["cc by 4.0", "CC0-1.0"])  # whatever case, blanks and hyphens
    assert free.origins == ["GO"]
    assert free.edges(("gene", "interacts", "gene")).shape[0] == 2
    assert free.history[-1]["operation"] == "only_licences"
    with pytest.raises(
        InputError, match=r"no source has one of the licences mit; the graph tells CC BY-NC 4.0, CC-BY-4.0"
    ):
        kg.only_licences(["MIT"])
    with pytest.raises(InputError, match="licences: the text 'MIT' where a list"):
        kg.only_licences("MIT")
    with pytest.raises(InputError, match="licences: 1 of 2 names are missing or blank"):
        kg.only_licences(["MIT", None])


def test_features_are_sources_too():
    kg = graph("GO").with_features("scores", pd.DataFrame({"x": [1.0, 2]}, index=["A", "B"]))
    kg = kg.with_source("GO", licence="CC0-1.0").with_source("scores", licence="CC-BY-NC-4.0")
    kept = kg.only_licences(["CC0-1.0"])
    assert not kept.features("gene")
    assert kept.origins == ["GO"]
    assert set(kg.only_licences(["CC-BY-NC-4.0"]).features("gene")) == {"scores"}


def test_what_differs_is_told_and_allowed_only_as_a_whole():
    old, new = (
        graph("STRING").with_source(licence="CC-BY-4.0", version="11"),
        graph("STRING", 2.0).with_source(licence="CC0-1.0", version="12"),
    )
    with pytest.warns(
        DataWarning, match=r"^2 records of sources differ .*\(STRING: licence CC-BY-4.0 and CC0-1.0; STRING: ver"
    ):
        kg = old | new
    assert kg.provenance["STRING"]["version"] == "11|12"
    with pytest.raises(InputError, match="no source has one of the licences"):
        kg.only_licences(["CC0-1.0"])
    assert kg.only_licences(["CC0-1.0", "CC-BY-4.0"]).origins == ["STRING"]
    assert (kg | kg).provenance == kg.provenance  # nothing new to tell


@pytest.mark.parametrize(
    ("origins", "known", "message"),
    [
        (["STRING"], {"licence": "MIT"}, "no source or feature 'STRING' in the graph; it has CORUM, GO, mine"),
        (["GO"], {}, "neither a licence nor a version"),
        (["GO"], {"licence": " "}, "neither a licence nor a version"),
    ],
)
def test_what_cannot_be_noted_is_refused(kg, origins, known, message):
    with pytest.raises(InputError, match=message):
        kg.with_source(*origins, **known)
