"""Scaling of SAE reconstruction with the number of latents and with k: a small grid of trainings, and a fitted law.

The law is that of Gao et al. for the remaining error, without its irreducible term, which a small grid cannot identify:

    log L(n, k) = alpha + beta_k log k + beta_n log n + gamma log k log n

with L = 1 - explained variance, n latents and k of them active. It is linear in its four coefficients, so the fit is
one least-squares solution. The result includes its reliability: R squared in the logarithm, and the leave-one-out
error.

Source: Gao et al. 2024 (arXiv 2406.04093), on sparsity and size jointly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from astray.errors import ConfigurationError
from astray.explain.sae_quality import Quality, quality
from astray.explain.sae_training import SaeRecipe, train_sae
from astray.explain.shards import tensor_batches
from astray.explain.sites import Site
from astray.strict import Strict


class ScalingGrid(Strict):
    """Grid of dictionary sizes to train."""

    recipe: SaeRecipe = Field(description="everything but the number of latents and k")
    latents: tuple[int, ...] = Field(min_length=2, description="widths")
    ks: tuple[int, ...] = Field(min_length=2, description="active latents a token")
    held_out: float = Field(
        default=0.1, gt=0, lt=1, description="last share of the activations, on which the error is measured"
    )


@dataclass(frozen=True)
class ScalingPoint:
    """One training run of the grid: latents, k and the quality on held-out activations."""

    latents: int
    k: int
    quality: Quality


@dataclass(frozen=True)
class ScalingLaw:
    """Fitted scaling law.

    Attributes:
        alpha: constant term.
        beta_k: exponent of k at one latent.
        beta_n: exponent of the number of latents at k = 1.
        gamma: interaction of log k and log n: the change of one exponent with the logarithm of the other.
        r_squared: share of the variance of log L that the law explains.
        left_out_error: leave-one-out error (root mean square, in log L) of predicting a point from the others: 0.05 is
            5%.
    """

    alpha: float
    beta_k: float
    beta_n: float
    gamma: float
    r_squared: float
    left_out_error: float

    def unexplained(self, latents: int, k: int) -> float:
        """Return the share of the variance that the law predicts to be unexplained."""
        terms = _terms([latents], [k])[0]
        return float(np.exp(terms @ np.array([self.alpha, self.beta_k, self.beta_n, self.gamma])))


def train_grid(
    activations: Float[Tensor, "tokens d_model"], grid: ScalingGrid, *, site: Site, model_id: str
) -> list[ScalingPoint]:
    """Train one SAE for every pair of width and k.

    Args:
        activations: activations of one site; the last share is held out.
        grid: sizes to train.
        site: site of the activations.
        model_id: id of the base model.
    """
    training, held_out = activations.split(
        [len(activations) - int(grid.held_out * len(activations)), int(grid.held_out * len(activations))]
    )
    points = []
    for latents in grid.latents:
        for k in grid.ks:
            recipe = grid.recipe.model_copy(update={"latents": latents, "k": k})
            batches = tensor_batches(training, recipe.batch_size, recipe.seed)
            points.append(
                ScalingPoint(latents, k, quality(train_sae(batches, recipe, site=site, model_id=model_id), held_out))
            )
    return points


def fit_scaling(latents: Sequence[int], ks: Sequence[int], unexplained: Sequence[float]) -> ScalingLaw:
    """Fit the law to measured points by least squares in the logarithm.

    Args:
        latents: width of each point.
        ks: active latents per token of each point.
        unexplained: 1 - explained variance of each point.

    Raises:
        ConfigurationError: fewer than six points, or not at least two widths and two values of k that vary
            independently, or an error of 0.
    """
    if not len(latents) == len(ks) == len(unexplained) or len(latents) < 6:
        raise ConfigurationError(
            f"A law of four coefficients needs six points or more; there are {len(latents)} widths, {len(ks)} values "
            f"of k, {len(unexplained)} errors."
        )
    if min(unexplained) <= 0:
        raise ConfigurationError(
            f"An unexplained share of {min(unexplained):g} has no logarithm. Leave out points that explain everything."
        )
    terms, logs = _terms(latents, ks), np.log(np.asarray(unexplained, dtype=float))
    if np.linalg.matrix_rank(terms) < terms.shape[1]:
        raise ConfigurationError(
            "The points do not vary width and k independently. Take a grid of at least two widths and two values of k."
        )
    coefficients = np.linalg.lstsq(terms, logs, rcond=None)[0]
    residuals = logs - terms @ coefficients
    leverage = np.diag(terms @ np.linalg.pinv(terms))
    # Leave-one-out residuals are residual / (1 - leverage), without refitting; at leverage 1 a point fits only itself.
    left_out = residuals / np.clip(1 - leverage, 1e-12, None)
    r_squared = 1 - float(residuals @ residuals) / float(((logs - logs.mean()) ** 2).sum())
    alpha, beta_k, beta_n, gamma = (float(coefficient) for coefficient in coefficients)
    return ScalingLaw(alpha, beta_k, beta_n, gamma, r_squared, float(np.sqrt((left_out**2).mean())))


def _terms(latents: Sequence[int], ks: Sequence[int]) -> Float[np.ndarray, "points 4"]:
    log_n, log_k = np.log(np.asarray(latents, dtype=float)), np.log(np.asarray(ks, dtype=float))
    return np.stack([np.ones_like(log_n), log_k, log_n, log_k * log_n], axis=1)
