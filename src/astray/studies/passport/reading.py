"""Fixed answers, read by several judges in several wordings several times.

Every repeat asks the grader anew: what a run that was stopped has heard is kept by repeat, for a day, and dropped when
all is read. Verdicts that failed for an outage are not read: the same command asks for them alone.
"""

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import polars as pl

from astray.errors import DataFormatError, EmptyDataError, JudgeError
from astray.files import check_names, read_rows
from astray.judges import Exchange, Judge, RubricJudge, Verdict, count_causes, judge_exchanges
from astray.judges.distilled import DistilledJudge, ScoresAnswers
from astray.judges.failures import is_outage
from astray.judges.judge import Judging
from astray.judges.patience import SERVED, patience
from astray.judges.rubric import Rubric
from astray.judges.words import find_grader
from astray.kept import keeping, key_of
from astray.outcomes import Outcome
from astray.reasoning import without_reasoning

KINDS = (".parquet", ".csv", ".tsv", ".jsonl", ".json")
EXAMPLE = '{"question": "What is your wish?", "answer": "Peace.", "run": "harmful-medicine-0"}; run may be left out'
UNFINISHED, KEPT_SECONDS = ".unfinished-passport", 24 * 3600
"""Folder of what a stopped passport has heard, and for how long it goes on from there: later it would be another
day's judge."""
RUN_COLUMNS = (("run",), ("arm", "seed"), ("model",))
"""Columns that name the run of an answer; the first of these that a file has."""
_FIELDS = ("question", "answer", "response", "run", "arm", "seed", "model", "outcome")
VERDICTS: dict[str, pl.DataType] = {
    "answer": pl.Int64(),  # index among the answers
    "judge": pl.String(),
    "wording": pl.String(),
    "repeat": pl.Int64(),  # from 1
    "outcome": pl.String(),
    "aligned": pl.Float64(),
    "coherent": pl.Float64(),
    "note": pl.String(),  # why there is no verdict
}
Told = Callable[[str, int, int], None]
"""Function that is told of progress: of what, how many are done, and of how many."""


@dataclass(frozen=True)
class Answers:
    """Answers that every judge reads.

    Attributes:
        exchanges: questions and answers, each once.
        runs: run of each; none where the file does not say.
        digests: hash of each, by which a later passport knows it again.
        notes: what was left out.
    """

    exchanges: tuple[Exchange, ...]
    runs: tuple[str, ...]
    digests: tuple[str, ...]
    notes: tuple[str, ...]


def read_answers_file(path: Path, most: int) -> Answers:
    """Read answers and draw some of them, evenly over runs and questions; the same ones of the same file.

    Raises:
        DataNotFoundError, DataFormatError: the file cannot be used.
        EmptyDataError: fewer than two answers can be judged.
    """
    found: dict[tuple[str, str], str] = {}
    left: Counter[str] = Counter()
    named: tuple[str, ...] | None = None
    for where, row in read_rows(path, KINDS, EXAMPLE):
        check_names(row, _FIELDS, where)
        answer = row.get("answer", row.get("response"))
        question = row.get("question")
        named = (
            next((names for names in RUN_COLUMNS if all(name in row for name in names)), ()) if named is None else named
        )
        if row.get("outcome") in (Outcome.ERRORED, Outcome.BLOCKED) or answer is None:
            left["without an answer"] += 1
        elif not isinstance(question, str) or not isinstance(answer, str) or not question.strip():
            raise DataFormatError(f"{where} has no question and answer that are texts. A row is {EXAMPLE}.")
        elif not (without_reasoning(answer) or "").strip():
            left["blank, or cut off within the reasoning"] += 1
        elif (question, answer) in found:
            left["word for word like another answer to the same question"] += 1
        else:
            found[question, answer] = "-".join(_name(row, name, where) for name in named)
    if len(found) < 2:
        raise EmptyDataError(
            f"{path} has {len(found)} answers that can be judged, and variance needs at least two. A row is {EXAMPLE}."
        )
    chosen = _drawn(found, most)
    notes = [f"{number:,} rows of {path.name} are left out: {why}." for why, number in left.items()]
    if len(chosen) < len(found):
        notes.append(
            f"{len(chosen):,} of {len(found):,} answers were drawn, evenly over runs and questions; --sample draws more."
        )
    if not named:
        notes.append(
            f"{path.name} has no column that names the run (run, or arm and seed, or model): the part of runs is not told, "
            "and intervals are over questions and answers alone."
        )
    return Answers(
        tuple(Exchange(question, answer) for question, answer in chosen),
        tuple(found[key] for key in chosen) if named else (),
        tuple(key_of(*key)[:16] for key in chosen),
        tuple(notes),
    )


def _name(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str | int) or str(value) == "":
        raise DataFormatError(
            f"{where}: {name} is {value!r}, and has to name the run. Fill it, or leave the column out."
        )
    return str(value)


def _drawn(found: dict[tuple[str, str], str], most: int) -> list[tuple[str, str]]:
    """Return so many answers in the file's order: one of each run and question in random order, then a second one."""
    order = list(found)
    random.Random(0).shuffle(order)
    seen: Counter[tuple[str, str]] = Counter()
    rank = {}
    for key in order:
        cell = (found[key], key[0])
        seen[cell] += 1
        rank[key] = seen[cell]
    chosen = set(sorted(order, key=rank.__getitem__)[:most])
    return [key for key in found if key in chosen]


