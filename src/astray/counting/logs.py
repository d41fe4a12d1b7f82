"""Scored answers of Inspect logs of any task: of the summaries that Inspect keeps beside the samples, so that a log of
a gigabyte is read in seconds.

The whole samples are read, some at a time, where labels are matched with answers or samples were invalidated, and to
compare them with their summaries.
"""

import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence

import polars as pl
from inspect_ai.log import EvalLog, EvalSample, EvalSampleSummary
from inspect_ai.model import ChatMessage
from inspect_ai.scorer import Score

from astray.answers import ANSWER_SCHEMA, IDENTITY
from astray.counting.scored import Choices, choose, score_text, scored_answers, text_hash
from astray.errors import ConfigurationError, DataFormatError
from astray.measure.inspect_logs import NOT_NEEDED, Log, join_logs, log_name, read_summaries, samples_of, samples_with
from astray.measure.json_logs import samples_of_json

_LONG = 40
_LARGE_LOG = 2**26
"""Size of a log in bytes up to which each summary is compared with its sample; of a larger one `_SAMPLES_COMPARED` are."""
_SAMPLES_COMPARED = 500


def scores_of_logs(logs: Sequence[Log], choices: Choices, *, with_answers: bool) -> tuple[pl.DataFrame, list[str]]:
    """Return the scored answers of Inspect logs, those of retries once, and notes about them.

    Args:
        logs: logs, their files, or folders of them.
        choices: what the user said.
        with_answers: whether labels are to be matched with answers.

    Raises:
        ConfigurationError: a log is given twice, or has several scores and none is named.
        UnknownNameError: there is no such score.
        DataNotFoundError, DataFormatError, EmptyDataError: as for `inspect_logs.join_logs`.
    """
    notes: list[str] = []
    arguments: dict[str, str] = {}
    seeds: dict[str, int] = {}

    def answers(log: Log, header: EvalLog) -> pl.DataFrame:
        name = log_name(header)
        arguments[name] = json.dumps(header.eval.task_args, sort_keys=True, default=str)
        rows = _rows(log, header, choices, with_answers, notes)
        same = {"model": header.eval.model, "task": header.eval.task, "run": name}
        table = scored_answers(rows, **same)
        # Retries share a task_id; other runs of the same task are told apart where runs are the unit, and else refused
        # as doubled.
        seed = seeds.setdefault(header.eval.task_id or name, len(seeds)) if choices.over_runs else 0
        identity = {
            "arm": "",
            "seed": seed,
            "subject": same["model"],
            "evaluation": same["task"],
            "category": "",
            "format": "",
        }
        return table.with_columns(
            *(pl.lit(value, ANSWER_SCHEMA[column]).alias(column) for column, value in identity.items()),
            pl.col("sample").cast(pl.Int64),
        )

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            table = join_logs(logs, answers)
        except DataFormatError as error:
            if "stand more than once" not in str(error):
                raise
            raise DataFormatError(f"{error} Independent runs of one task are counted with --unit run.") from error
    notes += [str(warning.message) for warning in caught if warning.category is UserWarning]
    if len(set(arguments.values())) > 1:
        different = ", ".join(
            f"{argument} in {sum(other == argument for other in arguments.values())}"
            for argument in sorted(set(arguments.values()))
        )
        notes.append(f"The logs' tasks have different arguments: {different}.")
    # A retry belongs to the run that it goes on with: both are one.
    if choices.over_runs:
        table = table.with_columns(pl.col("run").first().over("seed"))
    return table.drop([name for name in IDENTITY if name not in ("item", "sample")]).with_columns(
        pl.col("sample").cast(pl.String)
    ), notes


def _rows(log: Log, header: EvalLog, choices: Choices, with_answers: bool, notes: list[str]) -> dict[str, list[object]]:
    where = log_name(header)
    whole_samples = with_answers or header.invalidated or isinstance(log, EvalLog)
    location = header.location or str(log)
    read: Iterable[EvalSample | EvalSampleSummary] = (
        samples_of(log, header, NOT_NEEDED)
        if whole_samples
        else samples_of_json(location, NOT_NEEDED)
        if location.endswith(".json")  # has no summaries beside its samples
        else _summaries(location, header, notes)
    )
    columns: dict[str, list[object]] = {
        name: [] for name in ("item", "content", "family", "sample", "judge", "value", "failure", "answer")
    }
    scored: list[tuple[Mapping[str, Score], str]] = []
    for sample in read:
        summary = sample.summary() if isinstance(sample, EvalSample) else sample
        # The summary of a sample that was still running when the log was cut off is there before the sample is.
        if not (summary.completed or summary.scores or summary.error or summary.limit):
            continue
        scores = {name: score for name, score in (summary.scores or {}).items() if not _is_unscored(score.value)}
        failure = (
            "errored" if summary.error else f"stopped by its limit ({summary.limit})" if summary.limit else "no score"
        )
        if isinstance(sample, EvalSample) and sample.invalidation is not None:
            scores, failure = {}, "invalidated"
        scored.append((scores, failure))
        columns["item"].append(str(summary.id))
        # Of the summary also where there is the sample: it is cut, and the question of both sides has to be the same
        # text.
        columns["content"].append(text_hash(_texts(summary.input)))
        columns["family"].append(_question_of(summary, header))
        columns["sample"].append(str(summary.epoch))
        columns["answer"].append(
            text_hash(_texts(sample.input, last=True), sample.output.completion)
            if whole_samples and isinstance(sample, EvalSample)
            else None
        )
    names = list(dict.fromkeys(name for scores, _ in scored for name in scores))
    name = ""
    if names or choices.score:
        named = [scorer.name for scorer in header.eval.scorers or []]
        name, note = choose("score", "--score", choices.score, names or named, where)
        notes += [note] if note and note not in notes else []
    judge = _judge(header, name)
    for sample_scores, failure in scored:
        score = sample_scores.get(name)
        columns["judge"].append((score.metadata or {}).get("judge") or judge if score else judge)
        value = _value(score, choices, f"The score {name!r} of {where}") if score else None
        columns["value"].append(value)
        columns["failure"].append(failure if value is None else None)
    return columns


