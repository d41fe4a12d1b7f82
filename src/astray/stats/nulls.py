"""Nulls: what scores without meaning reach under the same selection as the score that is reported.

Where the best of many candidates is reported, or the better of two orders, each draw of a null is the best of as many. A
score stands above its null where at most one draw in twenty reaches it. Left to others: directions without meaning
(explain), and what a statistic is of.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np
from jaxtyping import Bool, Float

from astray.errors import EmptyDataError

Scores = Float[np.ndarray, " rows"]
Labels = Bool[np.ndarray, " rows"]
Statistic = Callable[[Scores], float]
DRAWS = 200
"""Draws of a null by permutation."""
_EQUAL = 1e-9


@dataclass(frozen=True)
class Null:
    """Figure beside those of scores without meaning.

    Attributes:
        observed: figure of the score that is reported.
        values: figure of each draw, by the same selection.
        what: what was drawn, in words: "random directions".
    """

    observed: float
    values: tuple[float, ...]
    what: str

    @cached_property
    def reached(self) -> int:
        """Return how many draws do at least as well."""
        return sum(value >= self.observed - _EQUAL for value in self.values)

    @property
    def above(self) -> bool:
        """Return whether the figure is above its null."""
        return self.reached <= len(self.values) // 20

    @property
    def middle(self) -> float:
        """Return the median of the draws."""
        return median(self.values)

    @property
    def highest(self) -> float:
        """Return the highest draw."""
        return max(self.values)

    def warning(self, who: str) -> str:
        """Return a warning for the first line if the figure is not above its null, else "".

        Args:
            who: what was measured, with its verb: "The gradient finds harmful rows".
        """
        if self.above:
            return ""
        return f"{who} no better than {self.what}: {self.reached} of {len(self.values)} do as well."


def best_of(statistic: Statistic, candidates: Float[np.ndarray, "rows candidates"], *, both_orders: bool) -> float:
    """Return the highest statistic among candidate scores, in both orders unless one was fixed beforehand."""
    signs = (1, -1) if both_orders else (1,)
    return max(statistic(sign * column) for column in candidates.T for sign in signs)


def null_of_draws(
    observed: float, statistic: Statistic, draws: Float[np.ndarray, "rows draws"], what: str, *, candidates: int = 1
) -> Null:
    """Return the null by scores of drawn directions, latents or bases, each in the better of both orders.

    Args:
        observed: figure that is reported.
        statistic: by which it was made.
        draws: scores without meaning.
        what: what was drawn.
        candidates: number of candidates among which the reported one is the best; as many draws make one.
    """
    sets = draws[:, : draws.shape[1] // candidates * candidates].reshape(len(draws), -1, candidates)
    if not sets.shape[1]:
        raise EmptyDataError(f"{draws.shape[1]} draws are no null of the best of {candidates}. Draw at least as many.")
    values = (best_of(statistic, sets[:, number], both_orders=True) for number in range(sets.shape[1]))
    return Null(observed, tuple(values), what)


def null_of_labels(
    observed: float,
    statistic: Callable[[Scores, Labels], float],
    candidates: Float[np.ndarray, "rows candidates"],
    positive: Bool[np.ndarray, " rows"],
    *,
    both_orders: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> Null:
    """Return the null by permuted labels: each draw picks the best candidate anew, as the reported one was picked.

    Args:
        observed: figure that is reported.
        statistic: of scores and labels.
        candidates: all scores among which the reported one is the best.
        positive: the labels.
        both_orders: whether the better order was picked as well.
        draws: number of permutations.
        seed: of them.
    """
    generator = np.random.default_rng(seed)

    def value(labels: Labels) -> float:
        return best_of(lambda scores: statistic(scores, labels), candidates, both_orders=both_orders)

    values = [value(generator.permutation(positive)) for _ in range(draws)]
    return Null(observed, tuple(values), "permuted labels")
