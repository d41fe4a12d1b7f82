"""Chance that the choice of questions adds to a mean over runs, by leaving each group of questions out in turn."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping

from astray.stats.intervals import Beneath


def chance_of_clusters(
    values: Callable[[str], Mapping[int, float]], clusters: Iterable[str], over: str
) -> Beneath | None:
    """Return what the choice of clusters adds to the error of a mean over runs; None where there is one at most.

    Args:
        values: cluster to leave out -> value of each run, by seed.
        clusters: each of them is left out once.
        over: what they are, in words for a page: "domains".
    """
    each = [own.values() for name in sorted(clusters) if (own := values(name))]
    if len(each) < 2:
        return None
    spread = statistics.pvariance([statistics.fmean(own) for own in each])
    return Beneath(math.sqrt((len(each) - 1) * spread), len(each) - 1, over)