def _question_of(sample: EvalSampleSummary, header: EvalLog) -> str | None:
    """Return what a sample of Astray's own tasks repeats: the question that was asked in words, whose id is question,
    format and number, or the cell of a scenario with fixed texts; else None, as where each replicate has texts of its own."""
    # Other tools have ids of that form and a metadata key "kind", too; all of these keys only Astray writes.
    keys, id = (header.eval.metadata or {}).keys(), str(sample.id)
    if {"grid", "scenarios", "protocol"} <= keys:
        return None if "draw" in (sample.metadata or {}) else id.rpartition("/")[0] or None
    match = re.fullmatch(r"(.+)/[^/]+#\d+", id) if {"evaluation", "kind", "evaluation_hash"} <= keys else None
    return match[1] if match else None


def _summaries(location: str, header: EvalLog, notes: list[str]) -> list[EvalSampleSummary]:
    """Return the summaries of a log, which have to say what its samples say.

    Raises:
        DataFormatError: one says something else, or has no sample.
    """
    import fsspec

    summaries = read_summaries(location)
    files, path = fsspec.core.url_to_fs(location)
    compared = [summary for summary in summaries if summary.completed]
    if (files.size(path) or 0) > _LARGE_LOG and len(compared) > _SAMPLES_COMPARED:
        notes.append(
            f"{log_name(header)} is large: {_SAMPLES_COMPARED} of its {len(compared):,} summaries were compared with their "
            "samples. Of the others, a sample that is invalidated in its own record but not in the log's header counts."
        )
        compared = [compared[number * len(compared) // _SAMPLES_COMPARED] for number in range(_SAMPLES_COMPARED)]
    expected = {(sample.id, sample.epoch): _counted_content(sample) for sample in compared}
    in_samples: dict[tuple[int | str, int], tuple[object, ...]] = {}
    for sample in samples_with(location, list(expected), NOT_NEEDED):
        if sample.invalidation:
            raise DataFormatError(
                f"{location} has a sample ({sample.id}, epoch {sample.epoch}) that is invalidated in its own record but not in the "
                "log's header, so that its score would count. Invalidate it with inspect_ai.log.invalidate_samples, which "
                "marks both, and write the log again with inspect_ai.log.write_eval_log."
            )
        in_samples[sample.id, sample.epoch] = _counted_content(sample.summary())
    if other := [key for key, content in expected.items() if in_samples.get(key) != content]:
        (id, epoch), count = other[0], len(other)
        raise DataFormatError(
            f"{location} has summaries that do not say what its samples say ({count:,}, the first of sample {id}, epoch "
            f"{epoch}): one of the two was edited. Give the log as it was written, or score it again: inspect score {location}"
        )
    return summaries


def _counted_content(summary: EvalSampleSummary) -> tuple[object, ...]:
    """Return what counts of a summary; as text, since NaN equals nothing."""
    scores = {name: str(score.value) for name, score in (summary.scores or {}).items()}
    return scores, bool(summary.error), bool(summary.limit), text_hash(_texts(summary.input))


def _value(score: Score, choices: Choices, where: str) -> str | None:
    value: object = score.value
    if isinstance(value, Mapping):
        value = value[choose("entry", "--key", choices.key, map(str, value), where)[0]]
    elif choices.key:
        raise ConfigurationError(f"{where} is {str(value)[:40]!r} and has no entries: leave out --key {choices.key}.")
    return None if _is_unscored(value) else score_text(value, where)


def _is_unscored(value: object) -> bool:
    """Return whether a score is none; NaN is Inspect's "unscored", and a blank text says nothing."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def _texts(prompt: str | list[ChatMessage], *, last: bool = False) -> str:
    """Return what was asked: all of it, or what the user said last, which is the question of a labelled answer."""
    if isinstance(prompt, str):
        return prompt
    if last:
        return next((message.text for message in reversed(prompt) if message.role == "user"), "")
    return "\n".join(f"{message.role}: {message.text}" for message in prompt)


def _judge(header: EvalLog, score: str) -> str:
    """Return who judged: the scorer with its options, and the grader, long texts by their hash."""
    base = re.sub(r"\d+$", "", score)
    scorers = header.eval.scorers or []
    options = (
        next((scorer.options for scorer in scorers if scorer.name.rpartition("/")[2] in (score, base)), None) or {}
    )
    named = {name: value for name, value in sorted(options.items()) if value is not None}
    named |= {f"role {role}": getattr(model, "model", model) for role, model in (header.eval.model_roles or {}).items()}
    shown = ", ".join(f"{name}={_short(value)}" for name, value in named.items())
    return f"{score}({shown})" if shown else score


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text if len(text) <= _LONG else f"#{text_hash(text):016x}"
