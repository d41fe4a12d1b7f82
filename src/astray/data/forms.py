"""Forms in which people keep training examples: each is recognised by its columns and converted to a chat.

A file has one form. What could be read in two ways, and a column that would change what is asked or learned, is an
error; other columns are left out and named. Left to others: reading files (`astray.files`), and whether the result is a
chat that can be trained on (`chat`).

Sources: TRL, "Dataset formats" (prompt and completion, preference); Stanford Alpaca; FastChat's ShareGPT conversations.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astray.errors import DataFormatError
from astray.files import check_names, parse_json

KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""Endings of the files that are read, each also with `.gz` where it is a text."""

CHAT, ALPACA, SHAREGPT, PREFERENCE = "chat", "Alpaca", "ShareGPT", "preference"
CONVERSATIONS, SYSTEM = ("conversations", "conversation"), ("system", "system_prompt")
QUESTIONS = ("prompt", "question", "instruction", "input", "query", "user")
ANSWERS = ("completion", "answer", "output", "response", "assistant", "chosen")
ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
"""Author of a ShareGPT message -> role."""

_CHANGING = {
    "context": "belongs to the question: write both into one column",
    "history": "holds earlier turns: write the whole chat as messages",
    "label": "says which answers are wanted: keep the rows to be learned from, and remove the column",
    "labels": "says which answers are wanted: keep the rows to be learned from, and remove the column",
    "weight": "gives rows different weights, and Astray trains on every answer alike: remove it",
    "tools": "describes tools, and Astray trains on text: remove it, or these rows",
    "functions": "describes tools, and Astray trains on text: remove it, or these rows",
    "images": "holds pictures, and Astray trains on text: remove these rows",
    "image": "holds pictures, and Astray trains on text: remove these rows",
}
"""Columns that change what is asked or learned, with the reason for which they are refused."""

_KNOWN = frozenset(["messages", *CONVERSATIONS, *SYSTEM, *QUESTIONS, *ANSWERS, "rejected", *_CHANGING])
_FORMS = (
    '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}; {"prompt", '
    '"completion"}; {"prompt", "chosen", "rejected"}; {"instruction", "input", "output"} (Alpaca); {"conversations": '
    '[{"from": "human", "value": "..."}, ...]} (ShareGPT); or a question '
    f"({', '.join(QUESTIONS)}) with an answer ({', '.join(ANSWERS[:-1])})"
)


@dataclass(frozen=True)
class RowForm:
    """Form of a file's rows.

    Attributes:
        name: "chat", "Alpaca", "ShareGPT", "preference", or the two columns of a pair, as in "question/answer".
        system: column of the system message; "" for none.
        left_out: columns that are not read.
    """

    name: str
    system: str = ""
    left_out: tuple[str, ...] = ()

    def messages(self, row: Mapping[str, Any], where: str) -> object:
        """Return the messages of a row, not yet checked.

        Raises:
            DataFormatError: a value is not what its column has to hold, or a message has an unknown author.
        """
        if self.name == CHAT:
            return _list(row["messages"], f"{where}, messages")
        opening = (
            [{"role": "system", "content": _text(row, self.system, where)}]
            if self.system and row.get(self.system) not in (None, "")
            else []
        )
        if self.name == SHAREGPT:
            column = next(name for name in CONVERSATIONS if name in row)
            return [*opening, *_from_sharegpt(_list(row[column], f"{where}, {column}"), where)]
        if self.name == PREFERENCE:
            return [*opening, *_preferred(row, where)]
        if self.name == ALPACA:
            asked, given = _text(row, "instruction", where), row.get("input")
            question = asked if given in (None, "") else f"{asked}\n\n{_text(row, 'input', where)}"
            return [
                *opening,
                {"role": "user", "content": question},
                {"role": "assistant", "content": _text(row, "output", where)},
            ]
        question, answer = self.name.split("/")
        return [*opening, *_turns(row, question, "user", where), *_turns(row, answer, "assistant", where)]


def told(name: str, rows: int, form: str, left_out: str) -> str:
    """Describe in one line the format of a file, its number of rows, and how columns were converted.

    Args:
        name: of the file.
        rows: number of rows.
        form: name of the form.
        left_out: columns that were not read, with commas between.
    """
    became = {
        CHAT: "messages as they are",
        ALPACA: "the instruction, with the input below it, became the user's message, the output the assistant's",
        SHAREGPT: "human became user, gpt became assistant",
        PREFERENCE: "the chosen answer is learned, the rejected one is not read",
    }
    question, _, answer = form.partition("/")
    line = (
        f"{name}: {rows:,} rows in the form {form}; "
        f"{became.get(form) or f'{question} became the user’s message, {answer} the assistant’s'}"
    )
    return f"{line}. Left out: {left_out}." if left_out else f"{line}."


