"""Logs that are one JSON document are read a sample at a time, as Inspect reads them whole."""

import math
from pathlib import Path

import pytest
from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, read_eval_log, write_eval_log
from inspect_ai.model import ChatMessageUser, ModelOutput
from inspect_ai.scorer import Score

import astray
from astray.errors import DataFormatError
from astray.measure import json_logs
from astray.measure.json_logs import samples_of_json


def written(folder: Path, values: list[object]) -> Path:
    """A log with one sample for each value of a score."""
    samples = [
        EvalSample(
            id=f"q{number}",
            epoch=1,
            input="What?",
            target="",
            messages=[ChatMessageUser(content="long")],
            output=ModelOutput.from_content("m", "answer \u2028"),
            scores={"match": Score(value=value)},  # type: ignore[arg-type]
        )
        for number, value in enumerate(values)
    ]
    spec = EvalSpec(
        eval_id="e",
        task_id="t",
        created="2026-01-01T00:00:00+00:00",
        task="capitals",
        model="openai/m",
        dataset=EvalDataset(samples=len(samples), sample_ids=[sample.id for sample in samples]),
        config=EvalConfig(epochs=1),
    )
    path = folder / "log.json"
    write_eval_log(EvalLog(status="success", eval=spec, samples=samples), str(path))
    return path


def test_samples_are_those_that_inspect_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, ["C", "I", 0.5])
    whole = read_eval_log(str(path)).samples or []
    monkeypatch.setattr(json_logs, "read_eval_log", lambda *_: pytest.fail("read at once"))
    read = list(samples_of_json(str(path)))
    assert [sample.model_dump() for sample in read] == [sample.model_dump() for sample in whole]
    assert [sample.messages for sample in samples_of_json(f"file://{path}", {"messages"})] == [[], [], []]


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**70, 1e400])
def test_numbers_that_json_does_not_have_are_read_too(
    tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, ["C", value, "I"])
    assert [sample.id for sample in samples_of_json(str(path))] == ["q0", "q1", "q2"]
    monkeypatch.setattr(json_logs, "WHOLE", 0)
    with pytest.raises(DataFormatError, match="inspect log convert"):
        list(samples_of_json(str(path)))


DAMAGES = [
    # what stands in the file in place of what
    ('"epoch": 1', '"epoch": "one"'),
    ('"scores"', '"score'),
    ('"q1"', "q1"),
]


@pytest.mark.parametrize(("there", "now"), DAMAGES)
def test_a_damaged_log_is_told_by_name(tmp_path: Path, there: str, now: str) -> None:
    path = written(tmp_path, ["C", "I"])
    text = path.read_text()
    assert there in text
    path.write_text(text.replace(there, now))
    with pytest.raises(DataFormatError, match=r"log\.json"):
        list(samples_of_json(str(path)))


def test_counting_takes_it(tmp_path: Path) -> None:
    counted = astray.count(str(written(tmp_path, ["C", "I", "I", "C", "I"])), hit="I")
    assert (counted.rates[0].numerator, counted.rates[0].denominator) == (3, 5)
