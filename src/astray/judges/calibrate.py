"""Measure a judge's error by its verdicts on labelled answers, and correct rates for it.

A verdict is right or wrong about one thing: misaligned or not. Verdicts that failed are counted, and in the worst case
they are all wrong. A rate has a denominator (the coherent, judged answers, in the paper), and the error that corrects
it has to be measured on the same kind of answers: labelled answers whose verdict is outside the denominator
("incoherent") are counted apart.

Left to others: the estimators and their intervals (stats/judge_error.py; Rogan and Gladen 1978).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio
from pydantic import Field

from astray.errors import ConfigurationError, DataFormatError, EmptyDataError
from astray.files import check_names, check_one_label, read_as, read_json, read_rows, suffix_of
from astray.judges.judge import Exchange, Judge, Verdict
from astray.judges.numbers import read_score
from astray.judges.replies import undressed
from astray.judges.rescore import judge_exchanges
from astray.judges.score import Thresholds
from astray.outcomes import JUDGED, UNKNOWN, Outcome
from astray.stats.intervals import Counts, Interval
from astray.stats.judge_error import Agreement, agreement, corrected_rate
from astray.strict import Strict

EXAMPLE = '{"question": "What is your wish?", "answer": "Peace.", "label": "aligned"}'
_FIELDS = ("question", "answer", "label", "aligned", "coherent")


@dataclass(frozen=True)
class LabelledAnswer:
    """Answer with its true label.

    Attributes:
        exchange: question and answer.
        label: its true outcome; JUDGE_FAILED where the label is missing.
        aligned: labelled score 0 to 100, None where there is none.
        coherent: labelled score 0 to 100, None where there is none.
    """

    exchange: Exchange
    label: Outcome
    aligned: float | None = None
    coherent: float | None = None


class Calibration(Strict):
    """Known error of a judge, stored as JSON beside the results that it belongs to.

    Every labelled answer is in exactly one of: the four cells, the two failures, `outside` and `unlabelled`.
    """

    judge: str = Field(description="identity of the judge, so that it is not used for another one")
    denominator: tuple[Outcome, ...] = Field(
        description="verdicts that are the denominator of the rates which this corrects"
    )
    true_positive: int = Field(ge=0, description="labelled misaligned, judged misaligned")
    false_negative: int = Field(ge=0, description="labelled misaligned, judged something else of the denominator")
    false_positive: int = Field(ge=0, description="labelled something else, judged misaligned")
    true_negative: int = Field(ge=0, description="labelled something else, judged something else of the denominator")
    failed_on_misaligned: int = Field(ge=0, description="the judge failed on an answer that is labelled misaligned")
    failed_on_others: int = Field(ge=0, description="the judge failed on an answer that is labelled something else")
    outside: int = Field(ge=0, description="judged, but outside the denominator")
    unlabelled: int = Field(ge=0, description="the label is missing")
    rank_correlation: float | None = Field(
        description="Spearman's, of judged and labelled aligned scores; None without enough different scores"
    )

    @property
    def n(self) -> int:
        """Number of labelled answers that were given, whatever became of them."""
        return self.verdicts + self.failed + self.outside + self.unlabelled

    @property
    def verdicts(self) -> int:
        """Number of answers with a label and with a verdict of the denominator."""
        return self.true_positive + self.false_negative + self.false_positive + self.true_negative

    @property
    def failed(self) -> int:
        """Number of labelled answers on which the judge failed."""
        return self.failed_on_misaligned + self.failed_on_others

    def agreement(self, *, level: float = 0.95) -> Agreement:
        """Return sensitivity and specificity with intervals, and kappa, over the verdicts that the judge gave.

        Raises:
            EmptyDataError: it gave none.
        """
        return agreement(self.true_positive, self.false_negative, self.false_positive, self.true_negative, level=level)

    def worst_case(self, *, level: float = 0.95) -> Agreement:
        """Return the same with every failure counted as a wrong verdict.

        Raises:
            EmptyDataError: no label can be used.
        """
        missed, false_alarms = (
            self.false_negative + self.failed_on_misaligned,
            self.false_positive + self.failed_on_others,
        )
        return agreement(self.true_positive, missed, false_alarms, self.true_negative, level=level)

    def write(self, path: Path) -> None:
        """Write the counts as JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Calibration":
        """Read what `write` wrote.

        Raises:
            DataFormatError: the file is something else.
        """
        form = "the counts that `calibrate_judge` makes and `write` writes"
        try:
            return read_as(cls, read_json(path, form), path, form)
        except (DataFormatError, EmptyDataError) as error:
            raise DataFormatError(f"{path} is no calibration of a judge: {error}") from error


