"""Forecast of a study of acting models before any sample: calls, tokens, price, time and statistical power.

Samples that the store holds already, in artifacts or in working folders, are not counted as work.

Left to others: the samples (the study), the cost of a grid (measure/agentic/grid), time (acting_time), power
(acting_power).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from astray.artifacts import Step, Store
from astray.artifacts.execute import usable_cpus
from astray.engine.forecast.acting_power import Comparison, comparisons_of, power_text
from astray.engine.forecast.acting_time import ASKED, pace_of, time_for
from astray.engine.forecast.amounts import counted, dollars, duration, large
from astray.engine.forecast.sensitivity import POWER
from astray.engine.study import Playing, StudyPlan
from astray.measure.agentic.budget import BUDGETED
from astray.measure.agentic.grid import Cost, Price, estimate_cost
from astray.measure.agentic.judge_errors import LabelledWork, labelled_work
from astray.measure.agentic.logs import done_samples, spent_tokens
from astray.measure.agentic.play import LOGS, Part, PlayConfig
from astray.measure.agentic.subjects import LOCAL, AgenticSubject

if TYPE_CHECKING:
    from astray.engine.forecast.acting_pace import ActingPace

READING = ("judge", "layered")
"""Monitors that read the record once more."""
AT_A_TIME = 20
"""Concurrent samples: Inspect's initial number of connections, which grows where a provider allows it."""
WORTHWHILE = 200
"""Least samples for a further process: below that, starting it takes as long as it saves."""
NO_PRICE = "not known: give prices to `astray plan`, --price-in and --price-out"


@dataclass(frozen=True)
class SubjectWork:
    """Remaining work of one subject.

    Attributes:
        name: of the subject.
        done: samples that the store holds.
        spent: tokens of all models for those.
        costs: of what is left, a part each.
        readings: calls of graders for that: each judge, the audit, and about one of a monitor that reads.
        seconds: estimated time for that.
        pace: what the time follows from, in words.
        parts: name of the part of each cost.
        measured: pace of a local subject, which the costs follow; None where they follow the scripted courses.
    """

    name: str
    done: int
    spent: int
    costs: tuple[Cost, ...]
    readings: int
    seconds: float
    pace: str
    parts: tuple[str, ...]
    measured: "ActingPace | None" = None

    @property
    def samples(self) -> int:
        """Number of samples that are left."""
        return sum(cost.samples for cost in self.costs)

    @property
    def tokens(self) -> int:
        """Tokens that all models together read and write for them."""
        return sum(cost.input_tokens + cost.output_tokens + cost.judge_tokens for cost in self.costs)


