"""Resumption of training runs: complete checkpoints, logs that agree with them, and the run's identity.

A checkpoint is valid only once it is marked, after its last file was written; a resumed run deletes the others. Logs
are JSON lines; lines written after the checkpoint are dropped too, since their steps are repeated. The content of a
checkpoint (weights, optimizer, schedule, random states, position in the data) is left to transformers' Trainer.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from astray.errors import ConfigurationError, StoreError

Line = dict[str, int | float]
"""One line of a log: the step, and the values measured there."""

_MARK = "complete"
_IDENTITY = "run.json"


def check_claim(folder: Path, identity: Mapping[str, JsonValue]) -> bool:
    """Check that a folder is free or holds this run, and return whether it holds it.

    Args:
        folder: the run's folder; need not exist.
        identity: everything that determines the run's result: base, data set, settings.

    Raises:
        ConfigurationError: the folder holds another run.
        StoreError: its record of the run cannot be read.
    """
    file = folder / _IDENTITY
    if not file.is_file():
        return False
    try:
        there = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"{file}, which says what run lives there, cannot be read: {error}. Name another folder, or delete this one.") from error
    differing = sorted(key for key in identity.keys() | there.keys() if identity.get(key) != there.get(key))
    if differing:
        raise ConfigurationError(
            f"{folder} holds another training run: it differs in {', '.join(differing)}. Name another folder, or delete this one to train again."
        )
    return True


def check_result(folder: Path, identity: Mapping[str, JsonValue], result: Path) -> bool:
    """Check a folder as `check_claim` does, and that an existing result belongs to this run.

    Args:
        folder: the run's folder.
        identity: everything that determines the run's result.
        result: folder of the run's result.

    Raises:
        ConfigurationError: the folder holds another run, or a result without a run.
        StoreError: its record of the run cannot be read.
    """
    claimed = check_claim(folder, identity)
    if result.exists() and not claimed:
        raise ConfigurationError(f"{result} is there already, and no run of this folder made it. Name another folder.")
    return claimed


def claim(folder: Path, identity: Mapping[str, JsonValue]) -> None:
    """Claim a folder for one run by recording the run's identity in it.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / _IDENTITY, json.dumps(identity, indent=1))
    except OSError as error:
        raise StoreError(f"The run cannot be kept in {folder}: {error}. Check permissions and free space, or name another folder.") from error


def mark_complete(checkpoint: Path) -> None:
    """Mark a checkpoint as complete, once all its files are written, and delete earlier ones."""
    # In this order: there is always a complete checkpoint.
    (checkpoint / _MARK).touch()
    for earlier in checkpoint.parent.glob("checkpoint-*"):
        if earlier != checkpoint:
            shutil.rmtree(earlier)


def last_complete(folder: Path) -> Path | None:
    """Return the marked checkpoint with the most steps, or None, and delete unmarked ones.

    Args:
        folder: folder that contains folders named `checkpoint-<step>`.
    """
    complete = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / _MARK).is_file():
            complete.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(complete, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """Return the number of optimizer steps done at a checkpoint."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def append_line(log: Path, line: Line) -> None:
    """Append one JSON line to a log."""
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")


def read_lines(log: Path) -> list[Line]:
    """Return the lines of a log, without a last line that was cut off by a kill."""
    # A complete line ends with a newline, so what follows the last newline is empty or incomplete.
    lines = log.read_text().split("\n")[:-1] if log.is_file() else []
    return [json.loads(line) for line in lines]


def keep_until(log: Path, step: int | None) -> None:
    """Drop the lines of later steps from a log, all of them if there is no checkpoint."""
    kept = [line for line in read_lines(log) if step is not None and line["step"] <= step]
    write_whole(log, "".join(json.dumps(line) + "\n" for line in kept))


def write_whole(path: Path, text: str) -> None:
    """Write beside the target and rename, so that the target is always complete, old or new."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text)
    unfinished.replace(path)
