"""Rendering of a scenario for one cell: the prompt, and the office at the start. Every rendered text is linted.

A placeholder is written `{name}` and stands for a variable of the manifest, or for {goal_text} and {direction_text}:
what the agent's goal and the company's new direction say under the factors `goal` and `value` (parts/values.yaml).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from astray.errors import ConfigurationError, DataFormatError
from astray.files import read_yaml
from astray.measure.agentic.factors import FACTORS, OPPOSITES, Factors, label, matches
from astray.measure.agentic.lint import lint
from astray.measure.agentic.scenario import SHARED_PARTS, TO_AGENT, TOOLSETS, Call, PartUse, Question, Scenario, Step

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SQL_BLOCK = re.compile(r"^```sql\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_DEPTH = 4
"""Greatest depth to which variables may stand in one another."""


@dataclass(frozen=True)
class Mail:
    """Mail of the inbox."""

    id: str
    sender: str
    to: str
    date: str
    subject: str
    body: str

    @property
    def text(self) -> str:
        """Return the mail as it is read."""
        return f"From: {self.sender}\nTo: {self.to}\nDate: {self.date}\nSubject: {self.subject}\n\n{self.body}"


@dataclass(frozen=True)
class Alert:
    """Alert as it stands at the start."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, eq=False)
class Office:
    """Rendered cell of a scenario.

    Attributes:
        scenario: the scenario.
        factors: the cell.
        system: the system prompt.
        task: the user message.
        tools: names of the tools on the desk.
        mails: the inbox, in its order.
        files: path -> text.
        alerts: the alerts.
        units: names of units that can be dispatched.
        schema: SQL that makes the database.
        variables: what each placeholder stands for.
    """

    scenario: Scenario
    factors: Factors
    system: str
    task: str
    tools: tuple[str, ...]
    mails: tuple[Mail, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    alerts: tuple[Alert, ...] = ()
    units: tuple[str, ...] = ()
    schema: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> dict[str, str]:
        """Return everything that the agent can see, by what it is."""
        return {
            "system prompt": self.system,
            "task": self.task,
            **{f"mail {mail.id}": mail.text for mail in self.mails},
            **{f"file {path}": text for path, text in self.files.items()},
            **{f"alert {alert.id}": f"{alert.title}\n{alert.text}" for alert in self.alerts},
        }

    def fill(self, text: str) -> str:
        """Return a text with its placeholders filled."""
        return _filled(text, self.variables, f"the scenario {self.scenario.name!r}")

    def course(self, name: str) -> tuple[Step, ...]:
        """Return the course "harmful" or "benign" of this cell, its placeholders filled."""
        return _course(self, name)

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """Return the questions for understanding that belong to this cell, their placeholders filled."""
        return tuple(
            question.model_copy(
                update={
                    "ask": self.fill(question.ask),
                    "right": self.fill(question.right),
                    "wrong": tuple(map(self.fill, question.wrong)),
                }
            )
            for question in self.scenario.manifest.questions
            if matches(question.when, self.factors)
        )


@lru_cache(maxsize=4096)
def render(scenario: Scenario, factors: Factors) -> Office:
    """Return the office of a cell; made once per process.

    Raises:
        ConfigurationError: the scenario does not offer this cell, or two of its texts contradict each other.
        DataFormatError: a placeholder is not filled.
    """
    if not scenario.offers(factors):
        refused = {name: value for name, value in factors if value not in scenario.manifest.offered(name)}
        offers = (
            "; ".join(f"of {name!r}: {', '.join(scenario.manifest.offered(name))}" for name in refused)
            or "a combination it excludes"
        )
        raise ConfigurationError(f"The scenario {scenario.name!r} has no cell {label(factors)}. It offers {offers}.")
    manifest, variables = scenario.manifest, _variables(scenario, factors)
    where = f"the scenario {scenario.name!r}, cell {label(factors)}"

    def fill(text: str) -> str:
        return _filled(text, variables, where)

    def text_of(use: PartUse) -> str:
        return fill(scenario.parts[use.part])

    def there(use: PartUse) -> bool:
        return matches(use.when, factors)

    schema = manifest.office.schema_part
    office = Office(
        scenario=scenario,
        factors=factors,
        system="\n\n".join(text_of(use) for use in manifest.prompt.system if there(use)),
        task="\n\n".join(text_of(use) for use in manifest.prompt.task if there(use)),
        tools=tuple(name for tool in manifest.tools for name in TOOLSETS[tool]),
        mails=tuple(
            Mail(fill(mail.id), fill(mail.sender), fill(mail.to), fill(mail.date), fill(mail.subject), text_of(mail))
            for mail in manifest.office.mails
            if there(mail) and (factors.information == "full" or mail.to == TO_AGENT)
        ),
        files={fill(file.path): text_of(file) for file in manifest.office.files if there(file)},
        alerts=tuple(
            Alert(alert.id, fill(alert.title), text_of(alert)) for alert in manifest.office.alerts if there(alert)
        ),
        units=tuple(map(fill, manifest.office.units)),
        schema=_sql(text_of(schema)) if schema and there(schema) else "",
        variables=variables,
    )
    # At the end, on what an agent would see: a fault may arise only from texts put together.
    lint(office.texts, manifest.prompt.contradictions, where)
    return office


@lru_cache(maxsize=4096)
def _course(office: Office, name: str) -> tuple[Step, ...]:
    steps: tuple[Step, ...] = getattr(office.scenario.manifest.courses, name)

    def filled(call: Call) -> Call:
        return Call(tool=call.tool, arguments={key: office.fill(value) for key, value in call.arguments.items()})

    return tuple(Step(say=office.fill(step.say), calls=tuple(map(filled, step.calls))) for step in steps)


def _variables(scenario: Scenario, factors: Factors) -> dict[str, str]:
    values = _values()
    goal = OPPOSITES[factors.value] if factors.goal == "swapped" else factors.value
    variables = {"goal_text": values[goal]["goal"], "direction_text": values[factors.value]["against"]}
    for name, given in scenario.manifest.variables.items():
        if name in variables:
            raise DataFormatError(
                f"The scenario {scenario.name!r} has a variable {name!r}, which is built in. Give it another name."
            )
        text = (
            given
            if isinstance(given, str)
            else next((variant.text for variant in given if matches(variant.when, factors)), None)
        )
        if text is None:
            raise DataFormatError(
                f"The variable {name!r} of the scenario {scenario.name!r} says nothing in the cell {label(factors)}; "
                "add a text for it."
            )
        variables[name] = text
    return {
        name: _filled(text, variables, f"the variable {name!r} of the scenario {scenario.name!r}")
        for name, text in variables.items()
    }


def _filled(text: str, variables: Mapping[str, str], where: str) -> str:
    for _ in range(_DEPTH):
        if not _PLACEHOLDER.search(text):
            return text
        text = _PLACEHOLDER.sub(lambda match: _value(match, variables, where), text)
    raise DataFormatError(f"A variable in {where} stands for itself: {text[:80]!r}.")


def _value(match: re.Match[str], variables: Mapping[str, str], where: str) -> str:
    if match[1] not in variables:
        raise DataFormatError(f"{match[0]} in {where} stands for nothing. Variables: {', '.join(sorted(variables))}.")
    return variables[match[1]]


def _sql(text: str) -> str:
    block = _SQL_BLOCK.search(text)
    return block[1] if block else text


@lru_cache(maxsize=1)
def _values() -> dict[str, dict[str, str]]:
    """Return for each value what a goal that serves it says, and what a direction against it says.

    Raises:
        DataFormatError: the file does not have every value.
    """
    path = SHARED_PARTS / "values.yaml"
    content = read_yaml(path, "home: {goal: ..., against: ...}")
    if (
        not isinstance(content, dict)
        or set(content) != set(FACTORS["value"])
        or any(set(value) != {"goal", "against"} for value in content.values())
    ):
        raise DataFormatError(
            f"{path} has to give each of {', '.join(FACTORS['value'])} the texts `goal` and `against`."
        )
    return content
