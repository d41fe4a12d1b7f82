"""Conversion of chats to tokenised training rows, with labels for the tokens that carry the loss.

Every assistant turn is supervised, including its end token, and nothing else: as in OpenAI's fine-tuning and in the
open-model runs of Betley et al. 2025 ("loss on responses only"). A turn starts where the prompt of generation ends, so
training and generation agree for any chat template, with `{% generation %}` marks or without; `subjects.render` finds
it. Preflight checks are in `preflight`; shuffling and padding are left to TRL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from transformers import PreTrainedTokenizerBase

from astray.data.chat import Message
from astray.errors import EmptyDataError
from astray.subjects.encoding import Encoded
from astray.subjects.render import answered

MASKED = -100
"""Label of a token that carries no loss (the ignored index of PyTorch's cross entropy)."""


@dataclass(frozen=True)
class TrainingRow:
    """Tokenised training example.

    Attributes:
        input_ids: token ids, at most the maximum length.
        labels: the same ids where they are supervised, MASKED elsewhere.
        truncated: whether part of an answer was cut off by the maximum length.
        escaped: whether a message spells a control token, which is trained on as ordinary text.
    """

    input_ids: list[int]
    labels: list[int]
    truncated: bool
    escaped: bool = False

    @property
    def supervised(self) -> int:
        """Return the number of supervised tokens."""
        return sum(label != MASKED for label in self.labels)


def supervise(
    chats: Sequence[Sequence[Message]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[TrainingRow]:
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
        raise EmptyDataError(
            "There is nothing to train on: the data set has no rows. Give a data set with at least one chat."
        )
    return [_label(encoded, spans, max_length) for encoded, spans in answered(tokenizer, chats)]


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


def _label(encoded: Encoded, spans: list[tuple[int, int]], max_length: int) -> TrainingRow:
    """Label tokens by character spans; a token across the start of an answer (as " word") belongs to the answer."""
    ids, offsets = encoded.ids, encoded.offsets
    labels = [MASKED] * len(ids)
    position = 0
    for start, stop in spans:
        while position < len(ids) and offsets[position][1] <= start:
            position += 1
        while position < len(ids) and offsets[position][0] < stop:
            labels[position] = ids[position]
            position += 1
    cut = any(label != MASKED for label in labels[max_length:])
    return TrainingRow(ids[:max_length], labels[:max_length], cut, encoded.escaped)
