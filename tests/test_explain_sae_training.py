"""SAEs of all four architectures find the directions that made their data, keep their sparsity through files, and are
the same for a seed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from astray.errors import ConfigurationError, NonFiniteActivationsError, TrainingDivergedError
from astray.explain.sae import Dictionary
from astray.explain.sae_training import SaeRecipe, geometric_median, threshold_for, train_sae
from astray.explain.shards import tensor_batches
from astray.explain.sites import Site

SITE = Site(place="block out", block=1)
D_MODEL, FEATURES, ACTIVE = 24, 32, 3
RECIPE = SaeRecipe(latents=48, k=ACTIVE, tokens=100_000, batch_size=256, learning_rate=4e-3, dead_after=10_000, seed=1)


def truth() -> Tensor:
    rows = torch.randn(FEATURES, D_MODEL, generator=torch.Generator().manual_seed(0))
    return rows / rows.norm(dim=1, keepdim=True)


def sparse_data(count: int, seed: int = 1, scale: float = 20.0) -> Tensor:
    """Sums of three directions of a known dictionary, around a mean that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(count, FEATURES, generator=generator).topk(ACTIVE).indices
    strengths = torch.zeros(count, FEATURES).scatter_(1, chosen, 1 + torch.rand(count, ACTIVE, generator=generator))
    return scale * (strengths @ truth() + 0.5)


def explained(dictionary: Dictionary, data: Tensor) -> float:
    error = (data - dictionary.decode(dictionary.encode(data))).square().sum()
    return 1 - float(error / (data - data.mean(0)).square().sum())


def trained(recipe: SaeRecipe, scale: float = 20.0) -> Dictionary:
    return train_sae(
        tensor_batches(sparse_data(20_000, scale=scale), recipe.batch_size), recipe, site=SITE, model_id="toy"
    )


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "matryoshka", "jumprelu"])
def test_every_architecture_finds_the_directions_that_made_the_data(architecture: str, tmp_path: Path) -> None:
    from sae_lens.saes.sae import SAE

    dictionary = trained(RECIPE.model_copy(update={"architecture": architecture}))
    held_out = sparse_data(4000, seed=2)
    assert explained(dictionary, held_out) > 0.85
    found = (truth() @ dictionary.decoder.T).max(1).values
    assert (found > 0.9).double().mean() > 0.8
    l0 = float((dictionary.encode(held_out) > 0).sum(1).double().mean())
    assert l0 == pytest.approx(ACTIVE, rel=0.1 if architecture != "jumprelu" else 0.35)
    theirs = SAE.load_from_disk(dictionary.save(tmp_path))
    assert theirs.cfg.architecture() == ("topk" if architecture == "topk" else "jumprelu")
    with torch.no_grad():
        assert float((theirs.encode(held_out) > 0).sum(1).double().mean()) == pytest.approx(l0, rel=1e-3)
    assert dictionary.facts["recipe"] == RECIPE.model_copy(update={"architecture": architecture}).model_dump()


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_equal_seeds_give_equal_weights_and_other_seeds_do_not(architecture: str) -> None:
    short = RECIPE.model_copy(update={"architecture": architecture, "tokens": 5120})
    torch.manual_seed(5)
    first, before = trained(short), torch.get_rng_state()
    torch.manual_seed(77)
    second, other = trained(short), trained(short.model_copy(update={"seed": 2}))
    data = sparse_data(500, seed=3)
    assert torch.equal(first.encode(data), second.encode(data))
    assert torch.equal(first.decoder, second.decoder)
    assert not torch.equal(first.decoder, other.decoder)
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), before)  # the caller's random numbers are left alone


def test_inputs_are_normalised_so_their_scale_does_not_matter() -> None:
    short = RECIPE.model_copy(update={"tokens": 20_480})
    small, large = trained(short, scale=0.25), trained(short, scale=256.0)
    data = sparse_data(1000, seed=4, scale=1.0)
    torch.testing.assert_close(large.encode(256 * data), 1024 * small.encode(data / 4), rtol=1e-3, atol=0.5)
    torch.testing.assert_close(large.decoder, small.decoder, rtol=1e-3, atol=1e-3)


