"""`kgnn links`."""

import errno
import json

import pandas as pd
import pytest

from kgnn import folders
from kgnn.models import load_model
from tests.models.test_links import IN, REGULATES, blocks
from tests.test_cli import run  # noqa: F401

QUICK = ["--epochs", 2, "--channels", 8]


@pytest.fixture
def graph(tmp_path):
    blocks().save(tmp_path / "kg")
    return tmp_path / "kg"


def test_links_are_learned_scored_and_predicted(run, graph, tmp_path):  # noqa: F811
    out, told = tmp_path / "model", tmp_path / "told.json"
    asked = ["--relation", "regulates", "--predict", "gene–regulates–gene", "--source", "G0", "--source", "G1", "-k", 3]
    status, shown, error = run("links", graph, "-o", out, *QUICK, *asked, "--json", told)
    assert status == 0, error
    assert "adamic_adar" in shown
    model, found = load_model(out), pd.read_csv(out / "predictions.csv")
    assert found["source"].tolist() == ["G0"] * 3 + ["G1"] * 3
    expected = model.predict(REGULATES, source=["G0", "G1"], k=3)
    pd.testing.assert_frame_equal(found.drop(columns="held_out"), expected, check_dtype=False, rtol=1e-5)
    result = json.loads(told.read_text())
    assert {row["relation"] for row in result["scores"]} == {"all", "gene–regulates–gene"}
    assert result["epochs"] == 2
    assert len(model.fitted_.graph.edges(IN)) == len(blocks().edges(IN))
    assert len(model.fitted_.graph.edges(REGULATES)) < len(blocks().edges(REGULATES))


def test_predictions_that_were_held_out_are_told(run, graph, tmp_path):  # noqa: F811
    asked = ["--relation", "regulates", "--predict", "regulates", "--source", "G2", "-k", 60]
    status, _, error = run("links", graph, "-o", tmp_path / "model", *QUICK, *asked)
    assert status == 0, error
    found = pd.read_csv(tmp_path / "model" / "predictions.csv").query("held_out")
    of_source = [kg.edges(REGULATES).query("source == 'G2'") for kg in (blocks(), load_model(tmp_path / "model").kg)]
    every, learned = (set(edges["target"]) for edges in of_source)
    assert set(found["target"]) == every - learned != set()


def test_whole_holds_nothing_out(run, graph, tmp_path):  # noqa: F811
    status, _, error = run("links", graph, "-o", tmp_path / "model", *QUICK, "--whole")
    assert status == 0, error
    assert load_model(tmp_path / "model").fitted_.graph == blocks()
    status, _, error = run("predict", tmp_path / "model", "G1", "-o", tmp_path / "x.h5ad")
    assert (status, "holds a model of links" in error) == (1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "G0"], "--predict and --source go together"),
        (["--relation", "binds"], "relation 'binds' stands for 0 relations"),
        (["--whole", "--relation", "regulates"], "leave --relation away"),
        (["--decoder", "complx"], "did you mean complex"),
        (["--predict", "regulates", "--source", "TP53"], "no gene 'TP53'"),
    ],
)
def test_what_cannot_be_is_told(run, graph, tmp_path, options, message):  # noqa: F811
    status, _, error = run("links", graph, "-o", tmp_path / "model", *QUICK, *options)
    assert status == 1
    assert message in error


def test_predictions_come_into_the_folder_in_one_step(run, graph, tmp_path, monkeypatch):  # noqa: F811
    """A disk that is full when their hash is to be written leaves the model that was saved before, whole."""
    seal = folders.seal

    def full(folder, kind):
        if (folder / "predictions.csv").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        seal(folder, kind)

    monkeypatch.setattr(folders, "seal", full)
    asked = ["--whole", "--predict", "regulates", "--source", "G0"]
    status, _, error = run("links", graph, "-o", tmp_path / "model", *QUICK, *asked)
    assert (status, "No space left on device" in error) == (2, True)
    assert folders.others(tmp_path / "model") == []
    assert load_model(tmp_path / "model").fitted_.graph == blocks()
