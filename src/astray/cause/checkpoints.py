"""Resumption of training runs: complete checkpoints, logs that agree with them, and the run's identity.

A checkpoint is valid only once it is marked, after its last file was written; the mark records each file's size and
hash, so that a checkpoint damaged since (power loss, a full disk) costs that checkpoint and not the run: the one before
it is kept in a folder `before`. A resumed run deletes the invalid ones, and refuses one of another run, whose identity
each checkpoint holds. Logs are JSON lines; lines written after the checkpoint are dropped too, since their steps are
repeated, and a checkpoint that the log does not lead to is not used. The content of a checkpoint (weights, optimizer,
schedule, random states, position in the data) is left to transformers' Trainer.
"""

import json
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, JsonValue, TypeAdapter, ValidationError

from astray.errors import ConfigurationError, StoreError
from astray.subjects.identity import file_digest

Line = dict[str, int | float]
"""One line of a log: the step, and the values measured there."""


def _with_step(line: Line) -> Line:
    if "step" not in line:
        raise ValueError("it names no step")
    return line


_LINE = TypeAdapter(Annotated[Line, AfterValidator(_with_step)], config=ConfigDict(strict=True))
_RUN = TypeAdapter(dict[str, JsonValue])
_MARK = "complete"
_IDENTITY = "run.json"
_BEFORE = "before"
_STATE = "trainer_state.json"
_STEP = re.compile(r"checkpoint-[0-9]+")
CHECKPOINTS = "checkpoints"
"""Folder of a run with its checkpoints."""


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
    if differing := _differing(identity, _read_identity(file)):
        raise ConfigurationError(
            f"{folder} holds another training run: it differs in {differing}. Name another folder, or "
            "delete this one to train again."
        )
    return True


