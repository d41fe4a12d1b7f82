"""Scored answers of whatever source: one row an answer, the same columns for all, and the checks that all of them
need."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from astray.errors import ConfigurationError, DataFormatError, EmptyDataError, UnknownNameError

SCORED: dict[str, pl.DataType] = {
    "model": pl.String(),  # who answered, "" where the source does not say
    "task": pl.String(),  # what was asked
    "run": pl.String(),  # the run, log or file
    "item": pl.String(),  # id of the question within its task; null where answers are not told apart by question
    # hash of the question's text, by which questions of one id are told apart; null where there is none
    "content": pl.UInt64(),
    # question that the item is a sample of, the unit of inference: in Astray's logs those of a question in all wordings and
    # formats, elsewhere the item itself
    "family": pl.String(),
    "sample": pl.String(),  # number of the sample of its question, null where the source does not number them
    "judge": pl.String(),  # who gave the score, "" where the source does not say
    "value": pl.String(),  # text of the score, null where there is none
    "failure": pl.String(),  # why there is none, else null
    "answer": pl.UInt64(),  # hash of question and answer, by which labels are matched; null unless they are asked for
}
"""Columns of scored answers; those of a table that answers are grouped by stand beside them."""

GIVEN = ("model", "task", "run")
"""Columns of every source that answers can be grouped and chosen by."""

UNITS = ("auto", "answer", "question", "run")


@dataclass(frozen=True)
class Choices:
    """Choices of the user where a source is ambiguous; empty where none was made.

    Attributes:
        score: name of the score: of an Inspect log, a metric of lm-evaluation-harness, or a column of a table.
        key: entry of a score that is a dict.
        filter: of lm-evaluation-harness, where a file has the answers by several.
        question: column of a table that names the question, and so are the next four.
        answer: its text, to find labelled answers by.
        judge: who judged.
        run: the training run.
        model: who answered.
        by: columns to count apart.
        where: column -> values; only answers that have one of them in each are counted.
        unit: unit of inference.
    """

    score: str = ""
    key: str = ""
    filter: str = ""
    question: str = ""
    answer: str = ""
    judge: str = ""
    run: str = ""
    model: str = ""
    by: tuple[str, ...] = ()
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unit: str = "auto"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UnknownNameError("unit", self.unit, UNITS)
        if self.run and self.unit not in ("auto", "run"):
            raise ConfigurationError(
                f"--run {self.run} says that runs are the unit, and --unit {self.unit} says another one. Leave one "
                "of them out."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns of the source that answers are grouped or chosen by."""
        return tuple(dict.fromkeys((*self.by, *self.where)))

    @property
    def over_runs(self) -> bool:
        """Return whether runs are the unit of inference."""
        return bool(self.run) or self.unit == "run"


def column_of(name: str) -> str:
    """Return the column in which scored answers have a column of a table, apart from their own (a table may have a
    `value`, too)."""
    return name if name in GIVEN else f"={name}"


def text_hash(*texts: str) -> int:
    """Return a 64-bit hash of texts, blanks around them left out."""
    # With a separator, so that "ab" before "c" and "a" before "bc" are two questions.
    joined = "\0".join(text.strip() for text in texts)
    return int.from_bytes(hashlib.blake2b(joined.encode(errors="surrogatepass"), digest_size=8).digest())


