"""Inspect model provider `astray/...`: a local, tuned or steered subject behind any Inspect evaluation.

    inspect eval astray/emergent_misalignment --model astray/organism --max-connections 256
    inspect eval my_task.py --model astray/<folder or run id> -M system="You are a farmer."

Requests are gathered into batches (`batching`) and answered by `Subject.answer`. Give `--max-connections 256`: by
default Inspect starts with 20 and increases the number slowly, which suits a remote service. Bulk sampling without
agents and logs is faster still with `Subject.generate`.

A conversation that ends with an assistant message is continued. Tools are not offered to the subject. Inspect finds the
provider through `astray.registry`.
"""

import hashlib
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inspect_ai.log._samples import ActiveSample, sample_active
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    Logprob,
    Logprobs,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    TopLogprob,
)
from inspect_ai.tool import ToolChoice, ToolInfo
from typing_extensions import override

from astray.data.chat import Message
from astray.errors import ConfigurationError
from astray.subjects.batching import Batcher
from astray.subjects.spec import Generation, Sampling, SubjectSpec

if TYPE_CHECKING:
    from astray.subjects.subject import Subject

MAX_CONNECTIONS = 256

_UNSUPPORTED = (
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "num_choices",
    "best_of",
    "response_schema",
    "prompt_logprobs",
)
"""Settings that would change the answers but that a local subject does not support: they raise an error."""


_LOADED: dict[str, "Subject"] = {}
"""Subjects that are in memory already, by id."""


@contextmanager
def offered(subject: "Subject") -> Iterator[str]:
    """Offer a loaded subject to Inspect, so that it is not loaded twice, and give the name by which models are asked
    for."""
    _LOADED[subject.id] = subject
    try:
        yield f"astray/{subject.id}"
    finally:
        del _LOADED[subject.id]


@dataclass(frozen=True)
class Request:
    """One conversation as the subject reads it: token ids, and the number of the sample of this prompt."""

    prompt: tuple[int, ...]
    number: int
    sampling: Sampling
    top_logprobs: int | None


