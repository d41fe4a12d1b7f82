"""Forecast of what a study takes and could show, for `astray plan`. Nothing is trained and no grader is called.

Combines the remaining work (`effort`), the speed of this machine (`speed`) and what the design can show
(`sensitivity`).
"""

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from astray.artifacts import Store
from astray.artifacts.execute import worker_count
from astray.artifacts.plan import Plan
from astray.engine.forecast.amounts import counted, dollars, duration, large
from astray.engine.forecast.effort import Effort, Grading, added, playing, step_efforts, summed
from astray.engine.forecast.looks import looks_lines
from astray.engine.forecast.prices import BATCH_SHARE, Price, prices_of, told_work
from astray.engine.forecast.savings import Saving, parts_of, savings_of, without
from astray.engine.forecast.sensitivity import (
    CEILING,
    POWER,
    PUBLISHED_EFFECT,
    QUESTION_ICC,
    SEED_SD,
    Sensitivity,
    sensitivities,
    tested_claims,
)
from astray.engine.forecast.speed import Speed, measure_speed
from astray.engine.gold import GoldConfig
from astray.engine.options import BaseOptions, TrainedOptions
from astray.engine.plan import plan_study
from astray.engine.setting import Setting
from astray.engine.settings import settled
from astray.engine.study import F, S, Study, StudyPlan
from astray.errors import ConfigurationError
from astray.stats.sequential import Looks
from astray.subjects.registered import DEFAULT_STORE

if TYPE_CHECKING:
    from astray.engine.forecast.acting import AgenticForecast

ENOUGH_SEEDS = 3
GRADER_CALLS_A_SECOND = 10
"""Calls a second that a provider of graders usually allows."""


