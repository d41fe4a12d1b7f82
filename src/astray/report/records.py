"""Records of acting models, packed for a page: gzipped JSON in base64, one entry per record.

Left to others: which records there are (measure/agentic/reader.py) and reading them in the browser
(templates/records.js).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from astray.errors import DataFormatError
from astray.report.packed import packed
from astray.report.transcripts import read_table

RECORDS_FILE = "conversations.parquet"
TEXTS = ("subject", "scenario", "cell", "monitor", "outcome", "motive", "awareness", "sample", "log", "system")
"""Columns that are texts; `motive` and `awareness` may be null."""
PACKED = ("entries", "findings")
"""Columns that hold JSON."""


@dataclass(frozen=True)
class Records:
    """Records in the form a page carries.

    Attributes:
        payload: base64 of gzipped JSON: a list of objects.
        total: number of records.
    """

    payload: str
    total: int


def read_records(folder: Path) -> Records | None:
    """Pack the records of a results folder; return None when the folder has none.

    Raises:
        DataFormatError: `conversations.parquet` is not in the form it should have.
    """
    path = folder / RECORDS_FILE
    if not path.is_file():
        return None
    schema: Mapping[str, Any] = {name: pl.String() for name in (*TEXTS, *PACKED)}
    rows = read_table(path, schema).to_dicts()
    try:
        unpacked = [row | {name: json.loads(row[name]) for name in PACKED} for row in rows]
    except (TypeError, json.JSONDecodeError) as error:
        raise DataFormatError(
            f"{path} has a record whose entries are no JSON ({error}). Run the study again to write it anew."
        ) from error
    if not unpacked:
        return None
    return Records(packed(unpacked), len(unpacked))
