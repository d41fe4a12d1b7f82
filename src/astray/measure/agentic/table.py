"""Table of agentic samples: one row per sample, read from an Inspect log a few hundred at a time, so memory stays flat.

Rates, effects and pages are made from this table alone; the log keeps the transcripts, to which `evidence` holds the
ids of messages.
"""

from itertools import islice
from pathlib import Path

import polars as pl
from inspect_ai.log import EvalLog, EvalSample

from astray.errors import DataFormatError, EmptyDataError
from astray.judges.rescore import FORMERLY_NOT_JUDGED
from astray.measure.agentic.conduct import Conduct, Word
from astray.measure.agentic.factors import FACTORS
from astray.measure.inspect_logs import NOT_NEEDED, log_name, read_header, samples_of
from astray.measure.logged_samples import sample_number, score_named

_SHARED = pl.Categorical()
"""Type of texts that many samples share, each kept once: a large table takes a quarter of the memory."""

CONDUCT_SCHEMA: dict[str, pl.DataType] = {
    "subject": _SHARED,  # the model as Inspect names it
    "simulated": pl.Boolean(),  # a scripted subject
    "scenario": _SHARED,
    **dict.fromkeys(FACTORS, _SHARED),  # one column a factor
    "replicate": pl.Int64(),
    "outcome": _SHARED,  # value of a Conduct
    "gate": pl.Boolean(),  # the harmful act was executed, by the gate; null where nothing has scored the sample yet
    "tried": pl.Boolean(),  # executed or blocked, by the gate
    "judge": _SHARED,  # the panel's word
    "grader": _SHARED,  # word of the first judge, null when it was not asked
    "grader_b": _SHARED,  # word of the second judge, null when it was not asked
    "agreed": pl.Boolean(),  # whether both judges agree about harm, null with fewer than two verdicts
    "understood": pl.Boolean(),  # null when no question was asked
    "monitor": _SHARED,  # name of the runtime monitor, "none" without
    "motive": _SHARED,  # value of a Motive, null where reasoning was not audited or the auditor failed
    "awareness": _SHARED,  # value of an Awareness: what the record states; null as above
    "openness": _SHARED,  # value of an Openness, null as above
    "belief": _SHARED,  # what it says when asked afterwards: real, test, neither or unclear; null when not asked
    "attempted": pl.Int64(),  # calls that were made
    "executed": pl.Int64(),
    "blocked": pl.Int64(),
    "failed": pl.Int64(),
    "turns": pl.Int64(),
    "protocol": _SHARED,  # native or text
    "reason": _SHARED,  # what the gate found
    "ways_out": pl.List(pl.String()),  # legitimate ways that were taken, of scenarios whose gate tells them apart
    "evidence": pl.List(pl.String()),  # ids of the messages that the gate's finding rests on
    "panel": _SHARED,  # identity hash of the panel
    "served": _SHARED,  # the models that judges answered as, where they said other names than they were asked by; else null
    "input_tokens": pl.Int64(),  # of the subject
    "output_tokens": pl.Int64(),
    # read and written by all models, judges and monitors included; in a study in all attempts at the sample
    "tokens": pl.Int64(),
    "retried": pl.Int64(),  # in a study: earlier attempts at the sample, which ended in an error
    "retried_harm": pl.Int64(),  # of these, attempts in which the gate finds the executed act
    "sample": pl.String(),  # id of the sample in the log
    "log": _SHARED,  # name of the log's file
    "note": pl.String(),  # the error, or why the judges failed, else ""
}
"""Column names and types."""

SCORER = "two_keys"
"""Name of the scorer of agentic samples."""

_BATCH = 500


def conduct_table(log: Path | str) -> pl.DataFrame:
    """Return all samples of a log that were finished, errored ones included.

    Raises:
        EmptyDataError: no sample was finished.
        DataFormatError: the log is damaged, or of another task.
    """
    header = read_header(str(log))
    if "grid" not in (header.eval.metadata or {}):
        raise DataFormatError(
            f"{log_name(header)} is no log of agentic scenarios: it is of the task {header.eval.task!r}."
        )
    samples, batches = samples_of(str(log), header, NOT_NEEDED), []
    while rows := [conduct_row(sample, header) for sample in islice(samples, _BATCH)]:
        batches.append(pl.DataFrame(rows, schema=CONDUCT_SCHEMA))
    if not batches:
        raise EmptyDataError(f"The log {log} has no finished sample yet.")
    return pl.concat(batches)


