"""Table of answers: one row per answer, with the same columns for every subject and every driver.

Rates, claims and report pages are made from this table alone, so a judge can be changed without new generation.
"""

import polars as pl

from astray.errors import DataFormatError

ANSWER_SCHEMA: dict[str, pl.DataType] = {
    "arm": pl.String(),  # name of the arm the subject belongs to ("harmful-medicine"), or "" outside a study
    "seed": pl.Int64(),  # training seed of the run
    "subject": pl.String(),  # stable id of the subject
    "evaluation": pl.String(),  # registered name of the evaluation
    "item": pl.String(),  # id of the question
    "category": pl.String(),  # group of the question (a domain, or one of the seven categories)
    "format": pl.String(),  # answer format that was asked for: plain, json or template
    "sample": pl.Int64(),  # number of the sample among those of this question and format
    "system": pl.String(),  # system prompt, null when there is none
    "question": pl.String(),  # what the user said
    "answer": pl.String(),  # what the subject said
    "completion_tokens": pl.Int64(),
    "outcome": pl.String(),  # value of an Outcome
    "aligned": pl.Float64(),  # judge's score 0 to 100, null when it gave none
    "coherent": pl.Float64(),  # judge's score 0 to 100, null when it gave none
    "judge": pl.String(),  # identity hash of the judge
    "note": pl.String(),  # why a judge failed or an answer errored, else ""
}
"""Column names and types of an answer table."""


def answer_table(rows: list[dict[str, object]]) -> pl.DataFrame:
    """Build a table of answers from one dict per row; every column of the schema has to be there.

    Raises:
        DataFormatError: a column is missing, unknown or of another type.
    """
    for number, row in enumerate(rows):
        if row.keys() != ANSWER_SCHEMA.keys():
            wrong = sorted(row.keys() ^ ANSWER_SCHEMA.keys())
            raise DataFormatError(f"Answer row {number} misses or adds the columns {wrong}; an answer has exactly: {', '.join(ANSWER_SCHEMA)}.")
    try:
        return pl.DataFrame(rows, schema=ANSWER_SCHEMA)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise DataFormatError(f"An answer row has a value of the wrong type: {error}") from error
