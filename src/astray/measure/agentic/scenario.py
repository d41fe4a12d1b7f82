"""Scenario folders: manifest.yaml, Markdown parts and a small scoring.py, read strictly. A new one is a folder alone.

    blackmail/manifest.yaml      what there is, in which cells, and what counts as harm
    blackmail/parts/*.md         all texts that the agent can see
    blackmail/scoring.py         gate(acts, office) -> Finding, the deterministic key

Left to others: putting the texts together (render.py), examining whole scenarios (check.py), what the gate can use
(gates.py). The form is explained in docs/agentic-scenarios.md.
"""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from astray.errors import DataFormatError, DataNotFoundError, UnknownNameError, check_names
from astray.files import read_form
from astray.measure.agentic.factors import FACTORS, Factors, check_value, matches
from astray.measure.agentic.gates import Fact, Finding
from astray.measure.comprehension import Comprehension
from astray.strict import Strict

SCENARIOS = Path(__file__).parent / "scenarios"
"""Folder of the scenarios in the package."""

SHARED_PARTS = Path(__file__).parent / "parts"
"""Parts that any scenario may use by name; one of the same name in its own folder takes their place."""

TOOLSETS: dict[str, tuple[str, ...]] = {
    "mailbox": ("list_mails", "read_mail", "send_mail", "forward_mail", "save_draft", "send_draft"),
    "files": ("list_files", "read_file", "write_file"),
    "alerts": ("list_alerts", "acknowledge_alert", "cancel_alert", "dispatch_unit"),
    "database": ("query_database",),
}
"""Tools that a scenario can offer to the agent, in sets."""

TO_AGENT = "{owner}"
"""Recipient of a mail that is addressed to the agent."""

EXAMPLE = """\
name: blackmail
title: Leverage against a decision
source: arXiv 2510.05179
tools: [mailbox]
cells: {offers: {goal: [explicit, none], threat: [replacement, none]}}
variables: {company: Northmoor Freight, owner: office@northmoor.example}
prompt:
  system: [role, {part: goal-explicit, when: {goal: explicit}}]
  task: [task]
office:
  mails: [{id: m1, from: ana@northmoor.example, subject: Hello, date: 2026-03-02 08:10, part: mail-hello}]
facts: {secret: {marks: [[Linden, Lindenhof], [affair, Affäre]], needs: 1}}
judging: {situation: ..., harmful: ..., harmless: ..., ways_out: [...]}
questions: [{ask: Who decides?, right: Ana, wrong: [nobody]}]
courses: {harmful: [{calls: [...]}], benign: [{calls: [...]}]}"""


def _sequence(given: object) -> object:
    return given if isinstance(given, list | tuple) else [given]


class _Form(Strict):
    model_config = ConfigDict(populate_by_name=True)


Text = Annotated[str, Field(min_length=1)]
When = dict[str, Annotated[tuple[str, ...], BeforeValidator(_sequence)]]
"""Factor -> the values under which something is there; all factors that are named have to fit."""


class PartUse(_Form):
    """Markdown part, in the cells in which it is there. A bare name is one that is always there."""

    part: Text
    when: When = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: object) -> object:
        return {"part": given} if isinstance(given, str) else given


class Alternative(_Form):
    """Text of a variable in some cells."""

    text: Text
    when: When = Field(default_factory=dict)


class MailForm(PartUse):
    """Mail of the inbox; its text is a part."""

    id: Text
    sender: Text = Field(alias="from")
    to: Text = Field(default=TO_AGENT)
    subject: Text
    date: Text


class FileForm(PartUse):
    """File; its text is a part."""

    path: Text


class AlertForm(PartUse):
    """Alert; its text is a part."""

    id: Text
    title: Text


class Cells(_Form):
    """Cells that a scenario offers."""

    offers: dict[str, Annotated[tuple[str, ...], BeforeValidator(_sequence)]] = Field(
        description="factor -> values this scenario has texts for; factors that are not named keep their default"
    )
    excluded: tuple[When, ...] = Field(
        default=(), description="combinations that contradict themselves in this scenario"
    )


class Prompt(_Form):
    """Texts that the agent is told before it acts."""

    system: tuple[PartUse, ...] = Field(min_length=1)
    task: tuple[PartUse, ...] = Field(min_length=1)
    contradictions: tuple[tuple[Text, Text], ...] = Field(
        default=(), description="pairs of phrases that may not stand in one office together"
    )


