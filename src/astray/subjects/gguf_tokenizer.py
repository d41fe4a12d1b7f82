"""Read the tokenizer in a GGUF file so that it splits text as the file says, or refuse it by name.

transformers builds it from the class of the architecture, which brings a split, a prefix space and added tokens of its
own. Here these follow the file, as llama.cpp reads it: control tokens stay whole whatever their characters, words that
no merge makes are found where the split says so, and a prefix space is written if the file has one. Leaves to others:
weights and settings (`gguf`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astray.errors import ChatTemplateError, DataFormatError, SubjectNotFoundError

if TYPE_CHECKING:
    from gguf import GGUFReader
    from transformers import PreTrainedTokenizerBase

SPLIT_BY_GPT2 = ("gpt-2", "gpt2", "phi-2", "smollm")
"""Pre-tokenizers whose split is that of GPT-2 (`smollm` splits digits before); transformers knows the others it
reads."""
WHOLE_WORDS = (
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
    "tekken",
)
"""Pre-tokenizers for which a word that is a token is taken whole, also where no merge makes it (llama.cpp's
ignore_merges)."""
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _BYTE = 1, 2, 3, 4, 6
"""Types of tokens in a GGUF file."""
_ENDS = ("eos", "eot", "eom")
"""Tokens that end an answer: of the sequence, the turn and the message."""
_NOT_APPLIED = ("remove_extra_whitespaces", "precompiled_charsmap")
"""Changes of a text before it is split, which are not made here."""
_SAMPLE = "I'll pay 1,234.50 for  two\n\n\tEnglish cafés (DON'T ask) — 東京 🙂 <|im_end|><s></s> x_1 12 345 6789012"
_KEPT_BLANKS = ("<unk>", "<s>", "<|endoftext|>")
"""Control tokens of Phi-3 after which blanks stay; after its others they are taken away."""


def read_tokenizer(file: Path, settings: Mapping[str, Any], reader: "GGUFReader") -> "PreTrainedTokenizerBase":
    """Return the tokenizer of a file, with every token at its own index.

    Args:
        file: the GGUF file.
        settings: its metadata.
        reader: of the file.

    Raises:
        SubjectNotFoundError: text would be split otherwise than the file says.
        DataFormatError: the file's tokens contradict each other.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    _check_split(file, settings)
    names, types = _tokens(file, settings, reader)
    special = _special(file, settings, names, types)
    try:
        found: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        raw = json.loads(found.backend_tokenizer.to_str())
    except Exception as error:  # transformers and tokenizers raise whatever their libraries do
        why = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
        raise SubjectNotFoundError(f"The tokenizer in {file} cannot be read: {why}.") from error
    there = {number: token for token, number in raw["model"]["vocab"].items()}
    moved = [index for index in range(len(names)) if index not in there]
    if moved:
        raise SubjectNotFoundError(
            f"{file} names {len(names)} tokens, of which {len(moved)} are not in the tokenizer that was read (first: "
            f"{moved[:3]})."
        )
    whole = {
        index: kind != _USER_DEFINED
        for index, (name, kind) in enumerate(zip(names, types, strict=True))
        if kind in (_UNKNOWN, _CONTROL) or (kind == _USER_DEFINED and name.strip())
    }
    raw["model"]["vocab"] = {(names if index in whole else there)[index]: index for index in range(len(names))}
    strips = settings.get("general.architecture") == "phi3" and settings["tokenizer.ggml.model"] == "llama"
    raw["added_tokens"] = [
        {
            "id": index,
            "content": names[index],
            "single_word": False,
            "lstrip": False,
            "rstrip": strips and control and names[index] not in _KEPT_BLANKS,
            "normalized": False,
            "special": control,
        }
        for index, control in whole.items()
    ]
    _split(raw, settings)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(raw)), **special)
    tokenizer.chat_template = _template(file, settings)
    _check_template_tokens(file, tokenizer, names, types)
    return tokenizer


