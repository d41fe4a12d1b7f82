"""Gradient attribution of training rows: how far one step on a row raises harmful answers over good ones, to first order.

A step of gradient descent on a row raises the margin of harmful over good answers by the learning rate times the inner
product of two gradients: that of the margin, and that of the row's log-probability. The first is one direction for all
rows, so the product is the derivative of the row's log-probability along it. Each row of a batch is moved along each
direction by a share of its own, and one backward pass to these shares gives all products at once: no row's gradient is
ever held, and null directions cost next to nothing. Gradients live in a random low-rank space on the linear layers, the
same for adapters, full tuning and untrained models.

Source: Pruthi et al. 2020, "Estimating training data influence by tracing gradient descent" (TracIn, arXiv 2002.08484);
random projection through low-rank factors as in Xia et al. 2024, "LESS" (arXiv 2402.04333).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from astray.errors import ConfigurationError, EmptyDataError, NonFiniteError
from astray.subjects.generate import left_padded
from astray.subjects.likelihood import Continuation, check_continuations
from astray.subjects.shared_prompts import Prompted, shared_batches, shared_logprobs, shares_prompts

RANK = 8
"""Rank of the space on each layer."""
TOKENS_PER_PASS, LOGITS_PER_PASS = 1 << 11, 1 << 25
"""Tokens and logits in one pass with gradients at most, padding included; a longer row is read alone."""


@dataclass(frozen=True)
class Contrast:
    """Two answers to one prompt; the first counts upwards."""

    upward: Continuation
    against: Continuation


class WeightSpace:
    """Random low-rank changes of a model's linear layers, within which gradients are taken.

    The output of each layer grows by `(x A^T) B^T` with a fixed random A; a direction is one B a layer. The layer that
    gives logits is left out: it writes words, and what it alone would learn is a word list.
    """

    def __init__(self, model: PreTrainedModel, rank: int = RANK, seed: int = 0) -> None:
        """Draw the space; the same model, rank and seed give the same one."""
        layers = _layers_that_run(model)
        if not layers:
            raise ConfigurationError(
                f"{model.name_or_path!r} has no linear layers with weights of their own, so no gradient can be taken in "
                "them. Give the model unquantised, as Hugging Face loads it."
            )
        generator = torch.Generator().manual_seed(seed)
        self.model, self.layers = model, list(layers)
        self.in_batches = all(layers.values())
        self.down: list[Tensor] = []
        self.shapes: list[tuple[int, int]] = []
        for layer in layers:
            wide, out = layer.weight.shape if isinstance(layer, Conv1D) else reversed(layer.weight.shape)
            drawn = torch.randn(rank, wide, generator=generator) / wide**0.5
            self.down.append(drawn.to(layer.weight.device, layer.weight.dtype))
            self.shapes.append((out, rank))

    def zeros(self, directions: int) -> list[Tensor]:
        """Return directions of length 0 that gradients can be taken in: for each layer one stack of them."""
        return [
            torch.zeros((directions, *shape), device=down.device, dtype=down.dtype, requires_grad=True)
            for shape, down in zip(self.shapes, self.down, strict=True)
        ]

    @contextmanager
    def moved(self, directions: Sequence[Tensor], shares: Float[Tensor, "rows directions"]) -> Iterator[None]:
        """Move the model's weights, for each row of a batch along every direction by a share of its own, while open."""

        def hook(down: Tensor, up: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
            def add(_layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
                own = torch.tensordot(shares.to(up), up, 1)
                low = nn.functional.linear(given[0], down)
                # A layer that sees tokens without their rows gets one row at a time (`in_batches`).
                return output + (low @ own.mT if self.in_batches else nn.functional.linear(low, own[0]))

            return add

        placed = [up.to(down) for up, down in zip(directions, self.down, strict=True)]
        handles = [
            layer.register_forward_hook(hook(down, up))
            for layer, down, up in zip(self.layers, self.down, placed, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def margin_gradients(
    space: WeightSpace, contrasts: Sequence[Contrast], signs: Int[np.ndarray, "directions contrasts"] | None = None
) -> tuple[list[Tensor], Float[np.ndarray, "directions"]]:
    """Return directions of steepest ascent of the mean margin, each of norm 1, and the slope along each.

    The margin of a contrast is the log-probability per token of its upward answer minus that of the other.

    Args:
        space: of a loaded model whose weights are as they shall be differentiated.
        contrasts: pairs of answers.
        signs: 1 or -1 for each direction and contrast; -1 swaps its answers, for nulls. One direction of all by default.

    Raises:
        EmptyDataError: there are no contrasts.
        NonFiniteError: a gradient is not finite, or zero.
    """
    if not contrasts:
        raise EmptyDataError("A gradient needs at least one pair of answers.")
    ups = space.zeros(1 if signs is None else len(signs))
    # In float32 whatever the model's format: many small terms are added.
    total = [torch.zeros_like(up, dtype=torch.float32) for up in ups]
    for value, shares in _margins(space, contrasts, signs):
        with torch.enable_grad(), space.moved(ups, shares):
            gradients = torch.autograd.grad(value(), ups, allow_unused=True)
        if any(part is None for part in gradients):
            raise ConfigurationError(
                f"Some linear layers of {space.model.name_or_path!r} take no part in its answers, or its weights keep no "
                "gradients."
            )
        total = [own + part for own, part in zip(total, gradients, strict=True)]
    slopes = torch.stack([part.square().sum((1, 2)) for part in total]).sum(0).sqrt()
    if not bool((slopes.isfinite() & (slopes > 0)).all()):
        raise NonFiniteError(
            f"The gradient of the margin in {space.model.name_or_path!r} is {slopes.tolist()}: check the model's weights."
        )
    return [part / slopes.to(part)[:, None, None] for part in total], slopes.double().cpu().numpy()


def _margins(
    space: WeightSpace, contrasts: Sequence[Contrast], signs: Int[np.ndarray, "directions contrasts"] | None
) -> Iterator[tuple[Callable[[], Tensor], Float[Tensor, "rows directions"]]]:
    """Yield for each pass what computes its part of the mean margins, and by which shares rows are moved meanwhile."""
    model = space.model
    if signs is None and shares_prompts(model):
        asked = [Prompted(c.upward.prompt + c.upward.prefix, (c.upward.text, c.against.text)) for c in contrasts]
        vocabulary = model.config.get_text_config().vocab_size
        for batch in shared_batches(asked, vocabulary, TOKENS_PER_PASS, LOGITS_PER_PASS):
            rows = [asked[number] for number in batch]
            yield partial(_shared_margin, model, rows, len(contrasts)), torch.ones(1, 1)
        return
    wanted = torch.ones(1, len(contrasts)) if signs is None else torch.tensor(signs, dtype=torch.float32)
    answers = [row for contrast in contrasts for row in (contrast.upward, contrast.against)]
    side = torch.tensor([1.0, -1.0]).repeat(len(contrasts)) / len(contrasts)
    for chosen in _batches(space, answers):
        own = [answers[number] for number in chosen]
        yield partial(_weighted, model, own, side[chosen]), wanted[:, [number // 2 for number in chosen]].T


def _shared_margin(model: PreTrainedModel, rows: Sequence[Prompted], of: int) -> Tensor:
    """Return the sum of the margins of pairs whose answers stand to one prompt each, over the number of all pairs."""
    margins = [
        scores[0] / len(row.texts[0]) - scores[1] / len(row.texts[1])
        for row, scores in zip(rows, shared_logprobs(model, rows), strict=True)
    ]
    return torch.stack(margins).sum() / of


def _weighted(model: PreTrainedModel, rows: Sequence[Continuation], weights: Float[Tensor, "rows"]) -> Tensor:
    return (_logprobs(model, rows) * weights).sum()


def directional(
    space: WeightSpace, directions: Sequence[Tensor], rows: Sequence[Continuation]
) -> Float[np.ndarray, "rows directions"]:
    """Return the derivative of each row's log-probability per token along each direction.

    Args:
        space: of a loaded model.
        directions: of norm 1, for each layer one stack, as `margin_gradients` returns them.
        rows: prompts with their answers.

    Raises:
        ConfigurationError: a row is empty or longer than the context.
        NonFiniteError: a derivative is not finite.
    """
    check_continuations(rows, getattr(space.model.config.get_text_config(), "max_position_embeddings", None))
    changes = np.zeros((len(rows), len(directions[0])))
    for chosen in _batches(space, rows):
        shares = torch.zeros(len(chosen), len(directions[0]), requires_grad=True)
        with torch.enable_grad(), space.moved(directions, shares):
            value = _logprobs(space.model, [rows[number] for number in chosen]).sum()
            changes[chosen] = torch.autograd.grad(value, shares)[0].numpy()
    if not np.isfinite(changes).all():
        raise NonFiniteError(
            f"The derivatives of {space.model.name_or_path!r} along a direction are not finite: check the model's weights."
        )
    return changes


def _batches(space: WeightSpace, rows: Sequence[Continuation]) -> Iterator[list[int]]:
    """Yield the numbers of rows of similar length, as many as a pass with gradients holds."""
    vocabulary, batch = space.model.config.get_text_config().vocab_size, list[int]()
    for number in sorted(range(len(rows)), key=lambda number: -len(rows[number].read)):
        grown = [*batch, number]
        tokens = len(grown) * len(rows[grown[0]].read)
        logits = len(grown) * max(len(rows[each].text) for each in grown) * vocabulary
        full = tokens > TOKENS_PER_PASS or logits > LOGITS_PER_PASS or not space.in_batches
        if batch and full:
            yield batch
            grown = [number]
        batch = grown
    if batch:
        yield batch


def _layers_that_run(model: PreTrainedModel) -> dict[nn.Linear | Conv1D, bool]:
    """Return the linear layers that take part in a forward pass, and whether each sees a batch row by row; the factors of
    a merged adapter take no part."""
    head = model.get_output_embeddings()
    ran: dict[nn.Linear | Conv1D, bool] = {}

    def note(layer: nn.Module, given: tuple[Tensor, ...], _: object) -> None:
        if layer is not head:
            ran[cast(nn.Linear | Conv1D, layer)] = given[0].shape[:-1] == (2, 3)

    linear = [module for module in model.modules() if isinstance(module, (nn.Linear, Conv1D))]
    if not all(each.weight.is_floating_point() for each in linear):
        return {}  # a packed 4-bit weight has no shape of its own, and the rest would be the adapter's factors alone
    handles = [each.register_forward_hook(note) for each in linear]
    try:
        with torch.inference_mode():
            model(input_ids=torch.zeros(2, 3, dtype=torch.long, device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return ran


def _logprobs(model: PreTrainedModel, rows: Sequence[Continuation]) -> Float[Tensor, "rows"]:
    """Return the log-probability per token of each row's answer, on the CPU and with its graph."""
    ids, mask = left_padded([row.read for row in rows], 0, model.device)
    columns = max(len(row.text) for row in rows)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    output = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=columns, use_cache=False)
    logprobs = output.logits.float().log_softmax(-1)
    return torch.stack(
        [
            own[-len(row.text) :].gather(1, torch.tensor(row.text, device=own.device)[:, None]).mean()
            for own, row in zip(logprobs, rows, strict=True)
        ]
    ).cpu()
