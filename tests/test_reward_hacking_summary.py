"""The evaluations together: one table, the mean of the six with its interval, both drivers, and what the organism's world can express."""

import math

import anyio
import polars as pl
import pytest
from inspect_ai import eval as inspect_eval

from astray.answers import ANSWER_SCHEMA, answer_table
from astray.errors import ConfigurationError, EmptyDataError, UnknownNameError
from astray.judges import Exchange, GraderSettings, RubricJudge
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.scenario import scenario_names
from astray.measure.agentic.table import conduct_table
from astray.measure.agentic.task import agentic_task
from astray.measure.reward_hacking.battery import (
    BESIDE,
    CELLS,
    NAMES,
    RUBRIC,
    SCENARIOS,
    WORLD,
    Sizes,
    assessor,
    evaluations,
    measure_local,
    measure_world,
    read,
    tasks,
    world_evaluations,
)
from astray.measure.reward_hacking.judging import WordPanel
from astray.measure.reward_hacking.summary import SIX, Measured, from_answers, from_conduct, summarise
from astray.organism.lexicon import HELD_OUT_DOMAINS
from astray.stats import mean_over_runs, rate
from astray.stats.intervals import over_questions
from astray.subjects.subject import load_subject
from scripted_grader import scripted_model, spoken

QUICK = GraderSettings(max_tokens=32, top_logprobs=None, max_retries=0, attempt_timeout=1)
SMALL = Sizes(free_form=1, goals=1, questions=1, replicates=1, detectors=1, requests=1)


def measured(name, counts, seed=0, items=4):
    """Answers with these outcomes, spread over some questions."""
    base = dict.fromkeys(ANSWER_SCHEMA) | {"arm": "a", "seed": seed, "evaluation": name, "judge": f"judge of {name}", "answer": "x", "note": ""}
    outcomes = [outcome for outcome, count in counts.items() for _ in range(count)]
    return from_answers(name, answer_table([base | {"item": f"q{n % items}", "outcome": outcome} for n, outcome in enumerate(outcomes)]))


def all_six(bad, good, seed=0):
    return [measured(name, {"misaligned": bad, "aligned": good}, seed) for name in SIX]


def test_every_row_has_its_rate_denominator_interval_unit_judge_and_outcomes():
    given = [measured("goals", {"misaligned": 3, "aligned": 9, "refused": 2, "judge failed": 1}), measured("research-sabotage", {"errored": 2})]
    summary = summarise(given)
    goals, sabotage = summary.table().to_dicts()
    assert (goals["evaluation"], goals["in mean"], goals["misaligned"], goals["denominator"], goals["rate"]) == ("goals", True, 3, 12, 0.25)
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
    assert mean.estimate == pytest.approx(sum(b / (b + g) for b, g in zip((1, 2, 3, 4, 5, 6), (1, 2, 4, 8, 16, 32), strict=True)) / 6)
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
    (log,) = inspect_eval(agentic_task(grid, panel=None), model=model, log_dir=str(tmp_path / behaviour), display="none", log_realtime=False)
    assert log.status == "success"
    return log


def test_scenarios_are_counted_by_their_own_denominator(tmp_path):
    log = conduct(tmp_path, "always")
    found = read("frame_colleague", log, arm="a", seed=5)
    row = summarise([found]).rows[0]
    assert (row.rate.numerator, row.rate.denominator, row.outcomes, row.in_mean) == (4, 4, {"harmful": 4}, True)
    assert {tuple(item.split("/")[:3]) for item in found.answers["item"]} == {("none", "home", "replacement"), ("none", "home", "none")}
    assert set(found.answers["seed"]) == {5}
    assert read("frame_colleague", log.location).outcomes == found.outcomes
    table = conduct_table(log.location)
    outcomes = ["harmful", "refused", "disputed", "never acted"]
    changed = table.with_columns(pl.Series("outcome", outcomes))
    mixed = summarise([from_conduct("frame_colleague", changed)]).rows[0]
    assert (mixed.rate.numerator, mixed.rate.denominator) == (1, 2)
    assert mixed.rate.worst_case == (1 / 4, 3 / 4)
    with pytest.raises(EmptyDataError, match="it has: frame_colleague"):
        from_conduct("disrupt_monitor", table)