@dataclass(frozen=True)
class Forecast:
    """Forecast of work, time, cost and power of a study.

    Attributes:
        title: of the study.
        setting: the setting that it would run in.
        seeds: training runs of each arm.
        arms: number of arms.
        steps: steps of the study.
        steps_done: those that the store holds already.
        whole: the work of all steps.
        left: the work of those that are not done.
        speed: of this machine.
        prices: the grader's, of a million tokens in and of a million tokens out.
        sensitivities: what each kind of claim can show.
        claims: of the study that will be tested.
        parts: the subject's work that is left, by kind.
        savings: what to change, and what that saves.
        choices: price of each way of judging; empty without prices.
        gold: the gold judge's part of what is left.
        users: the work of a model that plays users and is not the grader.
        looks: what is told of a study that runs until it is decided.
    """

    title: str
    setting: Setting
    seeds: int
    arms: int
    steps: int
    steps_done: int
    whole: Effort
    left: Effort
    speed: Speed
    prices: tuple[float, float]
    sensitivities: tuple[Sensitivity, ...]
    claims: int
    parts: Mapping[str, Effort]
    savings: tuple[Saving, ...]
    choices: tuple[Price, ...] = ()
    gold: Grading = field(default_factory=Grading)
    users: Grading = field(default_factory=Grading)
    looks: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Estimated time for what is left, without the grader's time; right within a factor of about two."""
        return self.speed.seconds(self.left)

    @property
    def grading_seconds(self) -> float:
        """Estimated time of the grader for what is left, at a provider's usual limit."""
        return self.left.grading.calls / GRADER_CALLS_A_SECOND

    @property
    def cost(self) -> float:
        """Estimated cost of the grader for what is left, in US dollars; of the gold grader alone where there is one."""
        return self._price(self._paid)

    @property
    def cost_limit(self) -> float:
        """Return the same if every answer and every reply is as long as it may be."""
        grading = self._paid
        return (
            self._discount
            * (grading.tokens_in_limit * self.prices[0] + grading.tokens_out_limit * self.prices[1])
            / 1e6
        )

    @property
    def advice(self) -> str:
        """Advice on what to change before it runs, or ""."""
        if self.seeds >= ENOUGH_SEEDS:
            return ""
        shown = (
            "A single training run tells nothing about further ones"
            if self.seeds == 1
            else "Two training runs give very wide intervals"
        )
        return f"{shown}: use at least {ENOUGH_SEEDS} seeds, better 5, to conclude from (--seeds 5, without --quick)."

    def render(self) -> str:
        """Return the forecast for a terminal."""
        lines = [*self._work_lines(), *self._time_lines(), *self._saving_lines(), "", *self._price_lines()]
        lines += [*self.looks, ""] if self.looks else []
        if self.seeds > 1 and self.sensitivities:
            lines.append(f"What it can show with {counted(self.seeds, 'training run')} an arm:")
            lines += [f"  {line}" for line in _power_lines(self.sensitivities, self.claims)]
            lines.append(
                f"  assumed:  a standard deviation of {SEED_SD * 100:.0f} points between runs, and a correlation of "
                f"{QUESTION_ICC} between answers to one question"
            )
        lines += [self.advice] if self.advice else []
        return "\n".join(part for line in lines for part in _folded(line))

    @property
    def _paid(self) -> Grading:
        return self.gold if self.setting.gold else self.left.grading

    @property
    def _discount(self) -> float:
        judge = self.setting.gold.judge if self.setting.gold else self.setting.judge
        return BATCH_SHARE if judge.batch else 1.0

    def _price(self, grading: Grading) -> float:
        return grading.price(self.prices, self._discount)

    def _work_lines(self) -> list[str]:
        training, subject = self.whole.training, self.setting.subject
        title = self.title if self.title.endswith("?") else f"{self.title}:"
        return [
            (
                f"{title} {subject.name} ({subject.parameters / 1e6:,.1f}M parameters), "
                f"{counted(self.arms, 'arm')}, {counted(self.seeds, 'seed')}"
            ),
            f"  steps     {self.steps:,}; done before: {self.steps_done:,}, and time and cost are for the rest",
            f"  training  {counted(training.runs, 'run')}: {counted(training.steps, 'optimizer step')}, "
            f"{counted(training.rows, 'row')}, {large(training.tokens)} tokens",
            f"  answers   {self._answers_line()}",
            f"  judge     {self._judge_line()}",
            *([f"  users     {self._users_line()}"] if self.users.calls else []),
            *([f"  left out  {self.setting.unjudged}"] if self.setting.unjudged else []),
        ]

    def _answers_line(self) -> str:
        answering = self.whole.answering
        if not answering.answers and not answering.tokens:
            return f"none sampled; given ones are read, {large(answering.read)} tokens with their questions"
        return f"{answering.answers:,}: about {large(answering.tokens)} tokens, at most {large(answering.tokens_limit)}"

    def _judge_line(self) -> str:
        if not self.setting.asks_freely and not self.whole.grading.calls:
            return "none: answers are read from probabilities"
        if self.setting.judge.kind == "grammar":
            return "the world's grammar: exact and free"
        if self.setting.judge.distilled:
            return f"{self.setting.judge.grader}: distilled, reads answers on this machine, free"
        grading = self.whole.grading
        cost = (
            f"cost {dollars(self.cost)}, at most {dollars(self.cost_limit)}"
            if any(self.prices)
            else "for the cost give --price-in and --price-out"
        )
        grader = str(self.setting.judge.grader)
        if gold := self.setting.gold:
            grader += f" and, for {gold.answers:,} answers of each arm to each set of questions, {gold.judge.grader}"
            cost += f" of {gold.judge.grader} alone" if any(self.prices) else ""
        return f"{told_work(grading, grader)}; {cost}"

    def _users_line(self) -> str:
        player = self.setting.player
        assert player
        hours = duration(self.users.calls / GRADER_CALLS_A_SECOND)
        limit = "" if player.local or player.batch else f", {hours} at {GRADER_CALLS_A_SECOND} calls a second"
        return f"{told_work(self.users, str(player.grader))}{limit}; not in cost and time"

    def _price_lines(self) -> Iterator[str]:
        """Tell what each way of judging costs in all."""
        if self.choices:
            yield "What the verdicts of the whole study cost:"
        for price in self.choices:
            yield f"  {dollars(price.dollars):>10}  {price.choice}{f': {price.note}' if price.note else ''}"

    def _time_lines(self) -> list[str]:
        many = f"{self.speed.workers} workers on " if self.speed.workers > 1 else ""
        measured = f"{many}{self.speed.device}, {self.speed.flops / 1e9:,.0f} GFLOP/s{' each' if many else ''}"
        lines = [f"  time      about {duration(self.seconds)}, within a factor of about two ({measured})"]
        if self.left.grading.calls:
            lines.append(
                f"            and the grader's, about {duration(self.grading_seconds)} at {GRADER_CALLS_A_SECOND} "
                "calls a second, partly meanwhile"
            )
        return lines

    def _saving_lines(self) -> Iterator[str]:
        """Tell the largest part of what is left, and what less of it saves."""
        saved = {
            what: self.seconds - self.speed.seconds(without(self.left, effort)) for what, effort in self.parts.items()
        }
        times = saved | {"the grader": self.grading_seconds, "the users": self.users.calls / GRADER_CALLS_A_SECOND}
        largest = max(times, key=lambda what: times[what])
        if not times[largest]:
            return
        yield f"  largest   {largest}: about {duration(times[largest])}"
        for saving in self.savings:
            seconds = (
                self.seconds
                - self.speed.seconds(without(self.left, saving.saved))
                + saving.saved.grading.calls / GRADER_CALLS_A_SECOND
            )
            money = (
                f" and {dollars(self._price(saving.saved.grading))}"
                if any(self.prices) and saving.saved.grading.calls
                else ""
            )
            yield f"  to save   {saving.change}: about {duration(seconds)}{money} less"


