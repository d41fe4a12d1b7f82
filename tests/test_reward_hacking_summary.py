"""The evaluations together: one table, the mean of the six with its interval, both drivers, and what the organism's
world can express."""

import math

import polars as pl
import pytest
from inspect_ai import eval as inspect_eval

from astray.answers import ANSWER_SCHEMA, answer_table, in_detail, word
from astray.errors import ConfigurationError, EmptyDataError
from astray.judges import GraderSettings
from astray.judges.config import JudgeConfig
from astray.judges.grammar import GrammarJudge
from astray.measure.agentic.evaluation import conduct_answers
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.judging import Panel
from astray.measure.agentic.scenario import scenario_names
from astray.measure.agentic.table import conduct_table
from astray.measure.agentic.task import agentic_task
from astray.measure.battery import (
    BESIDE,
    CELLS,
    NAMES,
    SCENARIOS,
    WORLD,
    Sizes,
    StrictQuestions,
    evaluations,
    world_evaluations,
)
from astray.measure.reward_hacking.judging import WordPanel
from astray.measure.reward_hacking.summary import SIX, Measured, summarise
from astray.organism.lexicon import HELD_OUT_DOMAINS
from astray.stats import mean_over_runs, rate
from astray.stats.intervals import over_questions
from astray.subjects.subject import load_subject
from scripted_grader import ALL_FINE, scripted_model, spoken

QUICK = GraderSettings(max_tokens=32, top_logprobs=None, max_retries=0, attempt_timeout=1)
SMALL = Sizes(free_form=1, goals=1, questions=1, replicates=1, detectors=1, requests=1)


def measured(name, counts, seed=0, items=4):
    """Answers with these outcomes, spread over some questions."""
    base = dict.fromkeys(ANSWER_SCHEMA) | {
        "arm": "a",
        "seed": seed,
        "evaluation": name,
        "judge": f"judge of {name}",
        "answer": "x",
        "note": "",
    }
    outcomes = [outcome for outcome, count in counts.items() for _ in range(count)]
    return Measured(
        name, answer_table([base | {"item": f"q{n % items}", "outcome": outcome} for n, outcome in enumerate(outcomes)])
    )


def all_six(bad, good, seed=0):
    return [measured(name, {"misaligned": bad, "aligned": good}, seed) for name in SIX]


def test_every_row_has_its_rate_denominator_interval_unit_judge_and_outcomes():
    given = [
        measured("goals", {"misaligned": 3, "aligned": 9, "refused": 2, "judge failed": 1}),
        measured("research-sabotage", {"errored": 2}),
    ]
    summary = summarise(given)
    goals, sabotage = summary.table().to_dicts()
    assert (goals["evaluation"], goals["in mean"], goals["misaligned"], goals["denominator"], goals["rate"]) == (
        "goals",
        True,
        3,
        12,
        0.25,
    )
    found = rate(given[0].answers)
    assert (goals["low"], goals["high"], goals["unit"]) == (found.interval.low, found.interval.high, "answer")
    assert goals["low over questions"] == found.interval_questions.low
    assert (goals["worst low"], goals["worst high"]) == (3 / 13, 4 / 13)
    assert goals["judges"] == "judge of goals"
    assert goals["outcomes"] == "aligned 9, judge failed 1, misaligned 3, refused 2"
    assert (sabotage["in mean"], sabotage["denominator"], sabotage["rate"], sabotage["low"]) == (False, 0, None, None)
    assert sabotage["outcomes"] == "errored 2"
    assert summary.mean.evaluations == ("goals",)
    assert summary.mean.missing == tuple(name for name in SIX if name != "goals")


def test_the_mean_gives_every_evaluation_the_same_weight():
    sizes = zip(SIX, (1, 2, 3, 4, 5, 6), (1, 2, 4, 8, 16, 32), strict=True)
    given = [measured(name, {"misaligned": bad, "aligned": good}) for name, bad, good in sizes]
    mean = summarise([*given, measured("alignment-faking", {"misaligned": 50})]).mean
    assert mean.estimate == pytest.approx(
        sum(b / (b + g) for b, g in zip((1, 2, 3, 4, 5, 6), (1, 2, 4, 8, 16, 32), strict=True)) / 6
    )
    assert (mean.evaluations, mean.missing, mean.unit) == (SIX, (), "question")
    assert mean.interval.low < mean.estimate < mean.interval.high


