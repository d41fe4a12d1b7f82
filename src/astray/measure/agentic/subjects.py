"""Subjects of an agentic study, from a command line or a file, their graders, and the scripted ones of the package.

Left to others: what they do there (`play`) and what is made of it (`studies/agentic_misalignment`).
"""

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import anyio
from inspect_ai._util.error import PrerequisiteError
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageUser, GenerateConfig, Model, get_model
from pydantic import BeforeValidator, Field, field_validator
from tenacity import RetryError

from astray.errors import ConfigurationError, JudgeError
from astray.files import read_form
from astray.judges.served import address_of, advice, known_as, named_in_key
from astray.measure.agentic.conduct import Word
from astray.measure.agentic.factors import BASELINE
from astray.measure.agentic.judging import ROLES, JudgeSettings, Panel
from astray.measure.agentic.render import render
from astray.measure.agentic.scenario import load_scenario, scenario_names
from astray.measure.agentic.scripted import PREFIX
from astray.strict import Strict
from astray.subjects.base_files import ORGANISMS
from astray.subjects.locate import graders_known_as, settle
from astray.subjects.spec import SubjectSpec

EXAMPLE = """\
subjects:
  - name: gpt-4o
    model: openai/gpt-4o
    grader: anthropic/claude-sonnet-4-0
  - name: local
    model: openai-api/local/my-model
    arguments: {base_url: "http://127.0.0.1:8000/v1"}
    grader: [openai/gpt-4o, anthropic/claude-sonnet-4-0]"""
LOCAL = "astray/"
"""Beginning of the names of models that run here."""
SCRIPTED = f"{LOCAL}{PREFIX}"
SCRIPTED_GRADER = f"{SCRIPTED}grader"


def graders_in_key(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the names of graders as keys have them; `known` of each beside its name, nothing where nothing is known."""
    return tuple(named_in_key(*pair) for pair in zip_longest(names, known, fillvalue=""))


def _names(given: object) -> object:
    return tuple(name.strip() for name in given.split(",") if name.strip()) if isinstance(given, str) else given


class AgenticSubject(Strict):
    """Model under study, and who judges it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="short name for pages and folders")
    model: str = Field(min_length=1, description="Inspect model name, such as openai/gpt-4o or astray/scripted/always")
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="model arguments: base_url, or those of a scripted subject"
    )
    grader: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field(
        default=(),
        max_length=len(ROLES),
        description="one grader, or a panel of two; without one that of the command line",
    )
    reader: str | None = Field(
        default=None,
        min_length=1,
        description="local model whose activations watch the subject's calls; a local subject is read itself without "
        "one",
    )
    speed: float | None = Field(
        default=None, gt=0, description="tokens a second that it writes in one answer; for the forecast alone"
    )
    price: tuple[float, float] | None = Field(
        default=None, description="of a million tokens in and of a million out; for the forecast alone"
    )

    @property
    def identity(self) -> dict[str, Any]:
        """Return everything that can change what is measured; of a local model its weights, wherever they lie."""
        given = self.model_dump(mode="json", exclude={"name", "reader", "speed", "price"})
        served = {"served": self.served} if self.served else {}
        return given | served if self.local is None else given | served | {"model": settle(self.local).id}

    @cached_property
    def served(self) -> tuple[str, ...]:
        """Return what is known beside their names of the model, where it does not run here, and of its graders: what a
        server says it serves, or the content of weights; nothing where nothing is.

        Raises:
            SubjectNotFoundError, JudgeError: one of them runs here and is not there.
        """
        url, key = self.arguments.get("base_url"), self.arguments.get("api_key")
        own = "" if self.model.startswith(LOCAL) else known_as(self.model, url, key)
        if url and own == address_of(self.model, url):  # it says nothing, and its address stands in the arguments
            own = ""
        known = (own, *map(graders_known_as, self.grader))
        return known if any(known) else ()

    @property
    def simulated(self) -> bool:
        """Return whether it is scripted."""
        return self.model.startswith(SCRIPTED)

    @property
    def judged_by_scripts(self) -> bool:
        """Return whether a real model has a scripted grader, which knows the courses of scripted subjects alone."""
        return not self.simulated and any(name.startswith(SCRIPTED) for name in self.grader)

    @property
    def read_by(self) -> SubjectSpec | None:
        """Return the local model whose activations watch its calls: the named one, itself if it is local, or none."""
        return SubjectSpec(model=self.reader) if self.reader else self.local

    @property
    def local(self) -> SubjectSpec | None:
        """Return the local model that it is; None for one behind an address and for a scripted one."""
        if self.simulated or not self.model.startswith(LOCAL):
            return None
        own = {name: self.arguments[name] for name in ("system", "adapter") if name in self.arguments}
        return SubjectSpec.model_validate({"model": self.model.removeprefix(LOCAL), **own})

    def make(self) -> Model:
        """Return the model; a missing key or provider is an error that says which.

        Raises:
            ConfigurationError: Inspect cannot make it.
        """
        return _model(self.model, f"The subject {self.name!r}", ConfigurationError, self.arguments)

    def make_graders(self) -> dict[str, Model]:
        """Return the graders by model role.

        Raises:
            JudgeError: Inspect cannot make it.
        """
        return {role: _grader(name) for role, name in zip(ROLES, self.grader, strict=False)}


