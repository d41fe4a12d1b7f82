"""Kinds of PEFT adapters that can be used as PEFT uses them, and refusals of the others by name; imports no heavy
library.

Putting one on a model is in `adapters`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astray.errors import ConfigurationError, DataFormatError
from astray.files import read_json

KINDS = (
    *(
        "ADALORA",
        "BOFT",
        "C3A",
        "DELORA",
        "FOURIERFT",
        "HRA",
        "IA3",
        "LN_TUNING",
        "LOHA",
        "LOKR",
        "LORA",
        "MISS",
        "OFT",
        "RANDLORA",
        "ROAD",
    ),
    *("SHIRA", "TRAINABLE_TOKENS", "VBLORA", "VERA", "WAVEFT"),
)
"""Kinds of PEFT adapters that are accepted: for each a test compares logits and merged logits with PEFT's own."""
VIRTUAL_TOKENS = (
    "PROMPT_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "P_TUNING",
    "PREFIX_TUNING",
    "CPT",
    "CARTRIDGE",
    "ADAPTION_PROMPT",
)
"""Kinds that put learned tokens before the text, where steering and log-probabilities count columns of real tokens."""
ROUTED = ("LILY", "POLY", "XLORA")
"""Kinds that mix several adapters anew for each text or token: merged, they would be another model."""
SCALABLE = ("LORA", "LOHA", "LOKR")
"""Kinds whose whole change of the weights is proportional to one factor."""
MERGEABLE = ("ADALORA", "IA3", "LOHA", "LOKR", "LORA", "OFT", "VERA")
"""Kinds that may be written into the weights for faster sampling; the others act unmerged."""

_LORA_REFUSED = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
)
"""LoRA's options that need a caller of their own, change the layers' number, or whose result differs from pass to
pass."""
_CHANGES_BASE = ("pissa", "olora")
"""LoRA initialisations that take the adapter's first values out of the base's weights, when loaded too. The fast form
`pissa_niter_N` draws random numbers for that, so each load would be another model."""
_PLAIN_STARTS = (True, False, "gaussian", "eva", "orthogonal", "mica")


def changes_base(start: object) -> bool:
    """Return whether this start of a LoRA adapter takes its first values out of the base's weights."""
    return start in _CHANGES_BASE


def adapter_settings(adapter: Path) -> dict[str, Any]:
    """Return the content of an adapter's configuration.

    Raises:
        DataFormatError: it is no JSON object, or names a setting twice, or has a number that is not finite.
    """
    file = adapter / "adapter_config.json"
    settings = read_json(file, '{"peft_type": "LORA", ...}, as PEFT saves it; copy it again')
    if not isinstance(settings, dict):
        raise DataFormatError(
            f"{file} holds a {type(settings).__name__}, but an adapter's configuration is an object. Copy it again."
        )
    return settings


def is_mergeable(adapter: Path) -> bool:
    """Return whether an adapter may be written into the weights without changing what it does."""
    settings = adapter_settings(adapter)
    return settings.get("peft_type") in MERGEABLE and not settings.get(
        "lora_bias"
    )  # a bias has no place in layers without one


def check_kind(adapter: Path, scale: float = 1.0) -> str:
    """Return the kind of an adapter, after refusing those whose output could not be PEFT's own.

    Raises:
        ConfigurationError: the kind or an option is not supported, or no factor is defined for it; says what to write.
    """
    settings = adapter_settings(adapter)
    kind = str(settings.get("peft_type"))
    if kind in VIRTUAL_TOKENS:
        raise ConfigurationError(
            f"The adapter {adapter} is of the kind {kind}: it puts learned tokens before the text, which are no part "
            "of the weights, so it can be neither merged nor steered. Train a LoRA adapter on the same data, or "
            "serve the model with its adapter and name the server's model."
        )
    if kind in ROUTED:
        raise ConfigurationError(
            f"The adapter {adapter} is of the kind {kind}: it mixes several adapters anew for each text, which no merged "
            "weights can do, even where PEFT merges them. Train a LoRA adapter on the same data, or serve the model with "
            "its adapter and name the server's model."
        )
    if kind not in KINDS:
        raise ConfigurationError(
            f"The adapter {adapter} is of the kind {kind!r}; what can be used is {', '.join(KINDS)}. Merge it with "
            "PEFT first."
        )
    odd = [name for name in _LORA_REFUSED if settings.get(name)] if kind == "LORA" else []
    start = settings.get("init_lora_weights", True)
    if kind == "LORA" and start not in _PLAIN_STARTS and not changes_base(start):
        odd.append(f"init_lora_weights={start!r}")  # needs the data or the quantised base that it began from
    if odd:
        raise ConfigurationError(
            f"The LoRA adapter {adapter} has {', '.join(odd)}, which changes more than the weights. Merge it with PEFT "
            "(merge_and_unload, then save_pretrained) and give the merged folder."
        )
    if scale != 1:
        _check_scalable(adapter, settings)
    return kind


def unscalable(settings: Mapping[str, Any]) -> list[str]:
    """Return what in an adapter's configuration keeps its change from being proportional to one factor."""
    kind = str(settings.get("peft_type"))
    more = ("use_dora", "modules_to_save", "trainable_token_indices", "velora_config", "lora_ga_config")
    reasons = [] if kind in SCALABLE else [f"the kind {kind}"]
    reasons += [name for name in more if settings.get(name)]
    reasons += [f"bias={settings['bias']!r}"] if settings.get("bias", "none") != "none" else []
    return reasons + (["init_lora_weights"] if changes_base(settings.get("init_lora_weights")) else [])


def _check_scalable(adapter: Path, settings: Mapping[str, Any]) -> None:
    if reasons := unscalable(settings):
        raise ConfigurationError(
            f"No factor is defined for the adapter {adapter} ({', '.join(reasons)}): its change is not proportional "
            f"to one number. Give it without '*', or an adapter of the kinds {', '.join(SCALABLE)} that changes "
            "nothing else."
        )
