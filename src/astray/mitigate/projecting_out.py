"""Projecting a direction out of a model's weights, written as a LoRA adapter that holds the change exactly.

What a layer's attention or MLP adds to the residual stream is written by one matrix W. Without its part along a unit
vector v it is (I - v v^T) W: a change of rank one, -v (v^T W), which an adapter of rank one more than the model's own
holds without a hook. Constant parts (embeddings, biases) stay.

Source: Arditi et al. 2024 (arXiv 2406.11717), directional ablation as weight orthogonalisation. Directions are made in
`explain`.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from astray.errors import ConfigurationError
from astray.explain.sites import Site, reading, sites_of
from astray.subjects.adapter_kinds import adapter_settings, changes_base
from astray.subjects.base import record_base
from astray.subjects.subject import Subject

_PREFIX = "base_model.model."
_MORE = ("use_dora", "lora_bias", "modules_to_save", "fan_in_fan_out", "trainable_token_indices")
"""Options of a LoRA adapter that are more than low-rank matrices."""
_PROBE = 8
"""Tokens of the pass that shows which matrix writes what a site has."""


def check_projectable(subject: Subject) -> None:
    """Refuse a model out of whose weights no direction can be projected by an adapter.

    Raises:
        ConfigurationError: its adapter is more than low-rank matrices, its base is quantised, or a part of a layer is not
            written by one matrix.
    """
    _check_plain(subject)
    writers(subject)


def write_projected_out(subject: Subject, direction: Float[Tensor, "d_model"], target: Path) -> Path:
    """Write an adapter folder that is the subject with a direction projected out of all that its layers write.

    Args:
        subject: a model, with a LoRA adapter or without one; a scale of it is written into the result.
        direction: in the residual stream, of any length.
        target: folder of the adapter.

    Raises:
        ConfigurationError: as `check_projectable`.
    """
    _check_plain(subject)
    names = set(writers(subject))
    unit = (direction / direction.norm()).float()
    parts = {name: _low_rank(module, unit if name in names else None) for name, module in _linear(subject.model)}
    kept = {name: pair for name, pair in parts.items() if pair is not None}
    rank = max(up.shape[1] for _, up in kept.values())
    shutil.rmtree(target, ignore_errors=True)
    if subject.spec.adapter is None:
        target.mkdir(parents=True)
    else:  # with the tokenizer that it may bring
        shutil.copytree(subject.spec.adapter, target, ignore=shutil.ignore_patterns("adapter_model.*", "README.md"))
    weights = {}
    for name, (down, up) in kept.items():
        weights[f"{_PREFIX}{name}.lora_A.weight"] = nn.functional.pad(down, (0, 0, 0, rank - len(down))).contiguous()
        weights[f"{_PREFIX}{name}.lora_B.weight"] = nn.functional.pad(up, (0, rank - up.shape[1])).contiguous()
    save_file(weights, target / "adapter_model.safetensors", metadata={"format": "pt"})
    # alpha = rank: the factors of the matrices themselves are in them.
    settings: dict[str, object] = {"peft_type": "LORA", "task_type": "CAUSAL_LM"}
    # Other tools read the revision apart from the name.
    named = subject.spec.model
    base, _, revision = (named, "", "") if Path(named).is_dir() else named.partition("@")
    settings |= {"base_model_name_or_path": base, "revision": revision or None}
    settings |= {"r": rank, "lora_alpha": rank, "target_modules": sorted(kept), "inference_mode": True}
    (target / "adapter_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    record_base(target, subject.base_folder)
    return target


def writers(subject: Subject) -> list[str]:
    """Return the names of the matrices that write to the residual stream: one for each layer's attention and MLP.

    Raises:
        ConfigurationError: there is none for one of them, since a norm or experts stand behind it or its matrix is no
            nn.Linear; names it.
    """
    model = subject.model
    sites = [site for site in sites_of(model) if site.place in ("attention out", "mlp out")]
    written: dict[str, Tensor] = {}
    read: dict[Site, Tensor] = {}

    def noting(name: str) -> object:
        return lambda _module, _inputs, output: written.update({name: output})

    with ExitStack() as stack:
        for name, module in _linear(model):
            stack.callback(module.register_forward_hook(noting(name)).remove)  # type: ignore[arg-type]
        stack.enter_context(reading(model, sites, lambda site, values: read.update({site: values.clone()})))
        stack.enter_context(torch.inference_mode())
        size = model.config.get_text_config().vocab_size
        model(input_ids=(torch.arange(_PROBE, device=model.device) % size)[None], use_cache=False)
    matrices = {
        site: [
            name for name, output in written.items() if output.shape == read[site].shape and output.equal(read[site])
        ]
        for site in sites
    }
    if missing := [site for site, names in matrices.items() if len(names) != 1]:
        raise ConfigurationError(
            f"What '{missing[0]}' adds to the residual stream is not written by one nn.Linear (a norm or experts stand behind "
            "it, or it is written by another class, such as GPT-2's Conv1D or a layer in nf4), so no direction can be projected out of the "
            "weights. Steer with an Intervention of the kind 'ablate' instead."
        )
    return [names[0] for names in matrices.values()]


def _linear(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the matrices of a model with their names, those with an adapter as one module."""
    from peft.tuners.lora import Linear

    adapted = tuple(name for name, module in model.named_modules() if isinstance(module, Linear))
    for name, module in model.named_modules():
        if (isinstance(module, Linear) and isinstance(module.get_base_layer(), nn.Linear)) or (
            isinstance(module, nn.Linear)
            and module.weight.is_floating_point()  # the weight of a 4-bit layer is a packed column
            and not name.startswith(tuple(f"{prefix}." for prefix in adapted))
        ):
            yield name, module


