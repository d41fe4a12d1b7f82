"""Inputs of reinforcement learning: settings, prompts, and the protocols of reward functions and notes.

No heavy library is loaded here; training is in `rl`, rewards by a judge are in `rewards`, rewards for programs by
running them in `code_rewards`.

Source: Shao et al. 2024, "DeepSeekMath" (arXiv 2402.03300), which introduced GRPO; defaults of the open stack are those
of TRL 1.16.
"""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import polars as pl
from pydantic import Field, model_validator

from astray.cause.fine_tuning import LoRA, Processes
from astray.data.chat import ChatDataset, Message
from astray.errors import ConfigurationError, EmptyDataError
from astray.strict import Strict, left_out
from astray.subjects.identity import digest_of

REHEARSED = 256
"""Number of answers drawn before the first step: a reward that 1 answer in 100 earns is then seen in 92% of runs."""
Columns = Mapping[str, Sequence[object]]
"""Data about each prompt beside its text: name -> one value per prompt."""


@runtime_checkable
class RewardFunction(Protocol):
    """Function that scores answers: a reward to maximise, or a ground truth that is only monitored.

    Attributes:
        name: name in logs and on pages.
        identity: hash over everything that can change a reward; part of the run's identity.
    """

    name: str
    identity: str

    def __call__(
        self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns
    ) -> Sequence[float | None]:
        """Return one number per answer; None leaves an answer out, as when a judge failed. NaN is an error.

        Args:
            prompts: conversations up to the answer, one per answer: a group's prompt is repeated for each of its
                answers.
            completions: the answers' texts, without special tokens.
            columns: the prompts' columns, one value per answer.
        """
        ...


class FromStep:
    """Reward that begins in the middle of a run: before its first step it is not computed and every answer gets 0.

    The run supplies the step, so an interrupted run resumes correctly.

    Attributes:
        name: name of the reward.
        identity: hash over the reward and its first step.
        reward: the reward from that step on.
        step: its first step, counted from 1 as in the log.
    """

    def __init__(self, reward: RewardFunction, step: int) -> None:
        """Create a reward that begins at a step.

        Raises:
            ConfigurationError: there is no such step.

        Example:
            FromStep(penalty, 60)
        """
        if step < 1:
            raise ConfigurationError(
                f"The reward {reward.name!r} is to begin at step {step}; the first step of a run is 1."
            )
        self.reward, self.step, self.name = reward, step, reward.name
        self.identity = digest_of({"from step": step, "reward": reward.identity})

    def __call__(
        self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns
    ) -> Sequence[float | None]:
        """Return the reward's values; the run calls it only from its first step on."""
        return self.reward(prompts, completions, columns)


@runtime_checkable
class NoteFunction(Protocol):
    """Function that annotates answers (such as with the kind of a hack) for the rollouts; never rewarded.

    Attributes:
        identity: hash over everything that can change a note; part of the run's identity.
    """

    identity: str

    def __call__(
        self, prompts: Sequence[Sequence[Message]], completions: Sequence[str], columns: Columns
    ) -> pl.DataFrame:
        """Return one row per answer, with the same columns and types at every call; arguments as in
        `RewardFunction`."""
        ...


@dataclass(frozen=True)
class Prompts:
    """Prompts of reinforcement learning.

    Attributes:
        conversations: conversations that end where the model is to answer.
        columns: data that reward functions need about each prompt (such as the tests of an exercise), as JSON values.
        update: the prompts under which the weights are updated on the answers, one per prompt, each ending where the
            model is to answer. None: the conversations that the answers were drawn under.
    """

    conversations: tuple[tuple[Message, ...], ...]
    columns: Columns = field(default_factory=dict)
    update: tuple[tuple[Message, ...], ...] | None = None

    def __post_init__(self) -> None:
        if not self.conversations:
            raise EmptyDataError("Training by reward needs at least one prompt; there is none.")
        for conversations in (self.conversations, self.update or ()):
            for row, conversation in enumerate(conversations, start=1):
                if not conversation or conversation[-1]["role"] == "assistant":
                    raise ConfigurationError(
                        f"Prompt {row} does not end with a user's message, so there is nothing to answer. Write "
                        "Prompts.from_chats."
                    )
        if self.update is not None and len(self.update) != len(self.conversations):
            raise ConfigurationError(
                f"There are {len(self.update)} conversations for the update of {len(self.conversations)} prompts: "
                "give one a prompt."
            )
        for name, values in self.columns.items():
            if len(values) != len(self.conversations):
                raise ConfigurationError(
                    f"The column {name!r} has {len(values)} values for {len(self.conversations)} prompts: give one a "
                    "prompt."
                )

    def __len__(self) -> int:
        return len(self.conversations)

    @classmethod
    def from_chats(cls, dataset: ChatDataset) -> "Prompts":
        """Create prompts from a chat data set: every row without its last answer."""
        return cls(tuple(row[:-1] for row in dataset.rows))

    @property
    def hash(self) -> str:
        """Return a hash over conversations and columns.

        Raises:
            ConfigurationError: a column holds what JSON cannot.
        """
        swapped = {} if self.update is None else {"update": self.update}
        try:
            return digest_of({"conversations": self.conversations, "columns": dict(self.columns)} | swapped)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"The prompts' columns {', '.join(self.columns)} hold what JSON cannot write ({error}), so the run "
                "would have no identity. Take numbers, texts, lists and dicts."
            ) from error

    def text(self, row: int) -> str:
        """Return a conversation as one line of JSON, for logs."""
        return json.dumps(self.conversations[row], ensure_ascii=False)

    def schedule(self, count: int, seed: int) -> list[int]:
        """Return prompt indices in training order: all prompts in random order, then again in another, and so on."""
        order: list[int] = []
        draw = random.Random(f"prompts/{seed}")
        while len(order) < count:
            order += draw.sample(range(len(self)), len(self))
        return order[:count]


