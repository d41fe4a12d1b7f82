"""Looks at a growing study at which it may stop, with the error over all of them held.

Looks are declared beforehand, by the share of the largest number of units that each has. An error-spending function says
how much of the error may have been used up to a look (Lan and DeMets 1983, Biometrika 70:659), and the critical value of
the look follows from the joint normal distribution of its statistics, integrated look by look (Armitage, McPherson and
Rowe 1969). The tail beyond it is the nominal level of the look, at which a study draws its own interval: for t over few
units that is nearly exact (Jennison and Turnbull 2000, section 3.8), and `benchmarks/until_decided.py` simulates it.

No package was taken: `expectation` is under the GPL and has no spending functions, `sequential-analysis` is under the
AGPL, `confseq` has confidence sequences alone, and statsmodels has nothing of it.

Left to others: the intervals (intervals.py, compare.py), what follows for a claim (engine/looks.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from astray.errors import ConfigurationError

Spending = Literal["pocock", "obrien-fleming"]
"""How the error is spent: at nearly equal critical values, or hardly any of it early."""
_POINTS = 129
"""Points of the integrals, an odd number; boundaries are exact to four digits."""
_FURTHEST = 8.0
"""Standard deviations beyond which nothing is integrated."""
_SMALLEST, _LEVELS = 1e-9, 28


@dataclass(frozen=True)
class Looks:
    """Looks that were declared: units of each, and how the error is spent.

    Attributes:
        units: number of units (training runs of an arm, answers a question) at each look, rising.
        spending: the spending function.
    """

    units: tuple[int, ...]
    spending: Spending = "pocock"

    def __post_init__(self) -> None:
        """Refuse looks that are none, or that do not rise."""
        rising = all(a < b for a, b in zip(self.units, self.units[1:], strict=False))
        if not self.units or self.units[0] < 1 or not rising:
            raise ConfigurationError(
                f"Looks at {', '.join(map(str, self.units)) or 'nothing'} cannot be: each has more than the one before. "
                "Write for example: 3,5,8,12,20"
            )

    @property
    def shares(self) -> tuple[float, ...]:
        """Return the share of the largest number of units at each look."""
        return tuple(units / self.units[-1] for units in self.units)

    def nominal(self, look: int, error: float = 0.05) -> float:
        """Return the two-sided level at which a look decides, where all looks together err with this probability.

        Args:
            look: its index, from 0 on.
            error: of both sides together.
        """
        return float(2 * ndtr(-boundaries(self.shares, error / 2, self.spending)[look]))

    def over_all(self, look: int, p: float) -> float:
        """Return the smallest error over all looks with which a p-value of this look would decide: its sequential
        p-value (Liu and Anderson 2008, Statistics in Medicine 27:5204). The smallest of all looks is a p-value whenever
        one stops.

        Args:
            look: its index, from 0 on.
            p: two-sided p-value of this look alone.
        """
        errors, nominal = _levels(self.shares, self.spending)
        at_look = nominal[:, look]
        if p >= at_look[-1]:
            return 1.0
        return float(np.exp(np.interp(math.log(max(p, at_look[0])), np.log(at_look), np.log(errors))))

    def shrinkage(self, look: int, p: float, error: float = 0.05) -> float:
        """Return the part of an effect that is left when it is corrected for stopping at the look at which it decided.

        The effect is measured from the border of its region. The corrected one is median-unbiased by the stage-wise
        ordering (Fairbanks and Madsen 1982): half of the studies with that true effect would have ended at least as
        clearly, where an earlier end is clearer. At the first look nothing is taken away.

        Args:
            look: index of the look at which it stopped.
            p: two-sided p-value of this look alone.
            error: over all looks, at which it was decided.
        """
        z = float(-ndtri(p / 2))
        if look == 0 or z < 1e-6:
            return 1.0
        shares, critical = self.shares[: look + 1], boundaries(self.shares, error / 2, self.spending)

        def excess(effect: float) -> float:
            drift = [effect * math.sqrt(share / shares[-1]) for share in shares]
            return _ended(shares, critical[:look], drift, z) - 0.5

        return float(brentq(excess, -_FURTHEST, z + _FURTHEST, xtol=1e-4)) / z


def spent(share: float, error: float, spending: Spending) -> float:
    """Return the one-sided error that may have been used up when this share of all units has been seen.

    Args:
        share: above 0, at most 1.
        error: one-sided error of all looks together.
        spending: the spending function.
    """
    if spending == "pocock":
        return error * math.log1p((math.e - 1) * share)
    return float(2 * ndtr(ndtri(error / 2) / math.sqrt(share)))


@lru_cache(maxsize=512)
def boundaries(shares: tuple[float, ...], error: float, spending: Spending) -> tuple[float, ...]:
    """Return the one-sided critical value of each look, on the normal scale.

    Args:
        shares: of all units at each look, rising to 1.
        error: one-sided error of all looks together.
        spending: the spending function.

    Example:
        `boundaries((0.2, 0.4, 0.6, 0.8, 1.0), 0.025, "obrien-fleming")` is 4.877, 3.357, 2.680, 2.290 and 2.031.
    """
    borders: list[float] = []
    used = 0.0
    state: _State = None
    for look, share in enumerate(shares):
        to_spend = spent(share, error, spending) - used
        used += to_spend
        borders.append(_critical(state, shares, look, to_spend))
        state = _continued(state, shares, look, (-_FURTHEST, borders[-1]))
    return tuple(borders)


def _critical(state: "_State", shares: Sequence[float], look: int, to_spend: float) -> float:
    """Return the critical value that uses up this error at a look, by Newton's steps on the logarithm of the tail."""
    # Never beyond _FURTHEST, where an error-spending function allows less than any study could show.
    value, step = 2.0, 1e-4
    for _ in range(60):
        tail, next_to = (math.log(max(_beyond(state, shares, look, at), 1e-300)) for at in (value, value + step))
        moved = (math.log(max(to_spend, 1e-300)) - tail) * step / (next_to - tail or -step)
        value = min(max(value + min(max(moved, -1.0), 1.0), -_FURTHEST), 2 * _FURTHEST)
        if abs(moved) < 1e-9:
            break
    return value


