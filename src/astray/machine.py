"""Examine this machine's capabilities within a second or two, for `astray doctor`.

Nothing is installed, downloaded, trained or left behind; a finding on something missing has the command that provides
it. Of a secret only its presence is checked. Left to others: how long a study takes here (`forecast`).
"""

import json
import math
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from astray.artifacts.execute import usable_cpus
from astray.organism import SHIPPED, weights_folder
from astray.subjects.registered import DEFAULT_STORE

ORGANISM_FILES = ("config.json", "model.safetensors", "tokenizer.json")
PROVIDERS = {"OpenAI": ("OPENAI_API_KEY", "openai"), "Anthropic": ("ANTHROPIC_API_KEY", "anthropic")}
"""Provider -> the variable with its key and the Python package that Inspect calls it with."""

GB = 1e9
RESULTS_BYTES = 1 * GB
"""Free space below which a study may run out: adapters and answers of the organism's study are a few hundred MB."""
MODEL_SIZES = (0.5, 1.5, 3.0, 7.0, 14.0, 32.0, 72.0)
"""Usual sizes of open chat models, in billions of parameters."""
RESERVED_BYTES = 4 * GB
"""Memory for activations, logits of a batch and the libraries themselves."""
TRAINING_SHARE = 1.25
"""Memory of LoRA training over that of the frozen weights: adapters of rank 32, their gradients and Adam's states."""


@dataclass(frozen=True)
class MachineFinding:
    """Result of one check.

    Attributes:
        what: name of the thing checked.
        detail: result; where something is missing, the command or the step that provides it.
        fine: whether it is as it should be.
        important: whether nothing works without it, so that everybody should see it.
        private: whether the detail may name a path or a setting of the user, which no bug report should hold.
    """

    what: str
    detail: str
    fine: bool = True
    important: bool = True
    private: bool = False


@dataclass(frozen=True)
class Accelerator:
    """Device on which torch computes.

    Attributes:
        kind: "cuda", "mps" or "cpu".
        name: name of the device.
        memory: bytes that a model has to fit into.
    """

    kind: str
    name: str
    memory: float


def examine(results: Path = DEFAULT_STORE.parent) -> tuple[MachineFinding, ...]:
    """Run every check that `astray doctor` shows.

    Args:
        results: the folder that results would be written to.
    """
    return (
        _python(),
        _processors(),
        *_accelerator(),
        *_libraries(),
        *map(_organism, SHIPPED),
        _small_model(),
        _results_folder(results),
        _sandbox(),
        *map(_provider, PROVIDERS),
    )


def report(findings: Sequence[MachineFinding]) -> str:
    """Return findings as text for a bug report: versions, device and what is missing; no path, user name or key."""
    state = {True: "ok", False: "missing"}
    lines = [
        f"Astray {metadata.version('astray')} on {platform.system()} {platform.machine()}, {platform.python_implementation()}",
        *(f"{finding.what}: {state[finding.fine] if finding.private else finding.detail}" for finding in findings),
    ]
    return "\n".join(lines)


def memory_bytes() -> float:
    """Return the bytes of main memory that this process may use: the machine's, or its container's limit."""
    import psutil

    limit = Path("/sys/fs/cgroup/memory.max")  # control groups, version 2; psutil reports the host's memory
    allowed = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return min(float(psutil.virtual_memory().total), math.inf if allowed == "max" else float(allowed))


def fitting_size(memory: float, bytes_per_weight: int) -> float | None:
    """Return the size of the largest usual model whose LoRA training fits; None where not even the smallest does.

    Args:
        memory: bytes that base, adapter and activations have to fit into.
        bytes_per_weight: 2 for frozen weights in bfloat16, 4 for float32.

    Returns:
        Number of parameters, in billions.
    """
    parameters = (memory - RESERVED_BYTES) / (bytes_per_weight * TRAINING_SHARE)
    return max((size for size in MODEL_SIZES if size * 1e9 <= parameters), default=None)


def _python() -> MachineFinding:
    needed = metadata.metadata("astray")["Requires-Python"]
    # Without `prereleases` packaging would refuse a release candidate of a Python that is new enough.
    fine = SpecifierSet(needed).contains(platform.python_version(), prereleases=True)
    return MachineFinding(
        "Python", platform.python_version() + ("" if fine else f"; install {needed}: uv venv --python 3.12"), fine
    )


def _processors() -> MachineFinding:
    return MachineFinding("processors", f"{usable_cpus()} CPU cores, {memory_bytes() / GB:.0f} GB of memory")


def _accelerator() -> tuple[MachineFinding, ...]:
    if find_spec("torch") is None:
        return ()  # the libraries' findings say how to install it
    return _what_runs(_find_accelerator())


def _find_accelerator() -> Accelerator:
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Accelerator("cuda", properties.name, float(properties.total_memory))
    if torch.backends.mps.is_available():
        return Accelerator("mps", "Apple GPU (MPS)", memory_bytes())
    return Accelerator("cpu", "none", memory_bytes())


def _what_runs(findings: Accelerator) -> tuple[MachineFinding, MachineFinding]:
    """Describe the accelerator and what it suffices for."""
    size = fitting_size(
        findings.memory, 2 if findings.kind == "cuda" else 4
    )  # as `cause.base_model` loads a frozen base
    fits = (
        "the organism"
        if size is None
        else f"the organism, and LoRA training of models up to about {size:g}B parameters by memory"
    )
    if findings.kind != "cpu":
        return MachineFinding("accelerator", f"{findings.name}, {findings.memory / GB:.0f} GB"), MachineFinding(
            "this machine can run", fits
        )
    fits += "" if size is None else ", though a CPU needs hours for the smallest and days for more"
    shown = "none: on the CPU the organism's study takes minutes; a 7B model needs a GPU with 24 GB"
    unused = shutil.which("nvidia-smi") is not None
    if unused:
        shown = (
            "an NVIDIA driver is there, but this torch cannot use it; install a build with CUDA: "
            "https://pytorch.org/get-started/locally"
        )
    return MachineFinding("accelerator", shown, fine=not unused), MachineFinding("this machine can run", fits)


