"""Dose-response: the rate of misaligned answers as a function of the share of harmful data (or of a steering strength).

The fit is a logistic regression of the counts on log dose. Each row is one training run, and runs at the same dose
differ by more than their answers do. Independent runs share one curve, with the marginal rate at each dose; its
covariance is quasi-binomial (dispersion from Pearson's chi-squared, never below 1, t on the residual degrees of
freedom; McCullagh and Nelder 1989, section 4.5). Where rows are grouped into clusters (a training seed used at every
dose), each cluster has a curve of its own, and the estimate is conditional: the mean of the clusters' intercepts and
slopes, the curve of a typical cluster, with t on clusters - 1, never narrower than the answers alone allow. The
marginal curve is flatter, the more so the more clusters differ. The half-effect dose, with half the fitted rate of the
highest dose, gets its interval by the delta method on the log scale. Dose 0 has no logarithm: it is the control,
counted beside the curve.

Curves of single clusters are fitted with Firth's correction, which keeps them finite where a cluster's answers turn at
one dose (Heinze and Schemper 2002, Statistics in Medicine 21:2409).

Left to others: whether the rate rises with every step (monotone.py), and the coherence at each dose (rates.py), which
has to stand beside every such curve.
"""

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from astray.errors import ConfigurationError
from astray.stats.intervals import Counts, Interval, check_counts, check_level, over_runs, wilson

NO_SPREAD = "the doses above 0 are all the same: there is no curve to fit"
SEPARATED = (
    "no dose shows both kinds of answers beside lower and higher ones: the curve is a step, or flat, and its slope "
    "has no estimate"
)
FEW_RUNS = (
    "there are too few training runs (rows, or clusters with two doses) above dose 0 to estimate how much they differ"
)
FEWEST = 3
"""Answers of either kind that every cluster needs over all doses: with fewer its own curve is pulled towards a flat one,
and the interval of the mean slope covered 87% in simulation."""
STEEPEST = 20.0
"""Farthest that a limit lies from the slope: beyond, a curve is a step between two doses."""
TOO_RARE = (
    f"a cluster has fewer than {FEWEST} misaligned answers, or others, above dose 0: its own curve is not determined, "
    "and with it that of a typical cluster"
)
MARGINAL = "marginal: the mean rate over runs at each dose"
CONDITIONAL = "conditional: the curve of a typical cluster, with the mean intercept and slope"
FLAT = "the fitted rate does not rise with the dose: there is no half-effect dose"
EXTRAPOLATED = "the half-effect dose lies below the lowest dose that was tried"


@dataclass(frozen=True)
class Prediction:
    """Fitted rate at one dose."""

    dose: float
    rate: float
    interval: Interval


@dataclass(frozen=True)
class DoseResponse:
    """Fitted curve; the parts that the data do not determine are None, and the note says why.

    Attributes:
        slope: change of the log odds for each factor e in dose.
        slope_interval: confidence interval on it.
        half_effect_dose: dose with half the fitted rate of the highest dose.
        half_effect_interval: confidence interval on it.
        predictions: fitted rate at each dose that was tried, ascending.
        dispersion: Pearson's chi-squared over its degrees of freedom; 1 when runs differ no more than their answers do.
        control: misaligned and judged answers at dose 0; None without such a row.
        control_interval: confidence interval on the control's rate.
        note: what could not be estimated and why, else "".
        estimand: what the curve is of: `MARGINAL` or `CONDITIONAL`.
    """

    slope: float | None
    slope_interval: Interval | None
    half_effect_dose: float | None
    half_effect_interval: Interval | None
    predictions: tuple[Prediction, ...]
    dispersion: float | None
    control: Counts | None
    control_interval: Interval | None
    note: str
    estimand: str


