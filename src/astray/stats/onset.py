"""Onset: the smallest dose at which a measure departs from its control, found by a fixed-sequence step-down test.

The doses are tested in a fixed order, the highest first, each against the control with the same runs (paired t); the
first that does not differ ends the test. So the probability of naming any dose that has no effect stays at the level of
one test, without a correction for their number. The named dose is an upper bound of the true onset: a smaller effect
below it may have gone unseen. It depends on how precisely a measure is read, so onsets of two measures are not
compared: that is `warning`.

Source: fixed-sequence step-down test for the minimum effective dose (Tamhane, Hochberg and Dunnett 1996, Biometrics
52:21).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from astray.errors import ConfigurationError, EmptyDataError, NonFiniteError
from astray.stats.intervals import check_level


@dataclass(frozen=True)
class Onset:
    """Smallest effective dose of a measure, with the change at every dose.

    Attributes:
        dose: the smallest dose in the sequence that differs; None where not even the highest does.
        changes: mean change from the control at each dose, in the order of the doses.
        low, high: interval of each change, over runs; NaN with a single run.
        n: number of runs.
    """

    dose: float | None
    changes: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: int


def onset(
    doses: Sequence[float], values: Sequence[Sequence[float]], control: Sequence[float], *, level: float = 0.95
) -> Onset:
    """Find the smallest dose from which a measure departs from its control.

    Args:
        doses: ascending.
        values: for each run, the measure at each dose.
        control: for each run, the measure of its control (the dose of nothing).
        level: nominal coverage of the intervals; a dose differs when its interval excludes 0, on the side of the
            change at the highest dose.

    Raises:
        EmptyDataError: no dose or no run.
        ConfigurationError: doses do not ascend, or the numbers of values do not fit.
        NonFiniteError: a value is NaN or infinite.

    Examples:
        >>> onset([0.1, 0.5], [[0.0, 0.4], [0.1, 0.5], [0.0, 0.6]], [0.0, 0.0, 0.1]).dose
        0.5
    """
    if not doses or not values:
        raise EmptyDataError("An onset needs at least one dose and one run.")
    if list(doses) != sorted(set(doses)):
        raise ConfigurationError(f"The doses {list(doses)} do not ascend. Give each dose once, the smallest first.")
    if len(values) != len(control) or any(len(run) != len(doses) for run in values):
        raise ConfigurationError(
            f"{len(values)} runs need {len(values)} values of the control and {len(doses)} values each, one a dose."
        )
    check_level(level)
    if not np.isfinite([*control, *(value for run in values for value in run)]).all():
        raise NonFiniteError(
            "A value of the measure is NaN or infinite: find where it was computed, or leave its run out and say so."
        )
    changes = np.asarray(values, dtype=np.float64) - np.asarray(control, dtype=np.float64)[:, None]
    low, high = _limits(changes, level)
    return Onset(
        dose=_smallest(doses, changes, low, high),
        changes=tuple(changes.mean(axis=0).tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        n=len(changes),
    )


def _limits(
    changes: Float[np.ndarray, "runs doses"], level: float
) -> tuple[Float[np.ndarray, "doses"], Float[np.ndarray, "doses"]]:
    """Return the t interval of the mean change at each dose; NaN with a single run."""
    from scipy.special import stdtrit

    runs = len(changes)
    # One run has no spread: NaN compares as False, so no dose differs.
    if runs < 2:
        nothing = np.full(changes.shape[1], np.nan)
        return nothing, nothing
    half = -stdtrit(runs - 1, (1 - level) / 2) * changes.std(axis=0, ddof=1) / np.sqrt(runs)
    mean = changes.mean(axis=0)
    return mean - half, mean + half


def _smallest(
    doses: Sequence[float],
    changes: Float[np.ndarray, "runs doses"],
    low: Float[np.ndarray, "doses"],
    high: Float[np.ndarray, "doses"],
) -> float | None:
    # One direction for all doses, or a significant fall could continue a sequence of rises.
    rises = bool(changes[:, -1].mean() > 0)
    differs = (low > 0) if rises else (high < 0)
    smallest = None
    for dose, effective in zip(reversed(doses), reversed(differs.tolist()), strict=True):
        if not effective:
            break  # testing below the first dose without an effect would cost the level of the sequence
        smallest = dose
    return smallest
