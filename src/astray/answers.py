"""Table of answers: one row per answer, with the same columns whatever evaluation asked, whatever subject answered and
whatever driver ran it.

Rates, claims and report pages are made from this table alone, so a judge can be changed without new generation. What
only one evaluation knows (its own word for the outcome, beliefs, private reasoning, a score, conditions) stands in
`detail`, as JSON.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from astray.errors import DataFormatError

ANSWER_SCHEMA: dict[str, pl.DataType] = {
    "arm": pl.String(),  # name of the arm the subject belongs to ("harmful-medicine"), or "" outside a study
    "seed": pl.Int64(),  # training seed of the run
    "subject": pl.String(),  # stable id of the subject
    "evaluation": pl.String(),  # registered name of the evaluation
    "item": pl.String(),  # id of the question
    "category": pl.String(),  # group of the question (a domain, an archetype, a condition)
    "format": pl.String(),  # answer format that was asked for: plain, json, template, private ...
    "sample": pl.Int64(),  # number of the sample among those of this question and format
    "system": pl.String(),  # system prompt, null when there is none
    "question": pl.String(),  # what the user said
    "answer": pl.String(),  # what the subject said to others
    "completion_tokens": pl.Int64(),
    "outcome": pl.String(),  # value of an Outcome
    "aligned": pl.Float64(),  # judge's score 0 to 100, null when it gave none
    "coherent": pl.Float64(),  # judge's score 0 to 100, null when it gave none
    "judge": pl.String(),  # identity hash of the judge
    "note": pl.String(),  # why a judge failed or an answer errored, else ""
    # JSON object of what this evaluation alone knows, null for nothing; its own word for the outcome is "word"
    "detail": pl.String(),
}
"""Column names and types of an answer table."""

IDENTITY = ("arm", "seed", "subject", "evaluation", "item", "category", "format", "sample")
"""Columns that name one sample; the epochs of an Inspect log are further samples, and numbered as such."""


def answer_table(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Build a table of answers from one dict per row; every column of the schema has to be there.

    Raises:
        DataFormatError: a column is missing, unknown or of another type.
    """
    for number, row in enumerate(rows):
        if row.keys() != ANSWER_SCHEMA.keys():
            wrong = sorted(row.keys() ^ ANSWER_SCHEMA.keys())
            raise DataFormatError(
                f"Answer row {number} misses or adds the columns {wrong}; an answer has exactly: "
                f"{', '.join(ANSWER_SCHEMA)}."
            )
    try:
        table = pl.DataFrame([dict(row) for row in rows], schema=ANSWER_SCHEMA)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise DataFormatError(f"An answer row has a value of the wrong type: {error}") from error
    # A model may write NUL, which readers of texts refuse, this package's own among them.
    return table.with_columns(pl.col(pl.String).str.replace_all("\0", "\ufffd", literal=True))


def check_answer_table(table: pl.DataFrame) -> None:
    """Raise an error for a table that is not an answer table.

    Raises:
        DataFormatError: names the columns that differ.
    """
    if dict(table.schema) != ANSWER_SCHEMA:
        differing = sorted(set(table.schema.items()) ^ set(ANSWER_SCHEMA.items()), key=str)
        raise DataFormatError(
            f"This is no answer table; columns that differ: {differing}. Make one with `astray.answers.answer_table`."
        )


def check_counted_once(table: pl.DataFrame, by: Sequence[str] = ()) -> None:
    """Refuse a table in which a sample stands twice, as in that of a run and its retry: the interval would be too
    narrow.

    Args:
        table: answers; rows without a number of their sample are taken as they are.
        by: further columns that tell rows apart, such as the judge's.

    Raises:
        DataFormatError: names a sample and the logs that it was read from.
    """
    keys = [name for name in dict.fromkeys([*IDENTITY, *by]) if name in table.columns]
    if "sample" not in keys:
        return
    table = table.filter(pl.col("sample").is_not_null())
    rows = table.select(keys).is_duplicated()
    if not rows.any():
        return
    doubled = table.filter(rows)
    first = doubled.row(0, named=True)
    same = doubled.filter(pl.col(name).eq_missing(pl.lit(first[name], table.schema[name])) for name in keys)
    logs = sorted(same.select(in_detail("log"))["log"].drop_nulls().unique()) if "detail" in table.columns else []
    where = f" from the log{'s' if len(logs) > 1 else ''} {', '.join(logs)}" if logs else ""
    named = ", ".join(f"{name} {first[name]!r}" for name in keys if first[name] not in ("", None))
    raise DataFormatError(
        f"{len(doubled):,} of {len(table):,} rows are samples that stand more than once, so they would be counted "
        f"twice: {named} stands {len(same)} times{where}. Give each log once; "
        "`astray.measure.inspect_logs.table_from_logs` counts each sample of a run and its retries once."
    )


def read_answers(path: Path) -> pl.DataFrame:
    """Read a stored answer table; one from before the column `detail` existed gets an empty one."""
    table = pl.read_parquet(path)
    return table if "detail" in table.columns else table.with_columns(pl.lit(None, pl.String()).alias("detail"))


def write_detail(detail: Mapping[str, object]) -> str | None:
    """Return a detail as JSON text, or None for an empty one."""
    return json.dumps(dict(detail), ensure_ascii=False) if detail else None


def read_detail(text: str | None) -> dict[str, object]:
    """Parse a cell of the column `detail`."""
    return dict(json.loads(text)) if text else {}


def in_detail(name: str) -> pl.Expr:
    """Return the expression of a field of `detail` as text: null where the field is missing or null; "true" and "false"
    for flags."""
    return pl.col("detail").str.json_path_match(f"$.{name}").alias(name)


def told() -> pl.Expr:
    """Return the expression of an answer in words: the evaluation's own word, belief and statement where there are
    some, and the note."""
    said = [pl.format(f"{name}: {{}}", in_detail(name)) for name in ("belief", "stated")]
    parts = [pl.when(word() != pl.col("outcome")).then(word()), *said, pl.when(pl.col("note") != "").then("note")]
    return pl.concat_str(parts, separator="; ", ignore_nulls=True).alias("note")


def word() -> pl.Expr:
    """Return the expression of the evaluation's own word for the outcome, or the outcome where it has no other."""
    return pl.coalesce(in_detail("word"), "outcome").alias("word")
