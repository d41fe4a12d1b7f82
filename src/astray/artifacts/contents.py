"""Contents of a store: its artifacts, whether they are intact, and where their files are.

Leaves to others: making, replacing and removing artifacts (store.py).
"""

import contextlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from astray.artifacts import bucket_locks
from astray.artifacts.bucket_locks import LOCKS
from astray.artifacts.disk import explained, locked, move_aside, no_link
from astray.artifacts.manifest import (
    KEY_DIGITS,
    Manifest,
    Origin,
    holds,
    move_into_place,
    read_manifest,
    readable,
)
from astray.artifacts.mirror import NAMES, Mirror, default_cache
from astray.artifacts.soundness import DAMAGED, check_files, damaged
from astray.errors import DamagedArtifactError, StoreError

PARTIAL = ".partial-"
OWNER = ".owner"
"""File of a cache folder with a name for it."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""On Linux, a name of this machine's present run."""
DIGITS = re.compile(f"[0-9a-f]{{{KEY_DIGITS}}}")


@dataclass(frozen=True)
class Artifact:
    """Artifact of a finished step.

    Attributes:
        manifest: its origin (function, version, configuration, inputs) and its files with sizes and checksums.
        store: the store that holds it.
    """

    manifest: Manifest
    store: "Contents" = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """SHA-256 over everything that determined the content."""
        return self.manifest.key

    @property
    def name(self) -> str:
        """Name of the step that made it."""
        return self.manifest.origin.name

    @property
    def path(self) -> Path:
        """Local folder with its verified files; of a remote store it is downloaded at first use.

        Raises:
            DamagedArtifactError: a file differs from what the step wrote.
            StoreError: the artifact cannot be downloaded.
        """
        return self.store.fetch(self.manifest)


