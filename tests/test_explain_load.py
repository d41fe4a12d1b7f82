"""Published SAEs load by name, from a local copy of each family's files, small but in their form, through SAELens' own
loaders."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from astray.errors import DataNotFoundError, UnknownNameError
from astray.explain.load import load_public_sae, public_releases
from astray.explain.sites import Site

D_MODEL, LATENTS = 16, 40


def drawn() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "encoder": torch.randn(LATENTS, D_MODEL, generator=generator),
        "encoder_bias": torch.randn(LATENTS, generator=generator),
        "decoder": torch.randn(LATENTS, D_MODEL, generator=generator),
        "decoder_bias": torch.randn(D_MODEL, generator=generator),
        "threshold": torch.rand(LATENTS, generator=generator),
    }


def write_llama_scope(folder: Path, weights: dict[str, Tensor]) -> None:
    where = folder / "Llama3_1-8B-Base-L15R-8x"
    (where / "checkpoints").mkdir(parents=True)
    settings = {
        "d_model": D_MODEL,
        "d_sae": LATENTS,
        "jump_relu_threshold": 0.3,
        "hook_point_in": "blocks.15.hook_resid_post",
        "dataset_average_activation_norm": {"in": 8.0},
    }
    (where / "hyperparams.json").write_text(json.dumps(settings))
    tensors = {
        "encoder.weight": weights["encoder"],
        "encoder.bias": weights["encoder_bias"],
        "decoder.weight": weights["decoder"].T.contiguous(),
        "decoder.bias": weights["decoder_bias"],
    }
    save_file(tensors, where / "checkpoints" / "final.safetensors")


def write_qwen_scope(folder: Path, weights: dict[str, Tensor]) -> None:
    folder.mkdir(parents=True)
    content = {
        "W_enc": weights["encoder"],
        "W_dec": weights["decoder"].T,
        "b_enc": weights["encoder_bias"],
        "b_dec": weights["decoder_bias"],
    }
    torch.save(content, folder / "layer14.sae.pt")


def write_gemma_scope(folder: Path, weights: dict[str, Tensor]) -> None:
    where = folder / "layer_12" / "width_16k" / "average_l0_82"
    where.mkdir(parents=True)
    content = {
        "w_enc": weights["encoder"].T,
        "w_dec": weights["decoder"],
        "b_enc": weights["encoder_bias"],
        "b_dec": weights["decoder_bias"],
        "threshold": weights["threshold"],
    }
    np.savez(where / "params.npz", **{name: weight.numpy() for name, weight in content.items()})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """An empty cache of the hub's client; gives the snapshot folder of a repository in it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    def snapshot(repository: str) -> Path:
        folder = tmp_path / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0" * 40)
        return folder / "snapshots" / ("0" * 40)

    return snapshot


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma Scope and Qwen Scope files do not say their sizes, SAELens knows them by name: here it is told small
    ones."""
    releases = public_releases()
    for name in ("gemma-scope-2b-pt-res-canonical", "qwen-scope-3-1.7b-base-w32k-l50"):
        changed = replace(
            releases[name], config_overrides={"d_in": D_MODEL, "d_sae": LATENTS, "activation_fn_kwargs": {"k": 4}}
        )
        monkeypatch.setitem(public_directory(), name, changed)


def public_directory() -> dict:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return get_pretrained_saes_directory()


def activations() -> Tensor:
    return 4 * torch.randn(64, D_MODEL, generator=torch.Generator().manual_seed(1))


def test_llama_scope_loads_by_name_with_its_norm_folded_in(hub: Callable[[str], Path]) -> None:
    weights = drawn()
    write_llama_scope(hub("fnlp/Llama3_1-8B-Base-LXR-8x"), weights)
    dictionary = load_public_sae("llama_scope_lxr_8x/l15r_8x")
    assert (dictionary.site, dictionary.model_id) == (Site(place="block out", block=15), "meta-llama/Llama-3.1-8B")
    assert (dictionary.d_model, dictionary.width, dictionary.architecture) == (D_MODEL, LATENTS, "jumprelu")
    scale = public_releases()["llama_scope_lxr_8x"].norm_scaling_factor["l15r_8x"]
    before = (activations() * scale) @ weights["encoder"].T + weights["encoder_bias"]
    latents = before.relu() * (before > 0.3 * D_MODEL**0.5 / 8)
    expected = (latents @ weights["decoder"] + weights["decoder_bias"]) / scale
    torch.testing.assert_close(dictionary.decode(dictionary.encode(activations())), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("small")
def test_qwen_scope_loads_by_name(hub: Callable[[str], Path]) -> None:
    weights = drawn()
    write_qwen_scope(hub("Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_50"), weights)
    dictionary = load_public_sae("qwen-scope-3-1.7b-base-w32k-l50/layer14")
    assert (dictionary.site, dictionary.model_id, dictionary.k) == (
        Site(place="block out", block=14),
        "Qwen/Qwen3-1.7B-Base",
        4,
    )
    before = activations() @ weights["encoder"].T + weights["encoder_bias"]
    strongest = before.topk(4, dim=1)
    expected = (
        torch.zeros_like(before).scatter_(1, strongest.indices, strongest.values.relu()) @ weights["decoder"]
        + weights["decoder_bias"]
    )
    torch.testing.assert_close(dictionary.decode(dictionary.encode(activations())), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("small")
def test_gemma_scope_loads_by_name(hub: Callable[[str], Path]) -> None:
    weights = drawn()
    write_gemma_scope(hub("google/gemma-scope-2b-pt-res"), weights)
    dictionary = load_public_sae("gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical")
    assert (dictionary.site, dictionary.model_id, dictionary.architecture) == (
        Site(place="block out", block=12),
        "gemma-2-2b",
        "jumprelu",
    )
    before = activations() @ weights["encoder"].T + weights["encoder_bias"]
    expected = (before.relu() * (before > weights["threshold"])) @ weights["decoder"] + weights["decoder_bias"]
    torch.testing.assert_close(dictionary.decode(dictionary.encode(activations())), expected, rtol=1e-3, atol=1e-3)


def test_names_that_are_not_listed_show_the_valid_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"called 'llama_scope_lxr_9x'. Did you mean 'llama_scope_lxr_8x'\?"):
        load_public_sae("llama_scope_lxr_9x/l15r_8x")
    with pytest.raises(UnknownNameError, match=r"no SAE in llama_scope_lxr_8x called 'l99r_8x'.*Valid names: l0r_8x"):
        load_public_sae("llama_scope_lxr_8x/l99r_8x")
    with pytest.raises(UnknownNameError, match="no folder or public SAE release called 'gemma-scope-2b-pt-att'"):
        load_public_sae("gemma-scope-2b-pt-att/layer_12/width_16k/average_l0_34")


def test_files_that_cannot_be_had_give_the_command_that_fetches_them(hub: Callable[[str], Path]) -> None:
    with pytest.raises(
        DataNotFoundError, match=r"hf download fnlp/Llama3_1-8B-Base-LXR-8x --include 'Llama3_1-8B-Base-L15R-8x\*'"
    ):
        load_public_sae("llama_scope_lxr_8x/l15r_8x")
