"""Count scored answers: rates of each side, and their difference paired by question.

The unit of inference is the answer where each question was answered once, the question where it was answered several
times, and the run where the user says that the files are runs. Left to others: what the files hold (sources), what is a
hit (rules), how it is shown (counted).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from astray.counting.counted import Counted
from astray.counting.labels import by_text, judge_error
from astray.counting.results import CountedDifference, CountedRate
from astray.counting.rules import FAILED, HIT, REST, Rule
from astray.counting.scored import Choices, column_of
from astray.counting.sources import Source, read_scored
from astray.errors import ConfigurationError, EmptyDataError
from astray.judges.calibrate import Calibration, corrected
from astray.stats.compare import difference_of_models, difference_of_seeds
from astray.stats.intervals import Counts, check_level, over_questions, over_runs, wilson
from astray.stats.judge_error import corrected_difference

_TEXT = ("task", "family", "content")
_QUESTION = ("task", "family")


def count_files(
    files: Sequence[Source],
    rule: Rule,
    *,
    against: Sequence[Source] = (),
    labels: Path | None = None,
    choices: Choices | None = None,
    level: float = 0.95,
) -> Counted:
    """Count what other tools have judged.

    Args:
        files: Inspect logs, judged tables, samples of lm-evaluation-harness, or folders of logs or of such samples.
        rule: what is a hit.
        against: the same of another model; the difference is paired by question.
        labels: labelled answers, or a calibration of the judge: rates and differences are corrected for its error.
        choices: what the files leave open.
        level: nominal coverage of the intervals.

    Raises:
        ConfigurationError, UnknownNameError: something has to be said, or was said that cannot be.
        DataNotFoundError, DataFormatError, EmptyDataError: files that are not there, cannot be counted, or have nothing
        in common.
    """
    choices = choices or Choices()
    check_level(level)
    tables, notes = _sides(files, against, choices, with_answers=labels is not None and by_text(labels))
    rule, new_notes = rule.fitted(
        pl.concat([table["value"] for table in tables.values()]),
        f"the score {choices.score!r}" if choices.score else "the score",
    )
    notes += new_notes
    tables = {side: table.with_columns(rule.role().alias("role")) for side, table in tables.items()}
    judge = None
    if labels is not None:
        judge, new_notes = judge_error(labels, pl.concat(tables.values()), rule)
        notes += new_notes
    judges = [", ".join(table["judge"].unique().sort()) for table in tables.values()]
    if len(set(judges)) > 1:
        notes.append(
            f"The sides were judged by different judges, and the difference is also theirs: {'; '.join(judges)}."
        )
    rates = [
        _rate(part, side, group, rule, choices, judge, level)
        for side, table in tables.items()
        for group, part in _groups(table, choices.by)
    ]
    if choices.over_runs and max(rate.runs for rate in rates) < 2:
        raise ConfigurationError(
            "Runs are to be the unit, and there is one. Give the logs or files of several runs, or --run COLUMN of a "
            "table."
        )
    differences, new_notes = _differences(tables, choices, judge, level) if against else ((), [])
    return Counted(choices.score, rule, choices.by, tuple(rates), differences, judge, (*notes, *new_notes))


def _sides(
    files: Sequence[Source], against: Sequence[Source], choices: Choices, *, with_answers: bool
) -> tuple[dict[str, pl.DataFrame], list[str]]:
    """Return the scored answers of each side, and notes of their reading."""
    if against and (odd := {"model", "run"} & set(choices.by)):
        raise ConfigurationError(
            f"--by {odd.pop()} and --against: the sides are not of one model. Leave one of them out."
        )
    sides = {"files": files, **({"against": against} if against else {})}
    read = {side: read_scored(sources, choices, with_answers=with_answers) for side, sources in sides.items()}
    tables = {side: table for side, (table, _) in read.items()}
    if against and (doubled := set(tables["files"]["run"]) & set(tables["against"]["run"])) and not choices.run:
        raise ConfigurationError(
            f"{sorted(doubled)[0]} is on both sides, so it would be compared with itself. Give it on one."
        )
    return tables, list(dict.fromkeys(note for _, side_notes in read.values() for note in side_notes))


def _differences(
    tables: Mapping[str, pl.DataFrame], choices: Choices, judge: Calibration | None, level: float
) -> tuple[tuple[CountedDifference, ...], list[str]]:
    """Return the difference of each group that both sides have, and notes on the others."""
    others = dict(_groups(tables["against"], choices.by))
    differences, notes = [], []
    for group, part in _groups(tables["files"], choices.by):
        if group in others:
            difference = _difference(part, others[group], choices, judge, level)
            differences.append(dataclasses.replace(difference, group=group))
        else:
            notes.append(f"{', '.join(group)} is not among the answers of --against: there is no difference.")
    return tuple(differences), notes


def _groups(table: pl.DataFrame, by: Sequence[str]) -> list[tuple[tuple[str, ...], pl.DataFrame]]:
    if not by:
        return [((), table)]
    groups = table.partition_by(list(map(column_of, by)), as_dict=True)
    return sorted((tuple(str(value) for value in key), part) for key, part in groups.items())


def _counts(table: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Return hits `k` and the denominator `n` of each unit that has one."""
    hit = (pl.col("role") == HIT).sum().cast(pl.Int64)
    judged = pl.col("role").is_in([HIT, REST]).sum().cast(pl.Int64)
    return table.group_by(by, maintain_order=True).agg(hit.alias("k"), judged.alias("n")).filter(pl.col("n") > 0)


def _pairs(counts: pl.DataFrame) -> list[Counts]:
    return list(counts.select("k", "n").iter_rows())


