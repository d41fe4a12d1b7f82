"""Proposals of what to run once a study has ended, and how a run is typed as a command.

Left to others: how many units a claim needs (astray.stats.power).
"""

import math
import shlex
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from astray.engine.summary import ClaimRow

TWICE, MOST_TIMES = 2.0, 4.0
"""Factor by which more is proposed: where nothing is undecided or it cannot be estimated, and at most, unless only more
than that decides anything."""


class NextStep(NamedTuple):
    """Run that makes sense after this one.

    Attributes:
        purpose: its purpose, a few words.
        options: those of `astray run` that differ from the study's own; a user fills in those in capitals.
    """

    purpose: str
    options: Mapping[str, object]


def further_units(claims: Iterable[ClaimRow], units: int, most: int | None = None) -> tuple[int, str]:
    """Return how many units decide undecided claims, and what these leave undecided, as the end of a sentence.

    Args:
        claims: of a study, of which those count that are undecided.
        units: that it had.
        most: that it takes.
    """
    needs = sorted(math.ceil(units * needed / claim.n) for claim in claims if (needed := claim.n_to_decide))
    near = [needed for needed in needs if needed <= MOST_TIMES * units]
    more = max(near, default=needs[0] if needs else math.ceil(TWICE * units))
    more = more if most is None else min(more, most)
    beyond = [needed for needed in needs if needed > more]
    if not beyond:
        return more, ""
    who = "an undecided claim needs" if len(beyond) == 1 else f"{len(beyond)} undecided claims need up to"
    return more, f"; {who} about {beyond[-1]:,}"


def command(study: str, options: Mapping[str, object]) -> str:
    """Return the command that runs a study.

    Args:
        study: its name, or the path of its file.
        options: those that differ from the study's own, and of the command: the folder of the results, and the store.
    """
    words = ["astray", "run", study]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, Mapping):
            words += [word for key, setting in value.items() for word in (flag, f"{key}={_typed(setting)}")]
            continue
        words.append(flag)
        if value is not True:
            words.append(_typed(value))
    return shlex.join(words)


def _typed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
