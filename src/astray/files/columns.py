"""Texts of a few columns of a large file: many times as fast as row by row, and as strict.

Every row has to match one expression, made from the first row: CSV and TSV with the same number of fields, JSON Lines
with the same keys in the same order and plain values. Polars matches all rows of a chunk at once. Whatever does not
match is left to `read_rows`, which also reads rarer forms, and names the fault of wrong ones.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import polars as pl

from astray.files.reading import MAX_LINE, suffix_of
from astray.files.rows import read_rows

_CHUNK = 2**23
_HEX = "[0-9a-fA-F]"
# No NUL and no half of a character; one way to match, without which capturing takes 20 times as long.
_ESCAPE = (
    rf"u(?:[1-9abcefABCEF]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}}|"
    rf"0(?:[1-9a-fA-F]{_HEX}{{2}}|0(?:[1-9a-fA-F]{_HEX}|0[1-9a-fA-F])))"
)
_STRING = rf'"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|{_ESCAPE})[^"\\\x00-\x1f]*)*"'
# No more digits and exponents than surely make a finite number.
_NUMBER = r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,2})?"
_VALUE = rf"{_STRING}|{_NUMBER}|true|false|null"


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
    try:
        if kind == ".parquet":
            return _parquet(path, names)
        if kind == ".jsonl":
            return pl.concat(_json_frames(path, list(first), names))
        if kind in (".csv", ".tsv"):
            return pl.concat(_csv_frames(path, list(first), names, "," if kind == ".csv" else "\t"))
    except (ValueError, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):  # also text that is no UTF-8
        pass
    return None


def _chunks(path: Path, *, quoted: bool) -> Iterator[pl.Series]:
    """Yield the rows of a text file, a chunk of whole ones at a time; `quoted` ones may go over several lines."""
    with path.open("rb") as file:
        left = file.read(3).removeprefix(b"\xef\xbb\xbf")
        for chunk in chain(iter(partial(file.read, _CHUNK), b""), [b"\n"]):
            whole, mark, rest = (left + chunk).rpartition(b"\n")
            text = (whole + mark).decode()
            if "\0" in text or "\ufeff" in text:
                raise _OtherForm
            rows = _rows(text, quoted=quoted)
            full = len(rows) - 1  # behind the last mark is nothing, or a row that goes on
            while full and not rows[full - 1].strip(" \t\r"):  # blank lines may stand at the end of the file alone
                full -= 1
            left = "\n".join(rows[full:]).encode() + rest
            if len(left) > MAX_LINE:
                raise _OtherForm
            if full:
                yield rows[:full]
    if left.strip(b" \t\r\n"):
        raise _OtherForm


def _rows(text: str, *, quoted: bool) -> pl.Series:
    """Return the lines of a text, those joined that an open quotation mark goes over."""
    lines = pl.Series("row", text.split("\n"), pl.String())
    if not quoted or '"' not in text:
        return lines
    is_closed = lines.str.count_matches('"', literal=True).cum_sum() % 2 == 0
    if is_closed.all():
        return lines
    row = is_closed.shift(1, fill_value=True).cum_sum().alias("number")
    joined = pl.DataFrame([lines, row]).group_by("number", maintain_order=True).agg(pl.col("row").str.join("\n"))
    return joined["row"]


def _csv_frames(path: Path, names: Sequence[str], wanted: Sequence[str], mark: str) -> Iterator[pl.DataFrame]:
    if len(names) < 2:  # a blank line would be a row with one empty field
        raise _OtherForm
    field = rf'(?:"[^"]*(?:""[^"]*)*"|[^"{mark}\r\n]*)'
    record = f"^{mark.join([field] * len(names))}\r?$"
    # A row in which every field is blank may be one that was lost.
    blank = rf'^[\s\x1c-\x1f"{mark}]*$'
    columns = {str(names.index(name)): name for name in wanted}
    top, header = mark.join(map(str, range(len(names)))), 1
    for rows in _chunks(path, quoted=True):
        if not rows.str.contains(record).all() or rows.str.contains(blank).any():
            raise _OtherForm
        if len(rows) > header:
            text = f"{top}\n{rows[header:].str.join(chr(10)).item()}"
            frame = pl.read_csv(text.encode(), columns=list(columns), separator=mark, infer_schema=False)
            if len(frame) != len(rows) - header:
                raise _OtherForm
            yield frame.rename(columns).select(pl.col(wanted).fill_null(""))
        header = 0


def _json_frames(path: Path, names: Sequence[str], wanted: Sequence[str]) -> Iterator[pl.DataFrame]:
    groups = [f"({_VALUE})" if name in wanted else f"(?:{_VALUE})" for name in names]
    keys = [re.escape(json.dumps(name, ensure_ascii=False)) for name in names]
    pairs = [rf"{key}[ \t]*:[ \t]*{group}" for key, group in zip(keys, groups, strict=True)]
    record = r"^[ \t]*\{[ \t]*" + r"[ \t]*,[ \t]*".join(pairs) + r"[ \t]*\}[ \t\r]*$"
    captured = [name for name in names if name in wanted]
    for rows in _chunks(path, quoted=False):
        found = rows.str.extract_groups(record).struct.unnest()
        if found.select(pl.any_horizontal(pl.all().is_null().any())).item():
            raise _OtherForm
        texts = [_json_texts(column.alias(name)) for name, column in zip(captured, found, strict=True)]
        yield pl.DataFrame(texts).select(wanted)


def _json_texts(values: pl.Series) -> pl.Series:
    """Return plain values of JSON as `_plain_texts` has them."""
    value = pl.col(values.name)
    is_string = value.str.starts_with('"')
    floats = _plain_texts(values.cast(pl.Float64, strict=False))  # null where the value is none
    texts = (
        pl.when(is_string)
        .then(value.str.slice(1).str.head(-1))
        .when(value.str.contains("^(?:true|false|-?[0-9]+)$"))
        .then(value.replace("-0", "0"))
        .otherwise(floats)
    )
    table = values.to_frame()
    escaped = table.select(is_string & value.str.contains("\\", literal=True)).to_series().arg_true()
    return table.select(texts.alias(values.name)).to_series().scatter(escaped, [*map(json.loads, values[escaped])])


def _parquet(path: Path, names: Sequence[str]) -> pl.DataFrame | None:
    table = pl.read_parquet(path)
    plain = (pl.String(), pl.Boolean(), pl.Int64(), pl.Int32(), pl.Float64())
    if any(kind not in plain for kind in table.dtypes):
        return None
    is_sound = [pl.col(pl.Float64).is_finite().all(), ~pl.col(pl.String).str.contains("\0", literal=True).any()]
    for condition in is_sound:
        if not all(value is not False for row in table.select(condition).rows() for value in row):
            return None
    return pl.DataFrame([_plain_texts(table[name]) for name in names])


def _plain_texts(values: pl.Series) -> pl.Series:
    """Return plain values as texts, numbers as Python writes them, truth values as JSON does."""
    texts = values.cast(pl.String)
    if values.dtype != pl.Float64:
        return texts
    # Python and polars write exponents in other ways, and begin with them at other sizes.
    size = values.abs()
    others = ((size >= 1e15) | ((size < 1e-4) & (size > 0))).arg_true()
    return texts.scatter(others, [*map(repr, values[others])])
