"""Ties among floats: values that differ by rounding alone are made equal, so that their order is the same on every CPU.

Kernels for other CPUs (AVX2, AVX-512, AMX) and other batch sizes add in another order, and the same text then has
values that differ in the last digits. A ranking, a maximum or a count of equal pairs of such values would depend on the
CPU.

A tie reaches down from its largest value, by at most NOISE of the largest magnitude among all values. It is anchored
there, so no chain of small steps joins values that differ by more. Rounding would not do: two equal values next to a
boundary are rounded apart.
"""

import numpy as np
from jaxtyping import Float

NOISE = 1e-5
"""Relative tolerance of a tie, to the largest magnitude: ten times what float32 sums of a forward pass differ by."""


def level_ties(values: Float[np.ndarray, "values"]) -> Float[np.ndarray, "values"]:
    """Replace each tied value by the largest of its tie, so that a stable sort keeps ties in their original order.

    Args:
        values: in any order; infinite and NaN ones stay as they are.
    """
    leveled = np.array(values, dtype=np.float64)
    finite = np.flatnonzero(np.isfinite(leveled))
    order = finite[np.argsort(-leveled[finite], kind="stable")]
    ranked = leveled[order]
    reach = NOISE * np.abs(ranked).max(initial=0.0)
    for index in np.flatnonzero(-np.diff(ranked) <= reach) + 1:
        if ranked[index - 1] - ranked[index] <= reach:  # the value before is by now the largest of its tie
            ranked[index] = ranked[index - 1]
    leveled[order] = ranked
    return leveled


def ranking(values: Float[np.ndarray, "values"]) -> list[int]:
    """Return the indices of the values, the largest first, ties in the order of their indices."""
    return [int(index) for index in np.argsort(-level_ties(values), kind="stable")]
