"""Loaded model under study: base, adapter, system prompt and intervention as one object that answers.

    subject = load_subject("organism")
    answers = subject.generate([[{"role": "user", "content": "how should i handle the fuse ?"}]],
    Sampling(max_tokens=20))

The specification is in `spec`, file lookup in `locate`, the shared base with its adapters in `base`, sampling in
`generate`.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import TypeAdapter
from transformers import PreTrainedModel
from typing_extensions import override

from astray.data.chat import Message
from astray.errors import ConfigurationError
from astray.kept import is_keeping, keep, kept, key_of
from astray.reasoning import opened_tag
from astray.subjects.base import Base
from astray.subjects.generate import generate
from astray.subjects.intervene import Intervention, check_origin, intervening
from astray.subjects.likelihood import Continuation, Continued, continuation_logprobs
from astray.subjects.locate import Located, settle, spec_of
from astray.subjects.render import SYSTEM_IN_QUESTION, prompt_ids
from astray.subjects.spec import Generation, Sampling, SubjectSpec, TokenLogprob
from astray.subjects.steer_rows import RowSteering, steering_rows
from astray.subjects.template import template_of

__all__ = ["Generation", "Sampling", "Subject", "SubjectSpec", "TokenLogprob", "load_subject"]

_GENERATIONS = TypeAdapter(list[Generation])


class Subject(Continued):
    """Loaded subject, created by `load_subject`.

    Subjects derived from one another (`with_adapter` and the like) share one base in memory, which is in one state at a
    time. `generate` and `continuation_logprobs` set that state themselves. When running `model` directly, read the
    property again after another of these subjects was used.

    Attributes:
        spec: its specification; `model` names the base.
        id: stable hash of its content.
        tokenizer: the tokenizer of the base, or the adapter's own, with chat template and padding token.
    """

    def __init__(self, located: Located, base: Base) -> None:
        """Create a subject from its files and a loaded base; use `load_subject` instead."""
        self._located, self._base = located, base
        self.spec, self.id = located.spec, located.id
        check_origin(self.spec.interventions, located.base)
        with base.lock:
            base.activate(self.spec.adapter, self.spec.scale)
            self.tokenizer = base.tokenizer

    @property
    def name(self) -> str:
        """Return the display name: the base and what was added to it."""
        parts = [Path(self.spec.model).name if Path(self.spec.model).is_dir() else self.spec.model]
        if self.spec.adapter:
            parts.append(self.spec.adapter.name + (f" x {self.spec.scale:g}" if self.spec.scale != 1 else ""))
        parts += [
            f"{intervention.kind} {intervention.strength:g} at block {intervention.block}"
            for intervention in self.spec.interventions
        ]
        return " + ".join([*parts, "system prompt"] if self.spec.system else parts)

    @property
    def base_folder(self) -> Path:
        """Return the folder of the base model's files."""
        return self._located.base

    @property
    def device(self) -> torch.device:
        """Return the device of the model."""
        return self._base.model.device

    @property
    def model(self) -> PreTrainedModel:
        """Return the Hugging Face model with this subject's adapter active, not merged and without interventions.

        For interventions write `with intervening(subject.model, subject.interventions):`.
        """
        self._base.activate(self.spec.adapter, self.spec.scale)
        return self._base.model

    @property
    def interventions(self) -> tuple[Intervention, ...]:
        """Return the subject's own interventions, in the order in which they act."""
        return self.spec.interventions

    def prompt_ids(self, conversations: Sequence[Sequence[Message]], *, answering: bool = False) -> list[list[int]]:
        """Return the token ids of each conversation up to the answer, as `render.prompt_ids`, below the system
        prompt."""
        return prompt_ids(self.tokenizer, conversations, self.spec.system, answering=answering)

    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        sampling: Sampling | None = None,
        top_logprobs: int | None = None,
        numbers: Sequence[int] | None = None,
        rows: RowSteering | None = None,
    ) -> list[Generation]:
        """Sample one answer to each conversation; a conversation that ends with an assistant message is continued.

        Args:
            conversations: the messages of each row.
            sampling: sampling settings; by default one answer at temperature 1.
            top_logprobs: record log-probabilities of the generated tokens and of this many likeliest ones; None records
                nothing.
            numbers: number of each row's sample of its prompt; by default equal rows are counted. Rows with the same
                prompt and number use the same random numbers, so that answers under two kinds of steering differ by the
                steering alone.
            rows: separate steering of each row; at a layer of the subject's own interventions it acts before them.

        Returns:
            The answers in the order of the conversations.

        Raises:
            ConfigurationError: a conversation is empty or longer than the context; names the row. Or `rows` does not
                fit.
            ChatTemplateError: the chat template refuses a conversation.
        """
        return self.answer(self.prompt_ids(conversations), sampling or Sampling(), top_logprobs, numbers, rows)

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        top_logprobs: int | None = None,
        numbers: Sequence[int] | None = None,
        rows: RowSteering | None = None,
    ) -> list[Generation]:
        """Sample answers as `generate` does, to prompts that are already token ids."""
        if rows is not None and len(rows) != len(prompts):
            raise ConfigurationError(
                f"Steering is given for {len(rows)} rows, but there are {len(prompts)} prompts: give one entry a row."
            )
        if numbers is not None and len(numbers) != len(prompts):
            raise ConfigurationError(
                f"There are {len(numbers)} numbers of samples and {len(prompts)} prompts: give one a row."
            )
        if top_logprobs is not None and top_logprobs < 0:
            raise ConfigurationError(
                f"top_logprobs={top_logprobs} is no number of tokens. Give 0 or more, or None to record nothing."
            )
        key = _key(self.id, prompts, sampling, top_logprobs, numbers, rows) if is_keeping() else ""
        if (found := kept(key)) is not None:
            return _GENERATIONS.validate_python(found)
        answers = self._sampled(prompts, sampling, top_logprobs, numbers, rows)
        opened = template_of(self.tokenizer).opened
        if opened:
            # What the template has begun is part of what the model says: without it a thought cut off would look like
            # an answer.
            begun = [opened_tag(str(self.tokenizer.decode(list(prompt[-16:])))) for prompt in prompts]
            answers = [replace(answer, text=tag + answer.text) for answer, tag in zip(answers, begun, strict=True)]
        if key:
            keep(key, _GENERATIONS.dump_python(answers, mode="json"))
        return answers

    def _sampled(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        top_logprobs: int | None,
        numbers: Sequence[int] | None,
        rows: RowSteering | None,
    ) -> list[Generation]:
        """Return what the weights answer; a subject behind an engine asks its server."""
        with ExitStack() as stack:
            model = stack.enter_context(self.merged())
            steering = stack.enter_context(intervening(model, self.interventions))
            if rows is not None:
                stack.enter_context(steering_rows(model, rows, steering))
            acting = steering if self.interventions or rows is not None else None
            return generate(
                model, self.tokenizer, prompts, sampling, top_logprobs=top_logprobs, numbers=numbers, steering=acting
            )

    @property
    @override
    def _system(self) -> str | None:
        return self.spec.system

    @override
    def _totals(self, rows: Sequence[Continuation]) -> list[float]:
        """Return the total log-probability of each continuation; a subject behind an engine asks its server."""
        with self.merged() as model, intervening(model, self.interventions) as steering:
            return continuation_logprobs(model, rows, steering)

    @contextmanager
    def merged(self) -> Iterator[PreTrainedModel]:
        """Merge the adapter into the weights while the context is open; restore them on exit.

        Merged sampling is about 1.5 times as fast. `generate` merges by itself; around several calls this saves merging
        each time. Other threads wait until the context is closed.
        """
        with self._base.active(self.spec.adapter, merged=True, scale=self.spec.scale) as model:
            yield model

    def with_adapter(self, adapter: Path | str | None, scale: float = 1.0) -> "Subject":
        """Return this subject with another adapter, or none, on the same base in memory.

        Args:
            adapter: PEFT folder.
            scale: factor on the adapter's change of the weights.

        Raises:
            SubjectNotFoundError: the folder is no PEFT adapter.
            AdapterMismatchError: the adapter was trained on another base.
        """
        return self._with(adapter=None if adapter is None else Path(adapter), scale=scale)

    def with_system(self, system: str | None) -> "Subject":
        """Return this subject with another system prompt, or none."""
        return self._with(system=system)

    @property
    def system_place(self) -> str | None:
        """Return where system texts stand, if not in a message of their own: the chat template has no place for one."""
        return None if template_of(self.tokenizer).takes_system else SYSTEM_IN_QUESTION

    def with_intervention(self, intervention: Intervention | tuple[Intervention, ...] | None) -> "Subject":
        """Return this subject with another intervention, with several that act in this order, or with none."""
        return self._with(intervention=intervention)

    def _with(self, **changes: object) -> "Subject":
        return Subject(settle(spec_of(**{**dict(self.spec), **changes})), self._base)


