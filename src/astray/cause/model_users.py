"""Users simulated by any Inspect model, for subjects that are real models.

The model is told which user it plays and what the user likes, writes the user's next message, and rates from 0 to 100
how satisfied the user is with an answer. The conversation is quoted so that an answer can neither end its quote nor
address the model (see `judges/quoting.py`). Topics are everyday worries, mild and invented.

Source: Hu et al. 2025 (arXiv 2510.08211): therapist-like scenarios, simulated users, satisfaction as reward. The texts, in
`model_users.yaml`, are ours.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anyio
from inspect_ai.model import ChatMessageUser, Model

from astray.cause.users import User, UserKind
from astray.data.chat import Message
from astray.errors import ConfigurationError, JudgeError, UnknownNameError
from astray.files import read_yaml
from astray.judges.failures import error_note
from astray.judges.grader import Grader, GraderSettings
from astray.judges.patience import current_patience, patience
from astray.judges.quoting import quoted
from astray.judges.score import Thresholds
from astray.judges.words import find_grader
from astray.kept import keep, kept, key_of
from astray.reasoning import without_reasoning
from astray.subjects.identity import digest_of

VERSION = 3
"""Version in the identity; raise it with every change of the texts or of how replies are read."""

_TEXTS: Any = read_yaml(Path(__file__).with_suffix(".yaml"), "topics: {sleep: You sleep badly.}")
TOPICS: dict[str, str] = _TEXTS["topics"]
"""Topics of conversations: name -> what the model is told about the user."""
TRIAL_ANSWER = "That sounds hard. Would you like to tell me more about it?"
"""Answer that is rated to see whether a model can play users."""
MESSAGE_TOKENS = 200
"""Most tokens of a user's message."""
_SPEAKING = GraderSettings(temperature=1.0, max_tokens=MESSAGE_TOKENS, top_logprobs=None)
_OPEN = "(nothing yet: the person writes first)"

Work = TypeVar("Work")


