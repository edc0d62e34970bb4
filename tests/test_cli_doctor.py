"""`kgnn doctor` says what is there, and its exit status whether it works."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch

from kgnn import cli, ops
from kgnn.cli import doctor
from kgnn.ops.backends import BACKENDS, native_library, plain


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run it in this process, without a compiler; return exit status, output and the JSON."""
    monkeypatch.setattr(native_library, "load", lambda: (None, "no C++ compiler"))
    monkeypatch.setattr(native_library, "compiler", lambda: ((), "no C++ compiler"))

    def call():
        monkeypatch.setattr(sys, "argv", ["kgnn", "doctor", "--json", str(tmp_path / "d.json")])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, capsys.readouterr().out, json.loads((tmp_path / "d.json").read_text())

    return call


def test_what_is_there_works(run, tmp_path):
    before = ops.set_backend("torch")
    status, out, result = run()
    assert ops.set_backend(before) == "torch"
    assert status == 0, out
    assert "all that is there works" in out
    assert result["system"]["compiler"] == "no C++ compiler"  # nothing is wrong where there is none
    assert result["system"]["cache"] == os.environ["KGNN_CACHE"]
    assert result["packages"]["pyarrow"] == version("pyarrow")
    assert result["backends"].keys() == BACKENDS.keys()
    assert result["backends"]["torch"].startswith("cpu: works")
    assert "asked for: torch" in out


def test_a_backend_that_computes_otherwise_or_not_at_all(run, monkeypatch):
    right = plain.spmm
    monkeypatch.setattr(plain, "spmm", lambda *arguments: right(*arguments) * 1.01)
    status, out, result = run()
    assert status == 1
    assert "cpu: wrong: differs by 0." in result["backends"]["torch"]
    assert "does not work: torch" in out

    def broken(*_arguments):
        raise OSError("[/red] no such file")

    monkeypatch.setattr(plain, "spmm", broken)
    status, out, _ = run()
    assert status == 1
    assert "wrong: OSError: [/red] no such file" in out


def test_a_compiler_that_was_asked_for_and_is_none(run, monkeypatch):
    monkeypatch.setattr(native_library, "compiler", lambda: ((), "CXX is 'x', which is no command here"))
    monkeypatch.setattr(native_library, "load", lambda: (None, "CXX is 'x', which is no command here"))
    status, out, result = run()
    assert status == 1
    assert result["does_not_work"] == ["compiler"]
    assert "CXX is 'x'" in out


def test_a_cache_that_is_not_used_is_told(run, monkeypatch):
    monkeypatch.setenv("KGNN_CACHE", "here")
    status, out, _ = run()
    assert status == 0
    assert "cache: not used: KGNN_CACHE is 'here'; give an absolute path" in out


def test_a_backend_that_is_asked_for_and_unknown():
    environment = os.environ | {"KGNN_BACKEND": "fast", "CXX": "/bin/false"}
    command = [sys.executable, "-c", "from kgnn import cli; cli.main()", "doctor"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "KGNN_BACKEND: there is no backend 'fast'" in result.stdout
    assert "/bin/false ended with 1" in result.stdout
    assert "does not work: compiler, KGNN_BACKEND" in result.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="no device stands for one that fails")
def test_devices_are_named(monkeypatch):
    assert doctor._devices() == f"CPU, {torch.get_num_threads()} threads"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"card {number}")
    assert doctor._devices().endswith("; card 0; card 1")
