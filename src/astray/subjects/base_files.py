"""Folder of a model or adapter by its own name: an embedded organism, SmolLM2, a folder, a GGUF file or a hub name.

Leaves to others: names that are made of several, and what the adapters of a subject are put on (locate.py).
"""

import difflib
import re
from contextlib import suppress
from pathlib import Path

from astray.errors import SubjectNotFoundError
from astray.organism import SHIPPED
from astray.subjects import smollm2
from astray.subjects.gguf import convert
from astray.subjects.identity import adapter_weights, weight_files
from astray.subjects.registered import OWN_NAMES, SUBJECT_FILE, is_folder, is_gguf, searched

ORGANISMS = SHIPPED
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")
FORMS = (
    "'organism', 'organism-small', 'smollm2', a folder with a model or an adapter, a GGUF file, a run id of the "
    "store, a hub name like 'Qwen/Qwen2.5-7B-Instruct' (a revision after '@'), or BASE+ADAPTER, the adapter scaled "
    "by BASE+ADAPTER*1.75"
)


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds a PEFT adapter rather than a whole model."""
    return (folder / "adapter_config.json").is_file() and (
        adapter_weights(folder).is_file() or not (folder / "config.json").is_file()
    )


def base_folder(model: str) -> Path:
    """Return the folder of a base model, or of an adapter of the hub; fetched, or converted from GGUF, the first
    time."""
    if model in ORGANISMS:
        from astray.organism import weights_folder

        return weights_folder(model)
    if model == smollm2.NAME:
        return smollm2.folder()
    if is_gguf(model):
        return convert(Path(model))
    folder = Path(model) if is_folder(Path(model)) else download(model)
    if is_adapter(folder):
        return folder
    if not (folder / "config.json").is_file() or not weight_files(folder):
        raise SubjectNotFoundError(
            f"{model!r} ({folder}) has no config.json with *.safetensors weights beside it. Pickled weights (*.bin) "
            "are not loaded: convert them with AutoModelForCausalLM.from_pretrained(...).save_pretrained(folder), "
            "and save the tokenizer there too."
        )
    return folder


def download(name: str) -> Path:
    """Return the snapshot folder of a hub model, from the local cache when there is no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt", "adapter_model.bin"]
    repository, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(
                repository, revision=revision or None, allow_patterns=wanted, ignore_patterns=["*/*", "consolidated*"]
            )
        )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, HFValidationError, OSError) as error:
        raise SubjectNotFoundError(
            f"There is no subject called {name!r}: no organism, folder or run has this name, and it cannot be loaded "
            f"from the Hugging Face hub ({type(error).__name__}).{nearest(name)} Offline, download it first with: "
            f"hf download {repository}. A subject is {FORMS}."
        ) from error


def nearest(name: str) -> str:
    """Return a hint with the closest existing name, of an organism, a run or a folder beside it, or an empty string."""
    beside = Path(name).parent
    folders = [folder for store in searched() if store.is_dir() for folder in store.iterdir()]
    runs = [folder.name for folder in folders if (folder / SUBJECT_FILE).is_file()]
    models: list[str] = []
    with suppress(OSError):  # such as a name that is too long for a path
        for file in (SUBJECT_FILE, "adapter_config.json", "config.json") if beside.is_dir() else ():
            models += [str(found.parent) for found in beside.glob(f"*/{file}")]
    near = difflib.get_close_matches(name, [*OWN_NAMES, *runs, *models], n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
