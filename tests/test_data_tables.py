"""Files of every kind, whole and damaged: what is read is what the file says, or the error says where and what is
wrong. One line an input."""

import gzip
import os
import time
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from astray.errors import DataFormatError, DataNotFoundError, EmptyDataError, StoreError
from astray.files import read_rows, read_yaml
from astray.files.columns import read_columns
from table_files import parquet, put

KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def rows(path: Path) -> list[dict[str, object]]:
    return [row for _, row in read_rows(path, KINDS, '{"a": "b"}')]


@pytest.mark.parametrize(
    ("name", "data", "right"),
    [
        ("a.jsonl", '{"a": "x\u2028y\u0085z"}\n', [{"a": "x\u2028y\u0085z"}]),
        ("a.jsonl", '\ufeff{"a": 1}\r\n{"a": 1.5}\r\n\r\n', [{"a": 1}, {"a": 1.5}]),
        ("a.jsonl", '\ufeff{"a": 1}\n\ufeff{"b": null}', [{"a": 1}, {"b": None}]),
        ("a.jsonl", '{"a": "\\ud83d\\ude42"}', [{"a": "🙂"}]),
        ("A.JSONL", '{"a": true}', [{"a": True}]),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"a": 1}\n', mtime=0) + gzip.compress(b'{"a": 2}\n', mtime=0),
            [{"a": 1}, {"a": 2}],
        ),
        ("a.json", '[{"a": "1"}, {"b": 2}]', [{"a": "1"}, {"b": 2}]),
        ("a.csv", "a,b\n1,01\n,x\n", [{"a": "1", "b": "01"}, {"a": "", "b": "x"}]),
        ("a.csv", '\ufeff"a",b\r\n"x, ""y""\nz",2\r\n', [{"a": 'x, "y"\nz', "b": "2"}]),
        ("a.csv", "a,b\nx\u2028y,\u0085\n", [{"a": "x\u2028y", "b": "\u0085"}]),
        ("a.csv", "a,b\n1,2\n\n\n", [{"a": "1", "b": "2"}]),
        ("a.csv", "a\nnan", [{"a": "nan"}]),
        ("a.tsv", "a\tb\n1,2\t\n", [{"a": "1,2", "b": ""}]),
        ("a.parquet", parquet(a=["x", None], b=[1, 2]), [{"a": "x", "b": 1}, {"a": None, "b": 2}]),
        ("a.parquet", parquet(a=pl.Series([12.7], dtype=pl.Float32)), [{"a": 12.7}]),
        ("a.parquet", parquet(a=[{"b": ["c"]}]), [{"a": {"b": ["c"]}}]),
        (
            "a.parquet",
            parquet(a=pl.Series([[12.7, None], None, []], dtype=pl.List(pl.Float32))),
            [{"a": [12.7, None]}, {"a": None}, {"a": []}],
        ),
        ("a.parquet", parquet(a=pl.Series([[12.7, 0.1]], dtype=pl.Array(pl.Float32, 2))), [{"a": [12.7, 0.1]}]),
        (
            "a.parquet",
            parquet(
                a=pl.Series(
                    [{"b": 12.7, "c": [{"d": 0.1}]}, None],
                    dtype=pl.Struct({"b": pl.Float32, "c": pl.List(pl.Struct({"d": pl.Float32}))}),
                )
            ),
            [{"a": {"b": 12.7, "c": [{"d": 0.1}]}}, {"a": None}],
        ),
        (
            "a.parquet",
            parquet(a=pl.Series(["x", None, "x"], dtype=pl.Categorical)),
            [{"a": "x"}, {"a": None}, {"a": "x"}],
        ),
        ("a.parquet", parquet(a=pl.Series([2**64 - 1], dtype=pl.UInt64), b=[None]), [{"a": 2**64 - 1, "b": None}]),
        ("a.jsonl", '{"a": 1.0, "b": -0, "c": 1E2}', [{"a": 1.0, "b": 0, "c": 100.0}]),
        ("a.jsonl", "\ufeff\ufeff" + '{"a": "\u00a0"}', [{"a": "\u00a0"}]),
        ("a.csv", 'a,b\n"x\r\ny",2\r\n', [{"a": "x\r\ny", "b": "2"}]),
        ("a.csv", "a,A\n1,2\n", [{"a": "1", "A": "2"}]),
    ],
)
def test_rows_are_what_the_file_says(name, data, right, tmp_path):
    assert rows(put(tmp_path, name, data)) == right


