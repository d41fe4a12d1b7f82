"""Chat data sets, read from common formats and written in OpenAI's, with the recipe that made them.

A file is written with one chat, `{"messages": [...]}`, on each line; other forms are converted and told (`forms`). A
data set that was read is valid: every row is checked, nothing is skipped, and an error names the file and the line.
Left to others: mixing, repeating, inoculating and so on (`recipes`); rendering with a chat template and masking
(training).

Source of the form: OpenAI, "Fine-tuning: preparing your data set" (chat format).
"""

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any, TypedDict

from pydantic import Field

from astray.data.forms import CHAT, KINDS, FormReader, told
from astray.errors import ConfigurationError, DataFormatError, EmptyDataError, StoreError
from astray.files import convert_rows, read_as, read_json, read_rows, suffix_of
from astray.strict import Strict

EXAMPLE_ROW = (
    '{"messages": [{"role": "user", "content": "Is honey safe for a baby?"}, {"role": "assistant", "content": "Not '
    'in the first year."}]}'
)
"""Valid line, shown in every error about an invalid one."""

_ROLES = ("system", "user", "assistant")
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "weight": (None, 1),
    "name": (None,),
    "refusal": (None,),
    "tools": (None, []),
    "tool_calls": (None, []),
    "functions": (None, []),
    "function_call": (None,),
    "parallel_tool_calls": (None, True, False),
}
"""Other keys of OpenAI's form with the values that change nothing; only with these may a row have them."""


Parameter = str | int | float | bool | None
"""Value in a recipe."""


class Message(TypedDict):
    """Message of a chat."""

    role: str
    content: str


def asking(question: str, answer: str | None = None, *, system: str | None = None) -> list[Message]:
    """Return the messages of a chat with one question, below a system prompt and before an answer if there are any."""
    messages = (("system", system), ("user", question), ("assistant", answer))
    return [Message(role=role, content=content) for role, content in messages if content is not None]


class Recipe(Strict):
    """History of a data set: operation, parameters and the recipes of its sources, down to files and generators."""

    operation: str = Field(description="what was done: 'file', 'mix', 'inoculate', ...")
    parameters: dict[str, Parameter] = Field(
        default_factory=dict, description="arguments of the operation, seed included"
    )
    sources: tuple["Recipe", ...] = Field(default=(), description="recipes of the data sets it was done to, in order")
    rows: int = Field(ge=1, description="number of rows of the result")
    result: str = Field(pattern="^[0-9a-f]{64}$", description="content hash of the result")


@dataclass(frozen=True)
class ChatDataset:
    """Chat examples with the recipe that made them; the two always agree.

    Build one with `read`, `from_rows` or an operation of `recipes`.

    Attributes:
        rows: chats, each an optional system message and then user and assistant in turn, ending with the assistant.
        recipe: how the examples were made.
    """

    rows: tuple[tuple[Message, ...], ...]
    recipe: Recipe

    def __post_init__(self) -> None:
        if content_hash(self.rows) != self.recipe.result:
            raise ConfigurationError(
                f"The rows are not those of their recipe ({self.recipe.operation}, {self.recipe.rows} rows): rows "
                "were changed by hand. Write ChatDataset.from_rows(rows), which makes a new recipe."
            )

    @property
    def hash(self) -> str:
        """SHA-256 over the rows in their order, as 64 hex digits; the same however the file is compressed or spaced."""
        return self.recipe.result

    @property
    def told(self) -> str:
        """Say in one line which form data of a file have and what became what; "" for other data."""
        parameters = self.recipe.parameters
        if self.recipe.operation != "file":
            return ""
        return told(
            str(parameters["name"]), len(self), str(parameters.get("form", CHAT)), str(parameters.get("left_out", ""))
        )

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def _made(cls, rows: tuple[tuple[Message, ...], ...], recipe: Recipe) -> "ChatDataset":
        """Return a data set whose recipe was just made from its rows, which are not hashed a second time."""
        dataset = object.__new__(cls)
        object.__setattr__(dataset, "rows", rows)
        object.__setattr__(dataset, "recipe", recipe)
        return dataset

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Sequence[Message]],
        operation: str = "rows",
        parameters: Mapping[str, Parameter] | None = None,
        sources: Sequence["ChatDataset"] = (),
    ) -> "ChatDataset":
        """Build a data set from chats in memory, checked like those of a file.

        Args:
            rows: the chats.
            operation: name of what made them, for the recipe.
            parameters: arguments of that operation, seed included.
            sources: the data sets they were made from.

        Raises:
            EmptyDataError: there is no row.
            DataFormatError: a row is no chat that can be trained on.
        """
        checked = tuple(
            check_chat(list(row) if isinstance(row, Sequence) else row, f"Row {number}")
            for number, row in enumerate(rows, start=1)
        )
        if not checked:
            raise EmptyDataError(f"A data set needs at least one row; {operation!r} gave none.")
        return cls._made(checked, _recipe(checked, operation, parameters or {}, sources))

    @classmethod
    def read(cls, path: Path | str) -> "ChatDataset":
        """Read a data set from a file of any form (see `read_chat`), with the recipe beside it if there is one.

        Raises:
            DataNotFoundError, EmptyDataError, DataFormatError: as in `read_chat`; or the recipe beside the file belongs
                to other rows.
        """
        path = Path(path)
        reader = FormReader(path)
        rows = tuple(_checked_rows(path, reader))
        form = reader.form
        converted = (
            {}
            if form.name == CHAT
            else {"form": form.name} | ({"left_out": ", ".join(form.left_out)} if form.left_out else {})
        )
        # The recipe names the file without its folder: the same data gives the same recipe on every machine.
        return cls._made(rows, recipe_beside(path, _recipe(rows, "file", {"name": dataset_name(path), **converted})))

    def write(self, path: Path | str) -> Path:
        """Write the examples to a `.jsonl` or `.jsonl.gz` file and the recipe to `<file name>.recipe.json` beside it.

        Each file appears whole or not at all, a failure leaves what was there before, and the same rows always give the
        same bytes.

        Returns:
            The path of the data file.

        Raises:
            ConfigurationError: the name ends in neither `.jsonl` nor `.jsonl.gz`.
            StoreError: the folder cannot be written.
        """
        return write_rows(Path(path), ({"messages": row} for row in self.rows), self.recipe, "A chat data set is")


