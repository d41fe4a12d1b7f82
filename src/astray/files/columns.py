"""Texts of a few columns of a large file: several times as fast as row by row, and as strict.

Every row is matched whole by one expression, made from the first row: CSV and TSV with the same number of fields, JSON
Lines with the same keys in the same order and plain values. Whatever does not match is left to `read_rows`, which also
reads rarer forms, and names the fault of wrong ones.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from astray.files.reading import MAX_LINE, suffix_of
from astray.files.rows import read_rows

_CHUNK = 2**23
_STRING = r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u(?!0000|[dD][89a-fA-F])[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
# No more digits and exponents than surely make a finite number.
_NUMBER = r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?"
_VALUE = rf"(?:{_STRING}|{_NUMBER}|true|false|null)"
_GROUP = "(@"
"""Beginning of a group for a wanted column, until it is known whether an expression is to capture it."""

Texts = Callable[[str, Sequence[str]], pl.Series]


class _OtherForm(ValueError):  # noqa: N818
    """The file is not all of the common form."""


def read_columns(path: Path, kinds: Sequence[str], example: str, names: Sequence[str]) -> pl.DataFrame | None:
    """Return columns of a file as texts, as `read_rows` gives them; numbers are written as Python writes them.

    Args:
        path: the file.
        kinds: endings of the forms that it may have.
        example: a right row, shown in errors.
        names: of the columns.

    Returns:
        The columns, null where a value is null; None where the file has to be read row by row.

    Raises:
        DataNotFoundError, StoreError, EmptyDataError, DataFormatError: as `read_rows`, at the first row.
    """
    first, kind = next(iter(read_rows(path, kinds, example)))[1], suffix_of(path)
    if path.name.lower().endswith(".gz") or set(names) - first.keys():
        return None
    wanted = [name for name in first if name in names]
    try:
        if kind == ".parquet":
            return _parquet(path, names)
        if kind == ".jsonl":
            frames = list(_frames(path, _json_record(list(first), wanted), wanted, _json_texts, has_header=False))
        elif kind in (".csv", ".tsv"):
            record = _csv_record(list(first), wanted, "," if kind == ".csv" else "\t")
            frames = list(_frames(path, record, wanted, _csv_texts, has_header=True))
        else:
            return None
    except (ValueError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):  # also text that is no UTF-8
        return None
    return pl.concat(frames).select(names) if frames else None


def _frames(
    path: Path, record: str, wanted: Sequence[str], texts: Texts, *, has_header: bool
) -> Iterator[pl.DataFrame]:
    """Yield the wanted columns, a chunk of whole rows at a time."""
    one, many = (
        re.compile("^" + record.replace(_GROUP, "("), re.MULTILINE),
        re.compile(f"(?:{record.replace(_GROUP, '(?:')})*+"),
    )
    with path.open("rb") as file:
        left = file.read(3).removeprefix(b"\xef\xbb\xbf")
        while chunk := file.read(_CHUNK):
            # A row may go over several lines: what does not match yet waits for the rest of it.
            whole, mark, rest = (left + chunk).rpartition(b"\n")
            text = (whole + mark).decode()
            rows = [] if texts is _csv_texts and '"' in text else one.findall(text)
            if rows and len(rows) == text.count("\n") and not _has_strange_marks(text):  # each line is a row
                end = len(text)
            else:
                end = _end_of_rows(many, text)
                rows = one.findall(text, 0, end)
            left = text[end:].encode() + rest
            if len(left) > MAX_LINE:
                raise _OtherForm
            yield from _frame(rows[has_header and end > 0 :], wanted, texts)
            has_header = has_header and not end
        if left.strip(b" \t\r\n"):
            text = left.decode().rstrip("\n") + "\n"
            if _end_of_rows(many, text) != len(text):
                raise _OtherForm
            yield from _frame(one.findall(text)[has_header:], wanted, texts)


def _has_strange_marks(text: str) -> bool:
    return "\0" in text or "\ufeff" in text


def _end_of_rows(many: re.Pattern[str], text: str) -> int:
    if _has_strange_marks(text):
        raise _OtherForm
    found = many.match(text)
    return found.end() if found else 0


def _frame(rows: Sequence[Any], wanted: Sequence[str], texts: Texts) -> Iterator[pl.DataFrame]:
    if rows:
        columns: Iterable[Any] = zip(*rows, strict=True) if len(wanted) > 1 else [rows]
        yield pl.DataFrame([texts(name, values) for name, values in zip(wanted, columns, strict=True)])


def _csv_record(names: Sequence[str], wanted: Sequence[str], mark: str) -> str:
    if len(names) < 2:  # a blank line would be a row with one empty field
        raise _OtherForm
    field = rf'"[^"]*+(?:""[^"]*+)*+"|[^"{mark}\r\n]*+'
    # A row in which every field is blank may be one that was lost.
    blank = rf'(?!(?:[^\S\r\n]|["{mark}])*+\r?\n)'
    return blank + mark.join(f"{_GROUP if name in wanted else '(?:'}{field})" for name in names) + r"\r?\n"


def _csv_texts(name: str, values: Sequence[str]) -> pl.Series:
    inner = pl.col(name).str.slice(1).str.head(-1).str.replace_all('""', '"', literal=True)
    texts = pl.when(pl.col(name).str.starts_with('"')).then(inner).otherwise(name)
    return pl.Series(name, values, pl.String()).to_frame().select(texts.alias(name)).to_series()


def _json_record(names: Sequence[str], wanted: Sequence[str]) -> str:
    keys = [re.escape(json.dumps(name, ensure_ascii=False)) for name in names]
    groups = [f"{_GROUP}{_VALUE})" if name in wanted else _VALUE for name in names]
    pairs = [rf"{key}[ \t]*+:[ \t]*+{group}" for key, group in zip(keys, groups, strict=True)]
    return r"[ \t]*+\{[ \t]*+" + r"[ \t]*+,[ \t]*+".join(pairs) + r"[ \t]*+\}[ \t\r]*+\n"


def _json_texts(name: str, values: Sequence[str]) -> pl.Series:
    series = pl.Series(name, values, pl.String())
    if series.str.starts_with('"').all() and not series.str.contains("\\", literal=True).any():
        return series.str.slice(1).str.head(-1)
    return pl.Series(name, [_json_text(value) for value in values], pl.String())


def _json_text(value: str) -> str | None:
    if value[0] in "-0123456789":
        return repr(int(value)) if value.removeprefix("-").isdigit() else repr(float(value))
    return _text_of(json.loads(value))


def _parquet(path: Path, names: Sequence[str]) -> pl.DataFrame | None:
    table = pl.read_parquet(path)
    plain = (pl.String(), pl.Boolean(), pl.Int64(), pl.Int32(), pl.Float64())
    if any(kind not in plain for kind in table.dtypes):
        return None
    is_sound = [pl.col(pl.Float64).is_finite().all(), ~pl.col(pl.String).str.contains("\0", literal=True).any()]
    for each in is_sound:
        if not all(value is not False for row in table.select(each).rows() for value in row):
            return None
    return table.select(pl.Series(name, [_text_of(value) for value in table[name]], pl.String()) for name in names)


def _text_of(value: object) -> str | None:
    """Return a plain value as a text, as `score_text` of counting and JSON have it."""
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else repr(value)
