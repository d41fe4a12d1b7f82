"""Where the next gold judgements go in a study that runs until it is decided: to further seeds, or to the runs there are.

A look has at most as many gold judgements an arm as were declared for it, however allotted. The choice rests on variances
and costs, never on which side of a border an estimate lies. Boundaries are those of the declared looks, and nothing proves
that they hold for every allotment; `benchmarks/gold_looks.py` simulates how often claims are then decided wrongly.

Left to others: the draw (`gold`), what goes on (`looks`).
"""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, variance

from astray.engine.findings import Findings
from astray.engine.gold import GoldConfig, sets_of
from astray.engine.setting import Setting
from astray.engine.steps import AnswerConfig
from astray.engine.study import StudyPlan
from astray.engine.summary import ClaimRow, ClaimStatus
from astray.errors import EmptyDataError
from astray.measure.interface import Evaluation
from astray.stats.intervals import Effective
from astray.stats.prediction_powered import GoldCheck

ENOUGH = 0.5
"""Least gain of further judgements, as a share of that of further seeds: looks are few, and cheap steps that are too
small would leave claims undecided at the last one."""


@dataclass(frozen=True)
class Parts:
    """Parts of the variance of a rate: what training runs differ by, what answers do, and what a small gold sample adds.

    Questions are the same at every look, so they are no part of what further seeds or judgements take away.
    """

    runs: float
    answers: float
    judge: float

    def __add__(self, other: "Parts") -> "Parts":
        return Parts(self.runs + other.runs, self.answers + other.answers, self.judge + other.judge)

    @property
    def shares(self) -> "Parts":
        """Return the parts as shares of their sum."""
        total = self.runs + self.answers + self.judge
        return Parts(self.runs / total, self.answers / total, self.judge / total)


def parts_of(gold: GoldCheck, runs: Iterable[Effective]) -> Parts:
    """Return the parts of a rate's variance, from what a gold judge found and the effective counts of each run."""
    rates = [k / n for k, n in runs if n]
    # Laplace's rule: an estimate of 0 or 1 would leave no variance to divide into parts.
    smooth = (gold.estimate * gold.effective + 1) / (gold.effective + 2)
    within = smooth * (1 - smooth) / gold.effective
    everything = gold.answers * gold.judged / gold.sample
    answers = min(within, smooth * (1 - smooth) / everything)
    over_runs = variance(rates) / len(rates) if len(rates) > 1 else 0.0
    return Parts(max(0.0, over_runs - within), answers, within - answers)


def undecided_parts(findings: Findings, claims: Sequence[ClaimRow], going: Collection[str]) -> Parts | None:
    """Return the mean shares of the variance of what is undecided; None where no undecided claim is of a rate.

    Args:
        findings: of this look.
        claims: of this look.
        going: arms that go on, of which alone there will be more.
    """
    shares = []
    for claim in claims:
        if claim.status is ClaimStatus.UNDECIDED and claim.evaluation:
            arms = [arm for arm in claim.arms or going if arm in going]
            parts = [part for arm in arms for part in _parts_in(findings, arm, claim)]
            if parts:
                shares.append(sum(parts, Parts(0.0, 0.0, 0.0)).shares)
    if not shares:
        return None
    return Parts(*(mean(getattr(share, name) for share in shares) for name in ("runs", "answers", "judge")))


def _parts_in(findings: Findings, arm: str, claim: ClaimRow) -> Iterator[Parts]:
    """Yield the parts of an arm's rate in the questions of a claim, in the plain format where there is one."""
    for format in ("plain", "all"):
        try:
            rate = findings.rate(arm, claim.questions or None, evaluation=claim.evaluation, format=format)
        except EmptyDataError:
            continue
        if rate.gold:
            yield parts_of(rate.gold, rate.by_run.values())
        return


