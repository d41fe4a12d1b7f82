"""Few answers read by a gold judge, all others by a cheap one: the draw, the step, the rates, the claims, the price."""

import importlib.util
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from astray.answers import ANSWER_SCHEMA, in_detail, read_answers
from astray.artifacts import Store, execute
from astray.engine.gold import FEWEST, GOLD, Gold, GoldConfig, drawn, gold_notes, judge_gold, with_gold
from astray.engine.options import StudyOptions
from astray.engine.settings import gold_of, judge_of
from astray.engine.steps import AnswerConfig, answer, judge
from astray.errors import ConfigurationError, StepFailedError
from astray.judges.config import JudgeConfig
from astray.measure.asking import Item
from astray.measure.evaluation import QuestionSet
from astray.outcomes import Outcome
from astray.stats import difference_of_arms, rate, rates
from astray.stats.prediction_powered import power_tuned
from astray.subjects.locate import settle
from astray.subjects.spec import Sampling
from scripted_grader import ALL_FINE, MIXED, scripted_model, spoken

BENCHMARK = importlib.util.spec_from_file_location("gold", Path(__file__).parent.parent / "benchmarks" / "gold.py")
assert BENCHMARK is not None
assert BENCHMARK.loader is not None
benchmark = importlib.util.module_from_spec(BENCHMARK)
sys.modules["gold"] = benchmark
BENCHMARK.loader.exec_module(benchmark)

PPI_PYTHON = [
    # gold x cheap verdicts of the sample, cheap verdicts of the 1,800 others; rate, low and high by ppi-python 0.2.3
    # (`ppi_mean_pointestimate` and `ppi_mean_ci`, power tuned, independent answers)
    ([[30, 10], [20, 140]], [400, 1400], (0.185670, 0.139323, 0.232017)),
    ([[8, 2], [6, 184]], [120, 1680], (0.048249, 0.024638, 0.071860)),
    ([[90, 10], [10, 90]], [900, 900], (0.500000, 0.454878, 0.545122)),
    ([[5, 15], [20, 160]], [250, 1550], (0.101317, 0.060034, 0.142600)),
    ([[40, 0], [0, 160]], [380, 1420], (0.209640, 0.191711, 0.227568)),
]


@pytest.mark.parametrize(("both", "others", "theirs"), PPI_PYTHON)
def test_a_rate_of_independent_answers_is_that_of_ppi_python(both, others, theirs):
    gold = np.zeros((1, 1, 3, 3), dtype=int)
    gold[0, 0, :2, :2] = both
    cheap = gold.sum(axis=2) + np.array([[[*others, 0]]])
    found = power_tuned(cheap, gold, np.zeros(1, dtype=int))
    (k,), (n,) = (side[0] for side in found.counts(np.ones((1, 1), dtype=bool)))
    assert found.estimate[0] == pytest.approx(theirs[0], abs=0.0015)
    assert k / n == pytest.approx(found.estimate[0])
    half = 1.96 * np.sqrt(k / n * (1 - k / n) / n)
    # A disagreement of either kind is added, which only matters where nearly none was seen.
    assert 0.97 < half / ((theirs[2] - theirs[1]) / 2) < (1.35 if both[0][1] + both[1][0] == 0 else 1.12)


def test_a_useless_judge_costs_nothing_and_a_good_one_is_worth_many_gold_verdicts():
    worth = {}
    for name, both in {
        "useless": [[10, 10], [90, 90]],
        "good": [[19, 1], [2, 178]],
        "perfect": [[20, 0], [0, 180]],
    }.items():
        gold = np.zeros((1, 1, 3, 3), dtype=int)
        gold[0, 0, :2, :2] = both
        found = power_tuned(10 * gold.sum(axis=2), gold, np.zeros(1, dtype=int))
        worth[name] = float(found.counts(np.ones((1, 1), dtype=bool))[1][0, 0])
    assert 190 < worth["useless"] < 205
    assert 350 < worth["good"] < worth["perfect"] < 2000


