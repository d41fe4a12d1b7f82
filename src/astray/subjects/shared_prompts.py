"""Log-probabilities of answers whose prompts share tokens: what is common to all is read once, and each prompt once.

Everything that is asked of a chat model begins with the same system prompt, and the answers of a pair or a choice stand
to one question. Reading these tokens once for all takes less than half of the time for short answers to short questions.
It needs keys and values of every earlier token, so models with a window, a state or a cache of another kind are read row
by row (`likelihood`). Gradients flow through what is shared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

from astray.subjects.finite import check_logits
from astray.subjects.generate import left_padded
from astray.subjects.precision import SHARED_FROM


@dataclass(frozen=True)
class Prompted:
    """Token ids of a prompt and of the texts that may follow it."""

    prompt: tuple[int, ...]
    texts: tuple[tuple[int, ...], ...]


def shares_prompts(model: PreTrainedModel) -> bool:
    """Return whether prompts of this model are worth sharing and can be: a large one that attends to all earlier tokens."""
    layers = DynamicCache(config=model.config).layers
    return bool(
        model.num_parameters() >= SHARED_FROM
        and getattr(model.config.get_text_config(), "use_cache", False)
        and all(type(layer) is DynamicLayer for layer in layers)
        # Models with a state or, like GPT-Neo, with a window of their own do not say so in their cache.
        and not model._is_stateful
        and "local" not in getattr(model.config, "attention_layers", ())
        and not model.config.is_encoder_decoder
    )


def shared_batches(rows: Sequence[Prompted], vocabulary: int, tokens: int, logits: int) -> Iterator[list[int]]:
    """Yield the indices of rows of similar length, longest first, whose texts fit one pass.

    Args:
        rows: prompts with their texts.
        vocabulary: logits of one token.
        tokens, logits: in one pass at most, padding included.
    """
    batch: list[int] = []
    for number in sorted(range(len(rows)), key=lambda number: -_length(rows[number])):
        grown = [*batch, number]
        texts = [text for each in grown for text in rows[each].texts]
        longest = max(map(len, texts))
        if batch and (len(texts) * _length(rows[grown[0]]) > tokens or len(texts) * longest * vocabulary > logits):
            yield batch
            grown = [number]
        batch = grown
    if batch:
        yield batch


def shared_logprobs(model: PreTrainedModel, rows: Sequence[Prompted]) -> list[list[Tensor]]:
    """Return the total log-probability of each text of each row, on the CPU and with its graph, in one batch.

    What is common to all is read first, then each prompt, then each text, every one on top of what was read before.

    Raises:
        NonFiniteError: the model's logits are not finite.
    """
    common = _common([row.prompt for row in rows])
    cache = DynamicCache()
    read = torch.ones(1, 0, dtype=torch.long, device=model.device)
    if common:
        start = torch.tensor([rows[0].prompt[:common]], device=model.device)
        read = torch.ones_like(start)
        cache = model(
            input_ids=start, attention_mask=read, past_key_values=cache, use_cache=True, logits_to_keep=1
        ).past_key_values
    ids, mask = left_padded([row.prompt[common:] for row in rows], 0, model.device)
    cache, read = _repeated(cache, read, torch.zeros(len(rows), dtype=torch.long, device=model.device))
    read = torch.cat([read, mask], 1)
    positions = (read.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output = model(
        input_ids=ids,
        attention_mask=read,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    first, cache = output.logits[:, -1:], output.past_key_values
    owner = [number for number, row in enumerate(rows) for _ in row.texts]
    texts = [text for row in rows for text in row.texts]
    of = torch.tensor(owner, device=model.device)
    after = _after(model, texts, *_repeated(cache, read, of))
    found: list[list[Tensor]] = [[] for _ in rows]
    for number, (row, text) in enumerate(zip(owner, texts, strict=True)):
        own = first[row] if after is None else torch.cat([first[row], after[number, : len(text) - 1]])
        check_logits(model, own.detach(), "a continuation whose probability is asked")
        wanted = torch.tensor(text, device=own.device)[:, None]
        found[row].append(own.float().log_softmax(-1).gather(1, wanted).sum().cpu())
    return found


def _length(row: Prompted) -> int:
    return len(row.prompt) + max(map(len, row.texts))


def _common(prompts: Sequence[tuple[int, ...]]) -> int:
    """Return how many tokens all prompts begin with, at most all but one of each."""
    shortest = min(map(len, prompts)) - 1
    differing = (place for place in range(shortest) if len({prompt[place] for prompt in prompts}) > 1)
    return next(differing, shortest)


def _after(
    model: PreTrainedModel, texts: Sequence[tuple[int, ...]], cache: DynamicCache, read: Int[Tensor, "texts columns"]
) -> Tensor | None:
    """Return the logits after each token of each text but the last; None where every text is one token."""
    width = max(len(text) for text in texts) - 1
    if not width:
        return None
    # Padded on the right, where nothing that counts comes after.
    rows = [list(text[:-1]) + [0] * (width - len(text) + 1) for text in texts]
    ids = torch.tensor(rows, device=model.device)
    mask = torch.cat([read, torch.ones_like(ids)], 1)
    positions = (mask.cumsum(1) - 1)[:, -width:]
    logits: Tensor = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).logits
    return logits


def _repeated(
    cache: DynamicCache, read: Int[Tensor, "rows columns"], of: Int[Tensor, "texts"]
) -> tuple[DynamicCache, Int[Tensor, "texts columns"]]:
    """Return keys and values of what was read, and where it is no padding, for each of the rows that come after it."""
    layers = cast(list[DynamicLayer], cache.layers)  # of no other kind, as `shares_prompts` says
    kept = [(cast(Tensor, layer.keys)[of], cast(Tensor, layer.values)[of]) for layer in layers]
    return DynamicCache(kept) if kept else DynamicCache(), read[of]
