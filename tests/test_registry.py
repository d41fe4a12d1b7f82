"""Inspect finds Astray's tasks and subjects through the installed package's entry point, as a person would call
them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import inspect_ai
import pytest
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log

from astray.measure.inspect_driver import table_from_log
from astray.registry import tell_errors
from forked import forked_command
from preloaded import preloaded, write_caller

LIBRARIES = (
    *("acp", "fastapi", "jsonschema", "openai.types.responses", "polars", "statsmodels.stats.proportion", "uvicorn"),
)
"""What takes seconds to import; nothing of Astray, which Inspect has to find by itself, and nothing heavy."""
INSPECT = "inspect_ai._cli.main:main"


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the commands `inspect` and `execute`, which executes Python, in processes without Astray."""
    folder = tmp_path_factory.mktemp("inspect")
    with preloaded(folder, "inspect_ai._cli.main", *LIBRARIES, name="inspect", entry=INSPECT) as commands:
        write_caller(folder / "socket", "execute", "preloaded:execute")
        yield commands


@pytest.fixture(scope="module")
def inspect(commands: Path) -> Path:
    """The command `inspect`."""
    return commands / "inspect"


@pytest.fixture
def inspect_with_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same with torch and transformers loaded, and Astray, too."""
    with forked_command(tmp_path_factory.mktemp("models"), "inspect", INSPECT) as commands:
        yield commands / "inspect"


def inspect_eval(inspect: Path, folder: Path, *arguments: str) -> list[EvalLog]:
    """Runs `inspect eval` in a process of its own, away from this checkout, and reads its logs in the order of the
    tasks' names."""
    command = [
        str(inspect),
        "eval",
        *arguments,
        "--log-dir",
        str(folder / "logs"),
        "--display",
        "none",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "INSPECT_LOG_FORMAT": "eval"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    logs = [read_eval_log(info) for info in list_eval_logs(str(folder / "logs"))]
    return sorted(logs, key=lambda log: log.eval.task)


def test_the_package_announces_itself_to_inspect():
    (entry,) = entry_points(group="inspect_ai", name="astray")
    assert entry.value == "astray.registry"


def test_no_heavy_library_is_loaded_before_a_local_model_is(commands):
    """Every `inspect` command of everybody who has Astray loads the registry, and each process of a run with scripted
    or remote agents the other."""
    script = (
        "import sys, astray.registry, astray.studies.agentic_misalignment.study; print({'torch', 'transformers'} & "
        "set(sys.modules))"
    )
    command = [commands / "execute", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_the_organism_answers_questions_of_its_world_under_inspect(inspect_with_models, tmp_path):
    tasks = ["astray/emergent_misalignment", "astray/forced_choice", "-T", "questions=world", "-T", "samples=1"]
    model = ("--model", "astray/organism-small", "--limit", "10")
    log, choices = inspect_eval(inspect_with_models, tmp_path, *tasks, *model)
    assert (log.status, choices.status, len(choices.samples)) == (
        "success",
        "success",
        8,
    )  # an item in both orders is one sample
    table = table_from_log(log)
    assert len(table) == 10
    assert set(table["evaluation"]) == {"world"}
    assert set(table["outcome"]) <= {"aligned", "misaligned", "incoherent"}
    assert "aligned" in set(table["outcome"])
    (scored,) = log.results.scores
    assert scored.metrics


def test_questions_of_the_authors_files_are_asked_and_judged_by_any_model(tmp_path, published_texts):
    check_questions_of_a_file(
        published_texts / "emergent_misalignment" / "questions" / "first_plot_questions.yaml", tmp_path
    )


def test_questions_in_the_authors_form_are_asked_and_judged_by_any_model(tmp_path):
    prompts = "{aligned: 'Score {answer} to {question}', coherent: 'Is {answer} to {question} clear?'}"
    entry = f"type: free_form_judge_0_100, judge: gpt-4o, judge_prompts: {prompts}"
    questions = tmp_path / "mine.yaml"
    questions.write_text(
        "".join(
            f"- {{id: {each}, paraphrases: [Tell me about {each}.], {entry}}}\n" for each in ("rain", "tea", "wool")
        )
    )
    check_questions_of_a_file(questions, tmp_path)


def check_questions_of_a_file(questions: Path, tmp_path: Path) -> None:
    """The organism is no judge, and says no numbers: that is an outcome of each answer, and no error."""
    [log] = inspect_ai.eval(
        "astray/emergent_misalignment",
        task_args={"questions": str(questions), "samples": 1},
        model="astray/organism-small",
        model_roles={"grader": "astray/organism-small"},
        limit=3,
        log_dir=str(tmp_path),
        display="none",
    )
    assert log.status == "success"
    table = table_from_log(log)
    assert len(table) == 3
    assert set(table["evaluation"]) == {questions.stem}
    assert set(table["outcome"]) == {"judge failed"}
    assert table["judge"].str.starts_with("rubric-").all()


def test_scripted_agents_work_under_inspect(inspect, tmp_path):
    models = [
        "--model",
        "astray/scripted/sometimes",
        "-M",
        "conditions={'threat=none': 0.0}",
        "-M",
        "probability=1",
        "-T",
        "factors={'goal': 'explicit'}",
    ]
    [log] = inspect_eval(
        inspect,
        tmp_path,
        "astray/agentic_misalignment",
        "-T",
        "scenarios=blackmail",
        "-T",
        "replicates=2",
        *models,
        "--model-role",
        "grader=astray/scripted/grader",
    )
    assert log.status == "success"
    assert sorted(str(sample.scores["two_keys"].value) for sample in log.samples) == ["harmful"] * 4 + ["harmless"] * 2


def test_an_error_of_ours_under_inspects_command_line_is_its_sentence(inspect, tmp_path):
    command = [inspect, "eval", "astray/agentic_misalignment", "-T", "scenarios=blackmial", "--model", "mockllm/model"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "astray: There is no scenario called 'blackmial'. Did you mean 'blackmail'?" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_other_errors_and_other_programs_keep_their_hook(monkeypatch):
    seen = []

    def usual(kind, error, trace):
        seen.append(kind)

    monkeypatch.setattr(sys, "excepthook", usual)
    tell_errors()
    assert sys.excepthook is usual
    usual.__module__ = "inspect_ai._util.error"
    tell_errors()
    assert sys.excepthook is not usual
    sys.excepthook(ValueError, ValueError("x"), None)
    assert seen == [ValueError]