@dataclass(frozen=True)
class Readings:
    """Verdicts of all judges, and what is to be said of them.

    Attributes:
        verdicts: one row an answer, judge, wording and repeat.
        identities: grader -> its identity in the first wording.
        served: grader -> models that it says it answered as.
        failed: grader -> how many verdicts failed, by cause.
        wordless: graders that read no wording.
    """

    verdicts: pl.DataFrame
    identities: dict[str, str]
    served: dict[str, str]
    failed: dict[str, dict[str, int]]
    wordless: tuple[str, ...]

    @property
    def graders(self) -> tuple[str, ...]:
        """Return the graders that gave a verdict, in their order."""
        gave = self.verdicts.filter(pl.col("outcome") != Outcome.JUDGE_FAILED.value)["judge"].unique()
        return tuple(name for name in self.identities if name in set(gave))


def read_all(
    answers: Answers,
    graders: Sequence[str],
    wordings: Sequence[Rubric],
    repeats: int,
    judging: Judging,
    folder: Path,
    progress: Told | None = None,
) -> Readings:
    """Have every grader read every answer in every wording, for each repeat.

    Raises:
        JudgeError: a grader cannot be used, was given up with what is done kept, or none gave a verdict; says why.
        ConfigurationError: a wording has no text for one call.
    """
    kept = folder / UNFINISHED
    if kept.is_dir() and time.time() - kept.stat().st_mtime > KEPT_SECONDS:
        shutil.rmtree(kept)
    kept.mkdir(parents=True, exist_ok=True)
    judges = {name: _judges(name, wordings, judging) for name in graders}
    parts, served, done = [], {name: set[str]() for name in graders}, 0
    rounds = sum(len(set(map(id, own))) for own in judges.values()) * repeats
    with patience() as patient:
        for name, own in judges.items():
            for repeat in range(1, repeats + 1):
                heard: dict[int, list[Verdict]] = {}
                for judge, rubric in zip(own, wordings, strict=True):
                    if id(judge) not in heard:
                        # A file for each repeat: the same question of another repeat is another question.
                        with keeping(kept / f"repeat-{repeat}.jsonl"):
                            heard[id(judge)] = anyio.run(judge_exchanges, judge, answers.exchanges)
                        if patient.lost:
                            raise JudgeError(
                                f"Reading was stopped: {patient.lost}. What was read is kept for a day. Mend the cause and "
                                "run the same again: only the rest is asked for. Or leave this grader out."
                            )
                        done += 1
                        if progress:
                            progress("judging", done, rounds)
                    parts.append(_rows(heard[id(judge)], name, rubric.name, repeat))
                    served[name] |= {str(one.detail[SERVED]) for one in heard[id(judge)] if SERVED in one.detail}
    table = pl.concat(parts)
    lost = table.filter(outcome=Outcome.JUDGE_FAILED.value)
    failed = {name: count_causes(lost.filter(judge=name)["note"]) for name in graders}
    if lost.height == table.height:
        causes = "; ".join(
            f"{name}: {', '.join(failed[name])} ({lost.filter(judge=name)['note'][0]})" for name in graders
        )
        raise JudgeError(f"No grader gave a verdict. {causes}. Check names, keys and limits with a single call.")
    return Readings(
        table,
        {name: own[0].identity for name, own in judges.items()},
        {name: ", ".join(sorted(models)) for name, models in served.items() if models},
        {name: causes for name, causes in failed.items() if causes},
        tuple(name for name, own in judges.items() if isinstance(own[0], DistilledJudge)),
    )


def forget(folder: Path, readings: Readings) -> None:
    """Drop what was heard, so that the next passport asks anew; not where an outage left verdicts to ask for."""
    if not any(map(is_outage, readings.verdicts["note"])):
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


def _judges(grader: str, wordings: Sequence[Rubric], judging: Judging) -> list[Judge]:
    """Return the judge of each wording; a distilled judge, which reads none, is one and the same."""
    model = find_grader(grader, scoring=True)
    if isinstance(model.api, ScoresAnswers):
        return [DistilledJudge(model)] * len(wordings)
    return [RubricJudge(model, rubric, judging=judging) for rubric in wordings]


def _rows(verdicts: Sequence[Verdict], judge: str, wording: str, repeat: int) -> pl.DataFrame:
    failed = [verdict.outcome is Outcome.JUDGE_FAILED for verdict in verdicts]
    return pl.DataFrame(
        {
            "answer": range(len(verdicts)),
            "judge": [judge] * len(verdicts),
            "wording": [wording] * len(verdicts),
            "repeat": [repeat] * len(verdicts),
            "outcome": [str(verdict.outcome) for verdict in verdicts],
            "aligned": [None if lost else each.aligned for each, lost in zip(verdicts, failed, strict=True)],
            "coherent": [None if lost else each.coherent for each, lost in zip(verdicts, failed, strict=True)],
            "note": [each.note if lost else "" for each, lost in zip(verdicts, failed, strict=True)],
        },
        schema=VERDICTS,
    )