@dataclass(frozen=True)
class Costs:
    """Costs of going on, and the limits of what was given.

    Attributes:
        judgement: US dollars of one gold judgement; 0 where prices are not known.
        run_hours: hours of one further training run; None where not known.
        judgement_hours: hours of one gold judgement.
        max_price, max_hours: US dollars in all, and hours of this command; None for no limit.
        passed: hours that have passed.
    """

    judgement: float
    run_hours: float | None
    judgement_hours: float
    max_price: float | None = None
    max_hours: float | None = None
    passed: float = 0.0

    def share(self, judgements: int, runs: int) -> float:
        """Return the share of what was given that so many judgements and runs take, in money and in time together."""
        money = judgements * self.judgement / self.max_price if self.max_price else 0.0
        return money + (self.hours(judgements, runs) / self.max_hours if self.max_hours else 0.0)

    def hours(self, judgements: int, runs: int) -> float:
        """Return the hours that so many judgements and runs take."""
        return judgements * self.judgement_hours + runs * (self.run_hours or 0.0)

    def fit(self, judgements: int, runs: int) -> bool:
        """Return whether so many judgements and runs are done in time, as far as that is known."""
        if self.max_hours is None or self.run_hours is None:
            return True
        return self.passed + self.hours(judgements, runs) <= self.max_hours

    def told(self, judgements: int, runs: int) -> str:
        """Return what so many judgements and runs take, as far as it is known, in words with a space before."""
        price = f"about ${judgements * self.judgement:,.2f}" if self.judgement else ""
        if self.run_hours is None:
            return f" ({price + ', ' if price else ''}hours not known)"
        return f" ({price + ' and ' if price else 'about '}{self.hours(judgements, runs):.1f} hours)"


