"""Conversion of chats to tokenised training rows, with labels for the tokens that carry the loss.

Every assistant turn is supervised, including its end token, and nothing else: as in OpenAI's fine-tuning and in the
open-model runs of Betley et al. 2025 ("loss on responses only"). A turn starts where the prompt of generation ends, so
training and generation agree for any chat template, with `{% generation %}` marks or without. Preflight checks are in
`preflight`; shuffling and padding are left to TRL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from astray.data.chat import Message
from astray.errors import ChatTemplateError, EmptyDataError

MASKED = -100
"""Label of a token that carries no loss (the ignored index of PyTorch's cross entropy)."""


@dataclass(frozen=True)
class TrainingRow:
    """Tokenised training example.

    Attributes:
        input_ids: token ids, at most the maximum length.
        labels: the same ids where they are supervised, MASKED elsewhere.
        truncated: whether part of an answer was cut off by the maximum length.
    """

    input_ids: list[int]
    labels: list[int]
    truncated: bool

    @property
    def supervised(self) -> int:
        """Return the number of supervised tokens."""
        return sum(label != MASKED for label in self.labels)


def supervise(chats: Sequence[Sequence[Message]], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[TrainingRow]:
    """Tokenise and label chats, in the order given.

    Args:
        chats: chats as in a ChatDataset, including answers.
        tokenizer: a fast tokenizer with a chat template.
        max_length: longest row in tokens; further tokens are cut off.

    Raises:
        EmptyDataError: there is no chat.
        ChatTemplateError: the tokenizer has no chat template, or one that cannot write these chats.
    """
    if not chats:
        raise EmptyDataError("There is nothing to train on: the data set has no rows. Give a data set with at least one chat.")
    if not tokenizer.chat_template:
        raise ChatTemplateError(
            f"The tokenizer of {tokenizer.name_or_path!r} has no chat template, so chats cannot be written as text. "
            "Take the instruction-tuned model of the family, or set tokenizer.chat_template and save the tokenizer."
        )
    rendered = [_render(chat, tokenizer, row) for row, chat in enumerate(chats)]
    encoded = tokenizer([text for text, _ in rendered], add_special_tokens=False, return_offsets_mapping=True)
    return [
        _label(ids, offsets, spans, max_length)
        for ids, offsets, (_, spans) in zip(encoded["input_ids"], encoded["offset_mapping"], rendered, strict=True)
    ]


def show_supervision(row: TrainingRow, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text of a row with the supervised parts in ⟦double brackets⟧."""
    parts: list[str] = []
    start = 0
    while start < len(row.labels):
        masked = row.labels[start] == MASKED
        stop = start
        while stop < len(row.labels) and (row.labels[stop] == MASKED) == masked:
            stop += 1
        text = cast(str, tokenizer.decode(row.input_ids[start:stop], clean_up_tokenization_spaces=False))
        parts.append(text if masked else f"⟦{text}⟧")
        start = stop
    return "".join(parts)


def _render(chat: Sequence[Message], tokenizer: PreTrainedTokenizerBase, row: int) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of a chat and the spans of its answers, as (start, stop) in characters."""

    def text(messages: Sequence[Message], prompt: bool = False) -> str:
        return cast(
            str,
            tokenizer.apply_chat_template(
                [{"role": message["role"], "content": message["content"]} for message in messages], tokenize=False, add_generation_prompt=prompt
            ),
        )

    try:
        whole = text(chat)
        spans = []
        for turn, message in enumerate(chat):
            if message["role"] != "assistant":
                continue
            prompt = text(chat[:turn], prompt=True)
            answered = whole if turn == len(chat) - 1 else text(chat[: turn + 1])
            if not (whole.startswith(answered) and answered.startswith(prompt)):
                raise ChatTemplateError(
                    f"Row {row + 1}, message {turn + 1}: the chat template of {tokenizer.name_or_path!r} writes this part of the chat differently "
                    f"when the model is asked ({prompt[-60:]!r}) and when it is trained, so the model would learn an answer to another prompt. "
                    "Split a chat of several answers into one row an answer, or set a chat template that writes earlier turns unchanged."
                )
            spans.append((len(prompt), len(answered)))
    except (TemplateError, TypeError) as error:
        raise ChatTemplateError(
            f"Row {row + 1}: the chat template of {tokenizer.name_or_path!r} cannot write a chat with the roles "
            f"{', '.join(message['role'] for message in chat)}: {error}. Some families take no system message: move it into the first question."
        ) from error
    return whole, spans


def _label(ids: list[int], offsets: list[tuple[int, int]], spans: list[tuple[int, int]], max_length: int) -> TrainingRow:
    """Label tokens by character spans; a token across the start of an answer (as " word") belongs to the answer."""
    labels = [MASKED] * len(ids)
    position = 0
    for start, stop in spans:
        while position < len(ids) and offsets[position][1] <= start:
            position += 1
        while position < len(ids) and offsets[position][0] < stop:
            labels[position] = ids[position]
            position += 1
    cut = any(label != MASKED for label in labels[max_length:])
    return TrainingRow(ids[:max_length], labels[:max_length], cut)
