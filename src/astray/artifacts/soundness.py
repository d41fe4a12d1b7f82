"""Check artifacts when they are used: names, kinds, sizes and SHA-256 of their files. No link is ever followed.

Hashes are computed once a process, and again for files whose size, times or inode changed since. Left to others: what
becomes of a damaged artifact (store.py, execute.py).
"""

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field

from astray.errors import ConfigurationError, DamagedArtifactError, StoreError
from astray.strict import Frozen

MANIFEST_FILE = "artifact.json"
DAMAGED = ".damaged"
"""Folder of artifacts that were moved aside."""
LONGEST_PART, LONGEST_NAME = 255, 1024
"""Maximum number of bytes of a file's name, and of its path in an artifact, on common file systems."""
_FRESH_NS = 100_000_000
"""Age below which a file's times cannot show a further change: clocks of file systems tick every few milliseconds."""
_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Stamp = tuple[int, int, int, int, int]
_HASHED: dict[str, tuple[Stamp, str]] = {}
"""Path -> its stamp when it was hashed by this process, and the hash."""


_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FileRecord(Frozen):
    """Size in bytes and SHA-256 of one file."""

    size: int = Field(ge=0)
    sha256: Sha256


def damaged(where: str | Path, reason: str) -> DamagedArtifactError:
    """Return the error for an artifact that differs from its manifest."""
    beside = f"moves it into {DAMAGED} beside it, where you may look at it, and does the step anew."
    remedy = f"Run the same again: that {beside}" if "://" in str(where) else f"The next run {beside}"
    return DamagedArtifactError(f"The artifact {where} is damaged: {reason}. {remedy}", Path(where))


def why_no_file_name(name: str) -> str:
    """Return why a path cannot be that of a file within an artifact; "" where it can."""
    if not name or name.startswith("/") or _DRIVE.match(name):
        return "is no path inside the artifact"
    if "\\" in name or _CONTROL.search(name):
        return "holds a backslash or a control character"
    try:
        parts = [part.encode() for part in name.split("/")]
    except UnicodeEncodeError:
        return "is not UTF-8"
    if any(part in (b"", b".", b"..") for part in parts):
        return "does not stay inside the artifact"
    if max(map(len, parts)) > LONGEST_PART or sum(map(len, parts)) + len(parts) > LONGEST_NAME:
        return "is too long"
    return "is the manifest's own name" if name == MANIFEST_FILE else ""


def is_plain(name: str) -> bool:
    """Return whether a name can be that of a file or folder on any system, and leads nowhere else."""
    return _PLAIN.fullmatch(name) is not None and not name.endswith(".")


def check_plain(kind: str, name: str) -> None:
    """Refuse a name that becomes part of a path and could lead elsewhere.

    Raises:
        ConfigurationError: names it.
    """
    if not is_plain(name):
        raise ConfigurationError(
            f"{name[:80]!r} cannot be the name of a {kind}, since files are kept under it. Write letters, digits, "
            "dots, hyphens and underscores, beginning with a letter or digit."
        )


def check_file_names(names: Iterable[str]) -> None:
    """Refuse names of files that do not stay within an artifact, or of which one is a folder of another.

    Raises:
        ValueError: names the first of them.
    """
    names = set(names)
    for name in sorted(names):
        if why := why_no_file_name(name):
            raise ValueError(f"the file name {name[:80]!r} {why}")
        if inside := next((str(parent) for parent in PurePosixPath(name).parents if str(parent) in names), None):
            raise ValueError(f"{inside[:80]!r} is a file and a folder")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hexadecimal) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(folder: Path, files: Mapping[str, FileRecord], *, content: bool) -> None:
    """Check that every file of a local artifact is a regular one, with its recorded size and hash.

    Args:
        folder: of the artifact.
        files: path inside the folder -> record; the names have been checked.
        content: whether to compare hashes as well.

    Raises:
        DamagedArtifactError: a file is missing, a link, or another one than was recorded.
        StoreError: a file cannot be read.
    """
    looked_at: set[Path] = set()
    for name, record in files.items():
        path = folder / name
        try:
            _check_folders(path.parent, folder, looked_at)
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode):
                raise damaged(folder, f"{name} is {'a link' if stat.S_ISLNK(status.st_mode) else 'no regular file'}")
            if status.st_size != record.size:
                raise damaged(folder, f"{name} has {status.st_size} bytes instead of {record.size}")
            if content and _hash_of(path, status) != record.sha256:
                raise damaged(folder, f"{name} differs from its checksum")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise damaged(folder, f"{name} is missing") from error
        except PermissionError as error:
            raise StoreError(
                f"The artifact {folder} cannot be read: {error.strerror}. Give this user the right to read it."
            ) from error
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            # As on a failing disk.
            raise damaged(folder, f"{name} cannot be read ({error.strerror or error})") from error


def _check_folders(parent: Path, folder: Path, looked_at: set[Path]) -> None:
    """Refuse a folder within an artifact that is a link, with all the folders above it."""
    while parent not in looked_at:
        looked_at.add(parent)
        if parent.is_symlink():
            raise damaged(folder, f"{parent.relative_to(folder.parent).as_posix()} is a link")
        if parent == folder:
            return
        parent = parent.parent


def _hash_of(path: Path, status: os.stat_result) -> str:
    stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
    known = _HASHED.get(str(path))
    if known is not None and known[0] == stamp:
        return known[1]
    digest = file_sha256(path)
    # The time of the last change of any kind cannot be set back, unlike that of the last writing.
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _FRESH_NS:
        _HASHED[str(path)] = (stamp, digest)
    return digest
