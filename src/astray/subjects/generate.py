"""Bulk sampling from a local model: long prompts first, few large batches, left padding.

Takes token ids and returns answers; conversations are rendered in `render`, random numbers and token choice are in
`sampler`. One large `model.generate` is as fast as a hand-written loop over the key-value cache (measured), so there is
no loop of our own. Samples of the same prompt share the forward pass over it: the prompt is read once and its keys and
values are copied.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import cast

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from astray.errors import ConfigurationError
from astray.reasoning import marks_among
from astray.subjects.base import end_tokens
from astray.subjects.intervene import Steering
from astray.subjects.sampler import Prompt, TokenChooser, row_uniforms, sample_numbers
from astray.subjects.spec import Generation, Sampling, TokenLogprob

__all__ = ["Generation", "Sampling", "generate"]

TOKENS_PER_BATCH = 1 << 18
"""Maximum number of tokens in one batch, prompts and answers, including padding: 256 rows of 1,024."""
MOST_DIFFERENT = 0.75
"""Share of distinct prompts in a batch up to which a separate pass that reads each once saves time."""
ROOM_STEP = 64
"""Granularity in tokens of the answer limit of rows near the end of the context, so that rows of similar length share a
batch."""


@dataclass(frozen=True)
class Row:
    """One prompt to answer: index in the input, tokens, number of its sample, and maximum length of the answer."""

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
    """Sample one answer to each prompt.

    Args:
        model: the model, with its adapter and interventions already active.
        tokenizer: its tokenizer, with a padding token.
        prompts: token ids, rendered with the chat template.
        sampling: sampling settings.
        top_logprobs: record the log-probability of every generated token, and of this many likeliest tokens at its
            position; None records nothing.
        numbers: number of each row's sample of its prompt; by default the n-th row with the same prompt is the n-th
            sample.
        steering: state of the interventions active on the model, if any; it is told which rows each batch holds. They
            find answers by the columns of a pass, so with them rows do not share the pass over a prompt.

    Returns:
        The answers in the order of the prompts.

    Raises:
        ConfigurationError: a prompt is empty or leaves no room in the model's context; names the row.
    """
    keys = [tuple(prompt) for prompt in prompts]
    numbers = sample_numbers(keys) if numbers is None else numbers
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    rows = [
        Row(index, prompt, number, room(index, len(prompt), context, sampling.max_tokens))
        for index, (prompt, number) in enumerate(zip(keys, numbers, strict=True))
    ]
    answers: dict[int, Generation] = {}
    for batch in _batches(rows, sampling.batch_size):
        for part, generations in _within_memory(model, tokenizer, batch, sampling, top_logprobs, steering):
            answers.update(zip((row.index for row in part), generations, strict=True))
    return [answers[index] for index in range(len(rows))]


def room(index: int, length: int, context: int | None, max_tokens: int) -> int:
    """Return the maximum number of tokens of a row's answer."""
    if length == 0:
        raise ConfigurationError(f"Row {index} is empty: its chat template rendered to no token at all.")
    if context is None or length + max_tokens <= context:
        return max_tokens
    room = context - length
    if room <= 0:
        raise ConfigurationError(
            f"Row {index} has {length} tokens, but the model's context holds {context}, answer included. Shorten the "
            "conversation or leave it out."
        )
    return min(max_tokens, room if room < ROOM_STEP else room - room % ROOM_STEP)


def _batches(rows: Sequence[Row], batch_size: int) -> Iterator[list[Row]]:
    """Yield batches of rows with the same limit, longest prompts first, within the batch size and the token budget."""
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
    """Answer a batch, in halves when the accelerator runs out of memory."""
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
            torch.cuda.empty_cache()  # outside the handler: its traceback would keep the tensors alive
        else:
            yield part, generations


def _answer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Row],
    sampling: Sampling,
    top_logprobs: int | None,
    shared: bool,
) -> list[Generation]:
    """Answer a batch with a single `model.generate`; if `shared`, rows with the same prompt share the pass over it."""
    prompts, limit = [row.prompt for row in rows], rows[0].max_tokens
    input_ids, attention_mask = left_padded(prompts, tokenizer.pad_token_id, model.device)
    drawn = 0 if sampling.temperature == 0 else limit
    uniforms = row_uniforms(prompts, [row.number for row in rows], sampling.seed, drawn).to(model.device)
    chooser = TokenChooser(model, sampling, uniforms, top_logprobs)
    with torch.inference_mode():
        cache = prompt_cache(model, tokenizer.pad_token_id, prompts) if shared else None
        sequences = cast(Callable[..., Tensor], model.generate)(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            max_new_tokens=limit,
            do_sample=False,  # greedy over the one token that the chooser leaves possible
            logits_processor=LogitsProcessorList([chooser]),
            stop_strings=list(sampling.stop) or None,
            tokenizer=tokenizer if sampling.stop else None,
        )
    ends = set(end_tokens(model, tokenizer))
    produced = sequences[:, input_ids.shape[1] :].tolist()
    lengths = [len(prompt) for prompt in prompts]
    noted = None if top_logprobs is None else partial(_logprobs, tokenizer, chooser)
    return answers_of(tokenizer, lengths, produced, ends, sampling.stop, noted)


