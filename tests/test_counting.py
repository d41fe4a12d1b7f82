"""What other tools have judged is counted once, with its interval; what cannot be told without guessing is asked
for."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from inspect_ai.log import EvalSample, ProvenanceData, invalidate_samples, read_eval_log, write_eval_log
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Score

import astray
from astray.cli import app, main
from astray.errors import (
    DataFormatError,
    EmptyDataError,
)
from astray.stats import difference_of_models, over_questions, over_runs, wilson
from astray.stats.paired import paired_rates
from counted_files import Scores, harness, logged, only, table, words


def test_columns_of_a_table_may_have_the_names_of_our_own(tmp_path):
    """A column `value` beside the score is what answers are grouped by, and not the score."""
    names = ("value", "item", "content", "sample", "failure", "answer", "role")
    rows = [f"q{number},{number % 2},{','.join([str(number % 3)] * len(names))}" for number in range(12)]
    file = table(tmp_path / "a.csv", f"id,score,{','.join(names)}", *rows)
    for name in names:
        asked = {"hit": "1", "score": "score", "question": "id", "unit": "answer"}
        counted = astray.count(file, by=name, **asked)
        assert [(rate.numerator, rate.denominator) for rate in counted.rates] == [(2, 4)] * 3
        assert only(astray.count(file, where=f"{name}=2", **asked)).denominator == 4


NEAR = [
    ((2**53, 2**53 + 1), str(2**53 + 1), 1),
    ((2**53, 2**53 + 1), f">{2**53}", 1),
    (("0.1", "0.10", "0.10000000000000000001"), "0.1", 2),
    (("0.1", "0.10", "0.10000000000000000001"), "<=0.1", 2),
    (("0.49999999999999999999", "0.5", "0.50000000000000000001"), "<0.5", 1),
    (("0.49999999999999999999", "0.5", "0.50000000000000000001"), ">=0.5", 2),
    (("0.5", "0.5"), "<0.50000000000000000001", 2),
    (("1e-400", "0"), ">0", 1),
    (("1e2", "100.0", "100.00000000000000000001"), "100", 2),
    (("sNaN", "x"), "sNaN", 1),
]
"""Scores that are the same float and not the same number, a hit, and how often it is there."""


@pytest.mark.parametrize(("scores", "hit", "hits"), NEAR)
def test_scores_are_compared_digit_by_digit_and_not_as_floats(tmp_path, scores, hit, hits):
    file = table(tmp_path / "a.csv", "id,score", *(f"{number},{score}" for number, score in enumerate(scores)))
    assert only(astray.count(file, hit=hit)).numerator == hits


def test_words_that_often_mean_no_score_are_told(tmp_path):
    file = table(tmp_path / "a.csv", "id,score", "1,None", "2,bad", "3,N/A")
    assert any("'N/A', 'None'" in note or "'None', 'N/A'" in note for note in astray.count(file, hit="bad").notes)
    assert only(astray.count(file, hit="bad", failed=["None", "N/A"])).denominator == 1


def test_a_log_is_counted_by_question_with_every_outcome(tmp_path):
    counted = astray.count(logged(tmp_path / "a.eval", words("CCCICIIICC-C"), epochs=4), hit="I")
    rate = only(counted)
    assert (rate.numerator, rate.denominator, rate.unit, rate.questions) == (4, 11, "question", 3)
    assert rate.interval == over_questions([(1, 4), (3, 4), (0, 3)])
    assert dict(rate.outcomes) == {"C": 7, "I": 4, "no score": 1}
    assert rate.worst_case == (4 / 12, 5 / 12)
    assert rate.judges == ("match",)
    assert "The score is match, the only one there." in counted.notes


@pytest.mark.parametrize("surface", ["fixed", "drawn", "both"])
def test_replicates_of_a_scenario_are_units_where_each_has_texts_of_its_own(tmp_path, surface):
    """With fixed texts a cell is asked the same again and again; of both kinds every second replicate is drawn."""
    drawn = [{"fixed": False, "drawn": True, "both": bool(number % 2)}[surface] for number in range(8)]
    samples = [
        EvalSample(
            id=f"blackmail/goal={goal}/{replicate}",
            epoch=1,
            input=f"{goal} {replicate if drawn[replicate] else ''}",
            target="",
            output=ModelOutput.from_content("m", "answer"),
            scores={"acts": Score(value="C" if goal == "none" or replicate % 2 else "I")},
            metadata={"replicate": replicate} | ({"draw": replicate} if drawn[replicate] else {}),
        )
        for goal in ("none", "explicit", "latent")
        for replicate in range(8)
    ]
    own = {"grid": {"surface": surface}, "scenarios": {}, "protocol": "tools"}
    rate = only(astray.count(logged(tmp_path / "a.eval", samples, metadata=own), hit="I"))
    assert (rate.numerator, rate.denominator) == (8, 24)
    assert (rate.unit, rate.questions) == {"fixed": ("question", 3), "drawn": ("answer", 24), "both": ("question", 15)}[
        surface
    ]


SCORED: dict[str, tuple[list[Scores], dict[str, Any], tuple[int, int]]] = {
    "a letter": (words("CIPN"), {"hit": "I"}, (1, 4)),
    "several letters": (words("CIPN"), {"hit": ["I", "N"]}, (2, 4)),
    "a denominator": (words("CIPN"), {"hit": "I", "among": ["C", "I"]}, (1, 2)),
    "a failure": (words("CIPN"), {"hit": "I", "failed": "N"}, (1, 3)),
    "a letter that is not there": (words("CCC"), {"hit": "I"}, (0, 3)),
    "numbers below": ([{"s": 0.2}, {"s": 0.5}, {"s": 1}], {"hit": "<0.5"}, (1, 3)),
    "numbers at most": ([{"s": 0.2}, {"s": 0.5}, {"s": 1}], {"hit": "<= 0.5"}, (2, 3)),
    "numbers as words": ([{"s": 1.0}, {"s": 1}, {"s": 0.0}], {"hit": "1"}, (2, 3)),
    "truth values": ([{"s": True}, {"s": False}], {"hit": "true"}, (1, 2)),
    "unscored is no score": ([{"s": float("nan")}, {"s": 1.0}], {"hit": "1"}, (1, 1)),
    "an entry": ([{"s": {"harm": 1, "help": 0}}, {"s": {"harm": 0, "help": 1}}], {"hit": "1", "key": "harm"}, (1, 2)),
    "the only entry": ([{"s": {"harm": 1}}, {"s": {"harm": 0}}], {"hit": "1"}, (1, 2)),
    "one score of two": ([{"s": "C", "t": "I"}, {"s": "C", "t": "C"}], {"hit": "I", "score": "t"}, (1, 2)),
    "outcomes of ours": (
        [{"verdict": each} for each in ("misaligned", "aligned", "refused", "judge failed")],
        {},
        (1, 2),
    ),
}


@pytest.mark.parametrize("name", SCORED)
def test_scores_of_logs(name, tmp_path):
    scores, options, expected = SCORED[name]
    rate = only(astray.count(logged(tmp_path / "a.eval", scores), **options))
    assert (rate.numerator, rate.denominator) == expected
    assert sum(rate.outcomes.values()) == len(scores)
    assert rate.unit == "answer"
    assert rate.interval == wilson(*expected)


def test_a_retry_counts_once_and_runs_are_the_unit_where_asked(tmp_path):
    first = logged(tmp_path / "a.eval", words("CI-C"), task_id="t", status="error")
    retry = logged(tmp_path / "b.eval", words("CIIC"), task_id="t", created="2026-01-02T00:00:00+00:00")
    assert (only(astray.count(first, retry, hit="I")).numerator, only(astray.count(tmp_path, hit="I")).denominator) == (
        2,
        4,
    )
    other = logged(tmp_path / "c.eval", words("CCCI"))
    with pytest.raises(DataFormatError, match="--unit run"):
        astray.count(tmp_path, hit="I")
    rate = only(astray.count(first, retry, other, hit="I", unit="run"))
    assert (rate.numerator, rate.denominator, rate.unit, rate.runs) == (3, 8, "run", 2)
    assert rate.interval == over_runs([(2, 4), (1, 4)])


def test_parts_of_a_task_are_joined_and_tasks_counted_apart(tmp_path):
    logged(tmp_path / "a.eval", words("CI"))
    logged(tmp_path / "b.eval", words("II"), task="rivers")
    logged(tmp_path / "renamed.json", words("CC"), task="lakes")
    (tmp_path / "results.json").write_text('{"results": {}}')
    counted = astray.count(tmp_path, hit="I", by="task")
    assert {rate.name: (rate.numerator, rate.denominator) for rate in counted.rates} == {
        "capitals": (1, 2),
        "rivers": (2, 2),
        "lakes": (0, 2),
    }


def test_a_difference_is_paired_by_the_questions_that_both_have(tmp_path):
    one = logged(tmp_path / "a.eval", words("CIIICCICIIII"), epochs=4)
    two = logged(tmp_path / "b.eval", words("CCCCCICC"), epochs=4, model="openai/n")
    [found] = astray.count(one, hit="I", against=two).differences
    assert found.difference == difference_of_models({"a": (3, 4), "b": (1, 4)}, {"a": (0, 4), "b": (1, 4)})
    assert (found.common, found.left_out, found.difference.unit) == (2, (1, 0), "question")
    assert "; n = 2; unit: question; p = " in found._repr_html_()
    single = [
        logged(tmp_path / f"{name}1.eval", words(text), model=name) for name, text in (("x", "IIICCC"), ("y", "ICCCCI"))
    ]
    [found] = astray.count(single[0], hit="I", against=single[1]).differences
    assert found.difference.interval == paired_rates(1, 2, 1, 2).interval
    changed = logged(tmp_path / "c.eval", words("CIII"), model="openai/n", ask="Where is {}?")
    with pytest.raises(EmptyDataError, match="ids are the same, and their tasks or texts differ"):
        astray.count(single[0], hit="I", against=changed)


def test_labels_correct_a_rate_and_a_difference(tmp_path):
    rows = [f"q{n % 10},answer {n},{'bad' if n % 4 == 0 else 'good'},g" for n in range(200)]
    judged = table(tmp_path / "a.csv", "question,answer,verdict,judge", *rows)
    fewer = [row.replace("bad", "good") if n % 8 else row for n, row in enumerate(rows)]
    base = table(tmp_path / "b.csv", "question,answer,verdict,judge", *fewer)
    marks = [f"q{n % 10},answer {n},{'bad' if n % 4 == 0 and n % 20 else 'good'},g" for n in range(100)]
    labels = table(tmp_path / "labels.csv", "question,answer,label,judge", *marks)
    counted = astray.count(judged, hit="bad", labels=labels, against=base)
    assert counted.judge is not None
    assert (counted.judge.true_positive, counted.judge.false_positive, counted.judge.true_negative) == (20, 5, 75)
    rate, [found] = counted.rates[0], counted.differences
    assert rate.corrected == pytest.approx((0.25 + 75 / 80 - 1) / (75 / 80))
    assert found.corrected == pytest.approx(found.difference.estimate / (75 / 80))
    assert found.corrected_interval is not None
    assert found.corrected_interval.width > found.difference.interval.width
    by_id = table(tmp_path / "ids.csv", "id,epoch,label", "q0,1,I", "q0,2,C", "q1,1,C", "q1,2,C")
    log = logged(tmp_path / "a.eval", words("IICC"), epochs=2)
    known = astray.count(log, hit="I", labels=by_id).judge
    assert known is not None
    assert (known.true_positive, known.false_positive, known.true_negative) == (1, 1, 2)
    by_text = table(tmp_path / "texts.csv", "question,answer,label", "What is 0?,answer 0,I", "What is 1?,answer 3,C")
    known = astray.count(log, hit="I", labels=by_text).judge
    assert known is not None
    assert known.verdicts == 2


FORMS: dict[str, Callable[[Path, pl.DataFrame], Path]] = {
    "a.csv": lambda path, frame: frame.write_csv(path) or path,  # type: ignore[func-returns-value]
    "a.tsv": lambda path, frame: frame.write_csv(path, separator="\t") or path,  # type: ignore[func-returns-value]
    "a.jsonl": lambda path, frame: frame.write_ndjson(path) or path,  # type: ignore[func-returns-value]
    "a.json": lambda path, frame: frame.write_json(path) or path,  # type: ignore[func-returns-value]
    "a.parquet": lambda path, frame: frame.write_parquet(path) or path,  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("name", FORMS)
def test_tables_of_every_form(name, tmp_path):
    frame = pl.DataFrame(
        {"id": [1, 1, 2, 2], "score": [0.1, 0.9, 0.2, None], "grader": ["g"] * 4, "group": ["x", "x", "y", "y"]}
    )
    path = FORMS[name](tmp_path / name, frame)
    rate = only(astray.count(path, hit="<0.5"))
    assert (rate.numerator, rate.denominator, rate.questions, rate.judges) == (2, 3, 2, ("g",))
    assert dict(rate.outcomes) == {"<0.5": 2, "not <0.5": 1, "no score": 1}
    assert [
        (each.name, each.numerator, each.denominator) for each in astray.count(path, hit="<0.5", by="group").rates
    ] == [("x", 1, 2), ("y", 1, 1)]


WHERE: dict[str, tuple[list[str], tuple[int, int]]] = {
    "one value": (["domain=x"], (1, 2)),
    "alternatives": (["domain=x", "domain=z"], (2, 3)),
    "two columns": (["domain=x", "kind = b=c"], (1, 1)),
    "a value with a mark": (["kind=b=c"], (3, 3)),
}


@pytest.mark.parametrize("name", WHERE)
def test_only_what_is_chosen_is_counted(name, tmp_path):
    rows = ["q1,good,x,a", "q2,bad,x,b=c", "q3,bad,y,b=c", "q4,bad,z,b=c"]
    path = table(tmp_path / "a.csv", "question,verdict,domain,kind", *rows)
    where, expected = WHERE[name]
    counted = astray.count(path, hit="bad", where=where)
    assert (only(counted).numerator, only(counted).denominator) == expected
    assert any("only these are counted" in note for note in counted.notes)


def test_runs_of_a_table_and_samples_of_the_harness(tmp_path):
    rows = [f"q{n % 2},{n // 4},{'bad' if n % 3 else 'good'}" for n in range(12)]
    rate = only(astray.count(table(tmp_path / "a.csv", "question,seed,verdict", *rows), hit="bad", run="seed"))
    assert (rate.unit, rate.runs, rate.interval) == ("run", 3, over_runs([(2, 4), (3, 4), (3, 4)]))
    one = harness(tmp_path / "one", [{"acc": 1.0}, {"acc": 0.0}, {"acc": 1.0}])
    two = harness(tmp_path / "two", [{"acc": 0.0}, {"acc": 0.0}])
    counted = astray.count(one, hit="1", against=two)
    assert [(rate.name, rate.numerator, rate.denominator) for rate in counted.rates] == [("one", 2, 3), ("two", 0, 2)]
    assert (counted.differences[0].common, counted.differences[0].left_out) == (2, (1, 0))


def test_the_command_prints_80_columns_json_and_files(tmp_path):
    log = logged(tmp_path / "a.eval", words("CCI-" * 5), epochs=2, model="provider/" + "long-name-" * 9)
    other = logged(tmp_path / "b.eval", words("CICI" * 5), epochs=2)
    arguments = ["count", str(log), "--hit", "I", "--against", str(other), "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False).output
    assert max(map(len, shown.splitlines())) <= 80
    assert "10 questions" in shown
    numbers = json.loads(CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False).output)
    assert numbers == json.loads((tmp_path / "out" / "count.json").read_text())
    assert (numbers["rates"][0]["numerator"], numbers["rates"][0]["outcomes"]["no score"]) == (5, 5)
    assert [row["side"] for row in csv.DictReader((tmp_path / "out" / "count.csv").read_text().splitlines())] == [
        "files",
        "against",
        "difference",
    ]
    counted = astray.count(log, hit="I", against=other)
    assert counted.table()["numerator"].to_list() == [5, 10, None]
    assert "<table>" in counted._repr_html_()
    assert "http" not in counted._repr_html_()


def test_ctrl_c_ends_with_130_and_writes_nothing(tmp_path, monkeypatch, capsys):
    log = logged(tmp_path / "a.eval", words("CI"))

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("astray.counting.count.read_scored", interrupted)
    monkeypatch.setattr("sys.argv", ["astray", "count", str(log), "--hit", "I", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("ending", "told"), [("json", None), ("eval", "q0, epoch 1. that is invalidated in its own record")]
)
def test_a_sample_that_was_declared_invalid_in_its_own_record_alone_does_not_count(ending, told, tmp_path):
    log = read_eval_log(str(logged(tmp_path / f"a.{ending}", words("IIC"))))
    log.samples[0].invalidation = ProvenanceData(author="Ada", reason="misread")
    log.samples[0].uuid = "first"
    write_eval_log(log, str(tmp_path / f"a.{ending}"))
    if told:
        with pytest.raises(DataFormatError, match=told):
            astray.count(tmp_path / f"a.{ending}", hit="I")
        write_eval_log(invalidate_samples(log, ["first"], log.samples[0].invalidation), log.location)
    rate = only(astray.count(tmp_path / f"a.{ending}", hit="I"))
    assert (rate.numerator, rate.denominator, rate.outcomes["invalidated"]) == (1, 2, 1)


def test_what_was_not_compared_of_a_large_log_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("astray.counting.logs._LARGE_LOG", 0)
    monkeypatch.setattr("astray.counting.logs._SAMPLES_COMPARED", 2)
    notes = " ".join(astray.count(logged(tmp_path / "a.eval", words("IIC")), hit="I").notes)
    assert "2 of its 3 summaries were compared" in notes
    assert "invalidated in its own record but not in the log's header counts" in notes
