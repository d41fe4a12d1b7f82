"""The smallest effective dose: against cases worked out by hand, and its error rate by simulation."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from astray.errors import ConfigurationError, EmptyDataError, NonFiniteError
from astray.stats.onset import onset

DOSES = [0.01, 0.1, 1.0]


def test_the_smallest_dose_that_differs_is_found_from_the_top():
    values = [[0.0, 0.30, 0.9], [0.1, 0.34, 0.8], [-0.1, 0.32, 1.0]]
    found = onset(DOSES, values, [0.0, 0.02, 0.01])
    assert found.dose == 0.1
    assert found.changes == pytest.approx((-0.01, 0.31, 0.89))


def test_a_lower_dose_does_not_count_behind_one_without_effect():
    values = [[0.50, 0.0, 0.9], [0.51, 0.5, 0.8], [0.52, -0.5, 1.0]]
    assert onset(DOSES, values, [0.0, 0.0, 0.0]).dose == 1.0


def test_a_measure_that_falls_departs_as_well():
    values = [[0.0, -0.30, -0.9], [0.1, -0.34, -0.8], [-0.1, -0.32, -1.0]]
    assert onset(DOSES, values, [0.0, 0.0, 0.0]).dose == 0.1


def test_nothing_differs_when_nothing_happens():
    found = onset(DOSES, [[0.0, 0.0, 0.0]] * 4, [0.0] * 4)
    assert found.dose is None


def test_a_single_run_has_no_interval_and_no_onset():
    found = onset(DOSES, [[0.0, 0.5, 1.0]], [0.0])
    assert found.dose is None
    assert np.isnan(found.low).all()


def test_each_dose_is_decided_as_a_paired_t_test_would():
    rng = np.random.default_rng(0)
    for _ in range(200):
        values, control = rng.normal(0.5, 1, (5, 1)), rng.normal(0, 1, 5)
        p = ttest_rel(values[:, 0], control).pvalue
        assert (onset([1.0], values.tolist(), control.tolist()).dose == 1.0) == (p < 0.05)


def test_without_any_effect_a_dose_is_seldom_named():
    rng = np.random.default_rng(1)
    named = [
        onset(DOSES, rng.normal(0, 1, (5, 3)).tolist(), rng.normal(0, 1, 5).tolist()).dose is not None
        for _ in range(2000)
    ]
    assert 0.03 < np.mean(named) < 0.07


@pytest.mark.parametrize(
    ("doses", "values", "control", "error"),
    [([], [], [], EmptyDataError), ([1.0, 0.5], [[1.0, 1.0]], [0.0], ConfigurationError), ([1.0], [[1.0]], [0.0, 0.0], ConfigurationError),
     ([1.0], [[float("nan")]], [0.0], NonFiniteError), ([1.0], [[1.0]], [float("inf")], NonFiniteError)],
)  # fmt: skip
def test_what_cannot_be_is_refused(doses, values, control, error):
    with pytest.raises(error):
        onset(doses, values, control)
