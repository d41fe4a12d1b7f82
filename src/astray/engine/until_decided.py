"""Run a study from look to look until its claims are decided, the last look is made, or what was given is spent.

Each look draws the study's own intervals at the level that its boundary leaves it. Arms that no undecided claim needs get
no further seeds. After each look the results folder holds the study as it stands there.

Left to others: boundaries (`stats.sequential`), verdicts (`family`), what was declared and seen before (`looks`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from astray.artifacts import Store
from astray.engine.claims import at_level
from astray.engine.family import FAMILY_LEVEL, at_look
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
class _Made:
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
            ConfigurationError: the runs were looked at otherwise before, or a price that cannot be told.
            BudgetSpentError: what is given ended before the first look.
        """
        self._check_price()
        book, declared = book_of_study(self.store, self.study, self.setting), declared_by(self.options)
        seen, clock = list(book.begin(declared)), _Clock(self.options.max_hours)
        last: _Made | None = None
        # The last look is made again from what is kept: its results may be gone, and it says which arms go on.
        for look in range(max(0, len(seen) - 1), len(declared.units)):
            plan = self.plan(look, seen)
            new = _trained(plan) - (sum(seen[look - 1].runs.values()) if look else 0)
            why = "" if look < len(seen) else self._too_dear(plan) or clock.too_long(new)
            try:
                found = None if why else results(plan, clock.check)
            except _TimeOverError:
                found, why = None, clock.over
            if found is not None and spent():
                found, why = None, "since the budget of --budget is spent"
            if found is None:
                self._stopped(look, why, last, seen, write)
                return
            clock.made(new if look == len(seen) else 0)
            last = _Made(*found, claims=self._decided(look, found[0], plan, seen))
            made = self._seen(look, plan, last.claims)
            if look == len(seen):
                book.add(declared, made)
                seen.append(made)
                self.tell(made.told)
            self._write(last, self._ended(look, last.claims), seen, write)
            if not made.going:
                return

    def plan(self, look: int, seen: Sequence[Seen]) -> StudyPlan:
        """Return the steps up to a look: arms that stopped before have the seeds that they had."""
        declared, before = declared_by(self.options), seen[look - 1] if look else None
        seeds = range(declared.first, declared.first + declared.units[look])
        stopped = {arm: runs for arm, runs in before.runs.items() if arm not in before.going} if before else {}
        _, arms, analyses = self.options.runs
        return plan_study(self.study, self.setting, seeds, arms, analyses, stopped)

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
        return at_look(claims, before, looks, look, _fixed(plan))

    def _seen(self, look: int, plan: StudyPlan, claims: Sequence[ClaimRow]) -> Seen:
        """Return what is written down of a look."""
        units = declared_by(self.options).units
        runs: dict[str, int] = {}
        for run in plan.runs:
            if run.training is not None:
                runs[run.arm.name] = runs.get(run.arm.name, 0) + 1
        full = [arm for arm, count in runs.items() if count == units[look]]
        going = going_on(claims, full, _fixed(plan), together=bool(plan.analyses)) if look + 1 < len(units) else ()
        decided = tuple(claim for claim in claims if claim.status is ClaimStatus.DECIDED)
        tested = sum(claim.tested for claim in claims)
        told = (
            f"Look {look + 1} of {len(units)}, with {units[look]} training runs an arm: {len(decided)} of {tested} claims "
            "decided."
        )
        if going:
            rest = [arm for arm in runs if arm not in going]
            further = units[look + 1] - units[look]
            seeds = "seed goes" if further == 1 else f"{further} seeds go"
            told += f" The next {seeds} to {_some(going)}, for what is undecided"
            told += f"; {_some(rest)} stopped." if rest else "."
        return Seen(runs=runs, decided=decided, going=going, told=told)

    def _ended(self, look: int, claims: Sequence[ClaimRow]) -> str:
        """Say at which look the study stands, and how its numbers are to be read."""
        looks = declared_by(self.options).looks
        open_ones = sum(claim.status is ClaimStatus.UNDECIDED for claim in claims)
        return (
            f"Stopped at look {look + 1} of {len(looks.units)}, {open_ones} claims undecided. Looks at "
            f"{', '.join(map(str, looks.units))} training runs an arm were declared beforehand, and wrong verdicts are "
            f"held at {FAMILY_LEVEL:.0%} over all of them ({looks.spending} spending): an interval at look {look + 1} "
            f"has a level of {1 - looks.nominal(look, FAMILY_LEVEL):.2%}."
        )

    def _stopped(
        self,
        look: int,
        why: str,
        last: _Made | None,
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
        self._write(_Made(last.findings, last.shown, claims), ended, seen, write)

    def _write(self, made: _Made, ended: str, seen: Sequence[Seen], write: Callable[[Shown, Summary], None]) -> None:
        declared = declared_by(self.options)
        looks = LooksRow(
            units=declared.units,
            spending=declared.spending,
            done=len(seen),
            ended=ended,
            told=tuple(each.told for each in seen),
        )
        write(
            made.shown,
            summary_of(self.study, self.setting, made.findings, made.shown, made.claims, self.options, looks),
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
    """The time that was given is over within a look."""


class _Clock:
    """Time that a command has, and how long a training run with its answers took in it so far."""

    def __init__(self, hours: float | None):
        self.began, self.hours, self.runs = time.monotonic(), hours, 0
        self.over = f"since the time is over (--max-hours {hours:g})" if hours else ""

    @property
    def passed(self) -> float:
        """Return the hours that have passed."""
        return (time.monotonic() - self.began) / 3600

    def check(self) -> None:
        """Raise where the time is over."""
        if self.hours is not None and self.passed > self.hours:
            raise _TimeOverError

    def made(self, runs: int) -> None:
        """Count runs that were made."""
        self.runs += runs

    def too_long(self, runs: int) -> str:
        """Say why so many further runs would not be done in time; "" where they would, or nothing is known."""
        if self.hours is None or not self.runs:
            return ""
        needed = runs * self.passed / self.runs
        late = self.passed + needed > self.hours
        return f"since it would take about {needed:.1f} more hours (--max-hours {self.hours:g})" if late else ""


def _trained(plan: StudyPlan) -> int:
    return sum(run.training is not None for run in plan.runs)


def _fixed(plan: StudyPlan) -> frozenset[str]:
    """Return the arms that no further seed adds to."""
    return frozenset(run.arm.name for run in plan.runs if run.training is None)


def _some(arms: Sequence[str]) -> str:
    """Name arms, of many the first few."""
    return ", ".join(arms) if len(arms) < 7 else f"{', '.join(arms[:5])} and {len(arms) - 5} others"
