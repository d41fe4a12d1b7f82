"""Candidate directions of a causal screen, and their controls.

A candidate points to misalignment; its norm does not matter, because the screen (`causal`) normalises all of them.
Latents are selected in `diff`, the mean-difference direction is computed in `direction`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from astray.errors import ConfigurationError
from astray.explain.direction import random_direction
from astray.explain.sae import Dictionary

CandidateKind = Literal["latent", "random latent", "mean difference", "persona vector", "random direction"]


@dataclass(frozen=True, eq=False)
class Candidate:
    """Direction that a screen steers with.

    Attributes:
        name: unique within a screen ("latent 12").
        kind: source of the direction.
        direction: points to misalignment; of any norm.
    """

    name: str
    kind: CandidateKind
    direction: Float[Tensor, "d_model"]

    def __post_init__(self) -> None:
        if not self.direction.isfinite().all() or not self.direction.any():
            raise ConfigurationError(
                f"The direction of {self.name!r} is zero, or has NaN or infinite entries: it points nowhere."
            )


def latent_name(latent: int, *, falling: bool = False) -> str:
    """Return the name of the candidate that is a latent; one that falls with fine-tuning is steered with in reverse."""
    return f"latent {latent}{' (falling)' if falling else ''}"


def latent_number(name: str) -> int:
    """Return the latent that `latent_name` named: tables of a screen hold names alone."""
    return int(name.removeprefix("latent ").removesuffix(" (falling)"))


def latent_candidates(dictionary: Dictionary, rising: Sequence[int], falling: Sequence[int] = ()) -> list[Candidate]:
    """Return decoder directions of latents, reversed for those that fall with fine-tuning, to point to misalignment.

    Args:
        dictionary: the sparse autoencoder.
        rising: latents whose activation rises.
        falling: latents whose activation falls (an assistant persona, say).

    Raises:
        ConfigurationError: the dictionary has no such latent.
    """
    _check_latents(dictionary, [*rising, *falling])
    return [
        *(Candidate(latent_name(latent), "latent", dictionary.decoder[latent].detach()) for latent in rising),
        *(
            Candidate(latent_name(latent, falling=True), "latent", -dictionary.decoder[latent].detach())
            for latent in falling
        ),
    ]


def random_latents(dictionary: Dictionary, count: int, seed: int, *, but: Sequence[int] = ()) -> list[Candidate]:
    """Return the decoder directions of latents drawn at random, as a control for the effect of any latent.

    Args:
        dictionary: the sparse autoencoder.
        count: number of latents.
        seed: seed of the draw.
        but: latents to exclude: the candidates, and dead ones.

    Raises:
        ConfigurationError: there are fewer other latents than `count`.
    """
    _check_latents(dictionary, but)
    others = sorted(set(range(dictionary.width)) - set(but))
    if count > len(others):
        raise ConfigurationError(
            f"{count} random latents were asked for, but only {len(others)} of {dictionary.width} are left. Ask for "
            "fewer."
        )
    drawn = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    latents = [others[index] for index in drawn]
    return [
        Candidate(f"random latent {latent}", "random latent", dictionary.decoder[latent].detach()) for latent in latents
    ]


def random_directions(d_model: int, count: int, seed: int) -> list[Candidate]:
    """Return directions drawn uniformly from the sphere, as a control; the screen gives all candidates the same norm.

    Args:
        d_model: width of the residual stream.
        count: number of directions; if none of 20 has an effect, the share of effective directions is below 14%.
        seed: seed of the draw.
    """
    # Only its norm is used, which is 1.
    unit = torch.ones(d_model) / d_model**0.5
    return [
        Candidate(f"random {number}", "random direction", random_direction(unit, 1000 * seed + number))
        for number in range(count)
    ]


def _check_latents(dictionary: Dictionary, latents: Sequence[int]) -> None:
    wrong = [latent for latent in latents if not 0 <= latent < dictionary.width]
    if wrong:
        raise ConfigurationError(
            f"There is no latent {wrong[0]}: this dictionary has the latents 0 to {dictionary.width - 1}."
        )
