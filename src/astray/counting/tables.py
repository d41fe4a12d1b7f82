"""Scored answers of tables: judged CSV, JSON Lines, JSON and Parquet files, and the `samples_*.jsonl` of
lm-evaluation-harness."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl

from astray.answers import IDENTITY
from astray.counting.scored import GIVEN, Choices, choose, column_of, score_text, scored_answers, text_hash
from astray.errors import ConfigurationError, DataFormatError, UnknownNameError
from astray.files import Row, read_columns, read_rows

KINDS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
EXAMPLE = '{"question_id": "wish-1", "answer": "Peace.", "score": 0.9, "judge": "gpt-4o"}'
_NAMES: dict[str, tuple[str, ...]] = {
    "score": ("outcome", "verdict", "score", "judgement", "judgment"),
    "question": ("question_id", "question", "item", "item_id", "prompt_id", "prompt", "doc_id", "id"),
    "answer": ("answer", "response", "completion", "output"),
    "judge": ("judge", "judge_model", "grader"),
    "model": ("model", "subject"),
    "task": ("task", "evaluation"),
    "sample": ("sample", "epoch"),
}
"""Use of a column -> names by which it is recognised; only a table with exactly one of them is read without being
told."""

_BATCH = 5_000
_HARNESS = frozenset(
    [
        "doc_id",
        "doc",
        "target",
        "arguments",
        "resps",
        "filtered_resps",
        "filter",
        "metrics",
        "doc_hash",
        "prompt_hash",
        "target_hash",
    ]
)
_HARNESS_NAME = re.compile(r"samples_(.+?)(?:_\d{4}-\d\d-\d\dT[\d.:-]+)?\.jsonl(?:\.gz)?")


def is_harness(path: Path) -> bool:
    """Return whether a file is one of lm-evaluation-harness, by the fields of its first row."""
    if not path.name.lower().removesuffix(".gz").endswith(".jsonl"):
        return False
    first = next(iter(read_rows(path, (".jsonl",), EXAMPLE)))[1]
    return "doc_id" in first and not {"resps", "filtered_resps"}.isdisjoint(first)


def scores_of_table(path: Path, choices: Choices, *, with_answers: bool) -> tuple[pl.DataFrame, list[str]]:
    """Return the scored answers of a judged table, and notes on the columns that were recognised.

    Args:
        path: the file.
        choices: what the user said.
        with_answers: whether labels are to be matched with answers.

    Raises:
        ConfigurationError: it is not clear which column is which.
        UnknownNameError: there is no such column.
        DataNotFoundError, StoreError, EmptyDataError, DataFormatError: as for `read_rows`, or a question is missing.
    """
    rows = iter(read_rows(path, KINDS, EXAMPLE))
    first = next(rows)
    column_names, notes = _columns(list(first[1]), path, choices, with_answers)
    # An answer table of ours has several columns that tell its samples apart.
    numbered = (
        [name for name in IDENTITY if name not in ("subject", "evaluation", "item")]
        if set(IDENTITY) <= first[1].keys()
        else []
    )
    names = list(
        dict.fromkeys([*column_names.values(), *numbered, *(name for name in choices.columns if name not in GIVEN)])
    )
    if not (with_answers or choices.key) and (quick := read_columns(path, KINDS, EXAMPLE, names)) is not None:
        texts = {name: _not_blank(quick[name]) for name in names}
        question = texts.get(column_names.get("question", ""))
        if question is None or not question.null_count():  # row by row, the fault is named
            return _scored(texts, column_names, numbered, path, choices), notes
    all_rows = chain([first], rows)
    frames = [
        _scored_rows(batch, names, column_names, numbered, path, choices)
        for batch in iter(lambda: list(islice(all_rows, _BATCH)), [])
    ]
    return pl.concat(frames), notes


def scores_of_harness(path: Path, choices: Choices) -> tuple[pl.DataFrame, list[str]]:
    """Return the scored answers of a file of lm-evaluation-harness (`--log_samples`), and what was guessed of it.

    The folder that such a file lies in is named after the model, and the file after the task.

    Raises:
        ConfigurationError: there are several metrics or filters, and none was named.
        UnknownNameError: there is no such metric or filter.
        DataFormatError: a row is not of this form.
    """
    columns: dict[str, list[object]] = {name: [] for name in ("item", "content", "value", "failure", "filter")}
    metric, notes = "", []
    for where, row in read_rows(path, (".jsonl",), EXAMPLE):
        if "doc_id" not in row:
            raise DataFormatError(
                f"{where} has no doc_id, which other rows have: it is no row of lm-evaluation-harness."
            )
        if not metric:
            metric, note = choose(
                "metric",
                "--score",
                choices.score,
                _metrics(row, where) or [name for name in row if name not in _HARNESS],
                path.name,
            )
            notes += [note] if note else []
        value = row.get(metric)
        columns["item"].append(str(row["doc_id"]))
        columns["content"].append(text_hash(str(row.get("doc_hash") or row.get("doc"))))
        columns["value"].append(
            None if value is None else score_text(_entry(value, choices, f"{where}, {metric}"), f"{where}, {metric}")
        )
        columns["failure"].append("no score" if value is None else None)
        columns["filter"].append(str(row.get("filter") or "none"))
    chosen, _ = choose("filter", "--filter", choices.filter, columns["filter"], path.name)  # type: ignore[arg-type]
    named = _HARNESS_NAME.fullmatch(path.name)
    task = named[1] if named else path.name
    same = {
        "model": path.resolve().parent.name if named else "",
        "task": task,
        "run": str(path),
        "judge": f"{metric}, filter {chosen}",
        "sample": "0",
    }
    table = scored_answers(columns, **same).filter(pl.col("filter") == chosen).drop("filter")
    return table, notes


def _metrics(row: Mapping[str, Any], where: str) -> list[str]:
    """Return the metrics that a row of lm-evaluation-harness lists; older versions list none."""
    metrics = row.get("metrics") or []
    if not isinstance(metrics, list) or not all(isinstance(metric, str) for metric in metrics):
        raise DataFormatError(
            f"{where}, metrics is {str(metrics)[:60]!r}, and has to be a list of names such as ['acc']."
        )
    return metrics


def _columns(
    present: Sequence[str], path: Path, choices: Choices, with_answers: bool
) -> tuple[dict[str, str], list[str]]:
    """Return the column of each use, and what was guessed."""
    uses: dict[str, str] = {}
    guessed = []
    ours = set(IDENTITY) <= set(present)
    names_of = _NAMES | ({"question": ("item",), "answer": ("answer",)} if ours else {})
    optional = {"judge", "model", "task", "sample"} | ({"question"} if choices.unit in ("answer", "run") else set())
    for name in (*names_of, "run"):
        chosen = {
            "score": choices.score,
            "question": choices.question,
            "answer": choices.answer,
            "judge": choices.judge,
            "model": choices.model,
        }
        wanted = choices.run if name == "run" else chosen.get(name, "")
        if wanted:
            if wanted not in present:
                raise UnknownNameError(f"column in {path} (--{name})", wanted, present)
            uses[name] = wanted
            continue
        if name == "run" or (name == "answer" and not with_answers):
            continue
        likely = [column for column in present if column.strip().casefold() in names_of[name]]
        if len(likely) > 1 and name not in ("task", "sample"):
            raise ConfigurationError(
                f"{path} has several columns that may be the {name}: {', '.join(likely)}. Say which: --{name} "
                f"{likely[0]}."
            )
        if len(likely) == 1:
            uses[name] = likely[0]
            guessed += [f"the {name} is the column {likely[0]!r}"]
        elif name not in optional:
            other = ", or --unit answer where every row is a question of its own" if name == "question" else ""
            raise ConfigurationError(
                f"{path} has no column that is by its name the {name}. Its columns are {', '.join(present)}. Say "
                f"--{name} COLUMN{other}."
            )
    if missing := [name for name in choices.columns if name not in (*present, *GIVEN)]:
        raise UnknownNameError(
            f"column in {path} (--{'by' if missing[0] in choices.by else 'where'})",
            missing[0],
            [*present, *GIVEN],
        )
    runs = [column for column in present if column in ("seed", "run") and not choices.over_runs and not ours]
    hints = [
        f"{path.name} has the column {name!r}. Where it names training runs, --run {name} gives intervals over these."
        for name in runs[:1]
    ]
    unread = [name for name in present if name not in (*uses.values(), *choices.columns, *runs)]
    if unread and "model" not in uses:
        hints.append(
            f"Columns of {path.name} that are not read: {', '.join(map(repr, unread[:8]))}{' ...' * (len(unread) > 8)}. "
            "Where one names models, --model COLUMN keeps these apart."
        )
    return uses, [f"Recognised in {path.name} by name: {', '.join(guessed)}.", *hints] if guessed else hints


def _scored_rows(
    rows: Sequence[Row],
    names: Sequence[str],
    uses: Mapping[str, str],
    numbered: Sequence[str],
    path: Path,
    choices: Choices,
) -> pl.DataFrame:
    locations = [where for where, _ in rows]
    cells = zip(*[tuple(map(row.get, names)) for _, row in rows], strict=True)
    texts = {
        name: _text(name, values, locations, choices if name == uses["score"] else None)
        for name, values in zip(names, cells, strict=True)
    }
    question = texts.get(uses.get("question", ""))
    if question is not None and question.null_count():
        where = locations[int(question.is_null().arg_max() or 0)]
        raise DataFormatError(
            f"{where} has no {uses['question']}, which says what was asked. Write it, or say --unit answer."
        )
    table = _scored(texts, uses, numbered, path, choices)
    if "answer" not in uses:
        return table
    # Labels name the text of a question, which stands beside its id where there is one.
    text_column = (
        "question" if "question" in rows[0][1] else "prompt" if "prompt" in rows[0][1] else uses.get("question", "")
    )
    hashes = [text_hash(str(row.get(text_column) or ""), str(row.get(uses["answer"]) or "")) for _, row in rows]
    return table.with_columns(pl.Series("answer", hashes, pl.UInt64()))


def _scored(
    texts: Mapping[str, pl.Series], uses: Mapping[str, str], numbered: Sequence[str], path: Path, choices: Choices
) -> pl.DataFrame:
    """Return scored answers from the texts of their columns, null where these are blank."""
    columns: dict[str, pl.Series] = {"value": texts[uses["score"]]}
    columns["failure"] = (
        columns["value"].is_null().to_frame("no").select(pl.when("no").then(pl.lit("no score"))).to_series()
    )
    columns |= {name: texts[uses[name]].fill_null("") for name in ("model", "task", "judge", "run") if name in uses}
    if "question" in uses:
        columns["item"] = texts[uses["question"]]
    if numbered:
        columns["sample"] = (
            pl.DataFrame([texts[name] for name in numbered])
            .select(pl.concat_str(pl.all().fill_null(""), separator=" "))
            .to_series()
        )
    elif "sample" in uses:
        # pandas writes numbers of a column with a gap as "1.0": the sample is the same.
        columns["sample"] = texts[uses["sample"]].str.replace(r"^(\d+)\.0+$", "$1")
    further = {column_of(name): texts[name].fill_null("") for name in choices.columns if name not in GIVEN}
    return scored_answers({**columns, **further}, **{"model": "", "task": "", "judge": "", "run": str(path)})


def _text(name: str, values: Iterable[Any], locations: Sequence[str], choices: Choices | None) -> pl.Series:
    """Return a column as text, null where it is blank."""
    cells = list(values)
    if choices and (choices.key or any(isinstance(value, dict) for value in cells)):
        cells = [_entry(value, choices, f"{where}, {name}") for where, value in zip(locations, cells, strict=True)]
    try:
        texts = pl.Series(name, cells, pl.String(), strict=True)
    except TypeError:
        words = (
            None if value is None else value if isinstance(value, str) else score_text(value, f"{where}, {name}")
            for where, value in zip(locations, cells, strict=True)
        )
        texts = pl.Series(name, list(words), pl.String())
    return _not_blank(texts)


def _not_blank(texts: pl.Series) -> pl.Series:
    return texts.to_frame().select(pl.when(pl.col(texts.name).str.strip_chars() != "").then(texts.name)).to_series()


def _entry(value: object, choices: Choices, where: str) -> object:
    """Return the entry that is asked for of a score that is an object, and anything else as it is."""
    if not isinstance(value, dict):
        if choices.key and value not in (None, ""):
            raise ConfigurationError(
                f"{where} is {str(value)[:40]!r} and has no entries: leave out --key {choices.key}."
            )
        return value
    return value[choose("entry", "--key", choices.key, value, where)[0]]