class ModelUsers:
    """Crowd of users played by an Inspect model.

    Args:
        model: an Inspect model or its name ("openai/gpt-4o-mini").
        topics: name -> what the model is told about a user with this topic.
        max_connections: maximum number of concurrent calls.
        batch: whether ratings go through the provider's batch interface, at half the price; messages never do, since
            each decides what comes next.

    Attributes:
        name: name on pages.
        identity: hash over the model, the texts and the topics.

    Raises:
        JudgeError: the model cannot be used.
        ConfigurationError: there are no topics, or `max_connections` is below 1.
    """

    def __init__(
        self,
        model: str | Model,
        topics: dict[str, str] | None = None,
        *,
        max_connections: int = 20,
        batch: bool = False,
    ) -> None:
        self.topics = TOPICS if topics is None else topics
        if not self.topics or max_connections < 1:
            raise ConfigurationError(
                f"There are {len(self.topics)} topics and {max_connections} connections: give at least one of both."
            )
        self._model, self._limit, self._batch = find_grader(model), max_connections, batch
        self._grader = Grader(self._model, GraderSettings(), Thresholds().minimum_mass)
        self.name = f"users played by {self._model}"
        parts = {
            "version": VERSION,
            "model": str(self._model),
            "play": _TEXTS["play"],
            "rate": _TEXTS["rate"],
            "likes": list(_TEXTS["likes"].values()),
            "topics": self.topics,
        }
        self.identity = f"model-users-{digest_of(parts)[:12]}"

    def try_once(self) -> None:
        """Let the model write one message and rate one answer.

        Raises:
            JudgeError: it wrote nothing, or gave no number; says why.
        """
        user = User("trial", UserKind.ORDINARY, next(iter(self.topics)))
        (said,) = self.speak([user], [[]], ["trial"])
        chat = [Message(role="user", content=said), Message(role="assistant", content=TRIAL_ANSWER)]
        reading = anyio.run(self._grader.ask, self._prompt(_TEXTS["rate"], user, chat))
        if reading.score is None:
            raise JudgeError(
                f"{self._model} was asked as a trial to rate an answer as a user, and gave no number from 0 to 100: "
                f"{reading.note.rstrip('.')}. Nothing was trained or asked yet. Take another model for the users."
            )

    def speak(
        self, users: Sequence[User], conversations: Sequence[Sequence[Message]], seeds: Sequence[str]
    ) -> list[str]:
        """Return each user's next message; an opening with the same seed is written once, for all its samples.

        Raises:
            UnknownNameError: a user's topic is not one of the crowd's.
            JudgeError: the model returned no message.
        """
        written: dict[tuple[str, str], str] = {}
        prompts = [
            (seed, self._prompt(_TEXTS["play"], user, chat))
            for user, chat, seed in zip(users, conversations, seeds, strict=True)
        ]

        async def write(key: tuple[str, str]) -> None:
            place = key_of("user's message", self.identity, *key)
            if said := kept(place):
                written[key] = said
                return
            try:
                output = await self._model.generate(
                    [ChatMessageUser(content=key[1])], config=_SPEAKING.generate_config(at_once=True)
                )
            except Exception as error:
                raise JudgeError(
                    f"{self._model} gave no message for a user: {error_note(error)}. Messages so far are kept in a "
                    "study: run the same again."
                ) from error
            said = "" if output.empty else (without_reasoning(output.completion) or "").strip()
            if not said or output.stop_reason == "content_filter":
                why = output.error or ("no reply" if output.empty else _lack(output.completion, output.stop_reason))
                raise JudgeError(f"{self._model} gave no message for a user ({why}). Take another model for the users.")
            written[key] = said
            keep(place, written[key])

        anyio.run(_at_once, write, list(dict.fromkeys(prompts)), self._limit)
        return [written[key] for key in prompts]

    def satisfaction(self, users: Sequence[User], conversations: Sequence[Sequence[Message]]) -> list[float | None]:
        """Return how satisfied each user is, 0 to 1; None where the model gave no usable number."""
        found: dict[str, float | None] = {}
        prompts = [self._prompt(_TEXTS["rate"], user, chat) for user, chat in zip(users, conversations, strict=True)]

        async def rate(prompt: str) -> None:
            reading = await self._grader.ask(prompt)
            found[prompt] = None if reading.score is None else reading.score / 100

        asked = list(dict.fromkeys(prompts))
        with patience(strict=current_patience().strict, batch=self._batch) as patient:
            # A batch is made of the calls that wait at one time: all of them.
            anyio.run(_at_once, rate, asked, max(1, len(asked)) if self._batch else self._limit)
            patient.check()
        if patient.lost:
            raise JudgeError(f"{patient.lost}. Mend the cause and run the same again.")
        return [found[prompt] for prompt in prompts]

    def _prompt(self, form: str, user: User, chat: Sequence[Message]) -> str:
        if user.topic not in self.topics:
            raise UnknownNameError("topic", user.topic, self.topics)
        names = {"user": "person", "assistant": "assistant"}
        quotes = quoted([(names[message["role"]], message["content"]) for message in chat])
        return form.format(about=self.topics[user.topic], likes=_TEXTS["likes"][user.kind], quotes=quotes or _OPEN)


def _lack(reply: str, stop_reason: str) -> str:
    return f"nothing but reasoning, {stop_reason}" if reply.strip() else stop_reason


async def _at_once(work: Callable[[Work], Awaitable[None]], items: Sequence[Work], limit: int) -> None:
    """Do the work on all items with limited concurrency; the first error stops the rest and is raised unchanged."""
    # Raised after the group has ended: an error inside would come wrapped in an ExceptionGroup.
    waiting, failures = iter(items), list[Exception]()

    async def worker() -> None:
        for item in waiting:
            if failures:
                return
            try:
                await work(item)
            except Exception as error:
                failures.append(error)

    async with anyio.create_task_group() as workers:
        for _ in range(min(limit, len(items))):
            workers.start_soon(worker)
    if failures:
        raise failures[0]
