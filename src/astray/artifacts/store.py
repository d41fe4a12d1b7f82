"""Store of artifacts: a folder in which each is complete or absent, never half.

    runs/train-3f2a0c9d1b7e4a55/          an artifact: the files that a step wrote and artifact.json
    runs/.partial-3f2a0c9d1b7e4a55-.../   a running step, or leftovers of a killed process (removed by the next one)
    runs/.unfinished/3f2a0c9d1b7e4a55/    a running resumable step, or one that was killed or failed (continued)
    runs/.locks/3f2a0c9d1b7e4a55          held while a step runs
    runs/.owner                           name of this cache folder, for the locks of a remote store (bucket_locks.py)
    runs/.names/3f2a0c9d1b7e4a55          name of the artifact: two steps with one key may have different names
    runs/.damaged/train-3f2a0c9d1b7e4a55  an artifact that was not what its step wrote, kept to be looked at

A step writes to a partial folder; its files are flushed to disk unless the step took less than a second, the manifest
is written last and the folder is renamed. Several processes may share a store. While one runs a step it holds that
step's lock, which the system frees however the process ends, so a lock is never stale; the rename alone would already
keep the store whole. The root may be any fsspec URL: artifacts are then made in a local cache folder and uploaded
(mirror.py).
Leaves to others: what lies in the store (contents.py), what a step is (step.py) and running many of them (execute.py).
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from astray.artifacts.bucket_locks import LOCKS
from astray.artifacts.contents import DIGITS, PARTIAL, Artifact, Contents, digits
from astray.artifacts.disk import move_aside, no_link
from astray.artifacts.manifest import KEY_DIGITS, Manifest, Origin, flush, holds, link_files, move_into_place, seal
from astray.artifacts.mirror import NAMES
from astray.artifacts.soundness import DAMAGED, MANIFEST_FILE
from astray.errors import DamagedArtifactError

_UNFINISHED = ".unfinished"
SHORT_SECONDS = 1.0
"""A step that took less is not flushed to disk."""


class Store(Contents):
    """Contents that steps add to: artifacts are made, carried over, replaced and moved aside, one process at a time."""

    def put_aside(self, damage: DamagedArtifactError) -> bool:
        """Move a damaged artifact into `.damaged`; return False where another process is making it anew.

        Raises:
            StoreError: it cannot be moved.
        """
        if self.mirror:
            self.mirror.put_aside(damage.folder.name)
            return True
        with self._locked(digits(damage.folder.name), wait=False) as held, self._explained(every_error=True):
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
        with self._locked_everywhere(origin.key, wait=True):
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

    def go_on(self, key: str, former_keys: Sequence[str]) -> None:
        """Give a step the working folder that a killed run of it left under an older key."""
        own = self._working_folder(key)
        for former in former_keys:
            begun = self._working_folder(former)
            if begun.is_dir() and not own.is_dir():
                with self._locked(former, wait=False) as held, self._explained(every_error=True):
                    if held and begun.is_dir():
                        begun.rename(own)

    def make(
        self,
        origin: Origin,
        write: Callable[[Path], str | None],
        *,
        wait: bool = True,
        resumable: bool = False,
        begins_with: Sequence[str] = (),
        read: Mapping[str, str] | None = None,
        listed: Sequence[str] | None = None,
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
            listed: names with the digits of this key in a listing of the store, which is then not listed again.

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
        with self._locked_everywhere(origin.key, wait=wait) as held:
            if not held:
                return None
            # Looked up under the lock: another process may have finished the step while this one waited.
            among = None if listed is None else self.since(origin, listed)
            if (done := self.get(origin.key, among=among)) and not done.manifest.provisional:
                return done
            with self._working(origin, first) if resumable else self._partial(origin) as folder:
                return self._make(origin, write, folder, read, done)

    def reseal(self, artifact: Artifact, provisional: str) -> bool:
        """Give a provisional artifact another text; return False where another process is making it.

        Raises:
            StoreError: it cannot be written.
        """

        def keep(folder: Path) -> str:
            link_files(artifact.path, folder, artifact.manifest)
            (folder / MANIFEST_FILE).unlink()
            return provisional

        with self._locked_everywhere(artifact.key, wait=False) as held:
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
        among = self.by_digits() if len(keys) > 1 else None
        return next(filter(None, (self.search(key, among=among)[0] for key in keys)), None)

    def sweep(self) -> None:
        """Remove partial folders and locks of killed processes, for steps that nobody is running.

        Raises:
            StoreError: the store cannot be read or written.
        """
        with self._explained(every_error=True):
            self._sweep()
            if self.folder.is_dir():  # nothing may have been made yet
                flush(self.folder)

    def _sweep(self) -> None:
        partials = {path.name.removeprefix(PARTIAL).split("-")[0] for path in self.folder.glob(f"{PARTIAL}*")}
        # Names that Astray did not give are left alone, such as `.partial-..-x`: taken for a key it would lead out of
        # the folder.
        for key in filter(DIGITS.fullmatch, partials | {path.name for path in no_link(self.folder / LOCKS).glob("*")}):
            with self._locked(key, wait=False) as held:
                if held:
                    self._remove_partials(key, self._local_names())

    def _make(
        self,
        origin: Origin,
        write: Callable[[Path], str | None],
        folder: Path,
        read: Mapping[str, str] | None,
        before: Artifact | None,
    ) -> Artifact:
        """Make the artifact of a step whose lock is held, in place of a provisional one."""
        begun_before, began = folder == self._working_folder(origin.key), time.monotonic()
        with self._explained(every_error=False):
            provisional = write(folder)
        with self._explained(every_error=True):
            # Waiting for the disk takes longer than a short step, which costs less to make again after a power cut.
            durable = begun_before or before is not None or time.monotonic() - began >= SHORT_SECONDS
            manifest = seal(folder, origin, provisional or "", read, durable=durable)
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
                self._note_name(origin)
                move_into_place(folder, self.folder / origin.folder_name)
        return Artifact(manifest, self)

    def _note_name(self, origin: Origin) -> None:
        """Note the name of an artifact that is about to be there, for processes that listed the store before."""
        note = no_link(no_link(self.folder / NAMES) / origin.key[:KEY_DIGITS])
        note.parent.mkdir(exist_ok=True)
        note.write_text(origin.folder_name, encoding="utf-8")

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

    def _remove_partials(self, key: str, names: Sequence[str]) -> None:
        """Remove the partial folders of a step whose lock is held."""
        of_step = f"{PARTIAL}{key[:KEY_DIGITS]}-"
        for name in filter(lambda name: name.startswith(of_step), names):
            shutil.rmtree(self.folder / name, ignore_errors=True)
