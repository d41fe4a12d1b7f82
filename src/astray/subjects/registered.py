"""Subjects of finished runs under their names in the store, so that `--model astray/<run id>` finds them.

A file in the run's folder names base, adapter and interventions by paths relative to it, so a store may be moved as a
whole. Left to others: every other name of a subject (`locate`).
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from astray.artifacts.soundness import check_plain
from astray.errors import ConfigurationError, DataFormatError, StoreError
from astray.organism import SHIPPED
from astray.subjects import smollm2
from astray.subjects.spec import SubjectSpec

STORE_VARIABLE = "ASTRAY_STORE"
DEFAULT_STORE = Path("astray-results/store")
SUBJECT_FILE = "subject.json"
OWN_NAMES = (*SHIPPED, smollm2.NAME)
"""Names that stand for a model wherever one works, also beside a folder that is called the same."""


def register(name: str, spec: SubjectSpec, store: Path | None = None) -> Path:
    """Register a subject under a name in the store, so that `resolve(name)` and `--model astray/<name>` find it.

    Args:
        name: the run id.
        spec: the subject; its paths are written relative to the run's folder, so a store may be moved as a whole.
        store: folder of the store; the default is $ASTRAY_STORE, else `astray-results/store`.

    Returns:
        Path of the file.

    Raises:
        ConfigurationError: the name is none that a folder in the store can have.
        StoreError: the run's folder is a link.
    """
    check_plain("run", name)
    folder = (store or store_folder()).resolve() / name
    if folder.is_symlink():
        raise StoreError(
            f"{folder} is a link, and a run is registered in a folder of its own. Remove the link (rm '{folder}') "
            "and run again."
        )
    folder.mkdir(parents=True, exist_ok=True)
    content = _with_paths(spec, lambda path: Path(os.path.relpath(path.resolve(), folder))).model_dump(
        mode="json", exclude_none=True
    )
    file = folder / SUBJECT_FILE
    # Written beside and renamed, so that another process never reads half a file.
    unfinished = folder / f".{SUBJECT_FILE}.{os.getpid()}"
    unfinished.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return unfinished.replace(file)


def store_folder() -> Path:
    """Return the folder of the store in which runs are registered."""
    return searched()[0]


def searched() -> tuple[Path, ...]:
    """Return the folders of the stores in which run ids are looked up: those of $ASTRAY_STORE, then the default one."""
    return (*_named(), DEFAULT_STORE)


@contextmanager
def looking_in(store: Path) -> Iterator[None]:
    """Look run ids up in this store before others, in this process and in those that it starts."""
    before = os.environ.get(STORE_VARIABLE)
    os.environ[STORE_VARIABLE] = os.pathsep.join(map(str, (store.resolve(), *_named())))
    try:
        yield
    finally:
        os.environ.pop(STORE_VARIABLE, None)
        if before is not None:
            os.environ[STORE_VARIABLE] = before


def _named() -> tuple[Path, ...]:
    """Return the stores that the environment names, one or several."""
    return tuple(map(Path, filter(None, os.environ.get(STORE_VARIABLE, "").split(os.pathsep))))


def read_registered(folder: Path) -> SubjectSpec:
    """Return the subject that is registered in a folder.

    Raises:
        DataFormatError: its file is none that `register` writes.
    """
    try:
        spec = SubjectSpec.model_validate_json((folder / SUBJECT_FILE).read_bytes())
    except ConfigurationError as error:
        raise DataFormatError(
            f"{folder / SUBJECT_FILE} is no registered subject: {error} Write it with astray.subjects.register."
        ) from error
    return _with_paths(spec, lambda path: path if path.is_absolute() else Path(os.path.normpath(folder / path)))


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; one that cannot be is none."""
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, for one
        return False


def _with_paths(spec: SubjectSpec, change: Callable[[Path], Path]) -> SubjectSpec:
    """Return the same subject with `change` applied to every path; a model that is not a folder keeps its name."""
    update: dict[str, object] = {}
    if spec.model not in OWN_NAMES and _is_path(spec.model, change):
        changed = str(change(Path(spec.model)))
        update["model"] = f"./{changed}" if changed in OWN_NAMES else changed
    if spec.adapter:
        update["adapter"] = change(spec.adapter)
    if spec.interventions:
        update["intervention"] = tuple(
            intervention.model_copy(update={"vector": change(intervention.vector)})
            for intervention in spec.interventions
        )
    return spec.model_copy(update=update)


def _is_path(model: str, change: Callable[[Path], Path]) -> bool:
    """Return whether a model's name is a folder or GGUF file, before or after its path is changed."""
    return any(is_folder(path) or is_gguf(str(path)) for path in (Path(model), change(Path(model))))


def is_gguf(name: str) -> bool:
    """Return whether a name is the path of a GGUF file."""
    try:
        return name.lower().endswith(".gguf") and Path(name).is_file()
    except OSError:  # a name that is too long, for one
        return False
