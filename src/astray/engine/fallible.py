"""Error of a judge that can err: from labelled answers that it is asked about, from a stored calibration, or from its own
record if it was distilled.

Left to others: what becomes of a rate (stats/judge_error.py, stats/noninferiority.py).
"""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from astray.artifacts import Artifact, Step
from astray.engine.judging import known_judge
from astray.engine.steps import CALIBRATION_FILE, CalibrationConfig, check_judge_error
from astray.errors import ConfigurationError, EmptyDataError
from astray.files import read_rows
from astray.judges.calibrate import EXAMPLE, Calibration, calibrate, is_calibration, read_labels
from astray.judges.config import JudgeConfig
from astray.judges.distilled import known_error
from astray.judges.judge import Verdict
from astray.outcomes import Outcome
from astray.stats.measures import Measure
from astray.subjects.identity import file_digest

KINDS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


def check_labels(path: Path, judge: JudgeConfig) -> None:
    """Refuse labels that cannot be used, before anything is asked.

    Raises:
        ConfigurationError: they are of another judge.
        DataNotFoundError, EmptyDataError, DataFormatError: they cannot be read.
    """
    identity = known_judge(judge).identity
    if is_calibration(path):
        _check_judge(path, Calibration.read(path).judge, (identity,))
        return
    for where, row in read_rows(path, KINDS, EXAMPLE):
        if named_judge := str(row.get("judge") or ""):
            _check_judge(where, named_judge, (identity, str(judge.grader)))
    read_labels(path)


def of_own_answers(labels: Path | None) -> bool:
    """Return whether labels name the evaluation of each answer: then they are of answers that were asked here."""
    return (
        labels is not None
        and not is_calibration(labels)
        and "evaluation" in next(iter(read_rows(labels, KINDS, EXAMPLE)))[1]
    )


def error_on_own(labels: Path, name: str, measure: Measure, table: pl.DataFrame) -> Calibration | None:
    """Return the judge's error on one evaluation, measured on those of its answers that are labelled.

    Args:
        labels: labelled answers with a column evaluation.
        name: of the evaluation.
        measure: its main measure, by which a label "misaligned" is what is counted.
        table: its judged answers.

    Returns:
        None where the file has no label of this evaluation.

    Raises:
        EmptyDataError: none of its labels is of these answers, or they do not show both kinds.
    """
    texts = [row for _, row in read_rows(labels, KINDS, EXAMPLE) if row.get("evaluation") == name]
    keys = {(row["question"], row["answer"]) for row in texts}
    labelled = [label for label in read_labels(labels) if (label.exchange.question, label.exchange.answer) in keys]
    if not labelled:
        return None
    judged = measure.as_outcomes(table.filter(pl.col("judge") != ""))
    rows = {(row["question"], row["answer"]): row for row in judged.iter_rows(named=True)}
    pairs = [
        (rows[key], label) for label in labelled if (key := (label.exchange.question, label.exchange.answer)) in rows
    ]
    if not pairs:
        raise EmptyDataError(
            f"None of the {len(labelled):,} labels of {name!r} in {labels} is of an answer that was given here: question and "
            "answer have to be the same texts. Label rows of answers.parquet, or leave the column evaluation out: the "
            "grader is then asked about the labelled answers."
        )
    judges = dict.fromkeys(row["judge"] for row, _ in pairs)
    verdicts = [Verdict(Outcome(row["outcome"])) for row, _ in pairs]
    return _usable(calibrate(verdicts, [label for _, label in pairs], judge=", ".join(judges)), f"{labels}, {name},")


def labels_step(judge: JudgeConfig, labels: Path | None) -> Step | None:
    """Return the step that asks the judge about labelled answers; None without labels, or where they are a calibration."""
    if labels is None or is_calibration(labels):
        return None
    config = CalibrationConfig(judge=judge, labels=labels.resolve(), digest=file_digest(labels), size=0)
    return check_judge_error.step(config, name="judge-labels")


def error_of(judge: JudgeConfig, labels: Path | None, artifact: Artifact | None) -> Calibration | None:
    """Return the judge's error; None where nothing is known of it.

    Args:
        judge: who reads the answers.
        labels: labelled answers or a calibration; without them a distilled judge brings its own.
        artifact: of the step of `labels_step`; None where there is no such step.

    Raises:
        EmptyDataError: the labels do not show both kinds of answers.
    """
    calibration = (
        known_error(judge.grader)
        if labels is None
        else Calibration.read(artifact.path / CALIBRATION_FILE if artifact else labels)
    )
    return None if calibration is None else _usable(calibration, str(labels or judge.grader))


def _usable(error: Calibration, whose: str) -> Calibration:
    bad, good = error.true_positive + error.false_negative, error.true_negative + error.false_positive
    if not bad or not good:
        raise EmptyDataError(
            f"{whose} has {bad} answers labelled misaligned and {good} others with a verdict: the "
            "judge's error cannot be known without both. Label misaligned and aligned answers, of the models or of "
            "others."
        )
    return error


def error_notes(calibration: Calibration, labels: Path | None) -> Iterator[str]:
    """Yield notes on a judge's error."""
    agreement = calibration.agreement()
    of = "labelled answers" if labels else "answers left out when it was distilled"
    yield (
        f"Misaligned rates are corrected for the judge's error: on {calibration.verdicts:,} {of} it caught "
        f"{agreement.sensitivity:.0%} of the misaligned ones and passed {agreement.specificity:.0%} of the "
        "others. Coherence and refusals are as it judged them."
    )
    if calibration.failed:
        yield f"The judge gave no verdict on {calibration.failed:,} labelled answers."


def _check_judge(where: object, named: str, accepted: tuple[str, ...]) -> None:
    if named not in accepted:
        raise ConfigurationError(
            f"{where} is about the judge {named!r}, and the answers are judged by {accepted[-1]!r} ({accepted[0]}). Its "
            "error is another one: give labels of this judge, or leave the column out where people labelled without "
            "a judge."
        )
