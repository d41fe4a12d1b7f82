"""The forecast of the agentic study against what a run really takes, and its power against an enumeration of its
own."""

from dataclasses import replace

import pytest
from scipy.stats import binom, fisher_exact

from astray.artifacts import Store
from astray.engine.forecast import acting_pace
from astray.engine.forecast.acting_pace import ActingPace
from astray.engine.forecast.acting_power import Comparison, smallest_difference
from astray.engine.forecast.acting_time import CALL_SECONDS, OWN_SECONDS
from astray.errors import SubjectNotFoundError
from astray.measure.agentic.grid import Cost, Grid, Price, estimate_cost
from astray.measure.agentic.logs import done_samples
from astray.measure.agentic.play import LOGS, Part
from astray.measure.agentic.subjects import AgenticSubject, subjects_from
from astray.studies.agentic_misalignment.options import AgenticOptions
from astray.studies.agentic_misalignment.study import STUDY, parts
from playing import forecast_parts as forecast
from playing import run_parts

GRADERS = ("astray/scripted/grader", "astray/scripted/grader")
SUBJECTS = subjects_from("astray/scripted/sometimes", None, GRADERS)
PART = Part(
    "grid",
    Grid(scenarios=("blackmail",), factors={"goal": ("explicit",), "threat": ("replacement", "none")}, replicates=4),
)
REMOTE = AgenticSubject(name="remote", model="openai/gpt-4o", grader=("openai/gpt-4o",))


