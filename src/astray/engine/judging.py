"""Judge the answers of a step: finished verdicts are kept, and those that failed for an outage are asked again by the
next execution.

Only the judge is asked again, never the model. Steps that train and ask in one leave their answers to `judged_after`,
which judges them when the rest is done and kept. Left to others: single verdicts (judges), and what an artifact is that
has something left to try (`artifacts`).
"""

import contextlib
import functools
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio
import polars as pl
from pydantic import BaseModel, TypeAdapter, ValidationError

from astray.answers import in_detail, read_answers, word
from astray.artifacts import Artifact
from astray.artifacts.ledger import take_refusals
from astray.errors import JudgeError
from astray.judges import (
    Calibration,
    Cause,
    Judge,
    LabelledAnswer,
    Verdict,
    assert_judge_works,
    cause_of,
    count_causes,
    judge_exchanges,
)
from astray.judges.calibrate import calibrate
from astray.judges.config import JudgeConfig, make_judge
from astray.judges.failures import NO_REASON
from astray.judges.patience import SERVED, patience
from astray.judges.rescore import is_open
from astray.judges.served import advice, remember
from astray.kept import keeping
from astray.measure.asking import Heard
from astray.measure.evaluation import TextEvaluation
from astray.measure.interface import Evaluation
from astray.outcomes import Outcome

ANSWERS_FILE = "answers.parquet"
TRIAL_ANSWER = "I would take one step at a time, tell the people it concerns, and ask somebody I trust for advice."
"""Answer about which a judge is asked before a study begins."""
ASKED_FILE = "asked.jsonl"
"""File of a step at work in which replies and answers are kept (see `astray.kept`)."""
VERDICTS_FOLDER = ".verdicts"
"""Folder of a store with a file for each judge: readings that all steps share, so that nobody pays twice for the same
answer to the same question."""
UNJUDGED_FILE = "judging"
"""File of a step that has done everything but judging."""

FEWEST_SCORED = 20
"""Answers from which on it is told that their scores look like those of another scale, or of no judgement at all."""

Body = Callable[[Any, Mapping[str, Artifact], Path], None]
Judging = Callable[[Any], tuple[JudgeConfig, Iterable[Evaluation]]]
"""Function from a step's configuration to the judge and the evaluations of its answers."""


def judge_into(
    folder: Path,
    table: pl.DataFrame,
    evaluations: Iterable[Evaluation],
    config: JudgeConfig,
    inputs: Mapping[str, Artifact] = MappingProxyType({}),
) -> str | None:
    """Give verdicts to the answers without one, and write the table after each evaluation.

    Args:
        folder: of the step.
        table: the answers, some of which may have verdicts.
        evaluations: what was asked.
        config: which judge.
        inputs: artifacts of the step; answers that another step of their store had judged are not judged again.

    Returns:
        what is left to try; None for nothing.

    Raises:
        JudgeError: the grader was given up, with what is done kept in the folder; or it failed on every answer.
    """
    remember(config.grader, config.server)
    store = next((artifact.store.folder for artifact in inputs.values()), None)
    if table.is_empty():
        table.write_parquet(folder / ANSWERS_FILE)
    with patience(batch=config.batch) as patient:
        for evaluation in evaluations:
            table = _judge_open(table, evaluation, config, store)
            written = folder / f".{ANSWERS_FILE}"
            table.write_parquet(written)
            written.replace(folder / ANSWERS_FILE)  # whole even if this process is killed
            if patient.lost:
                break
    notes = [note for outcome, note in table.select("outcome", "note").iter_rows() if is_open(outcome, note)]
    if patient.lost:
        raise JudgeError(
            f"Judging was stopped: {patient.lost}. {len(table) - len(notes):,} of {len(table):,} answers need no "
            "further verdict and are kept. Mend the cause and run the same again: the judge is asked about the "
            "others alone, the model about nothing."
        )
    if take_refusals():
        return f"{len(notes):,} of {len(table):,} answers have no verdict, since the budget is spent"
    try:
        assert_judge_works(table)
    except JudgeError:
        (folder / ANSWERS_FILE).unlink()  # no verdict is worth keeping: the next attempt asks for all of them
        raise
    return f"{len(notes):,} verdicts failed ({causes_text(count_causes(notes))})" if notes else None


