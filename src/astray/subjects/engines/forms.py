"""What a server can take of an adapter: the adapter as it is, or only the weights with the adapter merged into them.

vLLM reads rank and alpha of a LoRA adapter on the layers of the model. Other things it refuses, or, worse, leaves out in
silence: log-probabilities drop a LoRA on the output layer, ranks by module are not read. Such adapters are merged.
"""

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path

from astray.errors import ConfigurationError
from astray.subjects.adapter_kinds import adapter_settings, changes_base, is_mergeable
from astray.subjects.identity import adapter_identity, adapter_weights
from astray.subjects.locate import Located
from astray.subjects.spec import Precision

_IN_LAYER = re.compile(r"\.\d+\.")
_UNREAD = (
    "use_dora",
    "modules_to_save",
    "trainable_token_indices",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "fan_in_fan_out",
    "target_parameters",
)
"""LoRA's settings that vLLM refuses or does not read."""


@dataclass(frozen=True)
class Form:
    """How an adapter can be served.

    Attributes:
        reason: why it has to be merged; "" for one that a server applies by itself.
        rank: of its matrices.
    """

    reason: str
    rank: int


def form_of(adapter: Path) -> Form:
    """Return how an adapter can be served; of its weights the names alone are read."""
    return _form(adapter, adapter_identity(adapter))


@functools.lru_cache(maxsize=64)
def _form(adapter: Path, content: str) -> Form:
    del content
    settings = adapter_settings(adapter)
    kind, rank = str(settings.get("peft_type")), int(settings.get("r") or 0)
    if kind != "LORA":
        return Form(f"the adapter {adapter} is of the kind {kind}", rank)
    odd = [name for name in _UNREAD if settings.get(name)]
    odd += [f"bias={settings['bias']}"] if settings.get("bias", "none") != "none" else []
    odd += ["init_lora_weights"] if changes_base(settings.get("init_lora_weights", True)) else []
    if odd:
        return Form(f"the adapter {adapter} has {', '.join(odd)}", rank)
    outside = sorted({key for key in _names(adapter) if not _IN_LAYER.search(key)})
    if outside:
        return Form(f"the adapter {adapter} changes {outside[0]}, which is the output layer or the embeddings", rank)
    return Form("", rank)


def _names(adapter: Path) -> list[str]:
    from peft.utils.save_and_load import load_peft_weights

    if adapter_weights(adapter).suffix != ".safetensors":
        return list(load_peft_weights(str(adapter), device="cpu"))
    from safetensors import safe_open

    with safe_open(adapter_weights(adapter), framework="pt") as file:
        return list(file.keys())


def scaled(adapter: Path, scale: float, folder: Path) -> Path:
    """Return the adapter with its change of the weights scaled: itself, or a copy in `folder`."""
    if scale == 1:
        return adapter
    folder.mkdir(parents=True, exist_ok=True)
    settings = adapter_settings(adapter)
    weights = adapter_weights(adapter)
    (folder / weights.name).unlink(missing_ok=True)
    (folder / weights.name).symlink_to(weights.resolve())
    changed = settings | {"lora_alpha": settings["lora_alpha"] * scale}
    (folder / "adapter_config.json").write_text(json.dumps(changed), encoding="utf-8")
    return folder


def write_merged(located: Located, precision: Precision, folder: Path) -> None:
    """Write a subject's weights with its adapter merged into them, and its tokenizer.

    Raises:
        ConfigurationError: the adapter cannot be merged exactly.
    """
    from collections import Counter

    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    from astray.subjects.adapters import put_on
    from astray.subjects.weights import adapted_tokenizer, load_model

    spec = located.spec
    assert spec.adapter is not None
    model = load_model(spec.model, located.base, precision, torch.device("cpu"))
    tuned = put_on(model, spec.model, spec.adapter, scale=spec.scale)
    layers = [module for module in tuned.modules() if isinstance(module, BaseTunerLayer)]
    owners = Counter(id(value) for module in tuned.modules() for value in module.parameters(recurse=False))
    shared = any(owners[id(value)] > 1 for layer in layers for value in layer.get_base_layer().parameters())
    if shared or not is_mergeable(spec.adapter):
        why = "it changes an output layer that is tied to the embeddings" if shared else "its kind has no merged form"
        raise ConfigurationError(
            f"The adapter {spec.adapter} cannot be merged exactly: {why}. Sample with --engine local."
        )
    tuned.merge_and_unload(safe_merge=True).save_pretrained(folder)
    adapted_tokenizer(spec.model, located.base, spec.adapter).save_pretrained(folder)
