"""Nulls with the selection inside: the best of noise stands above its null as rarely as it should, a real score always."""

import numpy as np
import pytest

from astray.errors import EmptyDataError
from astray.stats.nulls import Null, best_of, null_of_draws, null_of_labels

ROWS, SETS = 40, 120


def _difference(scores, positive) -> float:
    return float(scores[positive].mean() - scores[~positive].mean())


def _shares(candidates: int, effect: float) -> tuple[float, float]:
    """How often the best of many candidates stands above a null with the selection in it, and above one without."""
    chance, positive = np.random.default_rng(candidates), np.arange(ROWS) < ROWS // 2
    above, naive = [], []
    for number in range(SETS):
        scores = chance.normal(size=(ROWS, candidates))
        scores[:, 0] += effect * positive
        observed = best_of(lambda own: _difference(own, positive), scores, both_orders=True)
        null = null_of_labels(observed, _difference, scores, positive, both_orders=True, draws=39, seed=number)
        above.append(null.above)
        alone = null_of_labels(observed, _difference, scores[:, :1], positive, draws=39, seed=number)
        naive.append(alone.above)
    return float(np.mean(above)), float(np.mean(naive))


@pytest.mark.parametrize("candidates", [1, 10])
def test_the_best_of_noise_rarely_stands_above_its_null(candidates):
    above, naive = _shares(candidates, 0.0)
    # At most one draw of 39 may reach it: 2 in 40 by chance.
    assert above <= 0.12
    assert candidates == 1 or naive > 0.3


def test_a_score_that_finds_something_stands_above_its_null():
    assert _shares(10, 2.0)[0] > 0.95


def test_drawn_directions_compete_as_the_best_of_as_many():
    chance, positive = np.random.default_rng(0), np.arange(ROWS) < ROWS // 2
    draws = chance.normal(size=(ROWS, 40))
    alone = null_of_draws(0.5, lambda own: _difference(own, positive), draws, "random directions")
    best = null_of_draws(0.5, lambda own: _difference(own, positive), draws, "random directions", candidates=10)
    assert (len(alone.values), len(best.values)) == (40, 4)
    assert best.middle > alone.middle
    assert max(alone.values) == best.highest
    with pytest.raises(EmptyDataError, match="best of 50"):
        null_of_draws(0.5, lambda own: _difference(own, positive), draws, "random directions", candidates=50)


def test_what_does_not_stand_above_says_so():
    assert Null(0.9, (0.5,) * 19 + (0.9,), "random directions").above
    told = Null(0.6, (0.5, 0.7, 0.6, 0.2), "random directions").warning("The score finds rows")
    assert told == "The score finds rows no better than random directions: 2 of 4 do as well."
