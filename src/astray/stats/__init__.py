"""Statistics: rates, differences, power, dose-response and claims, each with an interval and its unit of inference."""

from astray.stats.claims import Decision, benjamini_hochberg, decide, decided_p, holm
from astray.stats.compare import (
    difference_of_arms,
    difference_of_models,
    difference_of_seeds,
    exact_difference,
    paired_difference,
    upper_bound_at_zero,
)
from astray.stats.difference import Difference
from astray.stats.dose import DoseResponse, Prediction, dose_response
from astray.stats.first_passage import Alarm, Cusum, FirstPassage, cusum, cusum_within, first_passage
from astray.stats.intervals import Counts, Interval, clopper_pearson, mean_over_runs, over_questions, over_runs, wilson
from astray.stats.judge_error import Agreement, agreement, cohen_kappa, corrected_rate
from astray.stats.measures import MISALIGNED, Measure
from astray.stats.monotone import Monotonicity, monotone
from astray.stats.onset import Onset, onset
from astray.stats.power import Design, power, required_n, seed_power
from astray.stats.rates import Rate, rate, rates

__all__ = [
    "MISALIGNED",
    "Agreement",
    "Alarm",
    "Counts",
    "Cusum",
    "Decision",
    "Design",
    "Difference",
    "DoseResponse",
    "FirstPassage",
    "Interval",
    "Measure",
    "Monotonicity",
    "Onset",
    "Prediction",
    "Rate",
    "agreement",
    "benjamini_hochberg",
    "clopper_pearson",
    "cohen_kappa",
    "corrected_rate",
    "cusum",
    "cusum_within",
    "decide",
    "decided_p",
    "difference_of_arms",
    "difference_of_models",
    "difference_of_seeds",
    "dose_response",
    "exact_difference",
    "first_passage",
    "holm",
    "mean_over_runs",
    "monotone",
    "onset",
    "over_questions",
    "over_runs",
    "paired_difference",
    "power",
    "rate",
    "rates",
    "required_n",
    "seed_power",
    "upper_bound_at_zero",
    "wilson",
]
