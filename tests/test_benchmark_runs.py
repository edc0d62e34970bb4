"""A benchmark's runs on disk: what is damaged or of another kgnn is done again, one failure stops no other run."""

import errno
import os
import signal
import warnings
from pathlib import Path

import pandas as pd
import pytest

from kgnn.benchmark import run_benchmark
from kgnn.data import simulate
from kgnn.errors import DataWarning, InputError, OutputError
from kgnn.evaluation import benchmark, runs
from kgnn.plotting.report import write_report


class Fails:
    """A model of one's own whose fit fails with an error of its own."""

    def fit(self, adata, split):
        raise ZeroDivisionError("<no> luck")

    def predict(self, conditions):
        raise NotImplementedError


def config(folder, *models, **more):
    return {
        "datasets": [{"name": "sim/1", "path": str(folder / "sim.h5ad"), "coexpression": False}],
        "splits": [{"kind": "random_condition"}],
        "models": [{"type": model} for model in models],
        "crossed": 0,
    } | more


@pytest.fixture
def folder(tmp_path):
    screen = simulate(n_genes=60, n_singles=8, n_pairs=2, cells_per_condition=8, seed=0)
    del screen.varm["true_delta"]
    screen.write_h5ad(tmp_path / "sim.h5ad")
    return tmp_path


@pytest.fixture
def done(monkeypatch):
    """Names of the runs that are done, as they are."""
    found, run = [], benchmark._run
    monkeypatch.setattr(benchmark, "_run", lambda task: found.append(task.names[2]) or run(task))
    return found


def test_a_damaged_run_and_one_of_another_kgnn_are_done_again(folder, done, monkeypatch):
    asked = config(folder, "mean", "additive")
    first = run_benchmark(asked, folder / "out")
    assert sorted(done) == ["additive", "mean", "references"]
    at = folder / "out/runs/sim%2F;1/random_condition-seed0"
    for name, damage in {
        "scores.csv": lambda file: os.truncate(file, file.stat().st_size // 2),
        "split.json": lambda file: file.unlink(),
        "run.json": lambda file: file.write_text(file.read_text().replace('"seed": 0', '"seed": 1')),
        "predictions.h5ad": lambda file: file.write_bytes(b"x" + file.read_bytes()[1:]),
    }.items():
        done.clear()
        damage(at / "mean" / name)
        pd.testing.assert_frame_equal(run_benchmark(asked, folder / "out"), first)
        assert done == ["mean"], name
    done.clear()
    monkeypatch.setattr(runs, "__version__", "another")
    run_benchmark(asked, folder / "out")
    assert sorted(done) == ["additive", "mean", "references"]


def test_one_failure_stops_no_other_run_and_stands_with_its_place(folder):
    told = r"1 of 4 runs failed, the first sim/1/random_condition-seed0/.*Fails: ZeroDivisionError: <no> luck"
    asked = config(folder, "mean", Fails, "additive")
    with pytest.warns(DataWarning, match=told):
        scores = run_benchmark(asked, folder / "out", page=write_report)
    assert {"mean", "additive"} < set(scores["model"])
    (failure,) = scores.attrs["failures"]
    assert failure["run"].startswith("sim/1/random_condition-seed0/")
    page = (folder / "out/report.html").read_text(encoding="utf-8")
    assert "Runs that failed" in page
    assert "Fails: ZeroDivisionError: &lt;no&gt; luck" in page
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = run_benchmark(config(folder, "mean", "additive"), folder / "out", page=write_report)
    assert again.attrs["failures"] == []
    assert "Runs that failed" not in (folder / "out/report.html").read_text(encoding="utf-8")


class Dies(Fails):
    """A model of one's own whose process is killed, as the system does where memory runs out."""

    def fit(self, adata, split):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_costs_its_run_alone(folder):
    asked = config(folder, "mean", Dies, "additive")
    with pytest.warns(DataWarning, match=r"1 of 4 runs failed"):
        scores = run_benchmark(asked, folder / "out", processes=2, page=write_report)
    (failure,) = scores.attrs["failures"]
    assert failure["run"].endswith("Dies")
    assert "its process died (SIGKILL(-9)), most likely since memory ran out" in failure["error"]
    assert "its process died (SIGKILL(-9))" in (folder / "out/report.html").read_text(encoding="utf-8")
    alone = run_benchmark(config(folder, "mean", "additive"), folder / "alone")
    pd.testing.assert_frame_equal(scores, alone)


def test_where_all_runs_fail_the_first_is_told(folder, monkeypatch):
    monkeypatch.setattr(benchmark, "_references", lambda *_: 1 // 0)
    with pytest.raises(InputError, match=r"2 of 2 runs failed, the first sim/1/random_condition-seed0/.*division"):
        run_benchmark(config(folder, Fails), folder / "out")


def test_a_users_files_in_a_run_stay_and_stop_that_run_alone(folder, done):
    notes = folder / "out/runs/sim%2F;1/random_condition-seed0/mean/notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with pytest.warns(DataWarning, match=r"1 of 3 runs failed.*holds other files \(notes\.txt\)"):
        run_benchmark(config(folder, "mean", "additive"), folder / "out")
    assert notes.read_text() == "mine"


def test_runs_that_may_not_be_looked_for_are_not_done(folder, done, monkeypatch, caplog):
    exists = Path.exists

    def refuse(path):
        if path.name == "mean":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", refuse)
    run_benchmark(config(folder, "mean"), folder / "out")
    assert "mean" in done
    assert "mean: Permission denied; check the path" in caplog.text


def test_a_folder_that_cannot_be_written_is_refused_before_any_fit(folder, done):
    (folder / "file").touch()
    with pytest.raises(OutputError, match="Not a directory"):
        run_benchmark(config(folder, "mean"), folder / "file" / "out")
    assert done == []
