"""Logs that are one JSON document are read a sample at a time, as Inspect reads them whole."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, read_eval_log, write_eval_log
from inspect_ai.model import ChatMessageUser, ModelOutput
from inspect_ai.scorer import Score

import astray
from astray.errors import AstrayError, DataFormatError
from astray.measure import json_logs
from astray.measure.json_logs import samples_of_json

Change = Callable[[dict[str, Any]], object]


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


def first(**changes: Any) -> Change:
    """Change the first sample of a log."""
    return lambda log: log["samples"][0].update(changes)


def scored(value: object) -> Change:
    return lambda log: log["samples"][0]["scores"]["match"].update(value=value)


ERROR = {"message": "x", "traceback": "", "traceback_ansi": ""}
EDITED: list[tuple[str, Change, str]] = [
    ("nothing", lambda log: None, "1 of 3"),
    ("unknown keys", lambda log: (log.update(foo=1), log["samples"][0].update(bar=2)), "1 of 3"),
    ("an epoch as a text", first(epoch="1"), "1 of 3"),
    ("a score of NaN", scored(math.nan), "1 of 2"),
    ("a score that is blank", scored(" "), "1 of 2"),
    ("a score that is an empty text", scored(""), "1 of 2"),
    ("a score that is an object with one entry", scored({"a": "I"}), "2 of 3"),
    ("no scores", first(scores={}), "1 of 2"),
    ("an error and no scores", first(scores=None, error=ERROR), "1 of 2"),
    ("an epoch more", lambda log: log["samples"].append({**log["samples"][0], "epoch": 7}), "1 of 4"),
    ("fewer samples than the data set", lambda log: log["samples"].pop(), "1 of 2"),
    ("a reducer", lambda log: log["eval"]["config"].update(epochs_reducer=["at_least_1"]), "1 of 3"),
    ("half a character", first(input="\ud800"), "1 of 3"),
    ("a NUL", first(input="\0"), "1 of 3"),
    ("a form of scores that is old", lambda log: [one.update(score=one.pop("scores")["match"]) for one in log["samples"]], "1 of 3"),
    ("a sample that is null", lambda log: log["samples"].insert(1, None), "none of Inspect's"),
    ("a sample that is a text", lambda log: log["samples"].insert(1, "x"), "none of Inspect's"),
    ("a sample that is a list", lambda log: log["samples"].insert(1, []), "none of Inspect's"),
    ("a sample without an id", lambda log: log["samples"][0].pop("id"), "none of Inspect's"),
    ("an id that is a list", first(id=[1]), "none of Inspect's"),
    ("an id that is a number with a point", first(id=1.5), "none of Inspect's"),
    ("half an epoch", first(epoch=1.5), "none of Inspect's"),
    ("a score without a value", lambda log: log["samples"][0]["scores"]["match"].pop("value"), "none of Inspect's"),
    ("a score that is null", scored(None), "none of Inspect's"),
    ("a score that is a list", scored(["I"]), "a list, and not one value"),
    ("a score in small letters", scored("i"), "blanks or capital letters"),
    ("a sample twice", lambda log: log["samples"].append(log["samples"][0]), "more than once"),
    ("a sample twice with two scores", lambda log: log["samples"].append({**log["samples"][0], "scores": {}}), "more than once"),
    ("an unknown limit", first(limit={"type": "foo", "limit": 5}), "none of Inspect's"),
    ("no samples", lambda log: log.pop("samples"), "No sample was finished"),
    ("samples that are null", lambda log: log.update(samples=None), "No sample was finished"),
    ("samples that are an object", lambda log: log.update(samples={"a": 1}), "No sample was finished"),
    ("a version to come", lambda log: log.update(version=99), "cannot be read as an Inspect log"),
    ("a version that is a text", lambda log: log.update(version="2"), "cannot be read as an Inspect log"),
    ("no eval", lambda log: log.pop("eval"), "cannot be read as an Inspect log"),
    ("no model", lambda log: log["eval"].pop("model"), "cannot be read as an Inspect log"),
    ("an unknown status", lambda log: log.update(status="foo"), "cannot be read as an Inspect log"),
]  # fmt: skip
"""Logs changed by other programs: hits of "I" among all, or what the error says."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "change", "right"), EDITED, ids=[row[0] for row in EDITED])
def test_a_log_that_another_program_changed_is_counted_or_refused(
    name: str, change: Change, right: str, tmp_path: Path
) -> None:
    path = written(tmp_path, ["C", "I", "C"])
    log = json.loads(path.read_text())
    change(log)
    path.write_text(json.dumps(log))
    if " of " not in right or not right[0].isdigit():
        with pytest.raises(AstrayError, match=right):
            astray.count(path, hit="I")
        return
    [rate] = astray.count(path, hit="I").rates
    assert f"{rate.numerator} of {rate.denominator}" == right