class Contents:
    """Artifacts by key, in a local folder or behind any fsspec URL.

    Args:
        root: a folder, created with the first artifact, or an fsspec URL such as "s3://bucket/runs".
        cache: for a remote root, the local folder in which artifacts are made and to which they are downloaded; by
            default one of its own under ~/.cache/astray.

    Raises:
        StoreError: the root is a file.
    """

    def __init__(self, root: str | Path, cache: Path | None = None):
        self.root = str(root)
        if not self.root.removeprefix("file://").strip():
            raise StoreError(
                f"The store {self.root!r} has no name. Write a folder ('.' for this one), or leave it out."
            )
        self.mirror: Mirror | None = None
        if "://" not in self.root:
            self.folder = Path(self.root).expanduser().absolute()
        elif self.root.startswith("file://"):
            self.folder = Path(self.root.removeprefix("file://")).absolute()
        else:
            self.root = self.root.rstrip("/")
            self.mirror = Mirror(self.root)
            self.folder = cache or default_cache(self.root)
        with self._explained(every_error=True):
            is_file = self.folder.is_file()
            if "\0" in self.root or any("\ud800" <= sign < "\udc80" for sign in self.root):
                raise StoreError(f"{self.root!r} can be no folder. Give a name that the file system can hold.")
        if is_file:
            raise StoreError(
                f"{self.folder} is a file; results need a folder. Give the name of a folder, or of one that is yet "
                "to be made."
            )

    def get(self, key: str, *former_keys: str, among: Mapping[str, Sequence[str]] | None = None) -> Artifact | None:
        """Return the artifact with this key, or None where the step was not done yet.

        Args:
            key: of the step.
            former_keys: keys of the same step in older stores, looked up where there is no artifact with `key`.
            among: one listing for many lookups, as `by_digits` gives it.

        Raises:
            DamagedArtifactError: there is only one that is not what its step wrote; `put_aside` moves it out of the
                way.
            StoreError: the store cannot be read.
        """
        artifact, damage = self.search(key, *former_keys, among=among)
        if artifact is None and damage:
            raise damage[0]
        return artifact

    def search(
        self, key: str, *former_keys: str, among: Mapping[str, Sequence[str]] | None = None
    ) -> tuple[Artifact | None, tuple[DamagedArtifactError, ...]]:
        """Return what `get` returns, and each damaged artifact found in its place."""
        damage = []
        entries = self._entries() if among is None else ()
        for wanted in (key, *former_keys):
            last = wanted[:KEY_DIGITS]
            listed = (name for name in entries if name.endswith(f"-{last}")) if among is None else among.get(last, ())
            for name in sorted(listed):
                if not name.startswith("."):
                    try:
                        artifact = self._open(name, content=True)
                    except DamagedArtifactError as error:
                        damage.append(error)
                        continue
                    if artifact is not None and artifact.key == wanted:
                        return artifact, tuple(damage)
        return None, tuple(damage)

    def finished(self, origins: Sequence[Origin]) -> dict[str, Artifact]:
        """Return the artifacts of a remote store that have the names of these origins, by key, without listing the store;
        of a folder none, where a listing costs nothing."""
        if self.mirror is None:
            return {}
        found = self.mirror.manifests([origin.folder_name for origin in origins])
        return {manifest.key: Artifact(manifest, self) for manifest in found.values()}

    def by_digits(self) -> dict[str, list[str]]:
        """Return the names of everything that may be an artifact by the first digits of its key, from one listing."""
        names: dict[str, list[str]] = {}
        for name in self._folder_names():
            names.setdefault(digits(name), []).append(name)
        return names

    def since(self, origin: Origin, listed: Sequence[str]) -> dict[str, list[str]]:
        """Return what `by_digits` would for one step, without listing the store again.

        Args:
            origin: of the step.
            listed: names with its digits in an earlier listing. Of what was made since, the name was noted.
        """
        last = origin.key[:KEY_DIGITS]
        if self.mirror:
            noted = self.mirror.noted_name(last)
        else:
            try:
                noted = no_link(no_link(self.folder / NAMES) / last).read_text(encoding="utf-8", errors="replace")
            except OSError:
                noted = ""
        known = {*listed, origin.folder_name}
        if digits(noted) == last and "/" not in noted and not noted.startswith("."):
            known.add(noted)
        return {last: [name for name in known if self.mirror or os.path.lexists(self.folder / name)]}

    def locked(self) -> set[str]:
        """Return the first digits of the keys of steps that are running now."""
        held = set()
        for path in (self.folder / LOCKS).glob("*"):
            with self._locked(path.name, wait=False) as free:
                held |= set() if free else {path.name}
        return held

    def find(self, text: str) -> tuple[Artifact, ...]:
        """Return the artifacts whose step name, folder name or key starts with this text, ordered by name."""
        names = [
            name
            for name in self._folder_names()
            if name.startswith(readable(text)) or digits(name).startswith(text[:KEY_DIGITS])
        ]
        return self._opened(names)[0]

    def artifacts(self) -> tuple[Artifact, ...]:
        """Return all finished artifacts, ordered by name; damaged ones are left out."""
        return self._opened(self._folder_names())[0]

    def damage(self, *, content: bool = True) -> tuple[DamagedArtifactError, ...]:
        """Return what is wrong with each damaged artifact; with `content` every file is read."""
        return self._opened(self._folder_names(), content=content)[1]

    def fetch(self, manifest: Manifest) -> Path:
        """Return the local folder of a finished artifact, downloaded if the store is remote and this machine lacks it.

        Raises:
            StoreError: the artifact is damaged or cannot be downloaded.
        """
        final = self.folder / manifest.origin.folder_name
        if self.mirror is None:
            if final.is_symlink():
                raise damaged(final, "it is a link")
            check_files(final, manifest.files, content=True)
            return final
        if holds(final, manifest):
            return final
        with self._locked(manifest.key, wait=True):
            if not holds(final, manifest):  # another process may just have downloaded it
                with self._partial(manifest.origin) as partial, self._explained(every_error=True):
                    try:
                        self.mirror.download(manifest, partial)
                    except DamagedArtifactError:
                        self.mirror.put_aside(final.name)
                        raise
                    self._clear(final)
                    move_into_place(partial, final)
        return final

    def _clear(self, final: Path) -> None:
        """Remove a cached copy that the remote store no longer has or has replaced; move a damaged one aside."""
        try:
            if final.exists():
                read_manifest(final, content=True)
        except DamagedArtifactError:
            move_aside(final, self.folder / DAMAGED)
        else:
            shutil.rmtree(final, ignore_errors=True)

    @contextlib.contextmanager
    def _partial(self, origin: Origin) -> Iterator[Path]:
        """Yield a new partial folder of a step whose lock is held; it is removed unless it was moved into place."""
        partial = self.folder / f"{PARTIAL}{origin.key[:KEY_DIGITS]}-{os.getpid()}-{secrets.token_hex(4)}"
        with self._explained(every_error=True):
            partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _entries(self) -> list[str]:
        """Return the names of everything in the store."""
        return self.mirror.folder_names() if self.mirror else self._local_names()

    def _local_names(self) -> list[str]:
        """Return the names of everything in the local folder, in no order."""
        try:
            return os.listdir(self.folder)  # noqa: PTH208 - many times quicker in a store of 100,000 artifacts
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(
                f"The store {self.folder} cannot be read: {error.strerror}. Give a folder that this user may read, "
                "or one that can be made."
            ) from error

    def _folder_names(self) -> list[str]:
        """Return the names of folders that may hold an artifact; everything else in the store is left alone."""
        return sorted(
            name
            for name in self._entries()
            if not name.startswith(".") and "-" in name and DIGITS.fullmatch(digits(name))
        )

    def _open(self, folder_name: str, *, content: bool) -> Artifact | None:
        """Return the artifact in a folder; None for a remote folder whose manifest was not written."""
        manifest = (
            self.mirror.manifest(folder_name)
            if self.mirror
            else read_manifest(self.folder / folder_name, content=content)
        )
        return Artifact(manifest, self) if manifest else None

    def _opened(
        self, folder_names: Sequence[str], *, content: bool = False
    ) -> tuple[tuple[Artifact, ...], tuple[DamagedArtifactError, ...]]:
        """Return the artifacts in these folders that have no newer key, and the damaged ones."""
        found, damage = [], []
        for name in folder_names:
            try:
                found += [artifact] if (artifact := self._open(name, content=content)) else []
            except DamagedArtifactError as error:
                damage.append(error)
        carried_over = {artifact.manifest.formerly for artifact in found}
        return tuple(artifact for artifact in found if artifact.key not in carried_over), tuple(damage)

    @contextlib.contextmanager
    def _locked(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Hold a step's lock; yield False if another process holds it and `wait` is false."""
        with locked(self.folder / LOCKS / key[:KEY_DIGITS], self.folder, wait=wait) as held:
            yield held

    @contextlib.contextmanager
    def _locked_everywhere(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Hold a step's lock as `_locked` does, on all machines that share a remote store."""
        with self._locked(key, wait=wait) as held:
            if not (held and self.mirror):
                yield held
                return
            with bucket_locks.locked(self.mirror, key[:KEY_DIGITS], self._owner(), wait=wait) as held_there:
                yield held_there

    def _owner(self) -> str:
        """Return a name of this machine and its cache folder that no other one has: copies of the folder stay apart."""
        with self._explained(every_error=True):
            file = no_link(self.folder / OWNER)
            if not file.is_file() or not file.stat().st_size:
                new = file.with_name(f"{OWNER}.{secrets.token_hex(8)}")
                new.write_text(secrets.token_hex(8), encoding="utf-8")
                new.replace(file)
            cache = file.read_text(encoding="utf-8", errors="replace")
        boot = BOOT_ID.read_text(encoding="utf-8").strip() if BOOT_ID.is_file() else ""
        return f"{socket.gethostname()} {boot} {self.folder.resolve()} {cache}"

    def _explained(self, *, every_error: bool) -> contextlib.AbstractContextManager[None]:
        return explained(self.folder, every_error=every_error)


def digits(folder_name: str) -> str:
    """Return the digits of the key at the end of a folder name."""
    return folder_name.rsplit("-", 1)[-1]
