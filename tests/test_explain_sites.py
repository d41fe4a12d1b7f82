"""Sites are where they say they are, in architectures that build their blocks differently."""

import pytest
import torch
from torch import Tensor, nn

from astray.errors import ConfigurationError, UnknownNameError
from astray.explain.sites import PLACES, Site, reading, replacing, sites_of
from causal_models import BLOCKS, build_causal_model

ARCHITECTURES = (
    "llama",
    "qwen2",
    "gemma2",
    "gemma3",
    "olmo2",
    "glm4",
    "mixtral",
    "gpt2",
    "gptj",
    "gpt_neox",
    "falcon",
    "bloom",
    "mpt",
    "opt",
)
IDS = torch.tensor([[5, 9, 40, 41, 7], [8, 12, 13, 14, 15]])


def read_all(model: nn.Module, ids: Tensor = IDS) -> dict[Site, Tensor]:
    found: dict[Site, Tensor] = {}
    sites = sites_of(model)
    with (
        torch.no_grad(),
        reading(
            model, sites, lambda site, activations: found.update({site: activations.reshape(*ids.shape, -1).clone()})
        ),
    ):
        model(input_ids=ids)
    assert set(found) == set(sites)
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_places_of_a_block_add_up(architecture: str) -> None:
    found = read_all(build_causal_model(architecture))
    assert len(found) == 4 * BLOCKS
    for block in range(BLOCKS):
        before, after, attention, mlp = (found[Site(place=place, block=block)] for place in PLACES)
        assert min(attention.norm(), mlp.norm()) > 0.1
        torch.testing.assert_close(before + attention + mlp, after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_input_of_block_k_is_hidden_state_k_and_its_output_the_next_one(architecture: str) -> None:
    model = build_causal_model(architecture)
    found = read_all(model)
    with torch.no_grad():
        states = model(input_ids=IDS, output_hidden_states=True).hidden_states
    for block in range(BLOCKS):
        torch.testing.assert_close(found[Site(place="block in", block=block)], states[block], rtol=0, atol=0)
    for block in range(BLOCKS - 1):  # the last hidden state has been through the final norm
        torch.testing.assert_close(found[Site(place="block out", block=block)], states[block + 1], rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_replaced_is_what_the_model_goes_on_with(architecture: str, place: str) -> None:
    model, site = build_causal_model(architecture), Site(place=place, block=1)
    plain = read_all(model)
    shift = torch.randn(plain[site].shape[-1], generator=torch.Generator().manual_seed(0))
    with replacing(model, site, lambda activations: activations + shift):
        changed = read_all(model)
    before, after = (Site(place=one, block=1) for one in ("block in", "block out"))
    torch.testing.assert_close(
        changed[Site(place="block out", block=0)], plain[Site(place="block out", block=0)], rtol=0, atol=0
    )
    if place != "block in":  # there, all that follows changes
        torch.testing.assert_close(changed[before], plain[before], rtol=0, atol=0)
        differs = changed[after] - plain[after] - shift
        assert place == "attention out" or differs.abs().max() < 1e-4
    torch.testing.assert_close(read_all(model)[after], plain[after], rtol=0, atol=0)


def test_a_site_is_read_back_from_its_name_and_from_its_hook() -> None:
    for place in PLACES:
        site = Site(place=place, block=11)
        assert Site.parse(str(site)) == Site.parse(site.hook_name) == site
    assert Site(place="block out", block=3).hook_name == "blocks.3.hook_resid_post"


@pytest.mark.parametrize("name", ["block ou 1", "blocks.1.hook_z", "block out", "residual 2", "block out one"])
def test_a_name_that_is_no_site_lists_the_valid_ones(name: str) -> None:
    with pytest.raises(UnknownNameError, match=r"Valid names: attention out \d, block in \d, block out \d, mlp out \d"):
        Site.parse(name)


def test_a_block_out_of_range_and_a_part_that_a_block_lacks_are_refused() -> None:
    model = build_causal_model("llama")
    with (
        pytest.raises(
            ConfigurationError,
            match=r"block 3 is out of range.*blocks 0 to 2, with the sites 'block in', 'block out', 'attention out'",
        ),
        reading(model, [Site(place="block out", block=3)], lambda *_: None),
    ):
        pass
    model.model.layers[1].mlp2 = model.model.layers[1].mlp
    del model.model.layers[1].mlp
    with (
        pytest.raises(
            ConfigurationError,
            match=r"nothing in LlamaDecoderLayer is known as its mlp. Valid sites of this block: 'block in', 'block "
            r"out'",
        ),
        replacing(model, Site(place="mlp out", block=1), lambda activations: activations),
    ):
        pass
    assert Site(place="mlp out", block=1) not in sites_of(model)


def test_a_negative_block_and_an_unknown_place_are_refused() -> None:
    for settings in ({"place": "block out", "block": -1}, {"place": "residual", "block": 0}):
        with pytest.raises(ConfigurationError):
            Site(**settings)


def test_no_hook_stays_behind_when_reading_fails() -> None:
    model = build_causal_model("llama")

    def fail(site: Site, activations: Tensor) -> None:
        raise KeyError(site)

    with pytest.raises(KeyError), reading(model, sites_of(model), fail):
        model(input_ids=IDS)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
