"""Put a PEFT adapter on a model exactly as PEFT does, or refuse it by name; take it off again without a trace.

PEFT fills adapter weights that a file lacks with fresh ones, passes over those that match nothing, and some kinds
change the base's own weights. Here a file must hold exactly its adapter's weights, and `Tree` remembers a model's
modules and tensors as they were, so that a base shared by several subjects is restored bit for bit whatever an adapter
did to it.
"""

import copy
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from astray.errors import AdapterMismatchError, ConfigurationError, DataFormatError, NonFiniteError
from astray.subjects.adapter_kinds import SCALABLE, adapter_settings, changes_base, check_kind
from astray.subjects.identity import adapter_weights

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel

_PREFIX = "base_model.model."
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.uint8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Tree:
    """Modules and tensors of a model at one moment; tensors are references, so keeping one costs no memory.

    Attributes:
        modules: each module with its children, parameters and buffers by name.
        data: each parameter with the tensor that it held.
        vocabulary: number of tokens in the configuration.
    """

    modules: tuple[tuple[nn.Module, dict[str, Any], dict[str, Any], dict[str, Any]], ...]
    data: tuple[tuple[nn.Parameter, Tensor], ...]
    vocabulary: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Tree":
        """Return the tree of a model as it is."""
        modules = tuple(
            (module, dict(module._modules), dict(module._parameters), dict(module._buffers))
            for module in model.modules()
        )
        return cls(
            modules,
            tuple((parameter, parameter.data) for parameter in model.parameters()),
            model.config.get_text_config().vocab_size,
        )

    def restore(self, model: PreTrainedModel) -> None:
        """Bring the model back to this tree."""
        for module, children, parameters, buffers in self.modules:
            for present, former in (
                (module._modules, children),
                (module._parameters, parameters),
                (module._buffers, buffers),
            ):
                present.clear()
                present.update(former)
        for parameter, data in self.data:
            parameter.data = data
        model.__dict__.pop(
            "peft_config", None
        )  # PEFT leaves it on the model, and would take the next adapter for a second one
        model.config.get_text_config().vocab_size = self.vocabulary


def put_on(
    model: PreTrainedModel,
    base: str,
    adapter: Path,
    *,
    scale: float = 1.0,
    name: str = "default",
    trainable: bool = False,
) -> "PeftModel":
    """Put an adapter on a bare model in place, with the embeddings resized where tokens were added.

    Args:
        model: the model; take `Tree.of` before, to take the adapter off again.
        base: the model's name, for messages.
        adapter: PEFT folder.
        scale: factor on the change of the weights.
        name: the adapter's name in PEFT.
        trainable: whether its training goes on.

    Returns:
        PEFT's model around `model`, whose layers are adapted whether it is used or not.

    Raises:
        AdapterMismatchError: weights are missing, match nothing or have other shapes; names them.
        ConfigurationError: the kind cannot be used.
        DataFormatError: the files are damaged.
        NonFiniteError: a weight is NaN or infinite; names it.
    """
    from peft.auto import MODEL_TYPE_TO_PEFT_MODEL_MAPPING
    from peft.peft_model import PeftModel

    check_kind(adapter, scale)
    config, weights = _read(adapter)
    config.inference_mode = not trainable
    _make_room(model, base, adapter, weights, config)
    _check_named(model, base, adapter, config)
    model_class: Any = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(str(config.task_type), PeftModel)
    refused = (
        f"The adapter {adapter} does not fit {base!r}; it names the base {config.base_model_name_or_path!r}. Different"
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PEFT only warns of is an error below, or no fault
            tuned: PeftModel = model_class(model, config, name)
            found = tuned.load_adapter(str(adapter), name, is_trainable=trainable, torch_device="cpu")
    except KeyError as error:
        raise AdapterMismatchError(
            f"{refused}: {error.args[0]} is missing from its weights. Save the adapter anew."
        ) from error
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, re.error) as error:
        raise AdapterMismatchError(f"{refused}: {_other_shapes(str(error), name)}.") from error
    missing = [*found.missing_keys, *_lacking_biases(tuned, name, weights)]
    if different := _unmatched(missing, found.unexpected_keys, weights, name):
        raise AdapterMismatchError(
            f"{refused}: {_listed(different)}. What is missing would be fresh weights; save it anew."
        )
    if scale != 1:
        _scale(tuned, name, scale)
    return tuned


def _lacking_biases(tuned: "PeftModel", name: str, weights: Mapping[str, Tensor]) -> list[str]:
    """Return the biases that were trained with the adapter and that its file lacks; PEFT would take the base's."""
    from peft import get_peft_model_state_dict

    if getattr(tuned.peft_config[name], "bias", "none") == "none":
        return []
    saved = get_peft_model_state_dict(tuned, adapter_name=name, save_embedding_layers=False)
    return [key for key in saved if key.endswith(".bias") and key not in weights]


def _plain(key: str, name: str) -> str:
    """Return the name of a weight as the base's author would write it."""
    return key.removeprefix(_PREFIX).replace(f".{name}", "")