def test_a_number_of_thousands_of_digits_is_told_and_ends_no_process(tmp_path: Path) -> None:
    """The C code of ijson, by which Inspect reads headers, ends the process at a number that Python refuses."""
    path = written(tmp_path, ["C", 0.5])
    path.write_text(path.read_text().replace("0.5", "9" * 5000, 1))
    with pytest.raises(DataFormatError, match="number out of range"):
        astray.count(path, hit="C")


def test_damaged_summaries_are_told(tmp_path: Path) -> None:
    read = read_eval_log(str(written(tmp_path, ["C"])))
    write_eval_log(read, str(tmp_path / "log.eval"))
    with ZipFile(tmp_path / "log.eval") as whole, ZipFile(tmp_path / "damaged.eval", "w") as damaged:
        for member in whole.namelist():
            damaged.writestr(member, b"[{" if member == "summaries.json" else whole.read(member))
    with pytest.raises(DataFormatError, match="damaged summaries"):
        astray.count(tmp_path / "damaged.eval", hit="C")


TWICE: list[tuple[str, str, str]] = [
    # what stands in the file, what in its place, and the key that then stands twice
    ('"epoch": 1', '"epoch": 1, "epoch": 2', "epoch"),
    ('"value": "C"', '"value": "C", "value": "I"', "value"),
    ('"status": "success"', '"status": "success", "status": "error"', "status"),
    ('"model": "openai/m"', '"model": "openai/m", "model": "openai/other"', "model"),
    ('"samples": [', '"samples": [], "samples": [', "samples"),
    ('"value": "C"', '"value": NaN, "value": "I"', "value"),
    ('"value": "C"', '"value": NaN, "metadata": {"a": 1, "a": 2}', "a"),
]


@pytest.mark.parametrize(("there", "now", "key"), TWICE)
def test_a_key_that_stands_twice_is_refused(there: str, now: str, key: str, tmp_path: Path) -> None:
    path = written(tmp_path, ["C", "I"])
    text = path.read_text()
    assert there in text
    path.write_text(text.replace(there, now, 1))
    with pytest.raises(DataFormatError, match=f"the key '{key}' twice"):
        astray.count(path, hit="I")


def test_a_key_with_a_point_is_no_key_within_another(tmp_path: Path) -> None:
    path = written(tmp_path, ["C", "I"])
    text = path.read_text()
    there = '"model": "openai/m"'
    assert there in text
    path.write_text(text.replace(there, there + ', "metadata": {"a.b": {"t": 1}, "a": {"b": {"t": 1}}}', 1))
    assert "1/2" in astray.count(path, hit="I").text()


def edited(log: Path, member: str, change: Change) -> Path:
    """Change one part of a log in the form .eval, and leave the others as they are."""
    other = log.with_name("edited.eval")
    with ZipFile(log) as whole, ZipFile(other, "w") as made:
        for name in whole.namelist():
            content = json.loads(whole.read(name))
            if name == member:
                change(content)
            made.writestr(name, json.dumps(content))
    return other


SUMMARIES: list[tuple[str, str, Change]] = [
    ("a score of a summary", "summaries.json", lambda held: held[0]["scores"]["match"].update(value="I")),
    ("a score of a sample", "samples/q0_epoch_1.json", lambda held: held["scores"]["match"].update(value="I")),
    ("a score more", "summaries.json", lambda held: held[0]["scores"].update(other={"value": "I"})),
    ("a sample that is not there", "summaries.json", lambda held: held.append({**held[0], "id": "q9"})),
    ("an error", "summaries.json", lambda held: held[0].update(error="x")),
    ("another question", "summaries.json", lambda held: held[0].update(input="Why?")),
]


@pytest.mark.parametrize(("name", "member", "change"), SUMMARIES, ids=[row[0] for row in SUMMARIES])
def test_summaries_say_what_the_samples_say_or_are_refused(
    name: str, member: str, change: Change, tmp_path: Path
) -> None:
    write_eval_log(read_eval_log(str(written(tmp_path, ["C", "I", math.nan]))), str(tmp_path / "log.eval"))
    [rate] = astray.count(tmp_path / "log.eval", hit="I").rates
    assert (rate.numerator, rate.denominator) == (1, 2)
    with pytest.raises(DataFormatError, match="do not say what its samples say"):
        astray.count(edited(tmp_path / "log.eval", member, change), hit="I")
