"""Quality of a dictionary: explained variance, active latents per token, dead latents, and spliced loss.

Loss recovered is the share of the damage of removing the site that the reconstruction avoids: 1 where the model
predicts as well as unchanged, 0 where the reconstruction is as bad as removal. Two kinds of removal are reported:
zeros, and the mean activation (the harder baseline).

Source: Gao et al. 2024 (arXiv 2406.04093); loss recovered with zeros as in SAELens' evaluations.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from astray.errors import ConfigurationError, EmptyDataError
from astray.explain.activations import TokenRow, capture
from astray.explain.sae import Dictionary, check_fits
from astray.explain.sites import Site, replacing
from astray.subjects.intervene import intervening
from astray.subjects.likelihood import Continuation, continuation_logprobs
from astray.subjects.subject import Subject

TOKENS_AT_ONCE = 1 << 13
"""Number of activations encoded at once: 32 MB at 1,024 latents."""


@dataclass(frozen=True)
class Quality:
    """Metrics of a dictionary on activations it was not trained on.

    Attributes:
        explained_variance: 1 - squared error / variance, over all tokens and dimensions.
        l0: mean number of active latents per token.
        dead: share of the latents that no token activated.
        tokens: number of activations.
    """

    explained_variance: float
    l0: float
    dead: float
    tokens: int


@dataclass(frozen=True)
class SplicedLoss:
    """Cross-entropy of the model in nats per token, unchanged and with one site changed.

    Attributes:
        clean: unchanged.
        spliced: the site's activations replaced by their reconstruction.
        zero: the site's activations replaced by zeros.
        mean: the site's activations replaced by their mean over the rows.
        tokens: number of predicted tokens.
    """

    clean: float
    spliced: float
    zero: float
    mean: float
    tokens: int

    @property
    def recovered(self) -> float:
        """Return the share of the damage by zeros that the reconstruction avoids."""
        return (self.zero - self.spliced) / (self.zero - self.clean)

    @property
    def recovered_from_mean(self) -> float:
        """Return the share of the damage by the mean that the reconstruction avoids."""
        return (self.mean - self.spliced) / (self.mean - self.clean)


def quality(dictionary: Dictionary, activations: Float[Tensor, "tokens d_model"]) -> Quality:
    """Return explained variance, L0 and the share of dead latents.

    Args:
        dictionary: a trained dictionary.
        activations: held-out activations of its site.

    Raises:
        EmptyDataError: there are fewer than two activations.
    """
    if len(activations) < 2:
        raise EmptyDataError(f"Quality needs held-out activations; there are {len(activations)}.")
    mean = activations.double().mean(0)
    # Sums in float64: over many tokens float32 would lose the small errors of a good dictionary.
    error = variance = active = 0.0
    alive = torch.zeros(dictionary.width, dtype=torch.bool, device=dictionary.device)
    for part in activations.split(TOKENS_AT_ONCE):
        latents = dictionary.encode(part)
        error += (part.double() - dictionary.decode(latents).to(part.device).double()).square().sum().item()
        variance += (part.double() - mean).square().sum().item()
        active += (latents > 0).sum().item()
        alive |= (latents > 0).any(0)
    tokens = len(activations)
    return Quality(1 - error / variance, active / tokens, 1 - alive.double().mean().item(), tokens)


def spliced_loss(subject: Subject, dictionary: Dictionary, rows: Sequence[TokenRow]) -> SplicedLoss:
    """Return the model's loss with a dictionary spliced in at its site.

    Args:
        subject: the model, with its adapter and intervention.
        dictionary: a dictionary of its base.
        rows: texts; the tokens after the prompt are predicted, in a row without a prompt all but the first.

    Raises:
        DictionaryMismatchError: the dictionary belongs to another model.
        ConfigurationError: a row has nothing to predict.
        EmptyDataError: there are no rows.
    """
    check_fits(dictionary, subject)
    mean = capture(subject, rows, [dictionary.site], "all")[dictionary.site].mean(0)

    def reconstruction(activations: Tensor) -> Tensor:
        return dictionary.decode(dictionary.encode(activations)).to(activations.device, activations.dtype)

    def constant(activations: Tensor) -> Tensor:
        return mean.to(activations.device, activations.dtype).expand_as(activations)

    changes: tuple[Callable[[Tensor], Tensor] | None, ...] = (None, reconstruction, torch.zeros_like, constant)
    clean, spliced, zero, removed = (_loss(subject, rows, dictionary.site, change) for change in changes)
    return SplicedLoss(clean, spliced, zero, removed, sum(len(row.text) for row in _continuations(rows)))


def _loss(subject: Subject, rows: Sequence[TokenRow], site: Site, change: Callable[[Tensor], Tensor] | None) -> float:
    texts = _continuations(rows)
    with (
        subject.merged() as model,
        intervening(model, subject.interventions) as steering,
        _changed(model, site, change),
    ):
        total = sum(continuation_logprobs(model, texts, steering))
    return -total / sum(len(row.text) for row in texts)


@contextmanager
def _changed(model: nn.Module, site: Site, change: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
    if change is None:
        yield
    else:
        with replacing(model, site, change):
            yield


def _continuations(rows: Sequence[TokenRow]) -> list[Continuation]:
    starts = [max(1, row.prompt) for row in rows]
    for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
        if start >= len(row.tokens):
            raise ConfigurationError(
                f"Row {number} has nothing to predict: {len(row.tokens)} tokens, the first {start} are given. Leave "
                "it out."
            )
    return [Continuation(row.tokens[:start], (), row.tokens[start:]) for row, start in zip(rows, starts, strict=True)]