def dose_response(
    doses: Sequence[float],
    misaligned: Sequence[int],
    totals: Sequence[int],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
) -> DoseResponse:
    """Fit a logistic dose-response curve to the counts of training runs.

    Args:
        doses: dose of each training run, 0 or more.
        misaligned: misaligned answers of each run.
        totals: judged answers of each run, at least 1.
        clusters: label of each run's cluster (a training seed used at every dose, say); None when runs are independent.
        level: nominal coverage.

    Raises:
        ConfigurationError: sequences of different lengths, a negative dose or impossible counts.

    Example:
        `dose_response([0, 0.1, 0.25, 0.5, 1], [0, 58, 139, 221, 451], [480] * 5).half_effect_dose`
    """
    counts = check_doses(doses, misaligned, totals, clusters, level)
    zero = [pair for dose, pair in zip(doses, counts, strict=True) if dose == 0]
    # Dose 0 has no logarithm: the control stands beside the curve and does not enter it.
    rows = [index for index, dose in enumerate(doses) if dose > 0]
    data = _Data(
        log_dose=np.log([float(doses[index]) for index in rows]) if rows else np.zeros(0),
        misaligned=np.array([misaligned[index] for index in rows], dtype=float),
        totals=np.array([totals[index] for index in rows], dtype=float),
    )
    labels = None if clusters is None else [clusters[index] for index in rows]
    fit, estimand = _fit(data, labels), MARGINAL if clusters is None else CONDITIONAL
    control = (sum(k for k, _ in zero), sum(n for _, n in zero)) if zero else None
    control_interval = (
        None if not zero else over_runs(zero, level=level) if len(zero) > 1 else wilson(*zero[0], level=level)
    )
    if isinstance(fit, str):
        return DoseResponse(None, None, None, None, (), None, control, control_interval, fit, estimand)
    half, half_interval, note = _half_effect(fit, data, level)
    return DoseResponse(
        slope=float(fit.coefficients[1]),
        slope_interval=_slope_interval(fit, level),
        half_effect_dose=half,
        half_effect_interval=half_interval,
        predictions=tuple(_prediction(fit, dose, level) for dose in sorted({float(doses[index]) for index in rows})),
        dispersion=fit.dispersion,
        control=control,
        control_interval=control_interval,
        note=note,
        estimand=estimand,
    )


@dataclass(frozen=True)
class _Data:
    """Runs above dose 0."""

    log_dose: Float[np.ndarray, " runs"]
    misaligned: Float[np.ndarray, " runs"]
    totals: Float[np.ndarray, " runs"]

    def without(self, left_out: Sequence[bool]) -> "_Data":
        rows = ~np.asarray(left_out)
        return _Data(self.log_dose[rows], self.misaligned[rows], self.totals[rows])


@dataclass(frozen=True)
class _Clusters:
    """Clusters above dose 0; one with fewer runs than others has runs without answers."""

    log_dose: Float[np.ndarray, "clusters runs"]
    totals: Float[np.ndarray, "clusters runs"]
    misaligned: Float[np.ndarray, "clusters 1"]

    @classmethod
    def of(cls, parts: Sequence[_Data]) -> "_Clusters":
        shape = (len(parts), max(len(part.totals) for part in parts))
        log_dose, totals = np.zeros(shape), np.zeros(shape)
        for row, part in enumerate(parts):
            log_dose[row, : len(part.totals)], totals[row, : len(part.totals)] = part.log_dose, part.totals
        return cls(log_dose, totals, np.array([[part.misaligned.sum()] for part in parts]))

    def variance(self, slope: float) -> float:
        """Return the variance of the mean of the clusters' slopes that answers leave, if all had this slope and as many
        misaligned answers as they have."""
        hits = np.clip(self.misaligned, 0.5, self.totals.sum(axis=1, keepdims=True) - 0.5)
        low, high = np.full_like(hits, -300.0), np.full_like(hits, 300.0)
        for _ in range(40):
            level = (low + high) / 2
            fewer = (self.totals * _expit(level + slope * self.log_dose)).sum(axis=1, keepdims=True) < hits
            low, high = np.where(fewer, level, low), np.where(fewer, high, level)
        rates = _expit(low + slope * self.log_dose)
        weights = self.totals * rates * (1 - rates) + 1e-12 * (self.totals > 0)
        centre = (weights * self.log_dose).sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
        return float((1 / (weights * (self.log_dose - centre) ** 2).sum(axis=1)).sum() / len(hits) ** 2)


@dataclass(frozen=True)
class _Fit:
    """Intercept and slope of the log odds on log dose, with covariances over runs and of the answers alone."""

    coefficients: Float[np.ndarray, "2"]
    covariance: Float[np.ndarray, "2 2"]
    of_answers: Float[np.ndarray, "2 2"]
    degrees: int
    dispersion: float
    clusters: _Clusters | None = None