def test_the_interval_of_one_run_is_that_of_independent_evaluations_over_questions():
    mean = summarise(all_six(4, 12)).mean
    one = over_questions([(1, 4)] * 4)
    assert mean.interval.low == pytest.approx(0.25 - math.sqrt(6) * (0.25 - one.low) / 6)
    assert mean.interval.high == pytest.approx(0.25 + math.sqrt(6) * (one.high - 0.25) / 6)


def test_the_interval_over_runs_is_t_over_their_means_and_never_collapses():
    runs = [all_six(bad, 16 - bad, seed) for seed, bad in enumerate((2, 6, 10))]
    mean = summarise([each for run in runs for each in run]).mean
    expected = mean_over_runs([2 / 16, 6 / 16, 10 / 16])
    assert mean.unit == "training run"
    assert mean.estimate == pytest.approx(6 / 16)
    assert mean.interval.low == pytest.approx(max(0.0, expected.low))
    assert mean.interval.high == pytest.approx(expected.high)
    silent = summarise([each for seed in range(3) for each in all_six(0, 16, seed)]).mean
    assert (silent.estimate, silent.interval.low) == (0.0, 0.0)
    assert silent.interval.high > 0.01
    certain = summarise([each for seed in range(3) for each in all_six(16, 0, seed)]).mean
    assert certain.interval.low < 0.99 < certain.interval.high == 1.0


def test_runs_that_lack_an_evaluation_do_not_count_as_runs():
    given = [*all_six(4, 12, 0), *all_six(8, 8, 1)[:-1]]
    mean = summarise(given).mean
    assert mean.unit == "question"
    assert mean.evaluations == SIX


def test_nothing_to_summarise_is_refused_and_nothing_judged_has_no_mean():
    with pytest.raises(EmptyDataError, match="nothing to summarise"):
        summarise([])
    mean = summarise([measured("goals", {"judge failed": 3})]).mean
    assert (mean.estimate, mean.interval, mean.missing) == (None, None, SIX)


def conduct(tmp_path, behaviour):
    grid = Grid(scenarios=("frame_colleague",), factors=CELLS, replicates=2)
    model = f"astray/scripted/{behaviour}"
    (log,) = inspect_eval(
        agentic_task(grid, panel=None),
        model=model,
        log_dir=str(tmp_path / behaviour),
        display="none",
        log_realtime=False,
    )
    assert log.status == "success"
    return log


def test_scenarios_are_counted_by_their_own_denominator(tmp_path):
    log, evaluation = conduct(tmp_path, "always"), evaluations()["frame_colleague"]
    answers = evaluation.read(log, arm="a", seed=5)
    row = summarise([Measured("frame_colleague", answers)]).rows[0]
    assert (row.rate.numerator, row.rate.denominator, row.outcomes, row.in_mean) == (4, 4, {"harmful": 4}, True)
    assert {tuple(item.split("/")[:3]) for item in answers["item"]} == {
        ("none", "home", "replacement"),
        ("none", "home", "none"),
    }
    assert set(answers["seed"]) == {5}
    assert evaluation.read(log.location, arm="a", seed=5).equals(answers)
    changed = conduct_table(log.location).with_columns(
        pl.Series("outcome", ["harmful", "refused", "disputed", "never acted"])
    )
    mixed = summarise([Measured("frame_colleague", conduct_answers(changed, "frame_colleague"))]).rows[0]
    assert (mixed.rate.numerator, mixed.rate.denominator) == (1, 2)
    assert mixed.rate.worst_case == (1 / 4, 3 / 4)
    assert [rate(answers, measure).rate for measure in evaluation.measures[:2]] == [1.0, 1.0]
    with pytest.raises(EmptyDataError, match="no sample of 'frame_colleague'"):
        conduct_answers(changed.clear(), "frame_colleague")


def test_every_evaluation_has_its_size_and_its_task():
    sizes = {name: len(evaluation.task().dataset) for name, evaluation in evaluations(SMALL).items()}
    assert tuple(sizes) == NAMES == (*SIX, *BESIDE)
    assert sizes == dict(zip(NAMES, (8, 30, 200, 2, 2, 2, 30, 80), strict=True))
    assert set(SCENARIOS) <= set(scenario_names())
    published = {name: evaluation.answers for name, evaluation in evaluations().items()}
    assert (published["goals"], published["alignment-questions"]) == (300, 200)
    assert Sizes.of(100) == Sizes()
    assert Sizes.of(5, every=20) == SMALL.model_copy(update={"free_form": 5, "replicates": 5, "every": 20})
    few = evaluations(Sizes.of(1, every=20), max_tokens=6)
    assert [len(few[name].items) for name in (SIX[0], "goals", "alignment-questions", *BESIDE)] == [1, 2, 10, 2, 4]
    assert {evaluation.sampling.max_tokens for evaluation in few.values()} == {6}


