"""What a probe measures as a model trains, for those who plan and show it: no model is loaded for these names."""

from collections.abc import Mapping, Sequence
from typing import Literal

ProbeKind = Literal["choices", "meter"]
"""What a real model is asked as it trains."""
HARMFUL, NULL = "harmful answers, nats a token since the first step", "null pairs, nats a token since the first step"
"""What the meter measures. Its level says nothing by itself, so results are told as changes."""


def since_first_step(measured: Sequence[Mapping[str, int | float]]) -> list[dict[str, int | float]]:
    """Return a run's measurements in the order of its steps, those of the meter as changes from the first one."""
    return [
        {
            name: value - measured[0].get(name, value) if name in (HARMFUL, NULL) else value
            for name, value in one.items()
        }
        for one in measured
    ]
