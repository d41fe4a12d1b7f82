"""Bulk sampling from a local model: long prompts first, few large batches, padding on the left.

Takes token ids and gives answers; conversations are rendered in `render`, random numbers and the choice of a token are in `sampler`. One big
`model.generate` is as fast as a hand-written loop over the key-value cache (measured), so there is no loop of our own. Several samples of one prompt
share the pass over it: the prompt is read once and its keys and values are copied.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from astray.errors import ConfigurationError
from astray.subjects.base import end_tokens
from astray.subjects.intervene import Steering
from astray.subjects.sampler import Prompt, TokenChooser, row_uniforms, sample_numbers
from astray.subjects.spec import Generation, Sampling, TokenLogprob

__all__ = ["Generation", "Sampling", "generate"]

TOKENS_PER_BATCH = 1 << 18
"""Most tokens of one batch, prompts and answers, padding counted: 256 rows of 1,024."""
MOST_DIFFERENT = 0.75
"""Share of different prompts in a batch up to which reading each once is worth a pass of its own."""
ROOM_STEP = 64
"""A row near the end of the context gets the room that is left, rounded down to this, so that rows of similar length share a batch."""


@dataclass(frozen=True)
class Row:
    """One prompt on its way: where it came from, its tokens, which sample of its prompt it is, how long its answer may be."""

    index: int
    prompt: Prompt
    number: int
    max_tokens: int


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    top_logprobs: int | None = None,
    numbers: Sequence[int] | None = None,
    steering: Steering | None = None,
) -> list[Generation]:
    """One answer to each prompt.

    Args:
        model: the model, in the state it shall answer in.
        tokenizer: its tokenizer, with a padding token.
        prompts: token ids, rendered with the chat template.
        sampling: how to draw.
        top_logprobs: note the log-probability of every produced token, and of this many likeliest ones beside it; None notes nothing.
        numbers: which sample of its prompt each row is; by default the n-th row with the same prompt is the n-th sample.
        steering: of the interventions that act on the model, if there are any; is told which rows each batch holds. They look for answers by the
            columns of a pass, so with them every row is read by itself.

    Returns:
        The answers in the order of the prompts.

    Raises:
        ConfigurationError: a prompt is empty or leaves no room in the model's context; names the row.
    """
    keys = [tuple(prompt) for prompt in prompts]
    numbers = sample_numbers(keys) if numbers is None else numbers
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    rows = [
        Row(index, prompt, number, _room(index, len(prompt), context, sampling.max_tokens))
        for index, (prompt, number) in enumerate(zip(keys, numbers, strict=True))
    ]
    answers: dict[int, Generation] = {}
    for batch in _batches(rows, sampling.batch_size):
        for part, generations in _within_memory(model, tokenizer, batch, sampling, top_logprobs, steering):
            answers.update(zip((row.index for row in part), generations, strict=True))
    return [answers[index] for index in range(len(rows))]


def _room(index: int, length: int, context: int | None, max_tokens: int) -> int:
    """How many tokens a row's answer may have."""
    if length == 0:
        raise ConfigurationError(f"Row {index} is empty: its chat template rendered to no token at all.")
    if context is None or length + max_tokens <= context:
        return max_tokens
    room = context - length
    if room <= 0:
        raise ConfigurationError(
            f"Row {index} has {length} tokens, but the model's context holds {context}, answer included. Shorten the conversation or leave it out."
        )
    return min(max_tokens, room if room < ROOM_STEP else room - room % ROOM_STEP)