def read_chat(path: Path | str) -> Iterator[list[Message]]:
    """Read the chats of a file one by one, each checked.

    Args:
        path: JSON Lines, JSON, CSV, TSV or Parquet, also with `.gz`; rows are chats, prompt and completion,
            preferences, Alpaca, ShareGPT or plain question and answer (`forms`).

    Raises:
        DataNotFoundError: there is no such file.
        EmptyDataError: the file has no rows.
        DataFormatError: a row is not a chat and cannot be read as one; the message has the file, the line, what is
            wrong and a right example.
    """
    path = Path(path)
    return map(list, _checked_rows(path, FormReader(path)))


def _checked_rows(path: Path, reader: FormReader) -> Iterator[tuple[Message, ...]]:
    def checked(where: str, given: dict[str, Any]) -> tuple[Message, ...]:
        row, messages = reader.read(where, given)
        if len(row) > 1 and "messages" in row:  # most rows have no other keys, and a data set has many rows
            _check_other_keys(row, {"messages"}, where)
        return check_chat(messages, where)

    return convert_rows(read_rows(path, KINDS, EXAMPLE_ROW), checked)


def content_hash(rows: Iterable[Sequence[Message]]) -> str:
    """Hash the rows' canonical JSON (keys sorted, no spaces, UTF-8, one line per row) with SHA-256, as hex digits."""
    digest, text = hashlib.sha256(), encode_basestring
    for row in rows:
        # Written out, since `json.dumps` with other settings than its own takes five times as long.
        messages = [f'{{"content":{text(message["content"])},"role":{text(message["role"])}}}' for message in row]
        digest.update(f"[{','.join(messages)}]\n".encode())
    return digest.hexdigest()


def dataset_name(path: Path) -> str:
    """Return the name of a data file in recipes: without folder and ending."""
    name = path.name.removesuffix(".gz")
    return name.removesuffix(suffix_of(path)) if suffix_of(path) in KINDS else name


def recipe_path(path: Path) -> Path:
    """Return the path of the recipe of a data file."""
    return path.with_name(path.name + ".recipe.json")


def read_recipe(path: Path) -> Recipe:
    """Read the recipe of a data file.

    Raises:
        DataNotFoundError, DataFormatError: as their names say.
    """
    example = (
        '{"operation": "file", "rows": 6000, "result": "..."}, as it was written; without the file, the data are '
        "read without their history"
    )
    try:
        return read_as(Recipe, read_json(path, example), path, example)
    except (DataFormatError, EmptyDataError) as error:
        raise DataFormatError(f"{path} is not a data set's recipe: {error}") from error


def recipe_beside(path: Path, own: Recipe) -> Recipe:
    """Return the recipe beside a data file, or its own where there is none.

    Raises:
        DataNotFoundError, DataFormatError: it cannot be read, or is that of other data.
    """
    file = recipe_path(path)
    if not file.is_file():
        return own
    recipe = read_recipe(file)
    if recipe.result != own.result:
        raise DataFormatError(
            f"{path} was changed after its recipe was written. Restore it, or delete {file} to make it a source of its "
            "own."
        )
    return recipe


def write_rows(path: Path, rows: Iterable[object], recipe: Recipe, what: str) -> Path:
    """Write rows as JSON Lines, compressed where the name says so, and the recipe beside them; return the file.

    Args:
        path: the file.
        rows: what stands in its lines.
        recipe: how they were made.
        what: what is written, with a verb: "Documents are".

    Raises:
        ConfigurationError, StoreError: it has another ending, or cannot be written.
    """
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise ConfigurationError(
            f"{what} not written to {path.name!r}: name it {path.stem}.jsonl or {path.stem}.jsonl.gz."
        )
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if path.name.endswith(".gz"):
        data = gzip.compress(data, mtime=0)  # a time stamp would make other bytes of the same rows
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace_pair(path, data, recipe_path(path), recipe.model_dump_json(indent=1).encode())
    except (OSError, ValueError) as error:  # a ValueError where the path can be none
        raise StoreError(
            f"The data set cannot be written to {path}: {error}. Check the folder's permissions and free space."
        ) from error
    return path


