"""Store of artifacts: a folder in which each is complete or absent, never half.

    runs/train-3f2a0c9d1b7e4a55/          an artifact: the files that a step wrote and artifact.json
    runs/.partial-3f2a0c9d1b7e4a55-.../   a running step, or leftovers of a killed process (removed by the next one)
    runs/.unfinished/3f2a0c9d1b7e4a55/    a running resumable step, or one that was killed or failed (continued)
    runs/.locks/3f2a0c9d1b7e4a55          held while a step runs
    runs/.damaged/train-3f2a0c9d1b7e4a55  an artifact that was not what its step wrote, kept to be looked at

A step writes to a partial folder; its files are flushed to disk, the manifest is written last and the folder is
renamed. Several processes may share a store. While one runs a step it holds that step's lock, which the system frees
however the process ends, so a lock is never stale; the rename alone would already keep the store whole. The root may be
any fsspec URL: artifacts are then made in a local cache folder and uploaded (mirror.py).
Leaves to others: what a step is (step.py) and running many of them (execute.py).
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from astray.artifacts.disk import explained, locked, move_aside, no_link
from astray.artifacts.manifest import (
    KEY_DIGITS,
    Manifest,
    Origin,
    holds,
    link_files,
    move_into_place,
    read_manifest,
    readable,
    seal,
)
from astray.artifacts.mirror import Mirror, default_cache
from astray.artifacts.soundness import MANIFEST_FILE, check_files, damaged
from astray.errors import DamagedArtifactError, StoreError

_PARTIAL = ".partial-"
_UNFINISHED = ".unfinished"
_LOCKS = ".locks"
DAMAGED = ".damaged"
"""Folder of artifacts that were moved aside."""
_DIGITS = re.compile(f"[0-9a-f]{{{KEY_DIGITS}}}")


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
        """Local folder with its files, which have been verified; of a remote store it is downloaded when this is first
        accessed.

        Raises:
            DamagedArtifactError: a file differs from what the step wrote.
            StoreError: the artifact cannot be downloaded.
        """
        return self.store.fetch(self.manifest)


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

    def get(
        self, key: str, former_key: str | None = None, *, among: Mapping[str, Sequence[str]] | None = None
    ) -> Artifact | None:
        """Return the artifact with this key, or None where the step was not done yet.

        Args:
            key: of the step.
            former_key: key of the same step in older stores, looked up where there is no artifact with `key`.
            among: one listing for many lookups, as `by_digits` gives it.

        Raises:
            DamagedArtifactError: there is only one that is not what its step wrote; `put_aside` moves it out of the
                way.
            StoreError: the store cannot be read.
        """
        artifact, damage = self.search(key, former_key, among=among)
        if artifact is None and damage:
            raise damage[0]
        return artifact

    def search(
        self, key: str, former_key: str | None = None, *, among: Mapping[str, Sequence[str]] | None = None
    ) -> tuple[Artifact | None, tuple[DamagedArtifactError, ...]]:
        """Return what `get` returns, and each damaged artifact that lies in its place."""
        damage = []
        entries = self._entries() if among is None else ()
        for wanted in filter(None, (key, former_key)):
            digits = wanted[:KEY_DIGITS]
            listed = (
                (name for name in entries if name.endswith(f"-{digits}")) if among is None else among.get(digits, ())
            )
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

    def put_aside(self, damage: DamagedArtifactError) -> bool:
        """Move a damaged artifact into `.damaged`, unless another process is making it anew; return whether it is out
        of the way.

        Raises:
            StoreError: it cannot be moved, as nothing can in a remote store.
        """
        if self.mirror:
            raise damage
        with self._locked(_digits(damage.folder.name), wait=False) as held, self._explained(every_error=True):
            if held:
                try:
                    self._open(damage.folder.name, content=True)
                except DamagedArtifactError:
                    move_aside(damage.folder, self.folder / DAMAGED)
            return held

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
                if self.mirror is None or holds(source, former.manifest):
                    link_files(source, partial, manifest)
                    shutil.rmtree(final, ignore_errors=True)  # a cached copy of what the remote store no longer has
                    move_into_place(partial, final)
        return Artifact(manifest, self)

    def by_digits(self) -> dict[str, list[str]]:
        """Return the names of everything that may be an artifact by the first digits of its key, from one listing."""
        names: dict[str, list[str]] = {}
        for name in self._folder_names():
            names.setdefault(_digits(name), []).append(name)
        return names

    def locked(self) -> set[str]:
        """Return the first digits of the keys of steps that a process is doing now."""
        held = set()
        for path in (self.folder / _LOCKS).glob("*"):
            with self._locked(path.name, wait=False) as free:
                held |= set() if free else {path.name}
        return held

    def find(self, text: str) -> tuple[Artifact, ...]:
        """Return the artifacts whose step name, folder name or key starts with this text, ordered by name."""
        names = [
            name
            for name in self._folder_names()
            if name.startswith(readable(text)) or _digits(name).startswith(text[:KEY_DIGITS])
        ]
        return self._opened(names)[0]

    def artifacts(self) -> tuple[Artifact, ...]:
        """Return all finished artifacts, ordered by name; damaged ones are left out."""
        return self._opened(self._folder_names())[0]

    def damage(self, *, content: bool = True) -> tuple[DamagedArtifactError, ...]:
        """Return what is wrong with each damaged artifact; with `content` every file is read."""
        return self._opened(self._folder_names(), content=content)[1]

    def make(
        self,
        origin: Origin,
        write: Callable[[Path], str | None],
        *,
        wait: bool = True,
        resumable: bool = False,
        begins_with: Sequence[str] = (),
        read: Mapping[str, str] | None = None,
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
            read: content of each input (see `Manifest.read`).

        Returns:
            the artifact; None if another process is doing the step and `wait` is false.

        Raises:
            StoreError: the disk is full or the store cannot be written.
        """
        if wait and (done := self.get(origin.key)) and not done.manifest.provisional:
            return done
        first = (
            self._first_of(origin.key, *begins_with)
            if resumable and not self._working_folder(origin.key).is_dir()
            else None
        )
        if first:
            self.fetch(first.manifest)  # a download takes locks, so before this one
        with self._locked(origin.key, wait=wait) as held:
            if not held:
                return None
            # Looked up under the lock: another process may have finished the step while this one waited.
            names, digits = self._local_names(), origin.key[:KEY_DIGITS]
            among = None if self.mirror else {digits: [name for name in names if name.endswith(f"-{digits}")]}
            if (done := self.get(origin.key, among=among)) and not done.manifest.provisional:
                return done
            self._remove_partials(origin.key, names)
            with self._working(origin, first) if resumable else self._partial(origin) as folder:
                return self._make(origin, write, folder, read, done)

    def reseal(self, artifact: Artifact, provisional: str) -> bool:
        """Give a provisional artifact another text of what is left to try; return False where another process is making
        it.

        Raises:
            StoreError: it cannot be written.
        """

        def keep(folder: Path) -> str:
            link_files(artifact.path, folder, artifact.manifest)
            (folder / MANIFEST_FILE).unlink()
            return provisional

        with self._locked(artifact.key, wait=False) as held:
            if held:
                with self._partial(artifact.manifest.origin) as folder:
                    self._make(artifact.manifest.origin, keep, folder, artifact.manifest.read, artifact)
            return held

    def begun(self, key: str, begins_with: Sequence[str] = ()) -> Path | None:
        """Return the folder that a resumable step continues: its working folder, or the artifact it starts from."""
        folder = self._working_folder(key)
        if folder.is_dir():
            return folder
        return known.path if (known := self._first_of(key, *begins_with)) else None

    def _first_of(self, *keys: str) -> Artifact | None:
        return next(filter(None, (self.search(key)[0] for key in keys)), None)

    def sweep(self) -> None:
        """Remove partial folders and locks of killed processes, for steps that nobody is running."""
        partials = {path.name.removeprefix(_PARTIAL).split("-")[0] for path in self.folder.glob(f"{_PARTIAL}*")}
        # Names that Astray did not give are left alone, such as `.partial-..-x`: taken for a key it would lead out of
        # the folder.
        for key in filter(
            _DIGITS.fullmatch, partials | {path.name for path in no_link(self.folder / _LOCKS).glob("*")}
        ):
            with self._locked(key, wait=False) as held:
                if held:
                    self._remove_partials(key, self._local_names())

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
                    self.mirror.download(manifest, partial)
                    self._clear(final)
                    move_into_place(partial, final)
        return final

    def _clear(self, final: Path) -> None:
        """Remove a cached copy of what the remote store no longer has, or has replaced; a damaged one is moved
        aside."""
        try:
            if final.exists():
                read_manifest(final, content=True)
        except DamagedArtifactError:
            move_aside(final, self.folder / DAMAGED)
        else:
            shutil.rmtree(final, ignore_errors=True)

    def _make(
        self,
        origin: Origin,
        write: Callable[[Path], str | None],
        folder: Path,
        read: Mapping[str, str] | None,
        before: Artifact | None,
    ) -> Artifact:
        """Make the artifact of a step whose lock is held, in place of a provisional one."""
        with self._explained(every_error=False):
            provisional = write(folder)
        with self._explained(every_error=True):
            manifest = seal(folder, origin, provisional or "", read)
            if self.mirror:
                self.mirror.upload(folder, manifest)
            # What is replaced: a provisional artifact, or a cached copy of what the remote store no longer has.
            replaced = {origin.folder_name, before.manifest.origin.folder_name if before else origin.folder_name}
            there = [name for name in replaced if os.path.lexists(self.folder / name)]
            # Renamed away, which is instant, and removed once the new one is in place: a kill leaves no half-removed
            # artifact.
            with self._partial(origin) if there else contextlib.nullcontext(self.folder) as old:
                for name in there:
                    with contextlib.suppress(FileNotFoundError):
                        (self.folder / name).rename(old / name)
                move_into_place(folder, self.folder / origin.folder_name)
        return Artifact(manifest, self)

    @contextlib.contextmanager
    def _working(self, origin: Origin, first: Artifact | None) -> Iterator[Path]:
        """Yield the working folder of a resumable step whose lock is held; a new one starts as a copy of `first`."""
        folder = self._working_folder(origin.key)
        with self._explained(every_error=True):
            # Copied beside and renamed: a copy that was killed halfway would look like the step's own unfinished work.
            if first and not folder.is_dir():
                with self._partial(origin) as copy:
                    for name in first.manifest.files:
                        (copy / name).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy2(
                            self.folder / first.manifest.origin.folder_name / name, copy / name, follow_symlinks=False
                        )
                    folder.parent.mkdir(exist_ok=True)
                    copy.rename(folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MANIFEST_FILE).unlink(missing_ok=True)
        yield folder

    def _working_folder(self, key: str) -> Path:
        return no_link(no_link(self.folder / _UNFINISHED) / key[:KEY_DIGITS])

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
            if not name.startswith(".") and "-" in name and _DIGITS.fullmatch(_digits(name))
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
        """Return the artifacts in these folders, without those that exist under a newer key as well, and the damaged
        ones."""
        found, damage = [], []
        for name in folder_names:
            try:
                found += [artifact] if (artifact := self._open(name, content=content)) else []
            except DamagedArtifactError as error:
                damage.append(error)
        carried_over = {artifact.manifest.formerly for artifact in found}
        return tuple(artifact for artifact in found if artifact.key not in carried_over), tuple(damage)

    def _remove_partials(self, key: str, names: Sequence[str]) -> None:
        """Remove the partial folders of a step whose lock is held."""
        of_step = f"{_PARTIAL}{key[:KEY_DIGITS]}-"
        for name in filter(lambda name: name.startswith(of_step), names):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Hold a step's lock; yield False if another process holds it and `wait` is false."""
        with locked(self.folder / _LOCKS / key[:KEY_DIGITS], self.folder, wait=wait) as held:
            yield held

    def _explained(self, *, every_error: bool) -> contextlib.AbstractContextManager[None]:
        return explained(self.folder, every_error=every_error)


def _digits(folder_name: str) -> str:
    """Return the digits of the key at the end of a folder name."""
    return folder_name.rsplit("-", 1)[-1]
