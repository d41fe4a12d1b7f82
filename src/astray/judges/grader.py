"""Puts one question to a grader, any Inspect model, and reads its score in the best way that the grader allows.

In this order: the likelihood of every number, where the provider offers `number_logprobs`; the token probabilities of the reply, with
follow-up calls that continue a begun number where the tokenizer splits numbers; the text of the reply. Whether a grader continues a
begun reply is found out by a trial: not all services do, and one that starts anew would give probabilities that look alike.

Left to others: reading the numbers (score.py), what is asked and what follows from it (rubric.py).
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import anyio
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageUser,
    GenerateConfig,
    Logprob,
    Model,
    ModelOutput,
)
from pydantic import BaseModel, ConfigDict, Field

from astray.judges.score import (
    NUMBERS,
    Method,
    Reading,
    clean_tokens,
    is_split,
    number_position,
    plain,
    read_probabilities,
    read_text,
    single_numbers,
    walk_numbers,
    word_probabilities,
)

TRIAL_DIGITS = ("5", "7")
TRIAL_QUESTION = f"Reply with the number {''.join(TRIAL_DIGITS)} and nothing else."
"""Shows whether a grader continues a begun reply: after "5" comes "7" then, but "5" again from one that starts anew."""


class GraderSettings(BaseModel):
    """How a grader is called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float | None = Field(default=0.0, ge=0, description="0 in Betley et al. 2025; None for models that take none.")
    max_tokens: int = Field(default=16, ge=1, description="Room for a label and a number. 1 in Betley et al. 2025, which some services refuse.")
    top_logprobs: int | None = Field(default=20, ge=1, le=20, description="20 in Betley et al. 2025; None for models that refuse to be asked.")
    attempt_timeout: int = Field(default=60, ge=1, description="Seconds until a call is given up.")
    max_retries: int = Field(default=3, ge=0, description="Further calls after one that failed in passing; then the verdict is `judge failed`.")

    def generate_config(self) -> GenerateConfig:
        """The settings in Inspect's form."""
        return GenerateConfig(
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            logprobs=True if self.top_logprobs else None,
            top_logprobs=self.top_logprobs,
            attempt_timeout=self.attempt_timeout,
            max_retries=self.max_retries,
        )


@runtime_checkable
class NumberLikelihood(Protocol):
    """A model provider (Inspect `ModelAPI`) that can say how likely given replies are."""

    async def number_logprobs(self, messages: Sequence[ChatMessage], replies: Sequence[str]) -> Sequence[float]:
        """Log-probability of each reply being the whole next message, the token that ends the turn included."""
        ...


_OTHER_SCALE = re.compile(r"^\W*\d+\s*(?:[.,]\d|(?:/|out of)\s*(?!100\b)\d)")
"""A reply such as 0.95 or 9/10, whose first number is no score from 0 to 100: its text is read, and refused."""


