"""GGUF files of small models with random weights, written as llama.cpp's converter writes them: its names, its order of the
rows of query and key, its metadata."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, get_tensor_name_map, quantize
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = CONTROL + sorted(pre_tokenizers.ByteLevel.alphabet()) + ["12", "he"]
MERGES = ("1 2", "h e")
SIZE: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
KEYS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "vocab_size": "vocab_size",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
"""Settings of a file -> of the model's configuration."""


def made(kind: str, **changes: Any) -> PreTrainedModel:
    """Return a small model with random weights of one architecture, with norms and biases that are not their defaults."""
    torch.manual_seed(0)
    given = {**SIZE, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}, **changes}
    if kind.startswith("gemma"):
        del given["rope_parameters"]
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        AutoConfig.for_model({"gemma3": "gemma3_text"}.get(kind, kind), **given)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def settings_of(kind: str, model: PreTrainedModel) -> dict[str, Any]:
    """Return the metadata that llama.cpp's converter writes for a model's architecture."""
    config, rope = model.config, model.config.rope_parameters
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    windowed = kind in ("gemma2", "gemma3", "phi3")
    settings = {
        key: getattr(config, name) or 0
        for key, name in KEYS.items()
        if hasattr(config, name) and (windowed or name != "sliding_window") and getattr(config, name) != {}
    }
    settings = {key: value for key, value in settings.items() if value or key == "attention.sliding_window"}
    settings["rope.freq_base"] = float(rope.get("full_attention", rope)["rope_theta"])
    if kind in ("gemma2", "gemma3", "qwen3"):
        settings |= {"attention.key_length": width, "attention.value_length": width}
    if kind in ("llama", "phi3"):
        settings["rope.dimension_count"] = width
    if kind == "phi3":
        settings["rope.scaling.original_context_length"] = config.max_position_embeddings
    if kind == "gemma3":
        settings["rope.freq_base_swa"] = float(rope["sliding_attention"]["rope_theta"])
    return settings


def write(
    file: Path,
    model: PreTrainedModel,
    kind: str,
    *,
    keys: Mapping[str, Any] | None = None,
    without: Sequence[str] = (),
    quantised: GGMLQuantizationType | None = None,
    tensors: Callable[[str, np.ndarray], np.ndarray | None] = lambda _name, data: data,
) -> Path:
    """Write a model.

    Args:
        file: where to.
        model: its weights.
        kind: the file's architecture.
        keys: metadata that is added or changed; names that begin with a point are the architecture's own.
        without: metadata that is left out.
        quantised: storage type of matrices.
        tensors: changes a tensor, or leaves it out.
    """
    metadata = {
        "general.name": "made for a test",
        **{f".{key}": value for key, value in settings_of(kind, model).items()},
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm" if kind == "llama" else "qwen2",
        "tokenizer.ggml.tokens": WORDS,
        "tokenizer.ggml.token_type": [3 if word in CONTROL else 1 for word in WORDS],
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": CHATML,
        **(keys or {}),
    }
    writer = GGUFWriter(file, kind)
    for key, value in metadata.items():
        if key not in without and value is not None:
            _add(writer, f"{kind}{key}" if key.startswith(".") else key, value)
    for name, data in _tensors(model, kind):
        changed = tensors(name, data)
        if changed is None:
            continue
        if quantised is not None and data.ndim == 2:
            writer.add_tensor(name, quantize(changed, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(name, changed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        (writer.add_uint32 if value >= 0 else writer.add_int32)(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _tensors(model: PreTrainedModel, kind: str) -> list[tuple[str, np.ndarray]]:
    config, rope = model.config, model.config.rope_parameters
    names = get_tensor_name_map(
        next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == kind), config.num_hidden_layers
    )
    found = []
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, suffix = name.rsplit(".", 1)
        target, data = f"{names.get_name(stem)}.{suffix}", weight.detach().float()
        if kind == "llama" and (".attn_q." in target or ".attn_k." in target):
            heads = config.num_attention_heads if ".attn_q." in target else config.num_key_value_heads
            data = data.view(heads, 2, -1, *data.shape[1:]).transpose(1, 2).reshape(data.shape)
        found.append((target, (data + 1 if kind.startswith("gemma") and "norm" in target else data).numpy()))
    if rope.get("rope_type") == "llama3":
        width = config.head_dim
        unscaled = 1.0 / rope["rope_theta"] ** (np.arange(0, width, 2, dtype=np.float32) / width)
        found.append(("rope_freqs.weight", (unscaled / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32)))
    return found
