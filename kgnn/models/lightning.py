"""What is asked of Lightning: train, keep the best epoch, end the step when told to stop, go on where it stopped."""

from __future__ import annotations

import copy
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from torch import Tensor, nn

from kgnn.errors import InputError
from kgnn.files import existing_file
from kgnn.models.epochs import Run, check_epochs, repeatable, stop_again
from kgnn.parts import check_options, options_of

logger = logging.getLogger("kgnn")

QUIET = (  # what Lightning says of every fit and nobody can act on
    ".*LeafSpec.*",  # Lightning 2.6 calls a function that PyTorch 2.13 deprecates
    ".*You defined a `validation_step` but have no.*",
    ".*does not have many workers.*",  # the cells are read in this process
    ".*`IterableDataset` has `__len__` defined.*",
    ".*Checkpoint directory .* exists and is not empty.*",
)


def checkpoints(folder: str | Path) -> ModelCheckpoint:
    """The callback that writes `folder/last.ckpt` at the end of every epoch, for `ckpt_path=`."""
    return ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)


def run_trainer(
    task: pl.LightningModule,
    batches: Any,
    validation: Any = None,
    *,
    monitor: str,
    max_epochs: int,
    patience: int | None = None,
    callbacks: Iterable[Callback] = (),
    ckpt_path: str | Path | None = None,
    defaults: Mapping[str, Any],
    own: Iterable[str] = (),
    **trainer: Any,
) -> Run:
    """Train `task.network`; with validation leave the weights of the epoch with the smallest `monitor`.

    Args:
        batches, validation: loaders; the `skip(n)` of their sampler or data set is called to go on after n epochs.
        patience: stop after so many epochs without a better one; None: never.
        ckpt_path: go on from this checkpoint, written at the end of an epoch.
        defaults: options of the trainer unless `trainer` gives them.
        own: options that the caller takes itself, for the message about an unknown one.

    Raises:
        InputError: options that the trainer does not have or cannot follow, a checkpoint that does not fit, training
            that diverged.
    """
    check_options(trainer, [*own, *options_of(pl.Trainer)], "fit")
    check_epochs(max_epochs)
    best, stop, resume = KeepBest(monitor), StopOnSignal(), Resume()
    callbacks = [*callbacks, stop, resume]
    if validation is not None:
        callbacks = [
            best,
            Patience(monitor, patience=max_epochs + 1 if patience is None else patience, check_finite=True),
            *callbacks,
        ]
    options = {
        "logger": False,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "enable_model_summary": False,
        "enable_progress_bar": sys.stderr.isatty(),
        "num_sanity_val_steps": 0,
    }
    with warnings.catch_warnings(), stop.listening():
        for message in QUIET:
            warnings.filterwarnings("ignore", message)
        try:
            runner = pl.Trainer(max_epochs=max_epochs, callbacks=callbacks, **(options | dict(defaults) | trainer))
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise InputError(f"lightning.pytorch.Trainer: {error}") from None
        if ckpt_path is not None:
            skip_epochs(batches, epochs_done(ckpt_path))
        on_cuda = runner.strategy.root_device.type == "cuda"
        try:
            with repeatable(on_cuda and trainer.get("deterministic") is not False):
                runner.fit(task, batches, validation, ckpt_path=ckpt_path, weights_only=True)
        except MisconfigurationException as error:
            raise InputError(f"lightning.pytorch.Trainer: {error}") from None
        except (Stopped, SIGTERMException):
            if not runner.global_step:
                stop.again()
            best.put_back(task)
        except Exception as error:  # what a checkpoint holds that does not fit shows itself in many ways
            begun = runner.state.stage is not None and runner.global_step
            if ckpt_path is None or begun or isinstance(error, InputError):
                raise
            what = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{ckpt_path}: the checkpoint is of another network or training ({what})") from None
    try:
        check_weights(task.network)
    except InputError:
        if stop.signal is not None:
            stop.again()
        raise
    return Run(best.history, stop.signal)


def epochs_done(path: str | Path) -> int:
    """How many epochs a checkpoint has behind it; raises `InputError` when it is none of the end of an epoch."""
    path = existing_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        progress = state["loops"]["fit_loop"]["epoch_progress"]["current"]
    except Exception as error:  # torch and pickle raise many kinds for files that are no checkpoints
        what = (str(error).splitlines() or [""])[0]
        raise InputError(f"{path}: no checkpoint that can be read ({type(error).__name__}: {what})") from None
    if progress["processed"] < progress["ready"]:
        raise InputError(f"{path}: was written within an epoch; give the checkpoint of the end of one")
    return int(progress["processed"])


def skip_epochs(loader: Any, n: int) -> None:
    """Bring the order of the batches to where it is after n epochs."""
    for name in ("sampler", "dataset"):
        part: Any = getattr(loader, name, None)
        if hasattr(part, "skip"):
            part.skip(n)


def check_weights(network: nn.Module) -> None:
    """Refuse weights that are not finite."""
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"training diverged: {name} holds NaN or infinite values; lower learning_rate=")


class KeepBest(Callback):
    """Hold the network's state of the best validation epoch in memory and put it back at the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.score, self.epoch = float("inf"), -1
        self.history: list[float] = []
        self.state: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        score = float(trainer.callback_metrics[self.name])
        self.history.append(score)
        if score < self.score:
            self.score, self.epoch = score, trainer.current_epoch
            self.state = copy.deepcopy(pl_module.network.state_dict())

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.put_back(pl_module)

    def put_back(self, pl_module: pl.LightningModule) -> None:
        if self.state:
            pl_module.network.load_state_dict(self.state)
            logger.info("best epoch %d of %d, %s %.5f", self.epoch + 1, len(self.history), self.name, self.score)

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "epoch": self.epoch, "history": self.history, "state": self.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)


class Patience(EarlyStopping):
    """Early stopping that also holds for a training that had stopped already when it was saved."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class Resume(Callback):
    """Keep the random numbers with a checkpoint, so that what follows it is the same to the last bit."""

    def __init__(self) -> None:
        self.random: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"random": torch.get_rng_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.random = state_dict["random"]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, _: int) -> None:
        if self.random is not None:
            torch.set_rng_state(self.random.cpu())
            torch.empty((), dtype=torch.int64).random_()  # the loader draws one number when an epoch begins
            self.random = None


class Stopped(BaseException):
    """Leaves the training loop at the end of a step."""


class StopOnSignal(Callback):
    """Ctrl-C and SIGTERM end the step instead of the process; a second one ends at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.handlers: dict[int, Any] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the two signals, in the main thread, and give them back."""
        if threading.current_thread() is threading.main_thread():
            self.handlers = {number: signal.signal(number, self.note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            self.give_back()

    def give_back(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def note(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        self.give_back()
        logger.warning("ending the step; what was learned is kept")

    def again(self) -> None:
        stop_again(self.signal or signal.SIGTERM)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.signal is not None:
            raise Stopped

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.on_train_batch_end(trainer)
