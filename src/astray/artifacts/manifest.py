"""Manifest of an artifact: the origin that made it, hashed to its key, and the files that belong to it.

A manifest holds no times, hosts or process numbers, so the same step leaves the same bytes wherever and whenever it runs.
Leaves to others: where artifacts lie (store.py, mirror.py) and how a step is built from Python (step.py).
"""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from astray.errors import DataFormatError, StoreError

MANIFEST_FILE = "artifact.json"
KEY_DIGITS = 16
"""Digits of the key in an artifact's folder name."""


def canonical_json(value: object) -> str:
    """Return a value as JSON with sorted keys and without spaces: equal values give equal text.

    Raises:
        ValueError: the value holds NaN or infinity, which JSON cannot express.
        TypeError: the value holds something that is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def readable(name: str) -> str:
    """Return a step's name as it stands in folder names: safe for any file system."""
    return re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-.")[:60] or "step"


class Origin(BaseModel):
    """Everything that determines an artifact: a function at a declared version, its configuration and its inputs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="name of the step, for people; not part of the key")
    function: str = Field(description="registered name of the function; of older artifacts where it lay, as module:qualified.name")
    version: int = Field(description="declared version of the function's code")
    config: dict[str, JsonValue] = Field(description="the configuration as JSON")
    inputs: dict[str, str] = Field(description="key of each input artifact by its name")

    @property
    def key(self) -> str:
        """SHA-256 (hexadecimal) over everything that determines the artifact's content."""
        return hashlib.sha256(canonical_json(self.model_dump(exclude={"name"})).encode()).hexdigest()

    @property
    def folder_name(self) -> str:
        """Name of the artifact's folder: the step's name, made safe for any file system, and 16 digits of the key."""
        return f"{readable(self.name)}-{self.key[:KEY_DIGITS]}"


class FileRecord(BaseModel):
    """Size in bytes and SHA-256 of one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int
    sha256: str


class Manifest(BaseModel):
    """Content of artifact.json: origin, key and every file by its path inside the folder.

    `formerly` is the key that the step had when its function was registered under another name. `provisional` says what
    the step has left to try in the next execution; empty for nearly all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    origin: Origin
    files: dict[str, FileRecord]
    formerly: str | None = None
    provisional: str = ""

    def to_bytes(self) -> bytes:
        """Return the bytes of artifact.json, the same for the same content."""
        shown = self.model_dump(mode="json", exclude={name for name in ("formerly", "provisional") if not getattr(self, name)})
        return (json.dumps(shown, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes, where: str | Path) -> "Manifest":
        """Parse the manifest that was read at `where`.

        Raises:
            StoreError: it is not a manifest, or its key is not the hash of its origin.
        """
        try:
            manifest = cls.model_validate_json(content)
        except ValidationError as error:
            raise damaged(where, f"{MANIFEST_FILE} is not a manifest ({error.errors()[0]['msg']})") from error
        if manifest.key != manifest.origin.key:
            raise damaged(where, f"{MANIFEST_FILE} was changed (its key is not the hash of its origin)")
        return manifest


def damaged(where: str | Path, reason: str) -> StoreError:
    """Return the error for an artifact that differs from its manifest."""
    where = str(where)
    remedy = "Remove that folder" if "://" in where else f"Remove it with: rm -r '{where}'"
    return StoreError(f"The artifact {where} is damaged: {reason}. {remedy}, and run again: the step is then done anew.")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hexadecimal) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, origin: Origin, provisional: str = "") -> Manifest:
    """Flush every file of a folder to disk, then write its manifest, always the last file of an artifact.

    Args:
        folder: the folder with the files.
        origin: of the artifact.
        provisional: what the step has left to try.

    Raises:
        DataFormatError: the folder holds a link, a socket or a file with the manifest's name.
        OSError: a file cannot be flushed or written.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() and not path.is_symlink():
            _flush(path)
            continue
        if path.is_symlink() or not path.is_file() or name == MANIFEST_FILE:
            raise DataFormatError(
                f"The step {origin.name!r} left {name!r}, which cannot be kept: an artifact has regular files only (no links), "
                f"none of them called {MANIFEST_FILE}. Let the step copy what the link points to."
            )
        _flush(path)
        files[name] = FileRecord(size=path.stat().st_size, sha256=file_sha256(path))
    manifest = Manifest(key=origin.key, origin=origin, files=files, provisional=provisional)
    _write_manifest(folder, manifest)
    return manifest


def link_files(source: Path, folder: Path, manifest: Manifest) -> None:
    """Fill an empty folder with the files of an artifact and another manifest.

    Files are hard-linked, which takes no space, and copied where the file system has no links. Removing either folder
    leaves the other whole.

    Args:
        source: folder of the artifact.
        folder: the empty one.
        manifest: lists the files.
    """
    for name in manifest.files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.hardlink_to(source / name)
        except OSError:
            shutil.copyfile(source / name, path)
            _flush(path)
    # A rename is durable only if the entries of the folder are on disk as well, so folders are flushed like files.
    for path in folder.rglob("*"):
        if path.is_dir():
            _flush(path)
    _write_manifest(folder, manifest)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a local artifact, and check that every file exists with its recorded size.

    Raises:
        StoreError: the artifact is damaged; the message names it and says how to remove it.
    """
    try:
        content = (folder / MANIFEST_FILE).read_bytes()
    except FileNotFoundError as error:
        raise damaged(folder, f"{MANIFEST_FILE} is missing") from error
    except OSError as error:
        raise StoreError(f"The artifact {folder} cannot be read: {error.strerror}. Give this user the right to read it.") from error
    manifest = Manifest.from_bytes(content, folder)
    for name, record in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise damaged(folder, f"{name} is missing")
        if path.stat().st_size != record.size:
            raise damaged(folder, f"{name} has {path.stat().st_size} bytes instead of {record.size}")
    return manifest


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    _flush(folder / MANIFEST_FILE)
    _flush(folder)


def move_into_place(folder: Path, final: Path) -> None:
    """Rename a complete folder to its final name and flush the rename to disk."""
    folder.rename(final)
    _flush(final.parent)


def _flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, from the system's memory to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
