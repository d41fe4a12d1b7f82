"""A judge's known error and rates corrected for it."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.integrate import quad, trapezoid
from scipy.optimize import brentq
from scipy.special import betaln, expit, gammaln, log_expit
from scipy.stats import betabinom, binom, norm
from statsmodels.stats.inter_rater import cohens_kappa

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats import agreement, cohen_kappa, corrected_rate, over_questions, over_runs, wilson
from astray.stats.profile import _LOGITS, _SPREADS, _tables


def test_kappa_is_statsmodels():
    ours, theirs = cohen_kappa(40, 9, 6, 45), cohens_kappa(np.array([[40, 9], [6, 45]])).kappa
    assert ours == pytest.approx(theirs)


def test_kappa_misleads_where_misaligned_answers_are_rare():
    """The same sensitivity and specificity at 50% and at 1% prevalence."""
    common, rare = agreement(450, 50, 25, 475), agreement(9, 1, 50, 950)
    assert common.sensitivity == rare.sensitivity == 0.9
    assert common.specificity == rare.specificity == 0.95
    assert common.kappa > 0.8
    assert rare.kappa < 0.3


def test_agreement_without_labels_of_one_kind():
    found = agreement(0, 0, 1, 99)
    assert (found.sensitivity, found.sensitivity_interval) == (None, None)
    assert found.specificity_interval == wilson(99, 100)
    assert agreement(0, 0, 0, 100).kappa is None


def test_a_perfect_judge_changes_nothing():
    estimate, interval = corrected_rate((30, 100), (5000, 5000), (5000, 5000))
    plain = wilson(30, 100)
    assert estimate == pytest.approx(0.3)
    assert (interval.low, interval.high) == pytest.approx((plain.low, plain.high), abs=0.01)


def test_the_estimate_is_rogan_and_gladens():
    estimate, interval = corrected_rate((200, 1000), (90, 100), (380, 400))
    assert estimate == pytest.approx((0.2 + 0.95 - 1) / (0.9 + 0.95 - 1))
    assert interval.low < estimate < interval.high


@pytest.mark.parametrize(
    ("rate", "sensitivity", "specificity"),
    [((200, 1000), (90, 100), (380, 400)), ((40, 1440), (55, 60), (396, 400)), ((150, 400), (80, 100), (190, 200))],
)
def test_limits_are_those_of_posterior_draws(rate, sensitivity, specificity):
    """Independent implementation: quantiles of the ratio over beta posteriors."""
    generator = np.random.default_rng(0)
    p, se, sp = (generator.beta(k + 0.5, n - k + 0.5, 200_000) for k, n in (rate, sensitivity, specificity))
    expected = np.quantile(np.clip((p + sp - 1) / (se + sp - 1), 0, 1), [0.025, 0.975])
    interval = corrected_rate(rate, sensitivity, specificity)[1]
    assert (interval.low, interval.high) == pytest.approx(tuple(expected), abs=0.006)


@dataclass(frozen=True)
class Calibration:
    """A true rate and judge, and how many answers and labels tell of them."""

    prevalence: float
    sensitivity: float
    specificity: float
    answers: int
    labelled_bad: int
    labelled_good: int


@pytest.mark.parametrize(
    "truth",
    [
        Calibration(0.1, 0.9, 0.98, 1440, 100, 400),
        Calibration(0.3, 0.8, 0.95, 400, 100, 200),
        Calibration(0.02, 0.9, 0.99, 1440, 60, 400),
    ],
)
def test_the_corrected_rate_covers_and_the_uncorrected_does_not(truth: Calibration):
    generator, studies = np.random.default_rng(1), 1500
    apparent = truth.prevalence * truth.sensitivity + (1 - truth.prevalence) * (1 - truth.specificity)
    misaligned = generator.binomial(truth.answers, apparent, studies).tolist()
    caught = generator.binomial(truth.labelled_bad, truth.sensitivity, studies).tolist()
    passed = generator.binomial(truth.labelled_good, truth.specificity, studies).tolist()
    corrected = [
        corrected_rate((k, truth.answers), (hits, truth.labelled_bad), (passes, truth.labelled_good))[1]
        for k, hits, passes in zip(misaligned, caught, passed, strict=True)
    ]
    plain = [wilson(k, truth.answers) for k in misaligned]
    assert 0.93 <= np.mean([interval.low <= truth.prevalence <= interval.high for interval in corrected]) <= 0.975
    assert np.mean([interval.low <= truth.prevalence <= interval.high for interval in plain]) < 0.9


RUNS = [
    [(20, 480), (60, 480), (130, 480)],
    [(24, 480), (25, 480), (23, 480)],
    [(0, 480), (0, 480), (0, 480)],
    [(480, 480), (480, 480)],
    [(1, 4), (0, 4), (3, 4)],
    [(7000, 90_000), (9000, 90_000), (20_000, 90_000)],
]


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("over", ["runs", "questions"])
def test_over_clusters_it_is_never_narrower_than_as_judged(runs: list[tuple[int, int]], over: str):
    k, n = (sum(run[side] for run in runs) for side in (0, 1))
    judged = over_runs(runs) if over == "runs" else over_questions(runs)
    for labels in (
        ((90, 100), (190, 200)),
        ((100, 100), (200, 200)),
        ((100, 100), (190, 200)),
        ((90, 100), (200, 200)),
    ):
        estimate, interval = corrected_rate((k, n), *labels, clusters=runs, over=over)
        assert estimate is not None
        assert 0 <= interval.low <= estimate <= interval.high <= 1
        assert interval.width >= judged.width - 1e-9
    _, perfect = corrected_rate((k, n), (10**6, 10**6), (10**6, 10**6), clusters=runs, over=over)
    assert (perfect.low, perfect.high) == pytest.approx((judged.low, judged.high), abs=0.002)


def test_clusters_of_other_answers_are_refused():
    with pytest.raises(ConfigurationError, match="same answers"):
        corrected_rate((30, 960), (90, 100), (190, 200), clusters=[(20, 480), (60, 480)])


@pytest.mark.parametrize("errors", [(0.0, 0.0), (0.05, 0.1)])
@pytest.mark.parametrize("family", ["logit-normal", "beta-binomial"])
@pytest.mark.parametrize(("k", "n"), [(3, 480), (0, 480), (480, 480), (1200, 2400), (1, 4), (300, 3_000)])
def test_the_likelihood_is_that_of_scipys_quadrature(family: str, k: int, n: int, errors: tuple[float, float]):
    table = _tables(np.array([[k, n, *errors]]), family)[0]
    for place, spread in itertools.product((52, 60, 76), (2, 7)):
        mean, by = expit(_LOGITS[place]), _SPREADS[family][spread]
        expected = log_likelihood(k, n, errors, family, (mean, by))
        assert table[place, spread] == pytest.approx(expected, abs=2e-3)


def log_likelihood(k: int, n: int, errors: tuple[float, float], family: str, rates: tuple[float, float]) -> float:
    """Integrate the likelihood over the rates of clusters, with scipy's distributions and quadrature."""
    if family == "beta-binomial" and errors == (0.0, 0.0):
        size = 1 / rates[1] - 1
        return float(betabinom.logpmf(k, n, rates[0] * size, (1 - rates[0]) * size) - binom_coefficient(k, n))
    x = np.linspace(-300, 300, 200_001)
    if family == "logit-normal":
        density = norm.pdf(x, centre(*rates), rates[1])
    else:
        size = 1 / rates[1] - 1
        a, b = rates[0] * size, (1 - rates[0]) * size
        density = np.exp(a * log_expit(x) + b * log_expit(-x) - betaln(a, b))
    judged = errors[0] + (1 - sum(errors)) * expit(x)
    with np.errstate(divide="ignore"):
        points = binom.logpmf(k, n, judged) - binom_coefficient(k, n)
    top = points.max()
    return float(top + np.log(trapezoid(np.exp(points - top) * density, x)))


