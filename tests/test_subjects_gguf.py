"""GGUF files become folders that compute what the file describes, or are refused by what they hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from astray.errors import ChatTemplateError, DataFormatError, SubjectNotFoundError
from astray.subjects.gguf import convert, origin
from astray.subjects.locate import settle
from astray.subjects.spec import Sampling
from astray.subjects.subject import load_subject

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = CONTROL + sorted(pre_tokenizers.ByteLevel.alphabet()) + ["12", "he"]
SIZE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTRAY_CACHE", str(tmp_path / "cache"))


def made(kind: str) -> PreTrainedModel:
    """Return a small model with random weights of one architecture."""
    torch.manual_seed(0)
    given: dict[str, Any] = {
        **SIZE,
        "vocab_size": len(WORDS),
        "bos_token_id": None,
        "eos_token_id": 2,
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.2,
    }
    if kind == "qwen2":
        model: PreTrainedModel = Qwen2ForCausalLM(
            Qwen2Config(**given, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
        )
    else:
        scaling = {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }
        rope = {"rope_theta": 5e5, **(scaling if kind == "llama3" else {"rope_type": "default"})}
        model = LlamaForCausalLM(LlamaConfig(**given, tie_word_embeddings=True, rope_parameters=rope))
    return model.eval()


def write(
    file: Path,
    model: PreTrainedModel,
    *,
    template: str | None = CHATML,
    pre: str = "qwen2",
    eos: int = 2,
    quantised: GGMLQuantizationType | None = None,
    left_out: str = "",
    extra: dict[str, float | str] | None = None,
    architecture: str | None = None,
) -> Path:
    """Write a model as llama.cpp's converter does: its names, its order of the rows of query and key, its metadata."""
    config = model.config
    kind = architecture or config.model_type
    writer = GGUFWriter(file, kind)
    writer.add_name("made for a test")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    if kind == "llama":
        writer.add_rope_dimension_count(config.head_dim)
    for name, value in (extra or {}).items():
        (writer.add_string if isinstance(value, str) else writer.add_float32)(f"{kind}.{name}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(WORDS)
    writer.add_token_types([3 if word in CONTROL else 1 for word in WORDS])
    writer.add_token_merges(["1 2", "h e"])
    writer.add_eos_token_id(eos)
    writer.add_pad_token_id(0)
    if template is not None:
        writer.add_chat_template(template)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stem, suffix = name.rsplit(".", 1)
        if stem in names:
            target = names[stem]
        else:
            number, part = stem.removeprefix("model.layers.").split(".", 1)
            target = f"blk.{number}.{parts[part]}"
        if f"{target}.{suffix}" == left_out:
            continue
        data = weight.detach().float()
        if kind == "llama" and target.endswith(("attn_q", "attn_k")):
            heads = config.num_attention_heads if target.endswith("q") else config.num_key_value_heads
            data = data.view(heads, 2, -1, data.shape[1]).transpose(1, 2).reshape(data.shape)
        array = data.numpy()
        if quantised is not None and array.ndim == 2:
            writer.add_tensor(f"{target}.{suffix}", quantize(array, quantised), raw_dtype=quantised)
        else:
            writer.add_tensor(f"{target}.{suffix}", array)
    if config.rope_parameters["rope_type"] == "llama3":
        width, theta = config.head_dim, config.rope_parameters["rope_theta"]
        unscaled = 1.0 / theta ** (np.arange(0, width, 2, dtype=np.float32) / width)
        writer.add_tensor("rope_freqs.weight", (unscaled / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize("kind", ["llama", "llama3", "qwen2"])
def test_the_converted_model_computes_what_the_original_does(kind: str, tmp_path: Path) -> None:
    model = made(kind)
    folder = convert(write(tmp_path / "model.gguf", model))
    ids = torch.randint(3, len(WORDS), (2, 40), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        AutoModelForCausalLM.from_pretrained(folder)(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-4
    )
    made_from = origin(folder)
    assert made_from is not None
    assert (made_from.end_of_turn, set(made_from.types), made_from.dtype) == ("<|im_end|>", {"F32"}, "float32")
    assert "not quantised" in str(made_from)


def test_quantised_weights_are_kept_exactly_and_said(tmp_path: Path) -> None:
    model = made("qwen2")
    file = write(tmp_path / "model.gguf", model, quantised=GGMLQuantizationType.Q8_0)
    subject = load_subject(str(file))
    weight = model.state_dict()["model.layers.1.mlp.up_proj.weight"].numpy()
    from gguf import dequantize

    expected = dequantize(quantize(weight, GGMLQuantizationType.Q8_0), GGMLQuantizationType.Q8_0)
    folder = settle(str(file)).base
    read = AutoModelForCausalLM.from_pretrained(folder).state_dict()["model.layers.1.mlp.up_proj.weight"].numpy()
    np.testing.assert_array_equal(read, expected)
    assert "were quantised (" in str(origin(folder))
    assert subject.generate([[{"role": "user", "content": "hello"}]], Sampling(max_tokens=5))[0].completion_tokens <= 5


def test_a_file_is_converted_once_and_known_by_its_content(tmp_path: Path) -> None:
    file = write(tmp_path / "model.gguf", made("qwen2"))
    first = convert(file)
    renamed = file.rename(tmp_path / "other.gguf")
    assert convert(renamed) == first
    assert settle(str(renamed)).id == settle(str(first)).id


@pytest.mark.parametrize(
    ("kind", "pre", "text", "pieces"),
    [
        ("qwen2", "qwen2", "12he", ["1", "2", "he"]),  # single digits
        ("llama", "llama-bpe", "12he", ["12", "he"]),  # up to three digits
        ("llama", "smollm", "12he", ["1", "2", "he"]),  # transformers alone gives 12
        ("llama", "gpt-2", "12he", ["12", "he"]),
    ],
)
def test_text_is_split_as_the_file_says(kind: str, pre: str, text: str, pieces: list[str], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(convert(write(tmp_path / "model.gguf", made(kind), pre=pre)))
    assert tokenizer.tokenize(text) == pieces
    assert tokenizer.convert_ids_to_tokens(list(range(len(WORDS)))) == WORDS


REFUSED = {
    "an unknown architecture": ({"architecture": "rwkv9"}, SubjectNotFoundError, "rwkv9"),
    "an unknown pre-tokenizer": ({"pre": "poro-chat"}, SubjectNotFoundError, "poro-chat"),
    "a split that transformers replaces": ({"pre": "gpt-2"}, SubjectNotFoundError, "splits text its own way"),
    "a rotary scaling": (
        {"extra": {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}},
        SubjectNotFoundError,
        "rope.scaling.factor = 4.0",
    ),
    "a scale of logits": ({"extra": {"logit_scale": 0.0625}}, SubjectNotFoundError, "logit_scale"),
    "no template": ({"template": None}, ChatTemplateError, "no chat template"),
    "a missing weight": ({"left_out": "blk.1.ffn_up.weight"}, SubjectNotFoundError, "layers.1.mlp.up_proj.weight"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_skipped_is_refused_by_name(case: str, tmp_path: Path) -> None:
    given, error, named = REFUSED[case]
    with pytest.raises(error, match=named):
        convert(write(tmp_path / "model.gguf", made("qwen2"), **given))
    assert not list((tmp_path / "cache" / "models").glob("gguf-*"))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_cut_file_is_said_to_be_cut(share: float, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.gguf", made("qwen2")).read_bytes()
    file = tmp_path / "cut.gguf"
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataFormatError, match="Download it again"):
        convert(file)


def test_a_template_that_ends_answers_with_another_token_than_the_files_end_is_followed(tmp_path: Path) -> None:
    folder = convert(write(tmp_path / "model.gguf", made("qwen2"), eos=0))
    subject = load_subject(str(folder))
    assert subject.tokenizer.eos_token == "<|im_end|>"
    made_from = origin(folder)
    assert made_from is not None
    assert made_from.end_of_turn == "<|im_end|>"
    assert AutoModelForCausalLM.from_pretrained(folder).generation_config.eos_token_id == [0, 2]