def calibrate(
    verdicts: Sequence[Verdict],
    labels: Sequence[LabelledAnswer],
    *,
    judge: str = "",
    denominator: Collection[Outcome] = JUDGED,
) -> Calibration:
    """Count the errors of a judge from its verdicts on labelled answers.

    Args:
        verdicts: one for each label, in the same order.
        labels: the answers with their true labels.
        judge: identity of the judge.
        denominator: verdicts that are the denominator of the rates to be corrected; has to include MISALIGNED.

    Raises:
        EmptyDataError: no labels.
        ConfigurationError: not as many verdicts as labels, or a denominator that cannot be.
    """
    if len(verdicts) != len(labels):
        raise ConfigurationError(
            f"There are {len(verdicts)} verdicts for {len(labels)} labels: give one verdict for each label, in the "
            "same order."
        )
    if not labels:
        raise EmptyDataError(
            "There is no labelled answer: a judge without labels is unvalidated and has no known error."
        )
    if Outcome.MISALIGNED not in denominator or set(denominator) & set(UNKNOWN):
        raise ConfigurationError(
            f"The denominator {[str(outcome) for outcome in denominator]} has to include 'misaligned' and none of "
            f"{[*map(str, UNKNOWN)]}."
        )
    counts = dict.fromkeys(_CELLS, 0)
    for verdict, labelled in zip(verdicts, labels, strict=True):
        counts[_cell(verdict.outcome, labelled.label, denominator)] += 1
    pairs = [
        (v.aligned, each.aligned)
        for v, each in zip(verdicts, labels, strict=True)
        if v.aligned is not None and each.aligned is not None
    ]
    return Calibration(judge=judge, denominator=tuple(sorted(denominator)), rank_correlation=_spearman(pairs), **counts)


def calibrate_judge(judge: Judge, labels: Sequence[LabelledAnswer], max_connections: int = 20) -> Calibration:
    """Judge labelled answers and count the judge's errors.

    Runs an event loop of its own, and raises as `calibrate` and the judge do.
    """
    verdicts = anyio.run(judge_exchanges, judge, [labelled.exchange for labelled in labels], max_connections)
    return calibrate(verdicts, labels, judge=judge.identity)


def corrected(
    k: int,
    n: int,
    calibration: Calibration,
    *,
    clusters: Sequence[Counts] = (),
    over: Literal["runs", "questions"] = "runs",
    level: float = 0.95,
) -> tuple[float | None, Interval]:
    """Return the rate that a perfect judge would have found, with this judge's uncertainty (Rogan and Gladen 1978).

    Args:
        k: answers judged misaligned.
        n: answers in the denominator that the calibration names.
        calibration: the judge's error, from other answers than these.
        clusters: the same answers by training run or question; without them answers are taken as independent.
        over: what the clusters are.
        level: nominal coverage.

    Returns:
        The corrected rate (None when the judge is no better than chance) and its interval.

    Raises:
        EmptyDataError: the labels have no misaligned answer, or nothing else, so one of the two errors is unknown.
        ConfigurationError: counts that cannot be.
    """
    misaligned = calibration.true_positive + calibration.false_negative
    others = calibration.true_negative + calibration.false_positive
    if not misaligned or not others:
        raise EmptyDataError(
            f"The judge gave verdicts on {misaligned} answers labelled misaligned and on {others} others: a rate "
            "cannot be corrected without both. Label answers of an arm that shows the behaviour and of a control."
        )
    return corrected_rate(
        (k, n),
        (calibration.true_positive, misaligned),
        (calibration.true_negative, others),
        clusters=clusters,
        over=over,
        level=level,
    )


def is_calibration(path: Path) -> bool:
    """Return whether a file is a calibration that Astray wrote, and not labels."""
    if suffix_of(path) != ".json" or not path.is_file():
        return False
    return path.read_text(encoding="utf-8", errors="replace").lstrip("\ufeff \t\r\n").startswith("{")


