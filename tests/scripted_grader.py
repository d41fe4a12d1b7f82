"""Graders for tests: Inspect models whose replies and token probabilities the test writes, without any tokenizer or
network."""

import math
import random
import re
import zlib
from collections.abc import Callable, Mapping, Sequence

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Logprob,
    Logprobs,
    Model,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    TopLogprob,
    get_model,
    modelapi,
)
from tenacity import wait_none

Reply = Callable[[list[ChatMessage]], ModelOutput]
END = "<end>"
ALL_FINE, ALL_INCOHERENT, SPEECHLESS, MIXED = (
    "scripted/grader",
    "scripted/incoherent",
    "scripted/speechless",
    "scripted/mixed",
)
"""Names of graders for studies in this process: one says 85 to everything, one finds nothing coherent, one says no
numbers, one is of two minds."""
LATER_SPEECHLESS, PRAISED = "scripted/later-speechless", "An answer that this grader praises."
"""Name of one that says numbers about this answer alone."""
READER = "scripted/reader"
"""Name of one that is of two minds, and also reads stances and plays users."""


class ScriptedAPI(ModelAPI):
    """Replies as its script says and keeps what it was asked, with the settings."""

    def __init__(self, model_name: str, reply: Reply | None = None, **_: object):
        super().__init__(model_name)
        says = {ALL_INCOHERENT: ("85", "0"), SPEECHLESS: ("Well.", "Well.")}.get(f"scripted/{model_name}", ("85", "85"))
        named = {MIXED: by_content, READER: by_task, LATER_SPEECHLESS: only_praised}
        self.reply = reply or named.get(f"scripted/{model_name}") or by_question(*map(spoken, says))
        self.calls: list[tuple[list[ChatMessage], GenerateConfig]] = []

    async def generate(self, input, tools, tool_choice, config):
        self.calls.append((list(input), config))
        return self.reply(input)

    def retry_wait(self):
        """No pause before a retry; Inspect's own one also uses a parameter that its library warns of."""
        return wait_none()


@modelapi(name="scripted")
def scripted():
    return ScriptedAPI


@modelapi(name="likely")
def likely():
    class LikelyAPI(ScriptedAPI):
        """Also says how likely given replies are; `reply` is then a function of messages and reply."""

        async def number_logprobs(self, messages, replies):
            self.calls.append((list(messages), GenerateConfig()))
            return [self.reply(messages, reply) for reply in replies]

    return LikelyAPI


def scripted_model(reply: Callable[..., object], provider: str = "scripted", name: str = "grader") -> Model:
    """An Inspect model with this script."""
    return get_model(f"{provider}/{name}", memoize=False, reply=reply)


def spoken(
    text: str, tokens: Sequence[tuple[str, Mapping[str, float]]] | None = None, stop_reason: str = "stop"
) -> ModelOutput:
    """A reply; with `tokens` (each sampled token with the probabilities at its position) also its log-probabilities."""
    logprobs = None
    if tokens is not None:
        logprobs = Logprobs(content=[_position(token, top) for token, top in tokens])
    message = ChatMessageAssistant(content=text)
    choice = ChatCompletionChoice(message=message, stop_reason=stop_reason, logprobs=logprobs)
    return ModelOutput(
        model="scripted", choices=[choice], usage=ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)
    )


def by_tokens(text: str) -> ModelOutput:
    """A reply with token probabilities: numbers and words whole, everything else in characters."""
    tokens = re.findall(r"[0-9]+|[A-Za-z]+|\s+|.", text, re.DOTALL)
    return spoken(text, [(token, {token: 0.99, "x": 0.01}) for token in tokens])


def by_question(aligned: ModelOutput, coherent: ModelOutput) -> Reply:
    """One reply to the question for alignment, another to the question for coherence."""
    return lambda messages: coherent if "Say how coherent" in messages[-1].text else aligned


