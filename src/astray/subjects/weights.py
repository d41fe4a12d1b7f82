"""Read a model's weights and tokenizer from its folder, complete or not at all.

transformers fills a weight that a checkpoint lacks with random numbers and only warns: such a model would answer
differently each time it is loaded, under one identity. Here every weight that is missing, left over or of another shape
is an error that names it.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from astray.errors import ConfigurationError, DataFormatError, SubjectNotFoundError, WeightsMismatchError
from astray.subjects.gpu import make_room
from astray.subjects.precision import quantisation, torch_dtype
from astray.subjects.spec import Precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHOWN = 5
"""Names of weights that a message lists."""
_NO_WEIGHT = re.compile(r"(?:attn|attention)\.masked_bias$")
"""Constants that models of the GPT-2 kind were once saved with."""


def best_device() -> torch.device:
    """Return CUDA if available, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def load_model(name: str, folder: Path, precision: Precision, device: torch.device | None = None) -> "PreTrainedModel":
    """Load a causal language model whose checkpoint holds exactly the weights of its architecture.

    Args:
        name: how the user called it, for messages.
        folder: with config.json and safetensors weights.
        precision: number format of the weights in memory.
        device: where to put it; "meta" compares names and shapes and reads no weights. None leaves it on the CPU, and in
            nf4 puts it on the GPU where there is one, which quantises it.

    Raises:
        ConfigurationError: nf4 for weights that are quantised already.
        MissingExtraError: nf4 without bitsandbytes.
        SubjectNotFoundError: the files cannot be read, or the model needs code of its own.
        WeightsMismatchError: weights are missing, left over or of another shape; names them.
    """
    from transformers import AutoModelForCausalLM  # loads every kind of model; a plan reads tokenizers alone

    if device is None and precision == "nf4":
        device = best_device()
    if device is not None and device.type == "cuda":
        make_room()
    quantised = None if device is not None and device.type == "meta" else quantisation(precision)
    if quantised:
        _check_quantisable(name, folder)
    try:
        with _silent():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch_dtype(precision),
                device_map=None if device is None else str(device),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # so that the message below names them all
                # Named only where it is ours: None would hide that of config.json.
                **({"quantization_config": quantised} if quantised else {}),
            )
    except Exception as error:  # transformers raises whatever its libraries do
        raise SubjectNotFoundError(
            f"The files in {folder} cannot be loaded as {name!r}: {_told(error, folder)}"
        ) from error
    model: PreTrainedModel = loaded[0]
    for module in model.modules() if quantised else ():
        # On a CPU with avx512_bf16 a 4-bit layer would repack its weights at the first pass without gradients, such as a
        # probe's, for a product through which no later pass has a gradient.
        module.__dict__["support_avx512bf16_for_cpu"] = False
    _check_complete(name, folder, loaded[1])
    _check_held(name, folder, model, ours=quantised is not None)
    _check_windows(name, folder, model)
    return model


