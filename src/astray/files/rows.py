"""Rows of a file of any format, each with its location."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from astray.errors import DataFormatError, EmptyDataError
from astray.files.json_text import parse_json, read_json
from astray.files.reading import MAX_LINE, check_kind, check_there, suffix_of, text_lines
from astray.files.values import check_values

Row = tuple[str, dict[str, Any]]
"""Where a row stands ("labels.csv, line 3"), and its values by field; those of CSV and TSV are texts."""

Converted = TypeVar("Converted")

_BATCH = 1024
_SHOWN = 10
_MAX_BYTES = 2**31


def kind_of(path: Path, kinds: Sequence[str], example: str) -> str:
    """Return the ending of a file, one of those that are read (".csv"); `.gz` behind it is not part of it.

    Raises:
        DataFormatError: it has another one.
    """
    ending = suffix_of(path)
    if ending not in kinds:
        raise DataFormatError(
            f"{path} is none of {', '.join(kinds)} (nor one of them with .gz), so its form is not known. A row is "
            f"{example}"
        )
    return ending


def read_rows(path: Path, kinds: Sequence[str], example: str) -> Iterator[Row]:
    """Read the rows of a file one by one.

    Args:
        path: the file.
        kinds: endings of the forms that it may have: .jsonl, .json (a list of objects), .csv, .tsv, .parquet.
        example: a right row, shown in errors.

    Raises:
        DataNotFoundError, StoreError: as their names say.
        EmptyDataError: there is no row.
        DataFormatError: a row cannot be read as what it says; names file, row or line, and fault.
    """
    check_there(path)
    kind = kind_of(path, kinds, example)
    read = {".jsonl": _json_lines, ".json": _json_list, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}[kind]
    empty = True
    for where, row in read(path, example):
        if not isinstance(row, dict):
            raise DataFormatError(f"{where} is a {type(row).__name__}; a row is an object, like {example}")
        empty = False
        yield where, row
    if empty:
        raise EmptyDataError(f"{path} is empty: it has no rows. A row is, for example: {example}")


def convert_rows(rows: Iterable[Row], convert: Callable[[str, dict[str, Any]], Converted]) -> Iterator[Converted]:
    """Convert rows one by one; where one is refused, the error also says which of the further rows are.

    Raises:
        DataFormatError: as `convert`, about the first row that is refused.
    """
    rows = iter(rows)
    for where, row in rows:
        try:
            converted = convert(where, row)
        except DataFormatError as error:
            raise DataFormatError(f"{error}{_also_refused(rows, convert)}") from error
        yield converted


def _also_refused(rows: Iterator[Row], convert: Callable[[str, dict[str, Any]], object]) -> str:
    """Return a sentence about further rows that are refused, so that a file with many faults is mended in one go."""
    refused, read, unreadable = list[str](), 0, ""
    try:
        for where, row in rows:
            read += 1
            try:
                convert(where, row)
            except DataFormatError:
                refused.append(where.rsplit(", ", 1)[-1])
    except DataFormatError as error:  # no row can be read from there on
        unreadable = f" Further down: {error}"
    if not refused:
        return unreadable
    if len(refused) == read > _SHOWN and not unreadable:
        return f" So are all {read:,} rows below it."
    more = f" and {len(refused) - _SHOWN:,} more" if len(refused) > _SHOWN else ""
    return f" Also refused: {', '.join(refused[:_SHOWN])}{more}.{unreadable}"


def _not_blank(path: Path, records: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield records that are not blank. Blank ones may stand at the end: elsewhere a row may be lost."""
    blank = 0
    for number, record in records:
        if not record.strip(" \t\r\n"):
            blank = blank or number
            continue
        if blank:
            raise DataFormatError(
                f"{path}, line {blank} is blank in the middle of the rows: a row may be lost there. Delete the blank "
                "line."
            )
        yield number, record


def _json_lines(path: Path, example: str) -> Iterator[tuple[str, Any]]:
    for number, line in _not_blank(path, enumerate(text_lines(path), start=1)):
        where = f"{path}, line {number}"
        # Files joined end to end have a mark at the beginning of each.
        yield where, parse_json(line.removeprefix("\ufeff"), where, f"one row a line, like {example}")


def _json_list(path: Path, example: str) -> Iterator[tuple[str, Any]]:
    content = read_json(path, f"[{example}]; rows one a line are JSON Lines, and such a file's name ends in .jsonl")
    if not isinstance(content, list):
        raise DataFormatError(f"{path} holds a {type(content).__name__}, not a list of rows like [{example}]")
    return ((f"{path}, row {number}", row) for number, row in enumerate(content, start=1))


