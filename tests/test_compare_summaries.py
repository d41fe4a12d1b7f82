"""The comparison of two summaries finds a number that changed, and nothing else."""

import json
from pathlib import Path
from runpy import run_path

import pytest

from report_example import write_example

compare = run_path(str(Path(__file__).parents[1] / "scripts" / "compare_summaries.py"))


def example(folder: Path) -> dict:
    return json.loads((write_example(folder, answers=300) / "summary.json").read_text(encoding="utf-8"))


def written(folder: Path, name: str, summary: dict) -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(summary), encoding="utf-8")
    return path


def test_equal_numbers_in_another_order_with_other_words_are_the_same(tmp_path: Path) -> None:
    before = example(tmp_path)
    after = json.loads(json.dumps(before))
    after["claims"].reverse()
    after["rates"].reverse()
    after["claims"][0] |= {"statement": "Said in other words", "later": 1}
    after["claims"][1]["estimate"] = (
        None if after["claims"][1]["estimate"] is None else after["claims"][1]["estimate"] * (1 + 1e-12)
    )
    assert compare["main"](written(tmp_path, "a", before), written(tmp_path, "b", after)) == 0


@pytest.mark.parametrize(
    ("rows", "field"), [("claims", "estimate"), ("claims", "verdict"), ("claims", "n"), ("rates", "numerator")]
)
def test_a_number_a_verdict_or_a_count_that_changed_is_found(
    rows: str, field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = example(tmp_path)
    after = json.loads(json.dumps(before))
    row = after[rows][2]
    row[field] = "undecided" if field == "verdict" else row[field] + (1 if isinstance(row[field], int) else 1e-6)
    assert compare["main"](written(tmp_path, "a", before), written(tmp_path, "b", after)) == 1
    assert f"/{field}:" in capsys.readouterr().out


@pytest.mark.parametrize("rows", ["claims", "rates", "exhibits"])
def test_a_row_that_vanished_is_a_difference_and_a_new_field_is_none(
    rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = example(tmp_path)
    for claim in before["claims"]:  # as an earlier version wrote it
        del claim["group"]
    assert compare["main"](written(tmp_path, "a", before), written(tmp_path, "b", example(tmp_path))) == 0
    after = json.loads(json.dumps(before))
    after[rows].pop(1)
    assert compare["main"](written(tmp_path, "a", before), written(tmp_path, "b", after)) == 1
    assert "a row that the other file lacks" in capsys.readouterr().out
