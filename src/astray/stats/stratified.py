"""Share of rows of a kind, estimated from a labelled sample that was drawn more densely in some strata than in others.

Within a stratum labelled rows have to be like the others; how many were labelled in each is free. The interval combines
Wilson's limits of the strata by their distances from the estimate, so it has a width where no labelled row is of the
kind. A stratum without a label may hold anything, and the limits say so.

Source: Zou and Donner 2008 (Statistics in Medicine 27:1693), recovery of variance estimates; Yan and Su 2010 (Journal
of Biopharmaceutical Statistics 20:1101), stratified Wilson intervals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.intervals import Interval, check_level, wilson


@dataclass(frozen=True)
class Stratum:
    """Part of a population with its labelled rows.

    Attributes:
        size: number of rows in it, at least 1.
        labelled: number of them with a label.
        positive: number of these of the kind.
    """

    size: int
    labelled: int
    positive: int


@dataclass(frozen=True)
class StratifiedShare:
    """Share of rows of a kind in a population.

    Attributes:
        value: estimate; None where a stratum has no label.
        interval: limits on it.
        strata: what it is made of.
    """

    value: float | None
    interval: Interval
    strata: tuple[Stratum, ...]


def stratified_share(strata: Sequence[Stratum], *, level: float = 0.95) -> StratifiedShare:
    """Return the share of a kind in a population of strata.

    Args:
        strata: parts of the population; together they are all of it.
        level: nominal coverage.

    Raises:
        EmptyDataError: no row has a label.
        ConfigurationError: numbers that cannot be.
    """
    check_level(level)
    for stratum in strata:
        if not 0 <= stratum.positive <= stratum.labelled <= stratum.size or not stratum.size:
            raise ConfigurationError(
                f"A part of {stratum.size} rows cannot have {stratum.labelled} labels, {stratum.positive} of them of the "
                "kind: give numbers with 0 <= positive <= labelled <= size and size >= 1."
            )
    if not any(stratum.labelled for stratum in strata):
        raise EmptyDataError("A share is estimated from labelled rows, and there are none.")
    total = sum(stratum.size for stratum in strata)
    labelled = [stratum for stratum in strata if stratum.labelled]
    unknown = sum(stratum.size for stratum in strata if not stratum.labelled) / total
    middle = below = above = 0.0
    for stratum in labelled:
        weight, rate = stratum.size / total, stratum.positive / stratum.labelled
        limits = wilson(stratum.positive, stratum.labelled, level=level)
        middle += weight * rate
        below += (weight * (rate - limits.low)) ** 2
        above += (weight * (limits.high - rate)) ** 2
    method = "Wilson" if len(strata) == 1 else "Wilson limits of the bands of the score, combined"
    low, high = max(0.0, middle - math.sqrt(below)), min(1.0, middle + math.sqrt(above) + unknown)
    return StratifiedShare(None if unknown else middle, Interval(low, high, level, method), tuple(strata))