def _other_shapes(message: str, name: str) -> str:
    """Return which weights have other shapes than the base needs, from PyTorch's message; the message itself where it
    speaks of none."""
    shapes = re.findall(
        r"size mismatch for (\S+): .*?shape torch\.Size\((.*?)\).*?is torch\.Size\((.*?)\)", message, re.DOTALL
    )
    different = [f"{_plain(key, name)} is {own} in the adapter and {needed} in the base" for key, own, needed in shapes]
    return _listed(different) if different else " ".join(message.split())


def _unmatched(
    missing: Sequence[str], unexpected: Sequence[str], weights: Mapping[str, Tensor], name: str
) -> list[str]:
    """Return which weights of the file are not in the base, and which the adapter needs and the file lacks.

    Args:
        missing: names that PEFT missed.
        unexpected: names that PEFT did not read.
        weights: the file's weights.
        name: the adapter's name in PEFT.
    """
    shared_bank = any("vblora_vector_bank" in key for key in weights)  # each layer names it again, but it is saved once
    lacking = [key for key in missing if not (shared_bank and "vblora_vector_bank" in key)]
    # With saved embeddings PEFT writes a module that is trained whole a second time, under a name that it does not
    # read.
    twice = {
        key
        for key in weights
        if ".modules_to_save." in key
        and torch.equal(weights[key], weights.get(key.replace(".modules_to_save.", "."), weights[key][:0]))
    }
    extra = [key for key in unexpected if key not in twice]
    return [
        *sorted(f"{_plain(key, name)} is not in the base" for key in extra),
        *sorted(f"{_plain(key, name)} is missing from the adapter" for key in lacking),
    ]


def _scale(tuned: "PeftModel", name: str, scale: float) -> None:
    for module in tuned.modules():
        scaling = getattr(module, "scaling", None)
        if isinstance(scaling, dict) and name in scaling:
            scaling[name] *= scale  # not PEFT's set_scale, which forgets rank stabilisation


def _read(adapter: Path) -> tuple["PeftConfig", dict[str, Tensor]]:
    from peft import PeftConfig
    from peft.utils.save_and_load import load_peft_weights

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config, weights = PeftConfig.from_pretrained(str(adapter)), load_peft_weights(str(adapter), device="cpu")
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        why = str(error).partition(". ")[0]  # PyTorch goes on with how to run what the file holds
        raise DataFormatError(
            f"{adapter_weights(adapter)} is damaged ({why}). Copy it again, or save the adapter anew."
        ) from error
    except (TypeError, ValueError, KeyError) as error:
        raise DataFormatError(
            f"{adapter / 'adapter_config.json'} is no configuration that PEFT reads ({error}). Save the adapter anew."
        ) from error
    _check_known(adapter, config)
    _check_weights(adapter, weights)
    return config, weights


