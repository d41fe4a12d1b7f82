"""Make the passport of judges."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from astray.errors import ConfigurationError
from astray.judges.failures import OUTAGES
from astray.judges.judge import Judging
from astray.judges.rubric import Rubric
from astray.judges.wordings import find_wordings
from astray.judges.words import digest
from astray.outcomes import Outcome
from astray.stats.components import Component, variance_components
from astray.studies.passport.drift import BOUND, Earlier, check_same, drift_since, read_earlier
from astray.studies.passport.flips import examples_of, flips_of
from astray.studies.passport.reading import Answers, Readings, Told, read_all, read_answers_file
from astray.studies.passport.result import MEASURES, Mean, Passport

SAMPLE, REPEATS = 200, 3
PARTS: tuple[tuple[str, ...], ...] = (
    *((name,) for name in ("run", "question", "answer", "judge", "wording")),
    ("judge", "wording"),
    *((name, of) for of in ("judge", "wording") for name in ("run", "question", "answer")),
    ("answer", "judge", "wording"),
)
"""Parts of the variance of a reading, the most important first; what is left is the repeat's."""
_SAMPLED, _WITHIN = ("run", "question", "answer"), {"answer": ("run", "question")}


def make_passport(
    graders: str | Sequence[str],
    answers: str | Path,
    *,
    prompts: str | Sequence[str] = (),
    repeats: int = REPEATS,
    judging: Judging = "two-calls",
    sample: int = SAMPLE,
    out: Path,
    since: str | Path | None = None,
    bound: float = BOUND,
    progress: Told | None = None,
) -> Passport:
    """Let judges read fixed answers in several wordings several times, and say what moves their verdicts.

    Args:
        graders: Inspect models, or distilled judges; a text may hold several with commas between them.
        answers: table with question and answer, and optionally run (or arm and seed, or model).
        prompts: wordings of the rubric, by name or file; all of ours by default.
        repeats: how often each is read.
        judging: calls about each answer.
        sample: most answers; drawn evenly over runs and questions where there are more.
        out: folder in which a passport that was stopped is kept.
        since: an earlier passport of the same answers.
        bound: share of the scale by which a judge may move since then.
        progress: told of progress.

    Raises:
        ConfigurationError: no or doubled graders, numbers below 1, or an earlier passport of something else.
        DataNotFoundError, DataFormatError, EmptyDataError: answers, wordings or the earlier passport cannot be used.
        JudgeError: a grader cannot be used, or none gave a verdict.
    """
    names, rubrics = _split(graders), find_wordings(_split(prompts))
    _check(names, repeats, sample, bound)
    read = read_answers_file(Path(answers), sample)
    earlier = None
    if since is not None:  # before anything is asked
        earlier = read_earlier(Path(since))
        check_same(Path(since), earlier, read, names, _texts(rubrics), judging)
    readings = read_all(read, names, rubrics, repeats, judging, Path(out), progress)
    drift = drift_since(Path(since), earlier, read, readings.verdicts, names, bound) if since and earlier else None
    components = {measure: _components(read, readings, measure) for measure in MEASURES}
    return Passport(
        judging=judging,
        wordings=tuple(rubric.name for rubric in rubrics),
        repeats=repeats,
        answers=read,
        readings=readings,
        components=components,
        means=tuple(_means(readings)),
        flips=flips_of(readings, read),
        examples=tuple(examples_of(readings, read)),
        kept=_kept(read, readings, rubrics, judging),
        drift=drift,
        notes=tuple(_notes(read, readings, len(rubrics), repeats, earlier)),
    )


def _check(names: Sequence[str], repeats: int, sample: int, bound: float) -> None:
    """Refuse graders and numbers that make no passport."""
    if not names or len(set(names)) < len(names):
        raise ConfigurationError(
            f"--graders {','.join(names)!r} names none, or one twice. Write each once: openai/gpt-4o,astray/judge/mine"
        )
    if repeats < 1 or sample < 2 or not 0 < bound < 1:
        raise ConfigurationError(
            f"--repeats {repeats}, --sample {sample}, --bound {bound}: at least 1 repeat and 2 answers, and a bound between 0 "
            "and 1, such as 0.05."
        )


def _split(given: str | Sequence[str]) -> tuple[str, ...]:
    parts = given.split(",") if isinstance(given, str) else [one for text in given for one in text.split(",")]
    return tuple(part.strip() for part in parts if part.strip())


