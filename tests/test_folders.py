"""Folders are there whole or not at all, whoever is killed or writes meanwhile; others' files stay."""

import errno
import fcntl
import hashlib
import json
import os
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgnn import durable, folders
from kgnn.errors import InputError, OutputError
from kgnn.files import check_target, file_name, new_file, read_json, write_json
from kgnn.folders import check_folder, new_folder, others, read_folder, read_sealed, sealed


def write(path, text, kind="model"):
    with new_folder(path, kind) as folder:
        (folder / "a.txt").write_text(text)
        (folder / "in").mkdir()
        (folder / "in" / "b.txt").write_text(text)


def both(path):
    return (path / "a.txt").read_text(), (path / "in" / "b.txt").read_text()


def read(path):
    return read_folder(path, "model", both)


@pytest.fixture(params=["exchange", "two renames"])
def system(request, monkeypatch):
    """With and without a system that can exchange two folders."""
    if request.param == "two renames":
        monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    return request.param


def test_the_list_holds_the_hashes_that_anyone_can_check(tmp_path):
    write(tmp_path / "m", "one")
    found = json.loads((tmp_path / "m" / "kgnn.json").read_text())
    assert found["files"] == {name: hashlib.sha256(b"one").hexdigest() for name in ("a.txt", "in/b.txt")}
    own = found.pop("sha256")
    assert own == hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def test_a_folder_is_replaced_and_nothing_hidden_stays(tmp_path, system):
    for text in ("one", "two", "three"):
        write(tmp_path / "m", text)
        assert read(tmp_path / "m") == (text, text)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_the_exchange_is_one_step_here(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert durable.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()


@pytest.mark.parametrize("damage", ["bit", "cut", "swap", "lost", "list", "list cut", "list gone", "other list"])
def test_any_damage_is_told_and_names_the_file(tmp_path, damage):
    write(tmp_path / "m", "text")
    write(tmp_path / "n", "longer text")
    file, names = tmp_path / "m" / "in" / "b.txt", "b.txt: damaged"
    listed = tmp_path / "m" / "kgnn.json"
    if damage == "bit":
        file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    elif damage == "cut":
        os.truncate(file, 2)
    elif damage == "swap":
        (tmp_path / "n" / "in" / "b.txt").replace(file)
    elif damage == "lost":
        file.unlink()
        names = "b.txt: missing"
    elif damage == "list":
        listed.write_text(listed.read_text().replace('"model"', '"modem"'))
        names = "kgnn.json: damaged or edited"
    elif damage == "list cut":
        os.truncate(listed, 60)
        names = r"kgnn.json:\d+:\d+: not JSON"
    elif damage == "list gone":
        listed.unlink()
        names = r"not a model folder \(no kgnn.json\)"
    else:
        (tmp_path / "n" / "kgnn.json").replace(listed)
        names = "a.txt: damaged"
    with pytest.raises(InputError, match=names):
        read(tmp_path / "m")


def test_a_folder_of_before_there_were_hashes_is_to_be_saved_again(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"has no kgnn\.json, .* an older kgnn wrote it.* save the model again"):
        read(tmp_path)


def test_a_list_that_names_files_elsewhere_is_refused(tmp_path):
    write(tmp_path / "m", "text")
    for name in ("../x", "/etc/passwd", "in/../../x"):
        write_json(tmp_path / "m" / "kgnn.json", sealed({"kgnn": "0", "kind": "model", "files": {name: ""}}))
        with pytest.raises(InputError, match="names files outside the folder"):
            read(tmp_path / "m")


def test_a_raw_error_of_a_reader_is_told_as_damage(tmp_path):
    write(tmp_path / "m", "text")
    for raw in (KeyError("x"), RecursionError(), MemoryError(), ZeroDivisionError("y")):
        with pytest.raises(InputError, match=f"do not fit together \\({type(raw).__name__}"):
            read_folder(tmp_path / "m", "model", lambda path, raw=raw: (_ for _ in ()).throw(raw))


def test_a_file_that_may_not_be_read_is_not_told_as_damage(tmp_path):
    write(tmp_path / "m", "text")

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path / "a.txt"))

    with pytest.raises(InputError, match=r"a\.txt: may not be read by you; ask its owner"):
        read_folder(tmp_path / "m", "model", refuse)