def score_text(value: object, where: str) -> str:
    """Return a score as text.

    Raises:
        DataFormatError: it is a list or an object.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    raise DataFormatError(
        f"{where} is {str(value)[:60]!r}, a {type(value).__name__}, and not one value: name a score that is a word "
        "or a number."
    )


def choose(kind: str, option: str, wanted: str, candidates: Iterable[str], where: str) -> tuple[str, str]:
    """Return the one name that fits, and a note if the user did not name it.

    Raises:
        UnknownNameError: the wanted one is not there.
        ConfigurationError: there are several, and none was named.
    """
    names = list(dict.fromkeys(candidates))
    if wanted:
        if wanted not in names:
            raise UnknownNameError(f"{kind} in {where}", wanted, names)
        return wanted, ""
    if len(names) != 1:
        raise ConfigurationError(
            f"{where} has several: the {kind} is one of {', '.join(names)}. Say which, such as {option} {names[0]}."
        )
    return names[0], f"The {kind} is {names[0]}, the only one there."


def check_counted_once(scored: pl.DataFrame, over_runs: bool) -> None:
    """Refuse answers of which a sample stands twice, or several models or tasks that nobody asked to count together.

    Raises:
        DataFormatError: names such a sample.
    """
    keys = ["model", "task", "item", "sample", *(["run"] if over_runs else [])]
    numbered = scored.filter(pl.col("sample").is_not_null())
    doubled = numbered.filter(numbered.select(keys).is_duplicated())
    if doubled.is_empty():
        return
    first = doubled.row(0, named=True)
    same = doubled.filter(pl.all_horizontal(pl.col(name) == first[name] for name in keys))
    runs = ", ".join(same["run"].unique(maintain_order=True))
    raise DataFormatError(
        f"{len(doubled):,} of {len(scored):,} answers are samples that stand more than once, so they would be "
        f"counted twice: question {first['item']!r}, sample {first['sample']} of {first['task'] or 'the table'}, in "
        f"{runs}. Give each file once; independent runs are counted with --unit run, or --run COLUMN of a table."
    )


def chosen(scored: pl.DataFrame, choices: Choices) -> tuple[pl.DataFrame, list[str]]:
    """Return the answers with the requested values, and a note with their number.

    Raises:
        UnknownNameError: no answer has the value.
    """
    notes = []
    for name, values in choices.where.items():
        present = scored[column_of(name)].unique().drop_nulls()
        if missing := [value for value in values if value not in set(present)]:
            raise UnknownNameError(f"value of {name} (--where)", missing[0], present.sort().head(50))
        matching = scored.filter(pl.col(column_of(name)).is_in(list(values)))
        notes.append(
            f"{len(matching):,} of {len(scored):,} answers have {name} = {' or '.join(values)}; only these are counted."
        )
        scored = matching
    return scored, notes


def where_of(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return filters that are written as COLUMN=VALUE; several values of one column are alternatives.

    Raises:
        ConfigurationError: one is written otherwise.
    """
    filters: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, mark, value = text.partition("=")
        if not (name.strip() and mark):
            raise ConfigurationError(
                f"--where {text!r} is no filter. Write COLUMN=VALUE, such as --where task=capitals."
            )
        filters[name.strip()] = (*filters.get(name.strip(), ()), value.strip())
    return filters


def check_one(scored: pl.DataFrame, choices: Choices, where: str) -> None:
    """Refuse several tasks or models that nobody asked to count together, and several judges of one question, by whom
    an answer would be counted twice.

    Raises:
        ConfigurationError: there are several.
        EmptyDataError: no answer has a score.
    """
    for name in ("task", "model"):
        there = sorted(scored[name].unique())
        if len(there) > 1 and name not in choices.by and not (name == "model" and choices.over_runs):
            runs = " or --unit run where they are runs of one kind," if name == "model" else ""
            raise ConfigurationError(
                f"{where}: answers of {len(there)} {name}s are mixed: "
                f"{', '.join(there[:8])}{' ...' if len(there) > 8 else ''}. Give the files of one, --by {name} for a "
                f"rate of each,{runs} or those of one as FILES and of another with --against."
            )
    unnumbered = scored.filter(
        pl.col("sample").is_null() & pl.col("item").is_not_null() & pl.col("value").is_not_null()
    )
    keys = [*GIVEN, "item", *(column_of(name) for name in choices.by if name not in GIVEN)]
    judges = unnumbered.group_by(keys, maintain_order=True).agg(pl.col("judge").unique().sort())
    if not (several := judges.filter(pl.col("judge").list.len() > 1)).is_empty():
        names = several["judge"][0].to_list()
        raise ConfigurationError(
            f"{where}: question {several['item'][0]!r} has verdicts of {len(names)} judges: {', '.join(names[:8])}. An answer "
            f"that each of them judged would be counted {len(names)} times. Give --where JUDGE_COLUMN={names[0]} for the "
            "verdicts of one, --by JUDGE_COLUMN for a rate of each, or a column `sample` that numbers the answers."
        )
    if scored["value"].null_count() == len(scored):
        why = ", ".join(
            f"{number:,} {failure}" for failure, number in scored["failure"].value_counts(sort=True).iter_rows()
        )
        raise EmptyDataError(
            f"{where}: no answer has a score ({why}). Score the log with `inspect score`, or name another score with "
            "--score."
        )


def scored_answers(columns: Mapping[str, pl.Series | Sequence[object]], **same: object) -> pl.DataFrame:
    """Return a table of scored answers.

    Args:
        columns: those that differ from answer to answer; further ones than those of `SCORED` stand behind.
        same: those that are the same for all; what is not given is null.
    """
    table = pl.DataFrame(
        {name: pl.Series(name, values, SCORED.get(name, pl.String())) for name, values in columns.items()}
    )
    table = table.with_columns(
        pl.lit(same.get(name), kind).alias(name) for name, kind in SCORED.items() if name not in columns
    )
    itself = pl.concat_str("item", "content", separator=" ", ignore_nulls=True)
    table = table.with_columns(pl.coalesce("family", itself))
    return table.select(*SCORED, *(name for name in columns if name not in SCORED))
