"""Reading of SAELens' configurations of all versions: what an SAE computes, or a refusal that names the key.

Version 6 of SAELens writes one architecture for one activation function; earlier ones wrote the function apart from the
architecture (`activation_fn_str`, `activation_fn_kwargs`), the hook among the other keys, and a factor per latent from
fine-tuning. SAELens' own reading of old files leaves that factor out; here it is part of the decoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from astray.errors import ConfigurationError, DataFormatError
from astray.explain.sites import Site

ARCHITECTURES = ("topk", "jumprelu", "standard")
"""SAELens' architectures that can be read; BatchTopK and Matryoshka SAEs are saved as JumpReLU."""
_FACTORS = ("finetuning_scaling_factor", "scaling_factor")
_WEIGHTS = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold", *_FACTORS)
_OF_TRANSCODERS = {
    "is_transcoder": "",
    "hook_name_out": "hook_name",
    "hook_point_out": "hook_name",
    "out_hook_point": "hook_name",
    "hook_layer_out": "hook_layer",
    "d_out": "d_in",
}
"""Keys of SAEs that write to another place than they read -> the key that has the same value in all others."""
_RENAMED = {
    "hook_point": "hook_name",
    "hook_point_layer": "hook_layer",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}


@dataclass(frozen=True)
class SaeForm:
    """What an SAE computes and where.

    Attributes:
        architecture: one of `ARCHITECTURES`.
        k: active latents per token of a TopK SAE, else None.
        site: site of its activations.
        model_name: the model it names.
        subtracts_bias: whether the decoder's bias is subtracted before encoding.
        rescaled: whether pre-activations are scaled by the decoder rows' lengths.
        factors: factor on each latent before decoding.
    """

    architecture: str
    k: int | None
    site: Site
    model_name: str
    subtracts_bias: bool
    rescaled: bool
    factors: Float[Tensor, "latents"]


def read_form(config: Mapping[str, Any], weights: Mapping[str, Tensor], source: str) -> SaeForm:
    """Return what an SAE in SAELens' form of any version computes.

    Args:
        config: the content of `cfg.json`.
        weights: the tensors by SAELens' names.
        source: path or name of the SAE, for messages.

    Raises:
        DataFormatError: a tensor or the site is missing, or two keys contradict each other.
        ConfigurationError: a key has a value that cannot be read; names it.
    """
    settings = {_RENAMED.get(key, key): value for key, value in config.items()}
    metadata = {**settings, **_object(settings, "metadata", source)}
    _refuse_other_inputs(settings, metadata, source)
    if unknown := sorted(weights.keys() - set(_WEIGHTS)):
        raise ConfigurationError(
            f"{source} holds the weights {', '.join(unknown)}, which are of no SAE that can be read: "
            f"{', '.join(ARCHITECTURES)}."
        )
    if missing := [name for name in _WEIGHTS[:4] if name not in weights]:
        raise DataFormatError(f"{source} is incomplete: {', '.join(missing)} missing from its weights. Copy it again.")
    _check_weights(settings, weights, source)
    architecture, k = _activation(settings, source)
    if (architecture == "jumprelu") != ("threshold" in weights):
        raise DataFormatError(
            f"{source} is of the architecture {architecture!r}, but its weights "
            f"{'lack' if architecture == 'jumprelu' else 'hold'} threshold."
        )
    own = _object(metadata, "astray", source)
    if own and not (isinstance(own.get("site"), dict) and isinstance(own.get("model_id"), str)):
        raise DataFormatError(f"{source} has metadata of ours without site and model_id. Copy it again.")
    return SaeForm(
        architecture,
        k,
        Site(**own["site"]) if own else _site(metadata, source),
        str(own["model_id"] if own else metadata.get("model_name")),
        _flag(settings, "apply_b_dec_to_input", source, usual=True),
        _flag(settings, "rescale_acts_by_decoder_norm", source),
        _factors(settings, weights, source),
    )


def _activation(settings: Mapping[str, Any], source: str) -> tuple[str, int | None]:
    """Return the architecture and k; an older file names the activation function beside a 'standard' architecture."""
    architecture, function = settings.get("architecture", "standard"), settings.get("activation_fn", "relu")
    options = _object(settings, "activation_fn_kwargs", source)
    if architecture not in ARCHITECTURES:
        raise ConfigurationError(
            f"{source} is an SAE of the architecture {architecture!r}, but what can be read is "
            f"{', '.join(ARCHITECTURES)}."
        )
    if strange := sorted(
        key
        for key in settings
        if key.startswith("activation_fn") and key not in ("activation_fn", "activation_fn_kwargs")
    ):
        raise ConfigurationError(
            f"{source} has the key {', '.join(strange)}, which says something unknown about its activation function."
        )
    if function not in ("relu", "topk") or (function == "topk" and architecture == "jumprelu"):
        raise ConfigurationError(
            f"{source} has the activation function {function!r} (activation_fn) with the architecture "
            f"{architecture!r}; what can be read is 'relu' and 'topk' with activation_fn_kwargs {{'k': ...}}."
        )
    if function == "relu" and architecture != "topk":
        if options or settings.get("k") is not None:
            raise ConfigurationError(
                f"{source} has activation_fn_kwargs {options or 'none'} and k {settings.get('k')!r} for 'relu', which takes "
                "none. Name its architecture."
            )
        return architecture, None
    counts = [value for value in (options.pop("k", None), settings.get("k")) if value is not None]
    ks = [value for number, value in enumerate(counts) if value not in counts[:number]]
    if options or len(ks) != 1:
        raise ConfigurationError(
            f"{source} has TopK with k = {sorted(map(str, ks)) or 'nothing'} and other activation_fn_kwargs "
            f"{options or 'none'}: one k is needed."
        )
    (k,) = ks
    if isinstance(k, bool) or not isinstance(k, int | float) or not k >= 1 or k % 1:
        raise ConfigurationError(f"{source} has k = {k!r}; the active latents of a token are a whole number from 1.")
    return "topk", int(k)