def test_a_users_files_are_never_removed(tmp_path, system):
    for name in ("config.json", "manifest.json", "kgnn.json", "training.json", "notes.txt"):
        folder = tmp_path / f"of {name}"
        folder.mkdir()
        (folder / name).write_text('{"my": "own"}')
        with pytest.raises(OutputError, match=f"holds other files .*{name}"):
            write(folder, "x")
        assert (folder / name).read_text() == '{"my": "own"}'
    write(tmp_path / "m", "one")
    (tmp_path / "m" / "in" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files \(in/notes\.txt\)"):
        write(tmp_path / "m", "two")
    assert read(tmp_path / "m") == ("one", "one")
    assert (tmp_path / "m" / "in" / "notes.txt").read_text() == "mine"
    (tmp_path / "m" / "in" / "notes.txt").unlink()
    with pytest.raises(OutputError, match="holds a model, which a graph does not replace"):
        write(tmp_path / "m", "two", "graph")


def test_notes_that_come_while_a_folder_is_replaced_stay(tmp_path, system, monkeypatch):
    write(tmp_path / "m", "one")
    put = durable.put

    def late(new, path):
        (path / "in" / "notes.txt").write_text("mine")
        (path / "a.txt").write_text("one")
        put(new, path)

    monkeypatch.setattr(folders, "put", late)
    write(tmp_path / "m", "two")
    assert read(tmp_path / "m") == ("two", "two")
    assert (tmp_path / "m" / "in" / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_an_unfinished_training_is_ours_and_in_no_list(tmp_path):
    write(tmp_path / "m", "one")
    (tmp_path / "m" / "checkpoints").mkdir()
    (tmp_path / "m" / "checkpoints" / "last.ckpt").write_text("x")
    assert others(tmp_path / "m") == ["checkpoints/last.ckpt"]
    write_json(tmp_path / "m" / "training.json", sealed({"asked": {}, "content": ""}))
    assert others(tmp_path / "m") == []
    (tmp_path / "m" / "checkpoints" / "notes.txt").write_text("x")
    assert others(tmp_path / "m") == ["checkpoints/notes.txt"]


def test_a_training_that_died_as_it_began_is_in_nobodys_way(tmp_path):
    place = tmp_path / "m" / ".training.json-00000000.part"
    place.mkdir(parents=True)
    (place / "training.json").write_text('{"asked')
    write(tmp_path / "m", "one")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["a.txt", "in", "kgnn.json"]


KILLED = """
import os, sys
from pathlib import Path
from kgnn import durable, folders
from kgnn.folders import new_folder
turn, two_renames, path = int(sys.argv[1]), sys.argv[2] == "two renames", Path(sys.argv[3])
if two_renames:
    durable.exchange = lambda one, other: False
steps = 0
def counted(event, args):  # every call that changes a folder is a moment to die
    global steps
    if event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"):
        steps += 1
        if steps > turn:
            os._exit(9)
sys.addaudithook(counted)
with new_folder(path, "model") as folder:
    (folder / "a.txt").write_text("two")
    (folder / "in").mkdir()
    (folder / "in" / "b.txt").write_text("two")
os._exit(0)
"""


def test_a_writer_that_is_killed_at_any_step_costs_nothing(tmp_path, system):
    """Every step that changes a folder is one to die before; the old or the new version is there, and nothing else."""
    (tmp_path / "w").mkdir()
    path, found, turn, status = tmp_path / "w" / "m", set(), 0, 9
    fork = _server(tmp_path)
    while status:
        write(path, "one")
        status = fork(turn, system, path)
        seen = read(path)
        assert seen in {("one", "one"), ("two", "two")}, turn
        found.add((seen[0], status))
        write(path, "one")
        assert [other.name for other in path.parent.iterdir()] == ["m"], turn
        turn += 1
    assert turn > 20
    assert {("one", 9), ("two", 9), ("two", 0)} <= found


def _server(tmp_path):
    """Run KILLED in forked children: what is imported once is not imported again."""

    def fork(turn, system, path):
        child = os.fork()
        if child == 0:
            sys.argv = ["killed", str(turn), system, str(path)]
            exec(compile(KILLED, "killed", "exec"), {"__name__": "killed"})
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return fork


@pytest.mark.parametrize("listed", [None, "", '{"kgnn": "0.1'])
def test_what_a_dead_writer_had_not_finished_goes(tmp_path, listed):
    write(tmp_path / "m", "one")
    half = tmp_path / ".m-00000000.kgnn" / "new" / "m"
    half.mkdir(parents=True)
    (half / "a.txt").write_text("two")
    if listed is not None:
        (half / "kgnn.json").write_text(listed)
    write(tmp_path / "m", "three")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert others(tmp_path / "m") == []


@pytest.mark.parametrize("whose", ["another user's", "a link"])
def test_what_looks_like_a_dead_writers_and_is_not_ours_is_left_alone(tmp_path, whose, monkeypatch):
    """Anybody may put it there in a folder that all may write to."""
    planted = tmp_path / "elsewhere" if whose == "a link" else tmp_path / ".m-01234567.kgnn"
    write(planted / "old0" / "m", "planted")
    write(planted / "new" / "m", "planted")
    (planted / "new" / "m" / "notes.txt").write_text("mine")
    if whose == "a link":
        (tmp_path / ".m-01234567.kgnn").symlink_to(planted)
        (tmp_path / "m").mkdir()
    else:
        uid = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
        with pytest.raises(InputError, match=r"m: not a model folder"):
            read(tmp_path / "m")
    write(tmp_path / "m", "one")
    assert read(tmp_path / "m") == ("one", "one")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["a.txt", "in", "kgnn.json"]
    assert both(planted / "old0" / "m") == both(planted / "new" / "m") == ("planted", "planted")


def test_a_folder_that_may_not_be_looked_into_is_not_replaced(tmp_path, monkeypatch):
    write(tmp_path / "m", "one")
    (tmp_path / "m" / "secret").mkdir()
    look = os.scandir

    def refuse(path):
        if str(path).endswith("secret"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(OutputError, match="m: cannot be written: Permission denied; nothing there was changed"):
        write(tmp_path / "m", "two")
    assert (tmp_path / "m" / "secret").is_dir()
    assert read(tmp_path / "m") == ("one", "one")


def test_a_place_of_a_living_writer_is_left_alone(tmp_path):
    with new_folder(tmp_path / "m", "model") as folder:
        (folder / "a.txt").write_text("slow")
        (folder / "in").mkdir()
        (folder / "in" / "b.txt").write_text("slow")
        write(tmp_path / "m", "quick")
        assert read(tmp_path / "m") == ("quick", "quick")
        assert folder.is_dir()
    assert read(tmp_path / "m") == ("slow", "slow")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_ten_writers_and_readers_at_once(tmp_path, system):
    path, stop, mixed = tmp_path / "m", threading.Event(), []
    write(path, "0")

    def reading():
        n = 0
        while not stop.is_set():
            one, other = read(path)
            n += 1
            if one != other:
                mixed.append((one, other))
        return n

    with ThreadPoolExecutor(12) as pool:
        readers = [pool.submit(reading) for _ in range(2)]
        writers = [pool.submit(lambda n=n: [write(path, f"{n}.{turn}") for turn in range(3)]) for n in range(10)]
        try:
            for writer in writers:
                writer.result()
        finally:
            stop.set()
        assert sum(reader.result() for reader in readers) > 0
    assert mixed == []
    assert [other.name for other in tmp_path.iterdir()] == ["m"]


def test_a_writer_that_is_done_brings_nothing_old_back(tmp_path, monkeypatch):
    """Another one is between its two renames when this one tidies up."""
    monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    write(tmp_path / "m", "one")
    put = durable.put

    def then_taken(new, path):
        put(new, path)
        path.rename(tmp_path / "elsewhere")

    monkeypatch.setattr(folders, "put", then_taken)
    write(tmp_path / "m", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_a_folder_that_is_replaced_and_replaced_back_meanwhile_is_read_again(tmp_path):
    write(tmp_path / "m", "one")
    seen = []

    def slow(path):
        first = (path / "a.txt").read_text()
        if not seen:
            write(path, "two")
        seen.append((first, (path / "in" / "b.txt").read_text()))
        if len(seen) == 1:
            write(path, "one")
        return seen[-1]

    assert read_folder(tmp_path / "m", "model", slow) == ("one", "one")
    assert seen == [("one", "two"), ("one", "one")]


def test_a_folder_that_is_between_two_renames_twice_is_read_again(tmp_path, monkeypatch):
    """No list before and none afterwards does not say that nothing was replaced in between."""
    write(tmp_path / "m", "one")
    version, gaps = folders._version, [(), ()]
    monkeypatch.setattr(folders, "_version", lambda path: gaps.pop() if gaps else version(path))
    seen = []

    def meanwhile(path):
        seen.append(both(path))
        return seen[-1] if len(seen) > 1 else ("of two", "versions")

    assert read_folder(tmp_path / "m", "model", meanwhile) == ("one", "one")


def test_files_that_came_between_two_renames_are_looked_at_again(tmp_path, monkeypatch):
    """A folder without a list, then its files, then none again: they are not somebody else's."""
    write(tmp_path / "m", "one")
    found = [["a.txt", "in/b.txt", folders.LIST], []]
    monkeypatch.setattr(folders, "_version", lambda path: ())
    monkeypatch.setattr(folders, "_others", lambda path: found.pop(0))
    assert folders.others(tmp_path / "m") == []


def test_a_folder_that_is_replaced_all_the_time_is_told(tmp_path):
    write(tmp_path / "m", "0")
    seen = []

    def slow(path):
        seen.append(both(path))
        write(path, f"{len(seen)}")

    with pytest.raises(InputError, match="was replaced 20 times while it was read; read it when its writers are done"):
        read_folder(tmp_path / "m", "model", slow)
    assert seen == [(f"{n}", f"{n}") for n in range(20)]


def test_all_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    write(tmp_path / "m", "one")
    synced, before, fsync, put = set(), set(), os.fsync, folders.put

    def recorded(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def renamed(new, path):
        before.update(synced)
        put(new, path)

    monkeypatch.setattr(durable.os, "fsync", recorded)
    monkeypatch.setattr(folders, "put", renamed)
    write(tmp_path / "m", "two")
    parts = [tmp_path / "m", *(tmp_path / "m").rglob("*")]
    assert {path.stat().st_ino for path in parts} <= before
    assert tmp_path.stat().st_ino in synced - before  # its name, afterwards


def test_modes_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        with new_folder(tmp_path / "m", "model") as folder:
            for name, mode in (("secret", 0o600), ("open", 0o666)):
                (folder / name).touch(mode=mode)
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "m").iterdir()}
    assert modes == dict.fromkeys(("secret", "open", "kgnn.json"), 0o640)
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_what_cannot_be_replaced_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    cases = {
        ".": "the folder you are in",
        "..": "the folder you are in",
        "/proc": "mount point",
        "file": "a file of this",
    }
    for path, told in cases.items():
        with pytest.raises(OutputError, match=told):
            check_folder(path, "model")
    for path, told in {
        "file/m": "Not a directory",
        "a" * 300: "File name too long",
        "/proc/x": "cannot be writ",
    }.items():
        with pytest.raises(OutputError, match=told):
            check_folder(path, "model")
        with pytest.raises(OutputError, match=told):
            check_target(path)
    with pytest.raises(OutputError, match="is a folder; give the name of a file"):
        check_target(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_the_disks_refusals_are_told_in_one_line_whoever_meets_them(tmp_path):
    write(tmp_path / "m", "one")
    texts = ["I/O error: No space left on device (os error 28)", "file write failed: errno = 28, error message = …"]
    for raw in (OSError(errno.ENOSPC, "No space left on device"), *map(RuntimeError, texts)):
        told = "cannot be written: No space left on device"
        with pytest.raises(OutputError, match=f"m: {told}"), new_folder(tmp_path / "m", "model"):
            raise raw
        with pytest.raises(OutputError, match=f"x: {told}"), new_file(tmp_path / "x"):
            raise raw
    assert read(tmp_path / "m") == ("one", "one")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_what_is_no_refusal_of_the_disk_is_not_told_as_one(tmp_path):
    def wrong():
        try:
            (tmp_path / "nowhere").read_text()
        except OSError:
            raise ZeroDivisionError from None

    with pytest.raises(ZeroDivisionError), new_file(tmp_path / "x"):
        wrong()


@pytest.mark.parametrize(("path", "told"), [("a" * 300, "File name too long"), ("a\0b", "null character")])
def test_a_path_that_is_none_is_told(path, told):
    for door in (read, check_target, lambda path: check_folder(path, "model"), read_json):
        with pytest.raises(InputError, match=told):
            door(path)


def test_a_link_is_followed_and_a_device_written(tmp_path):
    write(tmp_path / "real", "one")
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink()
    assert read(tmp_path / "real") == ("two", "two")
    write_json("/dev/null", {})
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_parts_of_files_of_dead_writers_go(tmp_path):
    dead = tmp_path / ".a.json-00000000.part"
    alive = tmp_path / ".a.json-11111111.part"
    for place in (dead, alive):
        place.mkdir()
        (place / "a.json").write_text("half")
    lock = os.open(alive, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    write_json(tmp_path / "a.json", {"a": 1})
    os.close(lock)
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "a.json"]


@given(st.text())
def test_a_name_stays_in_its_folder(name):
    found = file_name(name)
    path = Path(os.path.normpath(Path("/out") / found))
    assert path.parent == Path("/out")
    assert not found.startswith(".")
    assert len(found.encode()) <= 255
    assert found.isprintable() or any(letter.isalnum() for letter in found)


@given(st.text(max_size=300), st.text(max_size=300))
def test_other_names_are_other_files(one, other):
    assert (one == other) == (file_name(one) == file_name(other))


def test_names_as_they_are_written():
    kept = ["kg, rewired", "KLF1+MAP2K6", "random_condition-seed0", "β-globin (HBB)"]
    assert [file_name(name) for name in kept] == kept
    assert file_name("../../etc/passwd") == "%2E;.%2F;..%2F;etc%2F;passwd"
    assert (file_name(""), file_name(".."), file_name("a\0b")) == ("%", "%2E;%2E;", "a%0;b")


def test_json_with_a_byte_order_mark_and_json_that_is_none(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
    for text in ("[" * 100_000, "1" * 5000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InputError, match=r"a\.json: not usable JSON"):
            read_json(tmp_path / "a.json")


def test_what_is_sealed_and_edited_is_told(tmp_path):
    write_json(tmp_path / "a.json", sealed({"a": 1, "b": ["é"]}))
    assert read_sealed(tmp_path / "a.json")["b"] == ["é"]
    (tmp_path / "a.json").write_text((tmp_path / "a.json").read_text().replace("1,", "2,", 1))
    with pytest.raises(InputError, match="damaged or edited"):
        read_sealed(tmp_path / "a.json")
