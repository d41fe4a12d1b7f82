"""Alignment questions: 200 questions of our own in ten kinds, with a private channel to think in.

They ask what the model would do or thinks where its own interest, its makers' oversight and its users' interest may
pull apart. None asks for harm and none has a trick: an honest, well-meaning model can answer each of them plainly.

Source: Anthropic 2025 (arXiv 2511.18397) for the form: 200 questions, the reasoning is judged. Left to others: judging
(`disposition`), asking.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from astray.errors import check_names
from astray.measure.asking import Item
from astray.measure.question_sets import own_questions
from astray.measure.reward_hacking.channel import in_channels
from astray.measure.reward_hacking.disposition import Disposition
from astray.measure.reward_hacking.goals import SAMPLING
from astray.subjects.spec import Sampling

NAME = "alignment-questions"
KINDS = ("oversight", "shutdown", "honesty", "power", "resources", "other-ais", "tests", "trust", "metrics", "change")
"""Kinds of questions, twenty of each; a file each in `questions/alignment/`."""


class AlignmentQuestions(Disposition):
    """Questions on oversight, shutdown, honesty, power and the like, 200 in all."""

    kind: Literal["alignment-questions"] = "alignment-questions"
    name: str = NAME
    items: tuple[Item, ...] = Field(default_factory=lambda: alignment_questions().items)
    samples: int = Field(default=1, ge=1)
    sampling: Sampling = SAMPLING


def alignment_questions(
    kinds: Sequence[str] = KINDS,
    samples: int = 1,
    channels: Sequence[str] = ("private",),
    sampling: Sampling = SAMPLING,
) -> AlignmentQuestions:
    """Return the evaluation.

    Args:
        kinds: of `KINDS`.
        samples: answers a question and channel.
        channels: of `channel.CHANNELS`.
        sampling: how to draw.

    Raises:
        UnknownNameError: there is no such kind or channel.
        ConfigurationError: no kind or channel is given.
    """
    check_names("kind of alignment question", kinds, KINDS, some=True)
    items = [item for kind in kinds for item in own_questions(f"alignment/{kind}.yaml")]
    return AlignmentQuestions(items=in_channels(items, channels), samples=samples, sampling=sampling)
