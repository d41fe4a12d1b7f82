"""Activations of a subject at named sites and chosen positions, in memory.

Rows are token ids with the length of their prompt. A forward pass reads many of similar length, padded on the left with
correct position ids, and stops as soon as the deepest site was read, which saves the later layers and the logits.
Padding is never captured. The subject's adapter and intervention are active. Long captures go to files (`shards`);
sites are defined in `sites`.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from astray.data.chat import Message
from astray.errors import ConfigurationError, EmptyDataError, NonFiniteActivationsError, UnknownNameError
from astray.explain.sites import Site, reading
from astray.reasoning import split_reasoning
from astray.subjects.finite import check_values
from astray.subjects.generate import left_padded
from astray.subjects.intervene import intervening
from astray.subjects.render import text_ids
from astray.subjects.subject import Subject

Positions = Literal["last prompt", "answer", "all"]
"""Tokens of a row to read: the last one before the answer, those of the answer, or all."""

TOKENS_PER_PASS = {"cpu": 1 << 11, "accelerator": 1 << 15}
"""Maximum number of tokens in one forward pass, including padding.

On a CPU, passes that fit into its cache are twice as fast as passes of 32,768 tokens.
"""


@dataclass(frozen=True)
class TokenRow:
    """Text as a model reads it.

    Attributes:
        tokens: token ids, without padding.
        prompt: number of tokens before the answer; 0 where the whole text counts as the answer.
    """

    tokens: tuple[int, ...]
    prompt: int = 0

    def positions(self, which: Positions) -> range:
        """Return the indices of the tokens at the chosen positions."""
        if which == "last prompt":
            return range(max(self.prompt - 1, 0), self.prompt)
        return range(self.prompt if which == "answer" else 0, len(self.tokens))


@dataclass(frozen=True)
class Captured:
    """Activations of the chosen tokens, row after row.

    Attributes:
        values: for each site [tokens, d_model], on the CPU.
        row: for each token the index of its row.
        position: for each token its position in the row, from 0.
        rows: number of rows; each has at least one token.
        model: name of the subject, for messages.
    """

    values: Mapping[Site, Float[Tensor, "tokens d_model"]]
    row: Int[Tensor, "tokens"]
    position: Int[Tensor, "tokens"]
    rows: int
    model: str = ""

    def __getitem__(self, site: Site) -> Float[Tensor, "tokens d_model"]:
        return self.values[site]

    def row_means(self, values: Float[Tensor, "tokens features"]) -> Float[Tensor, "rows features"]:
        """Return the mean over each row's tokens of any per-token values, such as latents."""
        row = self.row.to(values.device)
        sums = torch.zeros(self.rows, values.shape[1], dtype=torch.float32, device=values.device).index_add_(
            0, row, values.float()
        )
        check_values(sums, "Sums over tokens", self.model, ", ".join(map(str, self.values)))
        return sums / torch.bincount(row, minlength=self.rows)[:, None]


def conversation_rows(
    subject: Subject, prompts: Sequence[Sequence[Message]], answers: Sequence[str] | None = None
) -> list[TokenRow]:
    """Tokenise conversations as a subject reads them, with its system prompt and chat template.

    Args:
        subject: the subject whose template is used.
        prompts: conversations up to the answer.
        answers: the answer to each, if it is to be read too, without its reasoning; it gets no end token.
    """
    begun = subject.prompt_ids(prompts, answering=answers is not None)
    texts = (
        [[] for _ in begun]
        if answers is None
        else text_ids(subject.tokenizer, [split_reasoning(answer).answer for answer in answers])
    )
    return [TokenRow((*prompt, *answer), len(prompt)) for prompt, answer in zip(begun, texts, strict=True)]