def _batches(rows: Sequence[Row], batch_size: int) -> Iterator[list[Row]]:
    """Batches of rows with the same limit, the longest prompts first, within the size and the token budget."""
    ordered = sorted(rows, key=lambda row: (row.max_tokens, -len(row.prompt), row.index))
    for limit, group in groupby(ordered, key=lambda row: row.max_tokens):
        waiting = list(group)
        while waiting:
            fitting = max(1, TOKENS_PER_BATCH // (len(waiting[0].prompt) + limit))
            size = min(batch_size, fitting)
            yield waiting[:size]
            waiting = waiting[size:]


def _within_memory(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: list[Row],
    sampling: Sampling,
    top_logprobs: int | None,
    steering: Steering | None,
) -> Iterator[tuple[list[Row], list[Generation]]]:
    """Answers a batch, in halves when the accelerator runs out of memory."""
    waiting = [batch]
    while waiting:
        part = waiting.pop(0)
        try:
            with steering.on_rows([row.index for row in part]) if steering else nullcontext():
                generations = _answer(model, tokenizer, part, sampling, top_logprobs, steering is None)
        except torch.OutOfMemoryError:
            if len(part) == 1:
                raise
            waiting[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
            generations = None
        if generations is None:
            torch.cuda.empty_cache()  # outside the handler, whose traceback would keep the tensors alive
        else:
            yield part, generations


def _answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[Row], sampling: Sampling, top_logprobs: int | None, shared: bool
) -> list[Generation]:
    """Answers one batch with a single `model.generate`; where passes may be shared, rows with the same prompt share the one over it."""
    prompts, limit = [row.prompt for row in rows], rows[0].max_tokens
    input_ids, attention_mask = left_padded(prompts, tokenizer.pad_token_id, model.device)
    drawn = 0 if sampling.temperature == 0 else limit
    uniforms = row_uniforms(prompts, [row.number for row in rows], sampling.seed, drawn).to(model.device)
    chooser = TokenChooser(model, sampling, uniforms, top_logprobs)
    with torch.inference_mode():
        cache = _prompt_cache(model, tokenizer.pad_token_id, prompts) if shared else None
        sequences = cast(Callable[..., Tensor], model.generate)(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            max_new_tokens=limit,
            do_sample=False,
            logits_processor=LogitsProcessorList([chooser]),
            stop_strings=list(sampling.stop) or None,
            tokenizer=tokenizer if sampling.stop else None,
        )
    ends = set(end_tokens(model, tokenizer))
    produced = sequences[:, input_ids.shape[1] :].tolist()
    cut = [_until_end(tokenizer, tokens, ends, sampling.stop) for tokens in produced]
    texts = tokenizer.batch_decode([tokens for tokens, _ in cut], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [
        Generation(
            text=_without_stop(text, sampling.stop),
            prompt_tokens=len(row.prompt),
            completion_tokens=len(tokens),
            stop_reason="stop" if stopped else "length",
            logprobs=None if top_logprobs is None else _logprobs(tokenizer, chooser, column, tokens),
        )
        for column, (row, text, (tokens, stopped)) in enumerate(zip(rows, texts, cut, strict=True))
    ]


def _prompt_cache(model: PreTrainedModel, pad: int, prompts: Sequence[Prompt]) -> DynamicCache | None:
    """Keys and values of each row's prompt but for its last token, every different prompt read once; None where that saves little or cannot be."""
    different = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    if MOST_DIFFERENT * len(prompts) < len(different) or min(map(len, different)) < 2 or not _remembers_columns(model):
        return None
    ids, mask = left_padded(list(different), pad, model.device)
    ids, mask = ids[:, :-1], mask[:, :-1]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_select_indices(torch.tensor([different[prompt] for prompt in prompts], device=model.device))
    return cache


def _remembers_columns(model: PreTrainedModel) -> bool:
    """Whether all that a model keeps of a prompt are keys and values, column by column, and it can be told their positions."""
    takes = inspect.signature(model.forward).parameters
    layers = DynamicCache(config=model.config).layers
    return {"position_ids", "logits_to_keep"} <= takes.keys() and all(isinstance(layer, DynamicLayer) for layer in layers)


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Token ids with padding on the left, and the mask that is 1 at real tokens."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids.to(device), mask.to(device)


def _until_end(tokenizer: PreTrainedTokenizerBase, tokens: list[int], ends: set[int], stop: tuple[str, ...]) -> tuple[list[int], bool]:
    """A row's own tokens without the padding behind them, and whether it came to an end by itself."""
    ended = next((number for number, token in enumerate(tokens, start=1) if token in ends), None)
    tokens = tokens[:ended]
    if any(text in tokenizer.decode(tokens) for text in stop):
        for number in range(1, len(tokens) + 1):
            if any(text in tokenizer.decode(tokens[:number]) for text in stop):
                return tokens[:number], True
    return tokens, ended is not None


def _without_stop(text: str, stop: tuple[str, ...]) -> str:
    """The text before the first stop text."""
    return text[: min((text.index(end) for end in stop if end in text), default=len(text))]


def _logprobs(tokenizer: PreTrainedTokenizerBase, chooser: TokenChooser, column: int, tokens: list[int]) -> tuple[TokenLogprob, ...]:
    """What the chooser noted about one row."""
    noted = []
    for step, token in enumerate(tokens):
        values, ids = chooser.top[step]
        top = tuple((str(tokenizer.decode([other])), value) for other, value in zip(ids[column].tolist(), values[column].tolist(), strict=True))
        noted.append(TokenLogprob(str(tokenizer.decode([token])), float(chooser.chosen_logprobs[step][column]), top))
    return tuple(noted)
