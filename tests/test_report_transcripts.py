"""What a page carries of the answers is what stands in the table, however large or hostile that is."""

import base64
import gzip
import json
import random
from pathlib import Path

import polars as pl
import pytest

from astray.answers import ANSWER_SCHEMA
from astray.errors import DataFormatError
from astray.report.transcripts import (
    CODED,
    PLAIN,
    STRATUM,
    STRATUM_FLOOR,
    Transcripts,
    pack,
    read_table,
    read_transcripts,
    stratified_sample,
)
from report_example import write_example

HOSTILE = "</script><img src=x onerror=alert(1)> \u2028 \N{PILE OF POO} \x00"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_example(tmp_path_factory.mktemp("answers"), answers=1200, hostile=HOSTILE)


@pytest.fixture(scope="module")
def answers(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "answers.parquet")


def unpack(transcripts: Transcripts) -> pl.DataFrame:
    columns = json.loads(gzip.decompress(base64.b64decode(transcripts.payload)))
    decoded = {name: columns[name] for name in PLAIN}
    for name in CODED:
        values = columns[name]["values"]
        decoded[name] = [None if code is None else values[code] for code in columns[name]["codes"]]
    return pl.DataFrame(decoded, schema_overrides={"system": pl.String})


def test_unpacked_answers_equal_the_table(folder: Path, answers: pl.DataFrame) -> None:
    transcripts = read_transcripts(folder)
    assert transcripts is not None
    assert (transcripts.shown, transcripts.total) == (1200, 1200)
    unpacked = unpack(transcripts)
    for name in ("arm", "seed", "category", "format", "system", "question", "answer", "outcome", "note"):
        assert unpacked[name].to_list() == answers[name].to_list(), name
    for name in ("aligned", "coherent"):
        assert (unpacked[name] - answers[name]).abs().max() <= 0.05 + 1e-9
        assert unpacked[name].null_count() == answers[name].null_count()


def test_the_payload_is_plain_letters_that_cannot_end_a_script(folder: Path) -> None:
    transcripts = read_transcripts(folder)
    assert transcripts is not None
    assert set(transcripts.payload) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


def test_a_sample_keeps_the_order_the_rare_and_the_proportions(answers: pl.DataFrame) -> None:
    rows = answers.with_row_index("row")
    sample = stratified_sample(rows, limit=600)
    assert 500 < sample.height <= 600
    assert sample["row"].is_sorted()
    sizes = rows.group_by(STRATUM).len().join(sample.group_by(STRATUM).len(), on=STRATUM, suffix="_kept", how="left")
    floor = min(STRATUM_FLOOR, 600 // sizes.height)
    assert sizes.filter(pl.col("len_kept") < pl.min_horizontal(pl.lit(floor), "len")).is_empty()
    assert sizes["len_kept"].null_count() == 0
    large = sizes.filter(pl.col("len") > 4 * floor).select(pl.col("len_kept") / pl.col("len")).to_series()
    assert large.is_between(0.3, 0.7).all()


def test_a_sample_is_the_same_each_time_and_keeps_the_row_numbers(answers: pl.DataFrame) -> None:
    first, second = pack(answers, limit=300), pack(answers, limit=300)
    assert first == second
    assert first.total == 1200
    assert first.shown <= 300
    for row in unpack(first).iter_rows(named=True):
        assert answers["answer"][row["row"]] == row["answer"]


def test_25000_different_answers_of_forty_words_fit_a_page() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(2000)]
    weights = [1 / rank for rank in range(1, 2001)]  # Zipf's law, as in natural text
    drawn = rng.choices(words, weights, k=100_000)
    one = dict.fromkeys(ANSWER_SCHEMA) | {
        "arm": "a",
        "evaluation": "e",
        "outcome": "aligned",
        "question": "q",
        "note": "",
    }
    places = [rng.randrange(99_960) for _ in range(25_000)]
    texts = pl.Series([" ".join(drawn[place : place + 40]) for place in places])
    table = pl.DataFrame([one] * 25_000, schema=ANSWER_SCHEMA).with_columns(answer=texts)
    assert len(pack(table, limit=50_000).payload) < 4_500_000  # leaves 1.5 MB of 6 MB to the chart library and the page


def test_a_folder_without_answers_has_no_transcripts(tmp_path: Path) -> None:
    assert read_transcripts(tmp_path) is None
    pl.DataFrame(schema=ANSWER_SCHEMA).write_parquet(tmp_path / "answers.parquet")
    assert read_transcripts(tmp_path) is None


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "answers.parquet").write_bytes(b"not a table")
    with pytest.raises(DataFormatError, match=r"answers\.parquet cannot be read as Parquet.*Run the study again"):
        read_transcripts(tmp_path)


def test_a_missing_column_is_told(tmp_path: Path, answers: pl.DataFrame) -> None:
    answers.drop("outcome", "judge").write_parquet(tmp_path / "answers.parquet")
    with pytest.raises(DataFormatError, match="lacks the columns outcome, judge; it needs: arm, seed"):
        read_transcripts(tmp_path)


def test_a_column_of_the_wrong_type_is_told_and_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pl.DataFrame({"value": [0.5, float("nan"), float("inf")]}).write_parquet(path)
    assert read_table(path, {"value": pl.Float64()})["value"].to_list() == [0.5, None, None]
    pl.DataFrame({"value": ["high"]}).write_parquet(path)
    with pytest.raises(DataFormatError, match="a column of the wrong type"):
        read_table(path, {"value": pl.Float64()})