def _refuse_other_inputs(settings: Mapping[str, Any], metadata: Mapping[str, Any], source: str) -> None:
    normalised, reshaped = (
        settings.get("normalize_activations") or "none",
        settings.get("reshape_activations") or "none",
    )
    if normalised != "none" or reshaped != "none":
        raise ConfigurationError(
            f"{source} expects activations that were normalised or reshaped first "
            f"(normalize_activations={normalised!r}, reshape_activations={reshaped!r}), so its decoder is no "
            "direction of the residual stream. Fold a constant factor with SAELens' "
            "fold_activation_norm_scaling_factor."
        )
    if out := [
        name for name in _OF_TRANSCODERS if metadata.get(name) not in (None, False, metadata.get(_OF_TRANSCODERS[name]))
    ]:
        raise ConfigurationError(
            f"{source} reads one place and writes to another ({', '.join(f'{name}={metadata[name]!r}' for name in out)}): a "
            "transcoder, whose decoder is no direction of what it reads."
        )
    if metadata.get("hook_head_index") is not None:
        raise ConfigurationError(
            f"{source} reads one attention head (hook_head_index={metadata['hook_head_index']}), not the residual "
            "stream."
        )


def _site(metadata: Mapping[str, Any], source: str) -> Site:
    if not metadata.get("hook_name"):
        raise DataFormatError(
            f"{source} does not say where it belongs. Write metadata like {{'hook_name': 'blocks.1.hook_resid_post'}}."
        )
    site, layer = Site.parse(str(metadata["hook_name"])), metadata.get("hook_layer")
    if layer is not None and layer != site.block:
        raise DataFormatError(
            f"{source} names the hook {metadata['hook_name']!r} and the layer {layer!r} (hook_layer), a contradiction."
        )
    return site


def _factors(settings: Mapping[str, Any], weights: Mapping[str, Tensor], source: str) -> Float[Tensor, "latents"]:
    """Return the factor of each latent that old SAELens learned in fine-tuning and applied before decoding."""
    held = [weights[name] for name in _FACTORS if name in weights]
    ones = torch.ones(len(weights["W_dec"]), device=weights["W_dec"].device)
    if not _flag(settings, "finetuning_scaling_factor", source):
        if any(bool((factor != 1).any()) for factor in held):
            raise DataFormatError(
                f"{source} holds factors of fine-tuning that its finetuning_scaling_factor says it does not use. Set "
                "it to true or delete them."
            )
        return ones
    if len(held) != 1:
        raise DataFormatError(
            f"{source} uses finetuning_scaling_factor, but its weights hold {len(held)} of it. Copy it again."
        )
    return held[0].float() * ones


def _check_weights(settings: Mapping[str, Any], weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights whose shapes do not belong together: some would be repeated to fit, without an error."""
    latents, width = weights["W_dec"].shape if weights["W_dec"].dim() == 2 else (0, 0)
    shapes = {"W_enc": (width, latents), "W_dec": (latents, width), "b_enc": (latents,), "b_dec": (width,)}
    for name, weight in weights.items():
        shape, wanted = tuple(weight.shape), shapes.get(name, (latents,))
        if shape != wanted or not latents or not weight.is_floating_point():
            raise DataFormatError(
                f"{source}: the weight {name} is of the shape {shape} and the number format {weight.dtype}, and W_dec of "
                f"{tuple(weights['W_dec'].shape)}, [latents, d_model]; right is {wanted} in floats. Copy it again."
            )
    for name, size in {"d_in": width, "d_sae": latents}.items():
        if settings.get(name) not in (None, size):
            raise DataFormatError(
                f"{source} says {name} = {settings[name]!r}, but its weights have {size}. Copy it again."
            )


def _object(settings: Mapping[str, Any], name: str, source: str) -> dict[str, Any]:
    """Return an entry that is an object; one that is missing or null is empty."""
    value = settings.get(name) or {}
    if not isinstance(value, Mapping):
        raise DataFormatError(f"{source} has {name} = {value!r:.60}, which is no object of keys and values.")
    return dict(value)


def _flag(settings: Mapping[str, Any], name: str, source: str, *, usual: bool = False) -> bool:
    """Return an entry that is true or false; a text would be true whatever it says."""
    value = settings.get(name, usual)
    if value is None and not usual:
        return False
    if value not in (True, False):
        raise ConfigurationError(f"{source} has {name} = {value!r}; write true or false, without quotes.")
    return bool(value)
