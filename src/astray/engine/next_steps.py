"""Proposals of what to run once a study has ended: more of the same, and the same on another model.

Left to others: the command as it is typed (astray.cli) and how many units a claim needs (astray.stats.power).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from astray.engine.summary import ClaimRow

TWICE, MOST_TIMES = 2.0, 4.0
"""Factor by which more is proposed: where nothing is undecided or it cannot be estimated, and at most."""


class NextStep(NamedTuple):
    """Run that makes sense after this one.

    Attributes:
        purpose: its purpose, a few words.
        options: those of `astray run` that differ from the study's own; a user fills in those in capitals.
    """

    purpose: str
    options: Mapping[str, object]


def times_as_many(claims: Iterable[ClaimRow]) -> float:
    """Return how many times as many units decide the undecided claims, within `MOST_TIMES`."""
    times = [needed / claim.n for claim in claims if (needed := claim.n_to_decide)]
    return min(max(times, default=TWICE), MOST_TIMES)
