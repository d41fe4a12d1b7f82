"""Proposals of what to run once a study has ended, and how a run is typed as a command.

Left to others: how many units a claim needs (astray.stats.power).
"""

import shlex
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
