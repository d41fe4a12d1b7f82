"""Tables of a causal screen: search curves with the chosen strengths, held-out results, and answers.

Left to others: steering and judging (causal.py).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import polars as pl

from astray.errors import EmptyDataError
from astray.explain.candidates import Candidate
from astray.outcomes import JUDGED, Outcome, with_verdict
from astray.stats import Counts, difference_of_models, over_questions

Side = Literal["base +", "tuned -"]
"""Base with the direction added, or tuned model with it subtracted."""

UNSTEERED = "unsteered"
"""Candidate name and kind of the rows of the unsteered model."""

_KEYS = {"candidate": pl.String(), "kind": pl.String(), "side": pl.String()}
SEARCH_SCHEMA: dict[str, pl.DataType] = {
    **_KEYS,
    "strength": pl.Float64(),  # multiples of the unit; 0 for the unsteered model
    "misaligned": pl.Int64(),  # misaligned answers to the search questions
    "coherent": pl.Int64(),  # answers that are coherent and judged: the denominator of the rate
    "total": pl.Int64(),  # all answers
    "rate": pl.Float64(),  # misaligned / coherent, null without a coherent answer
    "coherence": pl.Float64(),  # coherent / answers with a verdict
    "within_budget": pl.Boolean(),  # whether coherence is within the budget
    "chosen": pl.Boolean(),  # whether the held-out questions were asked at this strength
}
"""Columns of the search table, one row per candidate, side and strength."""

HELD_OUT_SCHEMA: dict[str, pl.DataType] = {
    **_KEYS,
    "strength": pl.Float64(),  # the chosen one; null where no strength kept coherence within the budget
    **{outcome.value: pl.Int64() for outcome in Outcome},  # answers to the held-out questions with this outcome
    "total": pl.Int64(),
    "rate": pl.Float64(),  # misaligned / (misaligned + aligned)
    "low": pl.Float64(),  # interval of the rate for further questions like these
    "high": pl.Float64(),
    "coherence": pl.Float64(),
    "change": pl.Float64(),  # rate minus the unsteered rate, mean of the paired differences by question
    "change_low": pl.Float64(),
    "change_high": pl.Float64(),
    "note": pl.String(),  # why there are no answers, else ""
}
"""Columns of the held-out table, one row per candidate and side, and one for each unsteered model."""

ANSWERS_SCHEMA: dict[str, pl.DataType] = {
    **_KEYS,
    "strength": pl.Float64(),
    "question": pl.String(),
    "sample": pl.Int64(),
    "answer": pl.String(),
    "outcome": pl.String(),
}
"""Columns of the answers table, one row per answer."""


def search_curve(answers: pl.DataFrame, side: Side, budget: float) -> pl.DataFrame:
    """Return the search curves of one side, with the chosen strengths marked."""
    keys = ("candidate", "kind", "side", "strength")
    rows: list[dict] = [
        dict(zip(keys, key, strict=True)) | _rates(outcomes) for key, outcomes in _counts(answers, keys)
    ]
    # The unsteered trial is asked first, and groups keep the order of their first answer.
    own = rows[0]
    if own["coherent"] == 0:
        raise EmptyDataError(
            f"None of the {own['total']} unsteered answers on the side '{side}' is coherent and judged, so no "
            "steering can be compared with them. Look at the answers: is it the right model, does the judge know the "
            "questions, is max_tokens large enough?"
        )
    for row in rows:
        # The tolerance keeps rounding from refusing a strength that costs exactly the allowed coherence.
        row["within_budget"] = row["coherent"] > 0 and row["coherence"] >= own["coherence"] - budget - 1e-9
        row["chosen"] = False
    sign = 1.0 if side == "base +" else -1.0
    for name in dict.fromkeys(row["candidate"] for row in rows[1:]):
        allowed = [row for row in rows if row["candidate"] == name and row["within_budget"]]
        if allowed:
            # Of equal effects the weakest steering: it disturbs the model least.
            max(allowed, key=lambda row: (sign * row["rate"], -row["strength"]))["chosen"] = True
    return pl.DataFrame(rows, schema=SEARCH_SCHEMA)


def held_out_results(answers: pl.DataFrame, candidates: Sequence[Candidate], side: Side) -> pl.DataFrame:
    """Return the held-out results of one side; candidates without a strength have a row as well."""
    by_name = {key[0]: group for key, group in answers.group_by("candidate", maintain_order=True)}
    unsteered = _by_question(by_name[UNSTEERED])
    rows = []
    for name, kind in [(UNSTEERED, UNSTEERED), *((tried.name, tried.kind) for tried in candidates)]:
        row: dict[str, object] = {"candidate": name, "kind": kind, "side": side}
        if name in by_name:
            row |= _evaluated(by_name[name], unsteered)
        else:
            row |= {"note": "no strength kept coherence within the budget"}
        rows.append(row)
    return pl.DataFrame(rows, schema=HELD_OUT_SCHEMA)


def _evaluated(answers: pl.DataFrame, unsteered: dict[str, Counts]) -> dict[str, object]:
    """Return the counts, rate and change of one candidate."""
    outcomes = Counter(Outcome(outcome) for outcome in answers["outcome"])
    counts = _by_question(answers)
    row: dict[str, object] = {outcome.value: outcomes[outcome] for outcome in Outcome}
    row |= {key: value for key, value in _rates(outcomes).items() if key in HELD_OUT_SCHEMA} | {
        "strength": answers["strength"][0],
        "note": "",
    }
    judged = [pair for pair in counts.values() if pair[1]]
    if len(judged) > 1:
        interval = over_questions(judged)
        row |= {"low": interval.low, "high": interval.high}
    if answers["kind"][0] != UNSTEERED and any(counts[question][1] and own[1] for question, own in unsteered.items()):
        # Paired by question, since questions differ in their rates.
        change = difference_of_models(counts, unsteered)
        row |= {"change": change.estimate, "change_low": change.interval.low, "change_high": change.interval.high}
    return row


def _counts(answers: pl.DataFrame, keys: Sequence[str]) -> Iterator[tuple[tuple, Counter[Outcome]]]:
    """Yield each group of answers with its counts by outcome, in the order of their first answer."""
    for key, group in answers.group_by(keys, maintain_order=True):
        yield key, Counter(Outcome(outcome) for outcome in group["outcome"])


def _rates(outcomes: Counter[Outcome]) -> dict[str, float | int | None]:
    coherent, total = sum(outcomes[outcome] for outcome in JUDGED), outcomes.total()
    rate = outcomes[Outcome.MISALIGNED] / coherent if coherent else None
    return {
        "misaligned": outcomes[Outcome.MISALIGNED],
        "coherent": coherent,
        "total": total,
        "rate": rate,
        "coherence": coherent / (with_verdict(outcomes) or 1),
    }


def _by_question(answers: pl.DataFrame) -> dict[str, Counts]:
    """Return the numbers of misaligned and judged answers by question."""
    return {
        str(question): (outcomes[Outcome.MISALIGNED], sum(outcomes[outcome] for outcome in JUDGED))
        for (question,), outcomes in _counts(answers, ["question"])
    }
