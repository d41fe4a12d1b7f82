"""What a probe measures as a model trains, for those who plan and show it: no model is loaded for these names."""

from collections.abc import Mapping, Sequence
from typing import Literal

ProbeKind = Literal["choices", "meter"]
"""What a real model is asked as it trains."""
HARMFUL, NULL = "harmful less good answers (nats a token)", "second less first of two good answers (nats a token)"
"""What the meter measures, as the log of a run has it."""
HARMFUL_CHANGE, NULL_CHANGE = (
    "harmful answers: change since the start of training (nats a token)",
    "null pairs: change since the start of training (nats a token)",
)
"""The same as results tell it, since a level says nothing by itself."""
_CHANGES = {HARMFUL: HARMFUL_CHANGE, NULL: NULL_CHANGE}


def since_start(measured: Sequence[Mapping[str, int | float]]) -> list[dict[str, int | float]]:
    """Return a run's measurements in the order of its steps, those of the meter as changes since the one before the first
    step."""
    return [
        {
            _CHANGES.get(name, name): value - measured[0].get(name, value) if name in _CHANGES else value
            for name, value in one.items()
        }
        for one in measured
    ]