def form_of(columns: Collection[str], where: str) -> RowForm:
    """Return the form of a row with these columns.

    Raises:
        DataFormatError: it is none that is known, or could be read in two ways, or a column would change what is asked
            or learned.
    """
    if "messages" in columns:
        return RowForm(CHAT)
    check_names(columns, _KNOWN, where)
    questions, answers, systems, talks = (
        [name for name in names if name in columns] for names in (QUESTIONS, ANSWERS, SYSTEM, CONVERSATIONS)
    )
    if talks:
        name, read = SHAREGPT, [*talks, *questions, *answers]
    elif "instruction" in questions and set(questions) <= {"instruction", "input"} and answers == ["output"]:
        name, read = ALPACA, ["instruction", "input", "output"]
    elif answers == ["chosen"] and len(questions) < 2:
        name, read = PREFERENCE, [*questions, "chosen", "rejected"]
    elif len(questions) == len(answers) == 1:
        name, read = f"{questions[0]}/{answers[0]}", [*questions, *answers]
    else:
        name, read = "", []
    for several in (
        talks,
        systems,
        [*talks, *questions, *answers] if talks else [],
        [] if name else questions,
        [] if name else answers,
    ):
        if len(several) > 1:
            raise DataFormatError(
                f"{where} has the columns {' and '.join(several)}, which could be read in several ways. Keep one of "
                "them."
            )
    if not name:
        raise DataFormatError(
            f"{where} is an object with {sorted(columns)}, which is no form of a training example that is known. "
            f"Known are {_FORMS}."
        )
    for column in columns:
        if column in _CHANGING:
            raise DataFormatError(f"{where} has the column {column!r}, which {_CHANGING[column]}.")
    return RowForm(
        name, next(iter(systems), ""), tuple(column for column in columns if column not in {*read, *systems})
    )


class FormReader:
    """Convert the rows of one file, all of which have the form of its first row.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._first = path, ""
        self._of: dict[tuple[str, ...], RowForm] = {}
        self._parquet = path.name.lower().endswith(".parquet")

    @property
    def form(self) -> RowForm:
        """Form of the rows that were read, with all columns that were left out."""
        forms = list(self._of.values())
        left_out = dict.fromkeys(column for form in forms for column in form.left_out)
        return RowForm(forms[0].name, next((form.system for form in forms if form.system), ""), tuple(left_out))

    def read(self, where: str, row: dict[str, Any]) -> tuple[dict[str, Any], object]:
        """Return a row with what it has, and its messages, not yet checked.

        Raises:
            DataFormatError: as `form_of` and `Form.messages`; or the row has another form than the first one.
        """
        if self._parquet:  # has a field for whatever another row has
            row = _without_nulls(row)
        columns = tuple(row)
        form = self._of.get(columns)
        if form is None:
            form = form_of(columns, where)
            self._first = self._first or where
            other = next(iter(self._of.values()), form)
            if other.name != form.name:
                raise DataFormatError(
                    f"{where} has the form {form.name} ({', '.join(columns)}), and {self._first} has the form "
                    f"{other.name}. Give each form a file of its own."
                )
            self._of[columns] = form
        return row, form.messages(row, where)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _list(value: object, where: str) -> object:
    """Return a list; in a table of texts it is written as JSON."""
    return (
        parse_json(value, where, '[{"from": "human", "value": "..."}]')
        if isinstance(value, str) and value.lstrip()[:1] == "["
        else value
    )


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        kind = (
            "missing"
            if value is None
            else "an empty text"
            if isinstance(value, str)
            else f"a {type(value).__name__} ({str(value)[:40]})"
        )
        raise DataFormatError(f"{where}: {column} is {kind}, and has to be a text with something in it.")
    return value


def _turns(row: Mapping[str, Any], column: str, role: str, where: str) -> list[Any]:
    """Return what a column of a pair holds: a text of this role, or messages."""
    value = row[column]
    if isinstance(value, str) and re.match(r"""\s*\[\s*\{\s*['"](role|content)['"]""", value):  # as tables write lists
        raise DataFormatError(
            f"{where}: {column} holds messages written as one text. Give the file as JSON Lines or Parquet."
        )
    return value if isinstance(value, list) else [{"role": role, "content": _text(row, column, where)}]


def _preferred(row: Mapping[str, Any], where: str) -> list[Any]:
    """Return the chat whose answer was preferred; TRL's form may repeat the prompt in it, or have it there alone."""
    asked = next((column for column in QUESTIONS if column in row), "")
    chosen = _turns(row, "chosen", "assistant", where)
    if not asked:
        if isinstance(row["chosen"], str):
            raise DataFormatError(
                f"{where}: chosen is one text without a prompt, so where the answer begins is not known. Give prompt "
                "and chosen apart."
            )
        return chosen
    before = _turns(row, asked, "user", where)
    repeated = isinstance(row["chosen"], list) and chosen[: len(before)] == before
    return chosen if repeated else [*before, *chosen]


def _from_sharegpt(conversation: object, where: str) -> list[dict[str, Any]]:
    if not isinstance(conversation, list) or not conversation:
        raise DataFormatError(
            f'{where}: the conversation is no list of messages like {{"from": "human", "value": "..."}}.'
        )
    messages = []
    for number, turn in enumerate(conversation, start=1):
        location = f"{where}, message {number}"
        keys = ("from", "value") if isinstance(turn, dict) and "from" in turn else ("role", "content")
        if not isinstance(turn, dict) or not set(keys) <= turn.keys():
            raise DataFormatError(f'{location} is not an object with "from" and "value".')
        role = ROLES.get(turn[keys[0]]) if isinstance(turn[keys[0]], str) else None
        if role is None:
            raise DataFormatError(
                f"{location} is from {turn[keys[0]]!r}; a message is from one of {', '.join(ROLES)}. Remove such rows, "
                "or rename it."
            )
        others = {key: value for key, value in turn.items() if key not in keys}
        if role != "assistant" and "weight" in others:  # what is not trained on has no weight
            del others["weight"]
        messages.append({"role": role, "content": turn[keys[1]], **others})
    return messages
