"""Identity of a subject: hashes over the content of its files, independent of machine, path and time stamps.

Content that is hashed:
- base: `config.json` without the keys that name a path or a library version, the safetensors files in the folder, the
  tokenizer files with the chat template (another template is another subject), and the tokens that end an answer;
- adapter: the settings in `adapter_config.json` that affect the model, with lists sorted because PEFT writes sets in
  random order, the weights, and the files of a tokenizer or template saved beside them;
- of a file of more than 1 GiB, its size, its first and last 4 MiB (a safetensors header comes first, so shapes and
  names are included), and the first 64 KiB of every tensor. Training changes nearly every entry of the tensors that it
  changes at all, so two fine-tunings are told apart even if they differ in one tensor;
- direction: its file, without what that says of the models it was made from.
"""

import contextlib
import functools
import hashlib
import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any, BinaryIO

from astray.errors import DataFormatError, SubjectNotFoundError
from astray.subjects.cache import models_folder

WHOLE_FILE_LIMIT = 1 << 30
"""File size in bytes up to which the whole file is hashed."""
EDGE = 4 << 20
"""Number of bytes read at each end of a larger file."""
SAMPLE, STEP = 1 << 16, 1 << 22
"""Number of bytes read at the start of each tensor of a larger file, or every so many bytes where it holds no
tensors."""

NOTED_FROM = 32 << 20
"""File size in bytes from which a digest is noted on this machine: hashing would take a good part of loading."""
_FRESH_NS = 100_000_000
"""Age below which a file's times cannot show a further change: clocks of file systems tick every few milliseconds."""
_DIGEST = re.compile(r"[0-9a-f]{64}")

BASE_RECORD = "astray_base.json"
"""File in an adapter's folder that records the base it was trained on."""
MODELS = "models"
"""Entry of the metadata of a direction's file: identities of the weights that it was made from, separated by blanks; empty
for any model."""
TEMPLATE_DATE = "2024-07-26"
"""Date that chat templates write which write today's; part of the identity of subjects with such a template."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
MORE_TOKENIZER_FILES = (
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
)
"""Files that also say which tokens there are, where a tokenizer has them."""
_NOT_CONTENT = {
    "_name_or_path",
    "transformers_version",
    "base_model_name_or_path",
    "peft_version",
    "revision",
    "inference_mode",
    "auto_mapping",
}


_ORDERED = {"layer_types", "layers_block_type", "mlp_layer_types"}
"""Lists in a model's configuration with an entry a layer."""


