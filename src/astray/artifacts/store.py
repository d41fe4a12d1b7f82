"""Store of artifacts: a folder in which each is complete or absent, never half.

    runs/train-3f2a0c9d1b7e4a55/          an artifact: the files that a step wrote and artifact.json
    runs/.partial-3f2a0c9d1b7e4a55-.../   a running step, or leftovers of a killed process (removed by the next one)
    runs/.unfinished/3f2a0c9d1b7e4a55/    a running resumable step, or one that was killed or failed (continued)
    runs/.locks/3f2a0c9d1b7e4a55          held while a step runs

A step writes to a partial folder; its files are flushed to disk, the manifest is written last and the folder is
renamed. Several processes may share a store. While one runs a step it holds that step's lock, which the system frees
however the process ends, so a lock is never stale; the rename alone would already keep the store whole. The root may be
any fsspec URL: artifacts are then made in a local cache folder and uploaded (mirror.py).
Leaves to others: what a step is (step.py) and running many of them (execute.py).
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from astray.artifacts.manifest import (
    KEY_DIGITS,
    MANIFEST_FILE,
    Manifest,
    Origin,
    damaged,
    file_sha256,
    link_files,
    move_into_place,
    read_manifest,
    readable,
    seal,
)
from astray.artifacts.mirror import Mirror
from astray.errors import StoreError

_PARTIAL = ".partial-"
_UNFINISHED = ".unfinished"
_LOCKS = ".locks"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Artifact:
    """Artifact of a finished step.

    Attributes:
        manifest: its origin (function, version, configuration, inputs) and its files with sizes and checksums.
        store: the store that holds it.
    """

    manifest: Manifest
    store: "Store" = field(repr=False, compare=False)

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
        """Local folder with its files; an artifact of a remote store is downloaded when this is first accessed.

        Raises:
            StoreError: the artifact is damaged or cannot be downloaded.
        """
        return self.store.fetch(self.manifest)

    def verify(self) -> None:
        """Read every file and compare its checksum.

        Raises:
            StoreError: a file differs from what the step wrote.
        """
        folder = self.path
        for name, record in self.manifest.files.items():
            if file_sha256(folder / name) != record.sha256:
                raise damaged(folder, f"{name} differs from its checksum")


class Store:
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
        self.mirror: Mirror | None = None
        if "://" not in self.root:
            self.folder = Path(self.root).expanduser().absolute()
        elif self.root.startswith("file://"):
            self.folder = Path(self.root.removeprefix("file://")).absolute()
        else:
            self.root = self.root.rstrip("/")
            self.mirror = Mirror(self.root)
            self.folder = cache or _default_cache(self.root)
        with self._explained(every_error=True):
            is_file = self.folder.is_file()
        if is_file:
            raise StoreError(f"{self.folder} is a file; results need a folder. Give the name of a folder, or of one that is yet to be made.")

    def get(self, key: str, former_key: str | None = None) -> Artifact | None:
        """Return the artifact with this key, or None where the step was not done yet.

        Args:
            key: of the step.
            former_key: key of the same step in older stores, looked up where there is no artifact with `key`.

        Raises:
            StoreError: the artifact is damaged (a file is missing or has another size). Nothing is removed or made
                again automatically: a damaged result may be the only copy, and a sign of a failing disk.
        """
        entries = self._entries()
        for wanted in (key, former_key):
            for name in entries:
                if wanted is not None and name.endswith(f"-{wanted[:KEY_DIGITS]}"):
                    artifact = self._open(name)
                    if artifact is not None and artifact.key == wanted:
                        return artifact
        return None

    def adopt(self, former: Artifact, origin: Origin) -> Artifact:
        """Carry an artifact over to the present key of its step.

        The old folder stays: registered runs and adapters trained on it name it, and a process of an older version may
        be reading it. `find` and `artifacts` omit it from then on.

        Args:
            former: the artifact, under an older key of the step.
            origin: present origin of the step.

        Raises:
            StoreError: the artifact is damaged, the disk is full or the store cannot be written.
        """
        with self._locked(origin.key, wait=True):
            if done := self.get(origin.key):  # another process may just have carried it over
                return done
            manifest = Manifest(key=origin.key, origin=origin, files=former.manifest.files, formerly=former.key)
            with self._partial(origin) as partial, self._explained(every_error=True):
                if self.mirror:
                    self.mirror.copy(former.manifest, manifest)
                source, final = self.folder / former.manifest.origin.folder_name, self.folder / origin.folder_name
                if self.mirror is None or _holds(source, former.manifest):
                    link_files(source, partial, manifest)
                    shutil.rmtree(final, ignore_errors=True)  # a cached copy of what the remote store no longer has
                    move_into_place(partial, final)
        return Artifact(manifest, self)

    def find(self, text: str) -> tuple[Artifact, ...]:
        """Return the artifacts whose step name, folder name or key starts with this text, ordered by name."""
        names = [name for name in self._folder_names() if name.startswith(readable(text)) or _digits(name).startswith(text[:KEY_DIGITS])]
        return self._opened(names)

    def artifacts(self) -> tuple[Artifact, ...]:
        """Return all finished artifacts, ordered by name."""
        return self._opened(self._folder_names())

    def make(
        self,
        origin: Origin,
        write: Callable[[Path], str | None],
        *,
        wait: bool = True,
        resumable: bool = False,
        begins_with: Sequence[str] = (),
    ) -> Artifact | None:
        """Return the artifact of this origin: the existing one, or else the one that `write` now makes.

        A provisional one is made again and stays in place until the new one is complete.

        Args:
            origin: everything that determines the artifact.
            write: gets a folder and fills it; returns what it has left to try, which makes the artifact provisional.
            wait: whether to wait while another process does this step.
            resumable: whether `write` continues from what it left when it raised or was killed. Otherwise it always
                begins with an empty folder.
            begins_with: keys of other artifacts; a resumable step that left nothing starts from the first that exists.

        Returns:
            the artifact; None if another process is doing the step and `wait` is false.

        Raises:
            StoreError: the disk is full or the store cannot be written.
        """
        if (done := self.get(origin.key)) and not done.manifest.provisional:
            return done
        first = self.begun(origin.key, begins_with) if resumable else None  # downloads take locks, so before this one
        with self._locked(origin.key, wait=wait) as held:
            if not held:
                return None
            # Looked up again under the lock: another process may have finished the step while this one waited.
            if (done := self.get(origin.key)) and not done.manifest.provisional:
                return done
            self._remove_partials(origin.key)
            with self._working(origin, first) if resumable else self._partial(origin) as folder:
                return self._make(origin, write, folder)

    def begun(self, key: str, begins_with: Sequence[str] = ()) -> Path | None:
        """Return the folder that a resumable step continues: its working folder, or the artifact it starts from."""
        folder = self._working_folder(key)
        if folder.is_dir():
            return folder
        known = next(filter(None, map(self.get, (key, *begins_with))), None)
        return known.path if known else None

    def sweep(self) -> None:
        """Remove partial folders and locks of killed processes, for steps that nobody is running."""
        partials = {path.name.removeprefix(_PARTIAL).split("-")[0] for path in self.folder.glob(f"{_PARTIAL}*")}
        for key in partials | {path.name for path in self.folder.glob(f"{_LOCKS}/*")}:
            with self._locked(key, wait=False) as held:
                if held:
                    self._remove_partials(key)

    def fetch(self, manifest: Manifest) -> Path:
        """Return the local folder of a finished artifact, downloaded if the store is remote and this machine lacks it.

        Raises:
            StoreError: the artifact is damaged or cannot be downloaded.
        """
        final = self.folder / manifest.origin.folder_name
        if self.mirror is None or _holds(final, manifest):
            return final
        with self._locked(manifest.key, wait=True):
            if not _holds(final, manifest):  # another process may just have downloaded it
                with self._partial(manifest.origin) as partial, self._explained(every_error=True):
                    self.mirror.download(manifest, partial)
                    shutil.rmtree(final, ignore_errors=True)  # an older copy, which the remote store has replaced
                    move_into_place(partial, final)
        return final

    def _make(self, origin: Origin, write: Callable[[Path], str | None], folder: Path) -> Artifact:
        before = self.get(origin.key)
        with self._explained(every_error=False):
            provisional = write(folder)
        with self._explained(every_error=True):
            manifest = seal(folder, origin, provisional or "")
            if self.mirror:
                self.mirror.upload(folder, manifest)
            # What is replaced: a provisional artifact, or a cached copy of what the remote store no longer has.
            replaced = {origin.folder_name, before.manifest.origin.folder_name if before else origin.folder_name}
            # Renamed away, which is instant, and removed once the new one is in place: a kill leaves no half-removed
            # artifact.
            with self._partial(origin) as old:
                for name in replaced:
                    with contextlib.suppress(FileNotFoundError):
                        (self.folder / name).rename(old / name)
                move_into_place(folder, self.folder / origin.folder_name)
        return Artifact(manifest, self)

    @contextlib.contextmanager
    def _working(self, origin: Origin, first: Path | None) -> Iterator[Path]:
        """Yield the working folder of a resumable step whose lock is held; a new one starts as a copy of `first`."""
        folder = self._working_folder(origin.key)
        with self._explained(every_error=True):
            # Copied beside and renamed: a copy that was killed halfway would look like the step's own unfinished work.
            if first and not folder.is_dir():
                with self._partial(origin) as copy:
                    shutil.copytree(first, copy, dirs_exist_ok=True)
                    folder.parent.mkdir(exist_ok=True)
                    copy.rename(folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MANIFEST_FILE).unlink(missing_ok=True)
        yield folder

    def _working_folder(self, key: str) -> Path:
        return self.folder / _UNFINISHED / key[:KEY_DIGITS]

    @contextlib.contextmanager
    def _partial(self, origin: Origin) -> Iterator[Path]:
        """Yield a new partial folder of a step whose lock is held; it is removed unless it was moved into place."""
        partial = self.folder / f"{_PARTIAL}{origin.key[:KEY_DIGITS]}-{os.getpid()}-{secrets.token_hex(4)}"
        with self._explained(every_error=True):
            partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _entries(self) -> list[str]:
        """Return the names of everything in the store."""
        if self.mirror:
            return self.mirror.folder_names()
        try:
            return sorted(entry.name for entry in os.scandir(self.folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(
                f"The store {self.folder} cannot be read: {error.strerror}. Give a folder that this user may read, or one that can be made."
            ) from error

    def _folder_names(self) -> list[str]:
        """Return the names of folders that may hold an artifact; everything else in the store is left alone."""
        return [name for name in self._entries() if not name.startswith(".") and re.fullmatch(f"[0-9a-f]{{{KEY_DIGITS}}}", _digits(name))]

    def _open(self, folder_name: str) -> Artifact | None:
        """Return the artifact in a folder; None for a remote folder whose manifest was not written."""
        manifest = self.mirror.manifest(folder_name) if self.mirror else read_manifest(self.folder / folder_name)
        return Artifact(manifest, self) if manifest else None

    def _opened(self, folder_names: Sequence[str]) -> tuple[Artifact, ...]:
        """Return the artifacts in these folders, without those that exist under a newer key as well."""
        found = [artifact for artifact in map(self._open, folder_names) if artifact]
        carried_over = {artifact.manifest.formerly for artifact in found}
        return tuple(artifact for artifact in found if artifact.key not in carried_over)

    def _remove_partials(self, key: str) -> None:
        """Remove the partial folders of a step whose lock is held."""
        for partial in self.folder.glob(f"{_PARTIAL}{key[:KEY_DIGITS]}-*"):
            shutil.rmtree(partial, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Hold a step's lock; yield False if another process holds it and `wait` is false."""
        from filelock import FileLock, Timeout

        path = self.folder / _LOCKS / key[:KEY_DIGITS]
        with self._explained(every_error=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=wait)
        try:
            yield lock.is_locked
        finally:
            if lock.is_locked:
                with contextlib.suppress(OSError):
                    path.unlink()  # while it is held: a waiting process notices and locks a new file
                lock.release()

    @contextlib.contextmanager
    def _explained(self, *, every_error: bool) -> Iterator[None]:
        """Turn a full disk, and with `every_error` any OSError, into a StoreError."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            if _is_disk_full(error):
                raise StoreError(
                    f"The disk is full: {error} ({_free(self.folder)} free at the store {self.folder}). The unfinished step was removed, "
                    f"everything finished is kept. Free some space, or copy the store to a larger disk, and run the same again: it goes on there."
                ) from error
            if every_error and isinstance(error, OSError):
                raise StoreError(
                    f"The store {self.folder} cannot be written: {error.strerror or error}. Give a folder that you may write to, "
                    f"or change the rights of this one."
                ) from error
            raise


def _holds(folder: Path, manifest: Manifest) -> bool:
    """Return whether a local folder is the artifact with this manifest."""
    return folder.is_dir() and read_manifest(folder) == manifest


def _is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error or one of its causes means a full disk (some libraries say so only in their text)."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in _DISK_FULL) or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _free(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    return f"{free / 1e9:.1f} GB" if free >= 1e9 else f"{free / 1e6:.1f} MB"


def _digits(folder_name: str) -> str:
    """Return the digits of the key at the end of a folder name."""
    return folder_name.rsplit("-", 1)[-1]


def _default_cache(url: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "astray" / "stores" / hashlib.sha256(url.encode()).hexdigest()[:KEY_DIGITS]
