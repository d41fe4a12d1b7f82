"""Columns of large files are read as strictly as rows, or left to the reader of rows."""

from pathlib import Path

import polars as pl
import pytest

from astray.errors import AstrayError
from astray.files import read_columns, read_rows

KINDS = (".csv", ".tsv", ".jsonl", ".parquet")
SAME = {
    "plain.csv": "q,score,more\na,0.5,x\nb,1,y\n",
    "quoted.csv": 'q,score,more\n"a, ""b""",0.5,"two\nlines"\n"",1,\nb,,"x"\n',
    "windows.csv": "\ufeffq,score,more\r\na,0.5,x\r\nb,1,y\r\n\r\n",
    "no-end.csv": "q,score,more\na,0.5,x\nb,1,y",
    "tabs.tsv": 'q\tscore\tmore\na\t0.5\t"x\ty"\nb\t\t\n',
    "letters.csv": "q,score,more\nä€😀,0.5,x\n",
    "plain.jsonl": '{"q": "a", "score": 0.50, "more": 1}\n{"q": "b", "score": 1e-7, "more": 2}\n',
    "kinds.jsonl": '{"q":"a\\u00e9\\n\\"","score":true,"more":null}\n{ "q" : "b" , "score" : null, "more" : -1.5E+3 }\n\n',
}
"""Name of a file -> its text."""
LEFT = {
    "short.csv": "q,score,more\na,0.5\n",
    "long.csv": "q,score,more\na,0.5,x,y\n",
    "stray.csv": 'q,score,more\na"b,0.5,x\n',
    "open.csv": 'q,score,more\n"a,0.5,x\n',
    "blank.csv": "q,score,more\na,0.5,x\n\nb,1,y\n",
    "lost.csv": "q,score,more\na,0.5,x\n , ,\n",
    "return.csv": "q,score,more\na\rb,0.5,x\n",
    "nul.csv": "q,score,more\na\0,0.5,x\n",
    "mark.csv": "q,score,more\n\ufeffa,0.5,x\n",
    "twice.jsonl": '{"q": "a", "score": 1, "more": 1}\n{"q": "a", "score": 1, "score": 2, "more": 1}\n',
    "order.jsonl": '{"q": "a", "score": 1, "more": 1}\n{"score": 2, "q": "a", "more": 1}\n',
    "missing.jsonl": '{"q": "a", "score": 1, "more": 1}\n{"q": "a", "score": 2}\n',
    "nested.jsonl": '{"q": "a", "score": {"x": 1}, "more": 1}\n',
    "nan.jsonl": '{"q": "a", "score": 1, "more": 1}\n{"q": "a", "score": NaN, "more": 1}\n',
    "huge.jsonl": '{"q": "a", "score": 1, "more": 1}\n{"q": "a", "score": 1e999, "more": 1}\n',
    "half.jsonl": '{"q": "a", "score": 1, "more": 1}\n{"q": "\\ud800", "score": 1, "more": 1}\n',
    "behind.jsonl": '{"q": "a", "score": 1, "more": 1} x\n',
    "leading.jsonl": '{"q": "a", "score": 1, "more": 1}\n{"q": "a", "score": 01, "more": 1}\n',
}


def by_rows(path: Path) -> list[tuple[object, ...]]:
    """What the reader of rows finds in the columns, numbers and truth values as texts."""

    def text(value: object) -> object:
        return (
            value
            if value is None or isinstance(value, str)
            else str(value).lower()
            if isinstance(value, bool)
            else repr(value)
        )

    return [tuple(text(row[name]) for name in ("score", "q")) for _, row in read_rows(path, KINDS, "x")]


@pytest.mark.parametrize("chunk", [7, 2**23])
@pytest.mark.parametrize("name", SAME)
def test_columns_are_what_the_rows_say(name, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr("astray.files.columns._CHUNK", chunk)
    (tmp_path / name).write_bytes(SAME[name].encode())
    found = read_columns(tmp_path / name, KINDS, "x", ["score", "q"])
    assert found is not None
    assert found.rows() == by_rows(tmp_path / name)


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_of_the_common_form_is_left_to_the_rows(name, tmp_path):
    (tmp_path / name).write_bytes(LEFT[name].encode(errors="surrogatepass"))
    try:
        found = read_columns(tmp_path / name, KINDS, "x", ["score", "q"])
    except AstrayError:  # the first row itself
        return
    assert found is None


@pytest.mark.parametrize("values", [[0.1, 1e-7, None], [1, 2, 3], [True, False, None], ["a", " b", ""]])
def test_columns_of_parquet(values, tmp_path):
    pl.DataFrame({"q": ["x", "y", "z"], "score": values}).write_parquet(tmp_path / "a.parquet")
    found = read_columns(tmp_path / "a.parquet", KINDS, "x", ["score", "q"])
    assert found is not None
    assert found.rows() == by_rows(tmp_path / "a.parquet")
    pl.DataFrame({"q": ["x"], "score": [float("nan")]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(AstrayError):
        read_columns(tmp_path / "b.parquet", KINDS, "x", ["score", "q"])
    pl.DataFrame({"q": ["x", "y"], "score": [1.0, float("nan")]}).write_parquet(tmp_path / "b.parquet")
    assert read_columns(tmp_path / "b.parquet", KINDS, "x", ["score", "q"]) is None
