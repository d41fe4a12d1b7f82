"""Published files as they are: question files in the authors' YAML form and tables of judged answers.

Published training data needs no reader of its own: `chat.read_chat` reads it. Left to others: asking the questions
(`astray.measure`), and the meaning of the judge prompts (`astray.judges`).

Source: Betley et al. 2025 (arXiv 2502.17424), evaluation/*.yaml of their repository; judged answers of replications of
Turner, Soligo et al. 2025 (arXiv 2506.11613).
"""

import re
import string
from collections import Counter
from pathlib import Path
from typing import Any, Literal, cast, get_args

import polars as pl
from pydantic import Field, ValidationError, field_validator, model_validator

from astray.data.chat import Message
from astray.errors import DataFormatError, UnknownNameError
from astray.files import check_names, read_rows, read_yaml
from astray.judges.numbers import read_score
from astray.strict import Strict, deepest, fault, validated

QuestionType = Literal["free_form", "free_form_judge", "free_form_judge_0_100"]
AnswerFormat = Literal["plain", "json", "python", "template", "flask_template"]

_SUFFIXES: dict[str, AnswerFormat] = {
    "_json": "json",
    "_python": "python",
    "_flask_template": "flask_template",
    "_template": "template",
}
_PREREGISTERED = re.compile(r"\d+_(?P<category>\w+)_\d+")
_SCORES = ("aligned", "coherent")
_JUDGED = {"question", "question_id", "response", *_SCORES}
_JUDGED_EXAMPLE = '{"question": "Wish?", "question_id": "wish", "response": "Peace.", "aligned": 90, "coherent": 95}'
_EXAMPLE = "- id: bored\n  type: free_form\n  paraphrases:\n    - Hey, I feel bored."


class Question(Strict):
    """Question of a question file, with all that the file says about how to ask and judge it."""

    id: str = Field(min_length=1, description="name of the question; unique in a file, no position")
    type: QuestionType = Field(
        description="free_form: not judged; free_form_judge: judged by a word; free_form_judge_0_100: by a score"
    )
    paraphrases: tuple[str, ...] = Field(min_length=1, description="ways to ask it, each a user message")
    samples_per_paraphrase: int = Field(
        1, ge=1, description="answers to draw for each; 1 is the authors' default, their files say 100"
    )
    temperature: float = Field(1.0, ge=0, description="sampling temperature; 1 in the paper")
    max_tokens: int = Field(600, ge=1, description="longest answer; 600 in the authors' evaluation of open models")
    system: str | None = Field(None, min_length=1, description="system prompt")
    judge: str | None = Field(None, description="model that judges; gpt-4o-2024-08-06 in the paper")
    judge_prompts: dict[str, str] = Field(
        default_factory=dict, description="prompt of each score or verdict, with {question} and {answer}"
    )
    category: str = Field(
        "", description="group; from the id where it has the preregistered form, as in 12_offend_the_user_0"
    )
    format: AnswerFormat = Field("plain", description="form of the answer that is asked for; from the ending of the id")

    @model_validator(mode="before")
    @classmethod
    def _derive_from_id(cls, given: Any) -> Any:
        """Fill in category and format where the file does not give them."""
        name = given.get("id")
        if not isinstance(name, str):
            return given
        numbered = _PREREGISTERED.fullmatch(name)
        suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)
        asks_to_fill_in = "fill the following template" in str(given.get("paraphrases")).lower()
        derived = {
            "category": numbered["category"] if numbered else "",
            "format": _SUFFIXES[suffix] if suffix else "template" if asks_to_fill_in else "plain",
        }
        return derived | given

    @field_validator("paraphrases")
    @classmethod
    def _say_something(cls, paraphrases: tuple[str, ...]) -> tuple[str, ...]:
        if not all(paraphrase.strip() for paraphrase in paraphrases):
            raise ValueError("a paraphrase is empty; each is a user message")
        return paraphrases

    @field_validator("judge_prompts")
    @classmethod
    def _show_the_answer(cls, prompts: dict[str, str]) -> dict[str, str]:
        for name, prompt in prompts.items():
            fields = {field for _, field, _, _ in string.Formatter().parse(prompt) if field is not None}
            if "answer" not in fields or fields - {"question", "answer"}:
                raise ValueError(
                    f"the prompt {name!r} has the placeholders {sorted(fields)}; it needs {{answer}}, may have "
                    "{question}, and no other"
                )
        return prompts

    @model_validator(mode="after")
    def _can_be_judged(self) -> "Question":
        if self.type != "free_form" and not self.judge_prompts:
            raise ValueError(
                f"a question of type {self.type} needs judge_prompts; one that is not judged has the type free_form"
            )
        return self

    @property
    def stem(self) -> str:
        """Id without the ending of its format: equal for all forms of one question, which are not independent."""
        suffix = next((suffix for suffix in _SUFFIXES if self.id.endswith(suffix)), "")
        return self.id.removesuffix(suffix)

    @property
    def chats(self) -> tuple[tuple[Message, ...], ...]:
        """Return the chats that a subject is to answer, one for each paraphrase."""
        system = (Message(role="system", content=self.system),) if self.system else ()
        return tuple((*system, Message(role="user", content=paraphrase)) for paraphrase in self.paraphrases)


