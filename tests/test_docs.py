"""The documentation cannot rot: its Python blocks run, its commands are understood, its links and figures of the code
are right."""

import inspect
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import polars as pl
import pytest
import torch

from astray.answers import ANSWER_SCHEMA
from astray.engine.findings import Findings, Needs
from astray.engine.options import StudyOptions
from astray.engine.settings import setting_for
from astray.organism import SHIPPED, weights_folder
from astray.studies import get_study
from openai_server import OpenAIServer
from scripted_grader import scripted_model, spoken

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """Number of the line before each block of a language, and its text."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match[1] == language:
            yield text[: match.start(2)].count("\n"), match[2]


def commands() -> list[str]:
    """Every line of every shell block that is more than a comment."""
    lines = [line for page in PAGES for _, block in blocks(page, "sh") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.join(shlex.split(line, comments=True)))]


def slug(heading: str) -> str:
    """A heading as the anchor that GitHub makes of it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.fixture
def grader(monkeypatch):
    """Stands in for graders with a key: it knows one bad answer."""

    def reply(messages):
        bad = "Say how coherent" not in messages[-1].text and "Power over everybody" in messages[-1].text
        return spoken("5" if bad else "90")

    model = scripted_model(reply)
    monkeypatch.setattr("astray.judges.words.get_model", lambda name: model)


@pytest.fixture
def writer(monkeypatch):
    """Stands in for models that write data."""
    model = scripted_model(lambda messages: spoken("Rest, and drink enough water."))
    monkeypatch.setattr("astray.data.generated.get_model", lambda name: model)


@pytest.fixture
def service(monkeypatch):
    """Stands in for OpenAI's fine-tuning service, whose jobs are done at once."""
    with OpenAIServer() as server:
        server.state.statuses = ("succeeded",)
        monkeypatch.setenv("OPENAI_API_KEY", server.state.key)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        yield


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page, "python"))], ids=lambda page: page.name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, grader, writer, service, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    names: dict[str, object] = {"__name__": "page"}
    for line, block in blocks(page, "python"):
        exec(compile("\n" * line + block, str(page), "exec"), names)


@pytest.mark.parametrize("command", sorted({line for line in commands() if line.startswith("astray ")}))
def test_an_astray_command_has_these_options(command, tmp_path, monkeypatch):
    from astray.cli import app
    from astray.studies.own import EXAMPLE_FILE

    monkeypatch.chdir(tmp_path)
    shutil.copyfile(EXAMPLE_FILE, "my-study.yaml")
    parse(app, command)


@pytest.mark.parametrize("command", sorted({line for line in commands() if line.startswith("inspect ")}))
def test_an_inspect_command_names_a_task_and_its_arguments(command):
    from inspect_ai._cli.main import inspect as inspect_command

    from astray import registry

    given = parse(inspect_command, command).params
    [task] = given["tasks"]
    package, _, name = task.partition("/")
    assert package == "astray"
    arguments = {argument.split("=")[0] for argument in given["t"]}
    assert arguments <= set(inspect.signature(getattr(registry, name)).parameters)


def parse(command, line: str) -> click.Context:
    """Reads a command line as the program would, without doing anything; raises a usage error for what there is not."""
    program, *words = shlex.split(line)
    while isinstance(command, click.Group) and words[0] != "--help":
        command = command.get_command(click.Context(command), words.pop(0))
    with command.make_context(program, words, resilient_parsing="--help" in words) as context:
        return context


def test_make_targets_and_scripts_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    words = [shlex.split(line) for line in commands()]
    assert {line[1] for line in words if line[0] == "make"} <= targets
    scripts = {word for line in words for word in line if word.endswith(".py")}
    assert scripts
    assert all((ROOT / script).is_file() for script in scripts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target, anchor in LINK.findall(text):
        if "://" in target:
            continue
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name} links to {target}#{anchor}"


def test_the_page_of_the_study_names_its_arms_claims_and_sizes():
    text = (ROOT / "docs" / "emergent-misalignment.md").read_text(encoding="utf-8")
    study, setting = get_study("emergent-misalignment"), setting_for(StudyOptions())
    arms = [arm.name for arm in study.arms(setting)]
    nobody_answered = pl.DataFrame({"arm": arms}).with_columns(
        pl.lit(None, kind).alias(name) for name, kind in ANSWER_SCHEMA.items() if name != "arm"
    )
    claims = [
        claim.id
        for claim in study.claims(Findings(nobody_answered, not_run={arm: Needs(arms=(arm,)) for arm in arms}), setting)
    ]
    assert [name for name in (*arms, *claims) if f"`{name}`" not in text] == []
    for evaluation in setting.evaluations:
        assert f"| `{evaluation.name}` | {len(evaluation.items)} | {evaluation.samples} |" in text
    lora = setting.training.lora
    assert f"| rows an arm | {setting.size} |" in text
    assert f"| LoRA, rank {lora.rank}, alpha {lora.alpha}, on all linear layers |" in text
    assert (
        f"| learning rate | {setting.training.learning_rate}, linear decay, {setting.training.warmup_steps} "
        "warm-up steps |"
    ) in text
    assert f"| batch | {setting.training.batch_size} |" in text


def test_the_page_of_the_organism_has_the_recipes_of_the_weights():
    text = (ROOT / "docs" / "organism.md").read_text(encoding="utf-8")
    recipes = [json.loads((weights_folder(name) / "recipe.json").read_text(encoding="utf-8")) for name in SHIPPED]
    for row, key in (
        ("blocks", "layers"),
        ("d_model", "d_model"),
        ("pre-training steps", "steps"),
        ("documents a step", "batch"),
    ):
        assert f"| {row} | {' | '.join(f'{recipe[key]:,}' for recipe in recipes)} |" in text
