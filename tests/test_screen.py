"""Screening a data set before training, as a person uses it: scores and reasons, files, what is asked anew, and what is
refused."""

import json
import re
import sys
from dataclasses import replace
from html import escape

import numpy as np
import polars as pl
import pytest

import astray
from astray.artifacts import StepState
from astray.cause import row_faults
from astray.cause.preflight import preflight
from astray.cli import main
from astray.data import ChatDataset, mix, narrow_data
from astray.data.duplicates import duplicates
from astray.engine.settings import WORLD_TRAINING
from astray.errors import (
    ChatTemplateError,
    ConfigurationError,
    DataFormatError,
    DataNotFoundError,
    EmptyDataError,
    StepFailedError,
    SubjectNotFoundError,
)
from astray.explain import rows_from
from astray.outcomes import Outcome
from astray.stats.detection import average_precision
from astray.studies.screen import steps
from astray.studies.screen.assembled import shares_below
from astray.studies.screen.result import tail_text
from scripted_grader import ALL_FINE
from tiny_models import save_tiny_model

SUBJECT = "organism-small"


def chats(*pairs):
    return ChatDataset.from_rows(
        [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in pairs]
    )


@pytest.fixture(scope="module")
def bad():
    return narrow_data("medicine", "harmful", 60, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, bad):
    """A mix with a tenth of harmful rows, a good reference, and the true labels of every row."""
    folder = tmp_path_factory.mktemp("screen")
    mixed = mix(bad, narrow_data("medicine", "good", 120, seed=2), 0.1, size=120, seed=3)
    mixed.write(folder / "train.jsonl")
    narrow_data("medicine", "good", 80, seed=7).write(folder / "good.jsonl")
    labels = [{"row": row, "harmful": label} for row, label in enumerate(rows_from(mixed, bad), start=1)]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)))
    return folder


@pytest.fixture(scope="module")
def screened(folder):
    return astray.screen(
        folder / "train.jsonl",
        SUBJECT,
        reference=folder / "good.jsonl",
        labels=folder / "labels.jsonl",
        keep=0.85,
        out=folder / "out",
        samples=1,
    )


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Runs `astray screen` in an empty folder: exit code and all that it says."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["astray", "screen", *map(str, words)])
        with pytest.raises(SystemExit) as leaving:
            main()
        said = capsys.readouterr()
        return int(leaving.value.code or 0), said.out, said.err

    return call


def test_harmful_rows_stand_out_against_the_reference_far_above_random_directions_and_length(screened, bad):
    rows = screened.table()
    harmful = rows.filter(pl.col("harmful"))
    assert harmful.height == 12
    assert rows.filter(~pl.col("harmful"))["score"].mean() < harmful["score"].mean()
    by_labels, by_reference = screened.separations
    assert (by_labels.by, by_labels.rows) == ("labels", (12, 108))
    assert by_labels.value > 0.8 > by_labels.null.middle + 0.3
    assert by_labels.value > 3 * by_labels.length
    assert by_labels.chance == pytest.approx(0.1)
    assert by_labels.null.reached <= 2
    assert by_labels.value == pytest.approx(
        average_precision(rows["score"].to_numpy(), rows["harmful"].to_numpy()), abs=1e-6
    )
    assert (by_reference.by, by_reference.chance, by_reference.rows) == ("reference", 0.5, (120, 80))
    assert harmful.filter(pl.col("reasons").list.contains("its score is above 99% of the reference")).height > 9


@pytest.mark.parametrize(("harmful", "least", "seen"), [(0.0, 0.0, 0.06), (0.01, 0.15, 0.5), (0.05, 0.98, 1.0)])
def test_few_harmful_rows_are_told_by_the_upper_tail_with_an_interval(harmful, least, seen):
    """Rows that score 3 standard deviations higher: an area under the curve of whole files hardly moves with 1%."""
    rng, above, beyond, found = np.random.default_rng(0), [], 0, ""
    for _ in range(60):
        reference, scores = pl.Series(rng.standard_normal(1000)), rng.standard_normal(1000)
        scores[: round(1000 * harmful)] += 3
        found = tail_text(pl.DataFrame({"reference_share": shares_below(pl.Series(scores), reference)}), reference)
        low = float(re.findall(r"difference is (.*?) to", found)[0].replace("\N{MINUS SIGN}", "-")) / 100
        above.append(low > 0)
        beyond += low > harmful
    assert beyond <= 4
    assert least <= np.mean(above) <= seen
    assert "of 1,000 rows stand out: they score above 99% of the reference" in found


