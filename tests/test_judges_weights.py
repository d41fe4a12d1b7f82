"""A grader whose weights run here is known by them, under whatever name; without them it is refused before a run."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from astray.engine.steps import judge
from astray.errors import JudgeError, SubjectNotFoundError
from astray.judges import JudgeConfig, served
from astray.judges.served import served_as
from astray.judges.weights import content_of, folders_of
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.play import Part, play_steps
from astray.measure.agentic.subjects import AgenticSubject
from astray.subjects.locate import graders_known_as, settle


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


def test_a_local_subject_that_judges_is_known_by_its_weights_and_not_by_its_path(
    tiny_qwen2: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(tiny_qwen2, tmp_path / "moved")
    before = graders_known_as(f"astray/{tiny_qwen2}")
    assert before == f"subject {settle(str(tiny_qwen2)).id}" == graders_known_as(f"astray/{moved}")
    (moved / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert graders_known_as(f"astray/{moved}") != before
    assert graders_known_as(f"astray/{tiny_qwen2},astray/scripted/grader") == before
    for name in ("astray/organism", "astray/scripted/grader", "openai/gpt-4o", None):
        assert graders_known_as(name) == ""
    with pytest.raises(SubjectNotFoundError):
        graders_known_as("astray/no such folder")


def test_a_subject_that_acts_and_its_graders_are_known_beside_their_names(
    tiny_qwen2: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [{"id": "b", "root": "/b"}, {"id": "a/b", "root": "/a/b"}]
    monkeypatch.setattr(served, "_models", lambda url, key: told if "9/v1" in url else ())
    acts = AgenticSubject(
        name="x",
        model="openai-api/server/a/b",
        arguments={"base_url": "http://127.0.0.1:9/v1"},
        grader=(f"astray/{tiny_qwen2}", "hf/owner/judge"),
    )
    assert acts.served == (
        'http://127.0.0.1:9/v1 [{"id": "a/b", "root": "/a/b"}]',
        f"subject {settle(str(tiny_qwen2)).id}",
        f"weights {content_of(cache)}",
    )
    part = Part("p", Grid(scenarios=("blackmail",), replicates=1))
    keys = [next(play_steps(acts, part, 10)).key]
    (cache / "model.safetensors").write_bytes(b"others")
    others = AgenticSubject.model_validate(acts.model_dump())
    keys.append(next(play_steps(others, part, 10)).key)
    told[1]["root"] = "/c"
    keys.append(next(play_steps(AgenticSubject.model_validate(acts.model_dump()), part, 10)).key)
    assert len(set(keys)) == 3
    plain = AgenticSubject(name="x", model="mockllm/model", grader=("mockllm/model",))
    assert plain.served == ()
    silent = AgenticSubject(name="x", model="openai-api/server/b", arguments={"base_url": "http://127.0.0.1:8/v1"})
    assert silent.served == ()
    assert "served" not in next(play_steps(plain, part, 10)).origin.config


def test_a_grader_that_was_moved_or_renamed_keeps_its_verdicts(
    tiny_qwen2: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys(*graders: str) -> set[str]:
        named = [(name, graders_known_as(name)) for name in graders]
        part = Part("p", Grid(scenarios=("blackmail",), replicates=1))
        return {
            *(judge.step(JudgeConfig(kind="rubric", grader=name, server=known)).key for name, known in named),
            *(next(play_steps(AgenticSubject(name="x", model=name, grader=(name,)), part, 10)).key for name in graders),
        }

    moved = shutil.copytree(tiny_qwen2, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    before = keys(f"astray/{tiny_qwen2}")
    assert keys(f"astray/{moved}") == keys("astray/moved") == before
    assert keys(f"hf/{shutil.copytree(cache, tmp_path / 'other')}", "hf/other") == keys(f"hf/{cache}")
    (moved / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert not keys("astray/moved") & before
    # A server's model is not the folder that happens to have its name.
    monkeypatch.setenv("VLLM_BASE_URL", "http://127.0.0.1:9/v1")
    assert not keys("vllm/moved") & keys("vllm/other")


def test_a_server_needs_no_weights_here(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_BASE_URL", "http://127.0.0.1:9/v1")
    assert served_as("vllm/owner/missing") == "http://127.0.0.1:9/v1"
    assert folders_of("openai/gpt-4o", {}, served=False) == []


def test_a_download_that_has_no_weights_yet_is_none(cache: Path) -> None:
    (cache / "model.safetensors").unlink()
    with pytest.raises(JudgeError, match="hf download owner/judge"):
        served_as("hf/owner/judge")
