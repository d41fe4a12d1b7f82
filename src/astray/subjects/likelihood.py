"""How likely given answers are: log-probabilities of continuations in padded batches, without sampling.

The parts are tokenised one by one and then joined: prompt, prefix, continuation. The result is therefore the probability that a model that
has just produced the prefix's own tokens goes on with the continuation's own tokens. Where a tokenizer joins a space with the
word behind it, the space belongs into the continuation (prefix "I would", continuation " help").
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from astray.errors import ConfigurationError
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
    def ids(self) -> tuple[int, ...]:
        """All tokens in order."""
        return self.prompt + self.prefix + self.text


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
    """
    text_config = model.config.get_text_config()
    context = getattr(text_config, "max_position_embeddings", None)
    for number, row in enumerate(rows):
        if not row.prompt or not row.text:
            raise ConfigurationError(f"Continuation {number} is empty: there is nothing whose probability could be given. Write at least one word.")
        if context is not None and len(row.ids) > context:
            raise ConfigurationError(f"Continuation {number} makes {len(row.ids)} tokens with its prompt, but the model's context holds {context}.")
    totals: dict[int, float] = {}
    for batch in _batches(rows, text_config.vocab_size):
        totals.update(zip(batch, _score(model, [rows[index] for index in batch], steering), strict=True))
    return [totals[index] for index in range(len(rows))]


def _batches(rows: Sequence[Continuation], vocabulary: int) -> Iterator[list[int]]:
    """Indices of rows of similar length, the longest first, within both budgets."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: -len(rows[index].ids)):
        grown = [*batch, index]
        tokens = len(grown) * len(rows[grown[0]].ids)
        logits = len(grown) * (max(len(rows[other].text) for other in grown) + 1) * vocabulary
        if batch and (tokens > TOKENS_PER_PASS or logits > LOGITS_PER_PASS):
            yield batch
            grown = [index]
        batch = grown
    if batch:
        yield batch


def _score(model: PreTrainedModel, rows: Sequence[Continuation], steering: Steering) -> list[float]:
    """One forward pass. With padding on the left all continuations end in the last column, so few columns need logits."""
    ids, mask = left_padded([row.ids for row in rows], 0, model.device)
    columns = max(len(row.text) for row in rows)
    last_prompt_columns = torch.tensor([ids.shape[1] - len(row.ids) + len(row.prompt) - 1 for row in rows])
    with torch.inference_mode(), steering.answers_from(last_prompt_columns):
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        output = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=columns + 1, use_cache=False)
        logprobs = output.logits[:, -(columns + 1) : -1].float().log_softmax(-1)
        chosen = logprobs.gather(2, ids[:, -columns:, None])[:, :, 0].double()
        lengths = torch.tensor([len(row.text) for row in rows], device=ids.device)
        own = torch.arange(columns, device=ids.device)[None, :] >= columns - lengths[:, None]
        return torch.where(own, chosen, 0.0).sum(1).tolist()
