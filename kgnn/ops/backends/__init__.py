"""Who computes: the backends, the table of what each has, and the choice among them."""

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from kgnn.ops.backends import gpu, native, plain, scatter, trial

BACKENDS: dict[str, ModuleType] = {
    "native": native,  # C++, compiled for this processor at first use
    "triton": gpu,  # CUDA; on the CPU in Triton's interpreter, to test it
    "scatter": scatter,  # torch-scatter's segment kernels; only when asked for, since never the fastest
    "torch": plain,  # plain PyTorch, everywhere
}
TABLE: dict[str, tuple[str, ...]] = {  # the first that takes the features at hand computes
    "spmm": ("native", "triton", "torch"),
    "spmm_max": ("native", "triton", "torch"),
    "spmm_max_backward": ("native", "triton", "torch"),
    "sddmm": ("native", "triton", "torch"),
    "edge_softmax": ("native", "triton", "torch"),
    "edge_softmax_backward": ("native", "triton", "torch"),
    "attention": ("native", "triton", "torch"),
    "attention_backward": ("native", "triton", "torch"),
    "transform": ("native", "torch"),  # here and below: sparse and dense products together
    "transform_backward": ("native", "torch"),
    "pair_moments": ("native", "torch"),
    "pair_moments_backward": ("native", "torch"),
    "pair_mlp": ("native", "torch"),
    "pair_mlp_backward": ("native", "torch"),
    "pair_values": ("native", "torch"),
}
AUTOMATIC = "auto"
_asked = os.environ.get("KGNN_BACKEND", AUTOMATIC)


def set_backend(name: str = AUTOMATIC) -> str:
    """Ask for a backend by name, or for the best one again with `"auto"`; `KGNN_BACKEND` does so from outside.

    An operation that the backend does not have, or features that it does not take, go to `torch`.

    Returns:
        What was asked for before.

    Raises:
        ValueError: there is no such backend.
        RuntimeError: it cannot be used on this machine; the message says why.
    """
    global _asked
    if name != AUTOMATIC:
        _named(name)
        reason = _unusable(name)
        if reason:
            raise RuntimeError(f"the backend {name!r} cannot be used: {reason}")
    before, _asked = _asked, name
    return before


def choose(operation: str, features: Tensor) -> Callable[..., Any]:
    """Return the function that computes `operation` on such features."""
    return getattr(BACKENDS[name_of(operation, features.device, features.dtype)], operation)


def name_of(operation: str, device: str | torch.device, dtype: torch.dtype) -> str:
    """Return the name of the backend of an operation for features on a device, of a type.

    Triton's kernels are tried first, once a device and type (`trial.py`)."""
    device = torch.device(device)
    if _asked == AUTOMATIC:
        candidates = tuple(
            name for name in TABLE[operation] if (name, device.type) != ("triton", "cpu")
        )  # too slow unasked
    else:
        _named(_asked)
        candidates = (_asked, "torch") if hasattr(BACKENDS[_asked], operation) else ("torch",)
    usable = (name for name in candidates if not BACKENDS[name].missing(device.type, dtype))
    return next(name for name in usable if name != "triton" or not trial.fault(operation, device, dtype))


def describe() -> str:
    """Return which backend computes what on this machine, and why the others do not.

    Compiles the CPU kernels, and tries the CUDA kernels, if that has not been done yet.
    """
    lines = [f"asked for: {_asked} (kgnn.ops.set_backend, KGNN_BACKEND)"]
    for device in ("cpu", f"cuda:{torch.cuda.current_device()}") if torch.cuda.is_available() else ("cpu",):
        for dtype in (torch.float32, torch.bfloat16):
            used = {operation: name_of(operation, device, dtype) for operation in TABLE}
            by_name = {name: [o for o in TABLE if used[o] == name] for name in dict.fromkeys(used.values())}
            parts = [name if len(by_name) == 1 else f"{name} ({', '.join(o)})" for name, o in by_name.items()]
            lines.append(f"{device}, {str(dtype).removeprefix('torch.')}: {'; '.join(parts)}")
    for name, module in BACKENDS.items():
        lines.append(f"{name}: {_unusable(name) or module.about()}")
    lines += [f"replaced by torch: {line}" for line in trial.faults()]
    return "\n".join(lines)


def _unusable(name: str) -> str:
    """Why a backend can be used nowhere on this machine, or ""."""
    reasons = {device: BACKENDS[name].missing(device, torch.float32) for device in ("cpu", "cuda")}
    return reasons["cuda" if name == "triton" else "cpu"] if all(reasons.values()) else ""


def _named(name: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"there is no backend {name!r}; there are {', '.join(BACKENDS)} and {AUTOMATIC}")
