"""What `kgnn train`, `pretrain` and `evaluate` refuse, how they stop and go on, and models and metrics of one's own."""

import json
import os
import signal

import pandas as pd
import pytest

from kgnn.data import split
from kgnn.errors import InputError
from kgnn.files import write_json
from kgnn.folders import sealed
from kgnn.metrics import crossed_scores
from kgnn.models import make_model
from tests.kills import trial, trials
from tests.test_cli import files, run  # noqa: F401

MINE = """
import numpy as np

class Mine:
    def fit(self, adata, split):
        self.mean = np.asarray(adata.X.mean(axis=0)).ravel()

    def predict(self, conditions):
        return np.tile(self.mean, (len(conditions), 1))

def worst(predicted, observed, reference):
    return float(abs(predicted - observed).max())
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", -1], "max_epochs = -1; it must be a whole number of 1 or more"),
        (["--epochs", 0, "--model", "gears"], "max_epochs = 0; it must be a whole number of 1 or more"),
        (["--strength", 99], "strength 99.0: give −1 for a knock-out"),
        (["--strength", -1, "--model", "gears"], "encoder 'gears' has no option 'strength'; it takes channels"),
        (["--strength", -1, "--model", "mean"], "encoder 'mean' has no option 'strength'; it takes none"),
        (["--uncertainty"], "encoder 'kg' has no option 'uncertainty'; it takes strength"),
        (["--accelerator", "cpu"], "fit of 'kg' has no option 'accelerator'"),
        (["--accelerator", "gpu", "--model", "cpa"], "No supported gpu backend found"),
        (["--accelerator", "abacus", "--model", "cpa"], "abacus"),
        (["--batch-size", 1, "--model", "gears"], "batch_size = 1; it must be a whole number of 2 or more"),
        (["--model", "gaers"], "unknown model 'gaers'; did you mean gears?"),
        (["--model", "nowhere:Mine"], "'nowhere:Mine' cannot be imported"),
        (["--model", "json:loads"], "is no model"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(run, files, options, message):  # noqa: F811
    status, _, errors = run("train", files / "screen.h5ad", "-o", files / "m", "--no-progress", "--seed", 1, *options)
    assert status == 1
    assert message in errors
    assert not (files / "m").exists()


def test_a_folder_with_other_files_is_refused_before_anything_is_read(run, files):  # noqa: F811
    (files / "notes").mkdir()
    (files / "notes" / "mine.txt").write_text("mine")
    status, _, errors = run("train", files / "screen.h5ad", "-o", files / "notes", "--model", "oracle")
    assert status == 2
    assert "holds other files" in errors
    assert [path.name for path in (files / "notes").iterdir()] == ["mine.txt"]


def test_resume_wants_an_unfinished_training_of_the_same_data(run, files):  # noqa: F811
    data, out = files / "screen.h5ad", files / "run"
    assert "give the data and --out" in run("train")[2]
    assert "nothing else" in run("train", data, "-o", out, "--resume", out)[2]
    assert run("train", data, "-o", out, "--model", "mean", "--seed", 1)[0] == 0
    assert "no unfinished training there" in run("train", "--resume", out)[2]
    write_json(out / "training.json", sealed({"asked": {"data": str(data)}, "content": "other"}))
    for name in ("graph", "split"):
        asked = {"data": str(data), "graph": None, "split": None} | ({name: None})
        write_json(out / "training.json", sealed({"asked": asked, "content": "other"}))
    assert "data or graph changed" in run("train", "--resume", out)[2]


def test_models_and_metrics_of_ones_own(run, files, screen, monkeypatch):  # noqa: F811
    monkeypatch.chdir(files)
    (files / "my_model_of_the_cli.py").write_text(MINE)
    parts = split(screen, "random_condition", seed=0)
    (files / "split.json").write_text(json.dumps(parts))
    asked = ["my_model_of_the_cli:Mine", files / "screen.h5ad", "--split", files / "split.json"]
    asked += ["--metric", "mse", "--metric", "my_model_of_the_cli:worst"]
    status, _, errors = run("evaluate", *asked, "-o", files / "scores.csv")
    assert (status, errors) == (0, "")
    scores = pd.read_csv(files / "scores.csv", index_col=0)
    assert sorted(scores.index) == parts["test"]
    x, labels = screen.X.toarray(), screen.obs["condition"].astype(str).to_numpy()
    for name in parts["test"]:
        error = abs(x.mean(0) - x[labels == name].mean(0))
        assert scores.loc[name, "worst"] == pytest.approx(error.max(), abs=1e-5)
        assert scores.loc[name, "mse"] == pytest.approx((error**2).mean(), abs=1e-5)
    assert "give --split" in run("evaluate", "mean", files / "screen.h5ad")[2]
    mean = ["mean", files / "screen.h5ad", "--split", files / "split.json", "--json", files / "s.json"]
    plain, crossed = (
        json.loads((files / "s.json").read_text())
        for more in ([], ["--crossed"])
        if run("evaluate", *mean, *more)[0] == 0
    )
    assert "No better than the mean" in plain["verdict"]
    exact = crossed_scores(lambda: make_model("mean"), screen, parts)["pearson_delta"].mean()
    assert crossed["summary"]["pearson_crossed"]["mean"] == pytest.approx(exact)
    assert crossed["summary"]["pearson_crossed"]["mean"] != plain["summary"]["pearson_crossed"]["mean"]
    assert "not saved here" in run("train", files / "screen.h5ad", "--model", asked[0], "-o", files / "m")[2]


def test_a_stop_in_process_ends_with_its_status_and_a_model(run, files, monkeypatch):  # noqa: F811
    """Ctrl-C and SIGTERM in the second epoch; then on to the end, as if nothing had been."""
    from kgnn.models.perturbation.training import PerturbationTraining

    options = [files / "screen.h5ad", "--model", "gears", "--no-progress", "--epochs", 4, "--seed", 1]
    assert run("train", *options, "-o", files / "whole")[0] == 0
    step = PerturbationTraining.training_step
    for number, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        out = files / number.name

        def stopped(self, batch, index, number=number):
            if self.current_epoch == 1 and index == 2:
                os.kill(os.getpid(), number)
            return step(self, batch, index)

        with monkeypatch.context() as patch:
            patch.setattr(PerturbationTraining, "training_step", stopped)
            status, text, _ = run("train", *options, "-o", out)
        assert status == expected
        assert f"kgnn train --resume {out}" in text.replace("\n", "")
        assert run("predict", out, "G001", "-o", files / "p.h5ad")[0] == 0
        assert len(json.loads((out / "config.json").read_text())["history"]) == 1
        assert run("train", "--resume", out)[0] == 0
        for name in ("arrays.safetensors", "config.json", "split.json"):
            assert (out / name).read_bytes() == (files / "whole" / name).read_bytes()
        assert not (out / "checkpoints").exists()


def test_a_failure_costs_no_epoch_that_was_done(run, files, monkeypatch):  # noqa: F811
    """A full card or disk in the second epoch, and again when going on with it; then on to the end."""
    from kgnn.models.perturbation.training import PerturbationTraining

    options = [files / "screen.h5ad", "--model", "gears", "--no-progress", "--epochs", 3, "--seed", 1]
    assert run("train", *options, "-o", files / "whole")[0] == 0
    step, out = PerturbationTraining.training_step, files / "run"

    def fails(self, batch, index):
        if self.current_epoch == 1:
            raise InputError("CUDA out of memory")
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(PerturbationTraining, "training_step", fails)
        for asked in ([*options, "-o", out], ["--resume", out]):
            status, text, errors = run("train", *asked)
            assert (status, "CUDA out of memory" in errors) == (1, True)
            assert f"kgnn train --resume {out}" in text
    assert run("train", "--resume", out)[0] == 0
    for name in ("arrays.safetensors", "config.json", "split.json"):
        assert (out / name).read_bytes() == (files / "whole" / name).read_bytes()


@pytest.mark.slow
def test_a_kill_costs_nothing(tmp_path):
    assert trials(tmp_path, "train", 0, 0, ["--epochs", "4"]) == []  # the untouched run
    killed = trial(tmp_path, "train", tmp_path / "train.h5ad", signal.SIGKILL, 1.0, ["--epochs", "4"])
    assert killed.wrong == ""
