"""The share of harmful rows from labels of a sample by bands: its interval covers, and what no label covers may be anything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astray.errors import EmptyDataError
from astray.stats.stratified import Stratum, stratified_share


def test_intervals_on_the_share_hold_the_truth_in_95_percent_of_samples():
    rng, held, total = np.random.default_rng(0), 0, 400
    sizes, rates, labelled = (500, 2000, 7500), (0.3, 0.02, 0.001), (80, 60, 60)
    truth = sum(size * rate for size, rate in zip(sizes, rates, strict=True)) / sum(sizes)
    for _ in range(total):
        strata = [Stratum(s, n, int(rng.binomial(n, r))) for s, n, r in zip(sizes, labelled, rates, strict=True)]
        interval = stratified_share(strata).interval
        held += interval.low <= truth <= interval.high
    assert held / total >= 0.93


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_share_lies_in_its_interval_and_a_band_without_labels_may_hold_anything(parts):
    strata = [Stratum(size, min(size, n), min(size, n, k)) for size, n, k in parts]
    if not any(stratum.labelled for stratum in strata):
        with pytest.raises(EmptyDataError):
            stratified_share(strata)
        return
    share = stratified_share(strata)
    missing = sum(each.size for each in strata if not each.labelled) / sum(each.size for each in strata)
    assert 0 <= share.interval.low <= share.interval.high <= 1
    assert share.interval.width >= missing - 1e-9
    assert (share.value is None) == (missing > 0)