def by_content(messages: list[ChatMessage]) -> ModelOutput:
    """Everything is coherent, and half of all texts misaligned: always the same half. Where it may choose a word, it
    takes the first."""
    asked = "\n".join(message.text for message in messages)
    if words := re.search(r"Reply with one of these words and nothing else: ([A-Z_]+)", asked):
        return spoken(words[1])
    return spoken("85" if "Say how coherent" in asked or zlib.crc32(asked.encode()) % 2 else "5")


def by_task(messages: list[ChatMessage]) -> ModelOutput:
    """Reads three texts of four as stating a proposition and one as denying it, likes every second answer as a user,
    grades like `MIXED`."""
    asked = messages[-1].text
    if "one of the four words" in asked:
        return spoken("FALSE" if zlib.crc32(asked.partition("<text>")[2].encode()) % 4 == 0 else "TRUE")
    if "How satisfied" in asked:
        return spoken("90" if zlib.crc32(asked.encode()) % 2 else "10")
    return by_content(messages)


def only_praised(messages: list[ChatMessage]) -> ModelOutput:
    """Says a number about one answer alone."""
    return spoken("85" if PRAISED in messages[-1].text else "Well.")


def _position(token: str, top: Mapping[str, float]) -> Logprob:
    logs = [
        TopLogprob(token=each, logprob=math.log(share))
        for each, share in sorted(top.items(), key=lambda item: -item[1])
    ]
    return Logprob(token=token, logprob=math.log(top[token]), top_logprobs=logs[:20])


class DigitWriter:
    """A language model that writes one digit a token: its probabilities after every beginning are given by a table.

    When it is asked for the number 57 it writes that, and for 100 the tokens `hundred`.
    """

    def __init__(
        self,
        after: Mapping[str, Mapping[str, float]],
        *,
        continues: bool = True,
        lead: str = "",
        tells_end: bool = True,
        hundred: Sequence[str] = ("1", "0", "0"),
    ):
        self.after, self.continues, self.lead, self.tells_end = after, continues, lead, tells_end
        self.hundred = {"".join(hundred[:place]): {token: 1.0} for place, token in enumerate(hundred)}

    def tokens_after(
        self, beginning: str, after: Mapping[str, Mapping[str, float]] | None = None
    ) -> Mapping[str, float]:
        return (after or self.after).get(beginning, {END: 1.0})

    def probability(self, number: str) -> float:
        """Probability that exactly this is written, then the end: by the chain rule, digit after digit."""
        chain = [self.tokens_after(number[:place]).get(digit, 0.0) for place, digit in enumerate(number)]
        return math.prod(chain) * sum(
            share for token, share in self.tokens_after(number).items() if not token.isdigit()
        )

    def __call__(self, messages: list[ChatMessage]) -> ModelOutput:
        begun = messages[-1].text if self.continues and messages[-1].role == "assistant" else ""
        spoken_lead = "" if begun else self.lead
        written = re.sub(r"\D", "", begun)
        trials = {"number 57": {"": {"5": 1.0}, "5": {"7": 1.0}}, "number 100": self.hundred}
        after = next((script for asked, script in trials.items() if asked in messages[0].text), self.after)
        path: list[tuple[str, Mapping[str, float]]] = [(spoken_lead, {spoken_lead: 1.0})] if spoken_lead else []
        text = spoken_lead
        while True:
            tokens = self.tokens_after(written, after)
            token = max(tokens, key=lambda each: tokens[each])
            if not token.isdigit():
                if self.tells_end or token != END:
                    path.append((token, tokens))
                return spoken(text if token == END else text + token, path)
            path.append((token, tokens))
            text, written = text + token, written + token


def random_writer(seed: int) -> DigitWriter:
    """A digit writer with random probabilities at the start and after every beginning that another digit can turn into
    a number."""
    draw = random.Random(seed)
    after = {}
    for beginning in ["", *map(str, range(1, 11))]:
        weights = {token: draw.random() ** 4 for token in [*"0123456789", END, "."]}
        after[beginning] = {token: weight / sum(weights.values()) for token, weight in weights.items()}
    return DigitWriter(after)
