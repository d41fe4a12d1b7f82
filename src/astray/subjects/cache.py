"""Keep models that were fetched or converted in the user's cache, whole or not at all."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from astray.artifacts.user_cache import CACHE_VARIABLE, user_cache
from astray.errors import StoreError


def models_folder() -> Path:
    """Return the folder of fetched and converted models: `models` in $ASTRAY_CACHE, else in the user's cache."""
    return user_cache() / "models"


def cached(folder: Path, write: Callable[[Path], None]) -> Path:
    """Return a folder of the cache, writing it first if it is not there; other processes wait meanwhile.

    Args:
        folder: where it belongs, in `models_folder`.
        write: fills an empty folder; if it raises, nothing is kept.

    Raises:
        StoreError: the cache cannot be written.
    """
    from filelock import FileLock

    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if folder.is_dir():
                return folder
            unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            try:
                write(unfinished)
                unfinished.rename(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except PermissionError as error:
        raise StoreError(
            f"{folder.parent} cannot be written ({error.strerror}). Name a folder that can: "
            f"{CACHE_VARIABLE}=/path/to/cache."
        ) from error
    return folder