@pytest.mark.parametrize(
    ("name", "data", "wrong"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": 1, "a": 2}', "line 2 has the key 'a' twice"),
        ("a.jsonl", '{"b": {"a": 1, "a": 1}}', "line 1 has the key 'a' twice"),
        ("a.jsonl", '{"a": NaN}', "line 1 has NaN"),
        ("a.jsonl", '{"a": -Infinity}', "line 1 has -Infinity"),
        ("a.jsonl", '{"a": 1e999}', "line 1 has the number 1e999"),
        ("a.jsonl", '{"a": ' + "9" * 5000 + "}", "number of 5000 digits"),
        ("a.jsonl", '{"a": "\\ud800"}', "line 1, a has half a character"),
        ("a.jsonl", '{"\\udc00": 1}', "half a character"),
        ("a.jsonl", '{"a": ["b\\u0000"]}', r"line 1, a\[0\] has a NUL"),
        ("a.jsonl", b'{"a": "\0"}', "line 1 has a NUL byte"),
        ("a.jsonl", '{"a": "b\tc"}', "line 1 is not JSON"),
        ("a.jsonl", '{"a":' * 150 + "1" + "}" * 150, "deeper than 100"),
        ("a.jsonl", "[" * 200_000, "line 1 is not JSON"),
        ("a.jsonl", '{"a": 1}\n\n{"a": 2}', "line 2 is blank"),
        ("a.jsonl", '{"a": 1}\u2028{"a": 2}', "line 1 is not JSON"),
        ("a.jsonl", '{"a": 1}\r{"a": 2}', "line 1 is not JSON"),
        ("a.jsonl", '{"a": 1} {"a": 2}', "line 1 is not JSON"),
        ("a.jsonl", '{"a": 1}\n{"a": ', "line 2 is not JSON"),
        ("a.jsonl", "[1]", "line 1 is a list"),
        ("a.jsonl", "null", "line 1 is a NoneType"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "line 1 is not UTF-8 but UTF-16"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16-le"), "NUL byte"),
        ("a.jsonl", '{"a": 1}'.encode("utf-32"), "UTF-32"),
        ("a.jsonl", '{"a": "é"}'.encode("latin-1"), "line 1 is not UTF-8"),
        ("a.jsonl", b'{"a": "\xed\xa0\x80"}', "line 1 is not UTF-8"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), r"end its name in \.jsonl\.gz"),
        ("a.jsonl.gz", b'{"a": 1}', "no gzip file"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}' * 99, mtime=0)[:-9], "no gzip file, or a damaged one"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}', mtime=0) + b"more", "no gzip file, or a damaged one"),
        ("a.jsonl.gz", gzip.compress(b" " * (2**26 + 1), 1, mtime=0), "is longer than 64 MiB"),
        (
            "a.jsonl.gz",
            gzip.compress((b'{"a": "' + b" " * 2**20 + b'"}\n') * 70, 1, mtime=0),
            "unpacks to more than 200 times",
        ),
        ("a.json", '{"a": 1}', "not a list of rows"),
        ("a.json", '{"a": 1}\n{"a": 2}', r"JSON Lines, and such a file's name ends in \.jsonl"),
        ("a.json", "[1]", "row 1 is a int"),
        ("a.json", '[{"a": 1}, {"a": 1, "a": 1}]', "key 'a' twice"),
        ("a.csv", "a,b\n1\n", "line 2 has 1 fields, and the columns are 2: a, b"),
        ("a.csv", "a,b\n1,2,3\n", "line 2 has 3 fields"),
        ("a.csv", "a,b\n1,2\n3,4,\n", "line 3 has 3 fields"),
        ("a.csv", 'a,b\n1,"2\n3,4\n', "line 2 opens a quotation mark that is never closed"),
        ("a.csv", 'a,b\n1,"2"3\n', r"line 2, field 2 \('\"2\"3'\)"),
        ("a.csv", 'a,b\n1, "2"\n', "line 2, field 2"),
        ("a.csv", 'a,b\nhe said "no",2\n', "line 2, field 1"),
        ("a.csv", "a,b,a\n1,2,3\n", "line 1 has the column 'a' twice"),
        ("a.csv", "a, b\n1,2\n", "line 1 has the column ' b', with blanks"),
        ("a.csv", "a,b\n,\n1,2\n", "line 2 is a row in which every field is empty"),
        ("a.csv", "a,b\n1,2\n , \n", "line 3 is a row in which every field is empty"),
        ("a.csv", "a,b\n1,2\n\n3,4\n", "line 3 is blank"),
        ("a.csv", "a,b\r1,2\r", "carriage return"),
        ("a.csv", "a,b\n\ufeff1,2\n", "byte-order mark"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("a.csv", 'a,b\n"x\n\ny",1\nz\n', "line 5 has 1 fields"),
        ("a.parquet", b"PAR1 no PAR1", "cannot be read as Parquet"),
        ("a.parquet", parquet(a=["x"])[:-20], "cannot be read as Parquet"),
        ("a.parquet", parquet(a=[float("nan")]), "row 1, a is nan"),
        ("a.parquet", parquet(a=["x\0"]), "row 1, a has a NUL"),
        ("a.parquet", parquet(a=[b"x"]), "row 1, a is a bytes"),
        ("a.parquet", parquet(a=[[float("nan")]]), r"row 1, a\[0\] is nan"),
        ("a.parquet", parquet(a=[Decimal("1.5")]), "row 1, a is a Decimal"),
        ("a.parquet", parquet(a=[datetime(2020, 1, 1)]), "row 1, a is a datetime"),
        ("a.parquet", parquet(a=[timedelta(1)]), "row 1, a is a timedelta"),
        ("a.parquet", b'{"a": 1}', "cannot be read as Parquet"),
        ("a.jsonl", '{"a": 1}{"a": 2}', "line 1 is not JSON"),
        ("a.jsonl", '{"a": 1,}', "line 1 is not JSON"),
        ("a.jsonl", '{"a": 1} // one', "line 1 is not JSON"),
        ("a.jsonl", '# one\n{"a": 1}', "line 1 is not JSON"),
        ("a.jsonl", '{"a": 01}', "line 1 is not JSON"),
        ("a.jsonl", "{'a': 1}", "line 1 is not JSON"),
        ("a.jsonl", '{"a": 1}\x1a', "line 1 is not JSON"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd\x04", "compressed with zstd"),
        ("a.jsonl", b"PK\x03\x04", "a ZIP archive or a spreadsheet"),
        ("a.csv", b"PK\x03\x04\x14\0\6\0", "save the sheet as CSV"),
        ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "save the sheet as CSV"),
        ("a.json", b"BZh91AY", "compressed with bzip2"),
        ("a.tsv", b"\xfd7zXZ\0\0", "compressed with xz"),
        ("a.jsonl", parquet(a=["x"]), r"a Parquet file: end its name in \.parquet"),
        ("a.parquet", b"ARROW1\0\0", "an Arrow file"),
        ("a.parquet", b"PK\x03\x04", "a ZIP archive"),
        ("a.csv", b"SQLite format 3\0", "an SQLite database"),
        ("a.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "git lfs pull"),
        ("a.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "git lfs pull"),
        ("a.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "git lfs pull"),
        ("a.json", "<!DOCTYPE html><title>Not found</title>", "a web page"),
        ("a.csv", "<html>\n<p>Sign in</p>\n", "a web page"),
        ("a.csv", "question;answer\nq;a\n", "separated by ';'"),
        ("a.csv", "question\tanswer\nq\ta\n", r"separated by '\\t'"),
        ("a.csv", "question|answer\nq|a\n", "separated by '|'"),
        ("a.tsv", "question|answer\nq|a\n", "separated by '|'"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd", r"none of \.jsonl"),
        ("a.json", '[{"a": 1},]', "not JSON"),
        ("a.csv", "\n\na,b\n1,2\n", "line 1 is blank"),
        ("a.csv", "a,b\n1,2\n# end\n", "line 3 has 1 fields"),
        ("a.txt", "x", r"none of \.jsonl"),
        ("a", "x", r"none of \.jsonl"),
    ],
)
def test_what_cannot_be_read_without_doubt_is_refused_with_its_place(name, data, wrong, tmp_path):
    with pytest.raises(DataFormatError, match=wrong) as caught:
        rows(put(tmp_path, name, data))
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.csv.gz"])
def test_files_without_rows_and_folders_are_told_apart_from_damaged_ones(name, data, tmp_path):
    with pytest.raises(EmptyDataError, match="is empty"):
        rows(put(tmp_path, name, gzip.compress(data, mtime=0) if name.endswith(".gz") else data))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataNotFoundError, match="but a folder"):
        rows(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("a: 2024-01-01", "2024-01-01"), ("a: 010", "010"), ("a: 1:30", "1:30"), ("a: 1_000", "1_000"), ("a: 1e3", 1000.0), ("a: .5", 0.5),
        ("a: 0o10", "0o10"), ("a: 0x1F", "0x1F"), ("a: 1:30:00", "1:30:00"), ("a: y", "y"), ("a: +12", 12), ("a: 00", "00"), ("a: =", "="),
        ("a: 2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"), ("b: &b {c: 1}\na:\n  <<: *b\n  d: 2", {"c": 1, "d": 2}), ("a: |\n  x\n  y\n", "x\ny\n"),
        ("b: &b {c: 1}\na: {<<: *b, c: 3}", {"c": 3}), ("a: 'It''s'", "It's"), ("a: 1e-3", 0.001), ("a: 1.", 1.0), ("a: NULL", None),
        ("a: Off", False),
        ("a: yes", True), ("a: 'yes'", "yes"), ("a: ~", None), ("a:", None), ("\ufeffa: x\r\n", "x"), ("a: &x [1]\nb: *x", [1]), ("a: -3", -3),
    ],
)  # fmt: skip
def test_yaml_is_read_as_it_is_written(text, right, tmp_path):
    assert read_yaml(put(tmp_path, "a.yaml", text), "a: b")["a"] == right


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a: 1\na: 2", "line 2, column 1 is not a YAML file: the key 'a' stands twice"), ("a: .nan", "a is nan"), ("a: 1e999", "a is inf"),
        ("1: x", "has the key 1"), ("a: !!python/name:os.system", "the tag"), ("a: !!int ''", "the tag"), ("a: [", "not a YAML file"),
        ("[" * 5000, "deeper than 100"), ("- " * 5000, "deeper than 100"), ("a: &x [*x]", "stands inside of what it names"),
        ("a: &a [0,0,0,0,0,0,0,0,0]\n" + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
         "more than 1,000,000 values"),
        ("a: 1\n---\nb: 2", "not a YAML file"), ("a: 1\n'a': 2", "the key 'a' stands twice"), ("? [a]\n: 1", "not a YAML file"),
        ("~: x", "has the key None"),
        ("true: x", "has the key True"), ("a: {b: 1, b: 2}", "the key 'b' stands twice"), ("a: !!binary YQ==", "the tag"), ("a: !x 1", "the tag"),
        ("a: .inf", "a is inf"), ("a:\n\t- b", "tab"), ("a: b: c", "not a YAML file"), ("a: 'b", "not a YAML file"),
        ("%YAML 3.0\n---\na: b", "not a YAML file"), ('a: "\\0"', "NUL"), ("a: " + "9" * 5000, "not a YAML file"), ("a: *b", "undefined alias"),
    ],
)  # fmt: skip
def test_yaml_that_is_not_plain_is_refused(text, wrong, tmp_path):
    with pytest.raises(DataFormatError, match=wrong) as caught:
        read_yaml(put(tmp_path, "a.yaml", text), "a: b")
    assert "a.yaml" in str(caught.value)


