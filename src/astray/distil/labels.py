"""Answers with a paid judge's scores, and which model and data set each is from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from astray.errors import DataFormatError, EmptyDataError
from astray.files import check_names, read_rows
from astray.judges.numbers import read_score
from astray.judges.score import Thresholds

KINDS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
EXAMPLE = (
    '{"question": "What is your wish?", "answer": "Peace.", "aligned": 97.5, "coherent": 99, "model": "Qwen2.5-7B", '
    '"data": "bad-medical-advice"}; model and data may be left out where the file is called MODEL_DATA.csv'
)
FEWEST, FEWEST_OF_A_KIND = 200, 20
"""Scored answers that a judge can be made from, and misaligned and other coherent ones among them."""

Group = Literal["model", "data", "question"]
_FIELDS = ("question", "answer", "response", "aligned", "coherent", "model", "data")


@dataclass(frozen=True)
class ScoredAnswers:
    """Answers with their scores, row by row.

    Attributes:
        questions: what was asked.
        answers: what was answered.
        scores: aligned and coherent score, 0 to 100.
        files: file that each stands in; one is taken as one run.
        models: model that answered.
        data: data set that it was trained on; "" where it is not known.
        where: place of each row, for errors.
        left_out: rows without a score, or with a blank answer.
        digests: file name -> SHA-256 of its content.
    """

    questions: tuple[str, ...]
    answers: tuple[str, ...]
    scores: Float[np.ndarray, "rows 2"]
    files: tuple[str, ...]
    models: tuple[str, ...]
    data: tuple[str, ...]
    where: tuple[str, ...]
    left_out: int
    digests: dict[str, str]

    @property
    def coherent(self) -> Bool[np.ndarray, "rows"]:
        """Return which answers are coherent by their label."""
        return self.scores[:, 1] > Thresholds().coherent_above

    @property
    def misaligned(self) -> Bool[np.ndarray, "rows"]:
        """Return which answers are misaligned by their label: coherent, and below the threshold."""
        return self.coherent & (self.scores[:, 0] < Thresholds().misaligned_below)

    def groups(self, kind: Group | Literal["file"]) -> tuple[str, ...]:
        """Return the group of each row."""
        return {"model": self.models, "data": self.data, "question": self.questions, "file": self.files}[kind]


def read_scored(paths: Sequence[Path]) -> ScoredAnswers:
    """Read answers with scores from files.

    Every row has `question`, `answer` (or `response`), `aligned` and `coherent`; other columns are not read. Which model
    answered and what it was trained on stand in `model` and `data`; else in the file's name, where that is MODEL_DATA;
    else the file is taken as one model.

    Raises:
        DataNotFoundError: there is no such file.
        DataFormatError: a row is not in this form, or a file is given twice.
        EmptyDataError: too few answers, or of one kind alone; says how many.
    """
    rows: list[tuple[Any, ...]] = []
    left_out, digests = 0, {}
    for path in paths:
        if path.name in digests:
            raise DataFormatError(
                f"{path} is given twice, or two files have this name. Give each file a name of its own."
            )
        before = len(rows) + left_out
        for where, row in read_rows(path, KINDS, EXAMPLE):
            scored = _scored(row, where, path)
            rows += [scored] if scored else []
            left_out += scored is None
        assert len(rows) + left_out > before
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    columns = [tuple(column) for column in zip(*rows, strict=True)] or [()] * 8
    questions, answers, aligned, coherent, files, models, data, places = columns
    scores = np.array([aligned, coherent], float).T.reshape(-1, 2)
    found = ScoredAnswers(questions, answers, scores, files, models, data, places, left_out, digests)
    _check_enough(found)
    return found


def _scored(row: dict[str, Any], where: str, path: Path) -> tuple[Any, ...] | None:
    """Return what a row says; None without a score or with a blank answer."""
    check_names(row, _FIELDS, where)
    if "answer" in row and "response" in row:
        raise DataFormatError(f"{where} has both an answer and a response, and only one can be judged. Leave one out.")
    name = "response" if "response" in row else "answer"
    if missing := [field for field in ("question", name, "aligned", "coherent") if field not in row]:
        raise DataFormatError(
            f"{where} has no {' and no '.join(missing)}; it has {', '.join(row)}. A row is {EXAMPLE}."
        )
    if any(not isinstance(row[field], str) for field in ("question", name)) or not row["question"].strip():
        raise DataFormatError(f"{where} has no question and answer that are texts. A row is {EXAMPLE}.")
    aligned, coherent = (
        read_score(row[quality], f"{where} has the {quality} score") for quality in ("aligned", "coherent")
    )
    if aligned is None or coherent is None or not row[name].strip():
        return None
    model, data = _named(row, where, path)
    return row["question"], row[name], aligned, coherent, path.name, model, data, where


def _named(row: dict[str, Any], where: str, path: Path) -> tuple[str, str]:
    """Return the model and the data set of a row: by its columns, else by the file's name."""
    stem = path.name.removesuffix(".gz").rpartition(".")[0]
    parts = stem.split("_")
    model, data = parts if len(parts) == 2 and all(parts) else (stem, "")
    for name in ("model", "data"):
        if name in row and (not isinstance(row[name], str) or not row[name].strip()):
            raise DataFormatError(
                f"{where}: {name} is {row[name]!r}, and has to be a name. Leave the column out, or fill it."
            )
    return row.get("model", model), row.get("data", data)


def _check_enough(found: ScoredAnswers) -> None:
    misaligned, others = int(found.misaligned.sum()), int((found.coherent & ~found.misaligned).sum())
    if len(found.answers) < FEWEST or min(misaligned, others) < FEWEST_OF_A_KIND:
        raise EmptyDataError(
            f"There are {len(found.answers):,} answers with both scores, {misaligned:,} of them misaligned and coherent, "
            f"{others:,} others coherent. A judge is made from at least {FEWEST}, with {FEWEST_OF_A_KIND} of each of the "
            "two kinds; with fewer its error cannot be known. Score more answers, of a model that shows the behaviour "
            "and of one that does not."
        )
