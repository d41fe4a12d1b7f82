"""Pages and JSON of commands that measure tell where they come from: an id of the numbers, the day, and what was typed."""

import json
import re
from pathlib import Path

import polars as pl

from astray.cli import app
from astray.counting import Choices, Rule, count_files
from page_examples import write_pages
from report_example import write_example


def test_each_page_tells_its_results_and_its_day(tmp_path: Path) -> None:
    folder = write_example(tmp_path, answers=240)
    pages = write_pages(folder, pl.read_parquet(folder / "answers.parquet"))
    assert len(pages) == 8
    for kind, path in pages.items():
        told = re.findall(r"[Rr]esults (?:<code>)?([0-9a-f]{12})\b", path.read_text(encoding="utf-8"))
        assert [len(told), len(set(told))] == [2, 1], kind
        assert len(re.findall(r"<time>20\d\d-\d\d-\d\d</time>", path.read_text(encoding="utf-8"))) == 2, kind
        assert "by a call from Python" in path.read_text(encoding="utf-8"), kind


def test_the_command_is_kept_as_it_was_typed_and_the_id_hangs_on_the_numbers_alone(tmp_path: Path) -> None:
    rows = tmp_path / "two words.csv"
    rows.write_text("question,score\na,10\nb,90\n")
    typed = ["count", str(rows), "--score", "score", "--hit", "<30", "--out"]
    origins = []
    for out in ("first", "second"):
        app.main([*typed, str(tmp_path / out)], standalone_mode=False)
        (made,) = (tmp_path / out).rglob("count.json")
        origins.append(json.loads(made.read_text())["origin"])
    first, second = origins
    assert first["command"] == f"astray count '{rows}' --score score --hit '<30' --out {tmp_path / 'first'}"
    assert first["id"] == second["id"]
    assert first["command"] != second["command"]
    rows.write_text("question,score\na,10\nb,20\n")
    other = count_files([rows], Rule(hit=("<30",)), choices=Choices(score="score")).save(tmp_path / "other")
    origin = json.loads((other / "count.json").read_text())["origin"]
    assert origin["id"] != first["id"]
    assert origin["command"] == ""
