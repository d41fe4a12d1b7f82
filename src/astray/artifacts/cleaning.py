"""What a store holds, for people: each step with its size, its age and the studies that use it; and removing some of
them.

Only folders of finished, unfinished and damaged steps right in the store are looked at and removed: no link is
followed, nothing outside is touched, nothing that a running study uses. An artifact is complete or absent here as well:
it is renamed first and removed then.
"""

import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from astray.artifacts.manifest import KEY_DIGITS
from astray.artifacts.mirror import NAMES
from astray.artifacts.soundness import DAMAGED, MANIFEST_FILE
from astray.artifacts.store import Store
from astray.artifacts.uses import running, used_by, while_nothing_is_removed
from astray.errors import ConfigurationError, UnknownNameError

DAY = 86400.0
UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class Kept:
    """A finished step, what a killed one left to go on with, or a damaged artifact.

    Attributes:
        name: of the step.
        key: of the step; of an unfinished or damaged one its first digits.
        folder: where it lies.
        size: of its files, in bytes.
        made: when it was finished or last written to, in seconds since 1970.
        studies: that use it; empty for one that was made before stores noted that.
    """

    name: str
    key: str
    folder: Path
    size: int
    made: float
    studies: tuple[str, ...]

    @property
    def days(self) -> float:
        """Return its age in days."""
        return max(0.0, time.time() - self.made) / DAY


def kept_in(store: Store) -> tuple[Kept, ...]:
    """Return the steps of a store, the finished ones ordered by name.

    Raises:
        ConfigurationError: the store is no folder of this machine.
    """
    if store.mirror is not None:
        raise ConfigurationError(
            f"The store {store.root} is no folder of this machine. Look at it, and remove what lies there, with its "
            "own tools."
        )
    uses = used_by(store)
    entries = []
    for artifact in store.artifacts():
        folder = store.folder / artifact.manifest.origin.folder_name
        studies = tuple(study for study, keys in uses.items() if artifact.key in keys)
        size = sum(record.size for record in artifact.manifest.files.values())
        entries.append(
            Kept(artifact.name, artifact.key, folder, size, (folder / MANIFEST_FILE).stat().st_mtime, studies)
        )
    return (*entries, *_left_in(store, UNFINISHED, uses), *_left_in(store, DAMAGED, uses))


def _left_in(store: Store, part: str, uses: Mapping[str, Iterable[str]]) -> Iterator[Kept]:
    for folder in sorted((store.folder / part).glob("*")):
        if (store.folder / part).is_symlink() or folder.is_symlink() or not folder.is_dir():
            continue
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        key = folder.stem.rpartition("-")[2]
        studies = tuple(study for study, keys in uses.items() if key in map(_digits, keys))
        modified = max((path.stat().st_mtime for path in files), default=folder.stat().st_mtime)
        yield Kept(
            f"{part.removeprefix('.')} {folder.name}",
            key,
            folder,
            sum(path.stat().st_size for path in files),
            modified,
            studies,
        )


def _digits(key: str) -> str:
    return key[:KEY_DIGITS]


def removable(store: Store, *, days: float | None = None, study: str | None = None) -> tuple[Kept, ...]:
    """Return the steps that are old enough, or that one study alone uses; those of running studies are left out.

    Args:
        store: a folder.
        days: age from which a step is old; None for any age.
        study: whose steps; None for all.

    Raises:
        UnknownNameError: no study of this name has used the store.
        ConfigurationError: the store is no folder of this machine.
    """
    uses = used_by(store)
    if study is not None and study not in uses:
        raise UnknownNameError("study with steps in this store", study, uses)
    busy = _busy(store)
    return tuple(
        entry
        for entry in kept_in(store)
        if _digits(entry.key) not in busy
        and (days is None or entry.days >= days)
        and (study is None or entry.studies == (study,))
    )


def remove(store: Store, chosen: Iterable[Kept]) -> tuple[Kept, ...]:
    """Remove steps, and the names of runs that pointed to them; return those that were removed.

    A step that a process has begun again, or that a study has come to use in the meantime, stays.

    Raises:
        StoreError: a folder cannot be removed.
    """
    with while_nothing_is_removed(store):
        busy = _busy(store)
        gone = tuple(entry for entry in chosen if _digits(entry.key) not in busy and _discard(store, entry))
        _remove_names(store, {entry.folder.name for entry in gone})
    return gone


def _busy(store: Store) -> set[str]:
    """Return the first digits of all keys that running studies use."""
    uses = used_by(store)
    return {_digits(key) for name in running(store) for key in uses.get(name, ())}


def _discard(store: Store, entry: Kept) -> bool:
    """Remove a step's folder and its former one unless a process holds the step; return whether they are gone."""
    with store._locked(entry.key, wait=False) as held, store._explained(every_error=True):
        if not held:
            return False
        artifact = store.search(entry.key)[0]
        former = f"-{_digits(artifact.manifest.formerly)}" if artifact and artifact.manifest.formerly else None
        folders = [
            path
            for path in store.folder.iterdir()
            if former and path.name.endswith(former) and not path.name.startswith(".")
        ]
        there = [folder for folder in (*folders, entry.folder) if folder.is_dir() and not folder.is_symlink()]
        for folder in there:
            shutil.rmtree(folder.rename(store.folder / f".partial-{_digits(entry.key)}-{folder.name[-KEY_DIGITS:]}"))
            (store.folder / NAMES / folder.name[-KEY_DIGITS:]).unlink(missing_ok=True)
    return bool(there)


def _remove_names(store: Store, folders: set[str]) -> None:
    """Remove the registered runs whose files were in these folders."""
    for path in store.folder.glob("*/subject.json"):
        if not path.parent.is_symlink() and folders & set(
            re.split(r"[/\"\\]+", path.read_text(encoding="utf-8", errors="replace"))
        ):
            shutil.rmtree(path.parent)