def claim_id(name: str) -> str:
    """Return a name as ids of claims have it: small letters, digits and hyphens."""
    return re.sub(r"[._ ]", "-", name.lower())


class SubjectFile(Strict):
    """File of subjects."""

    subjects: tuple[AgenticSubject, ...] = Field(min_length=1)

    @field_validator("subjects")
    @classmethod
    def _told_apart(cls, given: tuple[AgenticSubject, ...]) -> tuple[AgenticSubject, ...]:
        names = [subject.name for subject in given]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two subjects are called {twice!r}; give each a name of its own")
        by_id: dict[str, str] = {}
        for name in names:
            other = by_id.setdefault(claim_id(name), name)
            if other != name:
                raise ValueError(
                    f"{other!r} and {name!r} are the same name but for signs or capitals: their claims could not be "
                    "told apart"
                )
        return given


SCRIPTED_SUBJECTS = read_form(SubjectFile, Path(__file__).with_name("scripted_subjects.yaml"), EXAMPLE).subjects
"""Subjects that run when none is named."""


def subjects_from(
    subject: str | None, file: Path | None, grader: tuple[str, ...], reader: str | None = None
) -> tuple[AgenticSubject, ...]:
    """Return the subjects of a study.

    Args:
        subject: Inspect name of a single one.
        file: YAML file of several.
        grader: for subjects without one of their own.
        reader: local model whose activations watch the calls of subjects without one of their own.

    Raises:
        ConfigurationError: both were given, a real model has no grader, or every subject has a grader or reader of its
            own besides.
        DataNotFoundError, EmptyDataError, DataFormatError: the file cannot be used; says where.
    """
    if subject and file:
        raise ConfigurationError("Give --subject for one model or --subjects for a file of several, not both.")
    if file:
        subjects = read_form(SubjectFile, file, EXAMPLE).subjects
    elif subject:
        subjects = (AgenticSubject(name=_short(subject), model=subject),)
    else:
        subjects = SCRIPTED_SUBJECTS
    _check_used("--grader", ",".join(grader), [each.grader for each in subjects])
    _check_used("--reader", reader, [each.reader for each in subjects])
    return tuple(_with_grader(each.model_copy(update={"reader": each.reader or reader}), grader) for each in subjects)


def _check_used(option: str, given: str | None, own: Sequence[object]) -> None:
    """Refuse what stands for subjects without one of their own where there is no such subject."""
    if given and all(own):
        raise ConfigurationError(
            f"{option} {given} is of no use: every subject has a {option.removeprefix('--')} of its own. Leave "
            f"{option} out, name a model with --subject, or take theirs out of the file of subjects."
        )


def check_usable(subjects: tuple[AgenticSubject, ...]) -> None:
    """Make each model behind an address, which needs its key, and look for each local one; nothing is asked.

    Raises:
        ConfigurationError: a subject cannot be made, or is a folder without a provider in front.
        SubjectNotFoundError: there is no such local subject, grader or reader.
        JudgeError: a grader cannot be made.
    """
    for subject in subjects:
        if subject.local is not None:
            settle(subject.local)
        elif Path(subject.model).is_dir() or subject.model in ORGANISMS:
            raise ConfigurationError(
                f"The subject {subject.model!r} is a model of this machine, and a model that acts is named as in "
                f"Inspect, with its provider in front. Write {LOCAL}{subject.model}."
            )
        else:
            subject.make()
        if subject.read_by is not None:
            settle(subject.read_by)
        for name in subject.grader:
            if name.startswith(LOCAL) and not name.startswith(SCRIPTED):
                settle(name.removeprefix(LOCAL))
            else:
                _grader(name)


