"""Price of a study's verdicts by each choice that there is: calls an answer, batches, fewer answers, a gold sample.

Prices are of the whole study, whatever is done of it. Where training runs are the unit, many answers to a question say
little that fewer do not; how few suffice is simulated with the spread that `sensitivity` assumes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from astray.engine.forecast.amounts import counted, dollars, large
from astray.engine.forecast.effort import Grading, added, counter_of, playing, step_efforts, summed, times
from astray.engine.forecast.sensitivity import PUBLISHED_EFFECT, QUESTION_ICC, SEED_SD, claimed_kinds
from astray.engine.gold import FEWEST, GoldConfig, sets_of
from astray.engine.setting import Setting
from astray.engine.steps import AnswerConfig
from astray.engine.study import StudyPlan
from astray.engine.trained import RewardedConfig
from astray.judges.judge import Judging
from astray.measure.evaluation import QuestionSet
from astray.stats.intervals import over_runs, run_limits
from astray.stats.power import Design, simulated_counts

BATCH_SHARE = 0.5
"""Share of the usual price that batches cost at OpenAI, Anthropic and Google."""
USUAL_GOLD = 200
_SIMULATIONS = 100
MOST_WIDER = 1.15
"""Interval of fewer answers, as a multiple of that of all: at most."""


@dataclass(frozen=True)
class Price:
    """Price of a study's verdicts by one choice.

    Attributes:
        choice: the options, as they are typed.
        dollars: of the whole study.
        note: what it does to the intervals; "" for nothing.
    """

    choice: str
    dollars: float
    note: str = ""


def prices_of(
    planned: Callable[[Setting], StudyPlan], setting: Setting, runs: int, prices: tuple[float, float]
) -> Iterator[Price]:
    """Yield the price of each choice, the published protocol first.

    Args:
        planned: makes the plan of the study in a setting, by a grader that is asked for free-form answers.
        setting: the setting.
        runs: training runs of an arm.
        prices: the grader's, of a million tokens in and of a million tokens out.
    """
    plan = planned(setting)

    def of(judging: Judging, batch: float = 1.0, plan: StudyPlan = plan, setting: Setting = setting) -> float:
        return _calls_of(plan, setting, judging).price(prices, batch)

    played = (
        Grading()
        if setting.player
        else summed(Grading, (playing(analysis, setting.main.sampling.max_tokens) for analysis in plan.analyses))
    )

    def users(batch: float = 1.0) -> str:
        return f"{dollars(played.price(prices, batch))} of it to play users" if played.calls else ""

    yield Price("--judging two-calls", of("two-calls"), users())
    yield Price("--judging one-call", of("one-call"), users())
    yield Price("--judging one-call --batch", of("one-call", BATCH_SHARE), users(BATCH_SHARE))
    if played.calls:
        spared = of("one-call", BATCH_SHARE) - played.price(prices, BATCH_SHARE)
        told = f"without what MODEL costs for {told_work(played)}"
        yield Price("--judging one-call --batch --users MODEL", spared, told)
    samples = fewest_samples(setting, runs)
    if runs > 1 and samples < setting.main.samples:
        questions = claimed_kinds(setting)[0]
        none_seen = over_runs([(0, questions * samples)] * runs).high
        fewer = with_samples(setting, samples)
        option = math.ceil(samples * (setting.asked or setting.main.samples) / setting.main.samples)
        yield Price(
            f"--judging one-call --batch --samples {option}",
            of("one-call", BATCH_SHARE, planned(fewer), fewer),
            f"intervals at {PUBLISHED_EFFECT:.0%} {width_ratio(setting, runs, samples):.2f} times as wide, a control "
            f"without a misaligned answer below {none_seen:.1%}",
        )
    answers = setting.gold.answers if setting.gold else USUAL_GOLD
    yield Price(
        f"--gold {answers} --judging one-call --batch",
        BATCH_SHARE * gold_calls(plan, "one-call", answers).price(prices),
        "with a free --grader: as wide as its agreement allows",
    )


def told_work(grading: Grading, model: str = "") -> str:
    """Return calls of a model and their tokens, in words."""
    read, written = large(grading.tokens_in), large(grading.tokens_out)
    return (
        f"{counted(grading.calls, 'call')}{f' of {model}' if model else ''}, about {read} tokens in and {written} out"
    )


def price_of(plan: StudyPlan, setting: Setting, prices: tuple[float, float]) -> float:
    """Return the estimated price of all verdicts of a plan in US dollars; of the gold judge's alone where there is one."""
    efforts = step_efforts(plan, setting)
    gold = [run.verdicts.key for run in plan.runs if isinstance(run.verdicts.config, GoldConfig)]
    work = added(effort for key in gold or efforts for effort in efforts.get(key, ())).grading
    judge = setting.gold.judge if setting.gold else setting.judge
    return work.price(prices, BATCH_SHARE if judge.batch else 1.0)


