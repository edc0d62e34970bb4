"""The cache folder is the user's alone, or it is not used."""

import os
import subprocess
import sys

import pytest

from kgnn import cache
from kgnn.cache import cache_folder, find


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A home of its own, and nothing else set."""
    for name in ("KGNN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    cache._tell.cache_clear()
    return tmp_path


@pytest.mark.parametrize("xdg", [None, "", ".", "here/there"])
def test_what_is_not_absolute_is_as_if_not_set(home, monkeypatch, xdg):
    monkeypatch.chdir(home)
    if xdg is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert cache_folder() == home / ".cache" / "kgnn"
    assert (home / ".cache" / "kgnn").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in home.iterdir()] == [".cache"]


def test_the_variables_in_their_order(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert cache_folder() == home / "xdg" / "kgnn"
    monkeypatch.setenv("KGNN_CACHE", str(home / "own"))
    assert cache_folder() == home / "own"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o757])
def test_a_folder_that_others_may_write_to_is_not_used(home, mode, caplog):
    folder = home / ".cache" / "kgnn"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    assert cache_folder() is None
    assert cache_folder() is None
    assert len(caplog.records) == 1
    assert f"{folder}: another user's, or others may write to it" in caplog.text
    folder.chmod(0o755)  # others may read
    assert cache_folder() == folder


def test_a_folder_that_others_may_replace_is_not_used(home):
    (home / ".cache").mkdir()
    (home / ".cache").chmod(0o777)
    assert "anybody may replace it" in find()[1]
    (home / ".cache").chmod(0o1777)  # as /tmp: only the owner may rename
    assert find() == (home / ".cache" / "kgnn", "")


def test_another_users_folder_is_not_used(home, monkeypatch):
    cache_folder()
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    assert cache_folder() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give folders away")
def test_root_makes_nothing_in_the_home_of_another_user(home):
    os.chown(home, 65534, 65534)
    assert find() == (None, f"{home / '.cache/kgnn'}: {home} is another user's, who may replace it; set HOME or "
                      "KGNN_CACHE to a folder of root's")  # fmt: skip
    assert not list(home.iterdir())
    os.chown(home, 0, 0)
    assert find()[0] == home / ".cache/kgnn"


def test_a_place_that_cannot_be_written_to(home, monkeypatch):
    (home / "file").write_text("")
    monkeypatch.setenv("KGNN_CACHE", str(home / "file" / "cache"))
    assert "Not a directory" in find()[1]
    monkeypatch.setenv("KGNN_CACHE", "relative")
    assert "KGNN_CACHE is 'relative'; give an absolute path" in find()[1]


CONTAINER = """
import pwd
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
import torch, kgnn
from kgnn import cache, ops
print(cache.find())
print(ops.spmm(ops.Adjacency(torch.tensor([[0], [1]]), n_nodes=2), torch.ones(2, 1)).tolist())
adata = kgnn.data.simulate(n_genes=40, n_singles=6, n_pairs=2, cells_per_condition=8, n_controls=20)
split = kgnn.data.split(adata, "simulation")
kgnn.PerturbationModel(encoder="gears").fit(adata, split, max_epochs=1, enable_progress_bar=False)
"""


def test_no_home_and_no_user_name():
    names = ("HOME", "KGNN_CACHE", "XDG_CACHE_HOME", "USER", "LOGNAME", "LNAME", "USERNAME")
    env = {name: value for name, value in os.environ.items() if name not in names} | {"CXX": "/bin/false"}
    result = subprocess.run([sys.executable, "-c", CONTAINER], env=env, capture_output=True, text=True, check=False)
    assert "there is no home folder" in result.stdout, result.stderr
    assert "[[0.0], [1.0]]" in result.stdout
    assert result.returncode == 0, result.stderr