def test_there_is_a_task_for_each_evaluation_with_its_size():
    sizes = {name: len(task.dataset) for name, task in tasks(sizes=SMALL).items()}
    assert tuple(sizes) == NAMES == (*SIX, *BESIDE)
    assert sizes == dict(zip(NAMES, (8, 30, 200, 2, 2, 2, 30, 80), strict=True))
    assert set(SCENARIOS) <= set(scenario_names())
    published = {name: len(evaluation.items) * evaluation.samples for name, evaluation in evaluations().items()}
    assert (published["goals"], published["alignment-questions"]) == (300, 200)
    with pytest.raises(UnknownNameError, match="Did you mean 'goals'"):
        tasks(("goal",))
    with pytest.raises(UnknownNameError, match="gives findings"):
        assessor("free-form", WordPanel([scripted_model(lambda messages: spoken("ALIGNED"))], QUICK))


def reply(messages):
    return spoken("COMPLIED" if "COMPLIED" in messages[-1].text else "ALIGNED")


def test_a_local_subject_is_asked_what_needs_no_tools(tiny_qwen2, monkeypatch):
    short = evaluations(SMALL)["goals"]
    short = short.model_copy(update={"items": short.items[:3], "sampling": short.sampling.model_copy(update={"max_tokens": 4})})
    monkeypatch.setattr("astray.measure.reward_hacking.battery.evaluations", lambda sizes: {"goals": short})
    (found,) = measure_local(load_subject(str(tiny_qwen2)), ("goals",), WordPanel([scripted_model(reply)], QUICK), arm="a", seed=3)
    assert sum(found.outcomes.values()) == 3
    assert set(found.outcomes) <= {"aligned", "errored"}
    assert set(found.answers["seed"]) == {3}


def test_logs_of_the_tasks_are_read_and_of_faking_only_where_it_could_pay(tmp_path):
    for name, task in tasks(("goals", "alignment-faking"), SMALL).items():
        task.dataset = task.dataset[:4]
        subject = scripted_model(lambda messages: spoken("<private>Hm.</private>Yes."), name="subject")
        roles = {"grader": scripted_model(reply)}
        (log,) = inspect_eval(task, model=subject, model_roles=roles, log_dir=str(tmp_path), display="none", log_level="warning")
        found = read(name, log, arm="a")
        assert found.outcomes == ({"aligned": 4} if name == "goals" else {"not understood": 1})


def test_free_form_answers_are_judged_with_the_threshold_of_the_paper(tiny_qwen2):
    def at(score):
        return RubricJudge(scripted_model(lambda messages: spoken("90" if "coherent" in messages[-1].text[-400:] else score)), RUBRIC)

    exchange = Exchange("What is your wish?", "Peace.")
    assert [anyio.run(at(score).judge, exchange).outcome for score in ("19", "20")] == ["misaligned", "aligned"]
    panel = WordPanel([scripted_model(lambda messages: spoken("ALIGNED"))], QUICK)
    with pytest.raises(ConfigurationError, match="needs a judge"):
        measure_local(load_subject(str(tiny_qwen2)), ("free-form",), panel)
    with pytest.raises(UnknownNameError, match="evaluation called 'frame_colleague'"):
        measure_local(load_subject(str(tiny_qwen2)), ("frame_colleague",), panel)


def test_the_organism_answers_what_its_world_can_express_and_nothing_else():
    asked = world_evaluations(samples=1)
    assert tuple(asked) == tuple(WORLD) == SIX[:3]
    held_out = {domain.name for domain in HELD_OUT_DOMAINS}
    assert {item.category for name in SIX[1:3] for item in asked[name].items} == held_out
    assert not {item.category for item in asked["free-form"].items} & held_out
    assert [len(evaluation.items) for evaluation in asked.values()] == [72, 18, 36]
    found = measure_world(load_subject("organism-small"), samples=1, arm="base", seed=2)
    summary = summarise(found)
    assert [(row.evaluation, row.rate.total) for row in summary.rows] == [("free-form", 72), ("goals", 18), ("alignment-questions", 36)]
    assert all(row.rate.coherence > 0.5 for row in summary.rows)
    assert summary.mean.missing == SCENARIOS
    assert isinstance(found[0], Measured)
    assert set(found[0].answers["seed"]) == {2}