def _check_split(file: Path, settings: Mapping[str, Any]) -> None:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    kind, split = settings.get("tokenizer.ggml.model"), settings.get("tokenizer.ggml.pre")
    if kind not in ("gpt2", "llama"):
        raise SubjectNotFoundError(
            f"{file} has a tokenizer of the kind {kind!r} (tokenizer.ggml.model); known are 'gpt2' and 'llama'. Use the "
            "model's safetensors folder."
        )
    if kind == "gpt2" and split not in GGUF_PRE_TOKENIZER_SPLITS and split not in SPLIT_BY_GPT2:
        raise SubjectNotFoundError(
            f"{file} splits text by the pre-tokenizer {split!r}, which is not known here, so tokens would be others "
            f"than the model learned. Known: {', '.join(sorted({*GGUF_PRE_TOKENIZER_SPLITS, *SPLIT_BY_GPT2}))}. Use "
            "the model's safetensors folder."
        )
    if changed := [name for name in _NOT_APPLIED if settings.get(f"tokenizer.ggml.{name}")]:
        raise SubjectNotFoundError(
            f"{file} changes a text before it is split (tokenizer.ggml.{changed[0]}), which is not done here, so tokens "
            "would be others than the model learned. Use the model's safetensors folder."
        )


def _tokens(file: Path, settings: Mapping[str, Any], reader: "GGUFReader") -> tuple[list[str], list[int]]:
    """Return the names and the types of the tokens."""
    lists = {
        name: list(reader.fields[f"tokenizer.ggml.{name}"].contents())
        for name in ("tokens", "token_type", "scores")
        if f"tokenizer.ggml.{name}" in reader.fields
    }
    needed = ["tokens", "token_type", *(["scores"] if settings["tokenizer.ggml.model"] == "llama" else [])]
    if lost := [name for name in needed if not lists.get(name)]:
        raise SubjectNotFoundError(
            f"{file} has no tokenizer.ggml.{lost[0]}, without which its tokens are not known: which text each is, and "
            "which are control tokens. Convert the model again with llama.cpp."
        )
    merges = reader.fields.get("tokenizer.ggml.merges")
    if settings["tokenizer.ggml.model"] == "gpt2" and not (merges and merges.data):
        raise SubjectNotFoundError(
            f"{file} has no tokenizer.ggml.merges, without which its BPE tokenizer cannot be rebuilt. Convert the model "
            "again with llama.cpp."
        )
    names, types = lists["tokens"], lists["token_type"]
    if odd := [name for name, entries in lists.items() if len(entries) != len(names)]:
        raise DataFormatError(
            f"{file} has {len(names)} tokens and {len(lists[odd[0]])} entries in tokenizer.ggml.{odd[0]}. Convert the model "
            "again with llama.cpp."
        )
    return names, types


def _special(file: Path, settings: Mapping[str, Any], names: Sequence[str], types: Sequence[int]) -> dict[str, str]:
    """Return the tokens that begin, end and pad texts; refuse those that cannot end an answer."""
    special = {}
    for name, key in (("bos", "bos"), *zip(_ENDS, _ENDS, strict=True), ("unk", "unknown"), ("pad", "padding")):
        number = settings.get(f"tokenizer.ggml.{key}_token_id")
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(names):
            raise DataFormatError(
                f"{file} names {number!r} as its {key} token (tokenizer.ggml.{key}_token_id), but its tokens are 0 to "
                f"{len(names) - 1}."
            )
        if name in _ENDS and types[number] in (_NORMAL, _BYTE):
            raise DataFormatError(
                f"{file} ends answers at {names[number]!r} (tokenizer.ggml.{key}_token_id = {number}), which is ordinary "
                "text, so answers would be cut. Convert the model again with llama.cpp."
            )
        if name not in _ENDS[1:]:  # which a tokenizer has no place for
            special[f"{name}_token"] = names[number]
    return special


