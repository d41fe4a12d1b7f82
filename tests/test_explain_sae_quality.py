"""Figures of quality equal independent computations; a perfect dictionary costs the model nothing, and removing the
site is removing it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from astray.errors import ConfigurationError, DictionaryMismatchError, EmptyDataError
from astray.explain.activations import TokenRow, capture
from astray.explain.sae import Dictionary, base_id
from astray.explain.sae_quality import quality, spliced_loss
from astray.explain.sites import PLACES, Place, Site
from astray.subjects.subject import Subject, load_subject
from causal_models import save_causal_model

D_MODEL = 32
ROWS = [TokenRow((5, 9, 40, 41, 7, 30, 31), 4), TokenRow((8, 12)), TokenRow(tuple(range(50, 62)), 1)]


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_subject(str(save_causal_model(tmp_path_factory.mktemp(request.param), request.param)))


def dictionary(
    directions: Tensor, site: Site, model_id: str, bias: Tensor | None = None, silent: int = 0
) -> Dictionary:
    """ReLU latents that read the given orthonormal directions, one for each sign; nothing activates the last so
    many."""
    both = torch.cat([directions, -directions])
    bias = torch.zeros(directions.shape[1]) if bias is None else bias
    encoder_bias = torch.where(torch.arange(len(both)) < len(both) - silent, 0.0, -1e6)
    return Dictionary(both.T, encoder_bias, both, bias, site=site, model_id=model_id)


def directions(count: int) -> Tensor:
    return (
        torch.linalg.qr(torch.randn(D_MODEL, D_MODEL, generator=torch.Generator().manual_seed(0)))[0]
        .T[:count]
        .contiguous()
    )


def loss_by_hand(subject: Subject, site: Site, value: Tensor | None) -> float:
    """Cross-entropy row by row, without padding, the block's output replaced by hand."""

    def replace(_module: object, _inputs: object, output: Tensor | tuple) -> Tensor | tuple | None:
        if value is None:
            return None
        return (value.expand_as(output[0]), *output[1:]) if isinstance(output, tuple) else value.expand_as(output)

    blocks = subject.model.model.layers if hasattr(subject.model, "model") else subject.model.transformer.h
    handle = blocks[site.block].register_forward_hook(replace)
    losses: list[float] = []
    for row in ROWS:
        with torch.no_grad():
            logits = subject.model(input_ids=torch.tensor([row.tokens])).logits[0]
        start = max(1, row.prompt)
        losses += torch.nn.functional.cross_entropy(
            logits[start - 1 : -1], torch.tensor(row.tokens[start:]), reduction="none"
        ).tolist()
    handle.remove()
    return float(np.mean(losses))


def test_explained_variance_l0_and_dead_share_equal_independent_figures(subject: Subject) -> None:
    data = torch.randn(9000, D_MODEL, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.1, 3, D_MODEL) + 2
    half = dictionary(directions(12), Site(place="block out", block=1), base_id(subject), bias=data.mean(0), silent=4)
    found = quality(half, data)
    latents = half.encode(data)
    exact = data.numpy().astype(np.float64)
    residual = exact - half.decode(latents).numpy()
    assert found.explained_variance == pytest.approx(1 - np.mean(residual**2) / exact.var(0).mean(), abs=1e-6)
    assert found.l0 == pytest.approx(np.count_nonzero(latents.numpy(), axis=1).mean())
    assert found.dead == pytest.approx(4 / 24)
    assert found.tokens == 9000


@pytest.mark.parametrize("place", PLACES)
def test_a_perfect_dictionary_costs_nothing(place: Place, subject: Subject) -> None:
    loss = spliced_loss(subject, dictionary(directions(D_MODEL), Site(place=place, block=1), base_id(subject)), ROWS)
    assert loss.spliced == pytest.approx(loss.clean, abs=1e-4)
    assert loss.recovered == pytest.approx(1, abs=0.01)
    assert loss.tokens == 3 + 1 + 11


def test_losses_equal_those_computed_row_by_row(subject: Subject) -> None:
    site = Site(place="block out", block=0)
    mean = capture(subject, ROWS, [site], "all")[site].mean(0)
    empty = Dictionary(
        torch.zeros(D_MODEL, 4), torch.zeros(4), torch.zeros(4, D_MODEL), mean, site=site, model_id=base_id(subject)
    )
    loss = spliced_loss(subject, empty, ROWS)
    assert loss.clean == pytest.approx(loss_by_hand(subject, site, None), rel=1e-4)
    assert loss.zero == pytest.approx(loss_by_hand(subject, site, torch.zeros(D_MODEL)), rel=1e-4)
    assert loss.mean == pytest.approx(loss_by_hand(subject, site, mean), rel=1e-4)
    assert loss.spliced == pytest.approx(loss.mean)  # a dictionary without latents says its bias
    assert loss.recovered_from_mean == pytest.approx(0, abs=1e-4)


def test_figures_that_cannot_be_taken_are_refused(subject: Subject, tmp_path: Path) -> None:
    site = Site(place="block out", block=0)
    good = dictionary(directions(4), site, base_id(subject))
    with pytest.raises(EmptyDataError, match="there are 1"):
        quality(good, torch.zeros(1, D_MODEL))
    with pytest.raises(ConfigurationError, match="Row 1 has nothing to predict: 3 tokens, the first 3 are given"):
        spliced_loss(subject, good, [ROWS[0], TokenRow((1, 2, 3), 3)])
    with pytest.raises(DictionaryMismatchError, match="was trained on the model 'another'"):
        spliced_loss(subject, dictionary(directions(4), site, "another"), ROWS)
