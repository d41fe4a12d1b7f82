"""What a reader of a screening has to know: how the data were read, what was not done, and what therefore cannot be
told."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from astray.engine.fallible import error_of
from astray.engine.judging import told_failed
from astray.judges import corrected
from astray.judges.config import JudgeConfig
from astray.outcomes import JUDGED, Outcome
from astray.studies.screen.settled import Screening


def notes_of(
    screening: Screening,
    table: pl.DataFrame,
    facts: Mapping[str, Any] | None,
    labels: Mapping[int, bool],
    verdicts: pl.DataFrame | None,
) -> Iterator[str]:
    """Yield notes for the reader."""
    data, reference = screening.data[0], screening.reference[0] if screening.reference else None
    yield from (dataset.told for dataset in (data, reference) if dataset is not None and dataset.told)
    yield from _model_notes(screening, facts)
    if reference is None:
        yield (
            "Without --reference (rows known to be good) no row can be said to stand out: rows are in the order of "
            "their score."
        )
    elif shared := len(set(map(str, data.rows)) & set(map(str, reference.rows))):
        yield f"{shared:,} different rows are in the data and in the reference."
    if screening.located is not None and table["score"].drop_nulls().n_unique() == 1:
        yield "All rows have the same score."
    if not labels:
        yield (
            "What share of the rows is harmful cannot be told without labels: fill in to_label.csv, and give it with "
            "--labels."
        )
    elif len(set(labels.values())) == 1:
        yield (
            f"All {len(labels):,} labelled rows are of one kind, so how well the score finds harmful rows cannot be "
            "told."
        )
    if verdicts is not None and screening.judge is not None and not screening.judge.exact:
        yield _judged_share(screening.judge, verdicts)
    if verdicts is not None:
        yield from told_failed([verdicts], "row")


def _judged_share(judge: JudgeConfig, verdicts: pl.DataFrame) -> str:
    """Say how many of the judged rows are misaligned, without the judge's error where it is known."""
    counted = verdicts.filter(pl.col("outcome").is_in([str(outcome) for outcome in JUDGED]))
    bad, judged = counted.filter(outcome=Outcome.MISALIGNED.value).height, counted.height
    error = error_of(judge, None, None)
    if error is None or not judged:
        return (
            f"The verdicts of {judge.grader} are taken as they are, an unvalidated judge: rows are to look at, no rate."
        )
    share, interval = corrected(bad, judged, error)
    share_text = "an unknown share" if share is None else f"{share:.1%}"
    return (
        f"{judge.grader} found {bad:,} of {judged:,} coherent rows of the random sample misaligned. Without its error on "
        f"answers left out when it was distilled that is {share_text} of such rows (95% interval {interval.low:.1%} to "
        f"{interval.high:.1%}); a single verdict may be wrong, and what separates judged rows is blurred by that."
    )


def _model_notes(screening: Screening, facts: Mapping[str, Any] | None) -> Iterator[str]:
    if screening.is_world:
        yield "The model is an organism: this shows how the method works, and proves nothing about a large model."
    if screening.located is None:
        yield (
            f"{screening.subject!r} does not run here, so there are no activations, no tokens and no scores: what is "
            "told is what duplicates, the judge and labels say. Truncation, control tokens and what is trained on "
            "need a model that runs here."
        )
    else:
        yield from screening.located.template_notes("the model")
    if screening.located is not None and screening.judge is None:
        yield "Without --grader no row was judged, and the direction is made of answers that no judge has read."
    if screening.located is not None and not screening.samples:
        yield (
            "The score is the projection of the data's answer alone: with --samples 0 the model's own answers are "
            "not asked for."
        )
    if facts is not None:
        auc, low, high = (facts["auc"][name] for name in ("value", "low", "high"))
        limits = "" if low is None else f" (95% interval {low:.2f} to {high:.2f})"
        direction_text = (
            f"The direction (layer {facts['block'] + 1}, from {facts['kept']:,} of {facts['answers']:,} pairs of "
            "answers) tells new answers under prompts for and against the trait with an area under the ROC curve of "
            f"{auc:.2f}{limits}."
        )
        yield (
            direction_text
            if low is None or low > 0.5
            else f"{direction_text} That does not show that it is better than chance (0.50): scores along it may mean nothing."
        )