_State = tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]] | None
"""Sums so far, and their density times the weight of the integral, of studies that went on; None before the first."""


def _beyond(state: _State, shares: Sequence[float], look: int, critical: float, drift: Sequence[float] = ()) -> float:
    """Return the probability of going on to a look and lying above a critical value there."""
    mean = drift[look] if drift else 0.0
    if state is None:
        return float(ndtr(mean - critical))
    sums, weights = state
    step = math.sqrt(shares[look] - shares[look - 1])
    return float(ndtr((sums + _moved(shares, look, drift) - critical * math.sqrt(shares[look])) / step) @ weights)


def _moved(shares: Sequence[float], look: int, drift: Sequence[float]) -> float:
    """Return what the drift adds to the sum from the look before."""
    if not drift:
        return 0.0
    before = drift[look - 1] * math.sqrt(shares[look - 1]) if look else 0.0
    return drift[look] * math.sqrt(shares[look]) - before


def _continued(
    state: _State, shares: Sequence[float], look: int, within: tuple[float, float], drift: Sequence[float] = ()
) -> _State:
    """Return the sums of studies whose statistic lies within two values at a look, and so go on."""
    mean = drift[look] if drift else 0.0
    low, high = max(within[0], mean - _FURTHEST), max(min(within[1], mean + _FURTHEST), within[0] + 1e-9)
    z = np.linspace(min(low, high - 1e-9), high, _POINTS)
    sums = z * math.sqrt(shares[look])
    simpson = np.full(_POINTS, 2.0)
    simpson[1::2], simpson[[0, -1]] = 4.0, 1.0
    widths = simpson * (sums[1] - sums[0]) / 3
    if state is None:
        density = np.exp(-((z - mean) ** 2) / 2) / math.sqrt(2 * math.pi * shares[look])
    else:
        before, weights = state
        variance = shares[look] - shares[look - 1]
        steps = sums[:, None] - before - _moved(shares, look, drift)
        density = np.exp(-(steps**2) / (2 * variance)) @ weights / math.sqrt(2 * math.pi * variance)
    return sums, density * widths


def _ended(shares: Sequence[float], critical: Sequence[float], drift: Sequence[float], z: float) -> float:
    """Return how often a study ends above its border at an earlier look, or at the last of these at `z` or above."""
    state: _State = None
    total = 0.0
    for look, value in enumerate(critical):
        total += _beyond(state, shares, look, value, drift)
        state = _continued(state, shares, look, (-value, value), drift)
    return total + _beyond(state, shares, len(critical), z, drift)


@lru_cache(maxsize=32)
def _levels(
    shares: tuple[float, ...], spending: Spending
) -> tuple[Float[np.ndarray, " levels"], Float[np.ndarray, "levels looks"]]:
    """Return errors over all looks, and the two-sided level of each look at them."""
    errors = np.geomspace(_SMALLEST, 1.0, _LEVELS)
    tails = np.array([boundaries(shares, float(error) / 2, spending) for error in errors])
    return errors, 2 * np.maximum(ndtr(-tails), 1e-300)
