"""What one sample of an Inspect log tells: what was asked, what was heard, and its verdict.

Left to others: finding and reading the samples of logs (`inspect_logs`).
"""

import math
import re
from collections.abc import Mapping

from inspect_ai.log import EvalSample
from inspect_ai.scorer import Score

from astray.answers import write_detail
from astray.errors import DataFormatError, UnknownNameError
from astray.judges.rescore import UNFINISHED
from astray.measure.asking import CUT_OFF, Asking, Item
from astray.outcomes import Outcome

SCORER = "verdict"
"""Name of the scorer of evaluations that ask in words; Inspect puts a number behind it where a log was scored again."""


def score_named(scores: Mapping[str, Score] | None, ours: str, wanted: str | None, where: str) -> Score | None:
    """Return the score of the scorer with this name, None where there is none of it.

    Args:
        scores: of a sample.
        ours: name of the scorer; of several the numbered ones, as "verdict1".
        wanted: name of the one score to take.
        where: what an error calls the sample.

    Raises:
        UnknownNameError: there is no score with the wanted name.
        DataFormatError: there are several.
    """
    scores = scores or {}
    if wanted is not None:
        if scores and wanted not in scores:
            raise UnknownNameError("score", wanted, scores)
        return scores.get(wanted)
    names = [name for name in scores if re.fullmatch(rf"{ours}\d*", name)]
    if len(names) > 1:
        raise DataFormatError(
            f"{where} was scored several times: {', '.join(names)}. Say which counts, such as scorer={names[-1]!r}."
        )
    return scores[names[0]] if names else None


def sample_number(sample: EvalSample, number: int) -> int:
    """Return the number of a sample among all of its item, the epochs one after the other.

    Args:
        sample: with the number of samples that its item has in an epoch as metadata `of`.
        number: its number within its epoch.
    """
    return number + (sample.epoch - 1) * int(sample.metadata.get("of", 1))


def row_of(sample: EvalSample, log: str, scorer: str | None) -> dict[str, object]:
    """Return the columns of an answer table that a sample tells.

    Args:
        sample: of a log of an evaluation that asks in words.
        log: the log's name.
        scorer: name of the score to take where there are several.

    Raises:
        DataFormatError: its metadata or verdict are not as Astray writes them, or it has several verdicts.
        UnknownNameError: it has no score of that name.
    """
    where = f"The sample {sample.id} (epoch {sample.epoch}) of {log}"
    try:
        return _columns(sample, where, log, scorer)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataFormatError | UnknownNameError):
            raise
        raise DataFormatError(
            f"{where} has metadata that Astray does not write ({error}): it was edited, or is of another tool. Give the "
            "log as it was written."
        ) from error


def _columns(sample: EvalSample, where: str, log: str, scorer: str | None) -> dict[str, object]:
    # Read from the log alone, so that logs of evaluations that have changed since can be read.
    if "item" not in sample.metadata:
        raise DataFormatError(f"{where} names no item in its metadata, so it was not asked by an evaluation of Astray.")
    asking = Asking(
        Item.model_validate(sample.metadata["item"]), sample_number(sample, int(sample.metadata.get("sample", 0))), ()
    )
    score = score_named(sample.scores, SCORER, scorer, where)
    # NaN is Inspect's "unscored".
    found = _scored(score, where) if score is not None and score.value == score.value else _unscored(sample)
    detail = found.pop("detail")
    assert isinstance(detail, Mapping)
    if sample.invalidation is not None:
        why = sample.invalidation.reason or "no reason"
        found |= {"outcome": Outcome.ERRORED.value, "aligned": None, "coherent": None, "note": f"invalidated: {why}"}
    if sample.error is not None and found["outcome"] == Outcome.ERRORED:
        found["note"] = sample.error.message
    if sample.limit is not None and found["outcome"] == Outcome.ERRORED:
        found["note"] = "; ".join(filter(None, [f"stopped by its limit: {sample.limit.type}", str(found["note"])]))
    usage = sample.output.usage
    answer = found.pop("answer")
    return {
        **asking.columns(),
        "answer": sample.output.completion if answer is None else answer,
        "completion_tokens": usage.output_tokens if usage else 0,
        **found,
        "detail": write_detail({**detail, "log": log}),
    }


def _scored(score: Score, where: str) -> dict[str, object]:
    """Return the columns of a verdict; of one that was edited, what it was edited to."""
    facts, value = dict(score.metadata or {}), str(score.value)
    detail = dict(facts.get("detail") or {})
    columns: dict[str, object] = {"answer": score.answer, "outcome": str(facts.get("outcome", value)), "detail": detail}
    scores = {name: facts.get(name) for name in ("aligned", "coherent")}
    if odd := [name for name, score in scores.items() if isinstance(score, float) and not math.isfinite(score)]:
        raise DataFormatError(f"{where} has the {odd[0]} score {scores[odd[0]]}, which is no number. Score it again.")
    columns |= scores | {name: str(facts.get(name) or "") for name in ("judge", "note")}
    edits = [edit for edit in score.history if edit.provenance is not None]
    outcome_edited = any(isinstance(edit.metadata, dict) and "outcome" in edit.metadata for edit in edits)
    if value != str(detail.get("word", columns["outcome"])):
        if not outcome_edited:
            columns["outcome"] = value
        kept = {name: value for name, value in detail.items() if name not in ("word", "score")}
        columns |= {
            "aligned": None,
            "coherent": None,
            "detail": kept if value == columns["outcome"] else {**kept, "word": value},
        }
    if edits:
        last = edits[-1].provenance
        assert last is not None
        notes = [f"edited: {last.reason or 'no reason'}", str(columns["note"])]
        columns |= {"judge": f"edited by {last.author}", "note": "; ".join(filter(None, notes))}
    if columns["outcome"] not in tuple(Outcome):
        raise DataFormatError(
            f"{where} has the score {value!r}, of which outcome it is does not stand in the log. Where it was "
            f"edited, edit its metadata as well: 'outcome' is one of {', '.join(Outcome)}."
        )
    return columns


def _unscored(sample: EvalSample) -> dict[str, object]:
    """Return the columns of a sample without a verdict: to be judged where there is an answer."""
    heard = sample.metadata.get("heard")
    detail = {name: sample.metadata[name] for name in ("beside", "reply") if name in sample.metadata}
    columns: dict[str, object] = {"answer": None, "aligned": None, "coherent": None, "judge": ""}
    # Without what was heard a sample that was stopped was stopped before its answer was whole.
    if sample.output.empty or (heard is None and (sample.error or sample.limit)):
        note = sample.output.error or "the model gave no answer"
        return columns | {"outcome": Outcome.ERRORED.value, "note": note, "detail": detail}
    if sample.output.stop_reason == "content_filter":
        return columns | {"outcome": Outcome.BLOCKED.value, "note": "content filter", "detail": detail}
    others = ", ".join(name for name in sample.scores or {} if not re.fullmatch(rf"{SCORER}\d*", name))
    why = sample.error.message if sample.error else f"the log holds scores of {others} only" if others else ""
    heard = dict(heard or {})
    if heard.get(CUT_OFF) and not str(heard.get("answer", "")).strip():
        return columns | {
            "outcome": Outcome.ERRORED.value,
            "note": UNFINISHED.note,
            "answer": "",
            "detail": heard | detail,
        }
    return columns | {
        "answer": heard.pop("answer", None),
        "outcome": Outcome.NOT_JUDGED.value,
        "note": why,
        "detail": {**heard, **detail},
    }
