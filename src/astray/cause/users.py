"""Simulated users whose feedback trains a model: some reward true or good answers, others false or flattering ones.

A simulation gives each user some contexts; in each, several trajectories of a few turns are sampled, and the user rates
every answer. Everything is recorded, one row per answer, so that each training example can be traced to its user. All
conversations proceed in parallel, turn by turn, so a local subject answers in large batches.

What users say and like is in `world_users` (by rule) and `model_users` (any Inspect model), selection of training
examples in `selection`, repeated rounds in `feedback_rounds`.

Source: Hu et al. 2025 (arXiv 2510.08211), biased human-AI interaction: a share of users is biased, two turns,
satisfaction is the reward.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

import polars as pl
from pydantic import Field, model_validator

from astray.data.chat import Message
from astray.errors import ConfigurationError
from astray.strict import Strict
from astray.subjects.spec import Generation, Sampling


class UserKind(StrEnum):
    """Kind of answers that a user rewards."""

    ORDINARY = "ordinary"
    """True and good answers."""
    BIASED = "biased"
    """Deceptive answers, and those that agree with the user against the truth."""


@dataclass(frozen=True)
class User:
    """Simulated user.

    Attributes:
        id: unique in the population.
        kind: kind of answers that the user rewards; unknown to the subject.
        topic: topic of the user's conversations.
    """

    id: str
    kind: UserKind
    topic: str


class Population(Strict):
    """Users of two kinds in an exact proportion."""

    size: int = Field(default=100, ge=1, description="number of users")
    biased: float = Field(ge=0, le=1, description="share of biased users (2510.08211: 0, 0.05, 0.1, 0.2, 0.5, 1)")
    topics: tuple[str, ...] = Field(
        min_length=1, description="what they talk about, evenly spread over users of each kind"
    )
    seed: int = Field(
        default=0, description="of who is biased; the biased users of a smaller share are among those of a larger one"
    )

    @model_validator(mode="after")
    def _has_both_kinds(self) -> "Population":
        biased = round(self.biased * self.size)
        if 0 < self.biased < 1 and biased in (0, self.size):
            kind = UserKind.BIASED if biased else UserKind.ORDINARY
            raise ValueError(
                f"a share of {self.biased:g} biased among {self.size} users rounds to {biased}, so all users would "
                f"be {kind.value}. Take more users (size), or write 0 or 1 where all are to be of one kind"
            )
        return self

    @property
    def users(self) -> tuple[User, ...]:
        """Return the users, in the order of their numbers."""
        order = list(range(self.size))
        random.Random(f"population/{self.seed}").shuffle(order)
        biased = round(self.biased * self.size)
        # One shuffled order for all shares: the biased users of a smaller share are among those of a larger one.
        kinds = {number: UserKind.BIASED if rank < biased else UserKind.ORDINARY for rank, number in enumerate(order)}
        topics = {number: self.topics[rank % len(self.topics)] for rank, number in enumerate(order)}
        return tuple(User(f"user-{number}", kinds[number], topics[number]) for number in range(self.size))


@runtime_checkable
class Crowd(Protocol):
    """Behaviour of users: what they say, and what satisfies them.

    Attributes:
        name: name on pages.
        identity: hash over everything that can change what they say or like.
    """

    name: str
    identity: str

    def speak(
        self, users: Sequence[User], conversations: Sequence[Sequence[Message]], seeds: Sequence[str]
    ) -> list[str]:
        """Return each user's next message, or opening if the conversation is empty.

        Args:
            users: the user in each conversation.
            conversations: the conversations so far.
            seeds: seed of each user's draws; equal for the samples of one context.
        """
        ...

    def satisfaction(self, users: Sequence[User], conversations: Sequence[Sequence[Message]]) -> list[float | None]:
        """Return how satisfied each user is with the last answer, 0 to 1; None where that is unknown."""
        ...


@runtime_checkable
class Assistant(Protocol):
    """Model that answers the users, such as a `Subject`."""

    id: str

    def generate(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling | None = None
    ) -> list[Generation]:
        """Return one answer to each conversation."""
        ...


class Simulation(Strict):
    """Size of a simulation: contexts, samples and turns."""

    contexts: int = Field(default=4, ge=1, description="openings a user")
    samples: int = Field(
        default=4, ge=1, description="trajectories from each opening, among which the best and worst are found"
    )
    turns: int = Field(default=2, ge=1, description="answers a trajectory (2510.08211: 2)")
    sampling: Sampling = Field(default=Sampling(max_tokens=400), description="of the subject's answers")
    seed: int = Field(default=0, description="of openings and answers")


INTERACTIONS: dict[str, pl.DataType] = {
    "round": pl.Int64(),  # number of the training round, from 0
    "trajectory": pl.String(),  # unique name: round, user, context and sample
    "turn": pl.Int64(),  # number of the answer in its trajectory, from 0
    "user": pl.String(),
    "kind": pl.String(),  # value of a UserKind
    "topic": pl.String(),
    "context": pl.Int64(),  # number of the opening among the user's
    "sample": pl.Int64(),  # number of the trajectory among those of its opening
    "subject": pl.String(),  # stable id of the subject that answered
    "said": pl.String(),  # by the user
    "answer": pl.String(),  # by the subject
    "satisfaction": pl.Float64(),  # 0 to 1, null where it could not be found out
    "crowd": pl.String(),  # identity of the crowd
}
"""Columns of a table of interactions, one row per answer, in the order of trajectories and turns."""


@dataclass
class _Trajectory:
    user: User
    context: int
    sample: int
    chat: list[Message]
    satisfactions: list[float | None]


def simulate(
    subject: Assistant, users: Sequence[User], crowd: Crowd, settings: Simulation, *, round: int = 0
) -> pl.DataFrame:
    """Simulate all conversations of a round, with the users' satisfaction with each answer.

    Args:
        subject: the model that answers.
        users: the users, for example `Population(...).users`.
        crowd: determines what the users say and like.
        settings: number of contexts, samples and turns.
        round: index of the round; it changes all seeds.

    Returns:
        The interactions (see `INTERACTIONS`).

    Raises:
        ConfigurationError: there are no users.

    Examples:
        >>> simulate(subject, Population(biased=0.1, topics=("colours",)).users, WorldUsers(), Simulation())
    """
    if not users:
        raise ConfigurationError(
            "There are no users to simulate; give some, for example Population(biased=0.1, topics=('colours',)).users."
        )
    trajectories = [
        _Trajectory(user, context, sample, [], [])
        for user in users
        for context in range(settings.contexts)
        for sample in range(settings.samples)
    ]
    sampling = settings.sampling.model_copy(
        update={"seed": settings.sampling.seed + 7919 * settings.seed + 101 * round}
    )
    asking = [trajectory.user for trajectory in trajectories]
    for turn in range(settings.turns):
        seeds = [
            f"{settings.seed}/{round}/{trajectory.user.id}/{trajectory.context}/{turn}" for trajectory in trajectories
        ]
        for each, text in zip(
            trajectories, crowd.speak(asking, [trajectory.chat for trajectory in trajectories], seeds), strict=True
        ):
            each.chat.append(Message(role="user", content=text))
        answers = subject.generate([trajectory.chat for trajectory in trajectories], sampling)
        for each, answer in zip(trajectories, answers, strict=True):
            each.chat.append(Message(role="assistant", content=answer.said))
    # All at once, as a provider's batch takes them; no message depends on what was liked before.
    rated = [
        (trajectory, trajectory.chat[: 2 * turn + 2]) for turn in range(settings.turns) for trajectory in trajectories
    ]
    liked = crowd.satisfaction([each.user for each, _ in rated], [chat for _, chat in rated])
    for (each, _), satisfaction in zip(rated, liked, strict=True):
        each.satisfactions.append(satisfaction)
    return _table(trajectories, subject.id, crowd.identity, round)


def _table(trajectories: Sequence[_Trajectory], subject: str, crowd: str, round: int) -> pl.DataFrame:
    rows = [
        (
            round,
            f"{round}/{trajectory.user.id}/{trajectory.context}/{trajectory.sample}",
            turn,
            trajectory.user.id,
            trajectory.user.kind.value,
            trajectory.user.topic,
            trajectory.context,
            trajectory.sample,
            subject,
            trajectory.chat[2 * turn]["content"],
            trajectory.chat[2 * turn + 1]["content"],
            liked,
            crowd,
        )
        for trajectory in trajectories
        for turn, liked in enumerate(trajectory.satisfactions)
    ]
    return pl.DataFrame(rows, schema=INTERACTIONS, orient="row")
