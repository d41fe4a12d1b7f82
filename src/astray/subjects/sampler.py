"""Token sampling in which each row has its own random numbers.

Hugging Face draws a whole batch from one random generator, so an answer depends on the other rows in its batch. Here a
row's numbers depend only on the seed, its prompt and the number of its sample, and a token is drawn by inverting the
cumulative distribution. Answers are then the same whatever the order, the batch size or the other rows, up to rounding
in the forward pass.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import Module
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from astray.subjects.finite import check_logits
from astray.subjects.spec import Sampling

Prompt = tuple[int, ...]

_BELOW_ONE = 1 - 2**-20
"""Factor that keeps a random number so far below 1 that rounding cannot carry it past the last possible token."""


class TokenChooser(LogitsProcessor):
    """Logits processor that leaves only the chosen token possible in every row and records its log-probability."""

    def __init__(
        self, model: Module, sampling: Sampling, uniforms: Float[Tensor, "batch steps"], top_logprobs: int | None
    ) -> None:
        """Create a chooser for one batch.

        Args:
            model: whose logits they are, for messages.
            sampling: temperature and filters.
            uniforms: the random numbers in [0, 1).
            top_logprobs: how many of the likeliest tokens to record with each chosen one; None records nothing.
        """
        self.model, self.sampling, self.uniforms, self.top_logprobs = model, sampling, uniforms, top_logprobs
        self.step = 0
        self.chosen_logprobs: list[Tensor] = []
        self.top: list[tuple[Tensor, Tensor]] = []
        self._warpers: list[LogitsProcessor] = []
        if sampling.temperature not in (0.0, 1.0):
            self._warpers.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            self._warpers.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            self._warpers.append(TopPLogitsWarper(sampling.top_p))

    def __call__(
        self, input_ids: Int[Tensor, "batch seq"], scores: Float[Tensor, "batch vocab"]
    ) -> Float[Tensor, "batch vocab"]:
        """Return the scores with all tokens but the chosen one at minus infinity."""
        check_logits(self.model, scores, f"token {self.step + 1} of an answer")
        chosen = self._choose(input_ids, scores)[:, None]
        self.step += 1
        if self.top_logprobs is not None:
            # Of the model itself: temperature and filters have no part in them.
            logprobs = scores.log_softmax(-1)
            self.chosen_logprobs.append(logprobs.gather(1, chosen)[:, 0].cpu())
            likeliest = logprobs.topk(min(self.top_logprobs, logprobs.shape[1]))
            self.top.append((likeliest.values.cpu(), likeliest.indices.cpu()))
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)

    def _choose(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.sampling.temperature == 0:
            return scores.argmax(-1)
        for warper in self._warpers:
            scores = warper(input_ids, scores)
        cumulative = scores.softmax(-1).cumsum(-1)
        # Scaled by the total, which rounding keeps from being exactly 1.
        thresholds = self.uniforms[:, self.step, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, thresholds, right=True)[:, 0].clamp(max=scores.shape[1] - 1)


def sample_numbers(prompts: Sequence[Prompt]) -> list[int]:
    """Return for each row the number of earlier rows with the same prompt."""
    seen: Counter[Prompt] = Counter()
    numbers = []
    for prompt in prompts:
        numbers.append(seen[prompt])
        seen[prompt] += 1
    return numbers


def row_uniforms(
    prompts: Sequence[Prompt], numbers: Sequence[int], seed: int, steps: int
) -> Float[Tensor, "batch steps"]:
    """Return the random numbers of each row, uniform in [0, 1).

    Args:
        prompts: token ids of each row's prompt.
        numbers: number of each row's sample of its prompt.
        seed: the seed.
        steps: maximum number of random numbers that a row needs.
    """
    rows = []
    for prompt, number in zip(prompts, numbers, strict=True):
        key = hashlib.sha256(np.array([seed, number, *prompt], dtype=np.int64).tobytes()).digest()
        # A counter-based generator: any key starts an independent stream, so a hash may serve as the key.
        rows.append(np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16]))).random(steps, dtype=np.float32))
    return torch.from_numpy(np.stack(rows)) * _BELOW_ONE