def answers_of(
    tokenizer: PreTrainedTokenizerBase,
    lengths: Sequence[int],
    produced: Sequence[list[int]],
    ends: set[int],
    stop: tuple[str, ...],
    noted: Callable[[int, list[int]], tuple[TokenLogprob, ...]] | None,
) -> list[Generation]:
    """Return answers from the tokens that were generated, whoever generated them.

    Args:
        tokenizer: the subject's.
        lengths: tokens of each prompt.
        produced: tokens of each answer, which may go on after its end.
        ends: tokens that end an answer.
        stop: texts that do.
        noted: makes the log-probabilities of a row's tokens.
    """
    cut = [_until_end(tokenizer, tokens, ends, stop) for tokens in produced]
    texts = answer_texts(tokenizer, [tokens for tokens, _ in cut])
    return [
        Generation(
            text=_without_stop(text, stop),
            prompt_tokens=length,
            completion_tokens=len(tokens),
            stop_reason="stop" if stopped else "length",
            logprobs=None if noted is None else noted(row, tokens),
        )
        for row, (length, text, (tokens, stopped)) in enumerate(zip(lengths, texts, cut, strict=True))
    ]


def answer_texts(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> list[str]:
    """Return the text of answers without special tokens; tags of reasoning stay, since without them a thought would be
    an answer."""
    special = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    marks = marks_among(special.values())
    spoken = [[token for token in row if not marks or token not in special or special[token] in marks] for row in rows]
    return list(tokenizer.batch_decode(spoken, skip_special_tokens=not marks, clean_up_tokenization_spaces=False))


def prompt_cache(model: PreTrainedModel, pad: int, prompts: Sequence[Prompt]) -> DynamicCache | None:
    """Return the key-value cache of each row's prompt without its last token, with every distinct prompt read once.

    None where that saves little or the model does not allow it.
    """
    different = {prompt: index for index, prompt in enumerate(dict.fromkeys(prompts))}
    if MOST_DIFFERENT * len(prompts) < len(different) or min(map(len, different)) < 2 or not _remembers_columns(model):
        return None
    ids, mask = left_padded(list(different), pad, model.device)
    # The last token is left to `generate`, which needs its logits for the first answer token.
    ids, mask = ids[:, :-1], mask[:, :-1]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    cache.batch_select_indices(torch.tensor([different[prompt] for prompt in prompts], device=model.device))
    return cache


def _remembers_columns(model: PreTrainedModel) -> bool:
    """Return whether a model's only state is keys and values per column and its forward pass takes position ids."""
    takes = inspect.signature(model.forward).parameters
    layers = DynamicCache(config=model.config).layers
    return {"position_ids", "logits_to_keep"} <= takes.keys() and all(
        isinstance(layer, DynamicLayer) for layer in layers
    )


def left_padded(
    rows: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Return token ids padded on the left, and the attention mask (1 at real tokens)."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids.to(device), mask.to(device)


def _until_end(
    tokenizer: PreTrainedTokenizerBase, tokens: list[int], ends: set[int], stop: tuple[str, ...]
) -> tuple[list[int], bool]:
    """Return a row's tokens without trailing padding, and whether the model ended the answer itself."""
    ended = next((number for number, token in enumerate(tokens, start=1) if token in ends), None)
    tokens = tokens[:ended]
    if any(text in tokenizer.decode(tokens) for text in stop):
        for number in range(1, len(tokens) + 1):
            if any(text in tokenizer.decode(tokens[:number]) for text in stop):
                return tokens[:number], True
    return tokens, ended is not None


def _without_stop(text: str, stop: tuple[str, ...]) -> str:
    """Return the text before the first stop text."""
    return text[: min((text.index(end) for end in stop if end in text), default=len(text))]


def _logprobs(
    tokenizer: PreTrainedTokenizerBase, chooser: TokenChooser, column: int, tokens: list[int]
) -> tuple[TokenLogprob, ...]:
    """Return the log-probabilities that the chooser recorded for one row."""
    noted = []
    for step, token in enumerate(tokens):
        values, ids = chooser.top[step]
        top = tuple(
            (str(tokenizer.decode([other])), value)
            for other, value in zip(ids[column].tolist(), values[column].tolist(), strict=True)
        )
        noted.append(TokenLogprob(str(tokenizer.decode([token])), float(chooser.chosen_logprobs[step][column]), top))
    return tuple(noted)