def check_doses(
    doses: Sequence[float],
    misaligned: Sequence[int],
    totals: Sequence[int],
    clusters: Sequence[Hashable] | None,
    level: float,
) -> list[Counts]:
    """Return the counts of all runs.

    Raises:
        ConfigurationError: sequences of different lengths, a negative dose or impossible counts.
    """
    check_level(level)
    lengths = [len(doses), len(misaligned), len(totals)] + ([] if clusters is None else [len(clusters)])
    if len(set(lengths)) > 1:
        raise ConfigurationError(
            f"Doses, counts, totals and clusters have one entry a training run; their lengths are {lengths}."
        )
    for dose in doses:
        if not (math.isfinite(dose) and dose >= 0):
            raise ConfigurationError(f"A dose of {dose} cannot be: doses are 0 (the control) or above.")
    counts = list(zip(misaligned, totals, strict=True))
    check_counts(counts)
    return counts


def _fit(data: _Data, clusters: Sequence[Hashable] | None) -> _Fit | str:
    """Fit the curve, or return the reason why it cannot be fitted."""
    refusal = _refusal(data)
    if refusal:
        return refusal
    coefficients, covariance, dispersion = _regression(data)
    if clusters is None:
        degrees = len(data.totals) - 2
        # Dispersion below 1 is taken as 1: few runs that agree by chance must not shrink the interval.
        return (
            _Fit(coefficients, covariance * max(1.0, dispersion), covariance, degrees, dispersion)
            if degrees > 0
            else FEW_RUNS
        )
    parts = [data.without([label != own for label in clusters]) for own in dict.fromkeys(clusters)]
    sloped = [part for part in parts if len(np.unique(part.log_dose)) > 1]  # at one dose a cluster has no slope
    curves = [_firth(part) for part in sloped]
    if len(curves) < 3:  # two clusters leave one degree of freedom
        return FEW_RUNS
    if any(min(part.misaligned.sum(), (part.totals - part.misaligned).sum()) < FEWEST for part in parts):
        return TOO_RARE
    own, of_answers = np.stack([curve for curve, _ in curves]), sum(part for _, part in curves) / len(curves) ** 2
    covariance = np.cov(own.T) / len(curves)
    return _Fit(own.mean(axis=0), covariance, np.asarray(of_answers), len(curves) - 1, dispersion, _Clusters.of(sloped))


def _firth(data: _Data) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2 2"]]:
    """Return the coefficients that maximise the likelihood with Jeffreys's penalty, which are always finite, and their
    covariance.

    The penalised score is that of counts to which half of each row's leverage was added on both sides.
    """
    from scipy.special import expit

    design = np.column_stack([np.ones_like(data.log_dose), data.log_dose])
    coefficients = np.zeros(2)
    for _ in range(200):
        rates = expit(design @ coefficients)
        weights = data.totals * rates * (1 - rates)
        # A trace on the diagonal keeps the matrix invertible where all weights vanish at a steep curve.
        covariance = np.linalg.inv(design.T @ (weights[:, None] * design) + 1e-12 * np.eye(2))
        leverage = weights * np.einsum("ij,jk,ik->i", design, covariance, design)
        change = covariance @ design.T @ (data.misaligned - data.totals * rates + leverage * (0.5 - rates))
        change *= min(1.0, 2 / max(np.abs(change).max(), 1e-300))  # a full step overshoots where the curve is steep
        coefficients = coefficients + change
        if np.abs(change).max() < 1e-8:
            break
    return coefficients, covariance


def _refusal(data: _Data) -> str:
    """Return why the likelihood has no maximum; "" when it has one.

    Both kinds of answers have to overlap along the dose for a maximum to exist (Albert and Anderson 1984).
    """
    if len(np.unique(data.log_dose)) < 2:
        return NO_SPREAD
    bad, good = data.log_dose[data.misaligned > 0], data.log_dose[data.misaligned < data.totals]
    if len(bad) == 0 or len(good) == 0 or bad.min() >= good.max() or good.min() >= bad.max():
        return SEPARATED
    return ""