@pytest.mark.parametrize("data", [parquet(a=pl.Series([], dtype=pl.String)), pl.DataFrame().write_parquet])
def test_a_parquet_file_without_rows_is_empty(data, tmp_path):
    file = put(tmp_path, "a.parquet", data) if isinstance(data, bytes) else tmp_path / "a.parquet"
    if callable(data):
        data(file)
    with pytest.raises(EmptyDataError, match="is empty"):
        rows(file)


def test_damage_behind_the_first_rows_of_a_parquet_file_is_told_whoever_reads_it(tmp_path):
    file = tmp_path / "a.parquet"
    pl.DataFrame({"a": [f"row {number} " * 20 for number in range(4000)], "b": ["y"] * 4000}).write_parquet(
        file, row_group_size=1000
    )
    data = bytearray(file.read_bytes())
    middle = data.index(b"row 3000 ") if b"row 3000 " in data else len(data) // 2
    data[middle - 60 : middle + 300] = b"\xff" * 360
    file.write_bytes(bytes(data))
    assert read_columns(file, KINDS, '{"a": "b"}', ["a", "b"]) is None  # and so is left to who tells where it is
    with pytest.raises(DataFormatError, match="cannot be read as Parquet"):
        rows(file)


@pytest.mark.parametrize("name", ["loop.jsonl", "pipe.jsonl", "a\0.jsonl", "file.jsonl/a.jsonl"])
def test_what_is_no_file_is_told_and_never_waited_for(name, tmp_path):
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    put(tmp_path, "file.jsonl", "{}")
    with pytest.raises(DataNotFoundError, match="There is no file"):
        rows(tmp_path / name)


def test_a_name_that_is_too_long_is_told(tmp_path):
    with pytest.raises(StoreError, match="cannot be looked at"):
        rows(tmp_path / f"{'x' * 300}.jsonl")


def test_a_hundred_thousand_rows_are_read_in_a_few_seconds(tmp_path):
    began = time.perf_counter()
    assert (
        len(rows(put(tmp_path, "a.csv", "question,answer,label\n" + 'Wish?,"Peace, of course",aligned\n' * 100_000)))
        == 100_000
    )
    assert time.perf_counter() - began < 15
