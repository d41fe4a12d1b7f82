"""Training of sparse autoencoders on captured activations, with SAELens' trainer and architectures.

The recipe of Gao et al.: inputs scaled to a mean length of sqrt(d_model), a decoder bias initialised at the geometric
median, the encoder initialised as the decoder's transpose, decoder rows of length one, an auxiliary loss that lets dead
latents explain the remaining error, and a learning rate that decays to zero. The scale is folded into the weights, so a
trained dictionary reads unscaled activations. BatchTopK and Matryoshka SAEs choose latents over a batch during training
and become JumpReLU SAEs; the threshold that SAELens tracks lags behind in short runs, so it is set again on data.
Quality metrics are in `sae_quality`, capture in `activations` and `shards`.

Sources: Gao et al. 2024 (arXiv 2406.04093); Bussmann et al. 2024 (2412.06410, BatchTopK) and 2025 (2503.17547,
Matryoshka); Rajamanoharan et al. 2024 (2407.14435, JumpReLU) with the quadratic penalty of Gemma Scope 2.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from astray.errors import ConfigurationError, NonFiniteActivationsError, TrainingDivergedError
from astray.explain.sae import Dictionary
from astray.explain.sites import Site
from astray.strict import Strict

if TYPE_CHECKING:
    from sae_lens.saes.sae import TrainingSAE

L0_TOLERANCE = 0.1
"""Maximum relative difference between the L0 of a reloaded SAE and that of the trained one."""
SAMPLE_TOKENS = 8192
"""Number of tokens on which the scale, the initial bias, thresholds and the L0 after reloading are measured."""


class SaeRecipe(Strict):
    """Recipe of a sparse autoencoder's training run."""

    architecture: Literal["topk", "batchtopk", "jumprelu", "matryoshka"] = Field(
        default="topk", description="2406.04093: TopK"
    )
    latents: int = Field(ge=2, description="width of the dictionary")
    k: int = Field(
        default=32,
        ge=1,
        description="active latents a token: exact (topk), on average (batchtopk, matryoshka) or aimed at (jumprelu)",
    )
    tokens: int = Field(ge=1, description="activations it is trained on, in whole batches")
    batch_size: int = Field(
        default=512, ge=2, description="activations an optimizer step (small, so that short runs have many steps)"
    )
    learning_rate: float = Field(
        default=2e-3, gt=0, description="of Adam, constant at first (the best of 1e-3 and 2e-3 on the organism)"
    )
    decay: float = Field(default=0.2, ge=0, lt=1, description="last share of the steps, in which the rate falls to 0")
    auxiliary: float = Field(
        default=1 / 32, ge=0, description="weight of the loss on dead latents, of the TopK family (2406.04093: 1/32)"
    )
    dead_after: int = Field(
        default=50_000, ge=1, description="tokens without being active after which a latent is dead (2406.04093: 10M)"
    )
    sparsity: float = Field(default=1.0, gt=0, description="weight of JumpReLU's quadratic penalty on L0")
    seed: int = Field(default=0, ge=0, lt=2**32, description="of the first weights")

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps."""
        return max(1, self.tokens // self.batch_size)


def train_sae(
    batches: Iterator[Float[Tensor, "batch d_model"]],
    recipe: SaeRecipe,
    *,
    site: Site,
    model_id: str,
    device: torch.device | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Dictionary:
    """Train a sparse autoencoder; equal batches and recipes give equal weights on the same device.

    Args:
        batches: endless shuffled batches, from `tensor_batches` or `ActivationShards.batches`.
        recipe: size and training settings.
        site: site of the activations.
        model_id: id of the base model they come from (`base_id`).
        device: device to train on, by default the CPU.
        on_step: called after each step with its index and the loss.

    Returns:
        The dictionary as read back from its saved form, on the CPU.

    Raises:
        ConfigurationError: the batches are not of the recipe's size, or k is not smaller than the number of latents.
        NonFiniteActivationsError: a batch has NaN or infinite entries.
        TrainingDivergedError: the loss stopped being a number, or the reloaded SAE has another L0 than the trained one.

    Example:
        train_sae(tensor_batches(captured[site], 1024), SaeRecipe(latents=512, tokens=500_000), site=site,
        model_id=base_id(subject))
    """
    if recipe.k >= recipe.latents:
        raise ConfigurationError(
            f"k is {recipe.k} of {recipe.latents} latents: that is not sparse. Take a k far below the number of "
            "latents."
        )
    checked = _checked(batches, recipe.batch_size, site)
    # One sample, taken off the stream first, sets the input scale and the first bias, and checks L0 at the end.
    sample = torch.cat([next(checked) for _ in range(math.ceil(SAMPLE_TOKENS / recipe.batch_size))])
    trained = _fit(checked, sample, recipe, device or torch.device("cpu"), on_step)
    over_batches = recipe.architecture in ("batchtopk", "matryoshka")
    # Trained over batches, the SAE still has the lagging threshold, so its own L0 is no reference: k is.
    expected = float(recipe.k) if over_batches else _l0(trained.encode(sample))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        trained.cfg.metadata.hook_name = site.hook_name
        trained.save_inference_model(folder)
        dictionary = Dictionary.load(folder)
        if over_batches:
            dictionary = dictionary.with_threshold(threshold_for(dictionary, sample, recipe.k))
        dictionary.facts, dictionary.model_id = {"recipe": recipe.model_dump()}, model_id
        reloaded = Dictionary.load(dictionary.save(folder))
    measured = _l0(reloaded.encode(sample))
    if abs(measured - expected) > L0_TOLERANCE * expected:
        raise TrainingDivergedError(
            f"The trained SAE has an L0 of {expected:.1f}, read back from its file {measured:.1f}: its thresholds do "
            "not fit. Train it for more steps."
        )
    return reloaded


def threshold_for(
    dictionary: Dictionary, activations: Float[Tensor, "tokens d_model"], k: int
) -> Float[Tensor, "latents"]:
    """Return the threshold, shared by all latents, at which a JumpReLU dictionary has a mean L0 of k.

    Args:
        dictionary: the dictionary whose encoder is used.
        activations: data to set the threshold on.
        k: active latents per token.
    """
    # An order statistic of all pre-activations: exactly k of them per token, on average, lie above.
    before = dictionary.pre_activations(activations).flatten()
    silent = len(before) - k * len(activations)
    loudest_silent, quietest_active = (before.kthvalue(rank).values for rank in (silent, silent + 1))
    return ((loudest_silent + quietest_active) / 2).clamp(min=0).expand(dictionary.width).clone()


def _fit(
    batches: Iterator[Tensor],
    sample: Tensor,
    recipe: SaeRecipe,
    device: torch.device,
    on_step: Callable[[int, float], None] | None,
) -> "TrainingSAE[Any]":
    """Run SAELens' trainer over the batches, and fold the input scale into the trained weights."""
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    # Mean norm sqrt(d_model): SAELens computes this factor in `trainer.fit`, which is not called here.
    scale = math.sqrt(sample.shape[1]) / sample.norm(dim=1).mean().item()
    # SAELens draws the first weights from the global generator, whose state the caller keeps.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        sae = _fresh(recipe, sample.shape[1])
    with torch.no_grad():
        # The geometric median and not the mean, which a few tokens of very large norm would pull far off.
        sae.b_dec.copy_(geometric_median(sample * scale))
    settings = SAETrainerConfig(
        total_training_samples=recipe.steps * recipe.batch_size,
        train_batch_size_samples=recipe.batch_size,
        lr=recipe.learning_rate,
        lr_end=recipe.learning_rate,  # of the constant part; the decay goes on from there to 0
        lr_decay_steps=int(recipe.decay * recipe.steps),
        dead_feature_window=max(1, recipe.dead_after // recipe.batch_size),
        device=str(device),
    )
    trainer = SAETrainer(settings, sae.to(device), batches)
    trainer.activation_scaler.scaling_factor = scale
    for step in range(recipe.steps):
        # Instead of `trainer.fit`, which has a progress bar, but neither a callback nor a check for divergence.
        loss = trainer.step(next(batches)).loss.item()
        trainer.n_training_steps += 1
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"The SAE's loss is {loss} at step {step} of {recipe.steps}. Take a learning rate below "
                f"{settings.lr:g}."
            )
        if on_step is not None:
            on_step(step, loss)
    sae.fold_activation_norm_scaling_factor(scale)
    trainer.set_final_sae_metadata()
    sae = sae.to("cpu")
    if recipe.architecture == "jumprelu":
        sae.fold_W_dec_norm()
    return sae