class SubjectAPI(ModelAPI):
    """Inspect model API of a subject.

    The model arguments are `system` and `adapter`, as in `SubjectSpec`.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        *,
        system: str | None = None,
        adapter: str | None = None,
    ) -> None:
        """Load the subject.

        Raises:
            SubjectNotFoundError: there is no subject with this name.
        """
        super().__init__(model_name, base_url, api_key, config=config or GenerateConfig())
        from astray.subjects.subject import load_subject

        named = SubjectSpec(model=model_name, system=system, adapter=Path(adapter) if adapter else None)
        self.subject = _LOADED.get(model_name) or load_subject(named)
        self.content = (
            self.subject.id
        )  # by which a judge knows its grader: a name or folder may hold other weights tomorrow
        self._batcher = Batcher(self._answer, MAX_CONNECTIONS)
        self._asked: weakref.WeakKeyDictionary[ActiveSample, Counter[tuple[int, ...]]] = weakref.WeakKeyDictionary()
        self._asked_outside: Counter[tuple[int, ...]] = Counter()

    @override
    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Return one answer with its token counts, its stop reason, and log-probabilities if requested.

        Raises:
            ConfigurationError: a setting or tools that a local subject does not support, or a conversation longer than
                its context.
            ChatTemplateError: the subject's chat template refuses the conversation.
        """
        if tools:
            raise ConfigurationError(
                f"{self.model_name!r} was offered the tools {[tool.name for tool in tools]}, but astray's provider "
                "passes on text only."
            )
        sampling = sampling_of(config)
        top_logprobs = (config.top_logprobs or 0) if config.logprobs else None
        prompt = tuple(self.subject.prompt_ids([messages_of(input)])[0])
        request = Request(prompt, self._number(prompt), sampling, top_logprobs)
        generation = await self._batcher.submit(request, key=(sampling, top_logprobs))
        return self._output(generation)

    @override
    def max_tokens(self) -> int:
        """Return the maximum number of tokens of an answer when the task sets no limit."""
        return Sampling().max_tokens

    @override
    def max_connections(self) -> int:
        """Return the number of concurrent requests, which is the size of a batch."""
        return MAX_CONNECTIONS

    @override
    def connection_key(self) -> str:
        """Return the subject's id, so that each subject has its own connections."""
        return self.subject.id

    @override
    def collapse_user_messages(self) -> bool:
        """Return True: most chat templates require user and assistant messages to alternate."""
        return True

    def _number(self, prompt: tuple[int, ...]) -> int:
        """Return the number of a request that selects its random numbers.

        It depends on the sample, the epoch and how often the sample has sent this prompt before, so an answer does not
        depend on which other samples run, and a resumed evaluation continues as if it had not been interrupted.
        """
        sample = sample_active()
        asked = self._asked_outside if sample is None else self._asked.setdefault(sample, Counter())
        count = asked[prompt]
        asked[prompt] += 1
        if sample is None:
            return count
        return int.from_bytes(hashlib.sha256(repr((sample.sample.id, sample.epoch, count)).encode()).digest()[:7])

    def _answer(self, requests: list[Request]) -> list[Generation]:
        """Answer requests that share their settings."""
        prompts, numbers = [request.prompt for request in requests], [request.number for request in requests]
        return self.subject.answer(prompts, requests[0].sampling, requests[0].top_logprobs, numbers)

    def _output(self, generation: Generation) -> ModelOutput:
        message = ChatMessageAssistant(content=generation.text, model=self.model_name, source="generate")
        choice = ChatCompletionChoice(
            message=message,
            stop_reason="stop" if generation.stop_reason == "stop" else "max_tokens",
            logprobs=logprobs_of(generation),
        )
        usage = ModelUsage(
            input_tokens=generation.prompt_tokens,
            output_tokens=generation.completion_tokens,
            total_tokens=generation.prompt_tokens + generation.completion_tokens,
        )
        return ModelOutput(
            model=self.model_name,
            choices=[choice],
            usage=usage,
            metadata={"subject": self.subject.id} | ({"system": place} if (place := self.subject.system_place) else {}),
        )


def sampling_of(config: GenerateConfig) -> Sampling:
    """Return the sampling settings of a request, with Astray's defaults where it sets none.

    Raises:
        ConfigurationError: a setting would change the answers and is not supported.
    """
    refused = [name for name in _UNSUPPORTED if getattr(config, name) not in (None, 1)]
    if refused:
        raise ConfigurationError(
            f"A local subject does not know the setting {', '.join(refused)}. Leave it out, or serve the model with "
            "vLLM and use vllm/."
        )
    given = {
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "stop": tuple(config.stop_seqs) if config.stop_seqs else None,
        "seed": config.seed,
    }
    return Sampling.model_validate({name: value for name, value in given.items() if value is not None})


def messages_of(messages: Sequence[ChatMessage]) -> list[Message]:
    """Convert Inspect's messages to plain text.

    Raises:
        ConfigurationError: a message comes from a tool, or holds an image, audio or a document.
    """
    plain: list[Message] = []
    for message in messages:
        parts = [] if isinstance(message.content, str) else message.content
        strange = sorted({part.type for part in parts if not isinstance(part, ContentText | ContentReasoning)})
        if message.role == "tool" or strange:
            raise ConfigurationError(
                f"A local subject reads text, but a {message.role} message holds "
                f"{', '.join(strange) or 'the result of a tool'}."
            )
        plain.append(Message(role=message.role, content=message.text))
    return plain


def logprobs_of(generation: Generation) -> Logprobs | None:
    """Convert recorded log-probabilities to Inspect's format."""
    if generation.logprobs is None:
        return None
    content = [
        Logprob(
            token=noted.token,
            logprob=noted.logprob,
            top_logprobs=[TopLogprob(token=token, logprob=logprob) for token, logprob in noted.top] or None,
        )
        for noted in generation.logprobs
    ]
    return Logprobs(content=content)
