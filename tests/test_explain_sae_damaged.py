"""Dictionaries of latents whose configuration or weights do not say one thing: refused by the key, in an error of Astray's
own, and none repeated, cut or converted to fit. One line a dictionary."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from astray.errors import AstrayError
from astray.explain.sae import Dictionary
from test_explain_sae import D_MODEL, LATENTS, OLD, TOPK, config, weights

Weights = dict[str, Tensor]
HOOK = {"model_name": "m", "hook_name": "blocks.1.hook_resid_post"}


def other(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Weights], Weights]:
    """Change one weight."""
    return lambda held: held | {name: change(held[name]).clone()}


def more(name: str, *shape: int) -> Callable[[Weights], Weights]:
    """Add a weight of twos."""
    return lambda held: held | {name: torch.full(shape, 2.0)}


def none_of_them(held: Weights) -> Weights:
    """Cut all latents off."""
    return held | {"W_enc": held["W_enc"][:, :0], "b_enc": held["b_enc"][:0], "W_dec": held["W_dec"][:0]}


def all_as(dtype: torch.dtype, factor: float = 1.0) -> Callable[[Weights], Weights]:
    """Write all weights in another number format."""
    return lambda held: {name: (factor * weight).to(dtype) for name, weight in held.items()}


CONFIGS: list[tuple[str, dict[str, Any], str]] = [
    # what a TopK dictionary's configuration says instead, and what the error says
    ("no k", {"k": None}, "k = nothing"),
    ("k below one", {"k": -1}, "k = -1"),
    ("k and a half", {"k": 2.5}, "k = 2.5"),
    ("k as text", {"k": "4"}, "k = '4'"),
    ("k as truth", {"k": True}, "k = True"),
    ("k as list", {"k": [4]}, r"k = \[4\]"),
    ("k that is no number", {"k": float("nan")}, "k = nan"),
    ("more than there are", {"k": 999}, "k from 1 to 48"),
    ("k of a rectifier", {"architecture": "standard"}, "k 5 for 'relu'"),
    ("another width", {"d_in": 16}, "says d_in = 16, but its weights have 32"),
    ("another size", {"d_sae": 7}, "says d_sae = 7, but its weights have 48"),
    ("a bias by a text", {"apply_b_dec_to_input": "false"}, "apply_b_dec_to_input = 'false'; write true or false"),
    ("a bias by nothing", {"apply_b_dec_to_input": None}, "apply_b_dec_to_input = None"),
    ("lengths by a text", {"rescale_acts_by_decoder_norm": "no"}, "rescale_acts_by_decoder_norm = 'no'"),
    ("metadata as text", {"metadata": "x"}, "metadata = 'x', which is no object"),
    ("metadata as list", {"metadata": [1]}, "metadata = .1., which is no object"),
    ("no hook", {"metadata": {"model_name": "m"}}, "does not say where it belongs"),
    ("a hook as number", {"metadata": HOOK | {"hook_name": 1}}, "'1'"),
    ("a hook before the first layer", {"metadata": HOOK | {"hook_name": "blocks.-1.hook_resid_post"}}, "blocks.-1"),
    ("a hook after a norm", {"metadata": HOOK | {"hook_name": "blocks.0.ln2.hook_normalized"}}, "hook_normalized"),
    ("a hook of a part", {"metadata": HOOK | {"hook_name": "model.layers.1.mlp"}}, "model.layers.1.mlp"),
    ("a layer as text", {"metadata": HOOK | {"hook_layer": "1"}}, "a contradiction"),
    ("another layer", {"metadata": HOOK | {"hook_layer": 2}}, "a contradiction"),
    ("one head", {"metadata": HOOK | {"hook_head_index": 0}}, "one attention head"),
    ("metadata of ours as text", {"metadata": HOOK | {"astray": "x"}}, "astray = 'x'"),
    ("metadata of ours without site", {"metadata": HOOK | {"astray": {"facts": {}}}}, "without site and model_id"),
    ("a site that there is not", {"metadata": HOOK | {"astray": {"site": {"place": "x"}, "model_id": "m"}}}, "place"),
    ("activations of norm one", {"normalize_activations": "layer_norm"}, "normalize_activations='layer_norm'"),
    ("activations scaled", {"normalize_activations": "constant_norm_rescale"}, "constant_norm_rescale"),
    ("heads apart", {"reshape_activations": "hook_z"}, "reshape_activations='hook_z'"),
    ("gated", {"architecture": "gated"}, "architecture 'gated'"),
    ("both signs", {"architecture": "abstopk"}, "architecture 'abstopk'"),
    ("matching pursuit", {"architecture": "matching_pursuit"}, "architecture 'matching_pursuit'"),
    ("temporal", {"architecture": "temporal"}, "architecture 'temporal'"),
    ("no architecture", {"architecture": None}, "architecture None"),
    ("an architecture in capitals", {"architecture": "TopK"}, "architecture 'TopK'"),
    ("a transcoder", {"architecture": "transcoder"}, "architecture 'transcoder'"),
    ("a transcoder by its hook", {"metadata": HOOK | {"hook_name_out": "blocks.1.hook_mlp_out"}}, "a transcoder"),
    ("a transcoder by its width", {"d_out": 16}, "d_out=16"),
    ("an old transcoder", OLD | TOPK | {"k": None, "is_transcoder": True}, "is_transcoder=True"),
    ("options as list", OLD | {"k": None, "activation_fn_kwargs": [1]}, "activation_fn_kwargs = .1."),
    ("options as text", OLD | {"k": None, "activation_fn_kwargs": "k=4"}, "activation_fn_kwargs = 'k=4'"),
    ("factors by a text", OLD | {"k": None, "finetuning_scaling_factor": "false"}, "finetuning_scaling_factor = 'false'"),
]  # fmt: skip

WEIGHTS: list[tuple[str, str, Callable[[Weights], Weights], str]] = [
    # architecture, how its weights come about, and what the error says
    ("an encoder on its side", "topk", other("W_enc", lambda weight: weight.T), r"W_enc is of the shape \(48, 32\)"),
    ("a decoder on its side", "topk", other("W_dec", lambda weight: weight.T), r"right is \(48, 32\)"),
    ("a bias that is cut", "topk", other("b_enc", lambda weight: weight[:5]), r"b_enc is of the shape \(5,\)"),
    ("one bias for all", "topk", other("b_enc", lambda weight: weight[:1]), r"b_enc is of the shape \(1,\)"),
    ("one shift for all", "topk", other("b_dec", lambda weight: weight[:1]), r"b_dec is of the shape \(1,\)"),
    ("a bias with two axes", "topk", other("b_dec", lambda weight: weight[None]), r"b_dec is of the shape \(1, 32\)"),
    ("one threshold for all", "jumprelu", other("threshold", lambda weight: weight[:1]), r"threshold .* \(1,\)"),
    ("a threshold alone", "jumprelu", other("threshold", lambda weight: weight[0]), r"threshold .* \(\)"),
    ("thresholds with two axes", "jumprelu", other("threshold", lambda weight: weight[None]), r"threshold .* \(1, 48\)"),
    ("a threshold without bound", "jumprelu", other("threshold", lambda weight: weight * torch.inf), "threshold has NaN"),
    ("whole numbers", "topk", all_as(torch.int8, 20), "torch.int8"),
    ("half floats too large", "topk", all_as(torch.float16, 1e6), "NaN or infinite"),
    ("gates", "standard", more("b_gate", LATENTS), "b_gate, which are of no SAE"),
    ("a way around", "standard", more("W_skip", D_MODEL, D_MODEL), "W_skip, which are of no SAE"),
    ("a factor of the activations", "standard", more("norm_scaling_factor", 1), "norm_scaling_factor"),
    ("no latents", "standard", none_of_them, r"W_dec of \(0, 32\)"),
]  # fmt: skip

FILES: list[tuple[bytes, str]] = [
    # content of cfg.json, and what the error says
    (b"[]", "holds a list"),
    (b"3", "holds a int"),
    (b"null", "holds a NoneType"),
    (b"", "is damaged"),
    (b'{"a": "\xe9"}', "is damaged"),
    (b"\xef\xbb\xbf{}", "is damaged"),
    (b"[" * 100_000, "is damaged"),
]


def refused(folder: Path, told: str) -> None:
    with pytest.raises(AstrayError, match=told):
        Dictionary.load(folder)


@pytest.mark.parametrize(("name", "changes", "told"), CONFIGS, ids=[name for name, *_ in CONFIGS])
def test_a_configuration_that_cannot_be_read_is_refused_by_the_key(
    name: str, changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    save_file(weights("topk"), tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps(config("topk") | changes))
    refused(tmp_path, told)


@pytest.mark.parametrize(("name", "architecture", "change", "told"), WEIGHTS, ids=[name for name, *_ in WEIGHTS])
def test_weights_that_do_not_belong_together_are_refused(
    name: str, architecture: str, change: Callable[[Weights], Weights], told: str, tmp_path: Path
) -> None:
    held = {key: weight.contiguous() for key, weight in change(weights(architecture)).items()}
    save_file(held, tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps(config(architecture)))
    refused(tmp_path, told)


@pytest.mark.parametrize(("content", "told"), FILES)
def test_what_is_no_configuration_is_refused(content: bytes, told: str, tmp_path: Path) -> None:
    save_file(weights("topk"), tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_bytes(content)
    refused(tmp_path, told)