def _texts(rubrics: Sequence[Rubric]) -> dict[str, str]:
    return {rubric.name: digest(rubric.model_dump(mode="json")) for rubric in rubrics}


def _kept(answers: Answers, readings: Readings, rubrics: Sequence[Rubric], judging: str) -> dict[str, Any]:
    return {
        "judging": judging,
        "wordings": _texts(rubrics),
        "answers": list(answers.digests),
        "served": readings.served,
        "rows": [list(row) for row in readings.verdicts.drop("note").iter_rows()],
    }


def value_of(measure: str) -> pl.Expr:
    """Return the expression of a measure of a verdict: a score, or 1 for misaligned and 0 for any other outcome."""
    failed = pl.col("outcome") == Outcome.JUDGE_FAILED.value
    value = (
        pl.col(measure) if measure != "misaligned" else (pl.col("outcome") == Outcome.MISALIGNED.value).cast(pl.Float64)
    )
    return pl.when(~failed).then(value)


def _components(answers: Answers, readings: Readings, measure: str) -> tuple[Component, ...]:
    table = readings.verdicts.with_columns(value_of(measure).alias("value")).drop_nulls("value")
    if table.height < 2:
        return ()
    at = table["answer"].to_numpy()
    columns: Mapping[str, Any] = {
        "question": np.array([exchange.question for exchange in answers.exchanges])[at],
        **({"run": np.array(answers.runs)[at]} if answers.runs else {}),
        **{name: table[name].to_numpy() for name in ("answer", "judge", "wording")},
    }
    codes = {name: np.unique(values, return_inverse=True)[1].reshape(-1) for name, values in columns.items()}
    return variance_components(table["value"].to_numpy(), codes, PARTS, sampled=_SAMPLED, nested=_WITHIN)


def _means(readings: Readings) -> list[Mean]:
    found = []
    for judge in readings.identities:
        own = readings.verdicts.filter(judge=judge).with_columns(
            value_of(measure).alias(f"m_{measure}") for measure in MEASURES
        )
        cells = own.group_by("answer", "wording").agg(
            *(pl.col(f"m_{measure}").n_unique().alias(measure) for measure in MEASURES)
        )
        failed = int((own["outcome"] == Outcome.JUDGE_FAILED.value).sum())
        same = own["repeat"].n_unique() > 1 and not failed and all((cells[measure] == 1).all() for measure in MEASURES)
        found.append(
            Mean(
                judge,
                readings.identities[judge],
                own.height,
                failed,
                {measure: cast(float | None, own[f"m_{measure}"].mean()) for measure in MEASURES},
                repeats_agree=same,
            )
        )
    return found


def _notes(answers: Answers, readings: Readings, wordings: int, repeats: int, earlier: Earlier | None) -> list[str]:
    notes = list(answers.notes)
    for judge, causes in readings.failed.items():
        own = readings.verdicts.filter(judge=judge).height
        told = ", ".join(f"{count:,} {cause}" for cause, count in causes.items())
        rest = (
            "It has no verdict, so it is in no figure."
            if sum(causes.values()) == own
            else "Its figures are of the rest, and are right only where what fails does not depend on the answer."
        )
        again = (
            " The same command, within a day, asks for those that failed for an outage."
            if set(OUTAGES) & set(causes)
            else ""
        )
        notes.append(f"{judge} gave no verdict {sum(causes.values()):,} times of {own:,}: {told}. {rest}{again}")
    if len(readings.graders) < 2:
        notes.append("One grader: what another one would say, and which conclusions hang on it, cannot be told.")
    if wordings < 2:
        notes.append("One wording: how far verdicts hang on the rubric's words cannot be told.")
    if repeats < 2:
        notes.append(
            "One repeat: chance cannot be told from what a judge makes of a single answer in a single wording."
        )
    notes += [f"{judge} reads no wording, so it is the same in each." for judge in readings.wordless]
    for judge in readings.identities:
        new, old = readings.served.get(judge, ""), earlier.served.get(judge, "") if earlier else ""
        if new or old:
            notes.append(
                f"{judge} answered as {new or judge}"
                + (f", at the time of the earlier passport as {old or judge}." if earlier else ".")
            )
    notes.append(
        "Judges and wordings are those that were given, and nothing is said of others; runs, questions and answers are taken "
        "as a sample of more of their kind."
    )
    return notes