def digest_of(content: object) -> str:
    """Return the first 16 hex digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content (of a large file, its size and ends), cached by size, time stamps and
    inode.

    Raises:
        SubjectNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise SubjectNotFoundError(f"There is no file {path}, which this subject is made of. Was it moved or deleted?")
    stat = path.stat()
    return _file_digest(path.resolve(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


@functools.lru_cache(maxsize=1024)
def _file_digest(path: Path, size: int, modified: int, changed: int, inode: int) -> str:
    """Return the digest of a file; that of a large one is noted for later processes, until its stamp changes."""
    if size < NOTED_FROM:
        return _computed(path, size)
    note = models_folder().parent / "digests" / digest_of([str(path), size, modified, changed, inode])
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if _DIGEST.fullmatch(known := note.read_text(encoding="ascii")):
            return known
    digest = _computed(path, size)
    # A file that was written just now may be written again without another time stamp.
    if time.time_ns() - max(modified, changed) > _FRESH_NS:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time and nothing else
            note.parent.mkdir(parents=True, exist_ok=True)
            unfinished = note.with_name(f"{note.name}.{os.getpid()}")
            unfinished.write_text(digest, encoding="ascii")
            unfinished.replace(note)
    return digest


def _computed(path: Path, size: int) -> str:
    with path.open("rb") as file:
        if size <= WHOLE_FILE_LIMIT:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(f"{size}:".encode() + file.read(EDGE))
        file.seek(size - EDGE)
        digest.update(file.read())
        for start in _sampled(file, size):
            file.seek(start)
            digest.update(file.read(SAMPLE))
        return digest.hexdigest()


def _sampled(file: BinaryIO, size: int) -> list[int]:
    """Return where a large file is read: at the start of each tensor of a safetensors file, else at even steps."""
    tensors, start = _header(file, size)
    try:
        return sorted(
            start + tensor["data_offsets"][0] for name, tensor in tensors.items() if name != "__metadata__"
        ) or [*range(0, size, STEP)]
    except (KeyError, TypeError):
        return [*range(0, size, STEP)]


def _header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, empty for any other file, and the index of the first byte after it."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    try:
        header = json.loads(file.read(length)) if length < size else {}
    except (ValueError, RecursionError):
        header = {}
    return header if isinstance(header, dict) else {}, 8 + length


def base_identity(folder: Path, *, former: bool = False, ordered: bool = True) -> str:
    """Return the identity of the model in a folder: configuration, weights, tokenizer, chat template, and where answers
    end.

    Args:
        folder: folder of the model.
        former: without special tokens' files and end tokens, as adapters of earlier versions recorded their base.
        ordered: with the order of layers that a configuration lists by kind, which earlier versions left out.
    """
    names = TOKENIZER_FILES if former else (*TOKENIZER_FILES, *MORE_TOKENIZER_FILES)
    files = sorted(weight_files(folder)) + [folder / name for name in names if (folder / name).is_file()]
    config = _settings(folder / "config.json", ordered=ordered)
    content: dict[str, object] = {"config": config, "files": {path.name: file_digest(path) for path in files}}
    generation = folder / "generation_config.json"
    ends = _settings(generation).get("eos_token_id") if generation.is_file() and not former else None
    if ends is not None and ends != config.get("eos_token_id"):
        content["ends"] = ends  # of a generation configuration nothing else is used
    return digest_of(content)


def weights_identity(folder: Path) -> str:
    """Return the identity of the weights in a model's folder, however they are spread over files.

    Its configuration is left out: copies of a model differ there in tokens, caches, number formats and in the names that
    a version of the library gives its settings, and their activations mean the same.

    Raises:
        SubjectNotFoundError: there are no weights.
    """
    tensors: dict[str, object] = {}
    for path in sorted(weight_files(folder)):
        stat = path.stat()
        tensors |= _tensors(path.resolve(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    if not tensors:
        raise SubjectNotFoundError(
            f"{folder} holds no weights of a model as safetensors. Give the folder of the model itself and not of an adapter: "
            "subject.base_folder."
        )
    return digest_of(tensors)


@functools.lru_cache(maxsize=256)
def _tensors(path: Path, size: int, *_stamp: int) -> dict[str, object]:
    """Return number format, shape and digest of each tensor in a safetensors file; a large one is sampled at even steps."""
    tensors: dict[str, object] = {}
    with path.open("rb") as file:
        header, start = _header(file, size)
        header.pop("__metadata__", None)
        for name, tensor in header.items():
            first, last = (start + offset for offset in tensor["data_offsets"])
            digest = hashlib.sha256()
            for place in range(first, last, STEP):
                file.seek(place)
                digest.update(file.read(min(last - place, SAMPLE if last - first > STEP else STEP)))
            tensors[name] = [tensor["dtype"], tensor["shape"], digest.hexdigest()]
    return tensors


def direction_digest(path: Path) -> str:
    """Return the SHA-256 of a direction's file without the models it was made from, which earlier versions did not write.

    Raises:
        SubjectNotFoundError: there is no such file.
    """
    whole = file_digest(path)
    with path.open("rb") as file:
        header, start = _header(file, path.stat().st_size)
        metadata = header.pop("__metadata__", None)
        if not isinstance(metadata, dict) or MODELS not in metadata:
            return whole
        others = {name: text for name, text in metadata.items() if name != MODELS}
        kept = ({"__metadata__": others} if others else {}) | header
        text = json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)  # as safetensors aligns its data
        file.seek(start)
        return hashlib.sha256(len(text).to_bytes(8, "little") + text + file.read()).hexdigest()


def template_traits(folder: Path) -> dict[str, str]:
    """Return what a model's conversations depend on beside its files.

    That is the date that its chat template writes, if it writes one, and, of a template that knows reasoning, how given
    answers are read: after what the template writes before them, such as an empty thought.
    """
    paths = (folder / name for name in ("chat_template.jinja", "tokenizer_config.json"))
    source = "".join(_text_of(path) for path in paths if path.is_file())
    dated = {"date": TEMPLATE_DATE} if "strftime_now" in source else {}
    thinks = any(mark in source for mark in ("</think>", "[/THINK]", "<|channel|>", "<channel|>"))
    return dated | ({"answers": "after their header"} if thinks else {})


def adapter_identity(folder: Path) -> str:
    """Return the identity of the PEFT adapter in a folder: settings, weights, and a tokenizer or template of its
    own."""
    content: dict[str, object] = {
        "config": _settings(folder / "adapter_config.json"),
        "weights": file_digest(adapter_weights(folder)),
    }
    own = {
        name: file_digest(folder / name)
        for name in (*TOKENIZER_FILES, *MORE_TOKENIZER_FILES)
        if (folder / name).is_file()
    }
    return digest_of(content | ({"tokenizer": own} if own else {}))


def adapter_weights(folder: Path) -> Path:
    """Return the file of an adapter's weights, as PEFT chooses it: safetensors, else a pickle that is read without
    running code."""
    pickled = folder / "adapter_model.bin"
    return (
        pickled
        if pickled.is_file() and not (folder / "adapter_model.safetensors").is_file()
        else folder / "adapter_model.safetensors"
    )


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model, without another vendor's copy of the same weights."""
    return [
        path for path in folder.glob("*.safetensors") if not path.name.startswith(("consolidated", "adapter_model"))
    ]


