"""Detect the kind of files, and read them as one table of scored answers."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Union

import polars as pl

from astray.counting.scored import Choices, check_counted_once, check_one, chosen, column_of
from astray.counting.tables import KINDS, is_harness, scores_of_harness, scores_of_table
from astray.errors import ConfigurationError, DataFormatError, EmptyDataError
from astray.files import check_there, suffix_of

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

Source = Union[str, Path, "EvalLog"]


def read_scored(files: Sequence[Source], choices: Choices, *, with_answers: bool) -> tuple[pl.DataFrame, list[str]]:
    """Return the scored answers of files of one kind, each counted once, and notes about them.

    Args:
        files: Inspect logs, judged tables, samples of lm-evaluation-harness, or folders of logs or of such samples.
        choices: what the user said.
        with_answers: whether labels are to be matched with answers.

    Raises:
        ConfigurationError: files of several kinds, the same one twice, or something has to be said.
        DataFormatError: a file is none of these, or a sample stands twice.
        EmptyDataError: there is nothing to count.
    """
    if not files:
        raise EmptyDataError(
            "There is no file to count. Give Inspect logs, judged tables, or samples_*.jsonl of lm-evaluation-harness."
        )
    kinds: dict[str, list[Source]] = {}
    for source in (expanded for file in files for expanded in _expanded(file)):
        kinds.setdefault(_kind(source), []).append(source)
    where = ", ".join(_name(file) for file in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    if len(kinds) > 1:
        raise ConfigurationError(
            "The files are of several kinds: "
            f"{'; '.join(f'{_name(sources[0])} is {kind}' for kind, sources in kinds.items())}. Count each alone."
        )
    [(kind, sources)] = kinds.items()
    for name, used_by in _USED_BY.items():
        if (value := getattr(choices, name)) and kind != used_by:
            raise ConfigurationError(f"--{name} {value} is of no use with {kind}: it is about {used_by}. Leave it out.")
    if kind == _LOG:
        from astray.counting.logs import scores_of_logs

        table, notes = scores_of_logs(sources, choices, with_answers=with_answers)
    else:
        paths = [Path(str(source)) for source in sources]
        _check_given_once(paths)
        parts = [
            scores_of_harness(path, choices)
            if kind == _HARNESS
            else scores_of_table(path, choices, with_answers=with_answers)
            for path in paths
        ]
        table, notes = (
            pl.concat([part for part, _ in parts]),
            list(dict.fromkeys(note for _, part_notes in parts for note in part_notes)),
        )
    if missing := [name for name in choices.columns if column_of(name) not in table.columns]:
        option = "by" if missing[0] in choices.by else "where"
        raise ConfigurationError(
            f"--{option} {missing[0]} is no column of {kind}: such answers have model, task and run."
        )
    table, part_notes = chosen(table, choices)
    notes = [*notes, *part_notes]
    check_one(table, choices, where)
    check_counted_once(table, choices.over_runs)
    return table, notes


_LOG, _HARNESS, _TABLE = "an Inspect log", "a file of lm-evaluation-harness", "a table"
_USED_BY = {"filter": _HARNESS, "question": _TABLE, "answer": _TABLE, "judge": _TABLE, "model": _TABLE}
"""Options that only one kind of file knows."""


def _expanded(file: Source) -> list[Source]:
    """Return the files of a folder: Inspect's logs, or the samples of lm-evaluation-harness."""
    if not isinstance(file, str | Path):
        from inspect_ai.log import EvalLog

        if not isinstance(file, EvalLog):
            raise ConfigurationError(f"{file!r} is no file: give a path, or an Inspect log that was read.")
        return [file]
    if "://" in str(file) or not Path(file).is_dir():
        return [file]
    from astray.measure.inspect_logs import logs_below  # a second that tables need not wait for

    logs: list[Source] = [*logs_below(Path(file))]
    samples: list[Source] = [*sorted(Path(file).rglob("samples_*.jsonl"))]
    if not logs and not samples:
        raise EmptyDataError(
            f"{file} is a folder with no Inspect log and no samples_*.jsonl of lm-evaluation-harness in it. Give the "
            "files of tables by name."
        )
    return [*logs, *samples]


def _kind(file: Source) -> str:
    if not isinstance(file, str | Path) or str(file).endswith(".eval"):
        return _LOG
    path = Path(file)
    ending = suffix_of(path)
    if ending == ".json" and ("://" in str(file) or _is_object(path)):
        return _LOG
    if ending not in KINDS:
        raise DataFormatError(
            f"{file} is no file that can be counted: its name ends in none of .eval, {', '.join(KINDS)} (texts also "
            "with .gz)."
        )
    return _HARNESS if is_harness(path) else _TABLE


def _is_object(path: Path) -> bool:
    """Return whether a JSON file holds an object, as an Inspect log does, and no list of rows."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        # Behind a byte order mark and blanks, which some programs write first.
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def _check_given_once(paths: Sequence[Path]) -> None:
    """Refuse a file that is given twice, and copies of one."""
    sizes: dict[tuple[int, str], Path] = {}
    of_size: dict[int, int] = {}
    for path in paths:
        check_there(path)
        of_size[path.stat().st_size] = of_size.get(path.stat().st_size, 0) + 1
    for path in paths:
        size = path.stat().st_size
        if of_size[size] == 1:
            continue
        with path.open("rb") as file:
            other = sizes.setdefault((size, hashlib.file_digest(file, "sha256").hexdigest()), path)
        if other is not path:
            raise ConfigurationError(
                f"{other} and {path} are the same, so their answers would be counted twice. Give one of them."
            )


def _name(file: Source) -> str:
    return str(file) if isinstance(file, str | Path) else file.location or file.eval.eval_id