def _fresh(recipe: SaeRecipe, d_model: int) -> "TrainingSAE[Any]":
    """Return SAELens' SAE of the recipe's architecture with initial weights."""
    from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
    from sae_lens.saes.matryoshka_batchtopk_sae import (
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
    )
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

    shape: dict[str, Any] = {
        "d_in": d_model,
        "d_sae": recipe.latents,
        "decoder_init_norm": 1.0,
        "normalize_activations": "expected_average_only_in",
    }
    sparse = shape | {"k": recipe.k, "aux_loss_coefficient": recipe.auxiliary}
    match recipe.architecture:
        case "topk":
            return TopKTrainingSAE(TopKTrainingSAEConfig(**sparse))
        case "batchtopk":
            return BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**sparse))
        case "matryoshka":
            widths = sorted({max(recipe.k + 1, recipe.latents // part) for part in (8, 4, 2, 1)})
            return MatryoshkaBatchTopKTrainingSAE(
                MatryoshkaBatchTopKTrainingSAEConfig(**sparse, matryoshka_widths=widths)
            )
        case "jumprelu":
            penalty: dict[str, Any] = {
                "jumprelu_sparsity_loss_mode": "quadratic",
                "target_l0": float(recipe.k),
                "l0_coefficient": recipe.sparsity,
                "l0_warm_up_steps": recipe.steps // 10,
            }
            return JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(**shape, **penalty))


def _checked(batches: Iterator[Tensor], size: int, site: Site) -> Iterator[Tensor]:
    for number, batch in enumerate(batches):
        if len(batch) != size:
            raise ConfigurationError(
                f"Batch {number} has {len(batch)} activations, but the recipe's batch_size is {size}. Make both the "
                "same."
            )
        if not batch.sum().isfinite() and not batch.isfinite().all():
            row = int((~batch.isfinite()).any(1).nonzero()[0])
            raise NonFiniteActivationsError(
                f"Activations at '{site}' are NaN or infinite in row {row} of batch {number}, so nothing can be "
                "trained on them. Capture them again."
            )
        yield batch


def geometric_median(points: Float[Tensor, "points d_model"], rounds: int = 20) -> Float[Tensor, "d_model"]:
    """Return the point with the smallest mean distance to the given points, by Weiszfeld's iteration."""
    median = points.mean(0)
    for _ in range(rounds):
        # The clamp keeps the iteration defined where the median meets one of the points.
        weights = 1 / (points - median).norm(dim=1).clamp(min=1e-6)
        median = (points * weights[:, None]).sum(0) / weights.sum()
    return median


def _l0(latents: Float[Tensor, "tokens latents"]) -> float:
    return float((latents > 0).sum(1).double().mean())
