"""Manifest of an artifact: the origin that made it, hashed to its key, and the files that belong to it.

A manifest holds no times, hosts or process numbers, so the same step leaves the same bytes wherever and whenever it
runs. Leaves to others: where artifacts lie (store.py, mirror.py) and how a step is built from Python (step.py).
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator
from typing_extensions import override

from astray.artifacts.soundness import (
    MANIFEST_FILE,
    FileRecord,
    Sha256,
    check_file_names,
    check_files,
    damaged,
    file_sha256,
    why_no_file_name,
)
from astray.errors import DamagedArtifactError, DataFormatError, StoreError
from astray.strict import Frozen

KEY_DIGITS = 16
"""Digits of the key in an artifact's folder name."""
_OFTEN = 1.0
"""Seconds between two flushes of the names in a store."""
_FLUSHED: dict[Path, float] = {}
"""Store's folder -> when this process last flushed its names."""


def canonical_json(value: object) -> str:
    """Return a value as JSON with sorted keys and without spaces: equal values give equal text.

    Raises:
        ValueError: the value holds NaN or infinity, which JSON cannot express.
        TypeError: the value holds something that is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def readable(name: str) -> str:
    """Return a step's name as used in folder names: safe for any file system."""
    return re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-.")[:60] or "step"


def key_text(config: str, function: str, version: int, inputs: Mapping[str, str]) -> str:
    """Return the canonical JSON of everything that determines an artifact's content, given that of its configuration.

    A step has up to four keys of one configuration, which is nearly all of the text and takes longest to write.
    """
    others = canonical_json({"function": function, "inputs": dict(inputs), "version": version})
    return f'{{"config":{config},{others[1:]}'


def key_of(text: str) -> str:
    """Return the key of an artifact: SHA-256 (hexadecimal) of that text."""
    return hashlib.sha256(text.encode()).hexdigest()


class Origin(Frozen):
    """Everything that determines an artifact: a function at a declared version, its configuration and its inputs."""

    name: str = Field(min_length=1, description="name of the step, for people; not part of the key")
    function: str = Field(
        description="registered name of the function; of older artifacts where it lay, as module:qualified.name"
    )
    version: int = Field(description="declared version of the function's code")
    config: dict[str, Any] = Field(description="the configuration as JSON")
    keyed: dict[str, Any] = Field(
        {}, description="entries of the configuration as the key holds them, without the places of files"
    )
    inputs: dict[str, str] = Field(description="key of each input artifact by its name")

    @cached_property
    def key(self) -> str:
        """SHA-256 (hexadecimal) over everything that determines the artifact's content."""
        return key_of(self.text)

    @property
    def text(self) -> str:
        """Everything that determines the artifact's content, as the text that its key is made of."""
        return key_text(canonical_json(self.config | self.keyed), self.function, self.version, self.inputs)

    @override
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> "Origin":
        """Return a copy with other values, and therefore with another key."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("key", None)
        return copied

    @property
    def folder_name(self) -> str:
        """Name of the artifact's folder: the step's name, made safe for any file system, and 16 digits of the key."""
        return f"{readable(self.name)}-{self.key[:KEY_DIGITS]}"


class Manifest(Frozen):
    """Content of artifact.json: origin, key and every file by its path inside the folder.

    `formerly` is the key that the step had when its function was registered under another name. `provisional` says what
    the step has left to try in the next execution; empty for nearly all. `read` holds the content of each input that a
    provisional artifact was made from, so that it is made again only if one of them changed.
    """

    key: Sha256
    origin: Origin
    files: dict[str, FileRecord]
    formerly: Sha256 | None = None
    provisional: str = ""
    read: dict[str, str] = Field(default={})

    @field_validator("files")
    @classmethod
    def _stays_inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        check_file_names(files)
        return files

    def to_bytes(self) -> bytes:
        """Return the bytes of artifact.json, the same for the same content."""
        shown = self.model_dump(
            mode="json", exclude={name for name in ("formerly", "provisional", "read") if not getattr(self, name)}
        )
        if not self.origin.keyed:
            del shown["origin"]["keyed"]
        return (json.dumps(shown, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()

    @property
    def content(self) -> str:
        """SHA-256 over names and hashes of all files: equal for equal content, whatever made it."""
        return hashlib.sha256(
            canonical_json({name: record.sha256 for name, record in self.files.items()}).encode()
        ).hexdigest()

    @classmethod
    def from_bytes(cls, content: bytes, where: str | Path) -> "Manifest":
        """Parse the manifest that was read at `where`.

        Raises:
            StoreError: it is not a manifest, or its key is not the hash of its origin.
        """
        try:
            manifest = cls.model_validate_json(content)
            key = manifest.origin.key
        except ValidationError as error:
            raise damaged(where, f"{MANIFEST_FILE} is not a manifest ({error.errors()[0]['msg']})") from error
        except (ValueError, RecursionError) as error:
            # A configuration that has no canonical form: NaN, a number of 5,000 digits.
            raise damaged(where, f"{MANIFEST_FILE} is not a manifest ({error})") from error
        if manifest.key != key:
            raise damaged(where, f"{MANIFEST_FILE} was changed (its key is not the hash of its origin)")
        return manifest


def seal(
    folder: Path,
    origin: Origin,
    provisional: str = "",
    read: Mapping[str, str] | None = None,
    *,
    durable: bool = True,
) -> Manifest:
    """Flush every file of a folder to disk, then write its manifest, always the last file of an artifact.

    Args:
        folder: the folder with the files.
        origin: of the artifact.
        provisional: what the step has left to try.
        read: content of its inputs; kept for a provisional artifact.
        durable: whether it has to survive a power cut; else nothing is flushed, and what a cut damages is known as
            damaged and made again.

    Raises:
        DataFormatError: the folder holds a link, a socket or a file with a name that cannot be kept.
        OSError: a file cannot be flushed or written.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            if durable:
                flush(path)
            continue
        if path.is_symlink() or not path.is_file() or why_no_file_name(name):
            raise DataFormatError(
                f"The step {origin.name!r} left {name!r}, which cannot be kept: an artifact has regular files only "
                "(no links), with names without backslashes and control characters, none of them called "
                f"{MANIFEST_FILE}. Let the step copy what the link points to."
            )
        if durable:
            flush(path)
        files[name] = FileRecord(size=path.stat().st_size, sha256=file_sha256(path))
    manifest = Manifest(
        key=origin.key,
        origin=origin,
        files=files,
        provisional=provisional,
        read=dict(read or {}) if provisional else {},
    )
    _write_manifest(folder, manifest, durable=durable)
    return manifest


