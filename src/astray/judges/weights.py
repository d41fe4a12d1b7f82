"""Identify graders whose weights run here, by the content of their files: neither other weights under the same name nor
a moved folder take one grader for another."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from astray.errors import JudgeError

LOCAL_PROVIDERS = ("hf", "vllm", "sglang", "transformer_lens", "nnterp")
"""Providers of Inspect that load weights by a folder or a hub name; one with an address asks a server instead."""
_WEIGHTS = (".safetensors", ".bin", ".gguf")
_CONTENT = (*_WEIGHTS, ".json", ".jinja", ".model", ".txt")
"""Endings of the files that make up a model."""


def folders_of(grader: str, arguments: Mapping[str, Any], *, served: bool) -> list[Path]:
    """Return the folders that a grader's provider loads from.

    Args:
        grader: its Inspect name, such as hf/OWNER/NAME.
        arguments: what the provider was given.
        served: whether it has an address, so that weights may run elsewhere.

    Raises:
        JudgeError: its weights are here under a hub name, and are not in the cache.
    """
    provider, _, name = grader.partition("/")
    # Named folders stand in for the name: hf/local with model_path=... is Inspect's own form.
    named = [arguments.get(argument) for argument in ("model_path", "tokenizer_path", "tokenizer")]
    found = [Path(folder) for folder in (name, *named) if isinstance(folder, str) and _is_model(Path(folder))]
    if found or served or provider not in LOCAL_PROVIDERS:
        return found
    hub_name = arguments.get("model_path") or name
    return [_cached(grader, str(hub_name), arguments.get("revision"))]


def content_of(folder: Path) -> str:
    """Return a hash over the weights, settings and tokenizer files of a folder."""
    files = sorted(path for path in folder.iterdir() if path.suffix in _CONTENT and path.is_file())
    content = {
        path.name: _file_content(path, (stat := path.stat()).st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        for path in files
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _is_model(folder: Path) -> bool:
    return any((folder / file).is_file() for file in ("config.json", "tokenizer_config.json"))


def _cached(grader: str, name: str, revision: object) -> Path:
    # Imported here: no judge but these needs the hub.
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(name, "config.json", revision=str(revision) if revision else None)
    except HFValidationError:
        file = None
    if isinstance(file, str) and any(path.suffix in _WEIGHTS for path in Path(file).parent.iterdir()):
        return Path(file).parent
    raise JudgeError(
        f"The model {grader!r} runs here, and its weights are neither in a folder {name!r} nor in the cache of the "
        "hub: what it says would be known by its name alone, whatever weights said it. Download it first "
        f"(hf download {name}), or name its folder: {grader.partition('/')[0]}/path/to/folder."
    )


@lru_cache(maxsize=256)
def _file_content(path: Path, _size: int, _modified: int, _changed: int, _inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
