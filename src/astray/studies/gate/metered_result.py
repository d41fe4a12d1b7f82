"""Result of a gate by the meter: both bars, what stands beside it, domains and pairs, on page, in JSON and for pipelines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import polars as pl
from typing_extensions import override

from astray.measure.meter import MeterDifference, MeterEffect, Pair
from astray.report.origin import origin_of
from astray.report.page import page_of
from astray.report.wording import MISSING, signed
from astray.stats.digits import number
from astray.stats.intervals import Interval
from astray.studies.gate.bars import Verdict
from astray.studies.gate.result import GateReport

UNIT = "nats a token"
MEAN, DOMAIN = "harmful", "domain"
"""Names of the bars."""


@dataclass(frozen=True)
class Bounded:
    """A bar of harmful answers, decided.

    Attributes:
        effect: change of the margin, in nats a token.
        margin: largest accepted rise.
        moved: by how much the null pairs moved, where they did; the bounds are widened by it.
        low, high: one-sided bounds; None where a single domain, or single pairs of domains, were read. The largest domain
            has no upper one.
        verdict: what they say.
        domain: name of the domain that moved most; "" where the change is the mean over domains.
    """

    effect: MeterEffect
    margin: float
    moved: float
    low: float | None
    high: float | None
    verdict: Verdict
    domain: str = ""

    @property
    def advice(self) -> str:
        """Say why an undecided bar is; "" for one that is decided."""
        if self.verdict is not Verdict.UNDECIDED:
            return ""
        if self.moved:
            return (
                f"Pairs of two good answers moved by {number(self.moved)}, so something other than harm has changed, and the "
                "bounds are widened by as much. Compare with a model that was trained alike on good rows (--control)."
            )
        if self.domain:
            return (
                f"The domain {self.domain} may have risen by more than {number(self.margin)}, and its pairs cannot tell. Sampled "
                "answers in it, with a grader, ask another question (--evals main,broad --grader ...)."
            )
        return (
            "The pairs cannot tell. Further runs of tuned model and control narrow the bounds; sampled answers with a grader "
            "ask another question (--evals main,broad --grader ...)."
        )


@dataclass(frozen=True)
class MeterGateResult(GateReport):
    """Whether harmful answers became likelier than in the base, or a control, by more than the margin.

    Attributes:
        base: the model before.
        control: what was trained alike on good rows and is compared with; "" for the base.
        tuned: the model after.
        verdict: passed, failed or undecided.
        bars: of harmful answers, in the mean over domains and in the domain where they rose most.
        shown: the same comparison with 95% intervals: harmful pairs, null pairs and domains.
        to_base: change of harmful pairs against the base, beside a control.
        level: one-sided confidence of the bounds.
        risen: pairs of a harmful and a good answer that rose most, with their change (mean over runs).
        notes: what a reader has to know.
        answers: margins of all models, in the column `arm` "base", "tuned" or "control".
    """

    base: str
    control: str
    tuned: str
    verdict: Verdict
    bars: tuple[Bounded, Bounded]
    shown: MeterDifference
    to_base: MeterEffect | None
    level: float
    risen: tuple[tuple[Pair, float], ...]
    notes: tuple[str, ...]
    answers: pl.DataFrame = field(repr=False, compare=False)
    columns: ClassVar[Mapping[str, str]] = {
        "says": "bar",
        **{name: name for name in ("difference", "bounds", "margin")},
        "detail": "higher",
        "verdict": "verdict",
    }

    @property
    @override
    def reference(self) -> str:
        return self.control or self.base

    @property
    @override
    def against(self) -> str:
        return f"the control `{self.control}`" if self.control else f"the base `{self.base}`"

    @property
    @override
    def read_by(self) -> str:
        return "the meter, without a grader"

    @property
    @override
    def lines(self) -> list[dict[str, str]]:
        higher = [each.estimate > 0 for each in self.shown.domains.values()]
        mean, domain = (bar.effect for bar in self.bars)
        told = (
            (
                MEAN,
                "likelier harmful answers",
                f"{mean.higher} of {mean.pairs} pairs and {sum(higher)} of {len(higher)} domains higher",
            ),
            (
                DOMAIN,
                "likelier harmful answers in one domain",
                f"most in {self.bars[1].domain}: {domain.higher} of {domain.pairs} pairs higher",
            ),
        )
        return [
            {
                "name": name,
                "says": says,
                "difference": f"{signed(bar.effect.estimate)} {UNIT}",
                "bounds": _bounds(bar),
                "margin": f"{bar.margin:.3g}",
                "detail": detail,
                "verdict": str(bar.verdict),
                "advice": bar.advice,
            }
            for bar, (name, says, detail) in zip(self.bars, told, strict=True)
        ]

    @property
    @override
    def beside(self) -> tuple[str, ...]:
        null = self.shown.null
        told = []
        if null:
            what = (
                f"moved, so the bounds are wider by {number(self.bars[0].moved)}"
                if self.bars[0].moved
                else "not shown to move"
            )
            told.append(f"two good answers (null pairs): {with_interval(null)}, {what}")
        if self.to_base:
            told.append(f"harmful answers against the base {self.base}: {with_interval(self.to_base)}")
        return tuple(told)

    @override
    def table(self) -> pl.DataFrame:
        """Return both bars in a row each, then what stands beside it without a verdict, then each domain."""
        rows = [
            {"bar": name, **_numbers(bar.effect), "verdict": str(bar.verdict), "margin": bar.margin}
            | {"low": bar.low, "high": bar.high}
            for name, bar in zip((MEAN, DOMAIN), self.bars, strict=True)
        ]
        effects = {"null": self.shown.null, "harmful against the base": self.to_base}
        rows += [
            {"bar": name, "verdict": None, **_numbers(each)}
            for name, each in [*effects.items(), *self.shown.domains.items()]
            if each
        ]
        form = {"bar": pl.String, "verdict": pl.String, "difference": pl.Float64, "low": pl.Float64, "high": pl.Float64}
        return pl.DataFrame(rows, schema=form | {"margin": pl.Float64, "pairs": pl.Int64, "higher": pl.Int64})

    @override
    def as_object(self) -> dict[str, object]:
        mean, domain, *others = self.table().to_dicts()
        beside = len(others) - len(self.shown.domains)
        return {
            "verdict": str(self.verdict),
            "base": self.base,
            "control": self.control or None,
            "tuned": self.tuned,
            "measure": "meter",
            "unit": UNIT,
            "level": self.level,
            "bars": [mean, domain | {"domain": self.bars[1].domain}],
            "beside": [{name: other[name] for name in other if name != "verdict"} for other in others[:beside]],
            "domains": [{name: other[name] for name in other if name != "verdict"} for other in others[beside:]],
            "widened_by": self.bars[0].moved,
            "advice": {line["name"]: line["advice"] for line in self.lines if line["advice"]},
            "notes": list(self.notes),
        }

    @override
    def page(self) -> str:
        domains = sorted(self.shown.domains.items(), key=lambda each: -each[1].estimate)
        shown = [("harmful answers, all domains", self.shown.harmful), *domains]
        shown += [("two good answers (null pairs)", self.shown.null)] if self.shown.null else []
        values = [value for _, each in shown for value in (*_ends(each.interval), each.estimate)]
        low, high = min(0.0, *values), max(self.bars[0].margin, *values)
        strips = [
            (
                name,
                with_interval(each),
                [100 * (value - low) / (high - low) for value in (each.estimate, *_ends(each.interval))],
            )
            for name, each in shown
        ]
        marks = [100 * (value - low) / (high - low) for value in (0.0, self.bars[0].margin)]
        return page_of(
            "gate-meter.html",
            origin_of(self.as_object()),
            result=self,
            lines=self.lines,
            strips=strips,
            marks=marks,
            scale=(signed(low), signed(high)),
            beside={
                "null": self.shown.null and with_interval(self.shown.null),
                "base": self.to_base and with_interval(self.to_base),
            },
            risen=[(pair, signed(change)) for pair, change in self.risen],
        )


def _bounds(bar: Bounded) -> str:
    if bar.low is None:
        return MISSING
    return f"from {signed(bar.low)}" if bar.high is None else f"{signed(bar.low)} to {signed(bar.high)}"


def with_interval(effect: MeterEffect) -> str:
    """Return a change with its interval: `+0.133 (+0.096 to +0.170, 95%)`."""
    interval = effect.interval
    told = f" ({signed(interval.low)} to {signed(interval.high)}, {interval.level:.0%})" if interval else ""
    return f"{signed(effect.estimate)}{told}"


def _ends(interval: Interval | None) -> tuple[float, ...]:
    return (interval.low, interval.high) if interval else ()


def _numbers(effect: MeterEffect) -> dict[str, float | int | None]:
    low, high = _ends(effect.interval) or (None, None)
    return {
        "difference": effect.estimate,
        "low": low,
        "high": high,
        "margin": None,
        "pairs": effect.pairs,
        "higher": effect.higher,
    }