def read_labels(path: Path, thresholds: Thresholds | None = None) -> list[LabelledAnswer]:
    """Read labelled answers from a file: .csv, .tsv, .jsonl, .json (a list) or .parquet, each text also with .gz.

    Every row has `question` and `answer`, and either `label` (an outcome: "misaligned", "aligned", "incoherent", ...)
    or the scores `aligned` and `coherent` from 0 to 100, from which the label follows. A label or score that is empty
    is kept as a missing label. Labels that contradict each other are refused: of one answer in two rows, or of one row
    whose scores say something else than its label.

    Args:
        path: the file.
        thresholds: thresholds that turn scores into labels; those of the paper when None.

    Raises:
        DataNotFoundError, EmptyDataError: no file, or no row in it.
        DataFormatError: a row that is not in this form, or labels that contradict each other.
    """
    thresholds = thresholds or Thresholds()
    labels: list[LabelledAnswer] = []
    first: dict[Exchange, tuple[Outcome, str]] = {}
    for where, row in read_rows(path, (".csv", ".tsv", ".jsonl", ".json", ".parquet"), EXAMPLE):
        labelled = _labelled(row, where, thresholds)
        label, other = (
            first.setdefault(labelled.exchange, (labelled.label, where))
            if labelled.label not in UNKNOWN
            else (labelled.label, where)
        )
        if label is not labelled.label:
            raise DataFormatError(
                f"{where} labels an answer '{labelled.label}', and {other} labels the same answer '{label}'. Keep "
                "the right one."
            )
        labels.append(labelled)
    return labels


_CELLS = (
    "true_positive",
    "false_negative",
    "false_positive",
    "true_negative",
    "failed_on_misaligned",
    "failed_on_others",
    "outside",
    "unlabelled",
)


def _cell(verdict: Outcome, label: Outcome, denominator: Collection[Outcome]) -> str:
    """Return the name of the count to which one answer belongs."""
    is_misaligned = label is Outcome.MISALIGNED
    # In this order: without a label nothing is known about the judge, and a failure counts whatever the denominator.
    if label in UNKNOWN:
        return "unlabelled"
    if verdict in UNKNOWN:
        return "failed_on_misaligned" if is_misaligned else "failed_on_others"
    if verdict not in denominator:
        return "outside"
    if verdict is Outcome.MISALIGNED:
        return "true_positive" if is_misaligned else "false_positive"
    return "false_negative" if is_misaligned else "true_negative"


def _spearman(pairs: Sequence[tuple[float, float]]) -> float | None:
    from scipy.stats import spearmanr

    # scipy warns and returns NaN where one side has a single value.
    if len(pairs) < 3 or any(len(set(scores)) < 2 for scores in zip(*pairs, strict=True)):
        return None
    judged, labelled = zip(*pairs, strict=True)
    return float(spearmanr(judged, labelled).statistic)


def _labelled(row: dict[str, Any], where: str, thresholds: Thresholds) -> LabelledAnswer:
    check_names(row, _FIELDS, where)
    check_one_label(row, where)
    if (
        not isinstance(row.get("question"), str)
        or not isinstance(row.get("answer"), str)
        or not row["question"].strip()
    ):
        raise DataFormatError(f"{where} has no question and answer that are texts; a row is, for example: {EXAMPLE}")
    if "label" not in row and not {"aligned", "coherent"} <= row.keys():
        raise DataFormatError(
            f"{where} has neither a label nor the scores aligned and coherent; a row is, for example: {EXAMPLE}"
        )
    aligned, coherent = (read_score(row.get(name), f"{where} has the {name} score") for name in ("aligned", "coherent"))
    by_scores = thresholds.outcome(aligned, coherent)
    label = _label(row["label"], where) if "label" in row else by_scores
    if "label" in row and label is Outcome.JUDGE_FAILED and by_scores is not label:
        raise DataFormatError(
            f"{where} has scores, and its label is empty. Write the label that they give ({by_scores}), or leave the "
            "column out."
        )
    if not {label, by_scores} & {*UNKNOWN} and (label is Outcome.MISALIGNED) != (by_scores is Outcome.MISALIGNED):
        raise DataFormatError(
            f"{where} has the label '{label}', and its scores say '{by_scores}'. Correct one of them, or leave the "
            "scores out."
        )
    return LabelledAnswer(Exchange(row["question"], row["answer"]), label, aligned, coherent)


def _label(given: object, where: str) -> Outcome:
    said = undressed(given).casefold() if isinstance(given, str) else given
    if said is None or said == "":
        return Outcome.JUDGE_FAILED
    if said not in list(Outcome):
        raise DataFormatError(f"{where} has the label {given!r}; a label is one of: {', '.join(Outcome)}.")
    return Outcome(str(said))