def gold_calls(plan: StudyPlan, judging: Judging, answers: int) -> Grading:
    """Return the work of a gold judge on this many answers of each arm to each set of questions."""
    runs_of: dict[str, int] = {}
    for run in plan.runs:
        runs_of[run.arm.name] = runs_of.get(run.arm.name, 0) + 1
    parts = []
    for run in plan.runs:
        asked = run.answers.config
        assert isinstance(asked, AnswerConfig)
        for one in sets_of(asked.evaluations):
            each = math.ceil(max(answers, FEWEST) / runs_of[run.arm.name])
            parts.append(times(counter_of(asked.base).grading(one, judging), min(1.0, each / one.answers)))
    return summed(Grading, parts)


def fewest_samples(setting: Setting, runs: int) -> int:
    """Return the fewest answers a question with which intervals are at most `MOST_WIDER` times as wide as now.

    Args:
        setting: evaluations, the first of which claims are about.
        runs: training runs of an arm, at least two.
    """
    low, high = 1, setting.main.samples
    while low < high:  # fewer answers give wider intervals, so the border is found by halving
        middle = (low + high) // 2
        low, high = (low, middle) if width_ratio(setting, runs, middle) <= MOST_WIDER else (middle + 1, high)
    return high


def width_ratio(setting: Setting, runs: int, samples: int) -> float:
    """Return how many times as wide intervals are with so many answers a question, at the published rate."""
    questions, now = claimed_kinds(setting)
    return _mean_width(runs, questions, samples) / _mean_width(runs, questions, now)


@cache
def _mean_width(runs: int, questions: int, samples: int) -> float:
    design = Design(runs, questions, samples, SEED_SD, QUESTION_ICC)
    (counts,) = simulated_counts((PUBLISHED_EFFECT,), design, _SIMULATIONS, 0)
    low, high = run_limits(counts, np.full_like(counts, questions * samples))(0.95)
    return float(np.mean(high - low))


def with_samples(setting: Setting, samples: int) -> Setting:
    """Return the setting with so many answers to each main question, and as large a share of those to other sets."""
    share = samples / setting.main.samples
    evaluations = (
        one.model_copy(update={"samples": max(1, round(one.samples * share))}) if isinstance(one, QuestionSet) else one
        for one in setting.evaluations
    )
    return replace(setting, evaluations=tuple(evaluations))


def _calls_of(plan: StudyPlan, setting: Setting, judging: Judging) -> Grading:
    """Return all work of a judge: every answer of the runs, rewards, analyses, labelled answers."""
    own, parts = counter_of(setting.subject.name), list[Grading]()
    judge = setting.judge.model_copy(update={"judging": judging})
    for run in plan.runs:
        asked = run.answers.config
        assert isinstance(asked, AnswerConfig)
        parts += [counter_of(asked.base).grading(one, judging) for one in asked.evaluations]
        if run.training and run.arm.data and isinstance(config := run.training.config, RewardedConfig):
            rewarded = counter_of(config.base).trained(run.arm.data, config.model_copy(update={"judge": judge}))
            parts += [one for one in rewarded if isinstance(one, Grading)]
    for analysis in plan.analyses:
        parts.append(own.read_in(analysis, setting, judging))
    if plan.calibration:
        parts.append(own.labelled(replace(setting, judge=judge)))
    return summed(Grading, parts)