def _read_identity(file: Path) -> dict[str, JsonValue]:
    """Return what a file says of the run that lives beside it.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        return _RUN.validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise StoreError(
            f"{file}, which says what run lives there, cannot be read: {error}. Name another folder, or delete this "
            "one."
        ) from error


def _differing(one: Mapping[str, JsonValue], other: Mapping[str, JsonValue]) -> str:
    """Return the names of the parts in which two runs differ; "" for one and the same."""
    return ", ".join(sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key)))


def check_result(folder: Path, identity: Mapping[str, JsonValue], result: Path) -> bool:
    """Check a folder as `check_claim` does, and that an existing result belongs to this run.

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
        StoreError: the folder cannot be written, or holds a file where checkpoints are kept.
        ConfigurationError: it has checkpoints, and nothing says of which run.
    """
    for path in (folder / CHECKPOINTS, *(folder / CHECKPOINTS).glob("checkpoint-*")):
        if path.exists() and not path.is_dir():
            raise StoreError(f"{path} is no folder, and checkpoints are kept in one of that name. Move it elsewhere.")
    if not (folder / _IDENTITY).is_file() and (found := _by_step(folder / CHECKPOINTS)):
        raise ConfigurationError(
            f"{found[-1]} is there, and {folder / _IDENTITY}, which says of which run it is, is not. Name another folder, "
            f"or delete {folder / CHECKPOINTS} to train from the beginning."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / _IDENTITY, json.dumps(identity, indent=1))
    except OSError as error:
        raise StoreError(
            f"The run cannot be kept in {folder}: {error}. Check permissions and free space, or name another folder."
        ) from error


def release(folder: Path) -> None:
    """Give back a folder whose run was refused, unless steps of it are kept there."""
    if not _by_step(folder / CHECKPOINTS):
        (folder / _IDENTITY).unlink(missing_ok=True)


def mark_complete(checkpoint: Path) -> None:
    """Mark a checkpoint as complete, once all its files are written; of the earlier ones the last is moved into the
    folder `before`, and the others are deleted."""
    # In this order: there is always a complete checkpoint.
    if (identity := checkpoint.parent.parent / _IDENTITY).is_file():
        shutil.copyfile(identity, checkpoint / _IDENTITY)
    files = {path.relative_to(checkpoint).as_posix(): file_digest(path) for path in _files(checkpoint)}
    write_whole(checkpoint / _MARK, json.dumps(files, indent=1))
    earlier = [other for other in _by_step(checkpoint.parent) if step_of(other) < step_of(checkpoint)]
    for other in earlier[:-1]:
        _delete(other)
    for other in earlier[-1:]:
        (checkpoint.parent / _BEFORE).mkdir(exist_ok=True)
        other.rename(checkpoint.parent / _BEFORE / other.name)


def last_complete(folder: Path) -> Path | None:
    """Return the whole checkpoint with the most steps, or None, and delete unmarked and damaged ones, with a warning.

    Args:
        folder: folder that contains folders named `checkpoint-<step>`, the one before the last in `before`; the run's
            identity is beside it.

    Raises:
        ConfigurationError: that checkpoint is of another run.
        StoreError: a record of a run cannot be read.
    """
    for checkpoint in reversed(_by_step(folder)):
        damage = _damage(checkpoint)
        if damage is None:
            _check_own(checkpoint, folder.parent / _IDENTITY)
            return checkpoint
        if damage:
            warnings.warn(
                f"The checkpoint {checkpoint} is damaged ({damage}): training goes on from the one before it.",
                stacklevel=2,
            )
        _delete(checkpoint)
    return None


def _delete(checkpoint: Path) -> None:
    """Delete a checkpoint; of one that lies elsewhere the link to it."""
    if checkpoint.is_symlink():
        checkpoint.unlink()
    else:
        shutil.rmtree(checkpoint)


def _by_step(folder: Path) -> list[Path]:
    """Return the checkpoints of a run; earlier versions kept the last two side by side."""
    found = [*folder.glob("checkpoint-*"), *folder.glob(f"{_BEFORE}/checkpoint-*")]
    return sorted((each for each in found if _STEP.fullmatch(each.name)), key=step_of)


def _check_own(checkpoint: Path, run: Path) -> None:
    """Refuse a checkpoint that says it is of another run than that which lives in its folder."""
    own = checkpoint / _IDENTITY  # earlier versions wrote none
    if not (own.is_file() and run.is_file()):
        return
    if differing := _differing(_read_identity(own), _read_identity(run)):
        raise ConfigurationError(
            f"{checkpoint} is a checkpoint of another run: it differs in {differing}. Delete it to train from the "
            "beginning, or name the folder of its own run."
        )


def _damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint: None for a whole one, "" for one that was never marked."""
    mark = checkpoint / _MARK
    if not mark.is_file():
        return ""
    text = mark.read_bytes()
    if not text:  # marked by an earlier version, which recorded no files
        empty = next((path.name for path in _files(checkpoint) if path.stat().st_size == 0), None)
        return None if empty is None else f"{empty} is empty"
    try:
        files = json.loads(text)
    except (ValueError, RecursionError):
        return f"{_MARK} is no JSON"
    if not isinstance(files, dict) or not files:
        return f"{_MARK} names no files"
    for name, digest in files.items():
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if file_digest(checkpoint / name) != digest:
            return f"{name} is not as it was written"
    state = checkpoint / _STATE
    try:
        step = json.loads(state.read_bytes())["global_step"] if state.is_file() else step_of(checkpoint)
    except (ValueError, RecursionError, KeyError, TypeError):
        return "its state cannot be read"
    return None if step == step_of(checkpoint) else f"its state is of step {step}"


def _files(checkpoint: Path) -> list[Path]:
    return sorted(
        path for path in checkpoint.rglob("*") if path.is_file() and path.name not in (_MARK, f".{_MARK}.unfinished")
    )


def step_of(checkpoint: Path) -> int:
    """Return the number of optimizer steps done at a checkpoint."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def append_line(log: Path, line: Line) -> None:
    """Append one JSON line to a log."""
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")


def read_lines(log: Path) -> list[Line]:
    """Return the lines of a log, without a last line that was cut off by a kill.

    Raises:
        StoreError: another line is damaged.
    """
    # A complete line ends with a newline, so what follows the last newline is empty or incomplete.
    texts = log.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if log.is_file() else []
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(_LINE.validate_json(text))
        except ValidationError as error:
            raise StoreError(
                f"{log}, line {number}, is damaged: {text[:60]!r}. What the run did at that step is not known: delete "
                f"{log.parent} to train again."
            ) from error
    return lines


def leads_to(log: Path, step: int) -> bool:
    """Return whether a log has each step up to this one, once and in order."""
    return [line["step"] for line in read_lines(log)][:step] == [*range(1, step + 1)]


def keep_until(log: Path, step: int | None) -> None:
    """Drop the lines of later steps from a log, all of them if there is no checkpoint."""
    text = "".join(json.dumps(line) + "\n" for line in read_lines(log) if step is not None and line["step"] <= step)
    if not log.is_file() or log.read_text() != text:
        write_whole(log, text)


def write_whole(path: Path, text: str) -> None:
    """Write beside the target and rename, so that the target is always complete, old or new."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text)
    unfinished.replace(path)