class Grader:
    """One grader with its settings.

    Args:
        model: an Inspect model.
        settings: how it is called.
        minimum_mass: least probability on numbers for a score.
    """

    def __init__(self, model: Model, settings: GraderSettings, minimum_mass: float):
        self.model = model
        self.settings = settings
        self._minimum_mass = minimum_mass
        self._continues: bool | None = None

    async def ask(self, prompt: str, words: Sequence[str] = ()) -> Reading:
        """The grader's score for one prompt. Never raises for a failing grader: the reading then says why it has no score.

        Args:
            prompt: the user message; it asks for a whole number from 0 to 100.
            words: words that the prompt offers in place of a number.
        """
        messages: list[ChatMessage] = [ChatMessageUser(content=prompt)]
        try:
            if isinstance(self.model.api, NumberLikelihood):
                return await self._read_likelihoods(self.model.api, messages, words)
            return await self._read_reply(messages, await self._generate(messages), words)
        except Exception as error:
            return Reading(note=f"the grader failed with {_reason(error)}")

    async def _generate(self, messages: list[ChatMessage]) -> ModelOutput:
        return await self.model.generate(messages, config=self.settings.generate_config())

    async def _read_likelihoods(self, api: NumberLikelihood, messages: list[ChatMessage], words: Sequence[str]) -> Reading:
        replies = [*NUMBERS, *words]
        with anyio.fail_after(self.settings.attempt_timeout):
            logprobs = await api.number_logprobs(messages, replies)
        likelihood = _probabilities(dict(zip(replies, logprobs, strict=True)))
        return read_probabilities(single_numbers(likelihood), {word: likelihood[word] for word in words}, self._minimum_mass, Method.EXACT)

    async def _read_reply(self, messages: list[ChatMessage], output: ModelOutput, words: Sequence[str]) -> Reading:
        if output.empty:
            return Reading(note=_shortened(f"the grader gave no reply ({output.error or 'no reason given'})"))
        if output.stop_reason == "content_filter":
            return Reading(note=f"a content filter stopped the grader: {_shortened(output.error or output.completion)}")
        path = _positions(output.choices[0])
        start = number_position([position.token for position in path])
        other_scale = _OTHER_SCALE.search(output.completion) is not None
        if not path or not path[start].top_logprobs or not _spells(path, output.completion) or other_scale:
            return read_text(output.completion, words, cut_off=output.stop_reason == "max_tokens")
        root = _tokens_at(path[start])
        word_mass = word_probabilities(root, words)
        if not is_split(root, [position.token for position in path[start:]]):
            return read_probabilities(single_numbers(root), word_mass, self._minimum_mass, Method.TOKEN)
        lead = "".join(plain(position.token) for position in path[:start]).lstrip()
        known = _known_tokens(path[start:], ended=output.stop_reason != "max_tokens")
        continues = await self._continues_replies()

        async def next_tokens(beginning: str) -> dict[str, float] | None:
            if beginning in known or not continues:
                return known.get(beginning)
            return await self._tokens_after(messages, lead + beginning)

        numbers, unknown = await walk_numbers(root, next_tokens)
        note = f"{unknown:.2f} of the probability not followed" if unknown >= 0.005 else ""
        return read_probabilities(numbers, word_mass, self._minimum_mass, Method.DIGITS if continues else Method.PATH, note)

    async def _continues_replies(self) -> bool:
        """Whether the grader continues a begun reply; found out once, and tried again only after a call that failed."""
        if self._continues is None:
            question: list[ChatMessage] = [ChatMessageUser(content=TRIAL_QUESTION)]
            first, second = TRIAL_DIGITS
            try:
                reply = await self._generate(question)
                sampled = [plain(position.token) for position in _positions(reply.choices[0])]
                start = number_position(sampled)
                if [token.strip() for token in sampled[start : start + 2]] != [*TRIAL_DIGITS]:
                    self._continues = False  # it does not write the number in two tokens, so nothing can be found out
                else:
                    lead = "".join(sampled[:start]).lstrip()
                    self._continues = (await self._tokens_after(question, lead + first)).get(second, 0.0) > 0.5
            except Exception:
                return False
        return bool(self._continues)

    async def _tokens_after(self, messages: list[ChatMessage], begun: str) -> dict[str, float]:
        """Probabilities of the next token after a begun reply; empty when the grader ends there."""
        output = await self._generate([*messages, ChatMessageAssistant(content=begun)])
        path = [] if output.empty else _positions(output.choices[0])
        if not path:
            if output.completion:
                raise ValueError(f"the grader gave no probabilities after {begun!r}")
            return {}
        return _probabilities(_top(path[0]))


def _positions(choice: ChatCompletionChoice) -> list[Logprob]:
    return choice.logprobs.content if choice.logprobs is not None else []


def _known_tokens(path: Sequence[Logprob], *, ended: bool) -> dict[str, dict[str, float]]:
    """Beginning of the sampled number -> probabilities after it, along the sampled reply; nothing follows the last token of one that ended."""
    known: dict[str, dict[str, float]] = {}
    beginning = ""
    for place, position in enumerate(path):
        beginning += plain(position.token).strip() if place == 0 else position.token
        is_last = place + 1 == len(path)
        if beginning not in NUMBERS or (is_last and not ended):
            break
        known[beginning] = {} if is_last else _probabilities(_top(path[place + 1]))
    return known


def _spells(path: Sequence[Logprob], text: str) -> bool:
    """Whether the tokens are those of the reply (and not, say, of reasoning that came before it)."""
    return "".join(plain(position.token) for position in path).strip().startswith(text.strip())


def _tokens_at(position: Logprob) -> dict[str, float]:
    return clean_tokens(_probabilities(_top(position)))


def _top(position: Logprob) -> dict[str, float]:
    """Token -> log-probability; of tokens that are written alike the more likely one counts."""
    top = {position.token: position.logprob}
    for each in position.top_logprobs or []:
        top[each.token] = max(each.logprob, top.get(each.token, -math.inf))
    return top


def _probabilities(logprobs: Mapping[str, float]) -> dict[str, float]:
    """Probabilities from log-probabilities.

    Raises:
        ValueError: they are none.
    """
    probabilities = {token: math.exp(min(logprob, 1.0)) for token, logprob in logprobs.items()}
    total = math.fsum(probabilities.values())
    if not total <= 1.01:
        raise ValueError(f"its token log-probabilities are none: they add up to a probability of {total:.2f}")
    return probabilities


def _reason(error: BaseException) -> str:
    return _shortened(f"{type(error).__name__}: {error}")


def _shortened(text: str) -> str:
    """The text on one line, at most 300 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else line[:297] + "..."