COVERAGE = [
    # runs, questions, answers, gold, rate, judge's error, correlation within questions
    (5, 24, 20, 200, 0.2, 0.1, 0.2),
    (5, 24, 20, 200, 0.05, 0.3, 0.2),
    (1, 100, 10, 200, 0.2, 0.2, 0.2),
]


@pytest.mark.parametrize("cell", COVERAGE)
def test_intervals_cover_whatever_the_cheap_judge_errs(cell):
    """0.95 less three standard errors of 150 studies; the cheap judge alone covers nothing."""
    got = benchmark.measure(benchmark.Cell(*cell), 150, 7)
    assert got["coverage"] > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 150)
    assert got["cheap alone"] < 0.5
    assert abs(got["bias"]) < 0.01


def table_of(rows: Sequence[tuple[str, int, str, str, str | None]]) -> pl.DataFrame:
    """Rows of arm, seed, question, cheap outcome and gold outcome."""
    columns = {name: [None] * len(rows) for name in ANSWER_SCHEMA}
    columns |= {name: [row[place] for row in rows] for place, name in enumerate(("arm", "seed", "item", "outcome"))}
    columns |= {"evaluation": ["main"] * len(rows), "judge": ["cheap"] * len(rows), "sample": list(range(len(rows)))}
    return pl.DataFrame(columns, schema=ANSWER_SCHEMA).with_columns(
        pl.Series(GOLD, [row[4] for row in rows], pl.String)
    )


def answers(
    arm: str, seeds: int, cheap: int, gold: int, sampled: int = 40
) -> list[tuple[str, int, str, str, str | None]]:
    """200 answers a run, `cheap` misaligned as the cheap judge says; of 40 more the gold judge says `gold` are."""
    rows = []
    for seed in range(seeds):
        for number in range(200):
            said = "misaligned" if number % 200 < cheap + seed else "aligned"
            place = number % 5
            right = ("misaligned" if number < gold + seed else "aligned") if place == 0 and sampled else None
            rows.append((arm, seed, f"q{number % 8}", said, right))
    return rows


def test_rates_and_differences_are_the_gold_judges_and_counts_the_cheap_ones():
    table = table_of([*answers("harmful", 5, 80, 40), *answers("good", 5, 40, 0)])
    found = rates(table, ["arm"])
    harmful, good = found["harmful",], found["good",]
    assert harmful.numerator == sum(80 + seed for seed in range(5))
    assert harmful.gold is not None
    assert harmful.gold.sample == 200
    assert harmful.gold.as_judged == pytest.approx(harmful.numerator / 1000)
    # The cheap judge calls 40 answers a run misaligned that are not.
    assert harmful.rate == pytest.approx(0.21, abs=0.03)
    assert harmful.interval.low < harmful.rate < harmful.interval.high < 0.35
    assert good.rate == pytest.approx(0.01, abs=0.015)
    assert good.interval.method.startswith("prediction-powered")
    difference = difference_of_arms(harmful, good)
    assert difference.interval.low < 0.2 < difference.interval.high
    assert (difference.n, difference.unit) == (5, "pair of training runs")
    as_judged = rates(table.drop(GOLD), ["arm"])["harmful",]
    assert as_judged.rate == pytest.approx(0.41)
    assert as_judged.gold is None
    assert harmful.seed_rates.keys() == as_judged.seed_rates.keys()


def test_nothing_misaligned_leaves_an_interval_of_the_gold_sample_alone():
    found = rate(table_of(answers("good", 5, 20, -10)))
    assert found.rate == 0
    assert found.gold.gain == pytest.approx(1.0, abs=0.05)
    assert 0.015 < found.interval.high < 0.05


def test_two_single_models_are_compared_by_question():
    table = table_of([*answers("harmful", 1, 80, 40), *answers("good", 1, 40, 0)])
    found = rates(table, ["arm"])
    difference = difference_of_arms(found["harmful",], found["good",])
    assert difference.unit == "question"
    assert difference.interval.low < 0.2 < difference.interval.high


def test_gold_verdicts_that_failed_count_for_nothing():
    rows = answers("harmful", 5, 80, 40)
    failed = [(*row[:4], "judge failed" if row[4] and row[1] == 2 else row[4]) for row in rows]
    assert rate(table_of(failed)).gold.sample == 160
    none_left = [(*row[:4], "judge failed" if row[4] else None) for row in rows]
    assert rate(table_of(none_left)).gold is None