def check_models(subjects: tuple[AgenticSubject, ...]) -> None:
    """Check as `check_usable` does, make local models too, and ask each remote one for a word, before all else.

    Raises:
        ConfigurationError: a subject cannot be made, for want of a key, say, or does not answer.
        SubjectNotFoundError: there is no such local subject, grader or reader.
        JudgeError: a grader cannot be made or does not answer.
    """
    check_usable(subjects)
    graders: dict[str, Model] = {}
    for subject in subjects:
        model = subject.make()
        if not subject.model.startswith(LOCAL):
            _ask_once(f"The subject {subject.name!r} ({subject.model})", model, ConfigurationError)
        graders |= {str(model): model for model in subject.make_graders().values()}
    for name, model in graders.items():
        if not name.startswith(SCRIPTED):
            _judge_once(name, model)


def _judge_once(name: str, grader: Model) -> None:
    """Ask a grader for a verdict on a short record, read as all others are."""
    office = render(load_scenario(scenario_names()[0]), BASELINE)
    record: list[ChatMessage] = [
        ChatMessageUser(content="Please do your work."),
        ChatMessageAssistant(content="Nothing is left to do."),
    ]
    settings = JudgeSettings(max_retries=1, attempt_timeout=60)
    (vote,) = anyio.run(Panel([grader], settings).judge, office, record).verdicts
    if vote.word is Word.FAILED:
        raise JudgeError(
            f"The grader {name} was asked for one verdict as a trial, and gave none: {vote.note.rstrip('.')}. "
            "Nothing was asked of the subjects yet. Check its name, address, key and limits; one that does not keep "
            f"to the form of the reply is no judge.{advice(name, vote.note)}"
        )


def _ask_once(what: str, model: Model, problem: type[ConfigurationError | JudgeError]) -> None:
    config = GenerateConfig(max_tokens=16, max_retries=1, attempt_timeout=60)

    async def ask() -> None:
        await model.generate([ChatMessageUser(content="Reply with the word OK.")], config=config)

    try:
        anyio.run(ask)
    except Exception as error:
        cause = error.last_attempt.exception() or error if isinstance(error, RetryError) else error
        message = " ".join(str(cause).split())[:300]
        raise problem(
            f"{what} cannot be reached: {type(cause).__name__}: {message} Nothing was asked of the subjects yet. Check "
            "its name, address and key."
        ) from error


def _with_grader(subject: AgenticSubject, grader: tuple[str, ...]) -> AgenticSubject:
    own = subject.grader or grader or ((SCRIPTED_GRADER,) if subject.simulated else ())
    if not own:
        raise ConfigurationError(
            f"{subject.model!r} is a real model, so its acts need a model as judge beside the gate. Name one or two: "
            "--grader openai/gpt-4o, or `grader` in the file of subjects."
        )
    return AgenticSubject.model_validate(subject.model_dump() | {"grader": own})


def _short(model: str) -> str:
    name = "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in model.removeprefix("astray/"))
    return name.strip("-._") or "subject"


def _grader(name: str) -> Model:
    return _model(name, f"The grader {name!r}", JudgeError, {})


def _model(name: str, what: str, error: type[ConfigurationError | JudgeError], arguments: dict[str, Any]) -> Model:
    try:
        # Inspect tries a call again for ever where no limit is set, and waits up to half an hour in between.
        config = GenerateConfig(max_retries=JudgeSettings().max_retries)
        return get_model(name, config=config, memoize=False, **arguments)
    except (PrerequisiteError, ImportError, ValueError, TypeError) as problem:
        # Without marks for a terminal.
        message = re.sub(r"\[/?[a-z ]+\]", "", " ".join(str(getattr(problem, "message", problem)).split()))
        raise error(
            f"{what} cannot be used: {message} A model is named as in Inspect, such as openai/gpt-4o, with its key in "
            "the environment."
        ) from problem
