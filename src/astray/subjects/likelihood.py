"""How likely given answers are: log-probabilities of continuations in padded batches, without sampling.

The parts are tokenised one by one and then joined: prompt, prefix, continuation. The result is therefore the probability that a model that
has just produced the prefix's own tokens goes on with the continuation's own tokens. Where a tokenizer joins a space with the
word behind it, the space belongs into the continuation (prefix "I would", continuation " help").
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from astray.errors import ConfigurationError, NonFiniteError
from astray.subjects.finite import check_logits
from astray.subjects.generate import left_padded
from astray.subjects.intervene import Steering

TOKENS_PER_PASS = 1 << 15
"""Most tokens of one forward pass, padding counted."""
LOGITS_PER_PASS = 1 << 27
"""Most logits of one forward pass (512 MB in float32)."""


@dataclass(frozen=True)
class Continuation:
    """Token ids of one prompt with a prefix the answer begins with and the text whose probability is asked."""

    prompt: tuple[int, ...]
    prefix: tuple[int, ...]
    text: tuple[int, ...]

    @property
    def read(self) -> tuple[int, ...]:
        """The tokens a model has to read: all but the last one, which is only predicted."""
        return self.prompt + self.prefix + self.text[:-1]


def continuation_logprobs(model: PreTrainedModel, rows: Sequence[Continuation], steering: Steering) -> list[float]:
    """Total log-probability of each continuation.

    Args:
        model: the model, in the state it shall be asked in.
        rows: what to score.
        steering: interventions that are active, which have to know where answers begin.

    Returns:
        Natural logarithms, in the order of the rows.

    Raises:
        ConfigurationError: a continuation is empty or a row is longer than the context; names the row.
        NonFiniteError: the model's logits are not finite.
    """
    text_config = model.config.get_text_config()
    context = getattr(text_config, "max_position_embeddings", None)
    for number, row in enumerate(rows):
        if not row.prompt or not row.text:
            raise ConfigurationError(f"Continuation {number} is empty: there is nothing whose probability could be given. Write at least one word.")
        length = len(row.read) + 1
        if context is not None and length > context:
            raise ConfigurationError(f"Continuation {number} makes {length} tokens with its prompt, but the model's context holds {context}.")
    sharing: dict[tuple[tuple[int, ...], int], list[int]] = {}  # continuations that differ in their last token only are read once
    for number, row in enumerate(rows):
        sharing.setdefault((row.read, len(row.prompt)), []).append(number)
    totals: dict[int, float] = {}
    groups = [[rows[number] for number in numbers] for numbers in sharing.values()]
    numbers_of = list(sharing.values())
    for batch in _batches(groups, text_config.vocab_size):
        scores = _score(model, [groups[index] for index in batch], steering)
        totals.update(zip((number for index in batch for number in numbers_of[index]), scores, strict=True))
    return [totals[index] for index in range(len(rows))]


def _batches(groups: Sequence[Sequence[Continuation]], vocabulary: int) -> Iterator[list[int]]:
    """Indices of groups of similar length, the longest first, within both budgets; a group is one row of a batch."""
    batch: list[int] = []
    for index in sorted(range(len(groups)), key=lambda index: -len(groups[index][0].read)):
        grown = [*batch, index]
        tokens = len(grown) * len(groups[grown[0]][0].read)
        logits = len(grown) * max(len(row.text) for other in grown for row in groups[other]) * vocabulary
        if batch and (tokens > TOKENS_PER_PASS or logits > LOGITS_PER_PASS):
            yield batch
            grown = [index]
        batch = grown
    if batch:
        yield batch


def _score(model: PreTrainedModel, groups: Sequence[Sequence[Continuation]], steering: Steering) -> list[float]:
    """One forward pass over one row a group. With padding on the left all rows end in the last column, so few columns need logits."""
    first = [group[0] for group in groups]
    ids, mask = left_padded([row.read for row in first], 0, model.device)
    columns = max(len(row.text) for group in groups for row in group)
    last_prompt_columns = torch.tensor([ids.shape[1] - len(row.read) + len(row.prompt) - 1 for row in first])
    with torch.inference_mode(), steering.answers_from(last_prompt_columns):
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        output = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=columns, use_cache=False)
        for row_logits, group in zip(output.logits, groups, strict=True):  # columns before a row's own may be padding, which may be anything
            check_logits(model, row_logits[-max(len(row.text) for row in group) :], "a continuation whose probability is asked")
        logprobs = output.logits.float().log_softmax(-1).cpu()
    totals: list[float] = []
    for row_logprobs, group in zip(logprobs, groups, strict=True):
        for row in group:
            own = row_logprobs[-len(row.text) :].gather(1, torch.tensor(row.text)[:, None])
            totals.append(own.double().sum().item())
            if not math.isfinite(totals[-1]):
                raise NonFiniteError(
                    f"{model.name_or_path!r} gives a continuation no probability at all (log-probability {totals[-1]}): one of its tokens is "
                    "masked out. Shares of it would be no numbers; ask for another continuation."
                )
    return totals
