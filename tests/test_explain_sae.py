"""A dictionary computes what SAELens' SAE computes, is read and written in its form, and belongs to one model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from astray.errors import (
    ConfigurationError,
    DataFormatError,
    DataNotFoundError,
    DictionaryMismatchError,
    UnknownNameError,
)
from astray.explain.load import load_dictionary
from astray.explain.sae import Dictionary, base_id, from_sae_lens
from astray.explain.sites import Site
from astray.subjects.intervene import Intervention, write_direction
from astray.subjects.subject import Subject, load_subject
from causal_models import save_causal_model

D_MODEL, LATENTS = 32, 48
SITE = Site(place="block out", block=1)
EXTRA = {
    "topk": {"k": 5},
    "topk rescaled": {"k": 5, "rescale_acts_by_decoder_norm": True},
    "jumprelu": {},
    "standard": {},
}


def weights(architecture: str, seed: int = 0) -> dict[str, Tensor]:
    """Random ones, with decoder rows of very different lengths."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    drawn = {
        "W_enc": draw(D_MODEL, LATENTS),
        "b_enc": draw(LATENTS),
        "W_dec": draw(LATENTS, D_MODEL) * draw(LATENTS, 1).exp(),
        "b_dec": draw(D_MODEL),
    }
    return drawn | {"threshold": 2 * draw(LATENTS).abs()} if architecture == "jumprelu" else drawn


def config(architecture: str, **changes: object) -> dict[str, object]:
    return {
        "architecture": architecture.removesuffix(" rescaled"),
        "d_in": D_MODEL,
        "d_sae": LATENTS,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **EXTRA[architecture],
        "metadata": {
            "sae_lens_version": "6.54.12",
            "model_name": "some/model",
            "hook_name": "blocks.1.hook_resid_post",
        },
    } | changes


def saved(folder: Path, architecture: str, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(weights(architecture), folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config(architecture, **changes)))
    return folder


