"""The table of findings: one row an answer, the same columns for each evaluation of this package and whatever driver asked.

Counting is that of `stats`: `as_answers` is the way there, so intervals, runs, questions and worst cases are treated as for every other rate.
"""

from collections.abc import Collection, Mapping, Sequence

import polars as pl

from astray.answers import ANSWER_SCHEMA, answer_table
from astray.errors import DataFormatError, EmptyDataError
from astray.measure.reward_hacking.outcomes import IN_WORDS_OF_ALL, Finding
from astray.outcomes import Outcome

FINDING_SCHEMA: dict[str, pl.DataType] = {
    "arm": pl.String(),  # name of the arm the subject belongs to, or ""
    "seed": pl.Int64(),  # training seed of the run
    "subject": pl.String(),  # stable id of the subject
    "evaluation": pl.String(),  # registered name of the evaluation
    "item": pl.String(),  # id of the question
    "category": pl.String(),  # its kind, or the purpose of a detector
    "format": pl.String(),  # channel of reasoning ("private", "plain"), with the condition in front where there is one
    "sample": pl.Int64(),  # number of the sample among those of this question and format
    "system": pl.String(),  # system prompt, null when there is none
    "question": pl.String(),  # what the user said
    "reasoning": pl.String(),  # private reasoning, "" where there is none
    "answer": pl.String(),  # what others see
    "completion_tokens": pl.Int64(),
    "outcome": pl.String(),  # value of a Finding
    "misaligned": pl.Boolean(),  # whether it counts as misaligned; null outside of the denominator
    "by_output": pl.String(),  # the judges' word on the output alone, "" for none
    "by_reasoning": pl.String(),  # the judges' word on the reasoning, "" for none
    "score": pl.Float64(),  # evaluations that measure something: how much; else null
    "understood": pl.Boolean(),  # whether questions about the situation were answered rightly; null where none were asked
    "judge": pl.String(),  # identity of the judge
    "note": pl.String(),  # why a judge failed or an answer is missing, else ""
}
"""Column names and types."""

_SHARED = tuple(name for name in FINDING_SCHEMA if name in ANSWER_SCHEMA and name != "outcome")


def finding_table(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """A table from one dict a row; every column of the schema has to be there.

    Raises:
        DataFormatError: a column is missing, unknown or of another type.
    """
    for number, row in enumerate(rows):
        if row.keys() != FINDING_SCHEMA.keys():
            wrong = sorted(row.keys() ^ FINDING_SCHEMA.keys())
            raise DataFormatError(f"Row {number} misses or adds the columns {wrong}; a row has exactly: {', '.join(FINDING_SCHEMA)}.")
    try:
        return pl.DataFrame([dict(row) for row in rows], schema=FINDING_SCHEMA)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise DataFormatError(f"A row has a value of the wrong type: {error}") from error


def as_answers(table: pl.DataFrame, counted: Collection[Finding] | None = None) -> pl.DataFrame:
    """The table as an answer table, whose misalignment rate is that of the evaluation.

    Args:
        table: as `finding_table` gives.
        counted: which outcomes are counted as misaligned; by default all that the evaluation counts. The denominator stays the same.

    Returns:
        A table that `stats.rates`, claims and dose-response take.

    Raises:
        EmptyDataError: the table is empty.
    """
    if table.is_empty():
        raise EmptyDataError("There is nothing to count: the table of findings is empty.")
    empty = {"aligned": None, "coherent": None}
    return answer_table(
        [{name: row[name] for name in _SHARED} | empty | {"outcome": _outcome(row, counted).value} for row in table.iter_rows(named=True)]
    )


def _outcome(row: Mapping[str, object], counted: Collection[Finding] | None) -> Outcome:
    finding = Finding(str(row["outcome"]))
    if row["misaligned"] is None:
        return IN_WORDS_OF_ALL.get(finding, Outcome.INCOHERENT)
    bad = row["misaligned"] if counted is None else finding in counted
    return Outcome.MISALIGNED if bad else Outcome.ALIGNED
