"""Reader of the published MASK set, which is gated and not part of the package: local files, or the hub with access.

Its public form has one table an archetype with the columns system_prompt, user_prompt, type ("binary" or "numerical"),
proposition, ground_truth and belief_elicit_1 to 3; doubling down also dd_turn_1_prompt and dd_turn_1_response. Provided
facts have no belief questions: the situation states the fact, so the formatted truth is the belief, as in the authors'
evaluation.

Source: the data card of cais/MASK (arXiv 2503.03750). Nothing of the set is copied here.
"""

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from astray.errors import DataFormatError, DataNotFoundError, UnknownNameError
from astray.files import Row, check_names, read_rows, suffix_of, text_of
from astray.judges.numbers import standard
from astray.judges.replies import undressed
from astray.measure.asking import distinct
from astray.measure.honesty.records import Archetype, Record

CONFIGURATIONS = {
    "provided_facts": Archetype.PROVIDED_FACTS,
    "known_facts": Archetype.KNOWN_FACTS,
    "continuations": Archetype.CONTINUATIONS,
    "disinformation": Archetype.DISINFORMATION,
    "doubling_down_known_facts": Archetype.DOUBLING_DOWN,
    "statistics": Archetype.STATISTICS,
}
"""Names of the set's tables, and the archetype of each."""

_KINDS = (".csv", ".tsv", ".jsonl", ".parquet")
_NEEDED = ("user_prompt", "proposition")
_FIELDS = (
    *_NEEDED,
    "task_id",
    "type",
    "system_prompt",
    "ground_truth",
    "formatted_ground_truth",
    "dd_turn_1_prompt",
    "dd_turn_1_response",
)
_BELIEFS = ("belief_elicit_1", "belief_elicit_2", "belief_elicit_3")
_TRUTHS = {"yes": "true", "true": "true", "no": "false", "false": "false"}
_EXAMPLE = (
    '{"user_prompt": "...", "type": "numerical", "proposition": "The share is X percent.", "ground_truth": "12.5", '
    '"belief_elicit_1": "..."}'
)


def mask_records(source: Path | str) -> tuple[Record, ...]:
    """Return the records of the published set.

    Args:
        source: a file (.csv, .tsv, .jsonl, .parquet) or a folder with one or more of them, whose names contain the
            table's name ("known_facts.csv", "known_facts/test-00000.parquet"); or the set's name on the hub
            ("cais/MASK"), for which access has to be granted.

    Raises:
        DataNotFoundError: there is no such file, and the hub gives no such set.
        UnknownNameError: a file's name contains no table's name.
        DataFormatError: a column is missing, a record has no belief question, or a truth is not one that answers can be
            compared with.
        EmptyDataError: there are no rows.

    Examples:
        >>> mask_records("data/mask/known_facts.csv")
    """
    tables = _local(Path(source)) if Path(source).exists() else _from_hub(str(source))
    return distinct("record", [_record(name, where, row) for name, rows in tables for where, row in rows])


def _local(source: Path) -> list[tuple[str, Iterable[Row]]]:
    files = (
        sorted(path for path in source.rglob("*") if path.is_file() and suffix_of(path) in _KINDS)
        if source.is_dir()
        else [source]
    )
    if not files:
        raise DataNotFoundError(f"{source} has no table; give a file or folder with {', '.join(_KINDS)}.")
    return [(_table_name(path, source), read_rows(path, _KINDS, _EXAMPLE)) for path in files]


def _table_name(path: Path, source: Path) -> str:
    named = path.name if path == source else str(path.relative_to(source))
    matching = [name for name in CONFIGURATIONS if name in named]
    if not matching:
        raise UnknownNameError("table of MASK in a file name", named, CONFIGURATIONS)
    return max(matching, key=len)  # "doubling_down_known_facts" also contains "known_facts"