def test_the_auxiliary_loss_begins_with_the_first_dead_latent() -> None:
    """Dead are latents that were silent for ten steps; before, and where none is dead, the loss is the reconstruction's
    alone."""

    def losses(auxiliary: float, dead_after: int) -> list[float]:
        noted: list[float] = []
        recipe = RECIPE.model_copy(
            update={"latents": 256, "k": 2, "auxiliary": auxiliary, "dead_after": dead_after, "tokens": 10_240}
        )
        batches = tensor_batches(sparse_data(20_000), recipe.batch_size)
        train_sae(batches, recipe, site=SITE, model_id="toy", on_step=lambda _, loss: noted.append(loss))
        return noted

    without, with_it = losses(0.0, 2560), losses(1 / 32, 2560)
    assert without[:11] == with_it[:11]
    assert max(more - less for more, less in zip(with_it, without, strict=True)) > 0.01
    assert losses(1 / 32, 10**6) == losses(0.0, 10**6) == without


def test_the_threshold_gives_the_asked_number_of_latents() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = (
        torch.randn(8, 40, generator=generator),
        torch.zeros(40),
        torch.randn(40, 8, generator=generator),
        torch.zeros(8),
    )
    dictionary = Dictionary(*weights, site=SITE, model_id="toy", threshold=torch.zeros(40))
    data = torch.randn(1000, 8, generator=generator)
    for k in (1, 4, 10):
        latents = dictionary.with_threshold(threshold_for(dictionary, data, k)).encode(data)
        assert float((latents > 0).sum()) == k * 1000


def test_the_geometric_median_is_not_moved_by_outliers() -> None:
    points = torch.randn(501, 6, generator=torch.Generator().manual_seed(0))
    moved = torch.cat([points, torch.full((20, 6), 1e4)])
    assert geometric_median(moved).norm() < 0.2 < moved.mean(0).norm()
    median = geometric_median(points, rounds=200)
    pull = ((points - median) / (points - median).norm(dim=1, keepdim=True)).sum(0)
    torch.testing.assert_close(pull, torch.zeros(6), rtol=0, atol=1e-3)  # where unit vectors to all points balance


def endless(batch: Tensor) -> Iterator[Tensor]:
    while True:
        yield batch


def test_batches_that_cannot_be_trained_on_are_refused() -> None:
    data = sparse_data(256)
    broken = data.clone()
    broken[17, 3] = torch.inf
    with pytest.raises(NonFiniteActivationsError, match="'block out 1' are NaN or infinite in row 17 of batch 0"):
        train_sae(endless(broken), RECIPE, site=SITE, model_id="toy")
    with pytest.raises(ConfigurationError, match="Batch 0 has 255 activations, but the recipe's batch_size is 256"):
        train_sae(endless(data[:255]), RECIPE, site=SITE, model_id="toy")
    with pytest.raises(ConfigurationError, match="k is 48 of 48 latents: that is not sparse"):
        train_sae(endless(data), RECIPE.model_copy(update={"k": 48}), site=SITE, model_id="toy")


def test_a_loss_that_stops_being_a_number_ends_the_run() -> None:
    steps: list[int] = []
    wild = RECIPE.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(
        TrainingDivergedError, match=r"loss is (nan|inf) at step \d+ of 390. Take a learning rate below 1e\+30"
    ):
        train_sae(
            endless(sparse_data(256)), wild, site=SITE, model_id="toy", on_step=lambda step, _: steps.append(step)
        )
    assert len(steps) < 20


def test_an_sae_whose_sparsity_is_lost_in_its_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "astray.explain.sae_training.threshold_for", lambda dictionary, *_: torch.zeros(dictionary.width)
    )
    with pytest.raises(TrainingDivergedError, match=r"has an L0 of 3.0, read back from its file \d+\.\d"):
        trained(RECIPE.model_copy(update={"architecture": "batchtopk", "tokens": 5120}))


def test_settings_that_make_no_sense_are_refused() -> None:
    for change in (
        {"architecture": "relu"},
        {"latents": 1},
        {"k": 0},
        {"decay": 1.0},
        {"learning_rate": 0.0},
        {"epochs": 2},
    ):
        with pytest.raises(ValueError, match="SaeRecipe cannot be made of what was given"):
            SaeRecipe(**{"latents": 8, "tokens": 100} | change)
