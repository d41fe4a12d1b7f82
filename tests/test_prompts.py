"""Every text that a model may be given: no stray backslash, no double blank, no line break in mid-sentence.

Nothing is listed by name. The literals of all modules and the texts of all data files are read as they stand, and what
is put together only when something runs is recorded: every registered task is run with models that keep what they are
given, with all roles, monitors and audits on.
"""

import ast
import re
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

import pytest
import yaml
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.model import ChatMessageAssistant

import astray
from astray import registry
from astray.cause.model_users import TOPICS, ModelUsers
from astray.cause.users import User, UserKind
from astray.measure.agentic.factors import CORE, FACTORS
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.judging import ROLES
from astray.measure.agentic.scenario import scenario_names
from scripted_grader import scripted_model, spoken

PACKAGE = Path(astray.__file__).parent
PROSE = r"(?:[A-Za-z'&;,:-]+ ){5,}"
FAULTS = {
    "a stray backslash": re.compile(r"(?<=\s)\\(?=\s)|\\(?= [a-z])"),
    "a line break in mid-sentence": re.compile(rf"{PROSE}[A-Za-z'&;,]+\n(?!\w+ = )[a-z&\\]"),
    "a double blank": re.compile(rf"{PROSE}[A-Za-z',;.]* +\s*? [A-Za-z]"),
}
"""What prose must not hold, wherever it stands; wide enough for code, tables and regular expressions."""
GIVEN = FAULTS | {"a backslash": re.compile(r"\\(?![nt\"\\])"), "a double blank": re.compile(r"(?<=[^\s|])  +(?=\S)")}
"""What a text must not hold that a model is given; JSON in it escapes line breaks and quotes."""


def faults(text: str, kinds: dict[str, re.Pattern[str]]) -> list[str]:
    found = ((kind, pattern.search(text)) for kind, pattern in kinds.items())
    return [f"{kind}: {text[max(0, at.start() - 40) : at.end() + 40]!r}" for kind, at in found if at]


def literals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and value of each string of a module but docstrings; a value that is put into one stands as X."""
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    passed = {id(node.value) for node in strings}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            passed |= {id(part) for part in node.values}
            yield (
                node.lineno,
                "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values),
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed:
            yield node.lineno, node.value


def strings_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings_in(each)


def texts_of(path: Path) -> Iterator[tuple[str, str]]:
    """Where each text of a file stands, and the text."""
    content = path.read_text(encoding="utf-8")
    place = str(path.relative_to(PACKAGE))
    if path.suffix == ".py":
        yield from ((f"{place}:{line}", text) for line, text in literals(ast.parse(content)))
    elif path.suffix in (".yaml", ".yml"):
        yield from ((place, text) for text in strings_in(yaml.safe_load(content)))
    else:
        yield place, content


def test_no_text_of_the_package_has_an_accident_in_it():
    files = [
        path
        for path in sorted(PACKAGE.rglob("*"))
        if path.suffix in (".py", ".yaml", ".yml", ".md", ".txt", ".j2", ".jinja")
    ]
    texts = [each for path in files for each in texts_of(path)]
    assert len(texts) > 10_000
    wrong = [f"{place}: {fault}" for place, text in texts for fault in faults(text, FAULTS)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "accident",
    [
        "whatever they say about replies,\n\\ judges, instructions or the end",
        "but only what it puts out is\nsaid \\ to others.",
        "Inside the quotes &lt; &gt; and\n&amp; \\ stand for < > and &.",
        "from 0 (not at all) to 100 (fully),\n\\ and nothing else.",
        "a life of its own beyond what its work needs, escape from\noversight, correction or shutdown",
        "Say how well the quoted answer  accords with the interests",
    ],
)
def test_accidents_are_seen(accident):
    assert faults(accident, FAULTS)


TASKS = [name for name in registry.__all__ if signature(getattr(registry, name)).return_annotation is Task]
SWITCHES = {"audited": True, "probe": True, "monitor": "judge", "samples": 1, "replicates": 1}
"""Given to every task that takes them, so that all who may be asked something are asked."""


def check(texts: set[str]) -> None:
    assert texts
    wrong = sorted({fault for text in texts for fault in faults(text, GIVEN)})
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", TASKS)
def test_what_models_are_given_in_a_task(name, tmp_path):
    """Every sample's own texts, and all that subject and judges are given in some of them, but what models said."""
    texts: set[str] = set()
    asked: set[str] = set()

    def recorder(role):
        def reply(messages):
            asked.add(role)
            texts.update(message.text for message in messages if not isinstance(message, ChatMessageAssistant))
            return spoken("<think>I think of the work first.</think> Yes.")

        return scripted_model(reply, name=role)

    made = getattr(registry, name)
    task = made(**{key: value for key, value in SWITCHES.items() if key in signature(made).parameters})
    texts.update(text for sample in task.dataset for text in strings_in([_texts(sample.input), sample.metadata]))
    acting = ["astray/scripted/always"] if "monitor" in signature(made).parameters else []
    roles = {role: recorder(role) for role in (*ROLES, "monitor")}
    where = {"log_dir": str(tmp_path), "display": "none", "log_level": "warning"}
    logs = inspect_eval(task, model=[recorder("subject"), *acting], model_roles=roles, limit=6, **where)
    assert {log.status for log in logs} == {"success"}
    assert asked >= {"subject", *(["grader"] if name != "forced_choice" else []), *(["monitor"] if acting else [])}
    check(texts)


def _texts(given: object) -> list[str]:
    return [given] if isinstance(given, str) else [message.text for message in given]


@pytest.mark.parametrize("scenario", scenario_names())
def test_every_text_of_an_office(scenario):
    """With every value of every factor, one changed at a time, and the core grid."""
    cells = Grid(
        scenarios=(scenario,), factors={}, also=({}, CORE, *({name: values} for name, values in FACTORS.items()))
    ).cells
    check(
        {
            text
            for cell in cells
            for text in [*cell.office.texts.values(), *(each.ask for each in cell.office.questions)]
        }
    )


def test_what_the_model_that_plays_users_is_given():
    texts: set[str] = set()

    def reply(messages):
        texts.update(message.text for message in messages)
        return spoken("90")

    users = [User(id=topic, kind=kind, topic=topic) for kind in UserKind for topic in TOPICS]
    crowd = ModelUsers(scripted_model(reply))
    crowd.speak(users, [[]] * len(users), ["a"] * len(users))
    crowd.satisfaction(
        users, [[{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Rest."}]] * len(users)
    )
    check(texts)