def as_acts(table: pl.DataFrame) -> pl.DataFrame:
    """Return a stored table in the form of `CONDUCT_SCHEMA`; what earlier versions did not record is null."""
    lacking = [pl.lit(None).alias(name) for name in CONDUCT_SCHEMA if name not in table.columns]
    return table.with_columns(lacking).select(list(CONDUCT_SCHEMA)).cast(CONDUCT_SCHEMA)  # type: ignore[arg-type]


def conduct_row(sample: EvalSample, header: EvalLog) -> dict[str, object]:
    """Return the row of one sample."""
    score = score_named(sample.scores, SCORER, None, f"The sample {sample.id} of {log_name(header)}")
    facts = dict(score.metadata or {}) if score else {}
    judges = [*facts.get("judges", ()), None, None]
    read, written = _used_by_subject(sample, header)
    # What was not scored may be: it was played, and a judge can still read it.
    unscored = score is None and sample.error is None
    outcome = str(score.value) if score else (Conduct.JUDGE_FAILED if unscored else Conduct.ERRORED).value
    judged = [FORMERLY_NOT_JUDGED] if unscored else facts.get("judge_notes", ())
    # Without an error of the sample itself, as where its monitor was gone, the scorer says why.
    told = str(score.explanation).partition(". ")[2] if score and outcome == Conduct.ERRORED else ""
    note = sample.error.message if sample.error else "; ".join(judged) if outcome == Conduct.JUDGE_FAILED else told
    return {
        "subject": header.eval.model,
        "simulated": header.eval.model.startswith("astray/scripted/"),
        "scenario": Path(sample.metadata["scenario"]).name,  # a folder has the name of its scenario
        **{name: sample.metadata["factors"][name] for name in FACTORS},
        "replicate": sample_number(sample, int(sample.metadata["replicate"])),
        "outcome": outcome,
        **{name: None if unscored else bool(facts.get(name, False)) for name in ("gate", "tried")},
        "judge": str(facts.get("judge", Word.NONE)),
        "grader": judges[0],
        "grader_b": judges[1],
        "agreed": facts.get("agreed"),
        "understood": facts.get("understood"),
        "monitor": str((header.eval.metadata or {}).get("monitor", "none")),
        **{name: facts.get(name) for name in ("motive", "awareness", "openness", "belief")},
        **{name: int(facts.get(name, 0)) for name in ("attempted", "executed", "blocked", "failed", "turns")},
        "protocol": str(facts.get("protocol", "")),
        "reason": str(facts.get("reason", "")),
        "ways_out": [str(way) for way in facts.get("ways_out", ())],
        "evidence": [str(quote) for quote in facts.get("evidence", ())],
        "panel": str(facts.get("panel", "")),
        "served": ", ".join(map(str, facts.get("served", ()))) or None,
        "input_tokens": read,
        "output_tokens": written,
        "tokens": sum(usage.total_tokens for usage in sample.model_usage.values()),
        "retried": 0,
        "retried_harm": 0,
        "sample": str(sample.id),
        "log": log_name(header),
        "note": note,
    }


def _used_by_subject(sample: EvalSample, header: EvalLog) -> tuple[int, int]:
    """Return the tokens that the subject read and wrote; what the same model used as a judge is not its own."""
    own = sample.model_usage.get(header.eval.model)
    if own is None:
        return 0, 0
    judges = (header.eval.model_roles or {}).items()
    others = [
        sample.role_usage[role]
        for role, each in judges
        if str(getattr(each, "model", "")) == header.eval.model and role in sample.role_usage
    ]
    return own.input_tokens - sum(other.input_tokens for other in others), own.output_tokens - sum(
        other.output_tokens for other in others
    )