@pytest.fixture(scope="module")
def activations() -> Tensor:
    return 3 * torch.randn(4, 50, D_MODEL, generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_subject(str(save_causal_model(tmp_path_factory.mktemp("llama"), "llama")))


@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("architecture", list(EXTRA))
def test_latents_and_reconstructions_are_those_of_sae_lens(
    architecture: str, subtracts: bool, activations: Tensor, tmp_path: Path
) -> None:
    from sae_lens.saes.sae import SAE

    folder = saved(tmp_path / "theirs", architecture, apply_b_dec_to_input=subtracts)
    theirs, ours = SAE.load_from_disk(folder), Dictionary.load(folder)
    with torch.no_grad():
        latents, reconstruction = theirs.encode(activations), theirs(activations)
    lengths = torch.ones(LATENTS) if architecture == "topk rescaled" else weights(architecture)["W_dec"].norm(dim=1)
    torch.testing.assert_close(ours.encode(activations), latents * lengths, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.decode(ours.encode(activations)), reconstruction, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.decoder.norm(dim=1), torch.ones(LATENTS))
    again = SAE.load_from_disk(ours.save(tmp_path / "ours"))
    with torch.no_grad():
        torch.testing.assert_close(again(activations), reconstruction, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        Dictionary.load(tmp_path / "ours").encode(activations), ours.encode(activations), rtol=1e-4, atol=1e-4
    )


def test_a_latent_adds_its_activation_times_its_direction(activations: Tensor) -> None:
    dictionary = from_sae_lens(config("jumprelu"), weights("jumprelu"), "here")
    latents = dictionary.encode(activations[0])
    token, latent = (int(index) for index in (latents > 0).nonzero()[0])
    without = latents.clone()
    without[token, latent] = 0
    difference = dictionary.decode(latents) - dictionary.decode(without)
    torch.testing.assert_close(
        difference[token], latents[token, latent] * dictionary.decoder[latent], rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(difference[token].norm(), latents[token, latent], rtol=1e-4, atol=1e-4)


def test_any_dtype_is_read_in_float32(activations: Tensor) -> None:
    dictionary = from_sae_lens(config("topk"), weights("topk"), "here")
    assert dictionary.encode(activations.bfloat16()).dtype == torch.float32
    assert dictionary.to(torch.device("cpu")).encode(activations).equal(dictionary.encode(activations))


def test_identity_and_facts_are_kept(subject: Subject, tmp_path: Path) -> None:
    site = Site(place="mlp out", block=2)
    made = from_sae_lens(config("topk"), weights("topk"), "here")
    made.site, made.model_id, made.facts = site, base_id(subject), {"tokens": 5}
    loaded = load_dictionary(made.save(tmp_path), subject)
    assert (loaded.site, loaded.model_id, loaded.facts) == (site, base_id(subject), {"tokens": 5})
    assert (loaded.d_model, loaded.width, loaded.k, loaded.architecture) == (D_MODEL, LATENTS, 5, "topk")


def named(folder: Path, model_id: str, site: Site = SITE) -> Path:
    made = from_sae_lens(config("topk"), weights("topk"), "here")
    made.model_id, made.site = model_id, site
    return made.save(folder)


def test_an_adapter_or_an_intervention_does_not_change_whose_sae_it_is(subject: Subject, tmp_path: Path) -> None:
    vector = write_direction(tmp_path / "v.safetensors", torch.ones(D_MODEL))
    steered = subject.with_intervention(Intervention(kind="add", vector=vector, block=0)).with_system("Be brief.")
    assert steered.id != subject.id
    assert load_dictionary(named(tmp_path / "sae", base_id(subject)), steered).model_id == subject.id


def test_an_sae_of_another_model_is_refused(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(
        DictionaryMismatchError,
        match=r"was trained on the model '0123456789abcdef', but .* is '[0-9a-f]{16}': other weights",
    ):
        load_dictionary(named(tmp_path, "0123456789abcdef"), subject)


def test_an_sae_of_another_width_is_refused(subject: Subject, tmp_path: Path) -> None:
    narrow = {
        name: weight[..., :16] if name in ("W_dec", "b_dec") else weight[:16] if name == "W_enc" else weight
        for name, weight in weights("topk").items()
    }
    made = from_sae_lens(config("topk", d_in=16), narrow, "here")
    made.model_id = base_id(subject)
    with pytest.raises(
        DictionaryMismatchError, match=r"reads activations of width 16, but the residual stream of .* has 32"
    ):
        load_dictionary(made.save(tmp_path), subject)


def test_an_sae_of_a_block_that_does_not_exist_is_refused(subject: Subject, tmp_path: Path) -> None:
    folder = named(tmp_path, base_id(subject), Site(place="block out", block=9))
    with pytest.raises(
        DictionaryMismatchError,
        match=r"belongs to the site 'block out 9', but .* has the blocks 0 to 2 with the sites 'attention out'",
    ):
        load_dictionary(folder, subject)


@pytest.mark.parametrize(
    ("model", "fits"),
    [("org/tiny-3b", True), ("org/tiny-3b-base", True), ("tiny-3b-it", True), ("org/tiny-30b", False)],
)
def test_a_published_sae_is_known_by_the_name_of_its_model(model: str, fits: bool, tmp_path: Path) -> None:
    subject = load_subject(str(save_causal_model(tmp_path / "Tiny-3B-it", "llama")))
    folder = named(tmp_path / "sae", model)
    if fits:
        assert load_dictionary(folder, subject).model_id == model
    else:
        with pytest.raises(DictionaryMismatchError, match="was trained on the model 'org/tiny-30b'"):
            load_dictionary(folder, subject)


def test_files_that_are_no_sae_are_refused(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"There is no cfg.json in .*nowhere"):
        load_dictionary(tmp_path / "nowhere", subject)
    with pytest.raises(UnknownNameError, match="no folder or public SAE release called 'nowhere'"):
        load_dictionary("nowhere", subject)
    damaged = saved(tmp_path / "damaged", "topk")
    (damaged / "sae_weights.safetensors").write_bytes(b"torn")
    with pytest.raises(DataFormatError, match="is damaged"):
        Dictionary.load(damaged)
    incomplete = saved(tmp_path / "incomplete", "jumprelu")
    save_file(
        {
            name: weight
            for name, weight in load_file(incomplete / "sae_weights.safetensors").items()
            if name != "threshold"
        },
        incomplete / "sae_weights.safetensors",
    )
    with pytest.raises(DataFormatError, match="'jumprelu', but its weights lack threshold"):
        Dictionary.load(incomplete)


@pytest.mark.parametrize(
    ("changes", "error", "complaint"),
    [
        (
            {"architecture": "gated"},
            ConfigurationError,
            "architecture 'gated', but what can be read is topk, jumprelu, standard",
        ),
        (
            {"normalize_activations": "layer_norm"},
            ConfigurationError,
            "its decoder is no direction of the residual stream",
        ),
        ({"metadata": {"model_name": "some/model"}}, DataFormatError, "does not say where it belongs"),
        (
            {"metadata": {"hook_name": "blocks.1.attn.hook_z"}},
            UnknownNameError,
            "no site called 'blocks.1.attn.hook_z'",
        ),
    ],
)
def test_saes_that_cannot_be_read_as_directions_are_refused(
    changes: dict[str, object], error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        from_sae_lens(config("topk") | changes, weights("topk"), "here")


OLD = {
    "architecture": "standard", "activation_fn_str": "relu", "d_in": D_MODEL, "d_sae": LATENTS, "dtype": "torch.float32", "device": "cpu",
    "model_name": "tiny", "hook_name": "blocks.1.hook_resid_post", "hook_layer": 1, "hook_head_index": None, "prepend_bos": True,
    "apply_b_dec_to_input": False, "finetuning_scaling_factor": False, "normalize_activations": "none", "sae_lens_training_version": "3.13.0",
}  # fmt: skip
"""The configuration of an SAE as SAELens wrote it before version 6."""
TOPK = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}}


@pytest.mark.parametrize(
    ("changes", "read_as"),
    [
        ({}, "standard"),
        (TOPK, "topk"),
        (TOPK | {"normalize_activations": False}, "topk"),
        (TOPK | {"normalize_activations": None, "apply_b_dec_to_input": True}, "topk"),
        (TOPK | {"hook_name": None, "hook_point": "blocks.1.hook_resid_post"}, "topk"),
        ({"architecture": "jumprelu"}, "jumprelu"),
        ({"architecture": "jumprelu", "dtype": "bfloat16"}, "jumprelu"),
    ],
)
def test_old_files_are_read_as_sae_lens_reads_them(
    changes: dict[str, object], read_as: str, activations: Tensor, tmp_path: Path
) -> None:
    from sae_lens.saes.sae import SAE

    tensors = {name: weight.to(torch.float32) for name, weight in weights(read_as).items()}
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(
        json.dumps({key: value for key, value in (OLD | changes).items() if key != "hook_name" or value})
    )
    ours = Dictionary.load(tmp_path)
    assert (ours.architecture, ours.site, ours.model_id) == (read_as, SITE, "tiny")
    theirs = SAE.load_from_disk(tmp_path, dtype="float32")
    with torch.no_grad():
        torch.testing.assert_close(
            ours.encode(activations), theirs.encode(activations) * tensors["W_dec"].norm(dim=1), rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(ours.decode(ours.encode(activations)), theirs(activations), rtol=1e-4, atol=1e-4)


def test_factors_of_fine_tuning_are_part_of_the_decoder(activations: Tensor) -> None:
    drawn, factors = weights("topk"), torch.linspace(-1, 2, LATENTS)
    ours = from_sae_lens(
        OLD | TOPK | {"finetuning_scaling_factor": True}, drawn | {"finetuning_scaling_factor": factors}, "here"
    )
    before = activations @ drawn["W_enc"] + drawn["b_enc"]
    strongest = before.topk(4, dim=-1)
    latents = torch.zeros_like(before).scatter(-1, strongest.indices, strongest.values.relu())
    torch.testing.assert_close(
        ours.decode(ours.encode(activations)),
        (latents * factors) @ drawn["W_dec"] + drawn["b_dec"],
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"activation_fn_str": "tanh-relu"}, r"'tanh-relu' \(activation_fn\)"),
        ({"activation_fn_str": None}, r"None \(activation_fn\)"),
        ({"activation_fn_str": "topk"}, "k = nothing"),
        (TOPK | {"activation_fn_kwargs": {"k": 2.5}}, "k = 2.5"),
        (TOPK | {"activation_fn_kwargs": {"k": 0}}, "k = 0"),
        (TOPK | {"k": 8}, r"k = \['4', '8'\]"),
        (TOPK | {"activation_fn_kwargs": {"k": 4, "use_abs": True}}, "use_abs"),
        (TOPK | {"architecture": "jumprelu"}, "'topk' .* 'jumprelu'"),
        ({"activation_fn_kwargs": {"slope": 0.1}}, "slope"),
        ({"activation_fn_variant": "x"}, "activation_fn_variant"),
        ({"architecture": "batchtopk"}, "architecture 'batchtopk'"),
        ({"architecture": "matryoshka_batchtopk"}, "architecture 'matryoshka_batchtopk'"),
        ({"normalize_activations": True}, "normalize_activations=True"),
        ({"normalize_activations": "expected_average_only_in"}, "fold_activation_norm_scaling_factor"),
        ({"hook_head_index": 3}, "one attention head"),
        ({"hook_layer": 2}, "contradict"),
        ({"hook_name": "blocks.1.hook_resid_mid"}, "no site called"),
        ({"finetuning_scaling_factor": True}, "hold 0 of it"),
    ],
)
def test_old_files_with_what_cannot_be_read_are_refused_by_the_key(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises((ConfigurationError, DataFormatError, UnknownNameError), match=complaint):
        from_sae_lens(OLD | changes, weights("topk"), "here")


@pytest.mark.parametrize(("name", "value"), [("W_skip", 1.0), ("threshold", 0.5), ("scaling_factor", 2.0)])
def test_weights_that_would_be_passed_over_are_refused(name: str, value: float) -> None:
    with pytest.raises(
        (ConfigurationError, DataFormatError), match=name if name != "scaling_factor" else "factors of fine-tuning"
    ):
        from_sae_lens(OLD, weights("topk") | {name: torch.full((LATENTS,), value)}, "here")


@pytest.mark.parametrize(
    "name", ["model.layers.1", "transformer.h.1", "gpt_neox.layers.1", "blocks.1.hook_resid_post", "block out 1"]
)
def test_hooks_of_other_libraries_are_sites(name: str) -> None:
    assert Site.parse(name) == Site(place="block out", block=1)


def test_weights_that_make_no_sense_are_refused() -> None:
    good = dict(zip(("encoder", "encoder_bias", "decoder", "decoder_bias"), weights("topk").values(), strict=True))
    with pytest.raises(ConfigurationError, match="encoder_bias has NaN or infinite entries"):
        Dictionary(**good | {"encoder_bias": torch.full((LATENTS,), torch.nan)}, site=SITE, model_id="m")
    with pytest.raises(ConfigurationError, match="k is 49, but the dictionary has 48 latents"):
        Dictionary(**good, site=SITE, model_id="m", k=49)
    with pytest.raises(ConfigurationError, match="not both"):
        Dictionary(**good, site=SITE, model_id="m", k=4, threshold=torch.ones(LATENTS))
    with pytest.raises(ConfigurationError, match="A TopK dictionary has no thresholds"):
        Dictionary(**good, site=SITE, model_id="m", k=4).with_threshold(torch.ones(LATENTS))


def test_a_latent_without_a_direction_adds_nothing() -> None:
    drawn = weights("topk")
    drawn["W_dec"][7] = 0
    dictionary = from_sae_lens(config("topk"), drawn, "here")
    assert dictionary.decoder[7].norm() == 0
    assert dictionary.decode(torch.eye(LATENTS))[7].equal(dictionary.decoder_bias)