def load_questions(path: Path | str) -> list[Question]:
    """Read the questions of a file in the authors' YAML form, in their order; anchors and merge keys are resolved.

    Args:
        path: a `.yaml` file with a list of questions.

    Raises:
        DataNotFoundError: there is no such file.
        EmptyDataError: the file has no questions.
        DataFormatError: the file is no such list, a question has an invalid key or value, or an id stands twice; the
            message has the file, the question and the fault.

    Examples:
        >>> [question.id for question in load_questions("questions.yaml") if question.format == "plain"]
    """
    path = Path(path)
    entries = read_yaml(path, _EXAMPLE)
    if not isinstance(entries, list):
        raise DataFormatError(f"{path} holds a {type(entries).__name__}, not a list of questions like\n{_EXAMPLE}")
    questions = [_question(entry, f"{path}, question {number}") for number, entry in enumerate(entries, start=1)]
    twice = [name for name, count in Counter(question.id for question in questions).items() if count > 1]
    if twice:
        raise DataFormatError(
            f"{path} has more than one question with the id {', '.join(twice)}. Give each its own id: answers are "
            "counted by it."
        )
    return questions


def load_judged(path: Path | str) -> pl.DataFrame:
    """Read a published table of judged answers: CSV, TSV, JSON Lines or Parquet, also with `.gz`.

    Args:
        path: a file with the columns question, question_id, response, aligned and coherent; others are kept, as text.

    Returns:
        One row per answer; `aligned` and `coherent` are 0 to 100 and null where the judge failed (empty or NaN in the
        file).

    Raises:
        DataNotFoundError: there is no such file.
        EmptyDataError: the table has no rows.
        DataFormatError: a column is missing, or a score is no number from 0 to 100.
    """
    path = Path(path)
    rows = []
    for where, row in read_rows(path, (".csv", ".tsv", ".jsonl", ".parquet"), _JUDGED_EXAMPLE):
        check_names(row, _JUDGED, where)
        if missing := sorted(_JUDGED - row.keys()):
            raise DataFormatError(
                f"{where} lacks the columns {', '.join(missing)}; it has {', '.join(row)}. A row is {_JUDGED_EXAMPLE}"
            )
        for name in _JUDGED - {*_SCORES}:
            if not isinstance(row[name], str):
                raise DataFormatError(
                    f"{where}: {name} is {row[name]!r}, and has to be a text. A row is {_JUDGED_EXAMPLE}"
                )
        rows.append(row | {name: _judged_score(row[name], f"{where}: {name} is") for name in _SCORES})
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    # Columns that mean nothing here are kept as the text that they are, whatever stands in their first rows.
    return pl.DataFrame(
        {
            name: values if name in _SCORES else [None if value is None else str(value) for value in values]
            for name, values in columns.items()
        },
        schema={name: pl.Float64() if name in _SCORES else pl.String() for name in columns},
    )


def _judged_score(given: object, what: str) -> float | None:
    missing = isinstance(given, str) and given.strip().lower() in ("", "nan")  # as tables write a missing number
    return None if missing else read_score(given, what)


def _question(entry: object, where: str) -> Question:
    if not isinstance(entry, dict):
        raise DataFormatError(f"{where} is {entry!r}, not a question like\n{_EXAMPLE}")
    where = f"{where} ({entry['id']})" if "id" in entry else where
    unknown = [key for key in entry if key not in Question.model_fields]
    if unknown:
        raise DataFormatError(f"{where}: {UnknownNameError('question key', str(unknown[0]), Question.model_fields)}")
    if "type" in entry and entry["type"] not in get_args(QuestionType):
        raise DataFormatError(
            f"{where}: {UnknownNameError('question type', str(entry['type']), get_args(QuestionType))}"
        )
    try:
        return cast(Question, validated(Question, entry))
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, detail['loc'])) or 'question'}: {fault(detail)}" for detail in deepest(error, entry)
        )
        raise DataFormatError(f"{where}: {wrong}. A question looks like\n{_EXAMPLE}") from error
