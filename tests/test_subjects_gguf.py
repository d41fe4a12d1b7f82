"""GGUF files become folders that compute what the file describes, or are refused by what they hold. One line a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, dequantize, quantize
from transformers import AutoModelForCausalLM

import gguf_files
from astray.errors import AstrayError, ChatTemplateError, DataFormatError, SubjectNotFoundError
from astray.subjects.gguf import convert, origin
from astray.subjects.locate import settle
from astray.subjects.spec import Sampling
from astray.subjects.subject import load_subject
from gguf_files import CONTROL, LLAMA3, WORDS, made, write

TEN_THOUSAND = {"rope_type": "default", "rope_theta": 1e4}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTRAY_CACHE", str(tmp_path / "cache"))


COMPUTED: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("as many heads for keys", "llama", {"num_key_value_heads": 4}, {}),
    ("wide heads", "llama", {"head_dim": 32}, {}),
    ("a tied head", "llama", {"tie_word_embeddings": True}, {}),
    ("Llama 3's rotary scaling", "llama", {"rope_parameters": LLAMA3}, {}),
    ("no size of the vocabulary", "llama", {}, {"without": [".vocab_size"]}),
    ("no name", "llama", {}, {"without": ["general.name"]}),
    ("more rows than tokens", "qwen2", {"vocab_size": 300}, {}),
    ("a tied head", "qwen2", {"tie_word_embeddings": True}, {}),
    ("llama.cpp's base of positions", "qwen2", {"rope_parameters": TEN_THOUSAND}, {"without": [".rope.freq_base"]}),
    ("heads of 128", "qwen3", {"head_dim": 128}, {}),
    # Gemma's scale of attention is no setting of a file: it follows the width of heads.
    ("narrow heads", "gemma2", {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8}, {}),
    ("wide heads", "gemma2", {"head_dim": 256}, {}),
    (
        "layers by kind",
        "gemma3",
        {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8, "num_hidden_layers": 7},
        {"keys": {".attention.sliding_window_pattern": [True] * 5 + [False, True]}},
    ),
    ("an untied head", "gemma3", {"head_dim": 256, "tie_word_embeddings": False}, {}),
    ("no window", "phi3", {}, {}),
    ("a window", "phi3", {"sliding_window": 8}, {}),
]


@pytest.mark.parametrize(("label", "kind", "changes", "given"), COMPUTED)
def test_the_converted_model_computes_what_the_original_does(
    label: str, kind: str, changes: dict[str, Any], given: dict[str, Any], tmp_path: Path
) -> None:
    model = made(kind, **changes)
    folder = convert(write(tmp_path / "model.gguf", model, kind, **given))
    ids = torch.randint(3, len(WORDS), (2, 40), generator=torch.Generator().manual_seed(1))
    found = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
    torch.testing.assert_close(found, model(ids).logits, rtol=1e-4, atol=1e-4, msg=label)
    made_from = origin(folder)
    assert made_from is not None
    assert (made_from.end_of_turn, set(made_from.types), made_from.dtype) == ("<|im_end|>", {"F32"}, "float32")
    assert "not quantised" in str(made_from)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
def test_quantised_weights_are_kept_exactly_and_said(kind: str, tmp_path: Path) -> None:
    model, stored = made("qwen2"), GGMLQuantizationType[kind]
    file = write(tmp_path / "model.gguf", model, "qwen2", quantised=stored)
    subject = load_subject(str(file))
    weight = model.state_dict()["model.layers.1.mlp.up_proj.weight"].numpy()
    folder = settle(str(file)).base
    read = AutoModelForCausalLM.from_pretrained(folder).state_dict()["model.layers.1.mlp.up_proj.weight"].numpy()
    np.testing.assert_array_equal(read, dequantize(quantize(weight, stored), stored))
    assert ("were quantised (" in str(origin(folder))) == ("F16" not in kind)
    assert subject.generate([[{"role": "user", "content": "hello"}]], Sampling(max_tokens=5))[0].completion_tokens <= 5


def test_a_file_is_converted_once_and_known_by_its_content(tmp_path: Path) -> None:
    file = write(tmp_path / "model.gguf", made("qwen2"), "qwen2")
    first = convert(file)
    renamed = file.rename(tmp_path / "other.gguf")
    assert convert(renamed) == first
    assert settle(str(renamed)).id == settle(str(first)).id


def _token_types(kind: int, index: int) -> list[int]:
    return [kind if number == index else 3 if word in CONTROL else 1 for number, word in enumerate(WORDS)]


G = "tokenizer.ggml."
REFUSED: list[tuple[str, str, type[AstrayError], dict[str, Any]]] = [
    ("an unknown pre-tokenizer", "poro-chat", SubjectNotFoundError, {"keys": {f"{G}pre": "poro-chat"}}),
    ("a split that is replaced", "splits text its own way", SubjectNotFoundError, {"keys": {f"{G}pre": "gpt-2"}}),
    ("a rotary scaling", "rope.scaling.factor = 4.0", SubjectNotFoundError, {"keys": {".rope.scaling.factor": 4.0}}),
    ("another scaling", "scaling.type = yarn", SubjectNotFoundError, {"keys": {".rope.scaling.type": "yarn"}}),
    ("a scale of logits", "logit_scale", SubjectNotFoundError, {"keys": {".logit_scale": 0.0625}}),
    ("experts", "expert_count = 8", SubjectNotFoundError, {"keys": {".expert_count": 8}}),
    ("another norm", "layer_norm_epsilon", SubjectNotFoundError, {"keys": {".attention.layer_norm_epsilon": 1e-3}}),
    ("a list", "dimension_sections", SubjectNotFoundError, {"keys": {".rope.dimension_sections": [1, 2, 3]}}),
    ("heads by layer", "cannot be read", SubjectNotFoundError, {"keys": {".attention.head_count_kv": [2, 2]}}),
    ("attention both ways", "causal = False", SubjectNotFoundError, {"keys": {".attention.causal": False}}),
    ("a window", "sliding_window = 8", SubjectNotFoundError, {"keys": {".attention.sliding_window": 8}}),
    ("a number in words", "cannot be read", SubjectNotFoundError, {"keys": {".block_count": "2"}}),
    ("a broken number", "cannot be read", SubjectNotFoundError, {"keys": {".block_count": 2.0}}),
    ("too few layers", "blk.1.", SubjectNotFoundError, {"keys": {".block_count": 1}}),
    ("too many layers", "layers.2.", SubjectNotFoundError, {"keys": {".block_count": 3}}),
    ("another number of heads", "k_proj", SubjectNotFoundError, {"keys": {".attention.head_count": 8}}),
    (
        "a negative epsilon",
        "epsilon = -",
        SubjectNotFoundError,
        {"keys": {".attention.layer_norm_rms_epsilon": -1e-5}},
    ),
    ("an epsilon of NaN", "nan", SubjectNotFoundError, {"keys": {".attention.layer_norm_rms_epsilon": float("nan")}}),
    ("positions without base", "freq_base = 0", SubjectNotFoundError, {"keys": {".rope.freq_base": 0.0}}),
    ("no context", "context_length = 0", SubjectNotFoundError, {"keys": {".context_length": 0}}),
    ("no epsilon", "epsilon out", SubjectNotFoundError, {"without": [".attention.layer_norm_rms_epsilon"]}),
    ("no length of context", "context_length out", SubjectNotFoundError, {"without": [".context_length"]}),
    ("a small vocabulary", "embed_tokens", SubjectNotFoundError, {"keys": {".vocab_size": 200}}),
    ("one of two parts", "2 parts", SubjectNotFoundError, {"keys": {"split.count": 2}}),
    ("an adapter", "'adapter'", SubjectNotFoundError, {"keys": {"general.type": "adapter"}}),
    ("no template", "no chat template", ChatTemplateError, {"keys": {"tokenizer.chat_template": None}}),
    ("a blank template", "no chat template", ChatTemplateError, {"keys": {"tokenizer.chat_template": " "}}),
    ("a template that is a number", "is 3", ChatTemplateError, {"keys": {"tokenizer.chat_template": 3}}),
    ("a broken template", "Expected", ChatTemplateError, {"keys": {"tokenizer.chat_template": "{% for %}"}}),
    ("no tokens", "tokens, without", SubjectNotFoundError, {"without": [f"{G}tokens"]}),
    ("no types of tokens", "token_type, without", SubjectNotFoundError, {"without": [f"{G}token_type"]}),
    ("few types of tokens", "2 entries", DataFormatError, {"keys": {f"{G}token_type": [3, 3]}}),
    ("a token twice", "cannot be read", SubjectNotFoundError, {"keys": {f"{G}tokens": [*WORDS[:-1], "12"]}}),
    ("half a merge", "cannot be read", SubjectNotFoundError, {"keys": {f"{G}merges": ["1 2", "h"]}}),
    ("no merges", "ggml.merges, without", SubjectNotFoundError, {"without": [f"{G}merges"]}),
    ("a merge to no token", "zz", SubjectNotFoundError, {"keys": {f"{G}merges": ["1 2", "h zz"]}}),
    ("a tokenizer of another kind", "'t5'", SubjectNotFoundError, {"keys": {f"{G}model": "t5"}}),
    ("a text that is cleaned", "extra_white", SubjectNotFoundError, {"keys": {f"{G}remove_extra_whitespaces": True}}),
    ("an end beyond the tokens", "names 9999", DataFormatError, {"keys": {f"{G}eos_token_id": 9999}}),
    ("an end that is negative", "names -1", DataFormatError, {"keys": {f"{G}eos_token_id": -1}}),
    ("an end in words", "names '2'", DataFormatError, {"keys": {f"{G}eos_token_id": "2"}}),
    ("an end that is a letter", "ordinary text", DataFormatError, {"keys": {f"{G}eos_token_id": 50}}),
    ("a turn's end beyond the tokens", "names 9999 as its eot", DataFormatError, {"keys": {f"{G}eot_token_id": 9999}}),
    ("a turn's end that is a letter", "eot_token_id = 50", DataFormatError, {"keys": {f"{G}eot_token_id": 50}}),
    ("a message's end that is negative", "names -1 as its eom", DataFormatError, {"keys": {f"{G}eom_token_id": -1}}),
    ("a start beyond the tokens", "bos token", DataFormatError, {"keys": {f"{G}bos_token_id": 7777}}),
    ("a mark that is text", "im_start", DataFormatError, {"keys": {f"{G}token_type": _token_types(1, 1)}}),
    (
        "a missing weight",
        "layers.1.mlp.up_proj.weight",
        SubjectNotFoundError,
        {"tensors": lambda name, data: None if name == "blk.1.ffn_up.weight" else data},
    ),
    (
        "whole numbers",
        "I8",
        SubjectNotFoundError,
        {"tensors": lambda name, data: data.astype(np.int8) if "up" in name else data},
    ),
]


@pytest.mark.parametrize(("label", "named", "error", "given"), REFUSED)
def test_what_would_be_skipped_is_refused_by_name(
    label: str, named: str, error: type[AstrayError], given: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(error, match=named):
        convert(write(tmp_path / "model.gguf", made("qwen2"), "qwen2", **given))
    assert not list((tmp_path / "cache" / "models").glob("gguf-*")), label


@pytest.mark.parametrize(("kind", "named"), [("rwkv9", "rwkv9"), ("starcoder2", "starcoder2")])
def test_an_architecture_that_was_not_compared_is_refused(kind: str, named: str, tmp_path: Path) -> None:
    """transformers reads Starcoder 2 without its base of positions and its heads for keys."""
    file = write(tmp_path / "model.gguf", made("qwen2"), "qwen2")
    file.write_bytes(
        file.read_bytes().replace(b"\x05\0\0\0\0\0\0\0qwen2", len(kind).to_bytes(8, "little") + kind.encode(), 1)
    )
    with pytest.raises(SubjectNotFoundError, match=named):
        convert(file)


@pytest.mark.parametrize("key", [b"llama.rope.freq_base", b"llama.context_length"])
def test_a_key_that_stands_twice_is_refused(key: bytes, tmp_path: Path) -> None:
    file = write(tmp_path / "model.gguf", made("llama"), "llama", keys={"x" * len(key): 7})
    file.write_bytes(file.read_bytes().replace(b"x" * len(key), key))
    with pytest.raises(DataFormatError, match=key.decode()):
        convert(file)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_cut_file_is_said_to_be_cut(share: float, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.gguf", made("qwen2"), "qwen2").read_bytes()
    file = tmp_path / "cut.gguf"
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataFormatError, match="Download it again"):
        convert(file)


def test_a_template_that_ends_answers_with_another_token_than_the_files_end_is_followed(tmp_path: Path) -> None:
    folder = convert(write(tmp_path / "model.gguf", made("qwen2"), "qwen2", keys={f"{G}eos_token_id": 0}))
    subject = load_subject(str(folder))
    assert subject.tokenizer.eos_token == "<|im_end|>"
    made_from = origin(folder)
    assert made_from is not None
    assert made_from.end_of_turn == "<|im_end|>"
    assert AutoModelForCausalLM.from_pretrained(folder).generation_config.eos_token_id == [0, 2]


def test_every_setting_that_a_converter_writes_is_compared() -> None:
    """The table of the writer follows the one of transformers."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    from astray.subjects.gguf import ARCHITECTURES

    read = {name for kind in ARCHITECTURES for name in GGUF_CONFIG_MAPPING[kind]}
    assert read <= {*gguf_files.KEYS, "rope.freq_base", "rope.dimension_count", "attention.key_length"}
