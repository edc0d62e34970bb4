"""Options of the command line: lists where they may be repeated, refused where they stand twice or are of no use."""

import pytest

from kgnn.cli.main import app
from kgnn.data import read_screen
from kgnn.errors import InputError
from kgnn.models import load_model
from tests.doors.conftest import relabelled, told


def run(*arguments):
    app([*map(str, arguments)], standalone_mode=False)


@pytest.fixture
def files(screen, tmp_path):
    relabelled(screen, GENE0="sentinel", GENE1="blank_guide").write_h5ad(tmp_path / "screen.h5ad")
    return tmp_path


def test_control_may_be_repeated(files):
    out = files / "m"
    run("train", files / "screen.h5ad", "-o", out, "--model", "mean", "--split", "random_condition",
        "--control", "control", "--control", "sentinel", "--control", "blank_guide")  # fmt: skip
    model = load_model(out)
    assert model.control == ["control", "sentinel", "blank_guide"]
    assert not {"sentinel", "blank_guide"} & set(model.conditions_)
    run("predict", out, "--split", out / "split.json", "-o", files / "p.h5ad")
    run("evaluate", files / "p.h5ad", files / "screen.h5ad", "--control", "control", "--control", "sentinel",
        "--control=blank_guide", "--json", files / "s.json")  # fmt: skip


@pytest.mark.parametrize(
    "twice", [["--seed", 1, "--seed", 2], ["--model", "mean", "--model=kg"], ["-o", "a", "--out", "b"]]
)
def test_what_takes_one_value_stands_once(files, twice):
    arguments = ["train", files / "screen.h5ad", *twice]
    if "--out" not in twice:
        arguments += ["-o", files / "m"]
    (text,) = told(lambda: run(*arguments))
    assert text.startswith(f"refused: {'--out' if '-o' in twice else twice[0]} is given 2 times and takes one value")


def test_flags_and_repeatable_options_are_no_trouble(files):
    run("train", files / "screen.h5ad", "-o", files / "m", "--model", "mean", "--split", "random_condition")
    run("predict", files / "m", "GENE5", "-o", files / "p.h5ad")
    run("evaluate", files / "p.h5ad", files / "screen.h5ad", "--metric", "mse", "--metric", "mae")


def test_a_graph_that_nothing_uses_is_refused(files, kg):
    kg.save(files / "kg")
    mean = ["train", files / "screen.h5ad", "-o", files / "m", "--model", "mean", "--split", "random_condition"]
    (text,) = told(lambda: run(*mean, "--graph", files / "kg"))
    assert text == "refused: the model mean takes no graph; leave --graph out"
    run(*mean)
    run("predict", files / "m", "GENE5", "-o", files / "p.h5ad")
    (text,) = told(lambda: run("evaluate", files / "p.h5ad", files / "screen.h5ad", "--graph", files / "kg"))
    assert text.startswith("refused: --graph is for a model that is fitted here")


def test_labels_that_are_numbers(screen):
    screen.obs["condition"] = screen.obs["condition"].astype(str).replace(
        {"control": "0"} | {f"GENE{i}": str(i + 1) for i in range(8)}
    ).astype(int)  # fmt: skip
    assert read_screen(screen, control=0).conditions == [str(i) for i in range(1, 9)]
    screen.obs["condition"] = screen.obs["condition"].astype(float)
    assert read_screen(screen, control=[0]).conditions == [str(i) for i in range(1, 9)]
    for wrong in (float("nan"), "", []):
        with pytest.raises(InputError, match="no label of control cells"):
            read_screen(screen, control=wrong)