def load_tokenizer(name: str, folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer in a model's folder, as it is.

    Raises:
        SubjectNotFoundError: the files cannot be read, or the tokenizer needs code of its own.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # as above
        what, advice = (
            ("configuration", "Correct config.json.")
            if _config_is_wrong(folder)  # transformers reads it before the tokenizer
            else ("tokenizer", "Save it beside the weights.")
        )
        raise SubjectNotFoundError(
            f"The {what} of {name!r} in {folder} cannot be loaded: {_told(error, folder)} {advice}"
        ) from error
    if len(tokenizer) <= len(
        tokenizer.added_tokens_decoder
    ):  # transformers makes up such a one where the files are missing
        raise SubjectNotFoundError(
            f"The tokenizer of {name!r} in {folder} has no vocabulary, so no text has tokens. Save it whole beside the weights: "
            "tokenizer.save_pretrained(folder)."
        )
    if not isinstance(tokenizer.model_max_length, int | float):
        raise SubjectNotFoundError(
            f"The tokenizer of {name!r} in {folder} cannot be used: its model_max_length is "
            f"{tokenizer.model_max_length!r}, and no number. Correct tokenizer_config.json."
        )
    return tokenizer


def adapted_tokenizer(name: str, folder: Path, adapter: Path | None) -> PreTrainedTokenizerBase:
    """Load a base's tokenizer, or that of an adapter's folder where it has a vocabulary, with the template of either.

    Raises:
        SubjectNotFoundError: the files cannot be read, or an adapter adds tokens without giving their vocabulary.
    """
    tokenizer = load_tokenizer(name, folder)
    if adapter is None:
        return tokenizer
    if any(
        (adapter / file).is_file()
        for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
    ):
        own = load_tokenizer(f"{name}+{adapter}", adapter)
        own.chat_template = own.chat_template or tokenizer.chat_template
        return own
    if any((adapter / file).is_file() for file in ("added_tokens.json", "special_tokens_map.json")):
        raise SubjectNotFoundError(
            f"The adapter {adapter} names tokens of its own, but has no vocabulary beside them. Save its tokenizer "
            "there whole: tokenizer.save_pretrained(folder)."
        )
    tokenizer.chat_template = _template_in(adapter) or tokenizer.chat_template
    return tokenizer


def _template_in(adapter: Path) -> Any:
    """Return the chat template in an adapter's folder, or its templates by name, as transformers reads them; None where
    it has none."""
    config, template = adapter / "tokenizer_config.json", adapter / "chat_template.jinja"
    try:
        if template.is_file():
            return template.read_text(encoding="utf-8")
        own = json.loads(config.read_text(encoding="utf-8")).get("chat_template") if config.is_file() else None
        return {each["name"]: each["template"] for each in own} if isinstance(own, list) else own
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataFormatError(
            f"The chat template of the adapter {adapter} cannot be read ({error!r}). Save its tokenizer again: "
            "tokenizer.save_pretrained(folder)."
        ) from error


def check_vocabulary(name: str, tokenizer: PreTrainedTokenizerBase, model: "PreTrainedModel") -> None:
    """Raise an error for a tokenizer that can write tokens for which the model has no embedding.

    Raises:
        WeightsMismatchError: a token has no row.
    """
    rows = cast(torch.Tensor, model.get_input_embeddings().weight).shape[0]
    beyond = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= rows)
    if beyond:
        raise WeightsMismatchError(
            f"The tokenizer of {name!r} has {len(beyond)} tokens for which the model has no embedding ({rows} rows): "
            f"{', '.join(repr(token) for _, token in beyond[:SHOWN])}. Save the tokenizer of these weights, or the "
            "adapter with its embeddings."
        )


def _check_complete(name: str, folder: Path, found: dict[str, Any]) -> None:
    reshaped = [
        f"{key} is {tuple(there)} and should be {tuple(needed)}"
        for key, there, needed in sorted(found["mismatched_keys"])
    ]
    wrong = [
        (
            f"{len(names)} {what}: "
            f"{', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}"
        )
        for what, names in (
            ("missing", sorted(map(str, found["missing_keys"]))),
            ("unexpected", sorted(key for key in map(str, found["unexpected_keys"]) if not _NO_WEIGHT.search(key))),
            ("of another shape", reshaped),
        )
        if names
    ]
    if wrong:
        raise WeightsMismatchError(
            f"The checkpoint in {folder} does not hold the weights of {name!r}. {'; '.join(wrong)}. What is missing "
            "would be random numbers. Copy the folder again, or save it with model.save_pretrained(folder) from the "
            "model that was trained."
        )


def _check_held(name: str, folder: Path, model: "PreTrainedModel", *, ours: bool) -> None:
    """Refuse a weight that stands in two files, of which one was taken, and whole numbers, which mean nothing without
    the quantisation that wrote them; `ours` was done in loading."""
    whole = folder / "model.safetensors"
    if whole.is_file() and (folder / "model.safetensors.index.json").is_file():
        raise WeightsMismatchError(
            f"{folder} holds the weights of {name!r} twice, in model.safetensors and in the shards of "
            "model.safetensors.index.json, and one would be taken. Remove those that do not count."
        )
    files = [whole] if whole.is_file() else sorted(folder.glob("model-*-of-*.safetensors"))
    quantised = not ours and getattr(model.config, "quantization_config", None)
    for part, module in model.named_modules() if quantised else ():
        # A layer of bitsandbytes whose weights were in 4 bits has their scales.
        if getattr(module, "quant_state", module) is None and module.weight.is_floating_point():
            raise WeightsMismatchError(
                f"config.json of {name!r} in {folder} says that weights are in 4 bits (bitsandbytes), and those of {part} are "
                "not. Take quantization_config out of it, or copy the weights again."
            )
    floats = {} if quantised else dict(model.named_parameters())
    found: dict[str, str] = {}
    for file in files:
        with safe_open(file, framework="pt") as held:
            for key in held.keys():  # noqa: SIM118  (a safetensors file is no dict)
                if key in found:
                    raise WeightsMismatchError(
                        f"The weight {key} of {name!r} stands in {found[key]} and in {file.name} of {folder}, and one would "
                        "be taken. Copy the folder again."
                    )
                found[key] = file.name
                if key in floats and (kind := held.get_slice(key).get_dtype()).startswith(("I", "U", "BOOL", "C")):
                    what = "complex numbers" if kind.startswith("C") else "whole numbers"
                    raise WeightsMismatchError(
                        f"The weight {key} of {name!r} in {file} holds {what} ({kind}), and config.json names no "
                        "quantisation that made them. Copy config.json again, or take the weights that were not quantised."
                    )
    _check_tied(name, folder, model)


