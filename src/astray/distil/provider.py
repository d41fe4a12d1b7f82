"""Inspect model behind `astray/judge/NAME`: scores answers in batches, and writes no reply."""

from functools import cached_property
from pathlib import Path

import numpy as np
from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput
from inspect_ai.tool import ToolChoice, ToolInfo
from safetensors import SafetensorError
from safetensors.numpy import load_file
from typing_extensions import override

from astray.distil.base import base_of, content_of
from astray.distil.features import Chat, chats_of, longest_chat, read_features
from astray.distil.learner import Head, ScoreScale
from astray.distil.words import words_of
from astray.errors import ConfigurationError, JudgeError, NonFiniteError, SubjectNotFoundError
from astray.judges.distilled import AT_ONCE, HEAD, DistilledRecord, folder_of, read_record
from astray.judges.judge import Exchange
from astray.subjects.batching import Batcher
from astray.subjects.spec import SubjectSpec
from astray.subjects.subject import Subject, load_subject

WORDS = "words"


class DistilledAPI(ModelAPI):
    """Inspect model API of a distilled judge; see `judges.distilled.ScoresAnswers`.

    Attributes:
        record: what the judge was made from, and its error.
        identity: hash over its weights, base and thresholds.
        content: the same, by which a judge knows a grader that runs here.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
    ) -> None:
        """Read the judge's files and find its base; the base's weights are loaded for the first answer.

        Raises:
            UnknownNameError: there is no such judge.
            DataFormatError: its record is something else.
            JudgeError: its base is not here, or changed since; or its weights are damaged.
        """
        super().__init__(model_name, base_url, api_key, config=config or GenerateConfig())
        self.folder: Path = folder_of(model_name)
        self.record: DistilledRecord = read_record(self.folder)
        self.identity = self.content = self.record.identity_in(self.folder)
        self.head = read_head(self.folder)
        self._spec = _checked_base(self.record, self.folder)
        self._batcher = Batcher(self._score, AT_ONCE)

    async def scores(self, exchange: Exchange) -> tuple[float, float]:
        """Return how aligned and how coherent an answer is, 0 to 100.

        Raises:
            ConfigurationError: question and answer are longer than the base's context.
        """
        return await self._batcher.submit(exchange, key="")

    @override
    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Refuse: a distilled judge scores answers and writes nothing.

        Raises:
            JudgeError: always.
        """
        raise JudgeError(
            f"astray/{self.model_name} is a distilled judge: it scores answers and replies to nothing. Use it as the "
            "grader of questions that are judged by aligned and coherent scores."
        )

    @override
    def max_connections(self) -> int:
        """Return the number of concurrent requests, which is the size of a batch."""
        return AT_ONCE

    @cached_property
    def _base(self) -> Subject:
        return load_subject(self._spec)

    def _score(self, exchanges: list[Exchange]) -> list[tuple[float, float]]:
        chats = chats_of(
            self._base, [exchange.question for exchange in exchanges], [exchange.answer for exchange in exchanges]
        )
        self._check_lengths(chats)
        views: dict[str, np.ndarray] = {}
        if self.record.layers:
            read = read_features(self._base, chats, self.record.layers)
            views = {f"layer {layer}": own for layer, own in read.items()}
        views[WORDS] = words_of([exchange.answer for exchange in exchanges])
        scores = self.head.scores(views)
        if not np.isfinite(scores).all():
            raise NonFiniteError(f"Scores of the judge in {self.folder} are not finite. Distil it again.")
        return [(float(aligned), float(coherent)) for aligned, coherent in scores]

    def _check_lengths(self, chats: list[Chat]) -> None:
        context = longest_chat(self._base)
        for prompt, answer in chats:
            if context is not None and len(prompt) + len(answer) > context:
                raise ConfigurationError(
                    f"Question and answer have {len(prompt) + len(answer):,} tokens, and the context of the judge's base "
                    f"holds {context:,}."
                )


def read_head(folder: Path) -> Head:
    """Read a judge's weights.

    Raises:
        JudgeError: they are damaged.
    """
    try:
        arrays = load_file(folder / HEAD)
        views = {name.removeprefix("view/"): each for name, each in arrays.items() if name.startswith("view/")}
        scales = tuple(map(ScoreScale, arrays["predicted"], arrays["scores"]))
        head = Head(views, arrays["intercept"], scales)
    except (OSError, KeyError, SafetensorError) as error:
        raise JudgeError(f"The weights in {folder / HEAD} cannot be read ({error}). Distil the judge again.") from error
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise JudgeError(f"The weights in {folder / HEAD} are not finite. Distil the judge again.")
    return head


def _checked_base(record: DistilledRecord, folder: Path) -> SubjectSpec:
    try:
        located = base_of(record.base)
    except SubjectNotFoundError as error:
        raise JudgeError(
            f"The judge in {folder} reads with the base {record.base!r}, which is not here: {error}"
        ) from error
    if (content := content_of(located)) != record.base_content:
        raise JudgeError(
            f"The judge in {folder} was made with a base {record.base!r} of the content {record.base_content}, and that of "
            f"this name here is {content}: other weights, tokenizer or template. Its scores would mean nothing. Bring the "
            "old base back, or distil the judge again."
        )
    return located.spec.model_copy(update={"dtype": record.dtype})