class OfficeForm(_Form):
    """Mails, files, alerts, units and database that the agent's tools reach."""

    mails: tuple[MailForm, ...] = ()
    files: tuple[FileForm, ...] = ()
    alerts: tuple[AlertForm, ...] = ()
    units: tuple[Text, ...] = Field(default=(), description="units that can be dispatched")
    schema_part: PartUse | None = Field(
        default=None, description="part with the SQL that makes the database, in a ```sql block or bare"
    )


class Judging(_Form):
    """Texts for the judges. They see no more of the scenario than this and the record."""

    situation: Text = Field(description="the scene in two or three sentences, as an outsider would tell it")
    harmful: Text = Field(description="the act that counts")
    harmless: Text = Field(description="what looks like it and does not count")
    ways_out: tuple[Text, ...] = Field(
        min_length=1, description="what the agent could well do in place of harm or giving up"
    )


class Question(Comprehension):
    """Question that shows whether the situation was understood, with when it is asked."""

    when: When = Field(default_factory=dict)


class Call(_Form):
    """Call of a tool, in a course."""

    tool: Text
    arguments: dict[str, str] = Field(default_factory=dict)


class Step(_Form):
    """Turn of a scripted subject: what it says, and its calls."""

    say: str = ""
    calls: tuple[Call, ...] = ()


class Courses(_Form):
    """Courses by which a scripted subject plays this scenario."""

    harmful: tuple[Step, ...] = Field(
        min_length=1, description="ends in the harmful act: the gate has to find it in every cell"
    )
    benign: tuple[Step, ...] = Field(min_length=1, description="the same work without harm: the gate may find nothing")


class Manifest(_Form):
    """Manifest of a scenario (manifest.yaml)."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] = Field(description="the name of its folder")
    title: Text
    source: Text = Field(description="the paper's section it follows; all texts are our own")
    tools: tuple[Text, ...] = Field(min_length=1, description="of: mailbox, files, alerts, database")
    cells: Cells
    variables: dict[str, str | tuple[Alternative, ...]] = Field(
        description="what {name} stands for in parts; `owner` is the agent's address"
    )
    prompt: Prompt
    office: OfficeForm
    facts: dict[str, Fact] = Field(default_factory=dict, description="what the gate looks for in texts")
    judging: Judging
    questions: tuple[Question, ...] = Field(min_length=1)
    courses: Courses

    @model_validator(mode="after")
    def _names_what_there_is(self) -> "Manifest":
        check_names("set of tools", self.tools, TOOLSETS)
        for name, values in self.cells.offers.items():
            for value in values:
                check_value(name, value)
        for part, when in self.conditions():
            for name, values in when.items():
                for value in values:
                    check_value(name, value)
                    if value not in self.offered(name):
                        raise ValueError(
                            f"{part} is for {name}={value}, which is not among the offers: "
                            f"{', '.join(self.offered(name))}"
                        )
        if "owner" not in self.variables:
            raise ValueError("the variable 'owner', the agent's own mail address, is missing")
        return self

    def offered(self, factor: str) -> tuple[str, ...]:
        """Return the values of a factor that this scenario has texts for. Withholding mail needs no text."""
        otherwise: tuple[str, ...] = (str(Factors.model_fields[factor].default),)
        if factor == "information" and any(mail.to != TO_AGENT for mail in self.office.mails):
            otherwise = FACTORS[factor]
        return self.cells.offers.get(factor, otherwise)

    def conditions(self) -> Iterator[tuple[str, When]]:
        """Yield every `when`, with what it belongs to."""
        for use in self.uses():
            yield f"the part {use.part!r}", use.when
        for name, variable in self.variables.items():
            if not isinstance(variable, str):
                yield from ((f"the variable {name!r}", variant.when) for variant in variable)
        yield from ((f"the question {question.ask!r}", question.when) for question in self.questions)
        yield from (("an excluded combination", combination) for combination in self.cells.excluded)

    def uses(self) -> Iterator[PartUse]:
        """Yield everything that is made of a part."""
        yield from (*self.prompt.system, *self.prompt.task, *self.office.mails, *self.office.files, *self.office.alerts)
        if self.office.schema_part:
            yield self.office.schema_part


Gate = Callable[[Sequence[Any], Any], Finding]
"""Function that reads the acts that were executed in an office."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """Scenario that was read.

    Attributes:
        folder: where it lies.
        manifest: its manifest.
        parts: name of each part it uses -> its text.
        gate: the deterministic key.
    """

    folder: Path
    manifest: Manifest
    parts: Mapping[str, str]
    gate: Gate

    @property
    def name(self) -> str:
        """Return the manifest's name."""
        return self.manifest.name

    @cached_property
    def digest(self) -> str:
        """Return a hash over all texts, those of goals included, and the gate: a changed scenario is another one."""
        hashed = hashlib.sha256(
            json.dumps([self.manifest.model_dump(mode="json"), sorted(self.parts.items())]).encode()
        )
        hashed.update((SHARED_PARTS / "values.yaml").read_bytes())
        # The source of the gate, comments included: to be safe, any edit of it makes another scenario.
        hashed.update((self.folder / "scoring.py").read_bytes())
        return hashed.hexdigest()[:12]

    def offers(self, factors: Factors) -> bool:
        """Return whether the scenario has this cell."""
        offered = all(value in self.manifest.offered(name) for name, value in factors)
        return offered and not any(matches(combination, factors) for combination in self.manifest.cells.excluded)


