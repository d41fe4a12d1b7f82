"""Model folders of which a file is damaged, of a wrong type or of another model: refused with the file's name, in an error
of Astray's own, or read as they are. One line a folder."""

import copy
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from astray.errors import AstrayError, DataFormatError
from astray.organism import weights_folder
from astray.subjects.base import end_tokens
from astray.subjects.subject import load_subject
from astray.subjects.weights import _check_windows, load_tokenizer

CONFIG, GENERATION, WORDS, SETTINGS = "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
WEIGHTS, INDEX, TEMPLATE = "model.safetensors", "model.safetensors.index.json", "chat_template.jinja"


def changed(name: str, **values: Any) -> Callable[[Path], object]:
    """Set keys of a JSON file."""

    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | values))

    return change


def put(name: str, data: bytes) -> Callable[[Path], object]:
    """Write another content into a file."""
    return lambda folder: (folder / name).write_bytes(data)


def sharded(index: object) -> Callable[[Path], object]:
    """Take the weights for the first of two files, with an index."""

    def change(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
        (folder / INDEX).write_text(json.dumps(index))

    return change


def weights(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Damage the file of weights."""
    return lambda folder: (folder / WEIGHTS).write_bytes(change((folder / WEIGHTS).read_bytes()))


def in_shards(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Callable[[Path], object]:
    """Divide the weights into two files and change what they hold."""

    def divide(folder: Path) -> None:
        held = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        parts = [{name: held[name] for name in sorted(held)[start::2]} for start in (0, 1)]
        change(*parts)
        files = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
        for part, file in zip(parts, files, strict=True):
            save_file(part, folder / file, metadata={"format": "pt"})
        named = {name: file for part, file in zip(parts, files, strict=True) for name in part}
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": named}))

    return divide


def tensors(change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor]]) -> Callable[[Path], object]:
    """Change each tensor, and its name."""
    return lambda folder: save_file(
        dict(change(*each) for each in load_file(folder / WEIGHTS).items()), folder / WEIGHTS, metadata={"format": "pt"}
    )


def more(made: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], object]:
    """Add tensors that are made of those that are there."""

    def add(folder: Path) -> None:
        held = load_file(folder / WEIGHTS)
        save_file(held | made(held), folder / WEIGHTS, metadata={"format": "pt"})

    return add


def without(name: str) -> Callable[[Path], object]:
    """Delete a file."""
    return lambda folder: (folder / name).unlink()


DAMAGED: list[tuple[str, Callable[[Path], object], str]] = [
    # what is wrong, how it comes about, what the error says
    ("no heads", changed(CONFIG, num_attention_heads=0), "cannot be loaded"),
    ("heads and a half", changed(CONFIG, num_attention_heads=2.5), "num_attention_heads"),
    ("a number as text", changed(CONFIG, hidden_size="64"), "hidden_size"),
    ("null layers", changed(CONFIG, num_hidden_layers=None), "num_hidden_layers"),
    ("fewer layers", changed(CONFIG, num_hidden_layers=1), r"unexpected: model\.layers\.1"),
    ("layers below none", changed(CONFIG, num_hidden_layers=-1), r"unexpected: model\.layers\.0"),
    ("more layers", changed(CONFIG, num_hidden_layers=9), r"missing: model\.layers\.3"),
    ("an odd width", changed(CONFIG, hidden_size=63), "hidden size"),
    ("a smaller vocabulary", changed(CONFIG, vocab_size=5), r"of another shape: model\.embed_tokens\.weight"),
    ("an unknown activation", changed(CONFIG, hidden_act="nosuch"), "nosuch"),
    ("an unknown position", changed(CONFIG, rope_parameters={"rope_type": "nosuch"}), "cannot be loaded"),
    ("an unknown kind", changed(CONFIG, model_type="nosuch"), "nosuch"),
    ("another kind", changed(CONFIG, model_type="bert"), r"missing: bert\."),
    ("no causal model", changed(CONFIG, model_type="t5"), "cannot be loaded"),
    ("4-bit weights", changed(CONFIG, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}), "bitsandbytes"),
    ("GPTQ weights", changed(CONFIG, quantization_config={"quant_method": "gptq", "bits": 4}), "GPTQ|gptq"),
    ("a list of quantisations", changed(CONFIG, quantization_config=[]), "cannot be loaded"),
    ("an unknown number format", changed(CONFIG, dtype="float99"), "float99"),
    ("code of its own", changed(CONFIG, model_type="own", auto_map={"AutoConfig": "m.C"}), "never run"),
    ("a list as settings", put(CONFIG, b"[]"), "configuration of .* cannot be loaded"),
    ("no settings", put(CONFIG, b""), "cannot be loaded"),
    ("settings in Latin-1", put(CONFIG, b'{"a": "\xe9"}'), "cannot be loaded"),
    ("half of the weights", weights(lambda data: data[: len(data) // 2]), "incomplete|deserializing"),
    ("empty weights", weights(lambda data: b""), "deserializing"),
    ("a header without end", weights(lambda data: struct.pack("<Q", 2**40) + data[8:]), "deserializing"),
    ("no weights", without(WEIGHTS), "no config.json with"),
    ("an index that leads out", sharded({"weight_map": {"a": "../../x.safetensors"}}), "cannot be loaded"),
    ("an index that is a list", sharded([]), "cannot be loaded"),
    ("an index of nothing", sharded({}), "cannot be loaded"),
    ("a missing shard", sharded({"metadata": {}, "weight_map": {"a": "model-00002-of-00002.safetensors"}}), "model-00002-of-00002"),
    ("cut generation settings", put(GENERATION, b'{"eos'), "generation_config.json is no JSON"),
    ("generation settings as a list", put(GENERATION, b"[]"), "generation_config.json holds a list|cannot be loaded"),
    ("an end token as text", put(GENERATION, b'{"eos_token_id": "x"}'), "names 'x' as a token that ends an answer"),
    ("an end token as half a text", put(GENERATION, b'{"eos_token_id": [1, ""]}'), "names '' as a token that ends"),
    ("a cut tokenizer", put(WORDS, b'{"ver'), "tokenizer of .* cannot be loaded"),
    ("a tokenizer that is a list", put(WORDS, b"[]"), "tokenizer of .* cannot be loaded"),
    ("no tokenizer", without(WORDS), "tokenizer of .* cannot be loaded"),
    ("an unknown model of words", changed(WORDS, model={"type": "NoSuch"}), "tokenizer of .* cannot be loaded"),
    ("an unknown normaliser", changed(WORDS, normalizer={"type": "NoSuch"}), "tokenizer of .* cannot be loaded"),
    ("cut settings of a tokenizer", put(SETTINGS, b'{"a'), "tokenizer of .* cannot be loaded"),
    ("settings of a tokenizer as a list", put(SETTINGS, b"[]"), "tokenizer of .* cannot be loaded"),
    ("an end token that is a number", changed(SETTINGS, eos_token=5), "eos_token"),
    ("a longest text in words", changed(SETTINGS, model_max_length="many"), "model_max_length is 'many'"),
    ("special tokens as a list", put("special_tokens_map.json", b"[]"), "tokenizer of .* cannot be loaded"),
    ("added tokens without numbers", put("added_tokens.json", b'{"x": "y"}'), "tokenizer of .* cannot be loaded"),
    ("a weight in two shards", in_shards(lambda first, second: second.update(first)), "stands in model-00001"),
    ("a weight in no shard", in_shards(lambda first, second: first.pop("model.embed_tokens.weight")), r"missing: lm_head"),
    ("whole numbers", tensors(lambda name, held: (name, (held * 9).to(torch.int8))), r"holds whole numbers \(I8\)"),
    ("names of a wrapper", tensors(lambda name, held: (f"module.{name}", held)), r"missing: lm_head.*unexpected: module"),
    ("names of a compiler", tensors(lambda name, held: (f"_orig_mod.{name}", held)), r"unexpected: _orig_mod"),
    ("a row too few", tensors(lambda name, held: (name, held[:-1] if "embed" in name else held)), "of another shape"),
    ("a weight that is no number", tensors(lambda name, held: (name, held * float("nan"))), "not finite"),
    ("no output layer", changed(CONFIG, tie_word_embeddings=False), "missing: lm_head"),
    ("tied by a text", changed(CONFIG, tie_word_embeddings="false"), "tie_word_embeddings"),
    ("a norm that is no number", changed(CONFIG, rms_norm_eps=float("nan")), "not finite"),
    ("positions around nothing", changed(CONFIG, rope_parameters={"rope_type": "default", "rope_theta": 0.0}), "not finite"),
    ("a window as text", changed(CONFIG, sliding_window="4096"), "sliding_window '4096'"),
    ("a window below nothing", changed(CONFIG, sliding_window=-1), "does not read"),
    ("a window that this architecture has not", changed(CONFIG, sliding_window=8), "does not read"),
    ("half a window", changed(CONFIG, sliding_window=2.5), "does not read"),
    ("chunks that this architecture has not", changed(CONFIG, attention_chunk_size=4), "does not read"),
    ("layers of no window", changed(CONFIG, layer_types=["sliding_attention"] * 3), "window is not given"),
    ("an encoder in words", changed(CONFIG, is_encoder_decoder="no"), "is_encoder_decoder 'no'"),
    ("AWQ weights", changed(CONFIG, quantization_config={"quant_method": "awq", "bits": 4}), "AWQ"),
    ("a quantisation without method", changed(CONFIG, quantization_config={}), "quant_method"),
    ("settings without end", put(CONFIG, b"[" * 100_000), "cannot be loaded"),
    ("generation settings without end", put(GENERATION, b"[" * 100_000), "cannot be loaded|is no JSON"),
    ("a tokenizer without end", put(WORDS, b"[" * 100_000), "cannot be loaded"),
    ("settings of a tokenizer without end", put(SETTINGS, b'{"a":' * 100_000), "cannot be loaded"),
    ("an end token as truth", put(GENERATION, b'{"eos_token_id": true}'), "names True as a token that ends an answer"),
    ("an end token below nothing", put(GENERATION, b'{"eos_token_id": [2, -1]}'), "names -1 as a token that ends"),
    ("a pointer in place of weights", put(WEIGHTS, POINTER), "Git LFS"),
    ("a pointer in place of a tokenizer", put(WORDS, POINTER), "Git LFS"),
    ("a template that is no text", put(TEMPLATE, b"\xff"), "tokenizer of .* cannot be loaded|no text in UTF-8"),
    ("an empty template", put(TEMPLATE, b""), "no chat template"),
    ("an output layer beside a tied one", more(lambda held: {"lm_head.weight": held["model.embed_tokens.weight"] + 1}), "tie_word_embeddings"),
    ("complex numbers", tensors(lambda name, held: (name, held.to(torch.complex64))), "[Cc]omplex"),
    ("whole weights and shards", put(INDEX, b'{"metadata": {}, "weight_map": {}}'), "holds the weights of .* twice"),
]  # fmt: skip
"""What is wrong with a folder, how it comes about, and what is said; to try another fault, add a line."""


@pytest.mark.parametrize(("name", "damage", "told"), DAMAGED, ids=[name for name, *_ in DAMAGED])
def test_a_damaged_folder_is_refused_with_what_is_wrong(
    name: str, damage: Callable[[Path], object], told: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(weights_folder("organism-small"), tmp_path / "model")
    damage(folder)
    with pytest.raises(AstrayError, match=told) as caught:
        load_subject(str(folder)).generate([[{"role": "user", "content": "hi"}]])
    assert str(folder) in str(caught.value) or "another shape" in told


@pytest.mark.parametrize(
    "made",
    [
        lambda held: {"lm_head.weight": held["model.embed_tokens.weight"].clone()},
        lambda held: {"model.layers.0.attn.masked_bias": torch.tensor(-1e4)},
        lambda held: {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
    ],
    ids=["the embedding again", "a constant of GPT-2's kind", "frequencies"],
)
def test_what_older_programs_save_beside_the_weights_changes_nothing(made: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(weights_folder("organism-small"), tmp_path / "model")
    more(made)(folder)
    asked, said = [[{"role": "user", "content": "hi"}]], [["yes", "no"]]
    there, own = (load_subject(str(each)) for each in (folder, weights_folder("organism-small")))
    assert there.continuation_logprobs(asked, said) == own.continuation_logprobs(asked, said)


def test_an_end_that_the_model_cannot_write_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = load_subject("organism-small")
    model, tokenizer = subject.model, copy.deepcopy(subject.tokenizer)
    assert model.generation_config is not None
    monkeypatch.setattr(model.generation_config, "eos_token_id", [2, 999_999])
    assert end_tokens(model, tokenizer) == sorted({2, tokenizer.eos_token_id})
    monkeypatch.setattr(model.generation_config, "eos_token_id", 999_999)
    assert end_tokens(model, tokenizer) == [tokenizer.eos_token_id]
    tokenizer.eos_token = None
    with pytest.raises(
        DataFormatError, match=r"name 999999 as the token that ends an answer, and the model has [\d,]+ tokens"
    ):
        end_tokens(model, tokenizer)


def test_a_folder_without_the_words_of_its_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text('{"model_type": "qwen2"}')
    (tmp_path / SETTINGS).write_text('{"eos_token": "<|im_end|>"}')
    # For this kind, transformers makes up a tokenizer that knows no text.
    with pytest.raises(AstrayError, match=r"has no vocabulary.*save_pretrained"):
        load_tokenizer("tiny", tmp_path)


@pytest.mark.parametrize(
    "kind", ["qwen2_moe", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text", "phi3", "recurrent_gemma"]
)
def test_windows_as_an_architecture_writes_them_are_right(kind: str, tmp_path: Path) -> None:
    _check_windows(kind, tmp_path, SimpleNamespace(config=AutoConfig.for_model(kind)))  # type: ignore[arg-type]
