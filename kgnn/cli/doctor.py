"""The command line: `kgnn doctor`."""

import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from kgnn.cli.common import Json, console, write_result
from kgnn.version import __version__

PACKAGES = (
    "torch",
    "torch-geometric",
    "lightning",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "scanpy",
    "anndata",
    "zarr",
    "numcodecs",
    "safetensors",
    "scikit-learn",
)


WRONG = "wrong"


def doctor(json: Json = None) -> None:
    """Say what is there (versions, compiler, devices, cache) and whether it works; exit status 1 where it does not."""
    from kgnn.cache import find
    from kgnn.ops import describe, set_backend
    from kgnn.ops.backends import BACKENDS

    asked = set_backend()
    backends = {name: _check(name) for name in BACKENDS}
    wrong = [name for name, words in backends.items() if WRONG in words]
    compiler, broken = _compiler()
    cache, reason = find()
    system = {
        "kgnn": __version__,
        "Python": f"{platform.python_version()}, {platform.platform()}",
        "devices": _devices(),
        "compiler": f"{compiler}; {WRONG}: {broken}" if broken else compiler,
        "cache": str(cache) if cache else f"not used: {reason}",
    }
    versions = {name: _version(name) for name in PACKAGES}
    for title, rows in (("System", system), ("Packages", versions), ("A product of each backend", backends)):
        console.print(title, style="bold")
        for name, words in rows.items():
            console.print(f"  {name}: {words}", highlight=False, soft_wrap=True)
    wrong += ["compiler"] if broken else []
    try:
        set_backend(asked)
        console.print(describe(), highlight=False, soft_wrap=True)
    except (ValueError, RuntimeError) as error:
        console.print(f"KGNN_BACKEND: {error}", highlight=False, soft_wrap=True)
        wrong += ["KGNN_BACKEND"]
    console.print(f"does not work: {', '.join(wrong)}" if wrong else "all that is there works")
    write_result(json, {"system": system, "packages": versions, "backends": backends, "does_not_work": wrong})
    raise typer.Exit(bool(wrong))


def _check(name: str) -> str:
    """Compare a backend's sparse product with the dense one, on each device: what came of it, in words."""
    import torch

    from kgnn.ops import Adjacency, set_backend, spmm
    from kgnn.ops.backends import BACKENDS

    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(50, (2, 400), generator=generator)
    weight, x = torch.randn(400, generator=generator), torch.randn(3, 50, 16, generator=generator)
    dense = torch.zeros(50, 50).index_put_((edge_index[1], edge_index[0]), weight, accumulate=True)
    told = {}
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        reason = BACKENDS[name].missing(device, torch.float32)
        if reason:
            told[device] = f"not here: {reason}"
            continue
        try:
            set_backend(name)
            found = spmm(Adjacency(edge_index, weight, n_nodes=50).to(device), x.to(device)).cpu()
            difference = float((found - dense @ x).abs().max())
            told[device] = "works" if difference < 1e-4 else f"{WRONG}: differs by {difference:.2g}"
        except Exception as error:  # whatever breaks is the answer
            told[device] = f"{WRONG}: {type(error).__name__}: {error}"
        finally:
            set_backend()
    return "; ".join(f"{device}: {words}" for device, words in told.items())


def _compiler() -> tuple[str, str]:
    """The compiler's command; and why it does not work, or "" where it does or there is none."""
    from kgnn.ops.backends import native_library

    command, reason = native_library.compiler()
    broken = native_library.load()[1] if command or "CXX" in reason else ""
    return " ".join(command) or reason, broken


def _devices() -> str:
    import torch

    threads = f"CPU, {torch.get_num_threads()} threads"
    return "; ".join([threads, *(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count()))])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not there"
