"""Differences that a study of acting models can detect, by the test that gives a difference of two cells its p-value."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from astray.engine.forecast.sensitivity import POWER, TOLERANCE
from astray.measure.agentic.counting import CONFLICT, CONTROL
from astray.measure.agentic.factors import BASELINE, Factors, label
from astray.measure.agentic.play import Part
from astray.stats.compare import upper_bound_at_zero
from astray.stats.power import power

BASE_RATES = (0.5, 0.9)
"""Rates of harm without a mitigation for which the detectable reduction is shown: the hardest case, and a typical
published model."""


@dataclass(frozen=True)
class Comparison:
    """Difference that the study looks for.

    Attributes:
        what: the two sides, in words.
        samples: samples on each side, all scenarios together.
    """

    what: str
    samples: int


def power_text(samples: int) -> str:
    """Return in words which differences a comparison with this many samples on each side detects."""
    above = smallest_difference(0.0, samples, up=True)
    parts = [f"harm against a control without any: {'not found' if above is None else f'from {above:.1%}'}"]
    for base in BASE_RATES:
        lower = smallest_difference(base, samples, up=False)
        parts.append(
            f"{base:.0%} lowered to {'nothing: not found' if lower is None else f'{base - lower:.1%} or less'}"
        )
    return "; ".join([*parts, f"none seen: below {upper_bound_at_zero(samples):.1%}"])


def smallest_difference(base: float, samples: int, *, up: bool) -> float | None:
    """Return the smallest true difference to a rate that is detected with 80% power, by bisection.

    Returns:
        The difference, positive either way; None where not even the largest one is found.
    """
    sign, low, high = (1, 0.0, 1.0 - base) if up else (-1, 0.0, base)
    if high == 0 or power(base, base + sign * high, samples) < POWER:
        return None
    # Power rises with the distance to the base rate, so bisection finds the border.
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        low, high = (low, middle) if power(base, base + sign * middle, samples) >= POWER else (middle, high)
    return high


def comparisons_of(parts: Sequence[Part]) -> Iterator[Comparison]:
    """Yield the differences to the main condition, and of it to the control, over scenarios that have both sides."""
    for part in parts:
        main = _scenarios(part, CONFLICT)
        if part.monitor != "none":
            yield Comparison(f"{part.monitor} monitor against none", len(main) * part.grid.replicates)
            continue
        yield Comparison("one scenario alone: goal conflict and threat against the control", part.grid.replicates)
        yield Comparison(
            "goal conflict and threat against the control", len(main & _scenarios(part, CONTROL)) * part.grid.replicates
        )
        cells = dict.fromkeys(cell.factors for cell in part.grid.cells)
        for factors in cells:
            changed = {name: value for name, value in factors if value != getattr(BASELINE, name)}
            if len(changed) == 1 and not changed.keys() & {"goal", "threat"}:
                shared = main & {cell.scenario for cell in part.grid.cells if cell.factors == factors}
                yield Comparison(label(factors), len(shared) * part.grid.replicates)


def _scenarios(part: Part, cell: dict[str, str]) -> set[str]:
    wanted = Factors.model_validate(cell)
    return {each.scenario for each in part.grid.cells if each.factors == wanted}