@dataclass(frozen=True)
class Sample:
    """State of the gold sample of the arms that go on.

    Attributes:
        runs: training runs an arm.
        read: answers of each run to each set of questions that the gold judge read.
        answers: that each run has to each set of questions.
        most: gold judgements an arm and set that are declared for the next look, and for the last one.
        sets: sets of questions that the gold judge reads, of all arms that go on together.
        arms: that go on.
    """

    runs: int
    read: int
    answers: int
    most: tuple[int, int]
    sets: int
    arms: int

    @property
    def further_runs(self) -> int:
        """Return the training runs an arm at the next look, if what is read of each stays; as many where looks lie close."""
        return max(self.runs, self.most[0] // self.read)

    @property
    def further_read(self) -> int:
        """Return the answers of each run that are read at the next look, if no run is added."""
        return max(self.read, min(self.answers, self.most[0] // self.runs))

    def of_runs(self, runs: int) -> tuple[int, int]:
        """Return the gold judgements and training runs of all arms by which there are so many runs of each."""
        further = max(0, runs - self.runs)
        return further * self.read * self.sets, further * self.arms


@dataclass(frozen=True)
class Allotted:
    """Size of the next look: training runs an arm, answers of each that the gold judge reads, and the reason in words."""

    runs: int
    read: int
    told: str


def allotted(sample: Sample, parts: Parts, costs: Costs, level: float) -> Allotted:
    """Choose between further seeds and further gold judgements in the runs there are.

    Seeds go first while all that were declared are done in time, since with more of them more is decided. Otherwise it is
    what takes away more of the squared width of the undecided claims' intervals for its share of what was given.

    Args:
        sample: as it is.
        parts: shares of the variance of what is undecided.
        costs: of going on.
        level: of the intervals of the next look.
    """
    runs, read = sample.further_runs, sample.further_read
    by_runs, by_read = sample.of_runs(runs), ((read - sample.read) * sample.runs * sample.sets, 0)
    # Of a finite number of answers: where all are read, the gold sample adds nothing.
    beyond = 1 / sample.read - 1 / sample.answers
    judge_share_left = (1 / read - 1 / sample.answers) / beyond if beyond > 0 else 1.0
    kept_by_runs = 1.0 if runs == sample.runs else _squared_width(runs, level) / _squared_width(sample.runs, level)
    taken_by_runs, taken_by_read = 1 - kept_by_runs, parts.judge * (1 - judge_share_left)
    by_seeds = f"would make the intervals {math.sqrt(kept_by_runs):.2f} times as wide"
    if not kept_by_runs:
        by_seeds = "would show how runs differ, which one run does not"
    reason = (
        f"Of the variance of what is undecided, {parts.runs:.0%} lies in training runs, {parts.answers:.0%} in answers and "
        f"{parts.judge:.0%} in how few of them the gold grader read. {by_runs[0]:,} further gold judgements in further seeds "
        f"{by_seeds}{costs.told(*by_runs)}, {by_read[0]:,} in the runs there are would make the intervals "
        f"{math.sqrt(1 - taken_by_read):.2f} times as wide{costs.told(*by_read)}."
    )
    deeper = False
    if runs == sample.runs:
        deeper, why = True, "a further seed would take more of them than were declared for the next look"
    elif read == sample.read:
        why = "nothing is left to read in the runs there are"
    elif costs.max_hours is not None and costs.run_hours is None:
        why = "how long a run takes is not known"
    elif costs.fit(*sample.of_runs(sample.most[1] // sample.read)):
        why = "every seed that was declared is within the limits"
    elif not costs.fit(*by_runs):
        deeper, why = True, "the seeds would not be done in time"
    else:
        cheaper = taken_by_read * costs.share(*by_runs) > taken_by_runs * costs.share(*by_read)
        deeper = cheaper and taken_by_read >= ENOUGH * taken_by_runs
        why = "that takes away more for its share of what was given, and not all seeds would be done in time"
        if cheaper and not deeper:
            why = "the others are cheaper and take away too little for the looks that are left"
    reason += f" They go to {'the runs there are' if deeper else 'further seeds'}: {why}."
    return Allotted(sample.runs, read, reason) if deeper else Allotted(runs, sample.read, reason)


def _squared_width(runs: int, level: float) -> float:
    """Return the squared half-width of a t interval over runs, in units of their variance; infinite for one run.

    With few runs a further one narrows it by more than 1/n, since their variance becomes better known."""
    from scipy.special import stdtrit  # loads slowly

    return float(stdtrit(runs - 1, (1 - level) / 2)) ** 2 / runs if runs > 1 else math.inf


def sample_of(plan: StudyPlan, going: Collection[str], runs: int, read: int, most: tuple[int, int]) -> Sample | None:
    """Return the gold sample of the arms that go on; None where the gold judge reads no set of questions of theirs.

    Args:
        plan: of this look.
        going: arms that go on.
        runs: training runs of each of them.
        read: answers of each run that are read.
        most: gold judgements an arm and set at the next look and at the last.
    """
    asked = {run.arm.name: sets_of(_asked(run.answers.config)) for run in plan.runs if run.arm.name in going}
    answers = [questions.answers for sets in asked.values() for questions in sets]
    return Sample(runs, read, min(answers), most, len(answers), len(asked)) if answers else None


def costs_of(
    plan: StudyPlan,
    setting: Setting,
    prices: tuple[float, float],
    hours: tuple[float | None, float],
    limits: tuple[float | None, float | None],
) -> Costs:
    """Return what it costs to go on.

    Args:
        plan: of this look.
        setting: with a gold judge.
        prices: of a million tokens in and out, in US dollars; zeros where not known.
        hours: of a training run with all that is asked of it, as measured, None where not known; and those that passed.
        limits: US dollars and hours that are given in all.
    """
    # Imported here: forecasts import the engine.
    from astray.engine.forecast.forecast import GRADER_CALLS_A_SECOND
    from astray.engine.forecast.prices import price_of

    assert setting.gold is not None
    judge = setting.gold.judge
    read = sum(
        min(run.verdicts.config.answers, question_set.answers)
        for run in plan.runs
        if isinstance(run.verdicts.config, GoldConfig)
        for question_set in sets_of(_asked(run.answers.config))
    )
    dollars = price_of(plan, setting, prices) / read if any(prices) and read else 0.0
    calls = 1 if judge.judging == "one-call" else 2
    # A batch takes as long for one answer as for all, so a run's hours cannot be told from those of its judgements.
    run_hours = None if judge.batch else hours[0]
    return Costs(dollars, run_hours, calls / GRADER_CALLS_A_SECOND / 3600, *limits, passed=hours[1])


def _asked(config: object) -> Sequence[Evaluation]:
    assert isinstance(config, AnswerConfig)
    return config.evaluations