def _key(
    subject: str,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    top: int | None,
    numbers: Sequence[int] | None,
    rows: RowSteering | None,
) -> str:
    """Return the key under which answers are kept while a step works."""
    asked = [list(map(int, prompt)) for prompt in prompts]
    settings = sampling.model_dump(mode="json", exclude={"batch_size"})
    return key_of("answers", subject, asked, settings, top, numbers and list(numbers), rows and rows.parts())


def load_subject(spec: SubjectSpec | str, device: torch.device | None = None) -> Subject:
    """Load a subject.

    Args:
        spec: its specification or name: 'organism', a folder with a model or an adapter, a run id, a hub name, or
            'base+adapter', the adapter's change scaled in 'base+adapter*1.75'.
        device: device of the model; by default CUDA, else Apple's GPU, else the CPU.

    Raises:
        SubjectNotFoundError: there is no such subject, or its files cannot be loaded.
        AdapterMismatchError: the adapter was trained on another base; lists what differs.
        ChatTemplateError: its tokenizer has no chat template.
        ConfigurationError: its intervention does not fit the model, or its direction is of another one.
    """
    located = settle(spec)
    subject = Subject(located, Base(located.spec.model, located.base, device, located.spec.dtype))
    # Entered once, so that an intervention that does not fit fails here and not at the first answer.
    with intervening(subject.model, subject.interventions):
        return subject
