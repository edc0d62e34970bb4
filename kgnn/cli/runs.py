"""A training's folder: what it was asked for, its checkpoints, and at the end the model."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copytree
from typing import Any

import typer

from kgnn.cli.common import console, write_result
from kgnn.errors import InputError, OutputError
from kgnn.files import content_of, looked_for, write_json
from kgnn.folders import CHECKPOINTS, TRAINING, check_folder, new_folder, read_sealed, sealed
from kgnn.models.storage import KIND

LAST = "last.ckpt"  # what `checkpoints` writes
Start = Callable[[], dict[str, Any]]  # writes down what was asked for; the options that write and read checkpoints


def run(
    context: typer.Context,
    train: Callable[[dict[str, Any], Path, Start], dict[str, Any]],
    asked: dict[str, Any],
    inputs: Sequence[str],
    out: Path | None,
    resume: Path | None,
    json: Path | None,
) -> None:
    """Train as asked into `out`, or go on with what the folder `resume` was asked for; write the result as JSON.

    Args:
        context: of the command. train: called with what was asked for, the folder, and what is to be called before the
            first step.
        asked: everything that the result depends on; `data` among it. inputs: names of the files in it.

    Raises:
        InputError: neither data and folder nor a folder to go on with; no unfinished training there; data that changed.
    """
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    if given - {"resume", "json"} if resume is not None else not {"data", "out"} <= given:
        raise InputError("give the data and --out; or --resume with the folder of an unfinished training, nothing else")
    folder: Path = resume or out  # type: ignore[assignment]
    if resume is not None:
        with looked_for(folder):
            if not (folder / TRAINING).is_file():
                raise InputError(f"{folder}: no unfinished training there (no {TRAINING}); has it ended?")
        saved = read_sealed(folder / TRAINING)
        asked, content = saved["asked"], saved["content"]
        check_folder(folder, KIND)
    else:
        asked |= {name: str(Path(asked[name]).resolve()) for name in inputs if asked[name]}
    found = content_of(asked[name] for name in inputs if asked[name])
    if resume is not None and found != content:
        raise InputError(f"{folder}: data or graph changed since that training began; start it anew")

    def start() -> dict[str, Any]:
        from kgnn.models import checkpoints

        last = folder / CHECKPOINTS / LAST
        if resume is None:
            folder.mkdir(parents=True, exist_ok=True)
            forget(folder)
            try:
                write_json(folder / TRAINING, sealed({"asked": asked, "content": found}))
            except OutputError:
                _remove_if_empty(folder)
                raise
        return {"callbacks": [checkpoints(folder / CHECKPOINTS)], "ckpt_path": last if last.is_file() else None}

    write_result(json, train(asked, folder, start))


def forget(folder: Path) -> None:
    """Remove what an unfinished training keeps."""
    if (folder / TRAINING).is_file():
        for checkpoint in (folder / CHECKPOINTS).glob("*.ckpt"):
            checkpoint.unlink()
        _remove_if_empty(folder / CHECKPOINTS)
        (folder / TRAINING).unlink()


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def stoppable(out: Path, write: Callable[[Path], None], learned: Callable[[], bool], command: str) -> Iterator[None]:
    """Write the model when the block ends, or when it is stopped by Ctrl-C or SIGTERM: then say how to go on.

    A stopped training ends with exit status 130 or 143; its folder keeps the checkpoints beside the best model so far.
    One that fails keeps them too, and where there are none leaves nothing behind.
    """
    status = 0
    try:
        yield
    except KeyboardInterrupt:
        status = 130
    except SystemExit as end:
        status = int(end.code or 0)
    except Exception:
        if (out / CHECKPOINTS / LAST).is_file():
            console.print(f"failed; its last epoch is kept. Go on with: kgnn {command} --resume {out}", soft_wrap=True)
        else:
            forget(out)
            _remove_if_empty(out)
        raise
    if learned():
        with new_folder(out, KIND) as folder:
            write(folder)
            if status and (out / TRAINING).is_file():
                write_json(folder / TRAINING, read_sealed(out / TRAINING))
                if (out / CHECKPOINTS).is_dir():
                    copytree(out / CHECKPOINTS, folder / CHECKPOINTS)
    if status:
        kept = "what was learned so far is in" if learned() else "nothing was learned yet; what was asked for is in"
        console.print(f"stopped; {kept} {out}. Go on with: kgnn {command} --resume {out}", soft_wrap=True)
        raise typer.Exit(status)
