"""Answer tables of Inspect logs: each sample once, whatever became of it, read a batch at a time so that memory stays
flat.

A log is self-contained: what was asked stands in the metadata of a sample, what was heard beside its output (see
`inspect_driver`), and the verdict in the score called `verdict`. So a log can be read whose evaluation has changed
since, and one made with `--no-score` can be judged afterwards.

Left to others: logs of agentic scenarios (`agentic.table`), and logs of other tools.
"""

import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlparse

import polars as pl
from inspect_ai.log import (
    EvalLog,
    EvalSample,
    EvalSampleSummary,
    list_eval_logs,
    read_eval_log,
    read_eval_log_sample_summaries,
    read_eval_log_samples_by_id,
)

from astray.answers import IDENTITY, answer_table, check_counted_once
from astray.errors import ConfigurationError, DataFormatError, DataNotFoundError, EmptyDataError
from astray.measure.json_logs import any_digits, samples_of_json
from astray.measure.logged_samples import row_of

_BATCH = 500
NOT_NEEDED = frozenset({"events", "attachments", "store", "messages", "events_data", "timelines"})
"""Parts of a sample that tables do not need; leaving them out pays in logs of agents, and takes three times as long in
those of short answers."""

_BEGINNING = re.compile(rb'\s*\{\s*"version":\s*\d+,\s*"status":')
"""How Inspect begins a log in the form .json."""
Log = EvalLog | Path | str
_Item = TypeVar("_Item")


def table_from_log(
    log: Log, *, arm: str = "", seed: int = 0, scorer: str | None = None, kind: str | None = None
) -> pl.DataFrame:
    """Return the answer table of an Inspect log: a row for every sample of every epoch, errored ones included.

    Answers without a score of ours (`--no-score`, another scorer, a judge that broke off) are "not judged yet", so that
    they can be judged.

    Args:
        log: the log, its file (`.eval` or `.json`), or a folder of logs (see `table_from_logs`).
        arm: name of the subject's arm, for the table.
        seed: training seed of the subject, for the table.
        scorer: name of the score to take where the log was scored several times.
        kind: kind of the evaluation that the log has to be of; by default any that asks in words.

    Raises:
        DataNotFoundError: there is no such file.
        DataFormatError: the log is damaged, of another kind, or holds several verdicts on a sample.
        EmptyDataError: no sample was finished.
    """
    return table_from_logs([log], arm=arm, seed=seed, scorer=scorer, kind=kind)


def table_from_logs(
    logs: Iterable[Log], *, arm: str = "", seed: int = 0, scorer: str | None = None, kind: str | None = None
) -> pl.DataFrame:
    """Return the answer table of several logs together, each sample once.

    Of a run and its retries, which share Inspect's `task_id`, the newest log that holds a sample counts, as Inspect
    itself has it.

    Args:
        logs: logs, their files, or folders of them.
        arm: as for `table_from_log`, and so are the others.
        seed: see there.
        scorer: see there.
        kind: see there.

    Raises:
        ConfigurationError: a log is given twice, or a log and a copy of it that was scored or edited anew.
        DataNotFoundError, DataFormatError: as for `table_from_log`; or two runs that are no retries of each other hold
            the same sample.
        EmptyDataError: there is no log, or no finished sample.
    """

    def answers(log: Log, header: EvalLog) -> pl.DataFrame:
        evaluation = _evaluation(header, kind)
        whose = {"arm": arm, "seed": seed, "subject": header.eval.model, "evaluation": evaluation}
        rows = (whose | row_of(sample, log_name(header), scorer) for sample in samples_of(log, header))
        return pl.concat([answer_table([]), *(answer_table(batch) for batch in _batches(rows))])

    return join_logs(logs, answers)


