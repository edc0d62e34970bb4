"""What all trainings have in common, without Lightning, which takes seconds to import."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from kgnn.errors import InputError
from kgnn.parts import check_number


class Run(NamedTuple):
    """What became of a training: score of each epoch; number of the signal that ended it early."""

    history: list[float]
    signal: int | None


@contextmanager
def repeatable(on_cuda: bool) -> Iterator[None]:
    """Let CUDA add in one order where PyTorch knows how, as the CPU does anyway: a seed gives the same bits again.

    PyTorch warns of an operation of which it does not know how. Afterwards all is as it was; who chose PyTorch's
    deterministic algorithms already is left alone.
    """
    if not on_cuda or torch.are_deterministic_algorithms_enabled():
        yield
        return
    with warnings.catch_warnings():
        # older versions say so of cuBLAS, which does add in one order
        warnings.filterwarnings("ignore", ".*it uses CuBLAS", UserWarning)
        try:
            torch.use_deterministic_algorithms(True, warn_only=True)
            yield
        finally:
            torch.use_deterministic_algorithms(False)


def training_device(accelerator: str) -> torch.device:
    """Where a training without Lightning's loop runs; raises `InputError` for an accelerator that is not there."""
    from lightning.fabric import Fabric
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return Fabric(accelerator=accelerator, devices=1).device
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise InputError(f"accelerator={accelerator!r}: {error}") from None


def check_epochs(max_epochs: int) -> int:
    """Return how many epochs there may be at most, at least 1."""
    check_number(max_epochs, "max_epochs", 1, whole=True)
    return max_epochs


def stop_again(signum: int) -> None:
    """End as the signal asks, once what could be saved is saved: KeyboardInterrupt, or exit status 143."""
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + signum)