def parameter_count(folder: Path) -> int:
    """Return the number of parameters, read from the headers of the safetensors files in a model folder."""
    return sum(map(math.prod, tensor_shapes(folder).values()))


def tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """Return the shape of each tensor in the safetensors files of a model folder, read from their headers."""
    from safetensors import safe_open

    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            shapes |= {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  (no dict)
    return shapes


def recorded_base(adapter: Path) -> dict[str, str]:
    """Return what an adapter's folder records of the base it was trained on: its identity as "base", and as "dtype" a
    number format that adapters cannot be moved from in silence; empty where it records nothing.

    Raises:
        DataFormatError: the record is damaged.
    """
    record = adapter / BASE_RECORD
    if not record.is_file():
        return {}
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return {"base": content["base"]} | ({"dtype": content["dtype"]} if "dtype" in content else {})
    except (ValueError, KeyError, TypeError) as error:
        raise DataFormatError(
            f"{record} does not say on which base the adapter was trained ({error!r}). Copy it again, or delete it: "
            "then shapes alone are compared."
        ) from error


def _settings(path: Path, *, ordered: bool = False) -> dict[str, object]:
    """Return the settings of a configuration file that affect the model; lists of names are sorted, but those whose
    order says which layer is of which kind where the file is `ordered`."""
    try:
        settings: object = json.loads(_text_of(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataFormatError(f"{path} is no JSON ({error}). Copy it again from where the model came from.") from error
    if not isinstance(settings, dict):
        raise DataFormatError(
            f"{path} holds a {type(settings).__name__} and no settings. Copy it again from where the model came from."
        )
    kept = {key: value for key, value in settings.items() if key not in _NOT_CONTENT}
    return {key: value if ordered and key in _ORDERED else _in_one_order(value) for key, value in kept.items()}


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataFormatError(
            f"{path} is no text in UTF-8 ({error}). Copy it again from where the model came from."
        ) from error


def _in_one_order(value: object) -> object:
    return sorted(value) if isinstance(value, list) and all(isinstance(entry, str) for entry in value) else value
