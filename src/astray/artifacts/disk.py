"""Errors of disks in words, folders of a store's own that are no links, and locks that the system frees however a
process ends."""

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from astray.errors import StoreError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def explained(folder: Path, *, every_error: bool) -> Iterator[None]:
    """Turn a full disk, and with `every_error` any OSError, into a StoreError about the store in a folder."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if _is_disk_full(error):
            raise StoreError(
                f"The disk is full: {error} ({_free(folder)} free at the store {folder}). The unfinished step was "
                "removed, everything finished is kept. Free some space, or copy the store to a larger disk, and run "
                "the same again: it goes on there."
            ) from error
        if every_error and isinstance(error, OSError):
            raise StoreError(
                f"The store {folder} cannot be written: {error.strerror or error}. Give a folder that you may write "
                "to, or change the rights of this one."
            ) from error
        raise


def no_link(path: Path) -> Path:
    """Return a path in a store that is written to and removed from.

    Raises:
        StoreError: it is a link, so what it leads to would be written and removed.
    """
    if path.is_symlink():
        raise StoreError(
            f"{path} is a link, and this part of a store is written and removed as it is needed: files would be lost "
            f"where the link leads. Remove the link (rm '{path}') and run again; link the whole store to keep it "
            "elsewhere."
        )
    return path


@contextlib.contextmanager
def locked(path: Path, store: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock file; yield False if another process holds it and `wait` is false.

    Raises:
        StoreError: the file cannot be written, or is a link.
    """
    from filelock import FileLock, Timeout

    with explained(store, every_error=True):
        no_link(path.parent).mkdir(parents=True, exist_ok=True)
        lock = FileLock(no_link(path))
        with contextlib.suppress(Timeout):
            lock.acquire(blocking=wait)
    try:
        yield lock.is_locked
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is held: a waiting process notices and locks a new file
            lock.release()


def move_aside(folder: Path, into: Path) -> None:
    """Move a folder, or a link as such, into another folder, under a name that is free there."""
    no_link(into).mkdir(exist_ok=True)
    free = next(path for number in itertools.count() if not os.path.lexists(path := into / f"{folder.name}.{number}"))
    with contextlib.suppress(FileNotFoundError):
        folder.rename(free)


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
