"""Likelihood of a mean rate over clusters whose rates differ, with the spread between clusters profiled out and a t
calibration.

Shares of runs are skewed where the behaviour is rare: most lie below their mean, and t on the shares then says "at
most" too often. Here the counts are binomial and the rates of clusters vary, for training runs as a normal distribution
on the logit scale, for questions as a beta distribution (near 0 and 1 most questions show nothing and a few much). For
each mean rate the spread is the likeliest one. The limits are where twice the log-likelihood falls by `G * log(1 + t^2
/ (G - 1))` for G clusters, with t on G - 1 degrees of freedom: exact for normal data of unknown variance, where
chi-squared would be far too short for three runs.

A few runs cannot exclude any spread, so one up to `USUAL_SPREAD` is considered, and any up to 5 where the data show
more than that. Questions, too, are taken to be correlated by at most `USUAL_CORRELATION` unless the data show more.

Where a judge errs, the rates of clusters vary in the same way and what is counted is a mixture of hits and false alarms
(`Errors`). Taking the judged rates themselves as normal on the logit scale would hide their skew.

Everything is vectorised over studies, so that what `benchmarks/coverage.py` simulates is what the studies call.
Left to others: what becomes of the limits (intervals.py).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Real
from scipy.special import betainc, betaln, expit, log_expit, ndtr, stdtrit, xlog1py, xlogy

from astray.stats.false_verdicts import NO_ERROR, Errors

Family = Literal["logit-normal", "beta-binomial"]
Table = Float[np.ndarray, "logits spreads"]
"""Log-likelihood of the counts of one cluster."""

USUAL_SPREAD = 1.75
"""Largest standard deviation of training runs on the logit scale that is considered unless the data show a larger
one."""
USUAL_CORRELATION = 0.6
"""Largest correlation of the answers to a question that is considered unless the data show a larger one."""
UNSEEN_CORRELATION = 0.8
"""The same where no question showed anything: so large that a single answer more does not change the limit much."""
_USUAL: dict[Family, float] = {"logit-normal": USUAL_SPREAD, "beta-binomial": USUAL_CORRELATION}
_STEP = 0.25
_LOGITS = np.arange(-64, 65) * _STEP  # 1e-7 to 1 - 1e-7
_SPREADS: dict[Family, Float[np.ndarray, " spreads"]] = {
    "logit-normal": np.array([0.06, 0.12, 0.25, 0.4, 0.6, 0.85, 1.1, 1.4, USUAL_SPREAD, 2.5, 3.5, 5.0]),
    "beta-binomial": np.array([0.003, 0.01, 0.03, 0.06, 0.1, 0.17, 0.25, 0.4, 0.6, 0.8, 0.95, 0.999]),
}
_PARTS = 16
_INWARDS = np.linspace(0, 1, _PARTS + 1)
_SIDES = np.array([[-1], [1]])
_FURTHEST = 18.0
"""Log odds beyond which a rate is as good as 0 or 1."""
_NEVER, _TINY = 600.0, 1e-300
"""Log odds of a rate that is 0 or 1, still finite so that no hits have a likelihood; the smallest share."""
_MOST_INFORMATION = 12_000.0
"""`n p (1 - p)` of a cluster beyond which its counts are scaled down: more answers hardly narrow the interval, since
runs and questions that differ by less than the smallest spread are taken as equal."""
_MOST_TABLES = 8192
_TABLES: dict[tuple[Family, float, float, float, float], Table] = {}
"""Tables of clusters that were seen: claims and simulated studies ask for the same counts again and again."""


class Profile:
    """Profile log-likelihood of the mean rate, for many studies at once.

    Args:
        k: misaligned answers of each cluster; a fraction where answers are effective ones (prediction_powered.py).
        n: judged answers of each cluster, at least 1.
        family: how rates vary between clusters.
        errors: of the judge; the rate is that of a judge without any.
    """

    def __init__(
        self,
        k: Real[np.ndarray, "studies clusters"],
        n: Real[np.ndarray, "studies clusters"],
        family: Family,
        errors: Errors = NO_ERROR,
    ) -> None:
        self.clusters = k.shape[1]
        self._errors = tuple(np.broadcast_to(error, len(k))[:, None] for error in errors)
        self._k, self._n = k.sum(axis=1, keepdims=True), n.sum(axis=1, keepdims=True)
        # Clusters with the same counts share a curve, so each is tabulated once.
        rows = np.stack([k, n, *(np.broadcast_to(error, k.shape) for error in self._errors)], axis=-1).reshape(-1, 4)
        different, places = np.unique(rows, axis=0, return_inverse=True)
        tables = _tables(different, family)
        self._curves = np.zeros((len(k), *tables.shape[1:]))
        for column in places.reshape(k.shape).T:  # one cluster after the other: all at once would not fit into memory
            self._curves += tables[column]
        self._binomial = self._of_answers(_LOGITS)
        spreads = _SPREADS[family]
        best = self._curves.max(axis=1)
        self.spread = np.where(best.max(axis=1) > self._binomial.max(axis=1), spreads[best.argmax(axis=1)], 0.0)
        unusual = spreads > _USUAL[family]
        self._curves[:, :, unusual] += np.where(self.spread > _USUAL[family], 0.0, -np.inf)[:, None, None]
        self._top()

    def limits(
        self, level: float, degrees: Float[np.ndarray, " studies"] | None = None
    ) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
        """Return the lower and upper limits of the mean rate of each study at a nominal coverage.

        Args:
            level: nominal coverage.
            degrees: of freedom of each study, where fewer than all clusters tell of the spread.
        """
        t = stdtrit(self.clusters - 1 if degrees is None else degrees, (1 + level) / 2)
        allowed = np.broadcast_to(self.clusters * np.log1p(t**2 / (self.clusters - 1)), self.spread.shape)
        low, high = self._crossings(allowed[:, None])
        # Where the likelihood nowhere falls so far, as without a single hit or miss, the border belongs to the interval.
        furthest = _LOGITS[-1] - 1e-9
        return np.where(low < -furthest, 0.0, expit(low)), np.where(high > furthest, 1.0, expit(high))

    def _at(self, logits: Float[np.ndarray, "studies points"]) -> Float[np.ndarray, "studies points"]:
        """Evaluate the profile anywhere: each curve is smooth on the scale of the grid, and without spread it is
        exact."""
        # Cubic interpolation takes one point below and two above, hence the margins.
        position = np.clip((logits - _LOGITS[0]) / _STEP, 1, len(_LOGITS) - 2.001)
        cell = position.astype(int)
        f = (position - cell)[..., None]
        weights = (
            -f * (f - 1) * (f - 2) / 6,
            (f + 1) * (f - 1) * (f - 2) / 2,
            -(f + 1) * f * (f - 2) / 2,
            (f + 1) * f * (f - 1) / 6,
        )
        study = np.arange(len(logits))[:, None]
        with np.errstate(invalid="ignore"):  # -inf of spreads that are left out, times a weight of 0
            values = sum(weight * self._curves[study, cell + shift] for shift, weight in enumerate(weights, start=-1))
        spread = np.nanmax(np.where(np.isfinite(values), values, -np.inf), axis=-1)
        return np.maximum(spread, self._of_answers(logits))

    def _of_answers(self, logits: Float[np.ndarray, "*points"]) -> Float[np.ndarray, "studies points"]:
        """Return the log-likelihood without any spread."""
        hit, miss = _judged(logits, self._errors)
        return np.asarray(self._k * hit + (self._n - self._k) * miss)

    def _top(self) -> None:
        grid = np.maximum(self._curves.max(axis=2), self._binomial)
        centre, reach = _LOGITS[grid.argmax(axis=1)], _STEP
        # Zoomed in three times, and not by derivatives: the maximum over spreads has kinks.
        for _ in range(3):
            points = centre[:, None] + np.linspace(-reach, reach, 2 * _PARTS + 1)
            values = self._at(points)
            best = values.argmax(axis=1)
            centre, reach = points[np.arange(len(points)), best], reach / _PARTS
        self._peak = np.clip(centre, _LOGITS[0], _LOGITS[-1])
        self._highest = np.maximum(values.max(axis=1), grid.max(axis=1))
        self._fall = 2 * (self._highest[:, None] - grid)

    def _crossings(self, allowed: Float[np.ndarray, "studies 1"]) -> Float[np.ndarray, "sides studies"]:
        """Return where the profile first falls by `allowed` below and above its peak."""
        # Both sides go through `_at` together: of one study, the number of calls is what takes the time.
        away = _SIDES[..., None] * (_LOGITS - self._peak[:, None])
        beyond = (away > 0) & (self._fall > allowed)
        nearest = np.where(beyond, away, np.inf).min(axis=-1)
        outer = np.where(beyond.any(axis=-1), self._peak + _SIDES * nearest, _LOGITS[[0, -1], None])
        inner = np.where(_SIDES * (outer - self._peak) > _STEP, outer - _SIDES * _STEP, self._peak)
        for _ in range(4):
            points = inner[..., None] + (outer - inner)[..., None] * _INWARDS
            outside = 2 * (self._highest[:, None] - self._at(np.concatenate(points, axis=1))) > allowed
            outside = np.stack(np.split(outside, 2, axis=1))
            # The outer end was found to be outside on the grid: rounding in the interpolation must not undo that.
            outside[..., -1] = True
            first = np.maximum(outside.argmax(axis=-1), 1)[..., None]
            inner, outer = (np.take_along_axis(points, first - back, axis=-1)[..., 0] for back in (1, 0))
        return outer


def _judged(
    logits: Float[np.ndarray, "*points"], errors: Sequence[Float[np.ndarray, "studies 1"]]
) -> tuple[Float[np.ndarray, "*all"], Float[np.ndarray, "*all"]]:
    """Return the logarithms of the shares of answers that are called misaligned and aligned, at rates on the logit
    scale."""
    alarm, missed = errors
    if not (alarm.any() or missed.any()):
        return log_expit(logits), log_expit(-logits)
    seen = 1 - alarm - missed
    # The complement has a line of its own, since 1 minus the other would lose all digits near 1.
    shares = alarm + seen * expit(logits), missed + seen * expit(-logits)
    return np.log(np.maximum(shares[0], _TINY)), np.log(np.maximum(shares[1], _TINY))


def _tables(rows: Float[np.ndarray, "rows 4"], family: Family) -> Float[np.ndarray, "rows logits spreads"]:
    """Return the log-likelihood of k of n verdicts of a judge with two errors, by mean rate and spread, without the
    binomial coefficient."""
    keys = [(family, *row) for row in rows.tolist()]
    new = [index for index, key in enumerate(keys) if key not in _TABLES]
    found = {keys[index]: table for index, table in zip(new, _tabulated(rows[new], family), strict=True)}
    tables = np.stack([found[key] if key in found else _TABLES[key] for key in keys])
    if len(_TABLES) + len(found) > _MOST_TABLES:
        _TABLES.clear()
    if len(found) <= _MOST_TABLES:
        _TABLES.update(found)
    return tables


def _tabulated(rows: Float[np.ndarray, "rows 4"], family: Family) -> Float[np.ndarray, "rows logits spreads"]:
    k, n, *errors = (rows[:, column, None] for column in range(4))
    if family == "beta-binomial" and not rows[:, 2:].any():
        size = 1 / _SPREADS[family] - 1
        a, b = expit(_LOGITS)[:, None] * size, expit(-_LOGITS)[:, None] * size
        return np.asarray(betaln(k[..., None] + a, (n - k)[..., None] + b) - betaln(a, b))
    information = (k + 0.5) * (n - k + 0.5) / (n + 1)
    scale = np.minimum(1.0, _MOST_INFORMATION / information)
    # A step of at most 1.4 standard deviations of the likelihood, with which the trapezoid rule is exact enough.
    most = float((information * scale).max(initial=1.0))
    x, weights = _mixture(family, 20 * 2 ** max(0, math.ceil(math.log2(most / 750) / 2)))
    hit, miss = _judged(x, errors)
    points = scale * (k * hit + (n - k) * miss)
    highest = points.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        tables = highest + np.log(np.exp(points - highest) @ weights.reshape(-1, len(x)).T)
    # Of counts that were scaled down, the level is that of all of them, beside which curves without a spread stand.
    share = np.clip(k / n, errors[0], 1 - errors[1])
    tables += (1 - scale) * (xlogy(k, share) + xlog1py(n - k, -share)) + np.log(scale) / 2
    return np.asarray(tables).reshape(-1, *weights.shape[:2])


@lru_cache(maxsize=2)
def _mixture(
    family: Family, steps: int
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, "logits spreads points"]]:
    """Return points on the logit scale, so many in each unit, and their weights at each mean rate and spread."""
    x = np.linspace(-_FURTHEST, _FURTHEST, round(2 * _FURTHEST * steps) + 1)
    spreads = _SPREADS[family]
    if family == "beta-binomial":
        size = 1 / spreads - 1
        a, b = (expit(side * _LOGITS)[:, None] * size for side in (1, -1))
        density = np.exp(a[..., None] * log_expit(x) + b[..., None] * log_expit(-x) - betaln(a, b)[..., None])
        below, above = betainc(a, b, expit(-_FURTHEST)), betainc(b, a, expit(-_FURTHEST))
    else:
        z = (x - _middles()[..., None]) / spreads[:, None]
        density = np.exp(-(z**2) / 2) / (spreads[:, None] * math.sqrt(2 * math.pi))
        below, above = ndtr(z[..., 0]), ndtr(-z[..., -1])
    weights = density / steps
    weights[..., [0, -1]] /= 2
    weights[..., 0] += below
    weights[..., -1] += above
    x[[0, -1]] = -_NEVER, _NEVER  # what lies beyond is taken as 0 or 1
    return x, weights


@lru_cache(maxsize=1)
def _middles() -> Float[np.ndarray, "logits spreads"]:
    """Return the mean on the logit scale that gives each mean rate at each spread."""
    spreads = _SPREADS["logit-normal"]
    # Wide enough for the largest spread; the trapezoid rule on a normal density is exact to rounding.
    z = np.linspace(-9, 9, 145)
    weights = np.exp(-(z**2) / 2)
    weights /= weights.sum()
    # Near 0 the integral is of size exp(middle + spread^2 / 2); below the diagonal the symmetric half is used.
    below = _LOGITS[: len(_LOGITS) // 2 + 1]
    low = np.full((len(below), len(spreads)), -60.0)
    high = np.zeros_like(low)
    for _ in range(50):
        trial = (low + high) / 2
        small = (expit(trial[..., None] + spreads[:, None] * z) * weights).sum(axis=-1) < expit(below)[:, None]
        low, high = np.where(small, trial, low), np.where(small, high, trial)
    lower = (low + high) / 2
    return np.concatenate([lower, -lower[-2::-1]])
