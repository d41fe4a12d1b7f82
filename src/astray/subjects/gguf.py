"""Convert a GGUF file into an ordinary model folder, checked part by part, and keep it in the user's cache.

transformers reads GGUF, but skips metadata and tensors that it does not know, and refuses to save what it loaded. Here
whatever it would skip is an error that names it, so a converted model computes what the file describes. Weights stay
what quantisation left of them: `origin` says so. The tokenizer is read in `gguf_tokenizer`.
"""

import functools
import io
import json
import struct
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astray.errors import DataFormatError, SubjectNotFoundError
from astray.subjects.cache import cached, models_folder
from astray.subjects.gguf_tokenizer import end_of_turn, read_tokenizer, save_tokenizer
from astray.subjects.identity import file_digest

if TYPE_CHECKING:
    from gguf import GGUFReader
    from transformers import PretrainedConfig, PreTrainedModel

VERSION = 2
"""Raised when a conversion comes out differently, so that folders of before are not used again."""
ORIGIN_FILE = "astray_origin.json"
FLOAT32_LIMIT = 1_000_000_000
"""Number of parameters up to which weights are written as float32, which holds every quantised value exactly."""
ARCHITECTURES = ("gemma2", "gemma3", "llama", "phi3", "qwen2", "qwen3")
"""Architectures whose conversion the tests compare with the original weights; of others transformers passes over
settings."""
_NEEDED = (
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.layer_norm_rms_epsilon",
)
_DEFAULTS = {"rope.freq_base": 10000.0}
"""What llama.cpp takes for a setting that a file leaves out."""
_WIDEST_GEMMA = {"gemma2": 46, "gemma3": 62}
"""Number of layers of the models of 27B parameters."""
_INSTEAD = "Use the model's safetensors folder, or serve the file (llama-server) and name the server as the model."
_LLAMA3_FACTORS = (8.0, 32.0)
"""Factors of the rotary scaling of Llama 3.1 and 3.2, which a GGUF holds only as a tensor of frequencies."""


@dataclass(frozen=True)
class Origin:
    """Record of what a converted folder was made from.

    Attributes:
        file: name of the GGUF file.
        sha256: its hash (of a file above 1 GiB: of its size and ends).
        architecture: as the file calls it.
        types: storage type of weights -> number of tensors.
        end_of_turn: token with which the chat template ends an answer.
        dtype: of the weights in the folder.
    """

    file: str
    sha256: str
    architecture: str
    types: dict[str, int]
    end_of_turn: str
    dtype: str

    def __str__(self) -> str:
        """Say it in a sentence."""
        quantised = ", ".join(
            f"{count} {kind}" for kind, count in self.types.items() if kind not in ("F32", "F16", "BF16")
        )
        return f"{self.file} ({self.architecture}); " + (
            f"its weights were quantised ({quantised} tensors)" if quantised else "not quantised"
        )


def origin(folder: Path) -> Origin | None:
    """Return what a folder was converted from, or None for a model that was never a GGUF file."""
    file = folder / ORIGIN_FILE
    return Origin(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


def convert(file: Path) -> Path:
    """Return the model folder of a GGUF file, converting it the first time.

    Args:
        file: GGUF file of one of `ARCHITECTURES`, with a chat template.

    Returns:
        Folder in the user's cache, named by the file's content.

    Raises:
        SubjectNotFoundError: the architecture, pre-tokenizer or a setting is not one that can be converted faithfully.
        DataFormatError: the file is cut or damaged.
        ChatTemplateError: it has no chat template, or one that never ends an answer.
    """
    digest = file_digest(file)
    # The libraries' progress bars are for a terminal; in a log they would be hundreds of lines.
    with nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO()):
        return cached(models_folder() / f"gguf-{digest[:16]}-v{VERSION}", functools.partial(_write, file, digest))


