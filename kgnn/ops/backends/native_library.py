"""The C++ kernels of `cpp/` as a library: compiled for this processor at first use, called through ctypes.

They are plain C functions: nothing of them depends on PyTorch's version, and compiling takes some ten seconds, once,
with any C++17 compiler. The library is kept in the cache folder under a hash of all that it depends on.
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

from kgnn.files import cache_folder
from kgnn.ops.csr import Csr
from kgnn.progress import progress

SOURCES = Path(__file__).parent / "cpp"
FLAGS = ["-O3", "-std=c++17", "-fPIC", "-fopenmp", "-fno-math-errno", "-march=native"]
SUFFIX = {torch.float32: "f32", torch.float64: "f64", torch.bfloat16: "bf16"}
log = logging.getLogger(__name__)


@cache
def load() -> tuple[ctypes.CDLL | None, str]:
    """Return the library, or None and why there is none."""
    try:
        found = compiler()
        if not found:
            return None, "no C++ compiler (c++, g++ or clang++) is at hand, so the kernels cannot be compiled"
        return ctypes.CDLL(str(_compiled(found))), ""
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or ""
        first = next((line for line in output.splitlines() if "error" in line), "")
        return None, f"compiling the kernels failed: {first or error}"


@cache
def compiler() -> tuple[str, ...]:
    """Return the command of a C++ compiler, `CXX` or one that is found, or ()."""
    asked = os.environ.get("CXX")
    commands = [shlex.split(asked)] if asked else [["c++"], ["g++"], ["clang++"]]
    return next((tuple(command) for command in commands if command and shutil.which(command[0])), ())


def _compiled(compiler: tuple[str, ...]) -> Path:
    digest = hashlib.sha256(" ".join([*compiler, *FLAGS, platform.platform(), _processor()]).encode())
    digest.update(subprocess.run([*compiler, "--version"], capture_output=True, check=True).stdout)
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes())
    folder = cache_folder() / "native"
    library = folder / f"kernels-{digest.hexdigest()[:16]}.so"
    if library.exists():
        return library
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder))
    except OSError:  # no home to write to: compile for this process alone
        scratch = Path(tempfile.mkdtemp())
        library = scratch / library.name
    log.info("compiling the CPU kernels into %s (once; some ten seconds)", library)
    try:
        _compile(compiler, scratch, scratch / "part.so")
        (scratch / "part.so").replace(library)
    finally:
        if library.parent != scratch:
            shutil.rmtree(scratch)
    return library


def _compile(compiler: tuple[str, ...], scratch: Path, library: Path) -> None:
    """Compile the kernels of each type side by side, and link them."""
    objects = [str(scratch / f"{suffix}.o") for suffix in SUFFIX.values()]
    commands = [
        [*compiler, *FLAGS, "-c", f"-DKERNELS_{suffix}", "-o", out, str(SOURCES / "kernels.cpp")]
        for suffix, out in zip(SUFFIX.values(), objects, strict=True)
    ]
    options: dict[str, Any] = {"capture_output": True, "check": True, "text": True}
    what = "compiling the CPU kernels (once, about 8 s)"
    with ThreadPoolExecutor() as pool, progress(what, len(commands), delay=0) as advance:
        for _ in pool.map(lambda command: subprocess.run(command, **options), commands):
            advance(1)
    subprocess.run([*compiler, *FLAGS, "-shared", "-o", str(library), *objects], **options)


def _processor() -> str:
    """The processor's abilities: a cache folder may be shared among machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
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
