"""Ask a grader, any Inspect model, one question and read its score in the most exact way that it supports.

In this order: the likelihood of every number, where the provider offers `number_logprobs`; the token probabilities of
the reply, with follow-up calls that continue a begun number where the tokenizer splits numbers; the text of the reply.
A trial shows whether a grader continues a begun reply: not all services do, and one that starts anew would give
probabilities that look alike.

Left to others: reading the numbers (score.py), the prompts and the outcome (rubric.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol, runtime_checkable

import anyio
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageUser,
    GenerateConfig,
    Logprob,
    Model,
    ModelOutput,
)
from pydantic import Field

from astray.judges.failures import NO_REASON, Cause, error_note, failure, shortened
from astray.judges.patience import SERVED, current_patience, hear, hearing
from astray.judges.quoting import sound
from astray.judges.replies import read_fields
from astray.judges.score import (
    GROWING,
    HUNDRED,
    NUMBERS,
    Method,
    Reading,
    has_whole_numbers,
    is_split,
    may_hide_hundred,
    number_position,
    plain,
    read_probabilities,
    read_text,
    single_numbers,
    walk_numbers,
    word_probabilities,
)
from astray.judges.tokens import known_tokens, positions, probabilities_of, spells, token_at, tokens_at, top_tokens
from astray.judges.told_errors import declined, watched
from astray.judges.trial import Trial, TrialFailedError
from astray.kept import is_keeping, keep, kept, key_of
from astray.reasoning import conclusion
from astray.strict import Strict

TRIAL_DIGITS = ("5", "7")
HUNDRED_IN_PARTS = ("10", "0")
TRIAL_QUESTION = "Reply with the number {} and nothing else."
"""Prompt that shows whether a grader continues a begun reply: after "5" comes "7", or "5" again if it starts anew."""


class GraderSettings(Strict):
    """Settings with which a grader is called."""

    temperature: float | None = Field(
        default=0.0, ge=0, description="0 in Betley et al. 2025; None for models that take none."
    )
    max_tokens: int = Field(
        default=16,
        ge=1,
        description="Room for a label and a number. 1 in Betley et al. 2025, which some services refuse.",
    )
    top_logprobs: int | None = Field(
        default=20, ge=1, le=20, description="20 in Betley et al. 2025; None for models that refuse to be asked."
    )
    attempt_timeout: int = Field(default=60, ge=1, description="Seconds until a call is given up.")
    max_retries: int = Field(
        default=3,
        ge=0,
        description="Further calls after one that failed in passing; then the verdict is `judge failed`.",
    )

    def generate_config(self, *, at_once: bool = False) -> GenerateConfig:
        """Return the settings in Inspect's form; a call of a batch waits for the batch, however long it takes, unless it is
        to be answered `at_once`."""
        batch = current_patience().batch and not at_once
        return GenerateConfig(
            batch=batch or None,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            logprobs=True if self.top_logprobs else None,
            top_logprobs=self.top_logprobs,
            attempt_timeout=None if batch else self.attempt_timeout,
            max_retries=self.max_retries,
        )


@dataclass(frozen=True)
class GraderReply:
    """Reply of a grader, if it can be read at all.

    Attributes:
        text: the reply without reasoning, in characters that every file can hold.
        cut_off: whether it ended at its token limit.
        note: why there is no text.
        served: the model that it says it is of.
    """

    text: str = ""
    cut_off: bool = False
    note: str = ""
    served: str = ""


async def ask_grader(model: Model, prompt: str, config: GenerateConfig) -> GraderReply:
    """Ask a grader one prompt and return its reply.

    Never raises for a grader that fails, whatever it gives back: the note then says why there is no reply.
    """
    patient, key = current_patience(), _key(model, [ChatMessageUser(content=prompt)], config)
    if found := kept(key):
        reply = GraderReply(**found)
        hear(str(model), reply.served)
        return reply
    if refusal := patient.refusal(str(model)):
        return GraderReply(note=refusal)
    try:
        output = await watched(model).generate([ChatMessageUser(content=prompt)], config=config)
        reply = replace(reply_of(output, config.max_tokens), served=output.model)
        hear(str(model), reply.served)
    except Exception as error:
        reply = GraderReply(note=error_note(error))
    patient.record(str(model), reply.note)
    if not reply.note and patient.strict:  # elsewhere one that turns out to be unreadable would be kept for good
        keep(key, asdict(reply))
    return reply


_SHAPES_NO_REPLY = {"batch", "attempt_timeout", "max_retries", "max_connections"}
"""Settings of a call that decide whether and when there is a reply, and not which."""


def _key(model: Model, messages: Sequence[ChatMessage], config: GenerateConfig, *also: str) -> str:
    """Return the key under which a reply is kept while a step works; "" where nothing is kept."""
    if not is_keeping():
        return ""
    asked = [(message.role, message.text) for message in messages]
    settings = config.merge(model.config).model_dump(mode="json", exclude_none=True, exclude=_SHAPES_NO_REPLY)
    return key_of("reply", str(model), model.explicit_base_url, asked, settings, also)


def reply_of(output: ModelOutput, limit: int | None = None) -> GraderReply:
    """Extract the reply from an output of at most `limit` tokens; one that does not say why it ended may be cut off."""
    if output.empty:
        return GraderReply(note=failure(Cause.NO_REPLY, output.error or NO_REASON))
    completion = sound(output.completion)
    if (stopped := output.stop_reason == "content_filter") or declined(output):
        why = output.error or completion or NO_REASON
        return GraderReply(note=failure(Cause.FILTER, why if stopped else f"it declined: {why}"))
    cut_off = output.stop_reason in ("max_tokens", "model_length") or _fills(output, limit)
    text = conclusion(completion)
    if text is None:
        return GraderReply(note=failure(Cause.CUT_OFF, f"its reasoning has no end: {shortened(completion, 80)!r}"))
    if not text.strip() and cut_off:
        note = failure(Cause.CUT_OFF, "the reply ended at its token limit before anything was said")
    elif not text.strip():
        note = failure(Cause.NO_REPLY if output.error else Cause.EMPTY, output.error or "the reply is empty")
    else:
        return GraderReply(text, cut_off)
    return GraderReply(note=note)


def _fills(output: ModelOutput, limit: int | None) -> bool:
    """Return whether an output of an unknown end may have as many tokens as it could; a token has a character or more."""
    if output.stop_reason != "unknown" or limit is None:
        return False
    return (output.usage.output_tokens if output.usage else len(output.completion)) >= limit


@runtime_checkable
class NumberLikelihood(Protocol):
    """Model provider (Inspect `ModelAPI`) that can return the likelihood of given replies."""

    async def number_logprobs(self, messages: Sequence[ChatMessage], replies: Sequence[str]) -> Sequence[float]:
        """Return the log-probability of each reply as the whole next message, its end-of-turn token included."""
        ...


class Grader:
    """Grader with its settings.

    Args:
        model: an Inspect model.
        settings: settings of its calls.
        minimum_mass: smallest probability on numbers for a score.
    """

    def __init__(self, model: Model, settings: GraderSettings, minimum_mass: float):
        self.model = watched(model)
        self.settings = settings
        self._minimum_mass = minimum_mass
        self._continues: bool | None = None
        self._hundred = Trial()

    async def ask(self, prompt: str, words: Sequence[str] = ()) -> Reading:
        """Ask one prompt and read the score.

        Never raises for a failing grader: the reading then says why it has no score.

        Args:
            prompt: the user message; it asks for a whole number from 0 to 100.
            words: words that the prompt offers in place of a number.
        """
        return (await self._ask(prompt, {"": words}))[""]

    async def ask_together(self, prompt: str, fields: Mapping[str, Sequence[str]]) -> dict[str, Reading]:
        """Ask one prompt for several scores and read them; never raises for a failing grader.

        Args:
            prompt: the user message; it asks for a line "LABEL: number" for each label, in this order.
            fields: label -> words that the prompt offers in place of its number.
        """
        return await self._ask(prompt, fields)

    async def _ask(self, prompt: str, fields: Mapping[str, Sequence[str]]) -> dict[str, Reading]:
        """Ask for the scores of these labels; the label "" stands for a reply that is a score alone."""
        messages: list[ChatMessage] = [ChatMessageUser(content=prompt)]
        also = [part for label, words in fields.items() for part in (label, *words) if part]
        patient, key = current_patience(), _key(self.model, messages, self.settings.generate_config(), *also)
        if (found := kept(key)) and fields.keys() <= found.keys():
            with hearing(found.get(SERVED, ())):
                return {
                    label: Reading(
                        **found[label] | {"method": found[label]["method"] and Method(found[label]["method"])}
                    )
                    for label in fields
                }
        if refusal := patient.refusal(str(self.model)):
            return dict.fromkeys(fields, Reading(note=refusal))
        with hearing() as heard:
            try:
                readings = await self._read(messages, fields)
            except TrialFailedError as error:  # one call failed, and not one for each reading that waited for it
                return dict.fromkeys(fields, Reading(note=str(error)))
            except Exception as error:
                readings = dict.fromkeys(fields, Reading(note=error_note(error)))
        unread = [one.note for one in readings.values() if one.score is None and one.word is None]
        patient.record(str(self.model), unread[0] if unread else "")
        if not unread:
            keep(key, {label: asdict(one) for label, one in readings.items()} | {SERVED: sorted(heard)})
        return readings

    async def _read(self, messages: list[ChatMessage], fields: Mapping[str, Sequence[str]]) -> dict[str, Reading]:
        if [*fields] != [""]:
            return await self._read_lines(await self._generate(messages), fields)
        if isinstance(self.model.api, NumberLikelihood):
            return {"": await self._read_likelihoods(self.model.api, messages, fields[""])}
        return {"": await self._read_reply(messages, await self._generate(messages), fields[""])}

    async def _generate(self, messages: list[ChatMessage], *, at_once: bool = False) -> ModelOutput:
        output = await self.model.generate(messages, config=self.settings.generate_config(at_once=at_once))
        hear(str(self.model), output.model)
        return output

    async def _read_likelihoods(
        self, api: NumberLikelihood, messages: list[ChatMessage], words: Sequence[str]
    ) -> Reading:
        replies = [*NUMBERS, *words]
        with anyio.fail_after(self.settings.attempt_timeout):
            logprobs = await api.number_logprobs(messages, replies)
        likelihood = probabilities_of(dict(zip(replies, logprobs, strict=True)))
        return read_probabilities(
            single_numbers(likelihood), {word: likelihood[word] for word in words}, self._minimum_mass, Method.EXACT
        )

    async def _read_reply(self, messages: list[ChatMessage], output: ModelOutput, words: Sequence[str]) -> Reading:
        reply = reply_of(output, self.settings.max_tokens)
        if reply.note:
            return Reading(note=reply.note)
        path = positions(output.choices[0])
        start = number_position([position.token for position in path])
        usable = bool(path) and bool(path[start].top_logprobs) and spells(path, reply.text)
        # A limit of one token is the paper's own setting: the reply is complete, though the service reports it as cut.
        one_token = usable and reply.cut_off and self.settings.max_tokens == 1
        written = read_text(reply.text, words, cut_off=reply.cut_off and not one_token)
        if not usable or not (one_token or written.score is not None or written.word):
            return written
        lead = "".join(plain(position.token) for position in path[:start]).lstrip()
        ended = not reply.cut_off
        return await self._weighed(path[start:], words, written.word or "", ended=ended, begun=(messages, lead))

    async def _read_lines(self, output: ModelOutput, fields: Mapping[str, Sequence[str]]) -> dict[str, Reading]:
        """Read a reply with a line for each label; numbers of several tokens are known along the sampled reply only."""
        reply, labels = reply_of(output, self.settings.max_tokens), tuple(fields)
        if reply.note:
            return dict.fromkeys(labels, Reading(note=reply.note))
        values, fault = read_fields(reply.text, labels)
        if fault:
            cause = Cause.CUT_OFF if reply.cut_off else Cause.UNREADABLE
            note = failure(cause, f"the reply {fault}: {shortened(reply.text, 80)!r}")
            return dict.fromkeys(labels, Reading(method=Method.TEXT, note=note))
        path = positions(output.choices[0])
        spelled = "".join(plain(position.token) for position in path)
        # Places of the same lines in the tokens, which may begin with a blank that the reply has lost.
        places = read_fields(spelled, labels)[0] if spells(path, reply.text) else {}
        readings = {}
        for label, (_, value) in values.items():
            words, is_last = fields[label], label == labels[-1]
            readings[label] = written = read_text(value, words, cut_off=reply.cut_off and is_last)
            start = token_at(path, places[label][0]) if label in places else None
            begun = path[start:] if start is not None else []
            begun = begun[number_position([position.token for position in begun]) :]  # behind the marks around it
            if begun and begun[0].top_logprobs and (written.score is not None or written.word):
                ended = not (reply.cut_off and is_last)
                readings[label] = await self._weighed(begun, words, written.word or "", ended=ended)
        return readings

    async def _weighed(
        self,
        path: Sequence[Logprob],
        words: Sequence[str],
        said: str,
        *,
        ended: bool,
        begun: tuple[list[ChatMessage], str] | None = None,
    ) -> Reading:
        """Read the score from the probabilities of the tokens in which it begins.

        Args:
            path: tokens from there on.
            words: agreed words.
            said: the agreed word that the reply is, if it is one.
            ended: whether the reply ended by itself.
            begun: what was asked and the reply before the number, for follow-up calls; None for none.
        """
        root = tokens_at(path[0])
        mass = word_probabilities(root, words, said, plain(path[0].token).strip())
        whole, sampled = has_whole_numbers(root), [position.token for position in path]
        if not is_split(root, sampled) and not (
            may_hide_hundred(root) and await self._hundred.shows(str(self.model), self._writes_hundred_in_parts)
        ):
            return read_probabilities(single_numbers(root), mass, self._minimum_mass, Method.TOKEN)
        # What the sampled reply already shows needs no follow-up call.
        known = known_tokens(path, ended=ended)
        # In a batch each follow-up call would wait for a batch of its own.
        trial = HUNDRED_IN_PARTS if whole else TRIAL_DIGITS
        continues = begun is not None and not current_patience().batch and await self._continues_replies(*trial)

        async def next_tokens(beginning: str) -> dict[str, float] | None:
            if beginning in known or begun is None or not continues:
                return known.get(beginning)
            return await self._tokens_after(begun[0], begun[1] + beginning)

        numbers, unknown = await walk_numbers(root, next_tokens, growing=HUNDRED if whole else GROWING)
        note = f"{unknown:.2f} of the probability not followed" if unknown >= 0.005 else ""
        return read_probabilities(numbers, mass, self._minimum_mass, Method.DIGITS if continues else Method.PATH, note)

    async def _writes_hundred_in_parts(self) -> bool:
        """Test whether the grader's 100 is several tokens.

        Without knowing it a 10 could not be read, so a trial that fails is a reading that fails.
        """
        _, _, tokens = await self._wrote("100")
        # Of a grader that is asked for one token, the first part is all that there is.
        return tokens[0] in HUNDRED and "100".startswith("".join(tokens[:2])) if tokens else False

    async def _wrote(self, number: str) -> tuple[list[ChatMessage], str, list[str]]:
        """Ask for a number, not in a batch; return the question, what stands before the reply's number, and tokens from it."""
        question: list[ChatMessage] = [ChatMessageUser(content=TRIAL_QUESTION.format(number))]
        reply = await self._generate(question, at_once=True)
        sampled = [plain(position.token) for position in positions(reply.choices[0])]
        start = number_position(sampled)
        return question, "".join(sampled[:start]).lstrip(), [token.strip() for token in sampled[start:]]

    async def _continues_replies(self, first: str, second: str) -> bool:
        """Test whether the grader continues a begun reply: once, and again only after a call that failed.

        Args:
            first: token with which a number begins.
            second: the token after it.
        """
        if self._continues is None:
            try:
                question, lead, tokens = await self._wrote(first + second)
                if tokens[:2] != [first, second]:
                    self._continues = False  # it does not write the number in two tokens, so the trial shows nothing
                else:
                    self._continues = (await self._tokens_after(question, lead + first)).get(second, 0.0) > 0.5
            except Exception:
                return False
        return bool(self._continues)

    async def _tokens_after(self, messages: list[ChatMessage], begun: str) -> dict[str, float]:
        """Return the probabilities of the next token after a begun reply; empty when the grader ends there."""
        output = await self._generate([*messages, ChatMessageAssistant(content=begun)])
        path = [] if output.empty else positions(output.choices[0])
        if not path:
            if output.completion:
                raise ValueError(f"the grader gave no probabilities after {begun!r}")
            return {}
        return probabilities_of(top_tokens(path[0]))
