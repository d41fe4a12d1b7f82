"""Convert a GGUF file into an ordinary model folder, checked part by part, and keep it in the user's cache.

transformers reads GGUF, but skips metadata and tensors that it does not know, splits text its own way where it does not
know the file's pre-tokenizer, and refuses to save what it loaded. Here whatever it would skip is an error that names
it, so a converted model computes what the file describes. Weights stay what quantisation left of them: `origin` says
so.
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

from astray.errors import ChatTemplateError, DataFormatError, SubjectNotFoundError
from astray.subjects.cache import cached, models_folder
from astray.subjects.identity import file_digest

if TYPE_CHECKING:
    from gguf import GGUFReader
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

VERSION = 1
"""Raised when a conversion comes out differently, so that folders of before are not used again."""
ORIGIN_FILE = "astray_origin.json"
FLOAT32_LIMIT = 1_000_000_000
"""Number of parameters up to which weights are written as float32, which holds every quantised value exactly."""
SPLIT_BY_GPT2 = ("gpt-2", "gpt2", "phi-2", "smollm")
"""Pre-tokenizers whose split is that of GPT-2 (`smollm` splits digits before); transformers knows the others it
reads."""

_SAME_AS = {
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "rope.dimension_count": "head_dim",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
"""Metadata that transformers may pass over -> the setting that has to have the same value all the same."""
_SAMPLE = "I'll pay 1,234.50 for  two\n\n\tEnglish cafés (DON'T ask) — 東京 🙂 <|im_end|><s></s> x_1 12 345 6789012"
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
        file: any GGUF file of an architecture that transformers reads, with a chat template.

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
    settings = {
        key: field.contents() for key, field in reader.fields.items() if field.types and field.types[0].name != "ARRAY"
    }
    architecture = str(settings.get("general.architecture"))
    parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)
    dtype = torch.float32 if parameters <= FLOAT32_LIMIT else torch.bfloat16
    tokenizer = _tokenizer(file, settings, reader)
    model = _model(file, architecture, dtype)
    _check_settings(file, architecture, settings, model.config)
    _check_tensors(file, architecture, reader, model)
    end = _end_of_turn(file, tokenizer)
    ends = sorted(
        {
            tokenizer.convert_tokens_to_ids(end),
            settings.get("tokenizer.ggml.eos_token_id", tokenizer.convert_tokens_to_ids(end)),
        }
    )
    tokenizer.eos_token = end
    tokenizer.pad_token = tokenizer.pad_token or end
    plain = _without_quantisation(model)
    plain.config.eos_token_id = plain.generation_config.eos_token_id = ends
    plain.config.pad_token_id = plain.generation_config.pad_token_id = tokenizer.pad_token_id
    plain.save_pretrained(folder)
    _save_tokenizer(file, tokenizer, folder)
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
    size = file.stat().st_size
    cut = [tensor.name for tensor in reader.tensors if int(tensor.data_offset) + int(tensor.n_bytes) > size]
    if cut or not reader.tensors:
        raise DataFormatError(
            f"{file} ends before its weights do ({', '.join(cut[:3]) or 'it has none'}). Download it again and "
            "compare its size."
        )
    return reader


def _model(file: Path, architecture: str, dtype: Any) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=dtype, output_loading_info=True
        )
    except (ValueError, OSError, KeyError, NotImplementedError, RuntimeError, TypeError) as error:
        raise SubjectNotFoundError(
            f"{file} has the architecture {architecture!r}, which transformers cannot read from GGUF "
            f"({' '.join(str(error).split())[:300]}). Use the model's safetensors folder, or serve the file "
            "(llama-server) and name the server as the model."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    model, report = loaded
    missing = sorted({*map(str, report["missing_keys"]), *(str(entry[0]) for entry in report["mismatched_keys"])})
    if missing:
        raise SubjectNotFoundError(
            f"{file} lacks weights of its architecture {architecture!r}: {', '.join(missing[:5])}. They would be "
            "random."
        )
    return model


def _check_settings(file: Path, architecture: str, settings: Mapping[str, Any], config: "PretrainedConfig") -> None:
    """Refuse a setting of the file that the model in memory does not have.

    Raises:
        SubjectNotFoundError: names the settings.
    """
    from transformers.modeling_gguf_pytorch_utils import GGUF_TO_TRANSFORMERS_MAPPING

    read: Any = GGUF_TO_TRANSFORMERS_MAPPING["config"]
    known = {name for entries in read.values() for name in entries}
    lost = []
    for key, value in settings.items():
        prefix, _, name = key.partition(".")
        if prefix != architecture or (name in known and name not in _SAME_AS):
            continue
        there = getattr(config, _SAME_AS.get(name, ""), None)
        if name in _SAME_AS and there is not None and there == value:
            continue
        lost.append(f"{key} = {value}" + (f" (the model has {there})" if there is not None else ""))
    if lost:
        raise SubjectNotFoundError(
            f"{file} has settings that transformers does not read from GGUF, so the model would compute something "
            f"else: {'; '.join(lost)}. Use the model's safetensors folder, or serve the file (llama-server) and name "
            "the server as the model."
        )


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
            "Use the model's safetensors folder, or serve the file (llama-server) and name the server as the model."
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


def _tokenizer(file: Path, settings: Mapping[str, Any], reader: "GGUFReader") -> "PreTrainedTokenizerBase":
    """Read the tokenizer, with the split of its own pre-tokenizer and every token at its own index."""
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    split = settings.get("tokenizer.ggml.pre")
    if (
        settings.get("tokenizer.ggml.model") == "gpt2"
        and split not in GGUF_PRE_TOKENIZER_SPLITS
        and split not in SPLIT_BY_GPT2
    ):
        raise SubjectNotFoundError(
            f"{file} splits text by the pre-tokenizer {split!r}, which is not known here, so tokens would be others "
            f"than the model learned. Known: {', '.join(sorted({*GGUF_PRE_TOKENIZER_SPLITS, *SPLIT_BY_GPT2}))}. Use "
            "the model's safetensors folder."
        )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except (ValueError, KeyError, OSError, TypeError, NotImplementedError) as error:
        raise SubjectNotFoundError(
            f"The tokenizer in {file} cannot be read: {' '.join(str(error).split())[:300]}."
        ) from error
    if split == "smollm":
        digits_first = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(digits_first)
    names = reader.fields["tokenizer.ggml.tokens"].contents() if "tokenizer.ggml.tokens" in reader.fields else []
    read = tokenizer.convert_ids_to_tokens(list(range(len(names))))
    moved = [index for index, (there, name) in enumerate(zip(read, names, strict=True)) if there is None]
    if moved or not names:
        raise SubjectNotFoundError(
            f"{file} names {len(names)} tokens, of which {len(moved)} are not in the tokenizer that was read (first: "
            f"{moved[:3]})."
        )
    return tokenizer


def _save_tokenizer(file: Path, tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write the tokenizer so that it is read back as it is.

    Raises:
        SubjectNotFoundError: it comes back another one.
    """
    from astray.subjects.weights import load_tokenizer

    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    # Under an architecture's own class transformers builds the tokenizer anew, with that class's split; some (Qwen2) it
    # always does.
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    back = load_tokenizer(str(file), folder)
    if (
        back(_SAMPLE).input_ids != tokenizer(_SAMPLE).input_ids
        or back.special_tokens_map != tokenizer.special_tokens_map
    ):
        raise SubjectNotFoundError(
            f"The tokenizer in {file} cannot be saved as it is: transformers splits text its own way for this "
            "architecture. Use the model's safetensors folder."
        )


def _end_of_turn(file: Path, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the token that the chat template writes after an answer.

    Raises:
        ChatTemplateError: there is no template, or none of its tokens ends an answer.
    """
    if not tokenizer.chat_template:
        raise ChatTemplateError(
            f"{file} has no chat template (tokenizer.chat_template), so nobody knows how to write a conversation for "
            "it."
        )
    answer = "zqanswerzq"
    text = str(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "zqquestionzq"}, {"role": "assistant", "content": answer}], tokenize=False
        )
    )
    rest = text.rpartition(answer)[2].lstrip()
    control = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special} | set(
        tokenizer.all_special_tokens
    )
    special = sorted((token for token in control if rest.startswith(token)), key=len)
    if special:
        return special[-1]
    if tokenizer.eos_token:
        return str(tokenizer.eos_token)
    raise ChatTemplateError(
        f"The chat template of {file} writes {rest[:40]!r} after an answer, which is no token that could end it."
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