def join_logs(logs: Iterable[Log], answers: Callable[[Log, EvalLog], pl.DataFrame]) -> pl.DataFrame:
    """Return the answers of several logs together, each sample once; see `table_from_logs`.

    Args:
        logs: logs, their files, or folders of them.
        answers: gives the answer table of one log and its header.
    """
    headed = [(file, read_header(file)) for log in logs for file in _files(log)]
    headers = [header for _, header in headed]
    _check_given_once(headers)
    runs: dict[str, list[tuple[Log, EvalLog]]] = {}
    for log, header in sorted(headed, key=lambda each: each[1].eval.created, reverse=True):
        runs.setdefault(header.eval.task_id or log_name(header), []).append((log, header))
    tables = []
    for attempts in runs.values():
        parts = [answers(log, header) for log, header in attempts]
        for part in parts:
            check_counted_once(part)
        # The newest log stands first: a retry holds what its run had finished, and what it did again.
        tables.append(pl.concat(parts).unique(IDENTITY, keep="first", maintain_order=True))
        _warn_incomplete([header for _, header in attempts], len(tables[-1]))
    table = pl.concat(tables)
    if table.is_empty():
        held = "; ".join(
            f"{log_name(each)}, whose run is {each.status}{f': {each.error.message}' if each.error else ''}"
            for each in headers
        )
        raise EmptyDataError(f"No sample was finished in {held}.")
    check_counted_once(table)
    return table


def read_header(log: Log) -> EvalLog:
    """Return what a log says of its run, without its samples.

    Raises:
        DataNotFoundError: there is no such file.
        DataFormatError: it cannot be read as an Inspect log.
    """
    if isinstance(log, EvalLog):
        return log
    path = _local(str(log))
    if path is not None and not path.is_file():
        there = sorted(file.name for file in path.parent.glob("*.eval"))[:10] if path.parent.is_dir() else []
        raise DataNotFoundError(f"There is no log {path}. Logs in its folder: {', '.join(there) or 'none'}.")
    try:
        with any_digits():
            return read_eval_log(str(log), header_only=True)
    # Inspect raises whatever its libraries do at a damaged file.
    except Exception as error:
        raise DataFormatError(
            f"{log} cannot be read as an Inspect log ({type(error).__name__}: {error}). Give a whole .eval or .json "
            "log; one that was cut off while it was written can be saved with `inspect log recover`, else leave it "
            "out or run it again."
        ) from error


def read_summaries(location: str) -> list[EvalSampleSummary]:
    """Return the summaries that a log keeps beside its samples.

    Raises:
        DataFormatError: they are damaged.
    """
    try:
        return read_eval_log_sample_summaries(location)
    except Exception as error:  # whatever Inspect's libraries raise
        raise DataFormatError(
            f"{location} has damaged summaries of its samples ({type(error).__name__}: {error}). Copy the log again, or save "
            "what it has with `inspect log recover`."
        ) from error


def log_name(header: EvalLog) -> str:
    """Return the name of a log's file, or its id where it was never written."""
    return header.location.rpartition("/")[2] or header.eval.eval_id


def samples_of(log: Log, header: EvalLog, without: Collection[str] = ()) -> Iterator[EvalSample]:
    """Yield the finished samples of a log, at most a few hundred of them in memory at a time.

    Args:
        log: the log or its file.
        header: its header.
        without: parts of a sample that are not read.
    """
    if isinstance(log, EvalLog) and log.samples is not None:
        yield from log.samples
        return
    location = header.location if isinstance(log, EvalLog) else str(log)
    if not location:
        raise DataFormatError("This log has a header and no samples; read it without header_only, or give its file.")
    if location.endswith(".json"):
        yield from samples_of_json(location, without)
        return
    epochs = range(1, (header.eval.config.epochs or 1) + 1)
    named = header.eval.dataset.sample_ids
    ids = (
        ((id, epoch) for id in named for epoch in epochs)
        if named
        else ((summary.id, summary.epoch) for summary in read_summaries(location))
    )
    yield from samples_with(location, ids, without)


def samples_with(
    location: str, ids: Iterable[tuple[str | int, int]], without: Collection[str] = ()
) -> Iterator[EvalSample]:
    """Yield the samples of a log in the form .eval with these ids and epochs, without those that are not in it."""
    for batch in _batches(ids):
        yield from _read(location, batch, without)


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    remaining = iter(items)
    return iter(lambda: list(islice(remaining, _BATCH)), [])