def _check_weights(adapter: Path, weights: object) -> None:
    """Refuse what is no table of tensors, of another type than floats, or not finite."""
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise DataFormatError(
            f"{adapter_weights(adapter)} holds something else than a weight under each name. Save the adapter anew with "
            "model.save_pretrained(folder)."
        )
    for key, value in weights.items():
        # Whole numbers are the indices of some kinds; elsewhere they are weights without their quantisation.
        if value.dtype not in _FLOATS and not (key.endswith("indices") and value.dtype in _WHOLE):
            raise DataFormatError(
                f"The weight {_plain(key, 'default')} of the adapter {adapter} is of the type {value.dtype}, which is "
                "read without its scale. Save the adapter anew in float32 or bfloat16."
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise NonFiniteError(
                f"The weight {_plain(key, 'default')} of the adapter {adapter} holds values that are not finite: its "
                "training diverged, or the file is damaged. Take an earlier checkpoint, or train it anew."
            )


def _check_known(adapter: Path, config: "PeftConfig") -> None:
    """Refuse settings that the installed PEFT does not know: it would leave them out and say so in a warning. And texts
    in place of true or false, which are true whatever they say."""
    given = adapter_settings(adapter)
    known = {field.name: field for field in fields(config)}
    for name, field in known.items():
        # Some starts are true, false or one of several words ("bat" of MiSS).
        if isinstance(field.default, bool) and isinstance(given.get(name), str) and "Literal" not in str(field.type):
            raise ConfigurationError(
                f"The adapter {adapter} has {name}={given[name]!r}, a text; write true or false without quotes."
            )
    odd = [f"{name}={value!r:.40}" for name, value in given.items() if value and name not in known]
    if odd:
        raise ConfigurationError(
            f"The adapter {adapter} has settings that the installed PEFT does not know, so it would act as another one: "
            f"{_listed(odd)}. Upgrade PEFT (pip install -U peft), or take out of adapter_config.json what changes nothing."
        )


def _check_named(model: PreTrainedModel, base: str, adapter: Path, config: "PeftConfig") -> None:
    """Refuse ranks, factors and parameters for names that the base has not: PEFT would take the usual ones, or none."""
    if config.peft_type not in SCALABLE:
        return
    modules = [name for name, _ in model.named_modules()]
    wrong = [
        f"{setting} names {key!r}"
        for setting in ("rank_pattern", "alpha_pattern")
        for key in getattr(config, setting, None) or {}
        if not _names_one(key, modules)
    ]
    parameters = [f".{name}" for name, _ in model.named_parameters()]
    wrong += [
        f"target_parameters names {key!r}"
        for key in getattr(config, "target_parameters", None) or ()
        if not any(name.endswith(f".{key}") for name in parameters)
    ]
    if wrong:
        raise AdapterMismatchError(
            f"The adapter {adapter} does not fit {base!r}: {_listed(wrong)}, and the base has nothing of that name, so PEFT "
            "would leave it out without a word. Give the base that the adapter was trained on, or correct "
            "adapter_config.json."
        )


def _names_one(pattern: str, modules: Sequence[str]) -> bool:
    try:
        return any(re.match(rf"(.*\.)?({pattern})$", name) for name in modules)  # as PEFT compares
    except re.error:
        return True  # PEFT refuses it


def _make_room(
    model: PreTrainedModel, base: str, adapter: Path, weights: Mapping[str, Tensor], config: "PeftConfig"
) -> None:
    """Give the model modules of its own where the adapter writes into the base's, and rows for the tokens that were
    added."""
    names = {id(module): path for path, module in model.named_modules()}
    parts = {
        names[id(part)]: part
        for part in (model.get_input_embeddings(), model.get_output_embeddings())
        if part is not None
    }
    plain = {key.removeprefix(_PREFIX): value for key, value in weights.items()}
    written = {re.sub(r"\.(base_layer|original_module)\.", ".", key) for key in plain}
    rows = {len(value) for path in parts if (value := plain.get(f"{path}.weight")) is not None}
    present = cast(Tensor, model.get_input_embeddings().weight).shape[0]
    if not rows and (tokens := _trained_tokens(config)) and max(tokens) >= present:
        rows = {max(tokens) + 1}
    if len(rows) > 1:
        raise AdapterMismatchError(
            f"The adapter {adapter} holds embeddings and an output layer of different lengths ({sorted(rows)}). Save "
            "it anew."
        )
    wanted = rows.pop() if rows else present
    own = {path for path, _ in model.named_parameters(remove_duplicate=False) if path in written}
    if wanted != present:
        own |= {f"{path}.weight" for path in parts}
        _check_covered(base, adapter, wanted - present, parts, plain, config)
    everything = changes_base(getattr(config, "init_lora_weights", True))
    replaced = {
        path: module
        for path, module in model.named_modules()
        if any(f"{path}.{leaf}" in own or everything for leaf in module._parameters)
    }
    touched = {
        id(value)
        for path, module in replaced.items()
        for leaf, value in module._parameters.items()
        if everything or f"{path}.{leaf}" in own
    }
    memo: dict[int, Any] = {
        id(parameter): parameter for parameter in model.parameters() if id(parameter) not in touched
    }  # the rest stays shared
    for path, module in replaced.items():
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, copy.deepcopy(module, memo))
    if wanted != present:
        model.resize_token_embeddings(wanted, mean_resizing=False)


def _check_covered(
    base: str,
    adapter: Path,
    grown: int,
    parts: Mapping[str, nn.Module],
    plain: Mapping[str, Tensor],
    config: "PeftConfig",
) -> None:
    """Refuse an adapter trained with more tokens than its base that does not bring the new tokens' weights."""
    tied = len({id(part.weight) for part in parts.values()}) < len(parts)
    given = [
        path
        for path in parts
        if f"{path}.weight" in plain or any(key.startswith(f"{path}.token_adapter.") for key in plain)
    ]
    tokens = _trained_tokens(config)
    if grown > 0 and (
        len(given) < (1 if tied else len(parts))
        or (tokens and not {*range(max(tokens) + 1 - grown, max(tokens) + 1)} <= set(tokens))
    ):
        lacking = ", ".join(path for path in parts if path not in given) or "some rows"
        raise AdapterMismatchError(
            f"The adapter {adapter} was trained with {grown} more tokens than {base!r} has, but does not hold their "
            f"weights ({lacking}), which would be random numbers. Give the base whose embeddings were resized, or "
            "save the adapter with save_embedding_layers=True."
        )


def _trained_tokens(config: "PeftConfig") -> list[int]:
    given = getattr(config, "trainable_token_indices", None) or getattr(config, "token_indices", None) or []
    tokens = [token for ids in given.values() for token in ids] if isinstance(given, dict) else [*given]
    if odd := [token for token in tokens if not isinstance(token, int) or token < 0]:
        raise ConfigurationError(
            f"The adapter's trained tokens hold {odd[0]!r}, but a token is a whole number from 0 on. Save the adapter anew."
        )
    return sorted(set(tokens))


def _listed(entries: list[str], shown: int = 5) -> str:
    return "; ".join(entries[:shown]) + (f"; and {len(entries) - shown} more" if len(entries) > shown else "")
