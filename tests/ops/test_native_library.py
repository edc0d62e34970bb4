"""How the compiled kernels come about: what the cache holds is loaded only if it is whole and ours."""

import ctypes
import os
import sys

import pytest

from kgnn.ops.backends import native_library

TINY = '#ifdef KERNELS_f32\nextern "C" int answer() { return 42; }\n#endif\n'


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Load a small library in place of the kernels; the list holds a line for each time that it was compiled."""
    times = []
    real = native_library._compile

    def count(*arguments):
        times.append("compiled")
        real(*arguments)

    (tmp_path / "cpp").mkdir()
    (tmp_path / "cpp" / "kernels.cpp").write_text(TINY)
    monkeypatch.setattr(native_library, "SOURCES", tmp_path / "cpp")
    monkeypatch.setattr(native_library, "_compile", count)
    monkeypatch.setenv("KGNN_CACHE", str(tmp_path / "cache"))
    native_library.compiler.cache_clear()
    if not native_library.compiler()[0]:
        pytest.skip("no C++ compiler")
    yield times
    native_library.compiler.cache_clear()


def load():
    return native_library.load.__wrapped__()


def answers():
    library, reason = load()
    assert library is not None, reason
    return library.answer() == 42


def cached(tmp_path):
    (library,) = (tmp_path / "cache" / "native").glob("*.so")
    return library


def test_it_is_compiled_once(compiled, tmp_path):
    assert answers()
    assert answers()
    assert len(compiled) == 1
    assert sorted(path.suffix for path in (tmp_path / "cache" / "native").iterdir()) == [".sha256", ".so"]


def test_it_is_compiled_once_whatever_the_umask(compiled):
    old = os.umask(0o002)  # the usual one where each user has a group of his own
    try:
        assert answers()
        assert answers()
    finally:
        os.umask(old)
    assert len(compiled) == 1


def test_where_nothing_in_the_scratch_can_be_loaded_the_cache_is(compiled, monkeypatch):
    """A scratch folder may be mounted noexec."""
    real = ctypes.CDLL

    def noexec(name):
        if "cache" not in name:
            raise OSError(f"{name}: failed to map segment from shared object")
        return real(name)

    monkeypatch.setattr(native_library.ctypes, "CDLL", noexec)
    assert answers()


def cut_short(library):
    with library.open("r+b") as file:
        file.truncate(library.stat().st_size // 2)


def a_bit_turned(library):
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)


DAMAGE = [
    cut_short,
    a_bit_turned,
    lambda library: library.write_bytes(b""),
    lambda library: library.unlink(),
    lambda library: library.with_suffix(".sha256").unlink(),
    lambda library: library.with_suffix(".sha256").write_bytes(b"\xff\xfe"),
    lambda library: library.chmod(0o666),
    lambda library: library.parent.chmod(0o777),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_or_may_be_anybodys_is_compiled_anew(compiled, tmp_path, damage):
    answers()
    damage(cached(tmp_path))
    assert answers()
    assert len(compiled) == 2


def test_another_users_library_is_not_loaded(compiled, tmp_path, monkeypatch):
    answers()
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    before = cached(tmp_path).stat().st_mtime_ns
    assert answers()
    assert len(compiled) == 2
    assert cached(tmp_path).stat().st_mtime_ns == before


def test_a_cache_that_cannot_be_written_to(compiled, tmp_path, caplog):
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache" / "native").write_text("a file where the folder should be")
    assert answers()
    assert "the compiled kernels are not kept" in caplog.text


def script(path, text):
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("asked", ["/no/compiler", "'unbalanced", "/bin/false", "sleeps", "crashes"])
def test_a_broken_compiler_is_told(compiled, tmp_path, monkeypatch, caplog, asked):
    texts = {"sleeps": "import time; time.sleep(60)", "crashes": "import os; os.write(2, b'\\xff'); os.abort()"}
    cxx = script(tmp_path / asked, texts[asked]) if asked in texts else asked
    monkeypatch.setenv("CXX", cxx)
    monkeypatch.setattr(native_library, "VERSION_TIMEOUT", 0.5)
    native_library.compiler.cache_clear()
    library, reason = load()
    assert library is None
    assert cxx.strip("'") in reason
    assert ("had not ended after" in reason) == (asked == "sleeps")
    assert reason in caplog.text


def test_a_compiler_that_hangs_while_it_compiles_is_stopped(compiled, tmp_path, monkeypatch):
    text = "import sys, time\nif '--version' not in sys.argv: time.sleep(60)"
    monkeypatch.setenv("CXX", script(tmp_path / "slow", text))
    monkeypatch.setattr(native_library, "TIMEOUT", 0.5)
    native_library.compiler.cache_clear()
    assert "had not ended after" in load()[1]


def test_a_library_stays_loaded_when_its_file_is_gone(compiled, tmp_path, monkeypatch):
    monkeypatch.setenv("KGNN_CACHE", "relative")
    library, _ = load()
    assert isinstance(library, ctypes.CDLL)
    assert library.answer() == 42
    assert not list(tmp_path.rglob("*.so"))