def _rate(
    table: pl.DataFrame,
    side: str,
    group: tuple[str, ...],
    rule: Rule,
    choices: Choices,
    judge: Calibration | None,
    level: float,
) -> CountedRate:
    k, n = int((table["role"] == HIT).sum()), int(table["role"].is_in([HIT, REST]).sum())
    has_items = table["item"].null_count() == 0
    runs, questions = _counts(table, ["run"]), _counts(table, _QUESTION) if has_items else None
    unit, clusters, interval = "answer", [], wilson(k, n, level=level) if n else None
    if choices.over_runs and len(runs) > 1:
        unit, clusters = "run", _pairs(runs)
        interval = over_runs(clusters, level=level)
    elif (
        choices.unit != "answer"
        and questions is not None
        and len(questions) > 1
        and (choices.unit == "question" or len(questions) < n)
    ):
        unit, clusters = "question", _pairs(questions)
        interval = over_questions(clusters, level=level)
    estimate, corrected_interval = (
        corrected(k, n, judge, clusters=clusters, over="questions" if unit == "question" else "runs", level=level)
        if judge and n
        else (None, None)
    )
    models = table["model"].unique(maintain_order=True).to_list()
    # A side without groups is called by its models, of many the first two.
    name = ", ".join(group) or ", ".join(filter(None, models[:2])) + (
        f" and {len(models) - 2} more" if len(models) > 2 else ""
    )
    return CountedRate(
        name=name or ("files" if side == "files" else "against"),
        side=side,
        group=group,
        numerator=k,
        denominator=n,
        interval=interval,
        unit=unit,
        questions=table.select(_QUESTION).n_unique() if has_items else None,
        runs=table["run"].n_unique(),
        judges=tuple(sorted(filter(None, table["judge"].unique()))),
        outcomes=_outcomes(table, rule),
        failed=int((table["role"] == FAILED).sum()),
        corrected=estimate,
        corrected_interval=corrected_interval,
    )


def _outcomes(table: pl.DataFrame, rule: Rule) -> dict[str, int]:
    """Count every value; of numbers that are compared, those on either side."""
    word = pl.col("value")
    if rule.compares:
        sides = (
            pl.when(pl.col("role") == HIT)
            .then(pl.lit(rule.hit[0]))
            .when(pl.col("role") == REST)
            .then(pl.lit(f"not {rule.hit[0]}"))
        )
        word = sides.otherwise("value")
    counted = table.select(pl.coalesce(word, "failure").alias("word"))["word"].value_counts()
    return {
        str(word): int(number) for word, number in counted.sort(["count", "word"], descending=[True, False]).iter_rows()
    }


def _difference(
    first: pl.DataFrame, second: pl.DataFrame, choices: Choices, judge: Calibration | None, level: float
) -> CountedDifference:
    for side in (first, second):
        if side["item"].null_count():
            raise ConfigurationError(
                "A difference is paired by question, and a table names none. Say which column does with --question "
                "COLUMN."
            )
    # Questions are matched with their texts, so that nobody is compared on what the other was not asked; however many
    # answers to a text there are, all of them count.
    sides = [_counts(side, _TEXT) for side in (first, second)]
    common = sides[0].join(sides[1], on=_TEXT, how="inner", nulls_equal=True, suffix="_other")
    if common.is_empty():
        raise _nothing_common(first, second)
    shared = [side.join(common.select(_TEXT), on=_TEXT, how="semi", nulls_equal=True) for side in (first, second)]
    answers = int(common["n"].sum()), int(common["n_other"].sum())
    of_common = [int(side.join(common, on=_QUESTION, how="semi", nulls_equal=True)["n"].sum()) for side in sides]
    common = common.group_by(_QUESTION, maintain_order=True).agg(pl.col("k", "n", "k_other", "n_other").sum())
    runs = [_pairs(_counts(side, ["run"])) for side in shared]
    if choices.over_runs and max(map(len, runs)) > 1:
        difference = difference_of_seeds(*runs, level=level)
    else:
        columns = [common["k"], common["n"], common["k_other"], common["n_other"]]
        both_sides = [
            {str(row): pair for row, pair in enumerate(zip(k, n, strict=True))} for k, n in (columns[:2], columns[2:])
        ]
        difference = difference_of_models(both_sides[0], both_sides[1], level=level)
    left_out = (first.select(_QUESTION).n_unique() - len(common), second.select(_QUESTION).n_unique() - len(common))
    others = of_common[0] - answers[0], of_common[1] - answers[1]
    counted = CountedDifference((), difference, len(common), left_out, answers, others)
    if judge is None:
        return counted
    sensitivity = (judge.true_positive, judge.true_positive + judge.false_negative)
    specificity = (judge.true_negative, judge.true_negative + judge.false_positive)
    estimate, interval = corrected_difference(difference.estimate, difference.interval, sensitivity, specificity)
    return dataclasses.replace(counted, corrected=estimate, corrected_interval=interval)


def _nothing_common(first: pl.DataFrame, second: pl.DataFrame) -> EmptyDataError:
    """Return the error of two sides without a common text that both have judged answers to."""
    items = [
        side.filter(pl.col("role").is_in([HIT, REST]))["item"].unique(maintain_order=True) for side in (first, second)
    ]
    same = set(items[0]) & set(items[1])
    examples = [", ".join(map(repr, item.head(2))) for item in items]
    explanation = (
        f"{len(same):,} ids are the same, and their tasks or texts differ"
        if same
        else f"ids are such as {examples[0]} and {examples[1]}"
    )
    return EmptyDataError(
        f"The two sides have no question to which both gave a judged answer, so there is nothing to compare: {explanation}."
    )