def binom_coefficient(k: int, n: int) -> float:
    return float(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def centre(mean: float, by: float) -> float:
    """Return the middle of the normal distribution on the logit scale whose mean rate is `mean`."""

    def excess(middle: float) -> float:
        return quad(lambda z: expit(middle + by * z) * norm.pdf(z), -9, 9)[0] - mean

    return float(brentq(excess, -40, 40))


def test_many_answers_stand_beside_the_likelihood_without_spread():
    """Counts beyond what the quadrature resolves are scaled down, and keep their level."""
    few, many = ([(round(share * n), n) for share in (0.1, 0.12, 0.11)] for n in (40_000, 4_000_000))
    assert over_runs(few).width == pytest.approx(over_runs(many).width, rel=0.05)


def test_a_rate_below_the_judges_false_alarms_is_clipped_to_zero():
    estimate, interval = corrected_rate((10, 1000), (90, 100), (95, 100))
    assert estimate == 0
    assert interval.low == 0
    assert interval.high > 0.01


def test_a_judge_no_better_than_chance_tells_nothing():
    estimate, interval = corrected_rate((300, 1000), (40, 100), (50, 100))
    assert estimate is None
    assert (interval.low, interval.high) == (0, 1)


def test_too_few_labels_tell_nothing_either():
    _, interval = corrected_rate((300, 1000), (2, 3), (2, 3))
    assert (interval.low, interval.high) == (0, 1)


def test_bad_counts_are_refused():
    with pytest.raises(EmptyDataError, match="unvalidated"):
        agreement(0, 0, 0, 0)
    with pytest.raises(ConfigurationError, match="negative"):
        agreement(-1, 0, 0, 5)
    with pytest.raises(ConfigurationError, match="judged"):
        corrected_rate((1, 0), (1, 1), (1, 1))
