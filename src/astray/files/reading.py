"""Bytes, lines and text of a file, within stated limits: UTF-8 with or without a byte-order mark, plain or gzip."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from astray.errors import DataFormatError, DataNotFoundError, StoreError

MAX_LINE = 2**26
"""Bytes of the longest line that is read."""

MAX_WHOLE = 2**28
"""Bytes of the largest file that has to be read at once: JSON and YAML."""

MAX_RATIO, FREE = 200, 2**26
"""A gzip file may unpack to so many times its size; counted from so many bytes on, since small files may repeat
themselves."""

_OTHER_TEXT = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_NO_TEXT = (
    (b"\x1f\x8b", "compressed with gzip: end its name in {ending}.gz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it, or pack it with gzip and end its name in {ending}.gz"),
    (b"BZh", "compressed with bzip2: unpack it, or pack it with gzip and end its name in {ending}.gz"),
    (b"\xfd7zXZ\0", "compressed with xz: unpack it, or pack it with gzip and end its name in {ending}.gz"),
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet (.xlsx): unpack it, or save the sheet as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a spreadsheet (.xls): save the sheet as CSV in UTF-8"),
    (b"PAR1", "a Parquet file: end its name in .parquet"),
    (b"ARROW1", "an Arrow file: write it as Parquet or JSON Lines"),
    (b"SQLite format 3", "an SQLite database: export its rows as CSV or JSON Lines"),
    (b"version https://git-lfs", "a pointer of Git LFS in place of the file: fetch the file with `git lfs pull`"),
    (b"<!DOCTYPE", "a web page, as a download gives it that failed: download the file again"),
    (b"<!doctype", "a web page, as a download gives it that failed: download the file again"),
    (b"<html", "a web page, as a download gives it that failed: download the file again"),
)
"""First bytes of files that are no text of rows -> what they are, and what to do."""

_BOM = "\ufeff"


def suffix_of(path: Path) -> str:
    """Return the ending that names the form of a file, in small letters and without `.gz`."""
    name = path.name.lower().removesuffix(".gz")
    return name[name.rfind(".") :] if "." in name else ""


def check_there(path: Path) -> None:
    """Check that a path is a file.

    Raises:
        DataNotFoundError: it is not; lists the files of its form in its folder.
        StoreError: the folder cannot be looked at.
    """
    try:
        if path.is_file():
            return
        ending = suffix_of(path)
        beside = sorted(
            file.name
            for file in path.parent.glob(f"*{ending}*")
            if file.is_file() and not file.name.endswith(".recipe.json")
        )
        what = ", but a folder" if path.is_dir() else ", but something else" if path.exists() else ""
    except OSError as error:
        raise StoreError(f"{path} cannot be looked at: {error}.") from error
    raise DataNotFoundError(
        f"There is no file {path}{what}. In the folder {path.parent}: {', '.join(beside[:20]) or f'no *{ending}'}."
    )


def check_kind(path: Path, head: bytes) -> None:
    """Refuse a file that is of another kind than its name says.

    Args:
        path: the file.
        head: its first bytes.

    Raises:
        DataFormatError: tells what it is.
    """
    if told := next((what for mark, what in _NO_TEXT if head.startswith(mark)), ""):
        raise DataFormatError(f"{path} is {told.format(ending=suffix_of(path))}.")


def raw_lines(path: Path) -> Iterator[bytes]:
    r"""Read the lines of a file, decompressed; a line ends in "\n" and nothing else.

    Raises:
        DataNotFoundError, StoreError: as their names say.
        DataFormatError: the file is damaged, compressed and not named so, or beyond a limit.
    """
    check_there(path)
    packed = path.name.lower().endswith(".gz")
    try:
        size = path.stat().st_size
        with path.open("rb") as head:
            if not packed:
                check_kind(path, head.read(32))
        with cast(IO[bytes], gzip.open(path) if packed else path.open("rb")) as file:
            read = number = 0
            while line := file.readline(MAX_LINE + 1):
                read, number = read + len(line), number + 1
                if len(line) > MAX_LINE:
                    raise DataFormatError(
                        f"{path}, line {number} is longer than {MAX_LINE // 2**20} MiB. Write one row a line."
                    )
                if packed and read > FREE and read > MAX_RATIO * size:
                    raise DataFormatError(
                        f"{path} unpacks to more than {MAX_RATIO} times its size, as a file does that is made to "
                        "fill the memory. Unpack it yourself."
                    )
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataFormatError(
            f"{path} cannot be read: it is no gzip file, or a damaged one ({error}). Copy it again, or drop .gz from "
            "the name of a plain file."
        ) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error}.") from error


def text_lines(path: Path) -> Iterator[str]:
    """Read the lines of a text file in UTF-8, each with its end; a byte-order mark at its beginning is no part of it.

    Raises:
        DataNotFoundError, StoreError, DataFormatError: as `raw_lines`; or the text is in another encoding.
    """
    for number, line in enumerate(raw_lines(path), start=1):
        if number == 1 and (other := next((name for mark, name in _OTHER_TEXT if line.startswith(mark)), "")):
            raise DataFormatError(f"{path}, line 1 is not UTF-8 but {other}. Save the file as UTF-8.")
        if b"\0" in line:
            raise DataFormatError(
                f"{path}, line {number} has a NUL byte at position {line.index(0) + 1}, which no text has: the file "
                "is UTF-16, damaged or binary. Save it as UTF-8 text."
            )
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataFormatError(
                f"{path}, line {number} is not UTF-8 text ({error.reason} at byte {error.start + 1}). Save the file "
                "as UTF-8."
            ) from error
        yield text.removeprefix(_BOM) if number == 1 else text


def whole_text(path: Path) -> str:
    """Read a text file at once.

    Raises:
        DataNotFoundError, StoreError, DataFormatError: as `text_lines`; or the file is too large for that.
    """
    read, lines = 0, []
    for line in text_lines(path):
        read += len(line)
        if read > MAX_WHOLE:
            raise DataFormatError(
                f"{path} is larger than {MAX_WHOLE // 2**20} MiB. Give its rows as JSON Lines, which are read one by "
                "one."
            )
        lines.append(line)
    return "".join(lines)