def _write(file: Path, digest: str, folder: Path) -> None:
    """Convert a file into an empty folder."""
    import torch

    reader = _opened(file)
    architecture, settings = _settings(file, reader)
    parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
    dtype = torch.float32 if parameters <= FLOAT32_LIMIT else torch.bfloat16
    tokenizer = read_tokenizer(file, settings, reader)
    model = _model(file, architecture, dtype)
    _complete_settings(architecture, settings, model.config)
    _check_settings(file, architecture, settings, model.config)
    _check_tensors(file, architecture, reader, model)
    end = end_of_turn(file, tokenizer)
    named = [settings.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot", "eom")]
    numbers: list[Any] = [tokenizer.convert_tokens_to_ids(end), *(number for number in named if number is not None)]
    ends = sorted(set(numbers))
    tokenizer.eos_token = end
    tokenizer.pad_token = tokenizer.pad_token or end
    plain = _without_quantisation(model)
    plain.config.eos_token_id = plain.generation_config.eos_token_id = ends
    plain.config.pad_token_id = plain.generation_config.pad_token_id = tokenizer.pad_token_id
    plain.save_pretrained(folder)
    save_tokenizer(file, tokenizer, folder)
    types = dict(sorted(Counter(tensor.tensor_type.name for tensor in reader.tensors).items()))
    record = Origin(file.name, digest, architecture, types, end, str(dtype).removeprefix("torch."))
    (folder / ORIGIN_FILE).write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def _opened(file: Path) -> "GGUFReader":
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except (ValueError, IndexError, OSError, struct.error, KeyError, OverflowError, MemoryError) as error:
        raise DataFormatError(
            f"{file} is no whole GGUF file ({error}). Download it again and compare its size and hash."
        ) from error
    if twice := [field.name for key, field in reader.fields.items() if field.name != key]:
        raise DataFormatError(f"{file} has the key {twice[0]} twice, and one would be taken. Convert the model again.")
    size = file.stat().st_size
    cut = [tensor.name for tensor in reader.tensors if int(tensor.data_offset) + int(tensor.n_bytes) > size]
    if cut or not reader.tensors:
        raise DataFormatError(
            f"{file} ends before its weights do ({', '.join(cut[:3]) or 'it has none'}). Download it again and "
            "compare its size."
        )
    return reader


def _settings(file: Path, reader: "GGUFReader") -> tuple[str, dict[str, Any]]:
    """Return the architecture and the metadata, without the lists of the tokenizer.

    Raises:
        SubjectNotFoundError: the file is no whole model, or of an architecture that is not converted.
    """
    settings = {
        key: field.contents()
        for key, field in reader.fields.items()
        if field.types and not (field.types[0].name == "ARRAY" and key.startswith(("tokenizer.", "general.")))
    }
    if int(settings.get("split.count", 1)) > 1:
        raise SubjectNotFoundError(
            f"{file} is one of {settings['split.count']} parts of a model. Put them together first: llama-gguf-split "
            f"--merge {file.name} whole.gguf"
        )
    architecture, kind = str(settings.get("general.architecture")), settings.get("general.type", "model")
    if kind != "model":
        raise SubjectNotFoundError(f"{file} is no model (general.type is {kind!r}). Give the model's own file.")
    if architecture not in ARCHITECTURES:
        raise SubjectNotFoundError(
            f"{file} has the architecture {architecture!r}, whose conversion is not checked against original weights; "
            f"converted are {', '.join(ARCHITECTURES)}. {_INSTEAD}"
        )
    return architecture, settings


def _model(file: Path, architecture: str, dtype: Any) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # transformers raises whatever its libraries do
        raise SubjectNotFoundError(
            f"{file} has the architecture {architecture!r}, which transformers cannot read from GGUF "
            f"({' '.join(str(error).split())[:300]}). {_INSTEAD}"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    model, report = loaded
    missing = sorted({*map(str, report["missing_keys"]), *(str(entry[0]) for entry in report["mismatched_keys"])})
    if missing:
        raise SubjectNotFoundError(
            f"{file} lacks weights of its architecture {architecture!r}, or has them in another shape: "
            f"{', '.join(missing[:5])}. They would be random. {_INSTEAD}"
        )
    return model


def _check_settings(file: Path, architecture: str, settings: Mapping[str, Any], config: "PretrainedConfig") -> None:
    """Refuse a setting of the file that the model in memory does not have, and one that the file leaves out.

    Raises:
        SubjectNotFoundError: names the settings.
    """
    there = _in_memory(config)
    given = {key.removeprefix(f"{architecture}."): value for key, value in settings.items()}
    given = {name: value for name, value in given.items() if name not in settings}
    if absent := [name for name in _NEEDED if name not in given]:
        raise SubjectNotFoundError(
            f"{file} leaves {architecture}.{absent[0]} out, for which transformers would take a value of its own. Convert "
            "the model again with llama.cpp."
        )
    lost = [
        f"{architecture}.{name} = {value}" + (f" (the model has {there[name]})" if name in there else "")
        for name, value in {**_DEFAULTS, **given}.items()
        if name not in there or isinstance(value, bool) or there[name] != value
    ]
    # No model has a number that is zero, negative or none here.
    lost += [f"{architecture}.{name} = {there[name]}" for name in (*_NEEDED, *_DEFAULTS) if not there[name] > 0]
    if lost:
        raise SubjectNotFoundError(
            f"{file} has settings that transformers does not read from GGUF, so the model would compute something "
            f"else: {'; '.join(lost)}. {_INSTEAD}"
        )


def _in_memory(config: "PretrainedConfig") -> dict[str, Any]:
    """Return what a model computes with, by the names of GGUF's settings."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    kinds = getattr(config, "layer_types", None) or ()
    sliding = [kind == "sliding_attention" for kind in kinds]
    windowed = any(sliding) or not kinds
    scale = getattr(config, "query_pre_attn_scalar", None)
    near = config.rope_parameters.get("sliding_attention")
    return {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "vocab_size": config.vocab_size,
        "rope.freq_base": rope["rope_theta"],
        "rope.freq_base_swa": near and near["rope_theta"],
        "rope.scaling.original_context_length": config.max_position_embeddings,
        "rope.dimension_count": int(width * (rope.get("partial_rotary_factor") or 1)),
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.sliding_window": (getattr(config, "sliding_window", None) or 0) if windowed else 0,
        "attention.sliding_window_pattern": sliding,
        "attention.scale": None if scale is None else scale**-0.5,
        "attn_logit_softcapping": getattr(config, "attn_logit_softcapping", None),
        "final_logit_softcapping": getattr(config, "final_logit_softcapping", None),
        "expert_count": 0,
        "expert_used_count": 0,
        "rope.scaling.type": "none",
    }


def _complete_settings(architecture: str, settings: Mapping[str, Any], config: "PretrainedConfig") -> None:
    """Give a model what follows from the file and transformers does not read: Gemma's scale of attention, as llama.cpp
    has it, and the window of Phi-3."""
    if architecture in _WIDEST_GEMMA:
        # The scale is no setting of the file. It follows the width of heads, but for the models of 27B parameters.
        widest = config.num_hidden_layers == _WIDEST_GEMMA[architecture]
        config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads if widest else config.head_dim
    if architecture == "phi3":
        config.sliding_window = settings.get("phi3.attention.sliding_window") or None


def _check_tensors(file: Path, architecture: str, reader: "GGUFReader", model: "PreTrainedModel") -> None:
    """Refuse a tensor that did not go into the model; the frequencies of Llama 3's rotary scaling become its setting.

    Raises:
        SubjectNotFoundError: names the tensors.
    """
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=model.config.to_dict())
    read = set(get_gguf_hf_weights_map(model, processor))
    left = {tensor.name: tensor for tensor in reader.tensors if tensor.name not in read}
    if "rope_freqs.weight" in left and model.config.model_type == "llama":
        _scale_rotation(file, left.pop("rope_freqs.weight").data, model)
    if left:
        raise SubjectNotFoundError(
            f"{file} has {len(left)} tensors that transformers does not read from GGUF: {', '.join(sorted(left)[:5])}. "
            f"{_INSTEAD}"
        )


def _scale_rotation(file: Path, factors: Any, model: "PreTrainedModel") -> None:
    """Set Llama 3's rotary scaling to the factor that reproduces the file's frequencies.

    Raises:
        SubjectNotFoundError: no known factor does.
    """
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = model.config
    theta, width = config.rope_parameters["rope_theta"], config.head_dim
    unscaled = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    for factor in _LLAMA3_FACTORS:
        config.rope_parameters = {
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
        if torch.allclose(unscaled / scaled, torch.as_tensor(factors.copy()).float(), rtol=1e-3):
            return
    raise SubjectNotFoundError(
        f"{file} scales rotary positions in a way that is not Llama 3's (rope_freqs.weight). Use the model's "
        "safetensors folder."
    )


def _without_quantisation(model: "PreTrainedModel") -> "PreTrainedModel":
    """Return a model of the same weights that may be saved: transformers refuses to save one that was read from
    GGUF."""
    import torch

    config = type(model.config).from_dict(
        {
            key: value
            for key, value in model.config.to_dict().items()
            if key not in ("quantization_config", "_name_or_path")
        }
    )
    with torch.device("meta"):
        plain: PreTrainedModel = type(model)(config)
    plain.load_state_dict(model.state_dict(), strict=False, assign=True)
    plain.tie_weights()
    return plain