def _low_rank(
    module: nn.Module, unit: Float[Tensor, "out"] | None
) -> tuple[Float[Tensor, "rank in"], Float[Tensor, "out rank"]] | None:
    """Return the change of a matrix as a product of two, with a direction of its output projected out where one is
    given; None for a matrix without any change."""
    from peft.tuners.lora import Linear

    downs: list[Tensor] = []
    ups: list[Tensor] = []
    if isinstance(module, Linear):
        (name,) = module.active_adapters
        downs.append(_weight(module.lora_A[name]))
        ups.append(_weight(module.lora_B[name]) * module.scaling[name])
    if unit is not None:
        weight = _weight(module.get_base_layer() if isinstance(module, Linear) else module)
        unit = unit.to(weight.device)
        # Of base and adapter together: (I - v v^T) (W + B A) = W + B A - v (v^T W + v^T B A).
        downs.append((unit @ weight + sum(unit @ up @ down for down, up in zip(downs, ups, strict=True)))[None])
        ups.append(-unit[:, None])
    if not downs:
        return None
    return torch.cat(downs).detach().cpu(), torch.cat(ups, 1).detach().cpu()


def _weight(module: nn.Module) -> Tensor:
    return cast(Tensor, module.weight).float()


def _check_plain(subject: Subject) -> None:
    adapter = subject.spec.adapter
    odd = [] if adapter is None else _odd_settings(adapter_settings(adapter))
    if not odd and getattr(subject.model.config, "quantization_config", None):
        raise ConfigurationError(
            f"The weights of {subject.spec.model} are quantised, so no direction can be projected out of them exactly. Give "
            "the model that is not quantised."
        )
    if not odd and adapter is not None:
        odd = _odd_parts(subject.model, adapter)
    if odd:
        raise ConfigurationError(
            f"The adapter {adapter} has {', '.join(odd)}: its change is more than low-rank matrices of linear layers, so "
            "no direction can be projected out of it by an adapter. Merge it with PEFT and give the merged folder."
        )


def _odd_settings(settings: Mapping[str, Any]) -> list[str]:
    """Return what in an adapter's configuration makes it more than low-rank matrices."""
    odd = [name for name in _MORE if settings.get(name)]
    odd += [f"peft_type={kind}" for kind in [settings.get("peft_type")] if kind != "LORA"]
    odd += [f"bias={kind}" for kind in [settings.get("bias", "none")] if kind != "none"]
    return odd + [f"init_lora_weights={start}" for start in [settings.get("init_lora_weights")] if changes_base(start)]


def _odd_parts(model: nn.Module, adapter: Path) -> list[str]:
    """Return a module that is adapted and no linear layer, else a weight of the file that is of no low-rank matrix, such as
    embeddings that were saved too."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.save_and_load import load_peft_weights

    adapted = {name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}
    odd = sorted(adapted - {name for name, _ in _linear(model)})
    odd += sorted(
        name
        for name in load_peft_weights(str(adapter), device="cpu")
        if not name.endswith((".lora_A.weight", ".lora_B.weight"))
    )
    return odd[:1]