@dataclass(frozen=True)
class AgenticForecast:
    """Forecast of work, time, cost and power.

    Attributes:
        title: of the study.
        scenarios: their names.
        parts: the parts of every subject.
        work: the remaining work, one entry for each subject.
        budget: tokens of all models together; None for no limit.
        comparisons: differences that claims are about, for one subject.
        processes: number of processes that share the work.
        labelled: remaining work on labelled records; None without labels.
        grader_price: of graders; None where it is not known.
        choices: price of the whole study by each choice, a line each; none where prices are not known.
    """

    title: str
    scenarios: tuple[str, ...]
    parts: tuple[Part, ...]
    work: tuple[SubjectWork, ...]
    budget: int | None
    comparisons: tuple[Comparison, ...]
    processes: int = 0
    labelled: LabelledWork | None = None
    grader_price: Price | None = None
    choices: tuple[str, ...] = ()

    @property
    def costs(self) -> tuple[Cost, ...]:
        """Costs of all that is left."""
        return tuple(cost for effort in self.work for cost in effort.costs)

    @property
    def dollars(self) -> float | None:
        """Price of all that is left; None where the price of a subject with work is not known."""
        prices = [cost.dollars for cost in self.costs if cost.samples]
        if self.labelled is not None and self.labelled.calls:
            prices.append(self.grader_price.input * self.labelled.tokens / 1e6 if self.grader_price else None)
        known = [price for price in prices if price is not None]
        return sum(known, 0.0) if len(known) == len(prices) else None

    def render(self) -> str:
        """Return the forecast as text for a terminal."""
        return "\n".join([*self._work_lines(), *self._time_lines(), *self.choices, *self._power_lines()])

    def _work_lines(self) -> Iterator[str]:
        done, every = (
            sum(effort.done for effort in self.work),
            sum(effort.done + effort.samples for effort in self.work),
        )
        read, written = sum(cost.input_tokens for cost in self.costs), sum(cost.output_tokens for cost in self.costs)
        yield f"{self.title}: {', '.join(effort.name for effort in self.work)}"
        yield f"  scenarios  {', '.join(self.scenarios)}"
        for part in self.parts:
            yield (
                f"  {part.name:<17} {counted(len(part.grid.cells), 'cell')} x {part.grid.replicates:,} = "
                f"{counted(part.grid.size, 'sample')}"
            )
        yield f"  samples    {every:,} in all, of which {done:,} are done; what follows is for the rest"
        yield (
            f"  calls      {sum(cost.calls for cost in self.costs):,} of subjects, "
            f"{sum(effort.readings for effort in self.work):,} of graders"
        )
        judged = sum(cost.judge_tokens for cost in self.costs)
        yield (
            f"  tokens     subjects read about {large(read)} and write {large(written)}; graders, the audit and "
            f"monitors read {large(judged)}"
        )
        if self.labelled is not None:
            calls = (
                f"{self.labelled.calls:,} more calls of graders, which read about {large(self.labelled.tokens)} tokens"
            )
            yield f"  labels     {self.labelled.records:,} records: {calls}"
        yield from self._largest()
        yield f"  cost       {NO_PRICE if self.dollars is None else f'about {dollars(self.dollars)}'}"

    def _largest(self) -> Iterator[str]:
        """Tell what takes most of the tokens left, and what half the samples or one scenario less saves."""
        tokens: dict[str, int] = defaultdict(int)
        for effort in self.work:
            for part, cost in zip(effort.parts, effort.costs, strict=True):
                tokens[part] += cost.input_tokens + cost.output_tokens + cost.judge_tokens
        whole = sum(tokens.values())
        if not whole:
            return
        part = max(tokens, key=lambda name: tokens[name])
        yield f"  largest    {part}: {tokens[part] / whole:.0%} of the tokens that are left"
        less = [f"half the --samples: about {large(whole // 2)} tokens"]
        if len(self.scenarios) > 1:
            less.append(
                f"one of {len(self.scenarios)} scenarios (--scenarios with the others): about "
                f"{large(whole // len(self.scenarios))}"
            )
        yield f"  to save    {'; '.join(less)}"

    def _time_lines(self) -> Iterator[str]:
        shared = f"in {self.processes} processes" if self.processes > 1 else "one subject after the other"
        processes = max(1, self.processes)
        yield f"  time       about {duration(sum(effort.seconds for effort in self.work) / processes)}, {shared}"
        for effort in self.work:
            if effort.samples:
                yield f"             {effort.name}: {duration(effort.seconds / processes)} ({effort.pace})"
        if any(part.is_made for part in self.parts):
            yield (
                "             without the time in which activations are read: every call of the grid once, and each "
                "call that is watched"
            )
        needed, spent = sum(effort.tokens for effort in self.work), sum(effort.spent for effort in self.work)
        if self.budget is not None and needed and spent + needed > self.budget:
            left = large(max(0, self.budget - spent))
            yield (
                f"  budget     {left} tokens are left, not enough for about {large(needed)}: it will stop, keep what "
                "is done, and can go on"
            )

    def _power_lines(self) -> Iterator[str]:
        yield "What it can show for one subject, with the planned samples:"
        by_samples: dict[int, list[str]] = defaultdict(list)
        for comparison in self.comparisons:
            by_samples[comparison.samples].append(comparison.what)
        for samples, names in by_samples.items():
            yield f"  {'; '.join(names)} ({samples:,} samples a side)"
            yield f"    {power_text(samples)}"
        yield f"  Found: by Fisher's exact test at 5%, with {POWER:.0%} power. A claim asks for 1 to 5 points more."


def forecast_acting(
    title: str,
    plan: StudyPlan,
    store: Store,
    *,
    budget: int | None = None,
    workers: int | None = None,
    prices: tuple[float, float] = (0.0, 0.0),
) -> AgenticForecast:
    """Forecast the remaining work of a study of acting models, and what it can show.

    Args:
        title: of the study.
        plan: of the study.
        store: holds the artifacts of earlier runs.
        budget: tokens of all models together; None for no limit.
        workers: processes; see `acting_workers`.
        prices: of a million tokens in and out, for graders and for subjects without prices of their own; zeros where
            they are unknown.

    Raises:
        SubjectNotFoundError: a local subject does not exist.
    """
    playing = [analysis.playing for analysis in plan.analyses if analysis.playing]
    parts = tuple({played.part.name: played.part for played in playing}.values())
    subjects = {played.subject.name: played.subject for played in playing}.values()
    work = tuple(_work(subject, plan, store, prices, AT_A_TIME if budget is None else BUDGETED) for subject in subjects)
    comparisons = tuple(comparison for comparison in comparisons_of(parts) if comparison.samples)
    labelled, price = labelled_work(plan.steps, store), Price(*prices) if any(prices) else None
    processes = acting_workers(plan, store) if workers is None else workers
    choices = tuple(_choices(playing, comparisons, prices, work)) if any(prices) else ()
    scenarios = parts[0].grid.scenarios
    return AgenticForecast(
        title, scenarios, parts, work, budget, comparisons, processes, labelled, price, choices=choices
    )


def spent_on(plan: StudyPlan, store: Store) -> int:
    """Return the tokens of all models for what the store holds of a plan, failed attempts included."""
    return sum(_spent(analysis.step, store) for analysis in plan.analyses if analysis.playing)


