"""A grader whose weights run here is known by them, under whatever name; without them it is refused before a run."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from astray.errors import JudgeError
from astray.judges.served import served_as
from astray.judges.weights import content_of, folders_of


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with one model, of which only what an identity reads is there."""
    snapshot = tmp_path / "cache/models--owner--judge/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("HF_BASE_URL", "VLLM_BASE_URL", "INSPECT_EVAL_MODEL_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return snapshot


def test_other_weights_under_a_hub_name_are_another_grader(cache: Path, tmp_path: Path) -> None:
    before = served_as("hf/owner/judge")
    assert before == f"weights {content_of(cache)}"
    moved = shutil.copytree(cache, tmp_path / "moved")
    assert served_as(f"hf/{moved}") == served_as("vllm/owner/judge") == before
    (cache / "model.safetensors").write_bytes(b"others")
    assert served_as("hf/owner/judge") != before
    assert folders_of("hf/local", {"model_path": str(moved)}, served=False) == [moved]


@pytest.mark.parametrize("name", ["hf/owner/missing", "vllm/owner/missing", "hf/no such folder", "hf/a/b/c"])
def test_weights_that_are_not_here_are_asked_for(cache: Path, name: str) -> None:
    with pytest.raises(JudgeError, match=r"neither in a folder .* nor in the cache.*hf download|path/to/folder"):
        served_as(name)


def test_a_server_needs_no_weights_here(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_BASE_URL", "http://127.0.0.1:9/v1")
    assert served_as("vllm/owner/missing") == "http://127.0.0.1:9/v1"
    assert folders_of("openai/gpt-4o", {}, served=False) == []


def test_a_download_that_has_no_weights_yet_is_none(cache: Path) -> None:
    (cache / "model.safetensors").unlink()
    with pytest.raises(JudgeError, match="hf download owner/judge"):
        served_as("hf/owner/judge")