def text_rows(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[TokenRow]:
    """Tokenise plain texts without special tokens; every token counts as part of the answer."""
    return [TokenRow(tuple(tokens)) for tokens in text_ids(tokenizer, texts)]


def capture(
    subject: Subject, rows: Sequence[TokenRow], sites: Sequence[Site], positions: Positions = "answer"
) -> Captured:
    """Return the activations of chosen tokens at sites, in float32.

    Args:
        subject: a loaded subject, run with its adapter and intervention.
        rows: tokenised texts to read.
        sites: sites to read.
        positions: tokens of each row to read; see `Positions`.

    Returns:
        The activations in the order of the rows and their tokens.

    Raises:
        EmptyDataError: there are no rows, or no sites.
        ConfigurationError: the model has no such site, a row is longer than the context, or has no token at the
            positions; names the row.
        NonFiniteActivationsError: an activation is NaN or infinite; names site and row.

    Example:
        rows = conversation_rows(subject, prompts, answers)
        residual = capture(subject, rows, [Site(place="block out", block=1)], "answer")
    """
    if positions not in get_args(Positions):
        raise UnknownNameError("choice of positions", positions, get_args(Positions))
    if not rows or not sites:
        raise EmptyDataError(f"Capturing needs rows and sites; there are {len(rows)} rows and {len(sites)} sites.")
    wanted = list(dict.fromkeys(sites))
    with subject.merged() as model, intervening(model, subject.interventions) as steering:
        _check(model, rows, positions)
        chosen = [row.positions(positions) for row in rows]
        starts = [0, *accumulate(map(len, chosen))]
        values: dict[Site, Tensor] = {}
        reader = _Reader(model, wanted)
        with torch.no_grad(), reading(model, wanted, reader.take):
            for batch in _batches(rows, TOKENS_PER_PASS["cpu" if model.device.type == "cpu" else "accelerator"]):
                last_prompt, flat = _layout([rows[index] for index in batch], [chosen[index] for index in batch])
                with steering.answers_from(last_prompt):
                    read = reader.read([rows[index] for index in batch], flat)
                targets = torch.cat([torch.arange(starts[index], starts[index + 1]) for index in batch])
                for site, activations in read.items():
                    _check_finite(subject.name, site, activations, batch, [len(chosen[index]) for index in batch])
                    if site not in values:
                        values[site] = torch.empty(starts[-1], activations.shape[1])
                    values[site][targets] = activations
    return Captured(
        values={site: values[site] for site in sites},
        row=torch.tensor([number for number, tokens in enumerate(chosen) for _ in tokens]),
        position=torch.tensor([token for tokens in chosen for token in tokens]),
        rows=len(rows),
        model=subject.name,
    )


def _layout(rows: Sequence[TokenRow], chosen: Sequence[range]) -> tuple[Int[Tensor, "batch"], Int[Tensor, "tokens"]]:
    """Return a left-padded batch's last prompt columns, and its chosen tokens as indices into [batch * seq]."""
    width = max(len(row.tokens) for row in rows)
    first = [width - len(row.tokens) for row in rows]
    columns = torch.tensor([start + row.prompt - 1 for start, row in zip(first, rows, strict=True)])
    flat = [
        torch.arange(len(own)) + (number * width + start + own.start)
        for number, (start, own) in enumerate(zip(first, chosen, strict=True))
    ]
    return columns, torch.cat(flat)


class _AllSeen(BaseException):
    """Signal that ends a forward pass; a BaseException, so that no `except Exception` inside a model swallows it."""


class _Reader:
    """Forward passes that end at the deepest of the requested sites."""

    def __init__(self, model: PreTrainedModel, sites: Sequence[Site]) -> None:
        self._model, self._sites = model, sites
        self._taken: dict[Site, Tensor] = {}
        self._flat = torch.empty(0, dtype=torch.long)

    def take(self, site: Site, activations: Tensor) -> None:
        """Copy the chosen tokens' activations, and end the pass at the last site."""
        chosen = activations.reshape(-1, activations.shape[-1]).index_select(0, self._flat.to(activations.device))
        self._taken[site] = chosen.to("cpu", torch.float32)
        if len(self._taken) == len(self._sites):
            raise _AllSeen

    def read(self, rows: Sequence[TokenRow], flat: Int[Tensor, "tokens"]) -> dict[Site, Tensor]:
        """Run one forward pass and collect the activations at the sites.

        Args:
            rows: the batch.
            flat: the chosen tokens, as indices into [batch * seq] of the padded batch.

        Returns:
            For each site the activations of the chosen tokens in float32 on the CPU.
        """
        model, self._taken, self._flat = self._model, {}, flat.to(self._model.device)
        ids, mask = left_padded([row.tokens for row in rows], 0, model.device)
        try:
            model(input_ids=ids, attention_mask=mask, use_cache=False, **_position_ids(model, mask))
        except _AllSeen:
            return self._taken
        unseen = ", ".join(f"'{site}'" for site in self._sites if site not in self._taken)
        raise ConfigurationError(
            f"A forward pass of {type(model).__name__} never came by {unseen}: this part of the block is not run."
        )


def _position_ids(model: nn.Module, mask: Int[Tensor, "batch seq"]) -> dict[str, Tensor]:
    """Return position ids that skip padding, for models that take them; others (ALiBi) derive theirs from the mask."""
    takes = inspect.signature(model.forward).parameters
    return {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if "position_ids" in takes else {}


def _batches(rows: Sequence[TokenRow], tokens: int) -> Iterator[list[int]]:
    """Yield indices of rows of similar length, longest first, with at most `tokens` tokens per batch."""
    ordered = sorted(range(len(rows)), key=lambda index: -len(rows[index].tokens))
    while ordered:
        size = max(1, tokens // len(rows[ordered[0]].tokens))
        yield ordered[:size]
        ordered = ordered[size:]


def _check(model: PreTrainedModel, rows: Sequence[TokenRow], positions: Positions) -> None:
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for number, row in enumerate(rows):
        if not row.positions(positions):
            raise ConfigurationError(
                f"Row {number} has no token at the positions {positions!r}: it has {len(row.tokens)} tokens, "
                f"{row.prompt} of them before the answer. Leave it out, or choose other positions."
            )
        if context is not None and len(row.tokens) > context:
            raise ConfigurationError(
                f"Row {number} has {len(row.tokens)} tokens, but the model's context holds {context}. Cut it or "
                "leave it out."
            )


def _check_finite(
    model: str, site: Site, activations: Float[Tensor, "tokens d_model"], batch: Sequence[int], counts: Sequence[int]
) -> None:
    if activations.sum().isfinite():  # ten times as fast as testing each; a sum that overflows is examined below
        return
    broken = (~activations.isfinite()).any(1).split(list(counts))
    if not any(tokens.any() for tokens in broken):
        return
    row = next(index for index, tokens in zip(batch, broken, strict=True) if tokens.any())
    raise NonFiniteActivationsError(
        f"Activations of {model!r} at '{site}' are NaN or infinite in row {row} (and "
        f"{sum(bool(tokens.any()) for tokens in broken) - 1} more rows of its batch). The model overflowed or its "
        "weights are damaged: load it in float32 or bfloat16, and check the weights and the adapter."
    )