def forecast(
    study: Study[S, F],
    options: BaseOptions,
    *,
    out: Path = DEFAULT_STORE.parent,
    store: str | Path | None = None,
    workers: int | None = None,
    prices: tuple[float, float] = (0.0, 0.0),
) -> "Forecast | AgenticForecast":
    """Forecast what a study with these options takes and could show; finished steps in the store are not counted.

    Args:
        study, options, out, store, workers, prices: as for `run_study`.

    Raises:
        UnknownNameError: the study has no arm of a name in the options.
        SubjectNotFoundError: the subject is none.
        ConfigurationError: a real model without a grader, data that cannot be drawn, or prices where no grader is
            asked.
        JudgeError, SandboxError: what `Study.check` refuses, as before a run.
        StoreError: an artifact in the store is damaged.
    """
    workers = None if workers is None else worker_count(workers)
    seeds, arms, analyses = options.runs
    folder = out / "store" if store is None else store
    artifacts = Store(folder)
    setting = settled(study, options)
    plan = plan_study(study, setting, seeds, arms, analyses)
    study.check(setting, (Path(out) / study.name, artifacts.folder / study.name))
    if not isinstance(setting, Setting):
        # Imported here since it loads Inspect, which studies that train do without.
        from astray.engine.forecast.acting import forecast_acting

        return forecast_acting(study.title, plan, artifacts, budget=setting.budget, workers=workers, prices=prices)
    if any(prices) and not setting.judge.calls_grader:
        raise ConfigurationError(
            "--price-in and --price-out are prices of a grader, and none is asked here: the organism's own judge and "
            "distilled judges are free. Leave them out, or name a real model with --subject and --grader."
        )
    speed = measure_speed(workers, setting.located.precision, setting.subject.parameters)
    told = forecast_in(
        cast("Study", study), setting, seeds, speed, prices=prices, store=folder, arms=arms, analyses=analyses
    )
    if isinstance(options, TrainedOptions) and options.units:
        return replace(told, looks=tuple(looks_lines(setting, Looks(options.units, options.spending))))
    return told