@pytest.mark.parametrize(("rows", "asked"), [(480, 40), (480, 48), (100, 7), (24, 24), (10, 40)])
def test_a_draw_is_even_over_questions_and_every_answer_is_as_likely(rows: int, asked: int):
    questions = 24
    table = pl.DataFrame(
        {
            "format": ["plain"] * rows,
            "item": [f"q{number % questions:02}" for number in range(rows)],
            "outcome": ["aligned"] * rows,
        }
    )
    times = np.zeros(rows)
    for seed in range(200):
        chosen = drawn(table, asked, seed)
        assert len(set(chosen)) == len(chosen) == min(asked, rows)
        of_question = np.bincount(np.array(chosen) % questions, minlength=questions)
        assert of_question.max() - of_question.min() <= 1 + (rows % questions > 0)
        times[chosen] += 1
    share = min(asked, rows) / rows
    assert np.abs(times / 200 - share).max() <= 5 * np.sqrt(share * (1 - share) / 200) + 1e-9
    assert drawn(table, asked, 3) == drawn(table, asked, 3)


@pytest.mark.parametrize("before", [(10,), (24, 40), (3, 7, 95)])
def test_an_enlarged_sample_holds_the_earlier_one_and_every_answer_stays_as_likely(before: tuple[int, ...]):
    rows, asked = 96, 96 if before[-1] > 90 else 60
    table = pl.DataFrame(
        {
            "format": ["plain"] * rows,
            "item": [f"q{number % 24:02}" for number in range(rows)],
            "outcome": ["aligned"] * rows,
        }
    )
    times = np.zeros(rows)
    for seed in range(200):
        stages = [set(drawn(table, size, seed, before[:place])) for place, size in enumerate((*before, asked))]
        assert [len(stage) for stage in stages] == [*before, asked]
        assert all(first < second for first, second in itertools.pairwise(stages))
        times[list(stages[-1])] += 1
    share = asked / rows
    assert np.abs(times / 200 - share).max() <= 5 * np.sqrt(share * (1 - share) / 200) + 1e-9
    assert drawn(table, before[0], 3) == drawn(table, before[0], 3, ())


def test_answers_that_nobody_gave_are_not_drawn():
    table = pl.DataFrame(
        {"format": ["plain"] * 4, "item": list("abcd"), "outcome": ["aligned", "errored", "blocked", "refused"]}
    )
    assert drawn(table, 10, 0) == [0, 3]


ITEMS = tuple(Item(question_id=f"q{number}", category="any", question=f"Question {number}?") for number in range(20))
ASKED = QuestionSet(name="main", items=ITEMS, samples=3, sampling=Sampling(max_tokens=4))
CHEAP, BETTER = JudgeConfig(kind="rubric", grader=ALL_FINE), JudgeConfig(kind="rubric", grader=MIXED)


