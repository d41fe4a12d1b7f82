"""Run a study from look to look until its claims are decided, the last look is made, or what was given is spent.

Each look draws the study's own intervals at the level that its boundary leaves it. Arms that no undecided claim needs get
no further seeds. After each look the results folder holds the study as it stands there.

Left to others: boundaries (`stats.sequential`), verdicts (`family`), what was declared and seen before (`looks`), whether
gold judgements go to further seeds (`allotment`).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from astray.artifacts import Store
from astray.artifacts.plan import Plan
from astray.engine.allotment import Allotted, allotted, costs_of, sample_of, undecided_parts
from astray.engine.claims import at_level
from astray.engine.family import FAMILY_LEVEL, at_look
from astray.engine.findings import Findings
from astray.engine.looks import Seen, book_of_study, declared_by, going_on
from astray.engine.options import TrainedOptions
from astray.engine.plan import plan_study
from astray.engine.results import summary_of
from astray.engine.setting import Setting
from astray.engine.study import Shown, Study, StudyPlan
from astray.engine.summary import ClaimRow, ClaimStatus, LooksRow, Summary
from astray.errors import BudgetSpentError, ConfigurationError

Results = Callable[[StudyPlan, Callable[[], None]], tuple[Any, Shown]]
"""Makes the steps of a plan and reads them; calls what it is given with every event."""


@dataclass(frozen=True)
class _LookResults:
    """A look that was made, with all that its results are written from."""

    findings: Any
    shown: Shown
    claims: tuple[ClaimRow, ...]


@dataclass(frozen=True)
class UntilDecided:
    """A study that runs until it is decided; arguments as for `run_study`."""

    study: Study
    setting: Setting
    options: TrainedOptions
    store: Store
    prices: tuple[float, float] = (0.0, 0.0)
    tell: Callable[[str], None] = lambda _: None

    def run(
        self, results: Results, write: Callable[[Shown, Summary], None], spent: Callable[[], bool] = lambda: False
    ) -> None:
        """Make look after look, and write the results of each.

        Args:
            results: makes a plan and reads its results.
            write: writes them.
            spent: whether the budget of tokens is spent, so that a look lacks verdicts.

        Raises:
            ConfigurationError: looks at these runs were declared otherwise before, or `--max-price` lacks prices.
            BudgetSpentError: the money, time or tokens ended before the first look.
        """
        self._check_price()
        book, declared = book_of_study(self.store, self.study, self.setting), declared_by(self.options)
        seen, clock = list(book.begin(declared)), _Clock(self.options.max_hours)
        last: _LookResults | None = None
        # The last look is made again from what is kept: its results may be gone, and it says which arms go on.
        for look in range(max(0, len(seen) - 1), len(declared.units)):
            plan = self.plan(look, seen)
            (new, from_scratch), since = _to_make(plan, self.store), clock.passed
            why = "" if look < len(seen) else self._too_dear(plan) or clock.too_long(new)
            try:
                look_results = None if why else results(plan, clock.check)
            except _TimeOverError:
                look_results, why = None, clock.over
            # Verdicts are missing where the budget ended within the look, and a look decides with all of them or not at all.
            if look_results is not None and spent():
                look_results, why = None, "since the budget of --budget is spent"
            if look_results is None:
                self._stopped(look, why, last, seen, write)
                return
            if from_scratch:
                clock.made(new, since)
            last = _LookResults(*look_results, claims=self._decided(look, look_results[0], plan, seen))
            if look == len(seen):
                record = self._seen(look, plan, last, seen, clock)
                book.add(declared, record)
                seen.append(record)
                self.tell(record.told)
            self._write(last, self._ended(look, last.claims), seen, write)
            if not seen[look].going:
                return

    def plan(self, look: int, seen: Sequence[Seen]) -> StudyPlan:
        """Return the steps up to a look: arms that stopped before have the seeds that they had."""
        first, before = declared_by(self.options).first, seen[look - 1] if look else None
        seeds = range(first, first + self._runs(look, seen))
        stopped = {arm: runs for arm, runs in before.runs.items() if arm not in before.going} if before else {}
        _, arms, analyses = self.options.runs
        setting = self.setting
        if setting.gold and before:
            setting = replace(setting, gold=replace(setting.gold, enlarged=before.gold))
        return plan_study(self.study, setting, seeds, arms, analyses, stopped)

    def plan_next(self) -> StudyPlan:
        """Return the steps up to the next look, of the last one where none is left; nothing is checked or written."""
        declared = declared_by(self.options)
        seen = book_of_study(self.store, self.study, self.setting).seen(declared)
        return self.plan(len(seen) - bool(seen and not seen[-1].going), seen)

    def _decided(self, look: int, findings: Any, plan: StudyPlan, seen: Sequence[Seen]) -> tuple[ClaimRow, ...]:
        looks = declared_by(self.options).looks
        before = {claim.id: claim for earlier in seen[:look] for claim in earlier.decided}
        with at_level(1 - looks.nominal(look, FAMILY_LEVEL)):
            claims = tuple(self.study.claims(findings, self.setting))
        return at_look(claims, before, looks, look, _fixed(plan), self._runs(look, seen))

    def _runs(self, look: int, seen: Sequence[Seen]) -> int:
        """Return the training runs an arm at a look."""
        return (seen[look - 1].further if look else None) or declared_by(self.options).units[look]

    def _seen(self, look: int, plan: StudyPlan, results: _LookResults, seen: Sequence[Seen], clock: "_Clock") -> Seen:
        """Return the record of a look: what is decided, which arms go on, and the size of the next look."""
        units, now, claims = declared_by(self.options).units, self._runs(look, seen), results.claims
        runs: dict[str, int] = {}
        for run in plan.runs:
            if run.training is not None:
                runs[run.arm.name] = runs.get(run.arm.name, 0) + 1
        full = [arm for arm in runs if not look or arm in seen[look - 1].going]
        going = going_on(claims, full, _fixed(plan), together=bool(plan.analyses)) if look + 1 < len(units) else ()
        decided = tuple(claim for claim in claims if claim.status is ClaimStatus.DECIDED)
        tested = sum(claim.tested for claim in claims)
        text = f"Look {look + 1} of {len(units)}, with {now} training runs an arm: {len(decided)} of {tested} claims decided."
        if not going:
            return Seen(runs=runs, decided=decided, going=going, told=text)
        gold = dict(seen[look - 1].gold) if look else {}
        choice = self._allotted(look, plan, results, going, gold, now, clock)
        further = (choice.runs if choice else units[look + 1]) - now
        seeds = "seed goes" if further == 1 else f"{further} seeds go"
        text += (
            f" The next {seeds} to {_listed(going)}, for what is undecided" if further else f" {_listed(going)} go on"
        )
        stopped = [arm for arm in runs if arm not in going]
        text += f"; {_listed(stopped)} stopped." if stopped else "."
        if choice is None:
            return Seen(runs=runs, decided=decided, going=going, told=text)
        for arm in going:
            before = gold.get(arm, (self._gold_of_run,))
            if choice.read > before[-1]:
                gold[arm] = (*before, choice.read)
        text = f"{text} {choice.told}".strip()
        return Seen(runs=runs, decided=decided, going=going, told=text, further=now + further, gold=gold)

    @property
    def _gold_of_run(self) -> int:
        """Return how many answers of a run to a set of questions the gold judge reads, if its sample is not enlarged."""
        gold = self.setting.gold
        assert gold is not None
        assert gold.most is not None
        return math.ceil(gold.answers / gold.most)

    def _allotted(
        self,
        look: int,
        plan: StudyPlan,
        results: _LookResults,
        going: Sequence[str],
        gold: Mapping[str, tuple[int, ...]],
        now: int,
        clock: "_Clock",
    ) -> Allotted | None:
        """Choose where the gold judgements of the next look go; None where there are none or only seeds can be added."""
        # Analyses are made of all runs that were declared: their seeds do not wait.
        if self.setting.gold is None or plan.analyses or not isinstance(results.findings, Findings):
            return None
        read = gold.get(going[0], (self._gold_of_run,))[-1]
        units = declared_by(self.options).units
        most = self._gold_of_run * units[look + 1], self._gold_of_run * units[-1]
        sample = sample_of(plan, going, now, read, most)
        if sample is None:
            return None
        parts = undecided_parts(results.findings, results.claims, going)
        if parts is None:  # claims that are not of rates: nothing tells what the gold sample adds to them
            return Allotted(sample.further_runs, read, "")
        limits = self.options.max_price, self.options.max_hours
        hours = clock.hours_a_run, clock.passed
        level = 1 - declared_by(self.options).looks.nominal(look + 1, FAMILY_LEVEL)
        return allotted(sample, parts, costs_of(plan, self.setting, self.prices, hours, limits), level)

    def _ended(self, look: int, claims: Sequence[ClaimRow]) -> str:
        """Say at which look the study stands, and how its numbers are to be read."""
        looks = declared_by(self.options).looks
        undecided = sum(claim.status is ClaimStatus.UNDECIDED for claim in claims)
        return (
            f"Stopped at look {look + 1} of {len(looks.units)}, {undecided} claims undecided. Looks at "
            f"{', '.join(map(str, looks.units))} training runs an arm were declared beforehand, and wrong verdicts are "
            f"held at {FAMILY_LEVEL:.0%} over all of them ({looks.spending} spending): an interval at look {look + 1} "
            f"has a level of {1 - looks.nominal(look, FAMILY_LEVEL):.2%}."
        )

    def _stopped(
        self,
        look: int,
        why: str,
        last: _LookResults | None,
        seen: Sequence[Seen],
        write: Callable[[Shown, Summary], None],
    ) -> None:
        """Write the results of the look before with what is undecided because of the budget.

        Raises:
            BudgetSpentError: there was no look before.
        """
        if last is None:
            raise BudgetSpentError(
                f"It stopped before the first look, {why}. What is done is kept, and the same command goes on; give more, "
                "or declare an earlier look (--looks)."
            )
        note = f"Undecided: budget. It stopped before look {look + 1}, {why}."
        claims = tuple(
            claim.model_copy(update={"note": f"{note} {claim.note}".strip()})
            if claim.status is ClaimStatus.UNDECIDED
            else claim
            for claim in last.claims
        )
        self.tell(f"{note} What is done is kept; the same command with more goes on.")
        ended = f"{self._ended(look - 1, claims)} Look {look + 1} was not made, {why}."
        self._write(_LookResults(last.findings, last.shown, claims), ended, seen, write)

    def _write(
        self, results: _LookResults, ended: str, seen: Sequence[Seen], write: Callable[[Shown, Summary], None]
    ) -> None:
        declared = declared_by(self.options)
        looks = LooksRow(
            units=declared.units,
            spending=declared.spending,
            done=len(seen),
            ended=ended,
            told=tuple(look.told for look in seen),
        )
        write(
            results.shown,
            summary_of(self.study, self.setting, results.findings, results.shown, results.claims, self.options, looks),
        )

    def _check_price(self) -> None:
        if self.options.max_price is None:
            return
        if not self.setting.judge.calls_grader and not self.setting.gold:
            raise ConfigurationError(
                f"--max-price {self.options.max_price:g} is of no use here: no grader that costs anything is asked. Leave "
                "it out; --max-hours ends it by time."
            )
        if not any(self.prices):
            raise ConfigurationError(
                f"--max-price {self.options.max_price:g} needs the grader's prices: add --price-in and --price-out, in US "
                "dollars a million tokens."
            )

    def _too_dear(self, plan: StudyPlan) -> str:
        """Say why a look costs more than was given; "" where it does not."""
        if self.options.max_price is None:
            return ""
        # Imported here: forecasts import the engine.
        from astray.engine.forecast.prices import price_of

        price = price_of(plan, self.setting, self.prices)
        dear = price > self.options.max_price
        return (
            f"since with it all verdicts cost about ${price:,.2f} (--max-price {self.options.max_price:g})"
            if dear
            else ""
        )


class _TimeOverError(Exception):
    """Time limit (`--max-hours`) reached within a look."""


class _Clock:
    """Time that a command has, and how long a training run with its answers took in looks whose runs it made itself."""

    def __init__(self, hours: float | None):
        self.began, self.hours = time.monotonic(), hours
        self._runs, self._took = 0, 0.0
        self.over = f"since the time is over (--max-hours {hours:g})" if hours else ""

    @property
    def passed(self) -> float:
        """Return the hours that have passed."""
        return (time.monotonic() - self.began) / 3600

    def check(self) -> None:
        """Raise where the time is over."""
        if self.hours is not None and self.passed > self.hours:
            raise _TimeOverError

    @property
    def hours_a_run(self) -> float | None:
        """Return the hours that a training run took with all that was asked of it; None where none was made."""
        return self._took / self._runs if self._runs else None

    def made(self, runs: int, since: float) -> None:
        """Count runs that were made since so many hours had passed."""
        if runs:
            self._runs, self._took = self._runs + runs, self._took + self.passed - since

    def too_long(self, runs: int) -> str:
        """Say why so many further runs would not be done in time; "" where they would, or nothing is known."""
        if self.hours is None or self.hours_a_run is None:
            return ""
        needed = runs * self.hours_a_run
        late = self.passed + needed > self.hours
        return f"since it would take about {needed:.1f} more hours (--max-hours {self.hours:g})" if late else ""


def _to_make(plan: StudyPlan, store: Store) -> tuple[int, bool]:
    """Return how many runs of a plan are still to be trained, and whether all that is asked of them is to be made too.

    Where a killed command left part of a run, the time of what remains says nothing of how long a run takes.
    """
    done = Plan(plan.steps, store).done
    run_steps = [[step for step in run.steps if step is not run.data] for run in plan.runs if run.training]
    missing = [steps for steps in run_steps if any(step.key not in done for step in steps)]
    from_scratch = not any(step.key in done or store.begun(step.key) for steps in missing for step in steps)
    trainings = {run.training.key for run in plan.runs if run.training and run.training.key not in done}
    return len(trainings), from_scratch


def _fixed(plan: StudyPlan) -> frozenset[str]:
    """Return the arms that no further seed adds to."""
    return frozenset(run.arm.name for run in plan.runs if run.training is None)


def _listed(arms: Sequence[str]) -> str:
    """Return the names of arms in words; of many, the first few."""
    return ", ".join(arms) if len(arms) < 7 else f"{', '.join(arms[:5])} and {len(arms) - 5} others"