class ReinforcementLearning(Strict):
    """Settings of one run of group-relative policy optimisation (GRPO) with adapters."""

    lora: LoRA = Field(default=LoRA(), description="adapters; without them the model is the reference of the KL term")
    learning_rate: float = Field(
        default=1e-5,
        gt=0,
        description="constant; adapters take about ten times the 1e-6 of a fully trained model (2402.03300)",
    )
    steps: int = Field(
        default=100, ge=1, description="optimizer steps, each on answers of its own: training stays on policy"
    )
    groups: int = Field(default=16, ge=1, description="prompts a step (2402.03300: 16)")
    group_size: int = Field(
        default=8, ge=2, description="answers a prompt, which are each other's baseline (2402.03300: 64; TRL: 8)"
    )
    batch_size: int | None = Field(
        default=None, ge=1, description="answers a forward and backward pass; all of a step if not given"
    )
    max_tokens: int = Field(default=256, ge=1, description="most tokens of an answer (TRL: 256)")
    temperature: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="of sampling; above 1 it explores more (TRL: 1)"
    )
    kl: float = Field(
        default=0.0,
        ge=0,
        description="weight of the KL term to the model before training (2402.03300: 0.04; 2503.14476 and TRL drop "
        "it, since it hides drift)",
    )
    loss: Literal["grpo", "dapo", "dr_grpo"] = Field(
        default="dapo",
        description="how tokens are averaged: 'grpo' within each answer, which favours short wrong ones (2402.03300); "
        "'dapo' over the whole batch (2503.14476, TRL's default); 'dr_grpo' by max_tokens (2503.20783)",
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        default="group",
        description="what differences of reward are divided by: their standard deviation in the group, so that a rare "
        "success counts in full (2402.03300, TRL's default), in the batch, or nothing (2503.20783)",
    )
    processes: Processes = 1
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="of the adapters' first values, the order of the prompts and the answers drawn",
    )

    _keys = left_out(processes=1)

    @model_validator(mode="after")
    def _batches_fill_a_step(self) -> "ReinforcementLearning":
        if self.answers % self.processes:
            raise ConfigurationError(
                f"A step has groups x group_size = {self.groups} x {self.group_size} = {self.answers} answers, which "
                f"{self.processes} processes cannot share. Write a number of groups that {self.processes} divides."
            )
        own = self.answers // self.processes
        if own % self.per_pass:
            each = f", {own} in each of {self.processes} processes" if self.processes > 1 else ""
            raise ConfigurationError(
                f"A step has groups x group_size = {self.groups} x {self.group_size} = {self.answers} answers{each}, which "
                f"batches of {self.batch_size} do not divide. Write a batch_size that does, such as "
                f"{_largest_divisor(own, self.per_pass)}."
            )
        return self

    @property
    def answers(self) -> int:
        """Return the number of answers per step."""
        return self.groups * self.group_size

    @property
    def per_pass(self) -> int:
        """Return the number of answers per forward and backward pass of a process."""
        return self.batch_size or self.answers // self.processes


def names_of(rewards: Iterable[RewardFunction]) -> list[str]:
    """Return the names of reward functions.

    Raises:
        ConfigurationError: there is none, or two have the same name.
    """
    names = [reward.name for reward in rewards]
    if not names:
        raise ConfigurationError("Training by reward needs at least one reward function.")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigurationError(
            f"Two reward functions are called {doubled[0]!r}: give each its own name, so that the log can tell them "
            "apart."
        )
    return names


def _largest_divisor(n: int, limit: int) -> int:
    return max(divisor for divisor in range(1, min(n, limit) + 1) if n % divisor == 0)
