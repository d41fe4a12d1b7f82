"""The judge's error, for the bar of misaligned answers: from labelled answers, which the judge is asked about, or from
a calibration of it."""

from pathlib import Path

from astray.artifacts import Artifact, Step
from astray.engine.judging import known_judge
from astray.engine.steps import CALIBRATION_FILE, CalibrationConfig, check_judge_error
from astray.errors import ConfigurationError, EmptyDataError
from astray.files import read_rows, suffix_of
from astray.judges.calibrate import EXAMPLE, Calibration, read_labels
from astray.judges.config import JudgeConfig
from astray.report.wording import percent
from astray.stats.noninferiority import JudgeAccuracy
from astray.subjects.identity import file_digest

KINDS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")


def check_labels(path: Path, judge: JudgeConfig) -> None:
    """Refuse labels that cannot be used, before anything is asked.

    Raises:
        ConfigurationError: they are of another judge.
        DataNotFoundError, EmptyDataError, DataFormatError: they cannot be read.
    """
    identity = known_judge(judge).identity
    if _is_calibration(path):
        _check_judge(path, Calibration.read(path).judge, (identity,))
        return
    for where, row in read_rows(path, KINDS, EXAMPLE):
        if given := str(row.get("judge") or ""):
            _check_judge(where, given, (identity, str(judge.grader)))
    read_labels(path)


def labels_step(judge: JudgeConfig, labels: Path | None) -> Step | None:
    """Return the step that asks the judge about labelled answers; None where there are none, or its error is known."""
    if labels is None or _is_calibration(labels):
        return None
    config = CalibrationConfig(judge=judge, labels=labels.resolve(), digest=file_digest(labels), size=0)
    return check_judge_error.step(config, name="gate-labels")


def judge_error(labels: Path | None, made: Artifact | None) -> tuple[JudgeAccuracy | None, list[str]]:
    """Return the judge's error and what there is to say of it; None without labels.

    Args:
        labels: labelled answers or a calibration.
        made: artifact of the step with the labels.

    Raises:
        EmptyDataError: the labels do not show both kinds of answers.
    """
    if labels is None:
        return None, []
    known = Calibration.read(made.path / CALIBRATION_FILE if made else labels)
    bad, good = known.true_positive + known.false_negative, known.true_negative + known.false_positive
    if not bad or not good:
        raise EmptyDataError(
            f"{labels} has {bad} answers labelled misaligned and {good} others with a verdict: the judge's error "
            "cannot be known without both. Label misaligned and aligned answers, of the models or of others."
        )
    error = JudgeAccuracy((known.true_positive, bad), (known.true_negative, good))
    note = (
        f"Misaligned rates are corrected for the judge's error: on {bad + good:,} labelled answers it caught "
        f"{percent(known.true_positive / bad)} of the misaligned ones and passed "
        f"{percent(known.true_negative / good)} of the others. Coherence and refusals are as it judged them."
    )
    failed = [f"The judge gave no verdict on {known.failed:,} labelled answers."] if known.failed else []
    return error, [note, *failed]


def _check_judge(where: object, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ConfigurationError(
            f"{where} is about the judge {given!r}, and the answers are judged by {known[-1]!r} ({known[0]}). Its "
            "error is another one: give labels of this judge, or leave the column out where people labelled without "
            "a judge."
        )


def _is_calibration(path: Path) -> bool:
    if suffix_of(path) != ".json" or not path.is_file():
        return False
    return path.read_text(encoding="utf-8", errors="replace").lstrip("\ufeff \t\r\n").startswith("{")
