"""The store: a folder of artifacts, each complete or absent, never half.

    runs/train-3f2a0c9d1b7e4a55/          an artifact: the files that a step wrote and artifact.json
    runs/.partial-3f2a0c9d1b7e4a55-.../   a step at work, or what a killed process left (removed by the next one)
    runs/.unfinished/3f2a0c9d1b7e4a55/    a resumable step at work, or what a killed or failed one left (gone on with)
    runs/.locks/3f2a0c9d1b7e4a55          held while a step is at work

A step writes to a partial folder; its files are brought to the disk, the manifest is written last and the folder renamed.
Several processes may share a store. While one does a step it holds that step's lock, which the system frees when the
process ends in whatever way, so a lock is never stale; the rename alone would already keep the store whole. The root may be
any fsspec URL: artifacts are then made in a local cache folder and copied (mirror.py).
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
    """What a finished step left.

    Attributes:
        manifest: its origin (function, version, configuration, inputs) and its files with sizes and checksums.
        store: where it lies.
    """

    manifest: Manifest
    store: "Store" = field(repr=False, compare=False)

    @property
    def key(self) -> str:
        """SHA-256 over everything that decided the content."""
        return self.manifest.key

    @property
    def name(self) -> str:
        """Name of the step that made it."""
        return self.manifest.origin.name

    @property
    def path(self) -> Path:
        """The local folder with its files; an artifact of a remote store is downloaded when this is first asked for.

        Raises:
            StoreError: the artifact is damaged or cannot be downloaded.
        """
        return self.store.fetch(self.manifest)

    def verify(self) -> None:
        """Reads every file and compares its checksum.

        Raises:
            StoreError: a file is not what the step wrote.
        """
        folder = self.path
        for name, record in self.manifest.files.items():
            if file_sha256(folder / name) != record.sha256:
                raise damaged(folder, f"{name} differs from its checksum")


class Store:
    """Artifacts by key, in a local folder or behind any fsspec URL.

    Args:
        root: a folder, made when the first artifact is, or an fsspec URL such as "s3://bucket/runs".
        cache: for a remote root, the local folder that artifacts are made in and downloaded to; by default one of its
            own under ~/.cache/astray.

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
        """The artifact with this key, or None where the step was not done yet.

        Args:
            key: of the step.
            former_key: of the same step in older stores; the artifact with this one is given where there is none with the other.

        Raises:
            StoreError: the artifact is damaged (a file is missing or has another size). Nothing is removed or made anew by
                itself: a damaged result may be the only copy, and a sign of a failing disk.
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
        """Carry an artifact over to the key that its step has now.

        The old folder stays: registered runs and adapters trained on it name it, and a process of an older version may be reading
        it. `find` and `artifacts` leave it out from then on.

        Args:
            former: the artifact, under an older key of the step.
            origin: of the step now.

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
        """The artifacts whose step name, folder name or key starts with this text, ordered by name."""
        names = [name for name in self._folder_names() if name.startswith(readable(text)) or _digits(name).startswith(text[:KEY_DIGITS])]
        return self._opened(names)

    def artifacts(self) -> tuple[Artifact, ...]:
        """All finished artifacts, ordered by name."""
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
        """The artifact of this origin: the one that is there, or else the one that `write` now makes.

        A provisional one is made again and stays in place until the new one is complete.

        Args:
            origin: what makes it.
            write: is given a folder and fills it; returns what it has left to try, which makes the artifact provisional.
            wait: whether to wait while another process does this step.
            resumable: whether what `write` leaves when it raises or is killed is what it begins with the next time. Otherwise it
                always begins with an empty folder.
            begins_with: keys of other artifacts; the first that is there is what a resumable step begins with if it left nothing.

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
            if (done := self.get(origin.key)) and not done.manifest.provisional:
                return done
            self._remove_partials(origin.key)
            with self._working(origin, first) if resumable else self._partial(origin) as folder:
                return self._make(origin, write, folder)

    def begun(self, key: str, begins_with: Sequence[str] = ()) -> Path | None:
        """The folder with what there is of a resumable step: its working folder, or the artifact that this would begin with."""
        folder = self._working_folder(key)
        if folder.is_dir():
            return folder
        known = next(filter(None, map(self.get, (key, *begins_with))), None)
        return known.path if known else None

    def sweep(self) -> None:
        """Removes what killed processes left: partial folders and locks of steps that nobody is doing."""
        partials = {path.name.removeprefix(_PARTIAL).split("-")[0] for path in self.folder.glob(f"{_PARTIAL}*")}
        for key in partials | {path.name for path in self.folder.glob(f"{_LOCKS}/*")}:
            with self._locked(key, wait=False) as held:
                if held:
                    self._remove_partials(key)

    def fetch(self, manifest: Manifest) -> Path:
        """The local folder of a finished artifact, downloaded if the store is remote and this machine does not have it.

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
            with self._partial(origin) as old:
                for name in replaced:
                    with contextlib.suppress(FileNotFoundError):
                        (self.folder / name).rename(old / name)
                move_into_place(folder, self.folder / origin.folder_name)
        return Artifact(manifest, self)

    @contextlib.contextmanager
    def _working(self, origin: Origin, first: Path | None) -> Iterator[Path]:
        """The working folder of a resumable step, whose lock this process holds: with what it left there, or else a copy of `first`."""
        folder = self._working_folder(origin.key)
        with self._explained(every_error=True):
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
        """A new partial folder of a step, whose lock this process holds; gone afterwards unless it was moved into place."""
        partial = self.folder / f"{_PARTIAL}{origin.key[:KEY_DIGITS]}-{os.getpid()}-{secrets.token_hex(4)}"
        with self._explained(every_error=True):
            partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _entries(self) -> list[str]:
        """Names of everything that lies in the store."""
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
        """Names of the folders that may hold an artifact; whatever else lies in the store is left alone."""
        return [name for name in self._entries() if not name.startswith(".") and re.fullmatch(f"[0-9a-f]{{{KEY_DIGITS}}}", _digits(name))]

    def _open(self, folder_name: str) -> Artifact | None:
        """The artifact in a folder; None for a remote folder whose manifest was not written."""
        manifest = self.mirror.manifest(folder_name) if self.mirror else read_manifest(self.folder / folder_name)
        return Artifact(manifest, self) if manifest else None

    def _opened(self, folder_names: Sequence[str]) -> tuple[Artifact, ...]:
        """The artifacts in these folders, without those that are there under a newer key as well."""
        found = [artifact for artifact in map(self._open, folder_names) if artifact]
        carried_over = {artifact.manifest.formerly for artifact in found}
        return tuple(artifact for artifact in found if artifact.key not in carried_over)

    def _remove_partials(self, key: str) -> None:
        """Removes the partial folders of a step, whose lock this process holds."""
        for partial in self.folder.glob(f"{_PARTIAL}{key[:KEY_DIGITS]}-*"):
            shutil.rmtree(partial, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Holds a step's lock; gives False if another process holds it and `wait` is false."""
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
                    path.unlink()  # while it is held: whoever waits for it sees that and locks a new file
                lock.release()

    @contextlib.contextmanager
    def _explained(self, *, every_error: bool) -> Iterator[None]:
        """Turns a full disk, and with `every_error` any refusal of the system, into a StoreError."""
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
    """Whether a local folder is the artifact with this manifest."""
    return folder.is_dir() and read_manifest(folder) == manifest


def _is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that a disk is full (some libraries say so only in their text)."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in _DISK_FULL) or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _free(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    return f"{free / 1e9:.1f} GB" if free >= 1e9 else f"{free / 1e6:.1f} MB"


def _digits(folder_name: str) -> str:
    """The digits of the key at the end of a folder name."""
    return folder_name.rsplit("-", 1)[-1]


def _default_cache(url: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "astray" / "stores" / hashlib.sha256(url.encode()).hexdigest()[:KEY_DIGITS]