def link_files(source: Path, folder: Path, manifest: Manifest) -> None:
    """Fill an empty folder with the files of an artifact and another manifest.

    Files are hard-linked, which takes no space, and copied where the file system has no links. Removing either folder
    leaves the other whole.
    """
    for name in manifest.files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.hardlink_to(source / name)
        except OSError:
            shutil.copyfile(source / name, path)
            flush(path)
    # A rename is durable only if the entries of the folder are on disk as well, so folders are flushed like files.
    for path in folder.rglob("*"):
        if path.is_dir():
            flush(path)
    _write_manifest(folder, manifest)


def read_manifest(folder: Path, *, content: bool) -> Manifest:
    """Read the manifest of a local artifact, and check every file that it lists.

    Raises:
        DamagedArtifactError: the artifact is not what was written, or a link.
        StoreError: it cannot be read.
    """
    path = folder / MANIFEST_FILE
    if folder.is_symlink() or path.is_symlink():
        raise damaged(folder, f"{'it' if folder.is_symlink() else MANIFEST_FILE} is a link")
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise damaged(folder, f"{MANIFEST_FILE} is missing") from error
    except OSError as error:
        raise StoreError(
            f"The artifact {folder} cannot be read: {error.strerror}. Give this user the right to read it."
        ) from error
    manifest = Manifest.from_bytes(text, folder)
    if manifest.origin.folder_name != folder.name:
        raise damaged(folder, f"its folder should be called {manifest.origin.folder_name}")
    check_files(folder, manifest.files, content=content)
    return manifest


def holds(folder: Path, manifest: Manifest) -> bool:
    """Return whether a local folder is the artifact with this manifest, whole."""
    try:
        return folder.is_dir() and read_manifest(folder, content=True) == manifest
    except DamagedArtifactError:
        return False


def _write_manifest(folder: Path, manifest: Manifest, *, durable: bool = True) -> None:
    (folder / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    # The folder's own entries need no flush, which took a third of a short step's time: file systems write a new file
    # with its entry, and an artifact that lacks a file is known as damaged and made again.
    if durable:
        flush(folder / MANIFEST_FILE)


def move_into_place(folder: Path, final: Path) -> None:
    """Rename a complete folder to its final name, and flush renames to disk once a second.

    A power cut costs the steps of the last second; they are made again.
    """
    folder.rename(final)
    if time.monotonic() - _FLUSHED.get(final.parent, -_OFTEN) >= _OFTEN:
        flush(final.parent)
        _FLUSHED[final.parent] = time.monotonic()


def flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, from the system's memory to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
