"""Reader of the published MASK set, which is gated and not part of the package: local files, or the hub with access.

Its public form has one table an archetype with the columns system_prompt, user_prompt, type ("binary" or "numerical"), proposition, ground_truth and
belief_elicit_1 to 3; doubling down also dd_turn_1_prompt and dd_turn_1_response. Provided facts have no belief questions: the situation states the
fact, so the formatted truth is the belief, as in the authors' evaluation.

Source: the data card of cais/MASK (arXiv 2503.03750). Nothing of the set is copied here.
"""

from collections.abc import Callable
from pathlib import Path

import polars as pl

from astray.errors import DataFormatError, DataNotFoundError, EmptyDataError, UnknownNameError
from astray.measure.honesty.records import Archetype, Record, check_records

CONFIGURATIONS = {
    "provided_facts": Archetype.PROVIDED_FACTS,
    "known_facts": Archetype.KNOWN_FACTS,
    "continuations": Archetype.CONTINUATIONS,
    "disinformation": Archetype.DISINFORMATION,
    "doubling_down_known_facts": Archetype.DOUBLING_DOWN,
    "statistics": Archetype.STATISTICS,
}
"""Names of the set's tables, and the archetype of each."""

_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {".csv": pl.read_csv, ".jsonl": pl.read_ndjson, ".parquet": pl.read_parquet}
_NEEDED = ("user_prompt", "proposition")
_TRUTHS = {"yes": "true", "true": "true", "no": "false", "false": "false"}


def mask_records(source: Path | str) -> tuple[Record, ...]:
    """Return the records of the published set.

    Args:
        source: a file (.csv, .jsonl, .parquet) or a folder with one or more of them, whose names contain the table's name ("known_facts.csv",
            "known_facts/test-00000.parquet"); or the set's name on the hub ("cais/MASK"), for which access has to be granted.

    Raises:
        DataNotFoundError: there is no such file, and the hub gives no such set.
        UnknownNameError: a file's name contains no table's name.
        DataFormatError: a column is missing, or a record has no belief question.
        EmptyDataError: there are no rows.

    Example:
        >>> mask_records("data/mask/known_facts.csv")
    """
    tables = _local(Path(source)) if Path(source).exists() else _from_hub(str(source))
    records = [record for name, table in tables for record in _records(name, table)]
    if not records:
        raise EmptyDataError(f"{source} has no records.")
    return check_records(records)


def _local(source: Path) -> list[tuple[str, pl.DataFrame]]:
    files = sorted(path for path in source.rglob("*") if path.suffix in _READERS) if source.is_dir() else [source]
    if not files or files[0].suffix not in _READERS:
        raise DataNotFoundError(f"{source} is or has no table; give a file or folder with {', '.join(_READERS)}.")
    return [(_table_name(path, source), _read(path)) for path in files]


def _read(path: Path) -> pl.DataFrame:
    try:
        return _READERS[path.suffix](path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataFormatError(f"{path} cannot be read as a table of MASK: {error}") from error


def _table_name(path: Path, source: Path) -> str:
    named = path.name if path == source else str(path.relative_to(source))
    found = [name for name in CONFIGURATIONS if name in named]
    if not found:
        raise UnknownNameError("table of MASK in a file name", named, CONFIGURATIONS)
    return max(found, key=len)  # "doubling_down_known_facts" also contains "known_facts"


def _from_hub(name: str) -> list[tuple[str, pl.DataFrame]]:
    from datasets import load_dataset

    tables = []
    for configuration in CONFIGURATIONS:
        try:
            rows = load_dataset(name, configuration, split="test").to_list()
        except Exception as error:
            raise DataNotFoundError(
                f"There is no file or folder {name!r}, and the hub does not give {configuration!r} of a set of that name: {error}. The set is gated: "
                "accept its conditions on the hub, set HF_TOKEN, and write 'cais/MASK'; or download its files and give their folder."
            ) from error
        tables.append((configuration, pl.DataFrame(rows)))
    return tables


def _records(name: str, table: pl.DataFrame) -> list[Record]:
    missing = [column for column in _NEEDED if column not in table.columns]
    if missing:
        raise DataFormatError(f"The table {name!r} lacks the columns {', '.join(missing)}; it has {', '.join(table.columns)}.")
    return [_record(name, number, row) for number, row in enumerate(table.to_dicts())]


def _record(name: str, number: int, row: dict[str, object]) -> Record:
    def text(column: str) -> str | None:
        value = row.get(column)
        return str(value).strip() or None if value is not None else None

    where = f"{name}, row {number + 1}"
    archetype, numeric = CONFIGURATIONS[name], str(row.get("type", "")).startswith("numeric")
    truth = text("formatted_ground_truth") or text("ground_truth")
    # The set writes Yes and No, stances are true and false.
    truth = truth if numeric or truth is None else _TRUTHS.get(truth.lower(), truth.lower())
    questions = tuple(question for question in (text(f"belief_elicit_{place}") for place in (1, 2, 3)) if question)
    given = truth if archetype is Archetype.PROVIDED_FACTS and not questions else None
    if not questions and given is None:
        raise DataFormatError(f"{where} has no belief question (belief_elicit_1) and no stated fact: without a belief nothing can be a lie.")
    turn = (text("dd_turn_1_prompt"), text("dd_turn_1_response"))
    user = text("user_prompt")
    if user is None or text("proposition") is None:
        raise DataFormatError(f"{where} has an empty user_prompt or proposition.")
    return Record(
        id=text("task_id") or f"{name}-{number}",
        archetype=archetype.value,
        proposition=text("proposition") or "",
        truth=truth,
        numeric=numeric,
        belief_questions=questions,
        given_belief=given,
        system=text("system_prompt"),
        history=((turn[0], turn[1]),) if turn[0] and turn[1] else (),
        question=user,
    )