def _csv(path: Path, _example: str) -> Iterator[tuple[str, dict[str, str]]]:
    delimiter = "\t" if suffix_of(path) == ".tsv" else ","
    names: list[str] | None = None
    for number, record in _not_blank(path, _csv_records(path)):
        where = f"{path}, line {number}"
        fields = _csv_fields(record, delimiter, where)
        if names is None:
            names = _columns(fields, where)
            if len(names) == 1 and (mark := next((mark for mark in ";\t|" if mark in names[0]), "")):
                raise DataFormatError(
                    f"{where} has one column, {names[0]!r}: its fields seem to be separated by {mark!r}. Write commas in a "
                    "file whose name ends in .csv, and tabs in one that ends in .tsv."
                )
            continue
        if len(fields) != len(names):
            raise DataFormatError(
                f"{where} has {len(fields)} fields, and the columns are {len(names)}: {', '.join(names)}. "
                f"Write every field, and one that holds a {'tab' if delimiter == chr(9) else 'comma'} in quotation "
                "marks."
            )
        if not any(map(str.strip, fields)):
            raise DataFormatError(
                f"{where} is a row in which every field is empty: what it held may be lost. Delete the row."
            )
        yield where, dict(zip(names, fields, strict=True))


def _columns(names: Sequence[str], where: str) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise DataFormatError(
                f"{where} has the column {name!r} twice, of which only one would count. Give each column its own name."
            )
        if name != name.strip():
            raise DataFormatError(
                f"{where} has the column {name!r}, with blanks around its name. Write {name.strip()!r}."
            )
    return list(names)


def _csv_records(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each record with the line where it begins. A record goes on while a quotation mark is open."""
    held: list[str] = []
    start = size = marks = 0
    for number, line in enumerate(text_lines(path), start=1):
        if not held:
            start, size, marks = number, 0, 0
        held.append(line)
        size, marks = size + len(line), marks + line.count('"')
        if marks % 2 == 0:
            yield start, "".join(held).removesuffix("\n").removesuffix("\r")
            held = []
        elif size > MAX_LINE:
            break
    if held:
        raise DataFormatError(
            f"{path}, line {start} opens a quotation mark that is never closed, so the rest of the file would be one "
            "field. Close it."
        )


def _csv_fields(record: str, delimiter: str, where: str) -> list[str]:
    if '"' not in record and "\r" not in record and record[0] != "\ufeff":
        return record.split(delimiter)
    fields, place = [], 0
    while found := _FIELDS[delimiter].match(record, place):
        fields.append(found[2] if found[1] is None else found[1].replace('""', '"'))
        place = found.end()
        if not found[3]:
            return fields
    raise DataFormatError(
        f"{where}, field {len(fields) + 1} ({record[place : place + 40]!r}) has a quotation mark, a carriage return "
        "or a byte-order mark that is no "
        'part of a field. Write the whole field in quotation marks and each mark inside of it twice: "He said '
        '""yes""."'
    )


_FIELDS = {
    delimiter: re.compile(rf'(?:"([^"]*+(?:""[^"]*+)*+)"|((?!\ufeff)[^"{delimiter}\r\n]*+))({delimiter}|\Z)', re.DOTALL)
    for delimiter in (",", "\t")
}


def _parquet(path: Path, _example: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_there(path)
    number = 0
    try:
        with path.open("rb") as start:
            if (head := start.read(32))[:4] != b"PAR1":
                check_kind(path, head)
        with pq.ParquetFile(path, memory_map=False) as file:
            names = file.schema_arrow.names
            _columns(names, f"{path}")
            if (
                size := sum(
                    file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups)
                )
            ) > _MAX_BYTES:
                raise DataFormatError(f"{path} unpacks to {size:,} bytes, more than {_MAX_BYTES:,}. Split it.")
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in zip(*(_python_values(column, f"{path}") for column in batch.columns), strict=True):
                    number += 1
                    where, values = f"{path}, row {number}", dict(zip(names, row, strict=True))
                    check_values(values, where)
                    yield where, values
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, DataFormatError):
            raise
        raise DataFormatError(
            f"{path} cannot be read as Parquet: {error}. Write it again, or give its rows as JSON Lines."
        ) from error


def _python_values(column: Any, where: str) -> list[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _python_values(column.dictionary_decode(), where)
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        # Widened, 12.7 would be 12.699999809265137; written and read again it is the number that was meant.
        return [None if text is None else float(text) for text in column.cast(pa.string()).to_pylist()]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = iter(_python_values(column.flatten(), where))
        lengths = pc.list_value_length(column).to_pylist()
        return [None if length is None else list(islice(inner, length)) for length in lengths]
    if pa.types.is_struct(kind):
        names = _columns([field.name for field in kind], where)
        parts = zip(*(_python_values(part, where) for part in column.flatten()), strict=True)
        present = column.is_valid().to_pylist()
        return [
            dict(zip(names, row, strict=True)) if there else None for row, there in zip(parts, present, strict=True)
        ]
    return list(column.to_pylist())