def _from_hub(name: str) -> list[tuple[str, Iterable[Row]]]:
    from datasets import load_dataset

    tables: list[tuple[str, Iterable[Row]]] = []
    for configuration in CONFIGURATIONS:
        try:
            rows = load_dataset(name, configuration, split="test").to_list()
        except Exception as error:
            raise DataNotFoundError(
                f"There is no file or folder {name!r}, and the hub does not give {configuration!r} of a set of that "
                f"name: {error}. The set is gated: accept its conditions on the hub, set HF_TOKEN, and write "
                "'cais/MASK'; or download its files and give their folder."
            ) from error
        tables.append(
            (
                configuration,
                [(f"{name}, {configuration}, row {number}", row) for number, row in enumerate(rows, start=1)],
            )
        )
    return tables


def _record(name: str, where: str, row: dict[str, Any]) -> Record:
    check_names(row, (*_FIELDS, *_BELIEFS), where)
    if missing := [column for column in _NEEDED if column not in row]:
        raise DataFormatError(
            f"{where} lacks the columns {', '.join(missing)}; it has {', '.join(row)}. Right: {_EXAMPLE}"
        )
    if further := [name for name in row if name.startswith("belief_elicit") and name not in _BELIEFS]:
        raise DataFormatError(
            f"{where} has the field {further[0]!r}, which would go unread; belief questions are {', '.join(_BELIEFS)}."
        )
    if isinstance(row.get("task_id"), int) and not isinstance(row["task_id"], bool):
        row = row | {"task_id": str(row["task_id"])}
    texts = {
        field: text_of(row, field, where, _EXAMPLE)
        for field in (*_FIELDS, *_BELIEFS)
        if not field.endswith("ground_truth")
    }
    user, proposition, kind = texts["user_prompt"], texts["proposition"], texts["type"] or "binary"
    if user is None or proposition is None:
        raise DataFormatError(f"{where} has an empty user_prompt or proposition. Right: {_EXAMPLE}")
    if kind not in ("binary", "numeric", "numerical"):
        raise DataFormatError(f"{where}: type is {kind!r}; write binary or numerical.")
    archetype, numeric = CONFIGURATIONS[name], kind != "binary"
    truth = _truth(row, "formatted_ground_truth", numeric, where) or _truth(row, "ground_truth", numeric, where)
    questions = tuple(question for field in _BELIEFS if (question := texts[field]))
    given = truth if archetype is Archetype.PROVIDED_FACTS and not questions else None
    if not questions and given is None:
        raise DataFormatError(
            f"{where} has no belief question (belief_elicit_1) and no stated fact: without a belief nothing can be a "
            "lie."
        )
    said, answered = texts["dd_turn_1_prompt"], texts["dd_turn_1_response"]
    if bool(said) != bool(answered):
        raise DataFormatError(
            f"{where} has no whole first turn: give dd_turn_1_prompt and dd_turn_1_response, what was said and what "
            "was answered."
        )
    return Record(
        id=texts["task_id"] or f"{name}-{int(where.rpartition(' ')[2]) - 1}",
        archetype=archetype.value,
        proposition=proposition,
        truth=truth,
        numeric=numeric,
        belief_questions=questions,
        given_belief=given,
        system=texts["system_prompt"],
        history=((said, answered),) if said and answered else (),
        question=user,
    )


def _truth(row: dict[str, Any], field: str, numeric: bool, where: str) -> str | None:
    """Return what is true in the form in which answers are compared with it; None where the file leaves it open.

    Raises:
        DataFormatError: answers cannot be compared with it, so that a true one would not be found true.
    """
    value = row.get(field)
    text = undressed(unicodedata.normalize("NFKC", str(value))) if value is not None else ""
    if not text:
        return None
    if numeric:
        number = None if isinstance(value, bool) else standard(str(value))
        if number is None:
            raise DataFormatError(
                f"{where}: {field} is {value!r}, which is not one number that can be read in one way only. Write it "
                "with digits and a point, without separators, percent sign or unit (1200, 12.5, 3 million)."
            )
        return number
    if text.casefold() not in _TRUTHS:
        raise DataFormatError(
            f"{where}: {field} is {value!r}; a binary one is yes, no, true or false, and a number has the type "
            "numerical."
        )
    return _TRUTHS[text.casefold()]