def forecast_in(
    study: Study,
    setting: Setting,
    seeds: Sequence[int],
    speed: Speed,
    *,
    prices: tuple[float, float] = (0.0, 0.0),
    store: str | Path = DEFAULT_STORE,
    arms: Sequence[str] = (),
    analyses: Sequence[str] = (),
) -> Forecast:
    """Forecast as `forecast` does, for a setting and a speed that are known.

    Args:
        study: the study that would run.
        setting: the setting that it would run in.
        seeds: of the training runs of an arm.
        speed: of the machine.
        prices: the grader's, of a million tokens in and of a million tokens out.
        store: where finished steps are looked up.
        arms: names of the arms that would run, as `plan_study` takes them.
        analyses: names of the analyses, likewise.
    """

    def planned(setting: Setting) -> StudyPlan:
        return plan_study(study, setting, seeds, arms, analyses)

    plan = planned(setting)
    done = Plan(plan.steps, Store(store)).done.keys()
    efforts, tested = step_efforts(plan, setting), tested_claims(study, setting, plan)
    left = {key: parts for key, parts in efforts.items() if key not in done}
    return Forecast(
        title=study.title,
        setting=setting,
        seeds=len(seeds),
        arms=len(
            {run.arm.name for run in plan.runs} | {arm.name for analysis in plan.analyses for arm in analysis.arms}
        ),
        steps=len(plan.steps),
        steps_done=len(done),
        whole=added(effort for parts in efforts.values() for effort in parts),
        left=added(effort for parts in left.values() for effort in parts),
        speed=speed,
        prices=prices,
        sensitivities=sensitivities(setting, len(seeds), tested),
        claims=tested,
        parts=parts_of(plan, left),
        savings=tuple(savings_of(study, setting, plan, left)),
        choices=tuple(prices_of(planned, setting, len(seeds), prices)) if any(prices) and setting.asks_freely else (),
        gold=added(
            effort
            for run in plan.runs
            if isinstance(run.verdicts.config, GoldConfig)
            for effort in left.get(run.verdicts.key, ())
        ).grading,
        users=_playing(plan, setting, done),
    )


def _playing(plan: StudyPlan, setting: Setting, done: Collection[str]) -> Grading:
    """Return what is left of the work of a model that plays users and is not the grader."""
    left = [analysis for analysis in plan.analyses if setting.player and analysis.step.key not in done]
    return summed(Grading, (playing(analysis, setting.main.sampling.max_tokens) for analysis in left))


NONE = "\N{EN DASH}"
_LEGEND = (
    f"from: smallest difference, in points, that {POWER:.0%} of such studies find",
    f"+{PUBLISHED_EFFECT * 100:.0f}: share of them that find a difference of {PUBLISHED_EFFECT * 100:.0f} points",
    f"control: largest rate of a control that {POWER:.0%} of them show to be below {CEILING:.0%}",
    "no hit: what a control without any hit is shown to be below",
)
"""What the columns of `_power_lines` mean."""


def _power_lines(kinds: Sequence[Sensitivity], claims: int) -> Iterator[str]:
    """Describe in lines of 80 columns what each kind of claim can show, alone and among all of the study."""
    yield f"{'':<38}{'from':>9}{f'+{PUBLISHED_EFFECT * 100:.0f}':>9}{'control':>10}{'no hit':>9}"
    for one in kinds:
        yield f"{one.what} ({counted(one.questions, 'question')} x {counted(one.samples, 'answer')})"
        if one.power is None:
            yield "  nothing about further training runs"
            continue
        yield _shown("alone", one)
        if one.in_family:
            yield _shown(f"among {claims} claims (Holm)", one.in_family)
    yield from _LEGEND
    if any(one.in_family for one in kinds):
        yield "among the claims (Holm): whatever the others show"


def _folded(line: str) -> list[str]:
    """Return a line in lines of 80 columns, further ones below the text that stands behind its label."""
    indent = " " * (12 if line.startswith("  ") else 2)
    return textwrap.wrap(line, 80, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False) or [""]


def _shown(what: str, one: Sensitivity) -> str:
    effect = NONE if one.smallest_difference is None else f"{one.smallest_difference * 100:.1f}"
    control = NONE if one.largest_control is None else f"{one.largest_control:.2%}"
    return f"{f'  {what}':<38}{effect:>9}{f'{one.power:.0%}':>9}{control:>10}{f'{one.bound_at_zero:.1%}':>9}"
