import gzip
import os
import random

import pytest

import kgnn
from kgnn import files
from kgnn.durable import check_place
from kgnn.errors import InputError, OutputError
from kgnn.files import (
    as_adata,
    check_target,
    content_of,
    existing_file,
    new_file,
    open_bytes,
    read_h5ad,
    read_json,
    read_toml,
    write_json,
)
from kgnn.folders import check_folder, new_folder, read_folder


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    for make, target in ((new_file, tmp_path / "a.txt"), (lambda p: new_folder(p, "model"), tmp_path / "b")):
        with pytest.raises(ZeroDivisionError), make(target) as temporary:
            (temporary / "part" if temporary.is_dir() else temporary).write_bytes(b"half") // 0
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(InputError, match="object"):
        write_json(tmp_path / "a.json", {"new": object()})
    assert read_json(tmp_path / "a.json") == {"old": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_json_that_is_no_text(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match="not UTF-8"):
        read_json(tmp_path / "a.json")


def test_the_package_imports_its_rooms_when_they_are_used():
    assert "graph" in dir(kgnn)
    assert kgnn.graph.KnowledgeGraph is kgnn.KnowledgeGraph
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = kgnn.nonsense


def test_a_path_that_cannot_be_is_named(tmp_path):
    with pytest.raises(InputError, match="File name too long; check the path"):
        existing_file(tmp_path / ("A" * 300))


def test_what_never_ends_or_may_not_be_read_is_no_file(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(InputError, match=f"{name}: is a device or a pipe"):
            existing_file(tmp_path / name)
    (tmp_path / "private").write_text("x")
    assert existing_file(tmp_path / "private")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="private: may not be read by you"):
        existing_file(tmp_path / "private")


@pytest.mark.parametrize("read", [read_json, read_toml])
@pytest.mark.parametrize(("text", "told"), [
    (b"a = " + b"[" * 100_000, "not"), (b"[" * 100_000, "not"), (b"1" * 5000, "not"), (b"a = " + b"1" * 5000, "not"),
    (b"\xff", r"not UTF-8 text \(byte 0\)"), (None, "larger than 256 MB"),
])  # fmt: skip
def test_json_and_toml_that_are_none_are_told_in_one_line(tmp_path, read, text, told):
    path = tmp_path / "f"
    path.write_bytes(text or b"x")
    if text is None:
        os.truncate(path, 1 << 40)  # takes no room on the disk
    with pytest.raises(InputError, match=told) as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_gzip_file_that_unfolds_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FREE", 1 << 20)
    usual = random.Random(0).randbytes(1 << 20).hex().encode()
    (tmp_path / "usual.gz").write_bytes(gzip.compress(usual))
    with open_bytes(tmp_path / "usual.gz") as file:
        assert file.read() == usual
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"A" * (1 << 20)) * 1000)
    with open_bytes(tmp_path / "bomb.gz") as file:
        file.read(50 << 20)
        with pytest.raises(InputError, match=r"bomb\.gz: gzip data that unfold to more than 100 times"):
            file.read(500 << 20)


def test_what_may_not_be_looked_for_is_told(tmp_path):
    """As in a folder that may not be searched, which root can search: the system refuses the name."""
    path = tmp_path / ("x" * 300)
    for door in (existing_file, lambda path: content_of([path]), lambda path: read_folder(path, "model", str)):
        with pytest.raises(InputError, match="File name too long; check the path"):
            door(path)
    for door in (check_place, check_target, lambda path: check_folder(path, "model")):
        with pytest.raises(OutputError, match="cannot be written: File name too long"):
            door(path / "in")


def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("1")
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    for door in (check_target, lambda path: write_json(path, 2)):
        with pytest.raises(OutputError, match=r"a\.json: is write-protected"):
            door(tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "1"


@pytest.mark.parametrize("name", ["t.csv", "t.TSV", "t.txt.gz", "t.parquet", "a.pq"])
def test_a_table_is_no_h5ad_and_the_remedy_is_named(tmp_path, name):
    (tmp_path / name).write_text("pert,g\nA,1\n")
    for read in (read_h5ad, as_adata):
        with pytest.raises(InputError, match=rf"{name}: a table where cells .*kgnn\.data\.effects\('"):
            read(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        read_h5ad(tmp_path / f"no{name}")
    (tmp_path / "csv.h5ad").write_text("no H5AD")
    with pytest.raises(InputError, match="cannot be read as H5AD"):
        as_adata(tmp_path / "csv.h5ad")
