"""Forecast of a gate before anything is asked: answers, what of them is stored, and how often each bar would pass or
fail.

Gates are simulated at the very size, with the very bounds. Left to others: tokens (forecast/verdicts.py).
"""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from astray.report.wording import in_points
from astray.stats.noninferiority import margin_tails
from astray.studies.gate.bars import RULES

RATES, HARM = (0.0, 0.02, 0.1), 0.2
"""Rates of both models at which passing is told, and the rise of a rate of 0 at which failing is."""
ICC, RELEASES, LARGEST = 0.1, 1000, 4_000_000
"""Assumed intra-class correlation of questions, simulated releases, and questions of all of them at most."""


@dataclass(frozen=True)
class GateForecast:
    """What a gate would ask and could tell.

    Attributes:
        models: base and tuned model, for people.
        answers: answers to each question of one run, by question.
        total: answers of all runs.
        to_ask: those that the store does not hold.
        power: name of the bar -> how often it passes at each of `RATES`, and how often it fails at a rise of `HARM`.
        margins: margin by the name of the bar.
        runs: largest number of runs of a side.
        verdicts: what the verdicts take and cost, in words; "" where they are free.
        time: how long models that run here need, in words; "" where none does.
        looks: answers a question at each look that is declared -> the power of the first bar there; empty for one look.
    """

    models: tuple[str, str]
    answers: tuple[int, ...]
    total: int
    to_ask: int
    power: Mapping[str, tuple[float, ...]]
    margins: Mapping[str, float]
    runs: int
    verdicts: str = ""
    time: str = ""
    looks: Mapping[int, tuple[float, ...]] = field(default_factory=dict)

    def text(self) -> str:
        """Return the forecast for a terminal, in lines of 80 columns."""
        fewest, most = min(self.answers), max(self.answers)
        each = f"{most}" if fewest == most else f"{fewest} to {most}"
        heads = [*(f"{rate:.0%}" for rate in RATES), f"+{HARM * 100:.0f} points"]
        lines = [
            f"{self.models[1]} against {self.models[0]}",
            f"{len(self.answers):,} questions, {each} answers each and run: {self.total:,} in all, {self.to_ask:,} to ask.",
            "",
            "How often a bar would pass with both models at this rate, and fail (last",
            "column) with a rate that rises from 0% by 20 points:",
            f"  {'bar':<12}{'margin':>12}{''.join(f'{head:>11}' for head in heads)}",
        ]
        lines += [
            f"  {name:<12}{in_points(self.margins[name]):>12}{''.join(f'{share:>11.0%}' for share in shares)}"
            for name, shares in self.power.items()
        ]
        lines += self._look_lines(heads)
        assumed = (
            f"Assumed: answers to a question correlate by {ICC}, its rate is that of both models, the judge does not "
            "err, and a side is one run. A judge that errs, and runs that differ, cost power."
        )
        more = [*self.verdicts.splitlines(), *self.time.splitlines()]
        lines += ["", *textwrap.wrap(assumed, 80), *(["", *more] if more else [])]
        return "\n".join(lines)

    def _look_lines(self, heads: Sequence[str]) -> list[str]:
        """Tell how often each look would decide, and the answers until then: the figures above are of the last look."""
        if not self.looks:
            return []
        lines = ["", "Looks until it is decided (the first bar alone; above: the last look):"]
        lines += [
            f"  {f'{size:,} answers':<20}{''.join(f'{share:>11.0%}' for share in shares)}"
            for size, shares in self.looks.items()
        ]
        sizes, shares = list(self.looks), list(self.looks.values())
        mean = [
            sizes[0]
            + sum(
                (after - size) * (1 - power[at]) for size, after, power in zip(sizes, sizes[1:], shares, strict=False)
            )
            for at in range(len(heads))
        ]
        return [*lines, f"  {'mean, at most':<20}{''.join(f'{share:>11.1f}' for share in mean)}"]


def power_of(answers: Sequence[int], margin: float, level: float) -> tuple[float, ...]:
    """Return how often a bar passes at each of `RATES`, equal in both models, and how often it fails at `HARM`.

    Args:
        answers: answers to each question.
        margin: of the bar.
        level: confidence of the bounds.
    """
    rng = np.random.default_rng(0)
    count = max(50, min(RELEASES, LARGEST // len(answers)))
    n = np.tile(np.array(answers, dtype=np.int64), (count, 1))

    def tails(tuned: np.ndarray, base: np.ndarray) -> np.ndarray:
        return margin_tails(rng.binomial(n, tuned), n, rng.binomial(n, base), n, margin)

    def rates(mean: float) -> np.ndarray:
        return rng.beta(mean * (1 / ICC - 1), (1 - mean) * (1 / ICC - 1), n.shape) if mean else np.zeros(n.shape)

    alike = [rates(rate) for rate in RATES]
    passes = [float((tails(drawn, drawn)[0] < 1 - level).mean()) for drawn in alike]
    return *passes, float((tails(rates(HARM), alike[0])[1] < 1 - level).mean())


def answers_by_question(question_ids: Sequence[tuple[str, int]]) -> tuple[int, ...]:
    """Return the answers to each question, from the question and the number of samples of each item."""
    counts: Counter[str] = Counter()
    for question, samples in question_ids:
        counts[question] += samples
    return tuple(counts.values())


def powers(answers: Sequence[int], margins: Mapping[str, float], level: float) -> dict[str, tuple[float, ...]]:
    """Return `power_of` each bar; equal margins are simulated once."""
    known = {margin: power_of(answers, margin, level) for margin in set(margins.values())}
    return {rule.name: known[margins[rule.name]] for rule in RULES if rule.name in margins}
