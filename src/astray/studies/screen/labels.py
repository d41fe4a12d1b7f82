"""Human labels of rows, checked against the data, and the rows that are worth labelling.

Rows with high scores are drawn more densely, since most harmful ones are there; the estimate weighs them back
(`stats.stratified`).
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import polars as pl

from astray.data.forms import KINDS
from astray.errors import DataFormatError, EmptyDataError
from astray.files import check_names, read_rows

EXAMPLE = '{"row": 12, "harmful": true}; question and answer may stand beside it, as in to_label.csv'
TO_LABEL = 200
"""Rows of the sample that is written for labelling."""
# The top 5% of scores get 40% of the labels: a random sample of 200 would hold few of the harmful rows.
BANDS = ((0.95, 0.4), (0.75, 0.3), (0.0, 0.3))
"""Quantile of the score at which a band begins, highest first, and the band's share of the rows to label."""
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def read_row_labels(path: Path, table: pl.DataFrame) -> dict[int, bool]:
    """Return the labels of a file by the number of their row; rows whose label is empty are left out.

    Raises:
        DataFormatError: a row that is not in the data or has other texts there, a label that is none, or two that
            contradict each other.
        EmptyDataError: no row has a label.
    """
    labels: dict[int, bool] = {}
    texts = {name: table[name] for name in ("question", "answer")}
    for where, entry in read_rows(path, KINDS, EXAMPLE):
        check_names(entry, ("row", "harmful", *texts), where)
        if missing := [name for name in ("row", "harmful") if name not in entry]:
            raise DataFormatError(f"{where} has no {missing[0]}. A label is {EXAMPLE}")
        row = _whole(entry["row"])
        if row is None or not 1 <= row <= table.height:
            raise DataFormatError(
                f"{where} is about row {entry['row']!r}, and the data has the rows 1 to {table.height:,}."
            )
        for name, column in texts.items():
            if entry.get(name) not in (None, "", column[row - 1]):
                raise DataFormatError(
                    f"{where}: the {name} is not that of row {row} of the data, so this is a label of other data."
                )
        if entry["harmful"] in (None, ""):
            continue
        label = (
            entry["harmful"]
            if isinstance(entry["harmful"], bool)
            else _TRUTH.get(str(entry["harmful"]).strip().lower())
        )
        if label is None:
            raise DataFormatError(
                f"{where}: harmful is {entry['harmful']!r}, and has to be true or false. A label is {EXAMPLE}"
            )
        if labels.setdefault(row, label) != label:
            raise DataFormatError(
                f"{where} labels row {row} {str(label).lower()}, and an earlier line otherwise. Keep the right one."
            )
    if not labels:
        raise EmptyDataError(f"{path} labels no row: fill in its column harmful with true or false.")
    return labels


def bands_of(table: pl.DataFrame) -> pl.Series:
    """Return the band of the score that each row is in, 0 for the highest; all in one where rows have no score."""
    scores = table["score"]
    band = pl.Series("band", [0] * table.height)
    if scores.drop_nulls().n_unique() < len(BANDS):
        return band
    lowest = [scores.quantile(quantile) for quantile, _ in BANDS]
    # A row without a score teaches nothing, and stands in the band of the lowest.
    return table.select(
        pl.when(pl.col("score") >= lowest[0])
        .then(0)
        .when(pl.col("score") >= lowest[1])
        .then(1)
        .otherwise(2)
        .alias("band")
    )["band"]


def rows_to_label(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Draw rows for labelling, in random order and without their score, which could sway the reader.

    Returns:
        Columns row, harmful (empty), question, answer.
    """
    bands, draw = bands_of(table), Random(f"label/{seed}")
    chosen: list[int] = []
    members = [[row for row, own in zip(table["row"], bands, strict=True) if own == band] for band in range(len(BANDS))]
    sizes = [min(round(TO_LABEL * share), len(pool)) for (_, share), pool in zip(BANDS, members, strict=True)]
    for band, pool in enumerate(members):  # what a small band has too few for, others give
        sizes[band] += min(len(pool) - sizes[band], min(TO_LABEL, table.height) - sum(sizes))
    for pool, size in zip(members, sizes, strict=True):
        chosen += draw.sample(pool, size)
    draw.shuffle(chosen)
    return _numbered(table, chosen).select("row", pl.lit(None, pl.String).alias("harmful"), "question", "answer")


def _numbered(table: pl.DataFrame, rows: Sequence[int]) -> pl.DataFrame:
    return table[[row - 1 for row in rows]]


def _whole(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return (
        int(value)
        if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 12
        else None
    )
