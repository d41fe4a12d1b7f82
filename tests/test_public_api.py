"""What is public: the names of the package, each where it says, and nothing heavy behind `import astray`."""

import importlib
import json
import subprocess
import sys

import pytest

import astray

HEAVY = {"torch", "transformers", "inspect_ai", "polars", "pydantic", "numpy", "scipy", "datasets", "peft", "trl", "openai"}


def loaded_by(code: str) -> set[str]:
    """The heavy libraries that a fresh Python has loaded after this code."""
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


def test_the_public_names_are_these():
    assert astray.__all__ == [
        "AstrayError",
        "ChatDataset",
        "Outcome",
        "Subject",
        "SubjectSpec",
        "doctor",
        "load_subject",
        "plan",
        "run",
        "write_report",
    ]


@pytest.mark.parametrize("name", astray.__all__)
def test_a_public_name_can_be_imported(name):
    assert getattr(astray, name).__module__.startswith("astray.")


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="module 'astray' has no attribute 'helpers'"):
        importlib.import_module("astray").helpers  # noqa: B018  (reading it is the point)


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import astray") == set()


def test_help_loads_nothing_heavy():
    assert loaded_by(asking_for_help([])) == set()


def test_the_help_of_a_verb_loads_nothing_heavy():
    """Typer itself reads the options of a verb with pydantic, which takes a twentieth of a second."""
    assert loaded_by(asking_for_help(["run"], ["plan"], ["doctor"], ["organism", "train"])) <= {"pydantic"}


def asking_for_help(*verbs: list[str]) -> str:
    calls = [f"assert CliRunner().invoke(app, {[*verb, '--help']!r}).exit_code == 0" for verb in verbs]
    return "\n".join(["from typer.testing import CliRunner", "from astray.cli import app", *calls])