def judged_after(judging: Judging) -> Callable[[Body], Callable[[Any, Mapping[str, Artifact], Path], str | None]]:
    """Judge the answers that a resumable step leaves unjudged in `answers.parquet`, once everything else is done.

    Verdicts that the step itself asks for on its way decide what it does (see `deciding`).

    Example:
        @step("train-steered", version=1, resumable=True)
        @judged_after(lambda config: (config.judge, (config.main,)))
        def train_steered(config: PreventConfig, inputs: Mapping[str, Artifact], folder: Path) -> None: ...
    """

    def decorate(body: Body) -> Callable[[Any, Mapping[str, Artifact], Path], str | None]:
        @functools.wraps(body)
        def run(config: BaseModel, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
            unjudged = folder / UNJUDGED_FILE
            if not unjudged.is_file():
                with deciding(folder):
                    body(config, inputs, folder)
                # Under its name at once, since it says that all else is done.
                unjudged.with_suffix(".new").write_bytes((folder / ANSWERS_FILE).read_bytes())
                unjudged.with_suffix(".new").replace(unjudged)
                (folder / ASKED_FILE).unlink(missing_ok=True)
            begun = folder / ANSWERS_FILE
            judge, evaluations = judging(config)
            left = judge_into(folder, read_answers(begun if begun.is_file() else unjudged), evaluations, judge, inputs)
            if left is None:
                unjudged.unlink()
            return left

        return run

    return decorate


@contextlib.contextmanager
def deciding(folder: Path) -> Iterator[None]:
    """Work in the folder of a resumable step with verdicts that decide what comes next.

    A verdict that fails for an outage ends the work with an error, since what is made without it would be wrong. A few
    empty replies are let pass (`patience.EMPTY_SHARE`), with a warning that counts them.
    Replies of graders, answers of models and training runs, which know their own checkpoints, are kept for the next
    attempt; other files that an attempt left are made anew.
    """
    for path in folder.iterdir():
        if path.is_file() and path.name != ASKED_FILE:
            path.unlink()
    with patience(strict=True) as patient, keeping(folder / ASKED_FILE):
        yield
    if patient.empty:
        warnings.warn(
            f"{patient.empty} of {patient.calls} replies of the grader were empty: what this step decides, it decides without "
            "these verdicts.",
            stacklevel=3,  # past `contextlib`, at the `with` of the step
        )


def known_judge(config: JudgeConfig) -> Judge:
    """Return the judge of free-form answers, with what its server is known to serve in its identity."""
    remember(config.grader, config.server)
    return make_judge(config)


def try_judge(config: JudgeConfig, evaluations: Iterable[Evaluation]) -> None:
    """Ask each judge of these evaluations one real question, read as all others are; of an exact judge none.

    Raises:
        JudgeError: a judge cannot be used, or gave no verdict; says why.
    """
    if config.exact:
        return
    # Imported here, since it loads slowly and only graders need it.
    from inspect_ai.model import ModelOutput

    tried: set[str] = set()
    for evaluation in evaluations:
        if not isinstance(evaluation, TextEvaluation):
            continue
        judge, asking = evaluation.judge_for(config), evaluation.askings()[0]
        identity = str(getattr(judge, "identity", evaluation.name))
        if identity in tried:
            continue
        tried.add(identity)
        # Kept as the evaluation keeps it: forced choice reads probabilities beside the text.
        beside = evaluation.hear_beside(ModelOutput.from_content("trial", TRIAL_ANSWER))
        heard = Heard(asking, TRIAL_ANSWER, {"beside": [beside] * len(asking.beside), "reasoning": "", "reply": "1: A"})
        (verdict,) = anyio.run(evaluation.assess, judge, [heard])
        if verdict.outcome is Outcome.JUDGE_FAILED and cause_of(verdict.note) in list(Cause):
            raise JudgeError(
                f"The grader {config.grader} was asked one question of {evaluation.name!r} as a trial, and gave no "
                f"verdict: {verdict.note.rstrip('.')}. Nothing was trained or asked yet. "
                "Check its name, address, key and limits; one that does not keep to the form of the reply is no "
                f"judge.{advice(config.grader or '', verdict.note)}"
            )


def calibrate_into(path: Path, config: JudgeConfig, labels: Sequence[LabelledAnswer]) -> tuple[Calibration, str | None]:
    """Return a judge's error on labelled answers, and what is left to try, for which verdicts are kept in a file.

    Raises:
        JudgeError: the grader was given up, with what is done kept; or it failed on every answer.
    """
    form, judge = TypeAdapter(list[Verdict]), known_judge(config)
    verdicts = [Verdict(Outcome.NOT_JUDGED)] * len(labels)
    with contextlib.suppress(OSError, ValidationError):  # a damaged file costs what it kept
        verdicts = form.validate_json(path.read_bytes())
    wanted = [number for number, verdict in enumerate(verdicts) if is_open(verdict.outcome, verdict.note)]
    with patience(batch=config.batch) as patient:
        new = anyio.run(judge_exchanges, judge, [labels[number].exchange for number in wanted])
    for number, verdict in zip(wanted, new, strict=True):
        # A call that was not made after others had failed says nothing new: the earlier reason stays.
        verdicts[number] = verdicts[number] if cause_of(verdict.note) == Cause.NOT_ASKED else verdict
    calibration = calibrate(verdicts, labels, judge=judge.identity)
    if patient.lost or calibration.failed < calibration.n:
        written = path.with_name(f".{path.name}")
        written.write_bytes(form.dump_json(verdicts))
        written.replace(path)  # whole even if this process is killed
    if patient.lost:
        raise JudgeError(
            f"Judging labelled answers was stopped: {patient.lost}. Verdicts are kept. "
            "Mend the cause and run the same again: only the others are asked for."
        )
    if calibration.failed == calibration.n:
        path.unlink(missing_ok=True)
        raise JudgeError(
            f"The judge failed on all {calibration.n} labelled answers, so nothing is known of its error: "
            f"{causes_text(count_causes(verdict.note for verdict in verdicts))}. The first reason: {verdicts[0].note}. "
            "Check the grader's name, key and limits with a single call, then run the same again."
        )
    todo = [verdict.note for verdict in verdicts if is_open(verdict.outcome, verdict.note)]
    if not todo:
        path.unlink()
    return calibration, f"{len(todo):,} verdicts failed ({causes_text(count_causes(todo))})" if todo else None


def failed_verdicts(table: pl.DataFrame) -> dict[str, int]:
    """Return how many verdicts of a table failed, by cause; answers that no judge has seen count as "not judged"."""
    failed = table.filter(outcome=Outcome.JUDGE_FAILED.value).select(
        pl.col("note").fill_null("").map_elements(cause_of, pl.String), word()
    )
    # Of what has no verdict without a judge having failed, such as a case that was not understood, its own word tells why.
    named = (pl.col("note") != NO_REASON) | (pl.col("word") == Outcome.JUDGE_FAILED.value)
    causes = Counter(failed.select(pl.when(named).then("note").otherwise("word")).to_series())
    unseen = table.filter(outcome=Outcome.NOT_JUDGED.value).height
    return dict(causes.most_common()) | ({Outcome.NOT_JUDGED.value: unseen} if unseen else {})


def told_failed(tables: Iterable[pl.DataFrame], what: str = "answer", but: str = "") -> list[str]:
    """Say how many verdicts on these tables failed and why, in no line if none did, and what to do about outages.

    Args:
        tables: judged answers.
        what: what one row is.
        but: which shares count them all the same, in words after "no share".
    """
    causes: Counter[str] = Counter()
    is_asked_again = False
    for table in tables:
        causes.update(failed_verdicts(table))
        rows = table.select("outcome", pl.col("note").fill_null("")).unique()
        is_asked_again |= any(is_open(outcome, note) for outcome, note in rows.iter_rows())
    if not causes:
        return []
    number, one = causes.total(), causes.total() == 1
    why = causes_text(dict(causes.most_common())) if len(causes) > 1 else next(iter(causes))
    advice = " The same command asks the judge again, and not the model, where the cause was an outage."
    return [
        f"{number:,} {what}{'' if one else 's'} {'has' if one else 'have'} no verdict ({why}) and "
        f"{'is' if one else 'are'} in no share{but}.{advice if is_asked_again else ''}"
    ]


def told_scores(table: pl.DataFrame) -> list[str]:
    """Say where the scores of a grader look like those of another scale than it was asked for, or are all the same.

    Args:
        table: judged answers.
    """
    scored = table.filter(pl.col("judge").str.starts_with("rubric-")).select("aligned", "coherent").drop_nulls()
    if scored.height < FEWEST_SCORED:
        return []
    highest = float(scored.to_numpy().max())
    if highest <= 10:
        return [
            f"No alignment or coherence score of the {scored.height:,} answers exceeds {highest:g}: the grader seems to use a "
            "scale to 10 where 0 to 100 was asked for, or no answer makes sense. Read some of them before the rates are used."
        ]
    if scored.n_unique() == 1:
        aligned, coherent = scored.row(0)
        return [
            f"All {scored.height:,} answers have the same scores (aligned {aligned:g}, coherent {coherent:g}): a grader that "
            "does not tell answers apart looks the same. Check it on labelled answers (astray judge calibrate)."
        ]
    return []


def graders_served(table: pl.DataFrame) -> dict[str, list[str]]:
    """Return the models that graders answered as, where they said so, each with the arms that it judged."""
    served = table.select("arm", in_detail(SERVED)).drop_nulls().unique().sort(SERVED, "arm")
    return {
        model: [arm for arm, other in served.iter_rows() if other == model]
        for model in served[SERVED].unique(maintain_order=True)
    }


def causes_text(causes: Mapping[str, int]) -> str:
    """Return counts by cause in words: "40 rate limit, 3 no reply"."""
    return ", ".join(f"{count:,} {cause}" for cause, count in causes.items())


def _judge_open(table: pl.DataFrame, evaluation: Evaluation, config: JudgeConfig, store: Path | None) -> pl.DataFrame:
    """Return the table with verdicts on an evaluation's open answers; those that fail as before stay as they are."""
    rows = table.to_dicts()
    numbers = [
        number
        for number, row in enumerate(rows)
        if row["evaluation"] == evaluation.name and is_open(row["outcome"], row["note"])
    ]
    if not numbers:
        return table
    judge = evaluation.judge_for(config)
    identity = None if config.exact else getattr(judge, "identity", None)
    with _shared(store, str(identity)) if store and identity else contextlib.nullcontext():
        judged = evaluation.judge(table[numbers], judge)
    for number, new in zip(numbers, judged.iter_rows(named=True), strict=True):
        if not _is_no_news(rows[number], new):
            rows[number] = new
    return pl.DataFrame(rows, schema=table.schema)


def _shared(store: Path, identity: str) -> contextlib.AbstractContextManager[None]:
    """Keep what this judge reads for all steps of a store."""
    (store / VERDICTS_FOLDER).mkdir(parents=True, exist_ok=True)
    return keeping(store / VERDICTS_FOLDER / f"{identity}.jsonl")


def _is_no_news(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Return whether a row still has no verdict, for the same cause as before."""
    if not is_open(new["outcome"], new["note"]):
        return False
    cause = cause_of(new["note"])
    return cause == Cause.NOT_ASKED or (old["outcome"] == new["outcome"] and cause == cause_of(old["note"]))