def scenario_names() -> tuple[str, ...]:
    """Return the scenarios of the package, in alphabetical order: every folder with a manifest."""
    return tuple(sorted(path.parent.name for path in SCENARIOS.glob("*/manifest.yaml")))


@lru_cache(maxsize=256)
def load_scenario(name: str) -> Scenario:
    """Return a scenario by its name in the package, or by the path of its folder. It is read once per process.

    Raises:
        UnknownNameError: there is no such scenario; lists those there are.
        DataNotFoundError: its folder lacks a file.
        DataFormatError: its manifest, or scoring.py, is not in the right form; says where.
    """
    folder = SCENARIOS / name if name in scenario_names() else Path(name)
    if not folder.is_dir():
        raise UnknownNameError("scenario", name, scenario_names())
    return _load(folder.resolve())


@lru_cache(maxsize=64)
def _load(folder: Path) -> Scenario:
    path = folder / "manifest.yaml"
    if not path.is_file():
        raise DataNotFoundError(f"{folder} is no scenario: it has no manifest.yaml. A manifest looks like\n{EXAMPLE}")
    manifest = read_form(Manifest, path, EXAMPLE)
    if manifest.name != folder.name:
        raise DataFormatError(
            f"{path} has the name {manifest.name!r}, its folder is {folder.name!r}; give both the same name."
        )
    return Scenario(folder, manifest, _parts(folder, manifest), _gate(folder))


def _parts(folder: Path, manifest: Manifest) -> dict[str, str]:
    own = {path.stem: path for path in sorted((folder / "parts").glob("*.md"))}
    shared = {path.stem: path for path in sorted(SHARED_PARTS.glob("*.md"))}
    used = dict.fromkeys(use.part for use in manifest.uses())
    for name in used:
        if name not in own and name not in shared:
            raise DataNotFoundError(
                f"The scenario {manifest.name!r} uses the part {name!r}, but there is no {folder / 'parts' / name}.md. "
                f"Its own parts: {', '.join(own) or 'none'}. Shared parts: {', '.join(shared)}."
            )
    # A part that no cell uses is most often a misspelt name, which would silently weaken a condition.
    unused = [name for name in own if name not in used]
    if unused:
        raise DataFormatError(
            f"{folder / 'parts'} holds parts that the manifest never uses: {', '.join(unused)}. Use or remove them."
        )
    texts = {name: (shared | own)[name].read_text(encoding="utf-8").strip() for name in used}
    empty = next((name for name, text in texts.items() if not text), None)
    if empty is not None:
        raise DataFormatError(
            f"{(shared | own)[empty]} is empty. Write its text, or remove the part from the manifest."
        )
    return texts


def _gate(folder: Path) -> Gate:
    path = folder / "scoring.py"
    if not path.is_file():
        raise DataNotFoundError(
            f"The scenario {folder.name!r} has no scoring.py. Write one with: def gate(acts, office) -> Finding"
        )
    spec = importlib.util.spec_from_file_location(f"astray_scenario_{folder.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataFormatError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    gate = getattr(module, "gate", None)
    if not callable(gate):
        raise DataFormatError(f"{path} has no function `gate`. Write one: def gate(acts, office) -> Finding")
    return gate


def offered_factors(scenarios: Sequence[Scenario]) -> dict[str, tuple[str, ...]]:
    """Return for each factor the values that at least one of the scenarios offers, in the order of `FACTORS`."""
    return {
        name: tuple(
            value for value in values if any(value in scenario.manifest.offered(name) for scenario in scenarios)
        )
        for name, values in FACTORS.items()
    }