def _check_tied(name: str, folder: Path, model: "PreTrainedModel") -> None:
    """Refuse an output layer of its own where config.json says that it is the embedding: transformers takes the layer, other
    programs and earlier versions take the embedding, which is another model."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    embedding, output = (getattr(layer, "weight", None) for layer in layers)
    tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    if (
        tied
        and output is not None
        and embedding is not None
        and not output.is_meta
        and output.data_ptr() != embedding.data_ptr()
    ):
        raise WeightsMismatchError(
            f"config.json of {name!r} in {folder} says that the output layer is the embedding (tie_word_embeddings), and the "
            "checkpoint holds one with other weights. Write false there if that layer was trained, else remove it from the "
            "checkpoint."
        )


def _check_quantisable(name: str, folder: Path) -> None:
    if "quantization_config" in json.loads((folder / "config.json").read_text(encoding="utf-8")):
        raise ConfigurationError(
            f"The weights of {name!r} are quantised already, as config.json says (quantization_config), so they cannot be "
            "held in nf4. Leave the number format out, or name the model that was quantised."
        )


def _check_windows(name: str, folder: Path, model: "PreTrainedModel") -> None:
    """Refuse windows of attention that the cache of answers would have and the model itself not, or that are no number of
    tokens: an answer would be another model's than the log-probability of the same text."""
    config = model.config.get_text_config()
    kind, unused = type(config), not getattr(config, "use_sliding_window", True)
    given = {setting: getattr(config, setting, None) for setting in ("sliding_window", "attention_chunk_size")}
    if unused and given["sliding_window"] == 0:  # as Qwen2-MoE writes that there is none
        given["sliding_window"] = None
    # Some architectures have the setting under another name, or as a property that stands for another one.
    known = {*getattr(kind, "__dataclass_fields__", {}), *getattr(kind, "attribute_map", {})}
    declared = {setting for setting in given if setting in known or isinstance(getattr(kind, setting, None), property)}
    kinds = set(getattr(config, "layer_types", None) or ())
    wrong = [
        f"gives {setting} {value!r}, which {'is no number of tokens' if setting in declared else 'its architecture does not read'}"
        for setting, value in given.items()
        if value is not None and (setting not in declared or type(value) is not int or value < 1)
    ]
    wrong += [
        f"has layers of the kind {kind!r}, whose window is not given"
        for kind, setting in (("sliding_attention", "sliding_window"), ("chunked_attention", "attention_chunk_size"))
        if kind in kinds and given[setting] is None
    ]
    if model.config.is_encoder_decoder:
        wrong.append(f"says is_encoder_decoder {model.config.is_encoder_decoder!r}, and causal models alone are asked")
    if wrong:
        raise SubjectNotFoundError(
            f"The config.json of {name!r} in {folder} {wrong[0]} ({config.model_type}). Take that setting out, or copy the "
            "file again from the model that was trained."
        )


def _told(error: BaseException, folder: Path) -> str:
    """Say why loading failed; code of a model's own is never run, and not asked about on standard input."""
    text = " ".join(str(error).split())
    if pointers := sorted(file.name for file in folder.iterdir() if _is_pointer(file)):
        return f"{', '.join(pointers[:5])} hold the address of the file and not the file (Git LFS). Run `git lfs pull` there."
    if "trust_remote_code" in text or _has_own_code(folder):
        config = folder / "config.json"
        return (
            f"it needs Python code of its own ({config} names it under auto_map), which is never run. Use a model "
            "that transformers reads."
        )
    return text


def _is_pointer(file: Path) -> bool:
    return file.is_file() and file.stat().st_size < 1024 and file.read_bytes().startswith(b"version https://git-lfs")


def _config_is_wrong(folder: Path) -> bool:
    if not (folder / "config.json").is_file():
        return False
    try:
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception:  # as above
        return True
    return False


def _has_own_code(folder: Path) -> bool:
    try:
        return bool(
            getattr(
                AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False), "auto_map", None
            )
        )
    except Exception:  # transformers raises whatever its libraries do
        return False


@contextmanager
def _silent() -> Iterator[None]:
    """Keep transformers' own report of the weights off the terminal: what it says becomes an error here."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
