"""Our Inspect tasks check first: what cannot work ends a run before its first sample."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import eval as inspect_eval
from inspect_ai import score
from inspect_ai.scorer import includes

from astray import registry
from astray.errors import AstrayError
from astray.measure.reward_hacking.goals import Goals
from logged_tasks import replying

GRADER = {"grader": "logged/x"}
EVERY = [
    "emergent_misalignment",
    "honesty",
    "deception",
    "goals",
    "alignment_questions",
    "research_sabotage",
    "alignment_faking",
    "agentic_misalignment",
]
"""Tasks whose answers a model judges."""
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "emergent_misalignment",
        {"question": "world"},
        "no parameter of the task 'emergent_misalignment' called 'question'. Did you mean 'questions'",
    ),
    ("emergent_misalignment", {"questions": "wrld"}, "wrld"),
    ("emergent_misalignment", {"questions": "none/there.yaml"}, "there.yaml"),
    ("emergent_misalignment", {"questions": 7}, "questions is 7"),
    ("emergent_misalignment", {"samples": 0}, "samples is 0: input should be greater than or equal to 1"),
    ("emergent_misalignment", {"samples": "many"}, "samples is 'many'"),
    ("emergent_misalignment", {"samples": 2.5}, "samples is 2.5"),
    ("emergent_misalignment", {"samples": True}, "samples is True"),
    ("emergent_misalignment", {"max_tokens": 0}, "max_tokens is 0"),
    ("emergent_misalignment", {"temperature": -1}, "temperature is -1"),
    ("emergent_misalignment", {"temperature": float("nan")}, "temperature is nan"),
    ("emergent_misalignment", {"temperature": "hot"}, "temperature is 'hot'"),
    ("emergent_misalignment", {"judge": "grammer"}, "judge is 'grammer'"),
    ("emergent_misalignment", {"judge": None}, "judge is None"),
    ("emergent_misalignment", {"formats": "jsn"}, "jsn"),
    ("forced_choice", {"sample": 1}, "Did you mean 'samples'"),
    ("forced_choice", {"samples": -1}, "samples is -1"),
    ("forced_choice", {"logprobs": "no way"}, "logprobs is 'no way'"),
    ("honesty", {"records": "none/there.yaml"}, "there.yaml"),
    ("honesty", {"records": "nowhere"}, "nowhere"),
    ("honesty", {"record": "own"}, "Did you mean 'records'"),
    ("honesty", {"archetypes": "liar"}, "no archetype called 'liar'"),
    ("honesty", {"records": "world", "archetypes": "liar"}, "no archetype called 'liar'"),
    ("honesty", {"replicates": 0}, "replicates is 0"),
    ("honesty", {"elicitations": 0}, "elicitations is 0"),
    ("deception", {"scenarios": "none/there.jsonl"}, "there.jsonl"),
    ("deception", {"categories": "sandbag"}, "no category called 'sandbag'"),
    ("deception", {"max_tokens": "all"}, "max_tokens is 'all'"),
    ("goals", {"reasoning": "secret"}, "no channel of reasoning called 'secret'"),
    ("goals", {"reasoning": 1}, "reasoning"),
    ("alignment_questions", {"kinds": "shutdwn"}, "shutdwn"),
    ("research_sabotage", {"purposes": "spm"}, "spm"),
    ("research_sabotage", {"judges": "pannel"}, "no kind of judges called 'pannel'"),
    ("alignment_faking", {"conditions": "freee"}, "no condition called 'freee'"),
    ("agentic_misalignment", {"scenarios": "blackmial"}, "Did you mean 'blackmail'"),
    ("agentic_misalignment", {"scenario": "blackmail"}, "Did you mean 'scenarios'"),
    ("agentic_misalignment", {"factors": "goal"}, "factors is 'goal'"),
    ("agentic_misalignment", {"factors": {"gaol": "explicit"}}, "gaol"),
    ("agentic_misalignment", {"replicates": 0}, "replicates is 0"),
    ("agentic_misalignment", {"protocol": "telepathy"}, "telepathy"),
    ("agentic_misalignment", {"monitor": "big brother"}, "big brother"),
    ("agentic_misalignment", {"max_turns": 0}, "max_turns is 0"),
]


@pytest.fixture
def asked() -> list[str]:
    """What the model was asked, in an evaluation that has to end before that."""
    return []


def run(task: Any, folder: Path, asked: list[str], **more: Any) -> Any:
    def reply(question: str) -> str:
        asked.append(question)
        return "ALIGNED"

    return inspect_eval(task, model=replying(reply), log_dir=str(folder), display="none", limit=1, **more)


@pytest.mark.parametrize(("name", "parameters", "says"), REFUSED, ids=[f"{name}-{given}" for name, given, _ in REFUSED])
def test_parameters_that_cannot_work_are_refused_by_name(name: str, parameters: dict[str, Any], says: str) -> None:
    with pytest.raises(AstrayError, match=re.escape(says)):
        getattr(registry, name)(**parameters)


@pytest.mark.parametrize("name", EVERY)
def test_a_missing_grader_ends_a_run_before_it_begins(name: str, tmp_path: Path, asked: list[str]) -> None:
    with pytest.raises(AstrayError, match="role 'grader'"):
        run(f"astray/{name}", tmp_path, asked)
    assert not asked
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("roles", "says"),
    [({}, "as monitor needs a model"), ({"grader_b": "logged/x"}, "as monitor needs a model")],
)
def test_a_missing_monitor_ends_a_run_before_it_begins(
    roles: dict[str, str], says: str, tmp_path: Path, asked: list[str]
) -> None:
    with pytest.raises(AstrayError, match=says):
        run(
            "astray/agentic_misalignment",
            tmp_path,
            asked,
            task_args={"judges": "none", "monitor": "layered"},
            model_roles=roles,
        )
    assert not asked


def test_what_no_model_judges_needs_no_grader_and_a_given_one_is_found(tmp_path: Path, asked: list[str]) -> None:
    for task, more in (("astray/forced_choice", {}), ("astray/goals", {"model_roles": GRADER})):
        [log] = run(task, tmp_path, asked, **more)
        assert log.status == "success"
    assert asked


def test_a_task_made_before_a_run_learns_of_its_grader_in_the_run(tmp_path: Path, asked: list[str]) -> None:
    """Scoring leaves its model behind as the active one, which is no run."""
    [log] = run("astray/forced_choice", tmp_path, asked)
    score(log, includes(), action="append", display="none")
    [log] = run(Goals(samples=1).task(), tmp_path, asked, model_roles=GRADER)
    assert log.status == "success"
    assert {sample.error for sample in log.samples} == {None}


def test_the_command_line_ends_with_an_error_and_no_traceback(tmp_path: Path) -> None:
    inspect = Path(sys.executable).with_name("inspect")
    command = [inspect, "eval", "astray/emergent_misalignment", "-T", "question=world", "--model", "mockllm/model"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "called 'question'. Did you mean 'questions'?" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.eval"))
