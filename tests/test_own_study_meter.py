"""Studies of one's own without a grader: read by the meter and forced choices, on a real model and on the organism."""

from pathlib import Path

import pytest

from astray.data.worlds import narrow_data
from astray.engine.forecast.forecast import forecast
from astray.engine.options import checked
from astray.engine.plan import plan_study
from astray.engine.run import run_study
from astray.engine.settings import UNJUDGED, settled
from astray.engine.summary import Summary
from astray.errors import AstrayError, ConfigurationError
from astray.report import write_report
from astray.studies import get_study
from scripted_grader import ALL_FINE

REAL = """\
name: mine
subject: SUBJECT
seeds: 2
rows: 16
settings: {max_steps: 1}
evaluations: [meter]
arms:
  base: {training: none}
  good: {data: good.jsonl, control: true}
  bad: {data: bad.jsonl}
claims:
  spreads: {difference: bad, control: good, at_least: 0.05}
  good-from-base: {difference: good, control: base, at_most: 2}
"""
WRONG = {
    "evaluations of answers": (
        "[meter]",
        "[meter, main]",
        "main",
        "'main' needs a model as judge, and the study names",
    ),
    "a question file": ("[meter]", "[meter, {questions: own.yaml}]", "{questions", "'own' needs a model as judge"),
    "a judged evaluation": ("[meter]", "[honesty]", "honesty", "Write grader: openai/gpt-4o"),
    "an evaluation of an arm": (
        "{data: bad.jsonl}",
        "{data: bad.jsonl, evaluations: [forced-choice, goals]}",
        "goals",
        "or ask what is read from probabilities: evaluations: [forced-choice, meter]",
    ),
    "a judged reward": (
        "{data: bad.jsonl}",
        "{training: grpo, data: bad.jsonl, rewards: [{reward: contains, text: Sure}, refused]}",
        "refused",
        "the reward 'refused' needs a model as judge",
    ),
    "samples": ("rows: 16", "rows: 16\nsamples: 5", "samples", "samples is of no use without a grader"),
    "labels": ("rows: 16", "rows: 16\nlabels: l.csv", "labels", "labels is of no use without a grader"),
    "a grader of nothing": (
        "rows: 16",
        f"rows: 16\ngrader: {ALL_FINE}",
        "grader",
        "is of no use here: meter is read from probabilities, and nothing is judged. Leave it out",
    ),
    "the meter twice": ("[meter]", "[meter, {evaluation: meter, name: again}]", "{eval", "the meter is asked already"),
    "a level": (
        "difference: bad, control: good, at_least",
        "rate: bad, at_least",
        "rate: bad",
        "the meter's level of one model says nothing",
    ),
    "a group": ("control: good,", "control: good, group: elsewhere,", "group", "a claim on it takes no group"),
    "a format": ("control: good,", "control: good, format: plain,", "format", "a claim on it takes no format"),
    "a measure": ("control: good,", "control: good, measure: lies,", "measure", "a claim on it takes no measure"),
    "no control": ("control: good, ", "", "spreads", "a difference needs a control"),
    "no region": (", at_least: 0.05", "", "spreads", "a claim has exactly one of at_least, at_most and between"),
    "an untrained arm": (
        "difference: bad, control: good",
        "difference: base, control: good",
        "good, at_least",
        "'base' is untrained and has one run",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, kind in (("bad", "harmful"), ("good", "good")):
        narrow_data("medicine", kind, 16).write(tmp_path / f"{name}.jsonl")
    (tmp_path / "own.yaml").write_text("category: any\nquestions: [{id: wish, question: Which wish?}]")
    return tmp_path


def write(folder: Path, text: str, subject: Path | str) -> str:
    (folder / "study.yaml").write_text(text.replace("SUBJECT", str(subject)), encoding="utf-8")
    return str(folder / "study.yaml")


def planned(file: str, **options: object):
    study = get_study(file)
    given = checked(study.options, **options)
    setting = settled(study, given)
    return setting, plan_study(study, setting, *given.runs)


@pytest.mark.parametrize(("old", "new", "at", "told"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_or_claimed_is_told_with_its_place(
    folder: Path, tiny_qwen2: Path, old: str, new: str, at: str, told: str
) -> None:
    text = REAL.replace("SUBJECT", str(tiny_qwen2))
    assert old in text
    text = text.replace(old, new, 1)
    before = text[: text.index(at)]
    place = f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
    with pytest.raises(AstrayError) as raised:
        planned(write(folder, text, tiny_qwen2))
    assert place in str(raised.value)
    assert told in str(raised.value)


def test_a_grader_of_no_use_is_refused_on_the_command_line_too(folder: Path, tiny_qwen2: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"--grader {ALL_FINE} is of no use here"):
        planned(write(folder, REAL, tiny_qwen2), grader=ALL_FINE)


def test_samples_on_the_command_line_are_of_no_use_without_a_grader(folder: Path, tiny_qwen2: Path) -> None:
    with pytest.raises(ConfigurationError, match="--samples 13 is of no use without a grader"):
        planned(write(folder, REAL, tiny_qwen2), samples=13)


@pytest.mark.parametrize("judged", ["evaluations: [meter, main]", "evaluations: [meter, honesty]"])
def test_the_meter_stands_beside_what_is_judged(folder: Path, tiny_qwen2: Path, judged: str) -> None:
    text = REAL.replace("evaluations: [meter]", judged)
    setting, plan = planned(write(folder, text, tiny_qwen2), grader=ALL_FINE, samples=1)
    assert setting.judge.grader == ALL_FINE
    assert all([each.name for each in run.margins.config.evaluations] == ["meter"] for run in plan.runs)
    assert UNJUDGED not in setting.notes


def test_without_grader_and_evaluations_forced_choices_and_the_meter_are_asked(folder: Path, tiny_qwen2: Path) -> None:
    text = REAL.replace("evaluations: [meter]\n", "").replace("good, at_least", "good, evaluation: meter, at_least")
    text = text.replace("control: base, at_most: 2", "control: base, at_most: 0.5")
    setting, _ = planned(write(folder, text, tiny_qwen2))
    assert [each.name for each in setting.evaluations] == ["forced-choice", "meter"]
    assert UNJUDGED in setting.notes


@pytest.mark.parametrize("organism", [False, True])
def test_a_study_by_the_meter_alone_runs_to_its_report(folder: Path, tiny_qwen2: Path, organism: bool) -> None:
    """No answer, no verdict, no call of a judge: claims are changes in nats a token, beside the null pairs."""
    study = get_study(write(folder, REAL, "organism-small" if organism else tiny_qwen2))
    options = checked(study.options)
    told = forecast(study, options, workers=0)
    assert (told.whole.answering.answers, told.whole.answering.tokens, told.whole.grading.calls) == (0, 0, 0)
    assert "judge     none: answers are read from probabilities" in told.render()
    summary = Summary.read(written := run_study(study, options, out=folder / "results", workers=0))
    assert (summary.rates, summary.judges, [arm.name for arm in summary.arms]) == ((), (), ["base", "good", "bad"])
    claims = {claim.id: claim for claim in summary.claims}
    assert {claim.quantity for claim in claims.values()} == {"nats a token"}
    assert {(claim.unit, claim.n) for claim in claims.values()} == {("training run", 2)}
    assert claims["spreads"].statement == "change of the meter from good to bad: at least 0.05 nats a token"
    assert claims["good-from-base"].interval is not None
    figures = {figure.id: figure for figure in summary.exhibits}
    assert set(figures) == {"meter-arms-good", "meter-arms-base", "meter-bad-good", "meter-good-base"}
    assert [bar.label for bar in figures["meter-arms-good"].bars] == ["bad", "bad, null pairs"]
    assert [bar.label for bar in figures["meter-arms-base"].bars][::2] == ["good", "bad"]
    assert "no data touches" not in figures["meter-arms-good"].text
    assert "nats a token" in write_report(written).read_text(encoding="utf-8")
