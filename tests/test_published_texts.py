"""What becomes of tests that need published texts, with and without them, and what CI makes of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from published_texts import PARTS, VARIABLE

TESTS = Path(__file__).parent
CONFTEST = """
import pytest
from published_texts import FIXTURE, PublishedTexts

def pytest_configure(config):
    config.addinivalue_line("markers", FIXTURE)
    config.pluginmanager.register(PublishedTexts(), FIXTURE)

@pytest.fixture
def published_texts(request):
    return request.config.pluginmanager.get_plugin(FIXTURE).folder
"""
SUITE = """
def test_needs_texts(published_texts):
    assert published_texts.is_dir()

def test_needs_them_too(published_texts):
    pass

def test_needs_nothing():
    pass
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout, with nothing beside it."""
    folder = tmp_path / "somewhere" / "astray"
    (folder / "tests").mkdir(parents=True)
    (folder / "tests" / "conftest.py").write_text(CONFTEST)
    (folder / "tests" / "test_it.py").write_text(SUITE)
    shutil.copy(TESTS / "published_texts.py", folder / "tests")
    return folder


def published(folder: Path) -> Path:
    for part in PARTS:
        (folder / part).mkdir(parents=True)
    return folder


def run(command: list[str], checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "SLIPCOVER", VARIABLE))}
    kept["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return subprocess.run(command, cwd=checkout, env=kept | environment, capture_output=True, text=True, check=False)


def run_pytest(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(
        [sys.executable, "-m", "pytest", "-p", "xdist", "--strict-markers", "tests", *arguments],
        checkout,
        **environment,
    )


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_they_are_left_out_where_there_are_none_and_the_last_lines_say_so(
    checkout: Path, workers: tuple[str, ...]
) -> None:
    done = run_pytest(checkout, *workers)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    said = (
        f"Tests that need published texts: 2 left out, since there is no folder {checkout.parent / 'shared' / 'data'}\n"
    )
    assert said in done.stdout
    last = (checkout / ".pytest_cache" / "d" / "published-texts" / "last.txt").read_text()
    assert last.startswith(said)
    assert VARIABLE in last


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_they_run_where_the_folder_stands_beside_the_checkout_or_is_named(
    checkout: Path, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    elsewhere, beside = published(tmp_path / "elsewhere"), published(checkout.parent / "shared" / "data")
    for folder, environment in ((beside, {}), (elsewhere, {VARIABLE: str(elsewhere)})):
        done = run_pytest(checkout, *workers, **environment)
        assert "3 passed" in done.stdout, done.stdout + done.stderr
        assert f"Tests that need published texts: all 2 ran, with {folder}\n" in done.stdout


def test_what_was_not_asked_for_is_not_left_out(checkout: Path) -> None:
    assert "published texts" not in run_pytest(checkout, "-k", "nothing").stdout
    assert "published texts: 1 left out" in run_pytest(checkout, "-k", "too or nothing").stdout


def test_a_name_that_leads_nowhere_is_refused(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    published(checkout.parent / "shared" / "data")
    done = run_pytest(checkout, **{VARIABLE: str(tmp_path / "empty")})
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{VARIABLE} is '{tmp_path / 'empty'}', which is no folder with {' and '.join(PARTS)} in it" in done.stderr


@pytest.mark.parametrize(
    ("is_there", "said", "passes"),
    [
        (False, "published texts: 2 left out", True),
        (True, "published texts: all 2 ran", True),
        (True, "published texts: 1 of 2 ran", False),
        (True, "published texts: 2 left out", False),
        (True, "published texts: all 0 ran", False),
        (True, "", False),
    ],
)
def test_ci_fails_where_the_texts_are_there_and_their_tests_did_not_run(
    checkout: Path, is_there: bool, said: str, passes: bool
) -> None:
    """With a `make test` that says what it is told to."""
    shutil.copytree(TESTS.parent / ".ci", checkout / ".ci")
    (checkout / "Makefile").write_text(f"test:\n\t@echo 'Tests that need {said}'\n")
    if is_there:
        published(checkout.parent / "shared" / "data")
    done = run([".ci/run"], checkout)
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    assert ("not all tests that need it ran" in done.stderr) != passes


def test_ci_fails_where_a_test_fails(checkout: Path) -> None:
    shutil.copytree(TESTS.parent / ".ci", checkout / ".ci")
    (checkout / "Makefile").write_text("test:\n\t@echo 'Tests that need published texts: all 2 ran'; false\n")
    assert run([".ci/run"], checkout).returncode != 0
