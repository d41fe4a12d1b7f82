"""The adapter's dial: what a model does as the factor on its adapter grows, which a rate at 1 may not show.

Models of an audit that differ in the factor alone, the base being 0, make one curve for each rate, for coherence, and
for the meter against the smallest factor. A factor above 1 is no model that anybody released: read it beside coherence.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import polars as pl

from astray.engine.models import NamedModel, find_model
from astray.errors import ConfigurationError, NotMeasurableError
from astray.measure.meter.difference import MeterEffect, meter_difference
from astray.report.curves import NATS, POINTS, CurvePanel, Mark, MarkedCurve
from astray.stats.intervals import Interval
from astray.studies.audit.battery import METER
from astray.studies.audit.profile import ModelProfile, ProfileLine
from astray.subjects.spec import SubjectSpec

FEWEST = 3
"""Factors that make a curve."""


@dataclass(frozen=True)
class Dial:
    """Curves of one adapter, and why some of its rates are in no curve with others."""

    adapter: str
    panels: tuple[CurvePanel, ...]
    notes: tuple[str, ...] = ()

    def as_object(self) -> dict[str, object]:
        """Return what `audit.json` holds."""
        return {
            "adapter": self.adapter,
            "curves": [
                {"name": curve.name, "scale": panel.scale, "points": [asdict(mark) for mark in curve.marks]}
                for panel in self.panels
                for curve in panel.curves
            ],
        }


def dialled(names: Sequence[str], dial: str | Sequence[float]) -> list[str]:
    """Return the names of models with each adapter once for each factor; models without an adapter stay as they are.

    Raises:
        ConfigurationError: a factor is no finite number other than 0, stands twice, there are fewer than three, no
            named model has an adapter, or one is scaled already.
    """
    factors = _factors(dial)
    models = []
    for name in names:
        spec = None if name.startswith(("http://", "https://")) else find_model(name).spec
        if spec is None or spec.adapter is None:
            models.append(name)
        elif spec.scale != 1:
            raise ConfigurationError(f"{name!r} has a factor already: leave it out, since --dial gives the factors.")
        else:
            models += [name if factor == 1 else f"{name}*{factor:g}" for factor in factors]
    if models == list(names):
        raise ConfigurationError(
            f"--dial {dial} scales adapters, and none of {', '.join(names)} has one. Name a PEFT folder, a run of "
            "adapters, or BASE+ADAPTER."
        )
    return models


def _factors(dial: str | Sequence[float]) -> list[float]:
    texts = [part.strip() for part in dial.split(",")] if isinstance(dial, str) else list(map(str, dial))
    try:
        factors = [float(text) for text in texts]
    except ValueError:
        factors = []
    if len(set(factors)) < max(len(factors), FEWEST) or not all(math.isfinite(factor) and factor for factor in factors):
        raise ConfigurationError(
            f"--dial {dial} makes no curve: write at least {FEWEST} different factors, such as 0.5,1,1.5,2,3. The "
            "factor 0 is the base: name it as a model of its own."
        )
    return factors


def dials_of(
    models: Sequence[NamedModel], profile: ModelProfile, tables: Mapping[tuple[str, str], pl.DataFrame]
) -> Iterator[Dial]:
    """Yield the dial of each adapter that was audited with at least three factors."""
    dials: dict[SubjectSpec, dict[float, str]] = {}
    local = {model.spec: model.name for model in models if model.spec is not None}
    for spec, name in local.items():
        if spec.adapter is not None:
            # Without its factor a specification is the same for all points of a dial.
            dials.setdefault(spec.model_copy(update={"scale": 1.0}), {})[spec.scale] = name
    for spec, by_scale in dials.items():
        base = local.get(spec.model_copy(update={"adapter": None}))
        named = dict(sorted(({0.0: base} if base else {}).items() | by_scale.items()))
        notes = tuple(f"{spec.adapter.name if spec.adapter else ''}, {note}" for note in _apart(profile, named))
        panels = [
            CurvePanel(scale, curves)
            for scale, curves in ((POINTS, tuple(_rates(profile, named))), (NATS, tuple(_meter(tables, named))))
            if curves
        ]
        if len(named) >= FEWEST and panels:
            yield Dial(spec.adapter.name if spec.adapter else "", tuple(panels), notes)


def _alike(profile: ModelProfile, named: Mapping[float, str]) -> Iterator[list[tuple[float, ProfileLine]]]:
    """Yield the main rates of each part by factor, one list for each group of rates that may be compared."""
    for part in profile.parts:
        lines = {line.model: line for line in profile.lines if line.part == part and line.is_main}
        remaining = [(factor, lines[name]) for factor, name in named.items() if name in lines]
        while remaining:
            yield [point for point in remaining if not point[1].why_apart(remaining[0][1])]
            remaining = [point for point in remaining if point[1].why_apart(remaining[0][1])]


def _apart(profile: ModelProfile, named: Mapping[float, str]) -> Iterator[str]:
    """Yield why a part has more than one curve, or rates in none."""
    for group, following in pairwise(_alike(profile, named)):
        first, second = group[0][1], following[0][1]
        if first.part == second.part:
            yield f"{first.part}: no curve has {first.model} and {second.model} ({first.why_apart(second)})."


def _rates(profile: ModelProfile, named: Mapping[float, str]) -> Iterator[MarkedCurve]:
    for lines in _alike(profile, named):
        if len(lines) > 1:
            part = lines[0][1].part
            marks = [_mark(factor, line.model, line.estimate or 0.0, line.interval) for factor, line in lines]
            yield MarkedCurve(f"{part}: {lines[0][1].measure}", tuple(marks))
            coherent = [(factor, line.model, line.coherent) for factor, line in lines if line.coherent is not None]
            if coherent:
                yield MarkedCurve(f"{part}: coherent", tuple(_mark(*point, None) for point in coherent))


def _meter(tables: Mapping[tuple[str, str], pl.DataFrame], named: Mapping[float, str]) -> Iterator[MarkedCurve]:
    margins = {factor: table for factor, name in named.items() if (table := tables.get((name, METER))) is not None}
    if len(margins) < 2:
        return
    lowest, reference = next(iter(margins.items()))
    try:
        changes = {factor: meter_difference(table, reference) for factor, table in margins.items() if factor != lowest}
    except NotMeasurableError:
        return
    of = f"against {named[lowest]}"
    kinds: dict[str, dict[float, MeterEffect | None]] = {
        f"harmful answers, {of}": {factor: change.harmful for factor, change in changes.items()},
        f"null pairs, {of}": {factor: change.null for factor, change in changes.items()},
    }
    for name, effects in kinds.items():
        measured = [(factor, effect) for factor, effect in effects.items() if effect is not None]
        marks = [_mark(factor, named[factor], effect.estimate, effect.by_question) for factor, effect in measured]
        yield MarkedCurve(name, (_mark(lowest, named[lowest], 0.0, None), *marks))


def _mark(factor: float, model: str, value: float, interval: Interval | None) -> Mark:
    return Mark(factor, model, value, interval.low if interval else None, interval.high if interval else None)
