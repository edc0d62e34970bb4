"""`benchmarks/gpu.sh` on a machine without a GPU: its parts, their options and the tables that they write."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kgnn
from benchmarks import gears_step, gpu_models, machine, sparse_methods, sparse_ops

ROOT = Path(kgnn.__file__).parents[1]


def run_with(python: str, folder: Path):
    """Run gpu.sh with a shell script in Python's place; return its exit status and the commands."""
    stand_in = folder / "python"
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {shlex.quote(str(folder / "commands"))}\n{python}\n')
    stand_in.chmod(0o755)
    command = ["bash", ROOT / "benchmarks" / "gpu.sh"]
    status = subprocess.run(command, env=os.environ | {"PYTHON": str(stand_in)}, check=False).returncode
    return status, (folder / "commands").read_text().splitlines()


def test_every_part_runs_and_a_failure_is_told(tmp_path):
    status, commands = run_with("exit 0", tmp_path)
    assert status == 0
    assert [line.split()[1] for line in commands[1:]] == [
        "benchmarks.gpu_trial",
        "pytest",
        "benchmarks.sparse_ops",
        "benchmarks.gears_step",
        "benchmarks.gpu_models",
    ]
    (tmp_path / "commands").unlink()
    status, again = run_with('case "$*" in *gpu_trial*) exit 3;; esac', tmp_path)
    assert status == 1
    assert again == commands


def test_nothing_is_measured_without_a_device(tmp_path):
    status, commands = run_with("exit 1", tmp_path)
    assert status == 1
    assert len(commands) == 1


def test_the_parts_know_their_options_and_the_tests_exist(tmp_path):
    _, commands = run_with("exit 0", tmp_path)
    for module, *options in (shlex.split(line)[1:] for line in commands[1:]):
        if module == "pytest":
            assert all((ROOT / path).is_file() for path in options if path.startswith("tests"))
        else:
            command = [sys.executable, "-m", module, *options, "--help"]
            text = subprocess.check_output(command, cwd=ROOT, text=True)
            assert all(option in text for option in options if option.startswith("--"))


@pytest.fixture
def on_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setitem(machine.RESULTS, "cuda", tmp_path)
    monkeypatch.setattr(sparse_methods, "DEVICE", "cpu")
    monkeypatch.setattr(gears_step, "DEVICE", "cpu")
    for module in (sparse_ops, gears_step):
        monkeypatch.setattr(module, "describe", lambda *names: machine.describe(*names) | {"gpu": "A card"})
        monkeypatch.setattr(sys, "argv", ["it", "--device", "cuda"])
    return tmp_path


def test_the_table_of_the_sparse_core(monkeypatch, on_a_gpu):
    def measured(work, case, runs):
        if "PyG" in case:
            raise torch.OutOfMemoryError
        if work == "bounds":
            return {"copy_gb_s": [2000.0]}
        ms = 1.0 if case == "kgnn" else 4.0
        return {"added_mb": 10.0, "forward_backward": [2 * ms], "forward": [ms]}

    monkeypatch.setattr(sparse_ops, "here", measured)
    sparse_ops.main()
    text = (on_a_gpu / "sparse_ops.md").read_text()
    assert "(cuda) on A card" in text
    assert "| PyG, CSR union | failed |" in text
    assert "| SGC layer | kgnn | PyG SGConv, union, time | not measured | 40 |" in text
    assert "| A x | kgnn | the best of the others: torch.sparse CSR, time | 4.0 | 2 |" in text
    assert json.loads((on_a_gpu / "sparse_ops.json").read_text())["machine"]["gpu"] == "A card"


def test_what_is_ours_must_be_measured(monkeypatch, on_a_gpu):
    def measured(work, case, runs):
        if case == "kgnn":
            raise torch.OutOfMemoryError
        return {"copy_gb_s": [1.0]}

    monkeypatch.setattr(sparse_ops, "here", measured)
    with pytest.raises(torch.OutOfMemoryError):
        sparse_ops.main()


def test_the_table_of_gears(monkeypatch, on_a_gpu):
    measured = {"seconds": [0.5, 0.25, 0.75], "peak_mb": 100.0, "before_mb": 0.0}
    monkeypatch.setattr(gears_step, "in_a_process", lambda *arguments: measured)
    gears_step.main()
    assert "(cuda) on A card" in (on_a_gpu / "gears_step.md").read_text()
    rows = json.loads((on_a_gpu / "gears_step.json").read_text())["rows"]
    assert {row["seconds_median"] for row in rows} == {0.5}


def test_the_table_of_models(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_models, "PERTURBED", ("hetero", "no such model"))
    only = ["--only", "hetero", "no such model", "links, ComplEx"]
    monkeypatch.setattr(sys, "argv", ["it", "--device", "cpu", "--size", "60", "--out", str(tmp_path), *only])
    with pytest.raises(SystemExit, match="some models failed"):
        gpu_models.main()
    rows = json.loads((tmp_path / "gpu_models.json").read_text())["rows"]
    assert rows["links, ComplEx"]["same_again"]
    assert rows["hetero"]["alike"] == pytest.approx(1)
    assert "| no such model | InputError: " in (tmp_path / "gpu_models.md").read_text()
