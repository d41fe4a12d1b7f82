"""Answers of a study, packed for a page: columns, dictionary-coded, as gzipped JSON in base64.

The browser unpacks them with `DecompressionStream`. A table too large for a page is sampled by arm, evaluation and
outcome; the rows keep their number in `answers.parquet`, so that a sampled answer can be found again.

Left to others: the table itself (astray.answers) and the filters (templates/answers.js).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from astray.answers import ANSWER_SCHEMA, told
from astray.errors import DataFormatError
from astray.report.packed import packed

PAGE_LIMIT = 50_000
"""Most answers that one page carries; a browser still filters so many without a pause."""

STRATUM = ("arm", "evaluation", "outcome")
"""Columns whose proportions a sample keeps."""

STRATUM_FLOOR = 20
"""Fewest answers of one stratum that a sample keeps, since a reader looks for rare outcomes."""

CODED = ("arm", "evaluation", "category", "format", "system", "question", "answer", "outcome", "note")
"""Columns whose values repeat, carried as a list of values and one code per row."""

PLAIN = ("row", "seed", "aligned", "coherent")
"""Columns carried value by value."""


@dataclass(frozen=True)
class Transcripts:
    """Answers in the form a page carries.

    Attributes:
        payload: base64 of gzipped JSON with the columns.
        shown: answers in the payload.
        total: answers in the table.
    """

    payload: str
    shown: int
    total: int


def read_transcripts(folder: Path) -> Transcripts | None:
    """Pack the answers of a results folder; return None when the folder has none.

    Raises:
        DataFormatError: `answers.parquet` is no Parquet file, or lacks columns of an answer table.
    """
    path = folder / "answers.parquet"
    if not path.is_file():
        return None
    answers = read_table(path, ANSWER_SCHEMA)
    return pack(answers.with_columns(told()), PAGE_LIMIT) if answers.height else None


def read_table(path: Path, schema: Mapping[str, Any]) -> pl.DataFrame:
    """Read the columns of a schema from a Parquet file; numbers that are not finite become null.

    Args:
        path: the file.
        schema: column name -> polars data type.

    Raises:
        DataFormatError: the file is no Parquet file, lacks one of the columns, or has one of another type.
    """
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataFormatError(
            f"{path} cannot be read as Parquet ({error}). Run the study again to write it anew, or remove the file."
        ) from error
    if "detail" in schema and "detail" not in table.columns:  # results of before there was this column
        table = table.with_columns(pl.lit(None, pl.String()).alias("detail"))
    missing = [name for name in schema if name not in table.columns]
    if missing:
        raise DataFormatError(
            f"{path} lacks the columns {', '.join(missing)}; it needs: {', '.join(schema)}. Run the study again to "
            "write it anew."
        )
    try:
        table = table.select(pl.col(name).cast(kind) for name, kind in schema.items())
    except pl.exceptions.PolarsError as error:
        raise DataFormatError(
            f"{path} has a column of the wrong type ({error}); its columns are: {dict(schema)}."
        ) from error
    return table.with_columns(
        pl.when(column.is_finite()).then(column)
        for column in (pl.col(name) for name, kind in schema.items() if kind.is_float())
    )


def pack(answers: pl.DataFrame, limit: int) -> Transcripts:
    """Pack a table of answers for a page.

    Args:
        answers: a table with the columns of `ANSWER_SCHEMA`.
        limit: how many answers to carry at most; above it, a sample by arm, evaluation and outcome is taken.
    """
    chosen = stratified_sample(answers.with_row_index("row"), limit)
    scores = [pl.col(name).round(1) for name in ("aligned", "coherent")]
    columns: dict[str, Any] = dict(chosen.with_columns(scores).select(PLAIN).to_dict(as_series=False))
    for name in CODED:
        values = chosen[name].unique(maintain_order=True).drop_nulls()
        ranks = {value: code for code, value in enumerate(values)}
        columns[name] = {"values": values.to_list(), "codes": [ranks.get(value) for value in chosen[name]]}
    # NaN is no JSON and browsers refuse it; read_table has made it null, so one here is a fault.
    return Transcripts(packed(columns), shown=chosen.height, total=answers.height)


def stratified_sample(answers: pl.DataFrame, limit: int) -> pl.DataFrame:
    """Return at most `limit` rows, in their order: a floor of every stratum, the rest in proportion to its size.

    The same table always gives the same rows.
    """
    if answers.height <= limit:
        return answers
    strata = answers.group_by(STRATUM).len()
    # With very many strata even the floor would exceed the limit, so it shrinks with their number.
    floor = min(STRATUM_FLOOR, limit // strata.height)
    kept_by_floor = int(strata.select(pl.col("len").clip(upper_bound=floor).sum()).item())
    share = (limit - kept_by_floor) / (answers.height - kept_by_floor)
    size = pl.len().over(STRATUM)
    # Rounded down in each stratum, so that the sum stays within the limit.
    quota = size.clip(upper_bound=floor) + ((size - floor).cast(pl.Float64).clip(lower_bound=0) * share).floor().cast(
        pl.Int64
    )
    rank = pl.int_range(pl.len()).shuffle(seed=0).over(STRATUM)
    return answers.filter(rank < quota)
