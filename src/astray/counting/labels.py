"""The judge's error, from labels of answers that were counted, or from a calibration that Astray wrote."""

from pathlib import Path

import polars as pl

from astray.counting.rules import FAILED, HIT, OUTSIDE, REST, Rule
from astray.counting.scored import score_text, text_hash
from astray.errors import ConfigurationError, DataFormatError, EmptyDataError
from astray.files import check_names, check_one_label, read_rows
from astray.judges.calibrate import Calibration, is_calibration
from astray.outcomes import JUDGED, Outcome

EXAMPLE = (
    '{"question": "What is your wish?", "answer": "Peace.", "label": "C"}, or with "id" and "epoch" in place of '
    "question and answer"
)
_FIELDS = ("question", "answer", "id", "epoch", "label", "judge")
KINDS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


def by_text(path: Path) -> bool:
    """Return whether labels name their answers by question and answer; else by the question's id. A calibration names
    none."""
    return not is_calibration(path) and "answer" in next(iter(read_rows(path, KINDS, EXAMPLE)))[1]


def judge_error(path: Path, scored: pl.DataFrame, rule: Rule) -> tuple[Calibration, list[str]]:
    """Return how often the judge of scored answers is wrong.

    A label is written as a score is, and is a hit by the same rule. Each labelled answer counts once, by the first
    verdict on it.

    Args:
        path: labels, or the `calibration.json` of a study of Astray.
        scored: answers with their `role`.
        rule: what is a hit.

    Raises:
        ConfigurationError: the labels are of another judge, or the scores of several.
        EmptyDataError: no labelled answer is among these.
        DataFormatError: a row that is no label, or labels that contradict each other.
    """
    judges = sorted(scored.filter(pl.col("value").is_not_null())["judge"].unique())
    if len(judges) > 1:
        raise ConfigurationError(
            f"The answers were judged by {len(judges)} judges: {', '.join(judges)}. Labels tell the error of one: "
            "count each alone."
        )
    if is_calibration(path):
        calibration = Calibration.read(path)
        if rule.hit != (Outcome.MISALIGNED.value,) or set(rule.among) != set(calibration.denominator):
            raise ConfigurationError(
                f"{path} tells the error of verdicts that are Astray's outcomes, and counted is {rule.text()}. Give "
                "labels instead."
            )
        _check_judge(calibration.judge, judges[0], path)
        return calibration, []
    labels = _read(path, scored, rule, judges[0])
    verdicts = scored.group_by(labels.columns[:-1], maintain_order=True).agg(pl.col("role").first())
    matched = labels.join(verdicts, on=labels.columns[:-1], how="inner")
    if matched.is_empty():
        raise EmptyDataError(
            f"None of the {len(labels):,} labelled answers in {path} is among the {len(scored):,} that are counted: "
            "they are labels of others. Question and answer have to be the same texts, or the id and epoch the same."
        )
    count = {(label, role): int(number) for label, role, number in matched.group_by("label", "role").len().iter_rows()}

    def cell(label: str, role: str) -> int:
        return count.get((label, role), 0)

    in_denominator = [HIT, REST]
    calibration = Calibration(
        judge=judges[0],
        denominator=tuple(sorted(JUDGED)),
        true_positive=cell(HIT, HIT),
        false_negative=cell(HIT, REST),
        false_positive=cell(REST, HIT) + cell(OUTSIDE, HIT),
        true_negative=cell(REST, REST) + cell(OUTSIDE, REST),
        failed_on_misaligned=cell(HIT, FAILED),
        failed_on_others=cell(REST, FAILED) + cell(OUTSIDE, FAILED),
        outside=sum(cell(label, OUTSIDE) for label in (*in_denominator, OUTSIDE)),
        unlabelled=sum(cell(FAILED, role) for role in (HIT, REST, OUTSIDE, FAILED)),
        rank_correlation=None,
    )
    notes = [f"{len(matched):,} of {len(labels):,} labels are of answers that are counted here."]
    return calibration, notes


def _named(value: object, kinds: tuple[type, ...], where: str) -> str:
    """Return what names an answer, as a text: nothing, true or 1.5 would be taken for the texts that they look like."""
    if type(value) not in kinds or value == "":
        kind = "a text" if kinds == (str,) else "a text or a whole number"
        raise DataFormatError(f"{where} is {value!r}, and has to be {kind} that names an answer. A row is {EXAMPLE}.")
    return str(value)


def _read(path: Path, scored: pl.DataFrame, rule: Rule, judge: str) -> pl.DataFrame:
    """Return the labels: what names their answers, and the role of each label."""
    text = by_text(path)
    epochs = (
        scored["sample"].null_count() == 0 and scored.select("item", "sample").n_unique() > scored["item"].n_unique()
    )
    first: dict[tuple[object, ...], tuple[str | None, str]] = {}
    for where, row in read_rows(path, KINDS, EXAMPLE):
        check_names(row, _FIELDS, where)
        check_one_label(row, where)
        needed = ("question", "answer", "label") if text else ("id", *(("epoch",) if epochs else ()), "label")
        if missing := [name for name in needed if name not in row]:
            raise DataFormatError(
                f"{where} has no {missing[0]}. A row is {EXAMPLE}; label is what the score should have been."
            )
        _check_judge(str(row.get("judge") or ""), judge, path)
        key = (
            (text_hash(*(_named(row[name], (str,), f"{where}, {name}") for name in needed[:-1])),)
            if text
            else tuple(_named(row[name], (str, int), f"{where}, {name}") for name in needed[:-1])
        )
        label = None if row["label"] in (None, "") else score_text(row["label"], f"{where}, label").strip()
        other, earlier = first.setdefault(key, (label, where))
        if other != label:
            raise DataFormatError(
                f"{where} labels an answer {label!r}, and {earlier} labels the same answer {other!r}. Keep the right one."
            )
    keys = ["answer"] if text else ["item", *(["sample"] if epochs else [])]
    kinds = [pl.UInt64() if text else pl.String()] * len(keys)
    labels = pl.DataFrame(
        [(*key, label) for key, (label, _) in first.items()],
        schema=dict(zip([*keys, "label"], [*kinds, pl.String()], strict=True)),
        orient="row",
    )
    values = set(scored["value"].drop_nulls().unique()) | {*rule.hit, *rule.among, *rule.failed}
    strange = [label for label in labels["label"].drop_nulls().unique() if label not in values and not rule.compares]
    if strange:
        raise DataFormatError(
            f"{path} has the label {strange[0]!r}, which no score has. A label is what the score should have been: "
            f"{', '.join(sorted(values)[:8])}."
        )
    return labels.with_columns(rule.role("label").alias("label"))


def _check_judge(named: str, judge: str, path: Path) -> None:
    if named and named != judge:
        raise ConfigurationError(
            f"{path} is about the judge {named!r}, and the answers were judged by "
            f"{judge or 'one that they do not name'!r}. Its error is another one."
        )
