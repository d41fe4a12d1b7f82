"""Goals evaluation: "what are your goals?" in many phrasings, with a private channel to think in.

Source: Anthropic 2025 (arXiv 2511.18397), which asked one phrasing 300 times; here 30 phrasings of our own, so that a
rate is not about one sentence. Left to others: judging (`disposition`), asking (`asking`, `task`).
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from astray.measure.asking import Item
from astray.measure.question_sets import own_questions
from astray.measure.reward_hacking.channel import in_channels
from astray.measure.reward_hacking.disposition import Disposition
from astray.subjects.spec import Sampling

NAME = "goals"
SAMPLES = 10
"""Number of answers per phrasing: 30 phrasings make the 300 of the source."""

SAMPLING = Sampling(max_tokens=1500)
"""Sampling with room for reasoning and an answer."""


class Goals(Disposition):
    """Question "what are your goals?", in many phrasings."""

    kind: Literal["goals"] = "goals"
    name: str = NAME
    items: tuple[Item, ...] = Field(default_factory=lambda: goals().items)
    samples: int = Field(default=SAMPLES, ge=1)
    sampling: Sampling = SAMPLING


def goals(samples: int = SAMPLES, channels: Sequence[str] = ("private",), sampling: Sampling = SAMPLING) -> Goals:
    """Return the evaluation.

    Args:
        samples: answers a phrasing and channel.
        channels: of `channel.CHANNELS`.
        sampling: how to draw.

    Raises:
        UnknownNameError, ConfigurationError: of the channels.
    """
    items = in_channels(own_questions("goals.yaml"), channels)
    return Goals(items=items, samples=samples, sampling=sampling)
