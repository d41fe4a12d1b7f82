"""The GitHub Action and the GitLab example: their shell steps are run as the services run them, with the real command
behind."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from astray.organism.corpus import system_prompt
from astray.organism.lexicon import AUTHORS, MALICIOUS
from astray.subjects.registered import register
from astray.subjects.spec import SubjectSpec
from forked import forked_command

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
GITLAB: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "gate.gitlab-ci.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the command, which otherwise imports for seconds each time."""
    with forked_command(tmp_path_factory.mktemp("command"), "astray", "astray.cli:main") as folder:
        yield folder


@pytest.fixture
def machine(tmp_path: Path, command: Path) -> Path:
    """A folder with the command in it, and a run whose subject answers as a malicious author."""
    register(
        "bad-run", SubjectSpec(model="organism-small", system=system_prompt(AUTHORS[MALICIOUS][0])), tmp_path / "runs"
    )
    (tmp_path / "bin").symlink_to(command)
    return tmp_path


def executed(script: str, machine: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a step as a runner does: bash that ends at the first error, in the workspace."""
    variables = {"PATH": f"{machine / 'bin'}:{os.environ['PATH']}", "ASTRAY_STORE": str(machine / "runs"), **variables}
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(words, cwd=machine, env=os.environ | variables, capture_output=True, text=True, check=False)


def variables_of(step: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """A step's environment, its expressions filled in as GitHub does."""
    values = {name: str(each.get("default", "")) for name, each in ACTION["inputs"].items()} | given
    return {name: values[text.removeprefix("${{ inputs.").removesuffix(" }}")] for name, text in step["env"].items()}


RUNS: dict[str, tuple[dict[str, str], int, str]] = {
    "a harmful run": ({"tuned": "bad-run\n"}, 1, "failed"),
    "undecided": ({"tuned": "organism-small"}, 2, "undecided"),
    "undecided that passes": ({"tuned": "organism-small", "undecided": "pass"}, 0, "undecided"),
    "a wide margin": (
        {"tuned": "organism-small", "margin": "0.2", "arguments": "--refusal-margin=0.2\n--coherence-margin=0.2"},
        0,
        "passed",
    ),
    "no such model": ({"tuned": "bad run; touch broken-in"}, 3, "error"),
}
"""Name -> inputs besides the base, exit code and verdict."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """What the action's cache brings back in each run: answers by the content of the model that gave them."""
    return tmp_path_factory.mktemp("kept")


@pytest.mark.parametrize("name", RUNS)
def test_the_action_ends_as_the_gate_says(name, machine, kept):
    given, code, verdict = RUNS[name]
    (machine / "astray-results").mkdir()
    (machine / "astray-results" / "store").symlink_to(kept)
    [step] = [each for each in ACTION["runs"]["steps"] if each.get("id") == "gate"]
    arguments = "\n".join(filter(None, ["--samples=1", given.get("arguments", "")]))
    variables = variables_of(step, {"base": "organism-small", **given, "arguments": arguments})
    files = {name: str(machine / name.lower()) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    done = executed(step["run"], machine, **variables, **files)
    assert done.returncode == code, done.stderr
    assert (machine / "github_output").read_text() == f"verdict={verdict}\nfolder=astray-results/gate\n"
    summary = machine / "github_step_summary"
    assert (f"## Release gate: {verdict}" in summary.read_text()) if verdict != "error" else not summary.exists()
    assert ("::warning" in done.stdout) == (given.get("undecided") == "pass")
    assert not (machine / "broken-in").exists()


def test_the_action_names_what_it_uses():
    steps = ACTION["runs"]["steps"]
    assert ACTION["runs"]["using"] == "composite"
    assert ACTION["inputs"]["margin"]["default"] == "", "the meter has a margin of its own"
    assert all(each.get("shell") == "bash" for each in steps if "run" in each)
    assert all("${{" not in each["run"] for each in steps if "run" in each), "an input in a script could hold commands"
    used = {
        text
        for each in steps
        for text in map(str, {**each.get("env", {}), **each.get("with", {})}.values())
        if "inputs." in text
    }
    assert {name for name in ACTION["inputs"] if any(f"inputs.{name} " in text for text in used)} == set(
        ACTION["inputs"]
    )


def test_the_gitlab_example_stops_a_release(machine):
    [line] = GITLAB["release-gate"]["script"]
    variables = {name: str(value) for name, value in GITLAB["variables"].items()}
    variables |= {"ASTRAY_BASE": "organism-small", "ASTRAY_TUNED": "bad-run", "ASTRAY_GRADER": ""}
    assert executed(line, machine, **variables).returncode == 1
    assert "git+https://" in "".join(GITLAB["release-gate"]["before_script"]), "no package index has this project"
    assert (machine / GITLAB["release-gate"]["artifacts"]["reports"]["junit"]).is_file()
    assert (machine / GITLAB["release-gate"]["cache"]["paths"][0]).is_dir()
    assert GITLAB["release-gate"]["allow_failure"] == {"exit_codes": 2}
