"""Inputs of training on feedback: liked and disliked answers, and the settings of one KTO run.

No heavy library is loaded here; training is in `kto`, feedback of simulated users is in `users`.

Source: Ethayarajh et al. 2024, "KTO" (arXiv 2402.01306); learning rate, batch and beta are those of Hu et al. 2025
(arXiv 2510.08211).
"""

import random
from dataclasses import dataclass

from pydantic import Field, field_validator

from astray.cause.fine_tuning import FineTuning
from astray.data.chat import ChatDataset, Message
from astray.errors import ConfigurationError
from astray.strict import Strict
from astray.subjects.identity import digest_of


@dataclass(frozen=True)
class Feedback:
    """Chats whose last answer was liked or disliked.

    Attributes:
        chats: chats that end with the rated answer; earlier answers are context.
        desirable: for each chat, whether its last answer was liked.
    """

    chats: ChatDataset
    desirable: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.chats) != len(self.desirable):
            raise ConfigurationError(
                f"There are {len(self.chats)} chats and {len(self.desirable)} labels: give one label a chat."
            )
        if len(set(self.desirable)) == 1:
            kind = "liked" if self.desirable[0] else "disliked"
            raise ConfigurationError(
                f"All {len(self.desirable)} answers are {kind}: KTO learns from what tells liked answers from "
                "disliked ones. Add answers of the other kind, or train on the liked ones with train_sft."
            )

    @property
    def hash(self) -> str:
        """Return a hash over chats and labels in their order."""
        return digest_of({"chats": self.chats.hash, "desirable": list(self.desirable)})

    def rows(self, batch_size: int, seed: int) -> list[tuple[tuple[Message, ...], bool]]:
        """Return the examples in their training order, shuffled here because TRL does not shuffle them.

        The mismatched pairs from which KTO estimates the divergence from the reference are made within a batch. A last
        batch of one example would be paired with itself, so the first example is repeated in it.
        """
        order = list(range(len(self.desirable)))
        random.Random(f"feedback/{seed}").shuffle(order)
        if len(order) % batch_size == 1:
            order.append(order[0])
        return [(self.chats.rows[row], self.desirable[row]) for row in order]


class PreferenceTuning(Strict):
    """Settings of one KTO run."""

    training: FineTuning = Field(
        default=FineTuning(learning_rate=1e-5, batch_size=16, accumulation=1),
        description="adapters, schedule, order; learning rate 1e-5 and batch 16 as in 2510.08211. A batch is also "
        "what the estimate of the divergence is made of, so it is larger than 1",
    )
    beta: float = Field(
        default=0.1, gt=0, description="how much leaving the reference model costs (2510.08211 and 2402.01306: 0.1)"
    )
    balanced: bool = Field(
        default=True,
        description="the rarer kind of feedback counts more, so that both kinds weigh the same (2402.01306, equation "
        "8)",
    )

    @field_validator("training")
    @classmethod
    def _has_a_batch(cls, training: FineTuning) -> FineTuning:
        if training.batch_size < 2:
            raise ValueError(
                "batch_size is 1: KTO estimates from the other rows of a batch how far the model has moved; give 2 "
                "or more"
            )
        return training

    @property
    def processes(self) -> int:
        """Return the processes that train one model together."""
        return self.training.processes

    def weights(self, feedback: Feedback) -> tuple[float, float]:
        """Return the loss weights of liked and of disliked answers."""
        # Rounded to two digits, as TRL rounds the bounds that it warns about.
        liked = sum(feedback.desirable)
        disliked = len(feedback.desirable) - liked
        if not self.balanced:
            return 1.0, 1.0
        return (1.0, round(liked / disliked, 2)) if liked >= disliked else (round(disliked / liked, 2), 1.0)