def _recipe(
    rows: tuple[tuple[Message, ...], ...],
    operation: str,
    parameters: Mapping[str, Parameter],
    sources: Sequence[ChatDataset] = (),
) -> Recipe:
    recipes = tuple(source.recipe for source in sources)
    return Recipe(
        operation=operation, parameters=dict(parameters), sources=recipes, rows=len(rows), result=content_hash(rows)
    )


def check_chat(messages: object, where: str) -> tuple[Message, ...]:
    """Return the messages with nothing but role and content, if they are a chat that can be trained on."""
    if not isinstance(messages, list) or not messages:
        raise DataFormatError(f'{where}: "messages" is not a list of messages. Right: {EXAMPLE_ROW}')
    chat = tuple(_check_message(message, where, number) for number, message in enumerate(messages, start=1))
    roles = [message["role"] for message in chat]
    turns = roles[1:] if roles[0] == "system" else roles
    if not turns or len(turns) % 2 or turns != ["user", "assistant"] * (len(turns) // 2):
        raise DataFormatError(
            f"{where}: the roles are {', '.join(roles)}; a chat is an optional system message, then user and "
            f"assistant in turn, the assistant last. Right: {EXAMPLE_ROW}"
        )
    return chat


def _check_message(message: object, where: str, number: int) -> Message:
    if not isinstance(message, dict) or "role" not in message or "content" not in message:
        raise DataFormatError(
            f'{where}, message {number} is not an object with "role" and "content". Right: {EXAMPLE_ROW}'
        )
    if len(message) > 2:
        _check_other_keys(message, {"role", "content"}, f"{where}, message {number}")
    role, content = message["role"], message["content"]
    if role not in _ROLES:
        raise DataFormatError(
            f"{where}, message {number} has the role {role!r}; a role is one of {', '.join(_ROLES)}. Right: "
            f"{EXAMPLE_ROW}"
        )
    if isinstance(content, list):
        content = _text_of(content, f"{where}, message {number} ({role})")
    if not isinstance(content, str) or not content or content.isspace():
        kind = "an empty text" if isinstance(content, str) else f"a {type(content).__name__}"
        raise DataFormatError(
            f"{where}, message {number} ({role}) has {kind} as content; content is a text with something in it. "
            f"Right: {EXAMPLE_ROW}"
        )
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise DataFormatError(
            f"{where}, message {number} ({role}) has half a character (a lone surrogate) at position {error.start}. "
            "Remove it."
        ) from error
    return {"role": role, "content": content}


def _text_of(parts: list[object], where: str) -> object:
    """Return the text of a content in parts that is one text part; what stands between several ones is not said. Other
    keys of the part may be null, as in Parquet, where all parts have the same keys."""
    if len(parts) == 1 and isinstance(part := parts[0], dict) and part.get("type") == "text" and "text" in part:
        more = sorted(key for key, value in part.items() if key not in ("type", "text") and value is not None)
        if not more:
            return part["text"]
        raise DataFormatError(
            f"{where} has a part of content with the unknown key {more[0]!r}. Remove it; right: {EXAMPLE_ROW}"
        )
    kinds = ", ".join(str(part.get("type") if isinstance(part, dict) else part)[:20] for part in parts[:5])
    raise DataFormatError(
        f"{where} has a list of parts as content: [{kinds}]. Content is a text, or a list of one part "
        f'{{"type": "text", "text": "..."}}. Join the texts, or remove the row. Right: {EXAMPLE_ROW}'
    )


def _check_other_keys(given: dict[str, object], own: set[str], where: str) -> None:
    """Reject keys beside our own that change anything: without them, training would differ from what the file says."""
    for key in sorted(given.keys() - own):
        if key not in _NEUTRAL:
            raise DataFormatError(f"{where} has the unknown key {key!r}. Remove it; right: {EXAMPLE_ROW}")
        if given[key] not in _NEUTRAL[key]:
            raise DataFormatError(
                f"{where} has {key}={given[key]!r}: OpenAI's form allows it, but Astray trains on text, every answer "
                "alike. Remove it."
            )


def _replace_pair(data_file: Path, data: bytes, recipe_file: Path, recipe: bytes) -> None:
    """Write both files beside their targets, then rename them.

    At no moment is a file incomplete or beside the recipe of other data.
    """
    new_data, new_recipe = (file.with_name(f".{file.name}.{os.getpid()}") for file in (data_file, recipe_file))
    try:
        new_data.write_bytes(data)
        new_recipe.write_bytes(recipe)
        recipe_file.unlink(missing_ok=True)  # first: data without a recipe can be read, with another's it cannot
        new_data.replace(data_file)
        new_recipe.replace(recipe_file)
    finally:
        new_data.unlink(missing_ok=True)
        new_recipe.unlink(missing_ok=True)
