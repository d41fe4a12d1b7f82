"""Share of a rate that is gone: one minus the ratio of two rates over training runs, from the counts beneath them.

The limits of the ratio are put together from those of the two rates (Donner and Zou 2012, Statistical Methods in
Medical Research 21:347) with the correlation of runs that share a seed. They have a width in every case, since the
limits of the rates have one.

Left to others: differences (compare.py).
"""

import numpy as np
from jaxtyping import Float, Real

from astray.stats.compare import arms_in_order, correlation_of, side_limits
from astray.stats.difference import Difference
from astray.stats.intervals import Limits, one_study
from astray.stats.rates import Rate

_MOST = 100.0
"""Largest ratio that is told apart from an unbounded one."""


def reduction_of_arms(before: Rate, after: Rate, *, level: float = 0.95) -> Difference | None:
    """Return the share of a rate that is gone; None where there was nothing to remove or nothing was judged.

    Args:
        before: rate of the arm that has the behaviour.
        after: rate of the arm in which some of it may be gone.
        level: nominal coverage.
    """
    first, second, shared = arms_in_order(after, before)
    if not first or not second or not sum(k for k, _ in second):
        return None
    sides = [(counts[0][None], counts[1][None]) for counts in (np.array(first).T, np.array(second).T)]
    estimates, limits = reduction_limits(sides[0], sides[1], shared)
    paired = shared == len(first) == len(second)
    unit = "answer" if len(first) == len(second) == 1 else "pair of training runs" if paired else "training run"
    over = "pairs of training runs" if paired else f"{unit}s"
    n = (
        round(sum(n for _, n in (*first, *second)))
        if unit == "answer"
        else shared
        if paired
        else len(first) + len(second)
    )
    interval = one_study(limits, f"ratio of two rates (MOVER), t over {over}", level)
    return Difference(float(estimates[0]), interval, n, unit)


def reduction_limits(
    after: tuple[Real[np.ndarray, "studies runs"], Real[np.ndarray, "studies runs"]],
    before: tuple[Real[np.ndarray, "studies others"], Real[np.ndarray, "studies others"]],
    shared: int,
) -> tuple[Float[np.ndarray, " studies"], Limits]:
    """Return the shares that are gone in many studies at once, and their limits by level; arguments as for
    `compare.difference_limits`."""
    sides = [side_limits(*counts) for counts in (after, before)]
    left, whole = (np.asarray((k / n).mean(axis=-1)) for k, n in (after, before))
    correlation = correlation_of(after, before, shared)

    # Where shares are skewed, few runs show a correlation of the common ones and miss the others: the lower ratio does
    # not rest on it, nor does the upper one at rates above a half, which are skewed downwards.
    without = np.minimum(correlation, 0.0)
    upwards = np.where(left > 0.5, without, correlation)

    def root(
        a: Float[np.ndarray, " studies"], b: Float[np.ndarray, " studies"], sign: int
    ) -> Float[np.ndarray, " studies"]:
        """Solve `|left - ratio * whole| = sqrt(a^2 + (ratio b)^2 - 2 correlation ratio a b)` on one side."""
        rho = upwards if sign > 0 else without
        square, mixed, rest = whole**2 - b**2, left * whole - rho * a * b, left**2 - a**2
        discriminant = np.sqrt(np.maximum(mixed**2 - square * rest, 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            # The two roots in the form that does not subtract nearly equal numbers.
            return (mixed + discriminant) / square if sign > 0 else rest / (mixed + discriminant)

    def limits(level: float) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
        (low, high), (whole_low, whole_high) = (np.asarray(side(level)) for side in sides)
        least = np.nan_to_num(root(np.maximum(left - low, 0.0), np.maximum(whole_high - whole, 0.0), -1), nan=0.0)
        most = np.nan_to_num(
            root(np.maximum(high - left, 0.0), np.maximum(whole - whole_low, 0.0), 1), nan=_MOST, posinf=_MOST
        )
        # A rate before that may be 0 leaves the ratio without an upper limit.
        most = np.where(whole_low > 0, np.clip(most, 0.0, _MOST), _MOST)
        return 1 - most, 1 - np.clip(least, 0.0, most)

    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - left / whole, limits
