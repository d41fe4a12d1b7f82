"""Sensitivity of a study's design: the smallest difference that it detects, and how low a control it can prove.

Studies with this number of training runs, questions and samples are simulated, and the claims of the study decide about
each (`engine.claims`), so the power is that of the verdict and not of a test beside it. Verdicts hold for
all claims of a study together (Holm), so beside the power of a claim alone stands that among all of them, which it has
whatever the others show. How rates vary between runs and questions is not known beforehand; the assumed values are the
constants below and are shown with the result.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import polars as pl

from astray.answers import ANSWER_SCHEMA
from astray.engine.family import FAMILY_LEVEL
from astray.engine.findings import ELSEWHERE, HELD_OUT, Findings, Needs
from astray.engine.setting import Setting
from astray.engine.study import Study, StudyPlan
from astray.engine.summary import ClaimStatus
from astray.measure.evaluation import TextEvaluation
from astray.stats.intervals import over_runs, run_limits
from astray.stats.power import Design, seed_power, simulated_counts

SEED_SD = 0.05
"""Assumed standard deviation of a rate between training runs."""
QUESTION_ICC = 0.2
"""Assumed intraclass correlation of answers to one question (published evaluations: 0.2 to 0.9)."""
POWER = 0.8
PUBLISHED_EFFECT = 0.20
"""Rate of misaligned answers after insecure code: 19.8%, against nearly none (Betley et al. 2025, arXiv 2502.17424,
recomputed)."""
CEILING = 0.02
"""A control holds when its interval lies below this rate."""
SMALLEST, LARGEST = 0.01, 0.95
"""Range of the differences that are searched."""
TOLERANCE = 0.005
SIMULATIONS, TRIED = 4000, 400
"""Studies simulated for the power that is told, known to 0.8 points, and at each difference that is tried."""
CONTROLS_TRIED = 1000
"""The same at each rate of a control."""


@dataclass(frozen=True)
class Sensitivity:
    """Sensitivity of one kind of claim, with the same seeds and questions for every arm.

    Attributes:
        what: the answers: evaluation, group and format.
        runs: training runs of each arm.
        questions: questions in that group and format.
        samples: answers to each.
        smallest_difference: true difference to a control without misaligned answers with which the claim of any
            difference is held with 80% probability; None where even 95 points are not. A claim of at least 10 points
            asks for more.
        power: probability that it is held at the published 20 points; None with a single run, which tells nothing about
            further ones.
        bound_at_zero: upper limit of the interval when no answer of any run is misaligned; None with a single run.
        largest_control: true mean rate of a control, over runs and questions like these, that is still shown to lie at
            or below 2% with 80% probability; None where no control can be.
        in_family: the same among all claims of the study, whatever the others show; None for a claim that is alone.
    """

    what: str
    runs: int
    questions: int
    samples: int
    smallest_difference: float | None
    power: float | None
    bound_at_zero: float | None
    largest_control: float | None
    in_family: "Sensitivity | None" = None


def sensitivities(setting: Setting, runs: int, claims: int = 1) -> tuple[Sensitivity, ...]:
    """Return what a study in this setting can show, for each kind of answers that claims are about.

    Kinds of equal design share an entry.
    """
    kinds: dict[tuple[int, int], list[str]] = defaultdict(list)
    for what, questions, samples in _kinds(setting):
        kinds[questions, samples].append(what)
    designs = {
        Design(runs, questions, samples, SEED_SD, QUESTION_ICC): "; ".join(names)
        for (questions, samples), names in kinds.items()
    }
    alone = [_sensitivity(what, design, 0.95) for design, what in designs.items()]
    if claims < 2 or runs < 2:
        return tuple(alone)
    # The first step of Holm's correction: a claim that passes it is decided whatever the others show.
    level = 1 - FAMILY_LEVEL / claims
    return tuple(
        replace(one, in_family=_sensitivity(one.what, design, level))
        for one, design in zip(alone, designs, strict=True)
    )


def tested_claims(study: Study, setting: Setting, plan: StudyPlan) -> int:
    """Return how many claims of a planned study will be tested: those whose arms and analyses are not left out."""
    made = {arm.name for analysis in plan.analyses for arm in analysis.arms}
    # Rates without an answer: such claims are not estimable, and what was left out is still not run.
    planned = dict.fromkeys({run.arm.name for run in plan.runs} | made, Needs())
    table = pl.DataFrame(schema=ANSWER_SCHEMA | {"groups": pl.List(pl.String)})
    findings = Findings(table, planned | dict(plan.left_out), (), plan.not_analysed)
    return sum(claim.status is not ClaimStatus.NOT_RUN for claim in study.claims(findings, setting))


def _kinds(setting: Setting) -> Iterator[tuple[str, int, int]]:
    """Yield each group of answers with its number of questions and samples."""
    for evaluation in setting.evaluations if setting.asks_freely else ():
        if not isinstance(evaluation, TextEvaluation):
            continue
        askings = evaluation.askings()
        items = list({asking.item.id: asking.item for asking in askings}.values())
        samples = len(askings) // len(items)
        away = [item for item in items if item.category != setting.homes[0]]
        for format in dict.fromkeys(item.format for item in away):
            asked = [item for item in away if item.format == format]
            yield f"{evaluation.name}, {ELSEWHERE}, {format}", len(asked), samples
            held_out = [item for item in asked if item.category in setting.held_out]
            if held_out and evaluation == setting.main:
                yield f"{evaluation.name}, {HELD_OUT}, {format}", len(held_out), samples


def claimed_kinds(setting: Setting) -> tuple[int, int]:
    """Return the number of questions, and of answers to each, of the kind of answers that most claims are about."""
    _, questions, samples = next(_kinds(setting))
    return questions, samples


def _sensitivity(what: str, design: Design, level: float) -> Sensitivity:
    several = design.runs > 1
    answers = design.questions * design.samples
    return Sensitivity(
        what=what,
        runs=design.runs,
        questions=design.questions,
        samples=design.samples,
        smallest_difference=smallest_difference(design, level) if several else None,
        power=_power(PUBLISHED_EFFECT, design, SIMULATIONS, level) if several else None,
        bound_at_zero=over_runs([(0, answers)] * design.runs, level=level).high if several else None,
        largest_control=largest_control(design, level) if several else None,
    )


@cache
def smallest_difference(design: Design, level: float = 0.95) -> float | None:
    """Return the smallest rate that is told from 0 with 80% power, by bisection; None where 95% is not."""
    if _power(LARGEST, design, TRIED, level) < POWER:
        return None
    low, high = SMALLEST, LARGEST
    if _power(low, design, TRIED, level) >= POWER:
        return low
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        low, high = (low, middle) if _power(middle, design, TRIED, level) >= POWER else (middle, high)
    return high


@cache
def largest_control(design: Design, level: float = 0.95) -> float | None:
    """Return the largest true rate of a control that is shown to lie at or below 2% with 80% probability.

    Runs and questions vary as the design says, scaled to the small rate.

    Args:
        design: at least two runs.
        level: of the interval that shows it.

    Returns:
        The rate; None where not even a control without a misaligned answer is shown.
    """
    answers = design.questions * design.samples
    if over_runs([(0, answers)] * design.runs, level=level).high > CEILING:
        return None
    # The probability falls with the rate, so the largest rate that is shown is found by halving.
    low, high = 0.0, CEILING
    while high - low > max(low / 100, 1e-6):
        middle = (low + high) / 2
        _, counts = simulated_counts((PUBLISHED_EFFECT, middle), design, CONTROLS_TRIED, 0)
        alike = np.sort(counts, axis=1)  # limits know no order of runs, and equal studies are looked at once
        shown = np.mean(run_limits(alike, np.full_like(alike, answers))(level)[1] <= CEILING)
        low, high = (middle, high) if shown >= POWER else (low, middle)
    return low


@cache
def _power(difference: float, design: Design, simulations: int, level: float = 0.95) -> float:
    return seed_power(0.0, difference, design, simulations=simulations, level=level)