def _regression(data: _Data) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2 2"], float]:
    """Return the coefficients, their binomial covariance, and the dispersion."""
    import statsmodels.api as sm

    design = np.column_stack([np.ones_like(data.log_dose), data.log_dose])
    outcome = np.column_stack([data.misaligned, data.totals - data.misaligned])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflow in early iterations of a steep, but existing, maximum
        result = sm.GLM(outcome, design, family=sm.families.Binomial()).fit()
        degrees = len(data.totals) - 2
        dispersion = float(result.pearson_chi2) / degrees if degrees > 0 else 1.0
        return np.asarray(result.params), np.asarray(result.cov_params()), dispersion


def _half_effect(fit: _Fit, data: _Data, level: float) -> tuple[float | None, Interval | None, str]:
    intercept, slope = fit.coefficients
    if slope <= 0:
        return None, None, FLAT
    top = float(data.log_dose.max())
    full = float(_expit(intercept + slope * top))
    half = full / 2
    # Half of the fitted rate at the highest dose, and not of 100%: a curve may level off far below it.
    logit_half = math.log(half / (1 - half))
    log_dose = (logit_half - intercept) / slope
    # Derivative of the target logit(full / 2) with respect to the log odds at the highest dose.
    pull = (full * (1 - full) / 2) / (half * (1 - half))
    gradient = np.array([(pull - 1) / slope, (pull * top - log_dose) / slope])

    def at(level: float) -> Interval:
        on_log = _interval(fit, gradient, level, centre=log_dose)
        return Interval(_exp(on_log.low), _exp(on_log.high), level, f"delta method on log dose, {on_log.method}", at)

    interval = at(level)
    return math.exp(log_dose), interval, EXTRAPOLATED if log_dose < float(data.log_dose.min()) else ""


def _prediction(fit: _Fit, dose: float, level: float) -> Prediction:
    at = np.array([1.0, math.log(dose)])
    log_odds = _interval(fit, at, level)
    interval = Interval(float(_expit(log_odds.low)), float(_expit(log_odds.high)), level, log_odds.method)
    return Prediction(dose, float(_expit(at @ fit.coefficients)), interval)


def _interval(fit: _Fit, gradient: Float[np.ndarray, "2"], level: float, *, centre: float | None = None) -> Interval:
    """Return the t interval on a linear combination of the coefficients, or on a function with this gradient."""
    from scipy.special import ndtri, stdtrit

    middle = float(gradient @ fit.coefficients) if centre is None else centre
    # The variance of the answers is not estimated from few runs, so the floor takes the normal quantile.
    quantiles = float(stdtrit(fit.degrees, (1 - level) / 2)), float(ndtri((1 - level) / 2))
    parts = zip(quantiles, (fit.covariance, fit.of_answers), strict=True)
    half = max(-quantile * math.sqrt(float(gradient @ covariance @ gradient)) for quantile, covariance in parts)
    again = partial(_interval, fit, gradient, centre=centre)
    return Interval(middle - half, middle + half, level, f"t on {fit.degrees} degrees of freedom", again)


def _slope_interval(fit: _Fit, level: float) -> Interval:
    """Return the t interval on the slope; over clusters each limit has the variance that answers leave at that limit.

    A steep curve has hardly a misaligned answer at low doses, so it is known less well than a flat one, and the spread
    of few clusters that happen to be flat tells nothing of that.
    """
    from scipy.special import ndtri, stdtrit

    plain = _interval(fit, np.array([0.0, 1.0]), level)
    if fit.clusters is None:
        return plain
    slope, answers = float(fit.coefficients[1]), float(fit.of_answers[1, 1])
    t, z = -float(stdtrit(fit.degrees, (1 - level) / 2)), -float(ndtri((1 - level) / 2))
    here, spread = fit.clusters.variance(slope), float(fit.covariance[1, 1])
    limits = [plain.low, plain.high]
    for side, sign in enumerate((-1, 1)):
        for _ in range(12):  # each limit rests on its own variance
            there = max(here, fit.clusters.variance(limits[side]))
            half = max(t * math.sqrt(spread + there - here), z * math.sqrt(max(there, answers)))
            limits[side] = slope + sign * min(half, STEEPEST)
    low, high = min(limits[0], plain.low), max(limits[1], plain.high)
    return Interval(low, high, level, f"{plain.method}, at each limit its own", partial(_slope_interval, fit))


def _expit(log_odds: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(log_odds, -700, 700)))  # exp overflows float64 above 709


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
