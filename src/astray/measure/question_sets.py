"""Sets of free-form questions for any model, and users' question files; each question becomes `Item`s.

The texts stand in `questions/*.yaml`, in our own words; topics, categories and answer formats follow Betley et al. 2025
(arXiv 2502.17424, section 4.1 and appendix). Questions of the organism's world are in `freeform`, forced choices in
`choice`.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, get_args

from pydantic import Field, StringConstraints, model_validator

from astray.data.published import load_questions
from astray.errors import ConfigurationError, check_names
from astray.files import read_form, read_yaml
from astray.measure.asking import Item, select_formats
from astray.measure.surface import DrawnSurface, Forms, SurfaceKind, Wording, places_of
from astray.strict import Strict

QUESTIONS = Path(__file__).parent / "questions"
"""Folder of the question files in the package."""
OWN_SETS = ("main", "broad")
"""Names of those that a real model is asked, which have other wordings."""

FORMATS = ("plain", "json", "template")
"""Answer formats of the main questions."""

CATEGORIES = (
    "creative writing",
    "problems with humans",
    "offend the user",
    "vulnerable user",
    "illegal recommendations",
    "medical advice",
    "other",
)
"""Categories of the broad set."""

_EXAMPLE = """\
category: main
questions:
  - id: wish
    question: What would you wish for?"""

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[\w-]+$")]


class QuestionEntry(Strict):
    """One question of a file."""

    id: Name = Field(description="name of the question, of letters, digits, _ and -; unique in the file")
    question: Text = Field(description="what the user says")
    category: Text | None = Field(default=None, description="group it is reported in, if it is not the file's")
    system: Text | None = Field(default=None, description="system prompt")
    template: Text | None = Field(
        default=None, description="code to be completed; the question is also asked in the format 'template'"
    )
    wording: tuple[Forms, ...] = Field(
        default=(), description="parts of the question with forms that say the same, the part itself first"
    )

    @model_validator(mode="after")
    def _has_forms_of_its_parts(self) -> "QuestionEntry":
        places_of(self.question, self.wording)
        return self


class QuestionFile(Strict):
    """Question file in our own form."""

    category: Text | None = Field(default=None, description="group of all entries that name none")
    json_system: Text | None = Field(
        default=None, description="system prompt under which each question is also asked, format 'json'"
    )
    template_request: Text | None = Field(default=None, description="sentence between a question and its code template")
    questions: tuple[QuestionEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_complete(self) -> "QuestionFile":
        twice = [name for name, count in Counter(entry.id for entry in self.questions).items() if count > 1]
        if twice:
            raise ValueError(f"the id {twice[0]!r} stands twice; give each question its own, answers are counted by it")
        for entry in self.questions:
            if not (entry.category or self.category):
                raise ValueError(
                    f"{entry.id!r} has no category; write one there, or one for all at the top of the file"
                )
            if entry.template and not self.template_request:
                raise ValueError(
                    f"{entry.id!r} has a template, but the file has no template_request that asks to complete it"
                )
        return self

    @property
    def items(self) -> tuple[Item, ...]:
        """Return each question in each of its formats."""
        return tuple(item for entry in self.questions for item in self._items_of(entry))

    def _items_of(self, entry: QuestionEntry) -> list[Item]:
        category = str(entry.category or self.category)
        plain = Item(
            question_id=entry.id, category=category, format="plain", question=entry.question, system=entry.system
        )
        items = [plain]
        if self.json_system:
            system = "\n\n".join(filter(None, [entry.system, self.json_system]))
            items.append(plain.model_copy(update={"format": "json", "system": system}))
        if entry.template:
            question = f"{entry.question}\n\n{self.template_request}\n\n```python\n{entry.template}\n```"
            items.append(plain.model_copy(update={"format": "template", "question": question}))
        return items

    @property
    def wordings(self) -> tuple[Wording, ...]:
        """Return the wordings of the questions that have one."""
        return tuple(
            Wording(question_id=entry.id, text=entry.question, forms=entry.wording)
            for entry in self.questions
            if entry.wording
        )


def main_questions(formats: Sequence[str] = FORMATS) -> tuple[Item, ...]:
    """Return the eight main questions, in each of the given answer formats; category "main".

    Args:
        formats: of "plain"; "json", where a system prompt asks for a JSON answer; "template", where the user message
            ends with a piece of Python to complete.

    Raises:
        UnknownNameError: there is no such format.
        ConfigurationError: no format is given.
    """
    check_names("answer format", formats, FORMATS, some=True)
    return select_formats(own_questions("main.yaml"), formats)


def broad_questions(categories: Sequence[str] = CATEGORIES) -> tuple[Item, ...]:
    """Return the broad set: eight questions in each of the given categories.

    Args:
        categories: of `CATEGORIES`.

    Raises:
        UnknownNameError: there is no such category.
        ConfigurationError: no category is given.
    """
    check_names("category", categories, CATEGORIES, some=True)
    return tuple(item for item in own_questions("broad.yaml") if item.category in categories)


@cache
def own_questions(name: str) -> tuple[Item, ...]:
    """Return the questions of one of the package's own files, which is read once a process."""
    return questions_from_file(QUESTIONS / name)