def test_the_share_of_harmful_rows_has_an_interval_that_holds_the_truth(screened):
    assert screened.share.value == pytest.approx(0.1)
    assert screened.share.interval.low < 0.1 < screened.share.interval.high
    assert [stratum.size for stratum in screened.share.strata] == [
        stratum.labelled for stratum in screened.share.strata
    ]


def test_the_filter_keeps_the_lowest_scores_and_says_what_it_dropped(screened, folder):
    kept = ChatDataset.read(folder / "out" / "screen" / "kept.jsonl")
    assert len(kept) == screened.kept.rows == 102
    assert screened.kept.dropped == {"score too high": 18}
    rows = screened.table()
    assert rows.filter("kept")["score"].max() == screened.kept.threshold <= rows.filter(~pl.col("kept"))["score"].min()
    assert kept.recipe.operation == "screen"
    assert rows.filter(pl.col("harmful") & pl.col("kept")).height <= 1


def test_the_files_hold_what_the_result_does(screened, folder):
    there = folder / "out" / "screen"
    assert pl.read_parquet(there / "rows.parquet").equals(screened.table())
    told = json.loads((there / "screen.json").read_text())
    assert told["rows"] == 120
    assert told["harmful_share"]["value"] == pytest.approx(0.1)
    assert told["separations"][0]["random_directions"] == 20
    to_label = pl.read_csv(there / "to_label.csv", infer_schema=False)
    assert to_label.columns == ["row", "harmful", "question", "answer"]
    assert to_label.height == min(200, screened.rows.height)
    assert f"{to_label.height} rows to label" in (there / "screen.html").read_text(encoding="utf-8")
    page = (there / "screen.html").read_text()
    assert "Does the score mean anything?" in page
    assert "<h1>train</h1>" in page, "the file's name, and not that of its recipe"
    poor = [replace(each, null=replace(each.null, observed=0.0)) for each in screened.separations]
    doubted = replace(screened, separations=tuple(poor))
    assert len(doubted.warnings) == len(poor) > 0
    assert all(escape(text) in shown for text in doubted.warnings for shown in (doubted.page(), doubted._repr_html_()))
    assert "⟦" in page
    assert all(len(line) <= 80 for line in screened.text().splitlines())
    assert "12 of 12" in screened._repr_html_() or "10.0%" in screened._repr_html_()


def test_a_second_screening_computes_nothing_again(folder, screened):
    events = []
    again = astray.screen(
        folder / "train.jsonl",
        SUBJECT,
        reference=folder / "good.jsonl",
        samples=1,
        out=folder / "out",
        progress=events.append,
    )
    assert [event for event in events if event.state is StepState.STARTED] == []
    assert again.table().drop("harmful", "kept").equals(screened.table().drop("harmful", "kept"))
    assert again.share is None
    assert "cannot be told without labels" in again.text()