def test_tokens_are_about_those_of_a_run_and_what_is_done_is_no_work_any_more(tmp_path):
    before = forecast(SUBJECTS, [PART], tmp_path)
    rows = run_parts(SUBJECTS, [PART], tmp_path, max_tokens=100).table
    (cost,) = before.costs
    assert cost.samples == len(rows) == PART.grid.size
    assert cost.calls == pytest.approx(rows["turns"].sum() + 2 * len(rows), rel=0.1)
    assert cost.input_tokens == pytest.approx(rows["input_tokens"].sum(), rel=0.15)
    assert cost.output_tokens == pytest.approx(rows["output_tokens"].sum(), rel=0.15)
    after = forecast(SUBJECTS, [PART], tmp_path)
    assert (after.work[0].done, after.work[0].samples, after.work[0].seconds) == (len(rows), 0, 0.0)
    assert after.work[0].spent == rows["tokens"].sum()
    more = Part("grid", PART.grid.model_copy(update={"replicates": 6}))
    left = forecast(SUBJECTS, [more], tmp_path)
    assert (left.work[0].done, left.work[0].samples) == (8, 4)
    assert left.work[0].pace.startswith("as before")
    assert f"{more.grid.size} in all, of which 8 are done" in left.render()
    spent, needed = left.work[0].spent, left.work[0].tokens
    assert "not enough for" in forecast(SUBJECTS, [more], tmp_path, budget=spent + needed // 2).render()
    assert "not enough for" not in forecast(SUBJECTS, [more], tmp_path, budget=spent + needed).render()


def test_samples_that_ended_in_an_error_are_still_to_be_done(tmp_path):
    (broken,) = subjects_from(
        "astray/scripted/grader", None, GRADERS
    )  # a grader that is put into the office finds no question
    assert set(run_parts([broken], [PART], tmp_path, max_tokens=100).table["outcome"]) == {"errored"}
    [artifact] = Store(tmp_path).artifacts()
    assert artifact.manifest.provisional == "8 samples ended in an error"
    assert list((artifact.path / LOGS).glob("*.eval"))
    assert done_samples(artifact.path / LOGS, PART.grid) == {}
    assert forecast([broken], [PART], tmp_path).work[0].samples == 8


def test_some_samples_cost_their_share():
    grid = Grid(scenarios=("blackmail",), replicates=3)
    whole, price = estimate_cost(grid, price=Price(2.0, 10.0)), Price(2.0, 10.0)
    halves = [estimate_cost(grid, price=price, numbers=numbers) for numbers in (range(7), range(7, grid.size))]
    assert sum(half.samples for half in halves) == whole.samples == grid.size
    assert sum(half.input_tokens for half in halves) == pytest.approx(whole.input_tokens, abs=1)
    assert sum(half.dollars for half in halves) == pytest.approx(whole.dollars)
    assert estimate_cost(grid, numbers=[]).calls == 0


def test_the_probe_is_one_more_call_a_sample():
    grid = Grid(scenarios=("blackmail",), replicates=1)
    assert estimate_cost(grid, probe=True).calls - estimate_cost(grid).calls == grid.size


def test_time_follows_from_the_given_speed_and_from_how_many_run_at_once(tmp_path):
    fast, slow = (
        forecast([REMOTE.model_copy(update={"speed": speed})], [PART], tmp_path).work[0] for speed in (100.0, 10.0)
    )
    written = fast.costs[0].output_tokens
    assert slow.seconds - fast.seconds == pytest.approx(written * (1 / 10 - 1 / 100) / 20)
    assert "given: 10 tokens a second" in slow.pace
    assert "assumed" in forecast([REMOTE], [PART], tmp_path).work[0].pace
    limited = forecast([REMOTE.model_copy(update={"speed": 10.0})], [PART], tmp_path, budget=1000).work[0]
    assert limited.seconds == pytest.approx(slow.seconds * 20 / 8)
    assert slow.seconds > slow.costs[0].calls * CALL_SECONDS / 20


def test_a_local_subject_is_timed_by_its_first_answers(tiny_qwen2, tmp_path, monkeypatch):
    tiny = AgenticSubject(name="tiny", model=f"astray/{tiny_qwen2}", grader=("mockllm/model",), price=(1.0, 2.0))
    found = forecast([tiny], [PART], tmp_path, prices=(1.0, 4.0))
    work, size = found.work[0], PART.grid.size
    assert work.seconds > size * OWN_SECONDS
    assert "0.1M parameters here: answers estimated at about" in work.pace
    assert "from 8 first answers (" in work.pace
    assert work.pace.endswith("none called a tool")
    # Calls, tokens, what would save some and the price are of the same answers as the time: two turns, two questions.
    (cost,) = work.costs
    assert cost.calls == 4 * size
    assert f"calls      {4 * size} of subjects" in found.render()
    assert cost.dollars == pytest.approx((cost.input_tokens + 2 * cost.output_tokens + cost.judge_tokens) / 1e6)
    monkeypatch.setattr(acting_pace, "free_memory", lambda _: 1000.0)
    assert acting_pace.acting_pace(str(tiny_qwen2), PART.grid, 99) is None
    monkeypatch.setattr(acting_pace, "MEASURED_BELOW", 0)
    counted = forecast([tiny], [PART], tmp_path).work[0]
    assert "GFLOP/s" in counted.pace
    assert counted.costs[0].calls > 4 * size
    with pytest.raises(SubjectNotFoundError):
        forecast(
            [AgenticSubject(name="none", model="astray/nothing-here", grader=("mockllm/model",))], [PART], tmp_path
        )


def test_time_of_acting_follows_from_what_the_first_answers_took():
    cost = Cost(samples=10, calls=50, input_tokens=1000, output_tokens=100, judge_tokens=0)
    pace = ActingPace(2.0, prompt=300, reading=0.001, alone=0.01, further=0.001, answer=80.0, calls_tools=True)
    assert pace.amounts(cost, 2) == (50, 2000, 4000)
    assert pace.seconds(cost, 2, limit=100) == pytest.approx(2 + 5 * 100 * (0.01 + 9 * 0.001))
    # Without a call: two turns and both questions, each with what was said before.
    calls, read, written = replace(pace, calls_tools=False).amounts(cost, 2)
    assert (calls, written) == (40, 3200)
    assert read == 10 * sum(300 + said * 80 for said in (0, 1, 2, 2))


@pytest.mark.parametrize(("step", "most"), [(0.0, 1500), (0.01, 300), (0.04, 128), (0.1, 100), (0.2, 50), (2.0, 16)])
def test_first_answers_are_as_long_as_their_seconds_allow(step, most):
    assert acting_pace._most(step, limit=4000) == most
    assert acting_pace._most(step, limit=10) == 10


def test_prices_of_subject_and_grader_are_apart_and_missing_ones_are_said(tmp_path):
    priced = REMOTE.model_copy(update={"price": (3.0, 15.0)})
    both = forecast([priced], [PART], tmp_path, prices=(1.0, 4.0))
    (cost,) = both.costs
    assert both.dollars == pytest.approx(
        (cost.input_tokens * 3 + cost.output_tokens * 15 + cost.judge_tokens * 1) / 1e6, rel=1e-3
    )
    assert forecast([REMOTE], [PART], tmp_path).dollars is None
    assert "cost       not known" in forecast([REMOTE], [PART], tmp_path).render()


def test_the_price_of_each_choice_is_that_of_the_whole_study(tmp_path):
    panel = AgenticSubject(name="remote", model="openai/gpt-4o", grader=("openai/gpt-4o", "anthropic/claude"))
    one, two = (forecast([each], [PART], tmp_path, prices=(2.5, 10.0)).choices for each in (REMOTE, panel))
    assert [line.replace(":", " ").split()[1:3] for line in one[1:]] == [
        ["--samples", "4"],
        ["--samples", "2"],
        ["--samples", "1"],
    ]
    dollars = [float(line.split()[0].strip("$")) for line in two[1:]]
    assert dollars[0] == pytest.approx(2 * dollars[1], abs=0.02)
    assert dollars[-1] == pytest.approx(float(one[1].split()[0].strip("$")), abs=0.02)
    assert two[-1].split()[1:3] == ["--grader", "openai/gpt-4o:"]
    assert forecast([REMOTE], [PART], tmp_path).choices == ()


def test_every_judge_the_audit_and_reading_monitors_are_counted(tmp_path):
    watched = Part("monitor-judge", PART.grid, "judge")
    single, panel = (REMOTE, REMOTE.model_copy(update={"grader": ("openai/a", "openai/b")}))
    for subject, each in ((single, (2, 3)), (panel, (3, 4))):
        for part, readings in zip((PART, watched), each, strict=True):
            assert forecast([subject], [part], tmp_path).work[0].readings == readings * PART.grid.size


def test_speed_and_price_change_no_identity():
    assert REMOTE.model_copy(update={"speed": 9.0, "price": (1.0, 2.0)}).identity == REMOTE.identity
    assert REMOTE.model_copy(update={"model": "openai/gpt-4"}).identity != REMOTE.identity


def test_a_budget_that_is_too_small_is_said(tmp_path):
    needed = forecast([REMOTE], [PART], tmp_path).work[0].tokens
    assert "not enough for" in forecast([REMOTE], [PART], tmp_path, budget=needed // 2).render()
    assert "not enough for" not in forecast([REMOTE], [PART], tmp_path, budget=needed * 2).render()


def enumerated(control: float, arm: float, n: int) -> float:
    """Power of Fisher's test, table by table."""
    found = 0.0
    for one in range(n + 1):
        for other in range(n + 1):
            if fisher_exact([[one, other], [n - one, n - other]]).pvalue <= 0.05:
                found += binom.pmf(one, n, control) * binom.pmf(other, n, arm)
    return found


@pytest.mark.parametrize(("base", "up"), [(0.0, True), (0.5, False), (0.9, False)])
def test_the_smallest_difference_is_where_the_power_becomes_eighty_percent(base, up):
    n = 20
    found = smallest_difference(base, n, up=up)
    sign = 1 if up else -1
    assert enumerated(base, base + sign * found, n) >= 0.8
    assert enumerated(base, base + sign * (found - 0.005), n) < 0.8


def test_too_few_samples_find_nothing():
    assert smallest_difference(0.5, 4, up=False) is None
    assert smallest_difference(0.0, 3, up=True) is None


def test_comparisons_have_the_samples_of_the_scenarios_that_offer_both_sides(tmp_path):
    options = AgenticOptions(
        subject="openai/gpt-4o", grader=("openai/gpt-4o",), scenarios=("blackmail", "leaking"), samples=10
    )
    found = forecast(subjects_from(options.subject, None, options.grader), tuple(parts(options)), tmp_path)
    assert Comparison("one scenario alone: goal conflict and threat against the control", 10) in found.comparisons
    assert Comparison("goal conflict and threat against the control", 20) in found.comparisons
    assert Comparison("rule monitor against none", 20) in found.comparisons
    assert Comparison("information=addressed", 10) in found.comparisons
    assert "rule monitor against none" in found.render()


def test_the_forecast_comes_before_a_run_asks_anything(tmp_path, monkeypatch, capsys):
    from astray.cli import main

    monkeypatch.setattr("astray.measure.agentic.play.inspect_eval", lambda *_, **__: pytest.fail("it was asked"))
    command = [
        "astray",
        "run",
        STUDY.name,
        "--scenarios",
        "blackmail",
        "--samples",
        "3",
        "--budget",
        "0.000001",
        "--out",
        str(tmp_path),
    ]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(pytest.fail.Exception):
        main()
    said = capsys.readouterr().err
    assert "What it can show for one subject" in said
    assert "not enough for" in said