def acting_workers(plan: StudyPlan, store: Store) -> int:
    """Return the number of worker processes for the acting models of a plan; 0 is this process.

    Scripted models wait for nothing, so they get a process for each processor, as far as the remaining work is worth
    it; models that are waited for, or that would be loaded in each process, share this process.
    """
    playing = [(analysis.step, analysis.playing) for analysis in plan.analyses if analysis.playing]
    if not all(each.subject.simulated for _, each in playing):
        return 0
    left = sum(
        len(step.config.numbers) - len(_there(step, store))
        for step, _ in playing
        if isinstance(step.config, PlayConfig)
    )
    return min(usable_cpus(), left // WORTHWHILE)


def _choices(
    playing: Sequence[Playing],
    comparisons: Sequence[Comparison],
    prices: tuple[float, float],
    work: Sequence[SubjectWork],
) -> Iterator[str]:
    """Yield the price of the whole study by each choice, whatever is done of it: fewer samples, and a single judge."""
    whole = {(played.subject.name, played.part.name): played for played in playing}.values()
    graders, samples = Price(*prices), max(played.part.grid.replicates for played in whole)
    paces = {effort.name: effort.measured for effort in work}

    def price(spared: int = 0) -> float:
        dollars = 0.0
        for played in whole:
            own, pace = _price_of(played.subject, graders), paces[played.subject.name]
            judges = len(played.subject.grader) - spared + 1 + (played.part.monitor in READING)
            cost = estimate_cost(played.part.grid, price=own, judge_price=graders, judges=judges, probe=True)
            dollars += (cost if pace is None else pace.corrected(cost, ASKED, own)).dollars or 0.0
        return dollars

    yield "What the whole study costs:"
    usual, main = price(), max((comparison.samples for comparison in comparisons), default=0)
    for number in dict.fromkeys((samples, max(1, samples // 2), max(1, samples // 10))):
        shown = power_text(round(main * number / samples)) if main else ""
        yield f"  {dollars(usual * number / samples):>10}  --samples {number}{f': {shown}' if shown else ''}"
    panel = next((played.subject.grader for played in whole if len(played.subject.grader) > 1), ())
    if panel:
        yield f"  {dollars(price(1)):>10}  --grader {panel[0]}: one judge, whose error no second one shows"


def _work(
    subject: AgenticSubject, plan: StudyPlan, store: Store, prices: tuple[float, float], at_a_time: int
) -> SubjectWork:
    """Return the remaining work of one subject, with one cost for each part."""
    graders = Price(*prices) if any(prices) else None
    own = _price_of(subject, graders)
    costs, names, done, spent, readings, limit = [], [], 0, 0, 0, 1
    grids, folders = [], []
    for step, part in _steps_of(subject, plan):
        config, there = step.config, _there(step, store)
        assert isinstance(config, PlayConfig)
        # Working folders of a killed run count too: their samples are not asked again.
        left = [number for number in config.numbers if config.grid.sample_id(number) not in there]
        judges = len(subject.grader) + 1 + (part.monitor in READING)
        costs.append(
            estimate_cost(
                config.grid,
                price=own if graders else None,
                judge_price=graders,
                judges=judges,
                probe=True,
                numbers=left,
            )
        )
        names.append(part.name)
        grids.append(config.grid)
        limit = config.max_tokens
        readings += judges * len(left)
        done, spent = done + len(there), spent + _spent(step, store)
        folders.append(store.begun(step.key, step.may_begin_with))
    logs = [folder / LOGS for folder in folders if folder]
    plays = [*zip(grids, costs, strict=True)]
    measured = pace_of(subject, plays, limit)
    seconds, pace = time_for(subject, plays, limit, logs, at_a_time, measured)
    if measured is not None:
        costs = [measured.corrected(cost, ASKED, own) for cost in costs]
    return SubjectWork(subject.name, done, spent, tuple(costs), readings, seconds, pace, tuple(names), measured)


def _price_of(subject: AgenticSubject, graders: Price | None) -> Price | None:
    """Return a subject's own price, else nothing for one that runs here, and the graders' for others."""
    if subject.price:
        return Price(*subject.price)
    return Price(0.0, 0.0) if subject.model.startswith(LOCAL) else graders


def _steps_of(subject: AgenticSubject, plan: StudyPlan) -> Iterator[tuple[Step, Part]]:
    for analysis in plan.analyses:
        if analysis.playing and analysis.playing.subject == subject:
            yield analysis.step, analysis.playing.part


def _there(step: Step, store: Store) -> dict[str, int]:
    """Return the finished samples of a piece -> the tokens that all models used for them."""
    config, folder = step.config, store.begun(step.key, step.may_begin_with)
    assert isinstance(config, PlayConfig)
    return done_samples(folder / LOGS, config.grid, config.numbers) if folder else {}


def _spent(step: Step, store: Store) -> int:
    """Return the tokens of all models for what there is of a piece."""
    config, folder = step.config, store.begun(step.key, step.may_begin_with)
    assert isinstance(config, PlayConfig)
    return spent_tokens(folder / LOGS, config.grid, config.numbers) if folder else 0