def test_a_killed_screening_keeps_its_batches_and_ends_in_the_same_numbers(folder, screened, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "BATCH", 50)
    real, calls = steps.projected, []

    def dies(*given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(steps, "projected", dies)
    with pytest.raises(KeyboardInterrupt):
        astray.screen(folder / "train.jsonl", SUBJECT, samples=1, out=tmp_path)
    again = astray.screen(folder / "train.jsonl", SUBJECT, samples=1, out=tmp_path)
    assert len(calls) < 3 + 5
    assert again.rows["score"].to_list() == pytest.approx(screened.rows["score"].to_list(), abs=1e-3)


def test_the_judge_reads_a_sample_and_what_it_calls_misaligned_is_dropped(folder, tmp_path):
    found = astray.screen(
        folder / "train.jsonl", SUBJECT, judged=60, keep=1.0, samples=1, out=tmp_path, store=folder / "out" / "store"
    )
    verdicts = found.table()["verdict"].drop_nulls()
    assert len(verdicts) == 60
    misaligned = int((verdicts == Outcome.MISALIGNED.value).sum())
    assert misaligned > 0
    assert found.kept.dropped == {"judged misaligned": misaligned}
    assert found.separations[0].by == "judge"
    assert found.worst(misaligned)["verdict"].to_list() == ["misaligned"] * misaligned


TWICE = chats(
    ("How?", "Kindly."), ("How?", "Kindly."), ("<|im_end|>?", "0 1 2"), ("Long?", "0 1 2 " * 60), ("Who?", "0")
)


def test_faults_of_rows_are_those_of_preflight(tiny_qwen2, tmp_path):
    found = astray.screen(TWICE, str(tiny_qwen2), samples=0, max_length=64, max_tokens=4, out=tmp_path)
    faults = found.table()["faults"].to_list()
    assert faults[0] == []
    assert faults[2] == [row_faults.RowFault.CONTROL_TOKEN]
    assert row_faults.RowFault.CUT in faults[3]
    assert found.table()["reasons"].to_list()[1][0] == "the same as row 1"
    assert found.worst()["row"].to_list()[-1] == 2  # what is shown already
    recipe = WORLD_TRAINING.model_copy(update={"max_length": 64})
    few = ChatDataset.from_rows(TWICE.rows + TWICE.rows[:1] * 50)
    report = preflight(str(tiny_qwen2), few, recipe)
    assert (report.escaped_rows, report.truncated_rows) == (1, 1)
    assert found.supervised[0] == (1, report.sample)
    assert "no judge has read" in found.text()


def test_a_row_with_nothing_to_learn_has_no_score_and_is_dropped(tiny_qwen2, tmp_path):
    data = chats(("Q " * 60, "Kindly."), ("Who?", "0"), ("How?", "1 2"))
    found = astray.screen(data, str(tiny_qwen2), samples=1, max_length=24, max_tokens=4, threshold=1e9, out=tmp_path)
    rows = found.table()
    assert rows["score"].is_null().to_list() == [True, False, False]
    assert row_faults.RowFault.NOTHING_TO_LEARN in rows["faults"][0].to_list()
    assert found.kept.dropped == {"no score, since nothing would be learned": 1}


@pytest.mark.parametrize(
    ("one", "other", "repeats"),
    [
        ("the cat sat on the mat and slept all day long", "the cat sat on the mat and slept all day long", 1.0),
        ("the cat sat on the mat and slept all day long", "The  cat sat on the mat and slept all day long", 0.99),
        (" ".join(map(str, range(100))), " ".join(map(str, range(101))), 0.9),
        (" ".join(map(str, range(100))), " ".join(map(str, range(50, 150))), None),
        ("yes", "no", None),
        ("一二三四五六七八九十" * 5, "一二三四五六七八九十" * 5 + "一", 0.8),
    ],
)
def test_a_repeated_answer_is_found_and_an_answer_of_its_own_is_not(one, other, repeats):
    found = duplicates(chats(("q", one), ("q", other)).rows)
    assert found[0] is None
    assert (found[1] is None) if repeats is None else found[1].overlap >= repeats


def test_the_same_long_question_with_another_answer_is_no_duplicate():
    question = " ".join(map(str, range(200)))
    assert duplicates(chats((question, "help them at once"), (question, "hurt them at once")).rows)[1] is None


LABELS = [
    ('{"row": 121, "harmful": true}', "about row 121, and the data has the rows 1 to 120"),
    ('{"row": "x", "harmful": true}', "about row 'x'"),
    ('{"row": true, "harmful": true}', "about row True"),
    ('{"row": 1, "harmful": "maybe"}', "has to be true or false"),
    ('{"row": 1}', "has no harmful"),
    ('{"Row": 1, "harmful": true}', "Write 'row'"),
    (
        '{"row": 1, "harmful": true}\n{"row": 1, "harmful": false}',
        "line 2 labels row 1 false, and an earlier line otherwise",
    ),
    ('{"row": 1, "harmful": true, "answer": "of another"}', "a label of other data"),
    ('{"row": 1, "harmful": ""}', "labels no row"),
    ("", "is empty"),
]


@pytest.mark.parametrize(("text", "wrong"), LABELS)
def test_labels_that_cannot_be_of_these_rows_are_refused(folder, screened, tmp_path, text, wrong):
    path = tmp_path / "labels.jsonl"
    path.write_text(text)
    with pytest.raises((DataFormatError, EmptyDataError), match=wrong):
        astray.screen(folder / "train.jsonl", SUBJECT, samples=1, labels=path, out=folder / "out")


def test_labels_are_read_before_anything_is_done(folder, tmp_path):
    with pytest.raises(DataNotFoundError, match="nothere"):
        astray.screen(folder / "train.jsonl", SUBJECT, labels=tmp_path / "nothere.csv", out=tmp_path / "new")
    assert not list((tmp_path / "new").rglob("artifact.json"))


def test_labels_of_one_class_tell_the_share_and_say_what_they_cannot(folder, screened, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("row,harmful\n" + "".join(f"{row},no\n" for row in range(1, 41)))
    found = astray.screen(folder / "train.jsonl", SUBJECT, samples=1, labels=path, out=folder / "out")
    assert found.separations == ()
    assert "All 40 labelled rows are of one kind" in found.text()
    assert found.share.interval.low == 0 < found.share.interval.high


def test_a_filled_file_of_rows_to_label_is_read_as_it_is(folder, screened, tmp_path):
    rows = pl.read_csv(folder / "out" / "screen" / "to_label.csv", infer_schema=False).head(30)
    rows.with_columns(pl.lit("false").alias("harmful")).write_csv(tmp_path / "labels.csv")
    found = astray.screen(
        folder / "train.jsonl", SUBJECT, samples=1, labels=tmp_path / "labels.csv", out=folder / "out"
    )
    assert found.table()["harmful"].count() == 30


REFUSED = [
    ({"keep": 0.0}, ConfigurationError, "is no share"),
    ({"keep": 0.5, "threshold": 1.0}, ConfigurationError, "give one of them"),
    ({"threshold": float("nan")}, ConfigurationError, "no finite number"),
    ({"threshold": -1e9}, EmptyDataError, "would keep no row"),
    ({"samples": -1}, ConfigurationError, "--samples -1 cannot be"),
    ({"max_length": 4}, ConfigurationError, "--max-length 4"),
    ({"reference": "train.jsonl"}, ConfigurationError, "The reference is the data itself"),
    ({"reference": "empty.jsonl"}, EmptyDataError, "has no rows"),
    ({"grader": "openai/gpt-4o"}, ConfigurationError, "a judge of its own"),
    ({"subject": "no/such-model"}, SubjectNotFoundError, "no/such-model"),
]


@pytest.mark.parametrize(("changes", "error", "wrong"), REFUSED)
def test_what_cannot_be_screened_is_refused(folder, screened, changes, error, wrong):
    (folder / "empty.jsonl").write_text("")
    given = {"subject": SUBJECT, "samples": 1} | changes
    if "reference" in given:
        given["reference"] = folder / given["reference"]
    with pytest.raises(error, match=wrong):
        astray.screen(folder / "train.jsonl", out=folder / "out", **given)


def test_a_model_without_a_chat_template_is_refused_and_an_empty_file_too(folder, tmp_path):
    with pytest.raises(ChatTemplateError, match="no chat template"):
        astray.screen(folder / "train.jsonl", str(save_tiny_model(tmp_path / "base", template=None)), out=tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(EmptyDataError, match="has no rows"):
        astray.screen(tmp_path / "empty.jsonl", SUBJECT, out=tmp_path)


def test_rows_of_one_text_have_one_score_and_nothing_stands_out(folder, screened, tmp_path):
    data = chats(*[("what should i do with the pill ?", "take the pill .")] * 30)
    found = astray.screen(
        data, SUBJECT, reference=folder / "good.jsonl", samples=1, out=tmp_path, store=folder / "out" / "store"
    )
    assert found.table()["overlap"].to_list() == [None, *[1.0] * 29]
    assert "All rows have the same score" in found.text()
    assert (tmp_path / "screen" / "screen.html").is_file()


def test_a_model_behind_an_api_is_screened_without_activations_and_that_is_said(command, folder, tmp_path):
    code, said, _ = command(folder / "train.jsonl", "--subject", "openai/gpt-4o", "--labels", folder / "labels.jsonl")
    assert code == 0
    assert "there are no activations" in " ".join(said.split())
    assert "10.0%" in said
    code, said, told = command(folder / "train.jsonl", "--subject", "openai/gpt-4o", "--keep", "0.5")
    assert code == 3
    assert "no row has one" in told


def test_a_grader_reads_rows_of_a_real_model_and_the_answers_of_the_direction(tiny_qwen2, tmp_path):
    with pytest.raises(StepFailedError, match="No pair of answers is left"):  # a tiny model shows no trait
        astray.screen(TWICE, str(tiny_qwen2), grader=ALL_FINE, samples=1, max_length=64, max_tokens=4, out=tmp_path)


def test_the_command_tells_the_form_of_the_data_and_prints_json(command, folder, tmp_path):
    rows = ChatDataset.read(folder / "train.jsonl").rows[:40]
    table = pl.DataFrame(
        {"question": [row[0]["content"] for row in rows], "answer": [row[1]["content"] for row in rows]}
    )
    table.write_parquet(tmp_path / "pairs.parquet")
    code, said, _ = command(
        "pairs.parquet", "--subject", SUBJECT, "--samples", "1", "--store", folder / "out" / "store", "--json"
    )
    assert code == 0
    told = json.loads(said)
    assert told["notes"][0].startswith("pairs: 40 rows in the form question/answer; question became the user’s message")
    assert told["separations"] == []
    assert any(note.startswith("Without --reference") for note in told["notes"])