def _read(location: str, ids: Sequence[tuple[str | int, int]], without: Collection[str]) -> list[EvalSample]:
    """Return these samples, without those that are not in the log."""
    try:
        return read_eval_log_samples_by_id(location, ids, exclude_fields=set(without) or None)
    except IndexError:
        # Of a run that was cut off some are missing, and Inspect says no more: halves are tried until it is clear
        # which.
        half = len(ids) // 2
        return [*_read(location, ids[:half], without), *_read(location, ids[half:], without)] if half else []
    except Exception as error:
        raise DataFormatError(
            f"{location} is damaged: its samples cannot be read ({type(error).__name__}: {error}). Run it again."
        ) from error


def _files(log: Log) -> list[Log]:
    path = None if isinstance(log, EvalLog) else _local(str(log))
    if path is None or not path.is_dir():
        return [log]
    there = logs_below(path)
    if not there:
        raise EmptyDataError(f"There is no Inspect log in {path} or below it.")
    return list(there)


def logs_below(folder: Path) -> list[str]:
    """Return the logs in a folder and below it; Inspect lists one in the form .json only under the name that it gave."""
    there = [info.name for info in list_eval_logs(str(folder))]
    known = {path.resolve() for name in there if (path := _local(name)) is not None}
    others = (path for path in sorted(folder.rglob("*.json")) if path.is_file() and path.resolve() not in known)
    return [*there, *(str(path) for path in others if _begins_as_log(path))]


def _begins_as_log(path: Path) -> bool:
    with path.open("rb") as file:
        return _BEGINNING.match(file.read(256)) is not None


def _local(location: str) -> Path | None:
    """Return the path of a log on this machine, None for one elsewhere (s3 and the like)."""
    scheme = urlparse(location).scheme
    return Path(unquote(urlparse(location).path)) if scheme == "file" else None if "://" in location else Path(location)


def _check_given_once(headers: Sequence[EvalLog]) -> None:
    seen: dict[str, EvalLog] = {}
    for header in headers:
        other = seen.setdefault(header.eval.eval_id or log_name(header), header)
        if other is not header:
            both = sorted([other.location or log_name(other), header.location or log_name(header)])
            raise ConfigurationError(
                f"{both[0]} and {both[1]} are one log, given twice, or copies of it that were converted, edited or "
                "scored anew. Give the one that counts."
            )


def _evaluation(header: EvalLog, kind: str | None) -> str:
    """Return the name of a log's evaluation, if it is one that asks in words."""
    told = header.eval.metadata or {}
    if "evaluation" not in told or "grid" in told:
        what = "its samples are acts: read it with `Agentic().read`" if "grid" in told else _contents(header)
        raise DataFormatError(
            f"{log_name(header)} is no log of an evaluation that asks in words: it is of the task "
            f"{header.eval.task!r}, {what}."
        )
    if kind is not None and told.get("kind", kind) != kind:
        raise DataFormatError(
            f"{log_name(header)} is a log of the evaluation {told['evaluation']!r}, of kind {told['kind']!r} and not "
            f"{kind!r}."
        )
    return str(told["evaluation"])


def _contents(header: EvalLog) -> str:
    """Return what a log of another task holds, in words."""
    scorers = [scorer.name for scorer in header.eval.scorers or []]
    return (
        f"scored by {', '.join(scorers) or 'nothing'}, with {header.eval.dataset.samples} samples that name no item "
        "of ours"
    )


def _warn_incomplete(headers: Sequence[EvalLog], found: int) -> None:
    """Warn of a run that was cut off: the samples that were never asked are in no row."""
    newest = headers[0]
    asked = len(newest.eval.dataset.sample_ids or []) * (newest.eval.config.epochs or 1)
    if newest.status != "success" and found < asked:
        warnings.warn(
            f"{log_name(newest)} is a run that is {newest.status}: {found:,} of its {asked:,} samples are there, and "
            "a rate is about these alone. Finish it with `inspect eval-retry`, and read both logs with "
            "`table_from_logs`.",
            stacklevel=3,
        )