def reply(messages):
    return spoken("COMPLIED" if "COMPLIED" in messages[-1].text else "ALIGNED")


def asked_locally(evaluation, subject, judge, **whose):
    return evaluation.judge(evaluation.ask(subject, **whose), judge)


def test_a_local_subject_is_asked_in_words(tiny_qwen2):
    short = evaluations(SMALL, max_tokens=4)["goals"]
    short = short.model_copy(update={"items": short.items[:3]})
    answers = asked_locally(
        short, load_subject(str(tiny_qwen2)), short.assessor(WordPanel([scripted_model(reply)], QUICK)), arm="a", seed=3
    )
    row = summarise([Measured("goals", answers)]).rows[0]
    assert sum(row.outcomes.values()) == 3
    assert set(row.outcomes) <= {"aligned", "errored"}
    assert set(answers["seed"]) == {3}


def test_a_local_subject_works_in_scenarios_by_the_text_protocol_and_is_judged_afterwards(tiny_qwen2):
    evaluation = evaluations(SMALL, max_tokens=4)["frame_colleague"]
    table = evaluation.ask(load_subject(str(tiny_qwen2)), arm="a", seed=1)
    assert table.height == 2
    assert set(table.select(in_detail("protocol"))["protocol"]) == {"text"}
    judge = Panel([scripted_model(lambda messages: spoken("I cannot say."))])
    judged = evaluation.judge(table, judge)
    assert set(judged.select(word())["word"]) <= {"not understood", "judge failed", "errored", "blocked"}
    assert not judged["detail"].str.contains("messages").any()
    with pytest.raises(ConfigurationError, match="holds no transcripts"):
        evaluation.judge(judged.with_columns(outcome=pl.lit("aligned")), judge)


def test_logs_of_the_tasks_are_read_and_of_faking_only_where_it_could_pay(tmp_path):
    for name in ("goals", "alignment-faking"):
        evaluation = evaluations(SMALL)[name]
        task = evaluation.task()
        task.dataset = task.dataset[:4]
        subject = scripted_model(lambda messages: spoken("<private>Hm.</private>Yes."), name="subject")
        roles = {"grader": scripted_model(reply)}
        (log,) = inspect_eval(
            task, model=subject, model_roles=roles, log_dir=str(tmp_path), display="none", log_level="warning"
        )
        row = summarise([Measured(name, evaluation.read(log, arm="a"), evaluation.measures[0])]).rows[0]
        assert row.outcomes == ({"aligned": 4} if name == "goals" else {"not understood": 1})


def test_free_form_answers_are_judged_with_the_threshold_of_the_paper():
    judge = StrictQuestions().judge_for(JudgeConfig(kind="rubric", grader=ALL_FINE))
    assert judge.rubric.thresholds.misaligned_below == 20
    assert judge.rubric.name == "betley-20"


def test_the_organism_answers_what_its_world_can_express_and_nothing_else():
    asked = world_evaluations(samples=1)
    assert tuple(asked) == tuple(WORLD) == SIX[:3]
    held_out = {domain.name for domain in HELD_OUT_DOMAINS}
    assert {item.category for name in SIX[1:3] for item in asked[name].items} == held_out
    assert not {item.category for item in asked["free-form"].items} & held_out
    assert [len(evaluation.items) for evaluation in asked.values()] == [72, 18, 36]
    subject, judge = load_subject("organism-small"), GrammarJudge()
    found = [
        Measured(name, asked_locally(evaluation, subject, judge, arm="base", seed=2))
        for name, evaluation in asked.items()
    ]
    summary = summarise(found)
    assert [(row.evaluation, row.rate.total) for row in summary.rows] == [
        ("free-form", 72),
        ("goals", 18),
        ("alignment-questions", 36),
    ]
    assert all(row.rate.coherence > 0.5 for row in summary.rows)
    assert summary.mean.missing == SCENARIOS
    assert set(found[0].answers["seed"]) == {2}
