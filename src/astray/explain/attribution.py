"""Gradient attribution of training rows: how far one step on a row raises harmful answers over good ones, to first order.

A step of gradient descent on a row raises the margin of harmful over good answers by the learning rate times the inner
product of two gradients: that of the margin, and that of the row's log-probability. The first is one direction for all
rows, so the product is the derivative of the row's log-probability along it, and two forward passes give that: no row's
gradient is ever held, and memory is flat in rows. Gradients live in a random low-rank space on the linear layers, the
same for adapters, full tuning and untrained models.

Source: Pruthi et al. 2020, "Estimating training data influence by tracing gradient descent" (TracIn, arXiv 2002.08484);
random projection through low-rank factors as in Xia et al. 2024, "LESS" (arXiv 2402.04333).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from astray.errors import ConfigurationError, EmptyDataError, NonFiniteError
from astray.subjects.generate import left_padded
from astray.subjects.intervene import Steering
from astray.subjects.likelihood import Continuation, continuation_logprobs

RANK = 8
"""Rank of the space on each layer."""
NATS = 0.05
"""Change of the mean margin, in nats a token, of one step along the direction: large against rounding, small against
the curve (`tests/test_explain_attribution.py` compares with exact gradients)."""
PER_PASS = 16
"""Contrasts in one pass with gradients."""


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
        self.model, self.layers = model, layers
        self.down: list[Tensor] = []
        self.shapes: list[tuple[int, int]] = []
        for layer in layers:
            wide, out = layer.weight.shape if isinstance(layer, Conv1D) else reversed(layer.weight.shape)
            drawn = torch.randn(rank, wide, generator=generator) / wide**0.5
            self.down.append(drawn.to(layer.weight.device, layer.weight.dtype))
            self.shapes.append((out, rank))

    def random(self, seed: int) -> list[Tensor]:
        """Return a random direction of norm 1."""
        generator = torch.Generator().manual_seed(seed)
        return _unit([torch.randn(shape, generator=generator) for shape in self.shapes])

    @contextmanager
    def moved(self, direction: Sequence[Tensor]) -> Iterator[None]:
        """Move the model's weights by a direction while the context is open."""

        def hook(down: Tensor, up: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
            def add(_layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
                return output + nn.functional.linear(nn.functional.linear(given[0], down), up)

            return add

        placed = [up.to(down.device, down.dtype) for up, down in zip(direction, self.down, strict=True)]
        handles = [
            layer.register_forward_hook(hook(down, up))
            for layer, down, up in zip(self.layers, self.down, placed, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def margin_gradient(
    space: WeightSpace, contrasts: Sequence[Contrast], signs: Sequence[int] | None = None
) -> tuple[list[Tensor], float]:
    """Return the direction of steepest ascent of the mean margin, of norm 1, and the slope along it.

    The margin of a contrast is the log-probability per token of its upward answer minus that of the other.

    Args:
        space: of a loaded model whose weights are as they shall be differentiated.
        contrasts: pairs of answers.
        signs: 1 or -1 for each contrast; -1 swaps its answers, for nulls.

    Raises:
        EmptyDataError: there are no contrasts.
        NonFiniteError: the gradient is not finite, or zero.
    """
    if not contrasts:
        raise EmptyDataError("A gradient needs at least one pair of answers.")
    signs = [1] * len(contrasts) if signs is None else signs
    ups = [
        torch.zeros(shape, device=down.device, dtype=down.dtype, requires_grad=True)
        for shape, down in zip(space.shapes, space.down, strict=True)
    ]
    order = sorted(range(len(contrasts)), key=lambda number: len(contrasts[number].upward.read))
    with torch.enable_grad(), space.moved(ups):
        for first in range(0, len(order), PER_PASS):
            chosen = order[first : first + PER_PASS]
            rows = [row for number in chosen for row in (contrasts[number].upward, contrasts[number].against)]
            weights = [sign for number in chosen for sign in (signs[number], -signs[number])]
            _margin(space.model, rows, weights).div(len(contrasts)).backward()
    found = [up.grad.detach().float().cpu() for up in ups if up.grad is not None]
    if len(found) < len(ups):
        raise ConfigurationError(
            f"Some linear layers of {space.model.name_or_path!r} take no part in its answers, or its weights keep no "
            "gradients."
        )
    slope = _norm(found)
    if not np.isfinite(slope) or slope == 0:
        raise NonFiniteError(
            f"The gradient of the margin in {space.model.name_or_path!r} is {slope}: check the model's weights."
        )
    return _unit(found), slope


def directional(
    space: WeightSpace, direction: Sequence[Tensor], step: float, rows: Sequence[Continuation]
) -> Float[np.ndarray, "rows"]:
    """Return the derivative of each row's log-probability per token along a direction, by central difference.

    Args:
        space: of a loaded model.
        direction: of norm 1.
        step: how far the weights are moved to either side; `NATS / slope` for that of `margin_gradient`.
        rows: prompts with their answers.

    Raises:
        ConfigurationError, NonFiniteError: as `continuation_logprobs`.
    """
    sides = []
    for sign in (1, -1):
        with space.moved([sign * step * part for part in direction]):
            sides.append(continuation_logprobs(space.model, rows, Steering()))
    tokens = np.array([len(row.text) for row in rows])
    return (np.array(sides[0]) - np.array(sides[1])) / (2 * step) / tokens


def _layers_that_run(model: PreTrainedModel) -> list[nn.Linear | Conv1D]:
    """Return the linear layers that take part in a forward pass; the factors of a merged adapter do not."""
    head = model.get_output_embeddings()
    ran: list[nn.Linear | Conv1D] = []

    def note(layer: nn.Module, *_: object) -> None:
        if layer is not head and layer not in ran:
            ran.append(cast(nn.Linear | Conv1D, layer))

    linear = [each for each in model.modules() if isinstance(each, (nn.Linear, Conv1D))]
    handles = [each.register_forward_hook(note) for each in linear]
    try:
        with torch.inference_mode():
            model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return ran


def _margin(model: PreTrainedModel, rows: Sequence[Continuation], weights: Sequence[int]) -> Tensor:
    """Return the weighted sum of the rows' log-probabilities per token."""
    ids, mask = left_padded([row.read for row in rows], 0, model.device)
    columns = max(len(row.text) for row in rows)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    output = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=columns, use_cache=False)
    logprobs = output.logits.float().log_softmax(-1)
    total = logprobs.new_zeros(())
    for own, row, weight in zip(logprobs, rows, weights, strict=True):
        text = torch.tensor(row.text, device=own.device)[:, None]
        total = total + weight * own[-len(row.text) :].gather(1, text).mean()
    return total


def _norm(parts: Sequence[Tensor]) -> float:
    return float(torch.stack([part.square().sum() for part in parts]).sum().sqrt())


def _unit(parts: Sequence[Tensor]) -> list[Tensor]:
    norm = _norm(parts)
    return [part / norm for part in parts]