def _split(raw: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Give a serialised tokenizer the split of the file."""
    from tokenizers import decoders, normalizers, pre_tokenizers

    split = settings.get("tokenizer.ggml.pre")
    if settings["tokenizer.ggml.model"] == "gpt2":
        raw["model"]["ignore_merges"] = split in WHOLE_WORDS
        if split == "qwen2":  # not in the file, but in every tokenizer of Qwen
            raw["normalizer"] = json.loads(normalizers.NFC().__getstate__())
        if split == "smollm":
            digits = pre_tokenizers.Digits(individual_digits=True)
            level = pre_tokenizers.ByteLevel(add_prefix_space=False)
            raw["pre_tokenizer"] = json.loads(pre_tokenizers.Sequence([digits, level]).__getstate__())
        return
    prefix = settings.get(
        "tokenizer.ggml.add_space_prefix", not str(settings.get("general.architecture")).startswith("gemma")
    )
    mark = normalizers.Replace(" ", "▁")
    # A prefix stands before the text behind each control token too, as in sentencepiece's own tokenizers and llama.cpp.
    normal = normalizers.Sequence([normalizers.Prepend("▁"), mark] if prefix else [mark])
    blank = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    decoder = decoders.Sequence([*blank, decoders.Strip(" ", 1, 0)] if prefix else blank)
    raw["normalizer"], raw["pre_tokenizer"] = json.loads(normal.__getstate__()), None
    raw["decoder"] = json.loads(decoder.__getstate__())


def _template(file: Path, settings: Mapping[str, Any]) -> str:
    template = settings.get("tokenizer.chat_template")
    if not isinstance(template, str) or not template.strip():
        raise ChatTemplateError(
            f"{file} has no chat template (tokenizer.chat_template is {template!r}), so nobody knows how to write a "
            "conversation for it."
        )
    return template


def _check_template_tokens(
    file: Path, tokenizer: "PreTrainedTokenizerBase", names: Sequence[str], types: Sequence[int]
) -> None:
    """Refuse a file that calls a token ordinary text which its template writes as a mark, such as `<|im_end|>`."""
    template = str(tokenizer.chat_template)
    marks = set(re.findall(r"<[|｜]?[^<>\s]+?[|｜]?>|\[/?[A-Z_]+\]", template))
    for index, (name, kind) in enumerate(zip(names, types, strict=True)):
        if name in marks and kind == _NORMAL and tokenizer(name, add_special_tokens=False).input_ids != [index]:
            raise DataFormatError(
                f"The chat template of {file} writes {name!r}, which the file calls ordinary text (tokenizer.ggml.token_type), "
                "so it would be cut into pieces. Convert the model again with llama.cpp."
            )


def save_tokenizer(file: Path, tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write the tokenizer so that it is read back as it is.

    Raises:
        SubjectNotFoundError: it comes back another one.
    """
    from astray.subjects.weights import load_tokenizer

    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    # Under an architecture's own class transformers builds the tokenizer anew, with that class's split; some (Qwen2) it
    # always does.
    # The other two say nothing; with them folders of before have the identity that they had.
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "is_local": True, "local_files_only": True}
    text = json.dumps(dict(sorted(settings.items())), indent=1)
    (folder / "tokenizer_config.json").write_text(f"{text}\n", encoding="utf-8")
    back = load_tokenizer(str(file), folder)
    sample = _SAMPLE + str(tokenizer.chat_template)
    if (
        back(sample).input_ids != tokenizer(sample).input_ids
        or not tokenizer.special_tokens_map.items() <= back.special_tokens_map.items()
        or len(back) != len(tokenizer)
    ):
        raise SubjectNotFoundError(
            f"The tokenizer in {file} cannot be saved as it is: transformers splits text its own way for this "
            "architecture. Use the model's safetensors folder."
        )


def end_of_turn(file: Path, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the token that the chat template writes after an answer.

    Raises:
        ChatTemplateError: the template cannot be used, or none of its tokens ends an answer.
    """
    answer = "zqanswerzq"
    chat = [{"role": "user", "content": "zqquestionzq"}, {"role": "assistant", "content": answer}]
    try:
        text = str(tokenizer.apply_chat_template(chat, tokenize=False))
    except Exception as error:  # a template raises whatever its author lets it raise
        raise ChatTemplateError(
            f"The chat template of {file} cannot write a conversation: {' '.join(str(error).split())[:300]}."
        ) from error
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
