"""Uses of a store's artifacts by studies, and the studies running now: both decide what may be removed.

    store/.uses/emergent-misalignment               keys of all steps of its runs, one a line
    store/.uses/emergent-misalignment-4f1a.running  locked while a process runs it

Left to others: what an artifact is (store.py) and removing some (cleaning.py).
"""

import contextlib
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from astray.artifacts.disk import no_link
from astray.artifacts.soundness import check_plain
from astray.artifacts.store import Store

_USES = ".uses"
_RUNNING = ".running"
_CLEANING = ".cleaning.lock"


@contextlib.contextmanager
def in_use(store: Store, study: str, keys: Iterable[str]) -> Iterator[None]:
    """Note what a study uses, and hold it until the study ends, in whatever way.

    Raises:
        ConfigurationError: the study's name cannot be that of a file.
        StoreError: the store cannot be written.
    """
    from filelock import FileLock

    check_plain("study", study)
    folder = no_link(store.folder / _USES)
    with contextlib.ExitStack() as held:
        with store._explained(every_error=True), while_nothing_is_removed(store):
            folder.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(FileLock(folder / f"{study}-{secrets.token_hex(4)}{_RUNNING}"))
            held.callback(Path(lock.lock_file).unlink, missing_ok=True)
            new = sorted(set(keys) - used_by(store).get(study, set()))
            with (folder / study).open("a", encoding="utf-8") as file:
                # A single write, so that two processes do not mix their lines.
                file.write("".join(f"{key}\n" for key in new))
        yield


@contextlib.contextmanager
def while_nothing_is_removed(store: Store) -> Iterator[None]:
    """Wait for whoever removes something, and let nobody begin: a new study would count on what is about to go."""
    from filelock import FileLock

    store.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(store.folder / _CLEANING):
        yield


def used_by(store: Store) -> dict[str, set[str]]:
    """Return the keys of the artifacts that each study uses or used."""
    folder = store.folder / _USES
    files = [path for path in folder.glob("*") if path.is_file() and path.suffix != _RUNNING]
    return {path.name: set(path.read_text(encoding="utf-8").split()) for path in sorted(files)}


def running(store: Store) -> set[str]:
    """Return the studies that a process runs in this store right now; what killed ones left is removed."""
    from filelock import FileLock, Timeout

    studies = set()
    for path in (store.folder / _USES).glob(f"*{_RUNNING}"):
        try:
            with FileLock(path, blocking=False):
                path.unlink(missing_ok=True)
        except Timeout:
            studies.add(path.name.removesuffix(_RUNNING).rpartition("-")[0])
    return studies