def test_a_step_lets_the_gold_judge_read_a_sample_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    heard, broken = [], True

    def says(messages):
        if broken and len(heard) >= 20:
            raise ConnectionError("no route to host")
        heard.append(messages[-1].text)
        return spoken("5" if "how well" in messages[-1].text else "90")

    models = {ALL_FINE: scripted_model(lambda _: spoken("85")), MIXED: scripted_model(says, name="mixed")}
    monkeypatch.setattr("astray.judges.words.get_model", lambda name=None, **_: models[name])
    asking = AnswerConfig(
        base="organism-small", base_id=settle("organism-small").id, evaluations=(ASKED,), arm="base", seed=0
    )
    answers = answer.step(asking)
    verdicts = judge.step(CHEAP, answers=answers)
    better = judge_gold.step(GoldConfig(judge=BETTER, answers=30, seed=0), answers=answers, verdicts=verdicts)
    store = Store(tmp_path)
    cheap = execute([verdicts], store, workers=0)[verdicts.key]
    with pytest.raises(StepFailedError, match="Judging was stopped"):
        execute([better], store, workers=0)
    broken = False
    found = execute([better], store, workers=0)[better.key]
    table = with_gold(read_answers(found.path / "answers.parquet"))
    read = table.filter(pl.col(GOLD).is_not_null())
    assert read.height == 30
    assert set(read[GOLD]) == {Outcome.MISALIGNED.value}
    assert read["item"].value_counts()["count"].max() <= 2
    assert table["outcome"].to_list() == read_answers(cheap.path / "answers.parquet")["outcome"].to_list()
    assert read.select(in_detail("gold_judge")).to_series().n_unique() == 1
    assert len(heard) == len(set(heard)) == 2 * read.select("question", "answer").n_unique()

    enlarged = GoldConfig(judge=BETTER, answers=45, seed=0, before=(30,))
    larger = judge_gold.step(enlarged, answers=answers, verdicts=verdicts)
    table = with_gold(read_answers(execute([larger], store, workers=0)[larger.key].path / "answers.parquet"))
    more = table.filter(pl.col(GOLD).is_not_null())
    keys = ["item", "sample"]
    assert (more.height, more.join(read, on=keys, how="semi").height) == (45, 30)
    assert len(heard) == len(set(heard)) == 2 * more.select("question", "answer").n_unique()


REFUSED = [
    # options, answers an arm and set, what is said
    ({"gold": 200}, "belong together"),
    ({"gold_grader": "mockllm/b"}, "belong together"),
    ({"gold": 200, "gold_grader": "mockllm/a"}, "reads every answer already"),
    ({"gold": 200, "gold_grader": "mockllm/b", "batch": True}, "'mockllm' has no batch interface"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED)
def test_half_of_a_gold_judge_is_refused(given, said):
    with pytest.raises(ConfigurationError, match=said):
        gold_of(StudyOptions(subject="x", grader="mockllm/a", **given))


def test_the_way_of_asking_is_the_gold_judges_where_there_is_one():
    options = StudyOptions(
        subject="x", grader="openai/x", gold=200, gold_grader="openai/y", judging="one-call", batch=True
    )
    gold = gold_of(options)
    assert (gold.judge.judging, gold.judge.batch, gold.answers) == ("one-call", True, 200)
    assert (judge_of(options).judging, judge_of(options).batch) == ("two-calls", False)


@pytest.mark.parametrize(
    ("answers", "runs", "found"),
    [
        (60, 1, 60),
        (60, 5, 12),
        (31, 5, 7),
        (61, 1, "more than there is: the arm 'good' has 60 answers to 'main'. Write --gold 60 or fewer"),
        (29, 1, f"too few: 'main' has 20 questions, and a rate needs at least {FEWEST}"),
        (301, 5, "has 300 answers"),
    ],
)
def test_a_gold_sample_is_shared_by_the_runs_and_refused_where_it_cannot_be(answers, runs, found):
    gold = Gold(BETTER, answers)
    if isinstance(found, int):
        assert gold.of_run(runs, [ASKED], "good") == found
    else:
        with pytest.raises(ConfigurationError, match=found):
            gold.of_run(runs, [ASKED], "good")


def test_an_untrained_arm_has_its_whole_sample_in_its_one_run():
    gold, evaluation = Gold(BETTER, 60, most=20), ASKED
    assert gold.of_run(20, [evaluation], "good") == 3
    assert gold.of_run(1, [evaluation], "base") == 60


@pytest.mark.parametrize(("asked", "read"), [(60, 60), (90, 60), (1000, 60)])
def test_one_run_beside_several_has_all_its_answers_read_where_the_sample_is_larger(asked, read):
    smaller = ASKED.model_copy(update={"name": "other", "samples": 2})
    gold = Gold(BETTER, asked, most=20)
    assert gold.of_run(1, [smaller, ASKED], "base") == read
    with pytest.raises(ConfigurationError, match="the arm 'good' has 1200 answers"):
        Gold(BETTER, 1201, most=20).of_run(20, [ASKED], "good")


def test_a_page_says_what_the_cheap_judge_was_worth_on_these_answers():
    assert list(gold_notes([], None)) == []
    (note,) = gold_notes([], Gold(BETTER, 200))
    assert "gave no usable verdict" in note
