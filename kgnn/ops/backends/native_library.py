"""The C++ kernels of `cpp/` as a library: compiled for this processor at first use, called through ctypes.

They are plain C functions: nothing of them depends on PyTorch's version, and compiling takes some ten seconds, once,
with any C++17 compiler. The library is kept in the cache folder under a hash of all that it depends on, its own
hash beside it: one that is damaged, or another user's, is never loaded.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kgnn.cache import cache_folder, is_ours
from kgnn.errors import InputError
from kgnn.files import new_file
from kgnn.ops.csr import Csr
from kgnn.progress import progress

SOURCES = Path(__file__).parent / "cpp"
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-fopenmp", "-fno-math-errno", "-march=native"]
VERSION_TIMEOUT, TIMEOUT = 30.0, 600.0  # seconds; a busy machine compiles for a minute
SUFFIX = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16"}
log = logging.getLogger(__name__)


@cache
def load() -> tuple[ctypes.CDLL | None, str]:
    """Return the library, or None and why there is none."""
    found, reason = compiler()
    if not found:
        if "CXX" in reason:
            log.warning("%s; the slower kernels of plain PyTorch compute", reason)
        return None, reason
    try:
        return _library(found), ""
    except subprocess.TimeoutExpired as error:
        reason = f"compiling the kernels failed: {shlex.join(found)} had not ended after {error.timeout:.0f} s"
    except subprocess.CalledProcessError as error:
        first = next((line for line in (error.stderr or "").splitlines() if "error" in line), "")
        reason = f"compiling the kernels failed: {first or f'{shlex.join(found)} ended with {error.returncode}'}"
    except OSError as error:
        reason = f"compiling the kernels failed: {error}"
    log.warning("%s; the slower kernels of plain PyTorch compute", reason)
    return None, reason


@cache
def compiler() -> tuple[tuple[str, ...], str]:
    """Return the command of a C++ compiler, `CXX` or one that is found; or () and why there is none."""
    asked = os.environ.get("CXX")
    try:
        commands = [shlex.split(asked)] if asked else [["c++"], ["g++"], ["clang++"]]
    except ValueError as error:
        return (), f"CXX is {asked!r}, no command line ({error}); correct or unset it"
    for command in commands:
        if command and shutil.which(command[0]):
            return tuple(command), ""
    if asked:
        return (), f"no C++ compiler: CXX is {asked!r}, which is no command here; correct or unset it"
    return (), "no C++ compiler (c++, g++ or clang++) is at hand, so the kernels cannot be compiled"


def _library(compiler: tuple[str, ...]) -> ctypes.CDLL:
    """The library out of the cache; compiled first where the cache has none, or one that is damaged or not ours."""
    digest = hashlib.sha256(" ".join([*compiler, *FLAGS, platform.platform(), _processor()]).encode())
    digest.update(_run([*compiler, "--version"], VERSION_TIMEOUT).encode())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes())
    folder = cache_folder()
    library = folder and folder / "native" / f"kernels-{digest.hexdigest()[:16]}.so"
    if library and _is_whole(library):
        return ctypes.CDLL(str(library))
    with tempfile.TemporaryDirectory(prefix="kgnn-") as scratch:
        made = Path(scratch) / "kernels.so"
        log.info("compiling the CPU kernels (once; some ten seconds)")
        _compile(compiler, Path(scratch), made)
        if library:
            _keep(made, library)
        try:
            return ctypes.CDLL(str(made))  # stays mapped when its name is gone
        except OSError:  # the scratch may be mounted noexec
            if not (library and _is_whole(library)):
                raise
            return ctypes.CDLL(str(library))


def _is_whole(library: Path) -> bool:
    """Whether a library is there, ours, and what was compiled: one cut short would crash the process."""
    try:
        wanted = library.with_suffix(".sha256").read_text(encoding="ascii")
        found = hashlib.sha256(library.read_bytes()).hexdigest()
        return is_ours(library.parent) and is_ours(library) and found == wanted
    except (OSError, UnicodeDecodeError):
        return False


def _keep(made: Path, library: Path) -> None:
    """Put a library and its hash into the cache, where that can be."""
    try:
        library.parent.mkdir(mode=0o700, exist_ok=True)
        with new_file(library) as file:
            file.write_bytes(made.read_bytes())
            file.chmod(0o600)  # whatever the umask: one that a group may write to is never loaded
        with new_file(library.with_suffix(".sha256")) as file:
            file.write_text(hashlib.sha256(made.read_bytes()).hexdigest(), encoding="ascii")
    except (OSError, InputError) as error:
        log.warning("the compiled kernels are not kept: %s", error)


def _compile(compiler: tuple[str, ...], scratch: Path, library: Path) -> None:
    """Compile the kernels of each type side by side, and link them."""
    objects = [str(scratch / f"{suffix}.o") for suffix in SUFFIX.values()]
    commands = [
        [*compiler, *FLAGS, "-c", f"-DKERNELS_{suffix}", "-o", out, str(SOURCES / "kernels.cpp")]
        for suffix, out in zip(SUFFIX.values(), objects, strict=True)
    ]
    what = "compiling the CPU kernels (once, about 8 s)"
    with ThreadPoolExecutor() as pool, progress(what, len(commands), delay=0) as advance:
        for _ in pool.map(lambda command: _run(command, TIMEOUT), commands):
            advance(1)
    _run([*compiler, *FLAGS, "-shared", "-o", str(library), *objects], TIMEOUT)


def _run(command: list[str], seconds: float) -> str:
    """Run a command to its end and return what it says."""
    options: dict[str, Any] = {"capture_output": True, "check": True, "encoding": "utf-8", "errors": "replace"}
    return subprocess.run(command, stdin=subprocess.DEVNULL, timeout=seconds, **options).stdout


def _processor() -> str:
    """The processor's abilities: a cache folder may be shared among machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def call(name: str, features: Tensor, *arguments: Any) -> None:
    """Call a C function; tensors go as pointers, structures by reference, numbers as 64-bit integers."""
    library, reason = load()
    assert library is not None, reason
    converted: list[Any] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            converted.append(ctypes.c_void_p(argument.data_ptr()))
        elif isinstance(argument, ctypes.Structure):
            converted.append(ctypes.byref(argument))
        elif isinstance(argument, int):
            converted.append(ctypes.c_int64(argument))
        else:
            converted.append(argument)
    getattr(library, f"{name}_{SUFFIX[features.dtype]}")(*converted)


class CsrStruct(ctypes.Structure):
    _fields_ = (
        ("rows", ctypes.c_int64),
        ("indptr", ctypes.c_void_p),
        ("indices", ctypes.c_void_p),
        ("order", ctypes.c_void_p),
    )


class StridesStruct(ctypes.Structure):
    _fields_ = (("cell", ctypes.c_int64), ("node", ctypes.c_int64))


def csr_struct(csr: Csr) -> CsrStruct:
    order = None if csr.order is None else csr.order.data_ptr()
    return CsrStruct(csr.n_rows, csr.indptr.data_ptr(), csr.indices.data_ptr(), order)


def strides(x: Tensor) -> StridesStruct:
    return StridesStruct(x.stride(0), x.stride(1))


def rows_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def threads() -> ctypes.c_int:
    return ctypes.c_int(torch.get_num_threads())
