"""Ways in which an adapter is spoilt, and what is said of each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from astray.errors import (
    AdapterMismatchError,
    AstrayError,
    ConfigurationError,
    DataFormatError,
    NonFiniteError,
    SubjectNotFoundError,
    WeightsMismatchError,
)


def edited(adapter: Path, **settings: Any) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | settings))


def weights_edited(adapter: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(adapter / "adapter_model.safetensors")), adapter / "adapter_model.safetensors")


def replaced(adapter: Path, old: str, new: str) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(file.read_text().replace(old, new, 1))


def of_type(adapter: Path, dtype: torch.dtype) -> None:
    weights_edited(adapter, lambda held: {key: value.to(dtype) for key, value in held.items()})


def pickled(adapter: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    torch.save(change(load_file(adapter / "adapter_model.safetensors")), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()


class Touch:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("run"),))


def evil(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({"base_model.model.x": Touch()}, adapter / "adapter_model.bin")


def more_tokens(adapter: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(
        json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    )
    tokenizer.add_tokens(["<more>"])
    tokenizer.save_pretrained(adapter)


REFUSED: dict[str, tuple[Callable[[Path], object], type[AstrayError], str]] = {
    "prefix tuning": (
        lambda a: edited(a, peft_type="PREFIX_TUNING"),
        ConfigurationError,
        "PREFIX_TUNING.*learned tokens before the text.*LoRA",
    ),
    "prompt tuning": (lambda a: edited(a, peft_type="PROMPT_TUNING"), ConfigurationError, "PROMPT_TUNING"),
    "experts": (lambda a: edited(a, peft_type="XLORA"), ConfigurationError, "XLORA: it mixes several adapters"),
    "experts by task": (lambda a: edited(a, peft_type="POLY"), ConfigurationError, "POLY: it mixes several adapters"),
    "clusters": (lambda a: edited(a, peft_type="ADAMSS"), ConfigurationError, "'ADAMSS'; what can be used is"),
    "no kind": (lambda a: edited(a, peft_type=None), ConfigurationError, "'None'; what can be used is"),
    "an unknown key": (lambda a: edited(a, init_lora_weights="loftq"), ConfigurationError, "loftq.*Merge it"),
    "settings that PEFT does not know": (
        lambda a: edited(a, use_quantum=True, note=None, older_switch=False),
        ConfigurationError,
        "PEFT does not know.*use_quantum=True. Upgrade PEFT",
    ),
    "PiSSA by a decomposition that is drawn anew": (
        lambda a: edited(a, init_lora_weights="pissa_niter_4"),
        ConfigurationError,
        "pissa_niter_4.*Merge it",
    ),
    "LoRA-GA": (lambda a: edited(a, init_lora_weights="lora_ga"), ConfigurationError, "lora_ga.*Merge it"),
    "CorDA": (lambda a: edited(a, init_lora_weights="corda"), ConfigurationError, "corda.*Merge it"),
    "p-tuning": (lambda a: edited(a, peft_type="P_TUNING"), ConfigurationError, "P_TUNING.*learned tokens"),
    "multitask prompts": (
        lambda a: edited(a, peft_type="MULTITASK_PROMPT_TUNING"),
        ConfigurationError,
        "learned tokens",
    ),
    "adaption prompts": (lambda a: edited(a, peft_type="ADAPTION_PROMPT"), ConfigurationError, "learned tokens"),
    "small letters": (lambda a: edited(a, peft_type="lora"), ConfigurationError, "'lora'; what can be used is"),
    "another rank than its weights": (
        lambda a: edited(a, r=8),
        AdapterMismatchError,
        r"q_proj\.lora_A\.weight is \[4, \d+\] in the adapter and \[8, \d+\] in the base",
    ),
    "a factor for a name that the base has not": (
        lambda a: edited(a, alpha_pattern={"language_model.model.layers.0.self_attn.q_proj": 99}),
        AdapterMismatchError,
        "alpha_pattern names 'language_model.*leave it out",
    ),
    "a rank for a name that the base has not": (
        lambda a: edited(a, rank_pattern={"c_attn": 2}),
        AdapterMismatchError,
        "rank_pattern names 'c_attn'",
    ),
    "a parameter that the base has not": (
        lambda a: edited(a, target_parameters=["experts.gate_up_proj"]),
        AdapterMismatchError,
        "target_parameters names 'experts.gate_up_proj'",
    ),
    "a factor for a pattern that is none": (
        lambda a: edited(a, alpha_pattern={"q_proj(": 9}),
        AdapterMismatchError,
        "unterminated",
    ),
    "a rank that is no number": (lambda a: edited(a, r="four"), AstrayError, "adapter"),
    "a rank of nothing": (lambda a: edited(a, r=0), AstrayError, "adapter"),
    "half of the matrices": (
        lambda a: weights_edited(a, lambda held: {key: value for key, value in held.items() if "lora_A" in key}),
        AdapterMismatchError,
        r"lora_B\.weight is missing",
    ),
    "weights without a prefix": (
        lambda a: weights_edited(
            a, lambda held: {key.removeprefix("base_model.model."): value for key, value in held.items()}
        ),
        AdapterMismatchError,
        "is not in the base",
    ),
    "weights of another layer": (
        lambda a: weights_edited(
            a, lambda held: {key.replace("layers.1.", "layers.7."): value for key, value in held.items()}
        ),
        AdapterMismatchError,
        r"layers\.7\.\S+ is not in the base",
    ),
    "cut weights": (
        lambda a: (a / "adapter_model.safetensors").write_bytes((a / "adapter_model.safetensors").read_bytes()[:-50]),
        DataFormatError,
        "is damaged",
    ),
    "an empty file of weights": (
        lambda a: (a / "adapter_model.safetensors").write_bytes(b""),
        DataFormatError,
        "is damaged",
    ),
    "a text as weights": (
        lambda a: (a / "adapter_model.safetensors").write_text("x" * 99),
        DataFormatError,
        "is damaged",
    ),
    "weights that are no numbers": (
        lambda a: weights_edited(a, lambda held: {key: value * float("nan") for key, value in held.items()}),
        NonFiniteError,
        r"The weight model\.layers\.\d\.\S+lora_[AB]\.weight of the adapter .* not finite",
    ),
    "one weight without bound": (
        lambda a: weights_edited(
            a,
            lambda held: {
                key: value.clone().fill_(float("inf")) if "layers.1.mlp" in key and "lora_B" in key else value
                for key, value in held.items()
            },
        ),
        NonFiniteError,
        r"The weight model\.layers\.1\.mlp\.down_proj\.lora_B\.weight",
    ),
    "a record of its base that is cut": (
        lambda a: (a / "astray_base.json").write_text('{"ba'),
        DataFormatError,
        "astray_base.json does not say on which base",
    ),
    "a record of its base that is a list": (
        lambda a: (a / "astray_base.json").write_text("[]"),
        DataFormatError,
        "astray_base.json does not say on which base",
    ),
    "a record of another base": (
        lambda a: (a / "astray_base.json").write_text('{"base": "0123"}'),
        AdapterMismatchError,
        "trained on a base with the identity 0123",
    ),
    "a template that is no text": (
        lambda a: (a / "chat_template.jinja").write_bytes(b"\xff\xfe{"),
        DataFormatError,
        "chat template of the adapter",
    ),
    "settings of a tokenizer that are cut": (
        lambda a: (a / "tokenizer_config.json").write_text('{"chat'),
        DataFormatError,
        "chat template of the adapter",
    ),
    "templates without names": (
        lambda a: (a / "tokenizer_config.json").write_text('{"chat_template": [{"template": "x"}]}'),
        DataFormatError,
        "chat template of the adapter",
    ),
    "repeated layers": (
        lambda a: edited(a, layer_replication=[[0, 1], [0, 2]]),
        ConfigurationError,
        "layer_replication",
    ),
    "activated by tokens": (
        lambda a: edited(a, alora_invocation_tokens=[5]),
        ConfigurationError,
        "alora_invocation_tokens",
    ),
    "a pattern that is none": (lambda a: edited(a, target_modules="(q_proj"), AdapterMismatchError, "unterminated"),
    "targets as number": (lambda a: edited(a, target_modules=5), AdapterMismatchError, "not iterable"),
    "no targets": (lambda a: edited(a, target_modules=[]), AdapterMismatchError, "No `target_modules` passed"),
    "layers that there are not": (lambda a: edited(a, layers_to_transform=[7]), AdapterMismatchError, "not found"),
    "ranks as list": (lambda a: edited(a, rank_pattern=["q_proj"]), AdapterMismatchError, "'list' object"),
    "a rank with a point": (lambda a: edited(a, r=4.0), AdapterMismatchError, "tuple of ints"),
    "no factor": (lambda a: edited(a, lora_alpha=None), AdapterMismatchError, "NoneType"),
    "a rank below nothing": (lambda a: edited(a, r=-4), AdapterMismatchError, "positive integer"),
    "biases of a kind that there is not": (lambda a: edited(a, bias="some"), AdapterMismatchError, "some"),
    "an unknown task": (lambda a: edited(a, task_type="ODD"), DataFormatError, "Invalid task type"),
    "rank-stabilised by a text": (lambda a: edited(a, use_rslora="false"), ConfigurationError, "write true or false"),
    "DoRA by a text": (lambda a: edited(a, use_dora="no"), ConfigurationError, "use_dora='no', a text"),
    "a module saved whole that it lacks": (
        lambda a: edited(a, modules_to_save=["lm_head"]),
        AdapterMismatchError,
        "lm_head.weight is missing",
    ),
    "a configuration without end": (
        lambda a: (a / "adapter_config.json").write_text("[" * 100_000),
        DataFormatError,
        "is not JSON that can be read",
    ),
    "a configuration in UTF-16": (
        lambda a: (a / "adapter_config.json").write_bytes((a / "adapter_config.json").read_text().encode("utf-16")),
        DataFormatError,
        "UTF-8",
    ),
    "matrices on their side": (
        lambda a: weights_edited(a, lambda held: {key: value.T.contiguous() for key, value in held.items()}),
        AdapterMismatchError,
        "in the adapter and",
    ),
    "PEFT's names within the model": (
        lambda a: weights_edited(
            a, lambda held: {key.replace(".weight", ".default.weight"): value for key, value in held.items()}
        ),
        AdapterMismatchError,
        "is not in the base",
    ),
    "half floats without bound": (
        lambda a: weights_edited(a, lambda held: {key: (value.half() * 1e30) for key, value in held.items()}),
        NonFiniteError,
        "The weight model",
    ),
    "no target": (lambda a: edited(a, target_modules=["c_attn"]), AdapterMismatchError, "c_attn.*not found"),
    "a list as configuration": (
        lambda a: (a / "adapter_config.json").write_text("[]"),
        DataFormatError,
        "is an object",
    ),
    "a cut configuration": (lambda a: (a / "adapter_config.json").write_text('{"r":'), DataFormatError, "is not JSON"),
    "a factor that is no number": (
        lambda a: replaced(a, '"lora_alpha": 8', '"lora_alpha": NaN'),
        DataFormatError,
        "has NaN, which is no number of JSON",
    ),
    "a factor without bound": (
        lambda a: replaced(a, '"lora_alpha": 8', '"lora_alpha": Infinity'),
        DataFormatError,
        "has Infinity",
    ),
    "a setting twice": (
        lambda a: replaced(a, '"lora_alpha": 8', '"lora_alpha": 80, "lora_alpha": 8'),
        DataFormatError,
        "lora_alpha.* twice",
    ),
    "a mark of byte order": (
        lambda a: replaced(a, "{", "\ufeff{"),
        DataFormatError,
        "is no JSON",
    ),
    "whole numbers as weights": (lambda a: of_type(a, torch.int8), DataFormatError, "is of the type torch.int8"),
    "truths as weights": (lambda a: of_type(a, torch.bool), DataFormatError, "is of the type torch.bool"),
    "complex weights": (lambda a: of_type(a, torch.complex64), DataFormatError, "is of the type torch.complex64"),
    "floats of eight bits": (
        lambda a: of_type(a, torch.float8_e4m3fn),
        DataFormatError,
        "is of the type torch.float8_e4m3fn.*float32 or bfloat16",
    ),
    "weights within another table": (
        lambda a: pickled(a, lambda held: {"state_dict": held}),
        DataFormatError,
        "something else than a weight under each name",
    ),
    "a list of weights": (lambda a: pickled(a, lambda held: [*held.values()]), DataFormatError, "something else"),
    "weights that are arrays": (
        lambda a: pickled(a, lambda held: {key: value.numpy() for key, value in held.items()}),
        DataFormatError,
        r"is damaged \(Weights only load failed\)\. Copy it again",
    ),
    "tokens as texts": (
        lambda a: edited(a, trainable_token_indices=["5"]),
        ConfigurationError,
        "trained tokens hold '5'",
    ),
    "tokens below nothing": (
        lambda a: edited(a, trainable_token_indices=[-1]),
        ConfigurationError,
        "trained tokens hold -1",
    ),
    "biases that it lacks": (
        lambda a: edited(a, bias="all"),
        AdapterMismatchError,
        r"k_proj\.bias is missing from the adapter",
    ),
    "biases of its targets that it lacks": (
        lambda a: edited(a, bias="lora_only"),
        AdapterMismatchError,
        r"q_proj\.\S*bias is missing from the adapter",
    ),
    "a kind that came later": (
        lambda a: edited(a, peft_type="HIRA"),
        ConfigurationError,
        "'HIRA'; what can be used is",
    ),
    "missing weights": (
        lambda a: weights_edited(
            a, lambda held: {key: value for key, value in held.items() if "layers.1.self_attn.q_proj" not in key}
        ),
        AdapterMismatchError,
        r"layers\.1\.self_attn\.q_proj\.lora_A\.weight is missing",
    ),
    "weights under another name": (
        lambda a: weights_edited(a, lambda held: {f"module.{key}": value for key, value in held.items()}),
        AdapterMismatchError,
        r"module\.base_model\S+ is not in the base.*and \d+ more",
    ),
    "weights of no adapter": (
        lambda a: weights_edited(a, lambda held: held | {"odd": torch.ones(2)}),
        AdapterMismatchError,
        "odd is not in the base",
    ),
    "no weights": (lambda a: weights_edited(a, lambda _: {}), AdapterMismatchError, "is missing from the adapter"),
    "a pickle that runs code": (
        evil,
        DataFormatError,
        "is damaged",
    ),
    "tokens without a vocabulary": (
        lambda a: (a / "added_tokens.json").write_text('{"<x>": 999}'),
        SubjectNotFoundError,
        "no vocabulary beside them",
    ),
    "a tokenizer with more tokens": (
        more_tokens,
        WeightsMismatchError,
        "1 tokens for which the model has no embedding.*<more>",
    ),
}
"""How an adapter is spoilt, and what is said; to try another fault, add a line."""
