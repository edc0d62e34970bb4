"""Every example of docs/extend.md runs as it stands there, and does what the page says."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

import kgnn
from kgnn import cli
from kgnn.errors import InputError

PAGE = Path(kgnn.__file__).parents[1] / "docs" / "extend.md"
TEXT = PAGE.read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.S)
SHELL = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S) for line in block.splitlines()]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """All blocks run one after the other in an empty folder, beside a module with the page's classes."""
    folder = tmp_path_factory.mktemp("page")
    classes = [block for block in PYTHON if block.startswith("class ")]
    metric = "def worst(predicted, observed, reference):\n    return abs(predicted - observed).max()\n"
    (folder / "my_models.py").write_text("\n".join(["import kgnn, torch", *classes, metric]))
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in PYTHON:
            exec(block, names)
        (folder / "split.json").write_text(json.dumps(names["split"]))
        yield names | {"folder": folder, "patch": patch}


def test_no_example_is_longer_than_fourteen_lines():
    assert all(len([line for line in block.splitlines() if line.strip()]) <= 14 for block in PYTHON)


def test_a_whole_model_stands_in_every_table(page):
    table = page["table"]
    assert set(table["model"]) == {"nearest", "mean", "as a string"}
    mine = table[table["model"] == "nearest"].drop(columns="model").reset_index(drop=True)
    string = table[table["model"] == "as a string"].drop(columns="model").reset_index(drop=True)
    assert mine.equals(string)
    assert (page["folder"] / "results" / "report.html").exists()


def test_an_encoder_learns_along_the_graph_and_is_loaded_again(page):
    model, again, wanted = page["model"], page["again"], page["split"]["test"]
    assert (model.predict(wanted).X == again.predict(wanted).X).all()
    assert not np.allclose(model.network_.size.detach(), 0.5)
    changed = set(model.genes_[model.predict("G001").layers["delta"][0] != 0])
    edges = page["kg"].edges(("gene", "regulates", "gene"))
    assert changed == set(edges.loc[edges["source"] == "G001", "target"])
    with pytest.raises(InputError, match="give it as encoder="):
        kgnn.load_model(page["folder"] / "run")


def test_training_goes_on_where_it_stopped(page):
    assert len(page["gears"].history_) == 4


def test_metrics_of_ones_own_are_columns(page):
    scores = page["scores"]
    assert list(scores) == ["mse", "mse_top20", "worst", "right_direction_top20", "n_cells", "subgroup"]
    assert (scores["worst"] ** 2 >= scores["mse"]).all()
    assert scores["right_direction_top20"].between(0, 1).all()


@pytest.mark.parametrize("line", SHELL)
def test_the_shell_does_the_same(page, line, capsys):
    page["patch"].setattr(sys, "argv", shlex.split(line))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert "mse" in capsys.readouterr().out