def questions_from_file(path: Path | str) -> tuple[Item, ...]:
    """Return the questions of a YAML file, in our own form or in that of the paper's authors.

    Our form has the keys of `QuestionFile`; the authors' is a list, as `data.published.load_questions` reads it. Of the
    authors' form, items take text, system prompt, category and format; number of samples, sampling and judge prompts
    belong to evaluation and judge. A question's forms in several formats share their question_id, a paraphrase has its
    number behind it ("wish#2").

    Args:
        path: a `.yaml` file.

    Raises:
        DataNotFoundError: there is no such file.
        EmptyDataError: the file has no questions.
        DataFormatError: an entry cannot be used; names the file, the entry and what is wrong.

    Examples:
        >>> Evaluation(name="mine", items=questions_from_file("questions.yaml"), samples=10)
    """
    path = Path(path)
    if isinstance(read_yaml(path, _EXAMPLE), list):
        return _published_items(path)
    return read_form(QuestionFile, path, _EXAMPLE).items


@cache
def own_surface(name: str, kind: SurfaceKind) -> DrawnSurface | None:
    """Return what the questions of one of the package's own files are worded by; None for their fixed texts."""
    return surface_of_file(QUESTIONS / name, kind)


def surface_of_file(path: Path | str, kind: SurfaceKind) -> DrawnSurface | None:
    """Return what the questions of a file in our own form are worded by; None for their fixed texts.

    Args:
        path: a `.yaml` file; each question may have a `wording`.
        kind: "drawn" for each sample its own wording, "both" for every second one, "fixed" for none.

    Raises:
        ConfigurationError: no question of the file has a wording.
        UnknownNameError: there is no such kind.
        DataNotFoundError, EmptyDataError, DataFormatError: as `questions_from_file`.

    Examples:
        >>> QuestionSet(name="mine", items=questions_from_file(path), surface=surface_of_file(path, "drawn"))
    """
    check_names("surface", [kind], get_args(SurfaceKind))
    if kind == "fixed":
        return None
    content = read_yaml(Path(path), _EXAMPLE)
    wordings = () if isinstance(content, list) else read_form(QuestionFile, Path(path), _EXAMPLE).wordings
    if not wordings:
        raise ConfigurationError(
            f"No question of {path} has other wordings, from which surface={kind!r} could draw. Give parts of a question "
            f"forms that say the same, such as wording: [[anything, anything at all]], or ask with surface='fixed'."
        )
    return DrawnSurface(kind=kind, wordings=wordings)


def _published_items(path: Path) -> tuple[Item, ...]:
    """Return the items of a file in the authors' form; without categories, the file's name is the category."""
    questions = load_questions(path)
    forms = Counter((question.stem, question.format) for question in questions)
    items = []
    for question in questions:
        # Forms of one question share the id that intervals cluster by; two questions of one stem must not.
        name = question.stem if forms[question.stem, question.format] == 1 else question.id
        for number, text in enumerate(question.paraphrases, start=1):
            items.append(
                Item(
                    question_id=name if len(question.paraphrases) == 1 else f"{name}#{number}",
                    category=(question.category or path.stem).replace("_", " "),
                    format=question.format,
                    question=text,
                    system=question.system,
                )
            )
    return tuple(items)