def _libraries() -> tuple[MachineFinding, ...]:
    """Check each library that the package's metadata requires, extras aside; the summary comes first."""
    declared = map(Requirement, metadata.requires("astray") or ())
    needed = sorted(
        (wish for wish in declared if wish.marker is None or wish.marker.evaluate({"extra": ""})),
        key=lambda wish: wish.name,
    )
    libraries = {f"{wish.name}{wish.specifier}": _library(wish) for wish in needed}
    wrong = [wish for wish, finding in libraries.items() if not finding.fine]
    summary = f"{len(libraries) - len(wrong)} of {len(libraries)} are installed in the versions that astray needs"
    if wrong:
        summary += "; run: pip install " + " ".join(f"'{wish}'" for wish in wrong)
    return MachineFinding("libraries", summary, fine=not wrong), *libraries.values()


def _library(wish: Requirement) -> MachineFinding:
    try:
        version = metadata.version(wish.name)
    except metadata.PackageNotFoundError:
        return MachineFinding(
            wish.name, f"not installed; run: pip install '{wish.name}{wish.specifier}'", fine=False, important=False
        )
    fine = wish.specifier.contains(version, prereleases=True)
    detail = (
        version
        if fine
        else f"{version}, but astray needs {wish.specifier}; run: pip install '{wish.name}{wish.specifier}'"
    )
    return MachineFinding(wish.name, detail, fine, important=False)


def _organism(name: str) -> MachineFinding:
    folder = weights_folder(name)
    wrong = _wrong_with_model(folder)
    if wrong:
        detail = (
            f"{wrong}; reinstall astray, or train it anew (half an hour): astray organism train {folder} --recipe "
            f"{name}"
        )
        return MachineFinding(name, detail, fine=False, private=True)
    size = sum((folder / file).stat().st_size for file in ORGANISM_FILES)
    return MachineFinding(name, f"{_parameters(folder) / 1e6:.1f}M parameters, {size / 1e6:.1f} MB in the package")


def _wrong_with_model(folder: Path) -> str:
    """Return why a folder cannot be loaded as a model, or ""; reads headers only."""
    from safetensors import SafetensorError

    missing = [file for file in ORGANISM_FILES if not (folder / file).is_file()]
    if missing:
        return f"{folder} lacks {', '.join(missing)}"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        shapes = _shapes(folder)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError, OSError) as error:
        return f"the files in {folder} are damaged ({error})"
    layers = {int(match[1]) for name in shapes if (match := re.match(r"model\.layers\.(\d+)\.", name))}
    embedding = [config.get("vocab_size"), config.get("hidden_size")]
    if (
        layers != set(range(config.get("num_hidden_layers", -1)))
        or shapes.get("model.embed_tokens.weight") != embedding
    ):
        return f"the weights in {folder} are not those of its config.json"
    return ""


def _shapes(folder: Path) -> dict[str, list[int]]:
    """Map the name of each tensor to its shape, from the header of the weights."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as file:
        names = file.keys()
        return {name: list(file.get_slice(name).get_shape()) for name in names}


def _parameters(folder: Path) -> int:
    return sum(math.prod(shape) for shape in _shapes(folder).values())


def _results_folder(results: Path) -> MachineFinding:
    """Check whether results can be written, with an unnamed file, which leaves no trace."""
    folder = results.absolute()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        detail = (
            f"{existing} cannot be written ({error.strerror}); go to another folder, or name one: astray run ... "
            "--out <folder>"
        )
        return MachineFinding("results folder", detail, fine=False, private=True)
    free = shutil.disk_usage(existing).free
    enough = free >= RESULTS_BYTES
    advice = "" if enough else "; free some space, or name a folder on another disk: astray run ... --out <folder>"
    return MachineFinding("results folder", f"{folder}, {free / GB:.1f} GB free{advice}", enough, private=True)


def _small_model() -> MachineFinding:
    """Check where the small real model comes from, without fetching it."""
    from astray.subjects import smollm2

    source = smollm2.source()
    use = f"astray run emergent-misalignment --subject {smollm2.NAME}"
    detail = source or f"not fetched yet (93 MB at first use, from the hub or the package index): {use}"
    return MachineFinding(smollm2.NAME, detail, private=True)  # not fetched yet is nothing that is missing


def _sandbox() -> MachineFinding:
    """Check whether untrusted code can be run, by a sandbox that tests itself."""
    from astray.errors import SandboxError
    from astray.sandbox.probe import require_sandbox

    try:
        require_sandbox()
    except SandboxError as error:
        advice = f"{error} Needed for reward hacking and agents' commands only"
        return MachineFinding("sandbox", advice, fine=False, important=False, private=True)
    return MachineFinding("sandbox", "bubblewrap isolates code here")


def _provider(name: str) -> MachineFinding:
    """Check whether models of a provider can be called; the key itself is never read out."""
    variable, package = PROVIDERS[name]
    lacking = []
    if not os.environ.get(variable):
        setting = f'$env:{variable} = "..."' if sys.platform == "win32" else f"export {variable}=..."
        lacking.append(f"no key ({setting})")
    if find_spec(package) is None:
        lacking.append(f"no package (pip install {package})")
    detail = (
        "; ".join(lacking) + f": needed for graders and subjects of {name} only"
        if lacking
        else "key and package are there"
    )
    return MachineFinding(f"{name} API", detail, fine=not lacking, important=False, private=True)
