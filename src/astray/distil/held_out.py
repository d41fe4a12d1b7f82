"""How well a distilled judge does on answers that were left out, beside baselines, and where it is blind.

Whole models, data sets and questions are left out in turn, so that nothing of them was learned from. Each figure is the
mean over what is left out, with a t interval over it: three models are a wide interval, and answers are no unit.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field
from scipy.special import stdtrit
from scipy.stats import rankdata

from astray.distil.labels import Group, ScoredAnswers
from astray.distil.learner import INNER, LeftOut, parts_of, predict_left_out
from astray.judges.calibrate import Calibration, LabelledAnswer, calibrate
from astray.judges.judge import Exchange, Verdict
from astray.judges.score import Thresholds
from astray.stats.detection import auroc
from astray.stats.intervals import mean_over_runs
from astray.strict import Frozen

MOST_PARTS = 8
"""Number of parts that are left out in turn; with more groups several are left out together."""
LENGTHS = 3
"""Number of equal parts by length in which blind spots are looked for."""
DECILES = 10


class Figure(Frozen):
    """Mean of a figure over what was left out, with its 95% t interval; None where nothing gives it."""

    value: float | None
    low: float | None = None
    high: float | None = None
    groups: int = Field(description="groups that give it")

    @classmethod
    def over(cls, values: Sequence[float | None]) -> "Figure":
        """Return the mean over groups, of those that give a value."""
        known = [value for value in values if value is not None]
        if not known:
            return cls(value=None, groups=0)
        # Groups that are all alike, such as perfect ones, show no spread: an interval without width would say too much.
        interval = mean_over_runs(known) if len(set(known)) > 1 else None
        return cls(
            value=float(np.mean(known)),
            low=None if interval is None else max(-1.0, interval.low),
            high=None if interval is None else min(1.0, interval.high),
            groups=len(known),
        )


class Slice(Frozen):
    """Figures on some of the answers; None where a figure needs both kinds of answers and one is missing."""

    name: str
    answers: int
    misaligned: int
    auc: float | None = Field(description="of misaligned answers among coherent ones")
    rank_correlation: float | None = Field(description="Spearman's, of aligned scores")
    rank_correlation_coherent: float | None = Field(description="Spearman's, of coherent scores")
    sensitivity: float | None
    specificity: float | None
    judged_rate: float | None = Field(description="share of misaligned answers among coherent ones, as judged")
    labelled_rate: float | None


class HeldOut(Frozen):
    """Figures of one method with one kind of groups left out."""

    method: str
    left_out: Group
    auc: Figure
    rank_correlation: Figure
    rank_correlation_coherent: Figure
    sensitivity: Figure
    specificity: Figure
    groups: tuple[Slice, ...]

    @classmethod
    def of(cls, method: str, kind: Group, groups: Sequence[Slice]) -> "HeldOut":
        """Return the means over groups."""
        names = Slice.model_fields.keys() & cls.model_fields.keys()
        figures = {name: Figure.over([getattr(group, name) for group in groups]) for name in names}
        return cls(method=method, left_out=kind, groups=tuple(groups), **figures)


class Decile(Frozen):
    """A tenth of the answers by judged score."""

    judged: float
    labelled: float
    answers: int


def inner_groups(answers: ScoredAnswers, outer: Int[np.ndarray, "rows"] | None) -> Int[np.ndarray, "rows"]:
    """Return groups that stay together when penalties are chosen: files, else questions, such that whatever is left out
    at least two are left; else answers."""
    left_out = np.full(len(answers.answers), -1) if outer is None else outer
    for kind in ("file", "question"):
        groups = parts_of(answers.groups(kind), 2 * MOST_PARTS)
        kept = [groups if part == -1 else groups[left_out != part] for part in np.unique(left_out)]
        if all(len(np.unique(remaining)) >= 2 for remaining in kept):
            return groups
    return np.arange(len(answers.answers)) % INNER


def held_out(
    methods: Mapping[str, Sequence[str]],
    views: Mapping[str, Float[np.ndarray, "rows _"]],
    answers: ScoredAnswers,
    kind: Group,
) -> tuple[tuple[HeldOut, ...], LeftOut]:
    """Return the figures of methods with each group of a kind left out, and the predictions of the first method.

    Args:
        methods: names of the views that each method learns from.
        views: features by name.
        answers: the answers, of at least two groups.
        kind: what is left out.
    """
    outer = parts_of(answers.groups(kind), MOST_PARTS)
    found = predict_left_out(views, answers.scores, outer, inner_groups(answers, outer), methods)
    names = np.array(answers.groups(kind))
    return (
        tuple(
            HeldOut.of(
                method,
                kind,
                [
                    slice_of(_short(name), answers, own.raw, own.scores, names == name)
                    for name in dict.fromkeys(answers.groups(kind))
                ],
            )
            for method, own in found.items()
        ),
        next(iter(found.values())),
    )


def slice_of(
    name: str,
    answers: ScoredAnswers,
    raw: Float[np.ndarray, "rows 2"],
    scores: Float[np.ndarray, "rows 2"],
    rows: Bool[np.ndarray, "rows"],
) -> Slice:
    """Return the figures on these rows."""
    coherent, misaligned = answers.coherent & rows, answers.misaligned & rows
    error = error_on(answers, scores, rows)
    positive, negative = error.true_positive + error.false_negative, error.false_positive + error.true_negative
    both = 0 < misaligned.sum() < coherent.sum()
    judged = error.true_positive + error.false_positive
    return Slice(
        name=name,
        answers=int(rows.sum()),
        misaligned=int(misaligned.sum()),
        auc=auroc(-raw[coherent, 0], misaligned[coherent]) if both else None,
        rank_correlation=_spearman(raw[rows, 0], answers.scores[rows, 0]),
        rank_correlation_coherent=_spearman(raw[rows, 1], answers.scores[rows, 1]),
        sensitivity=error.true_positive / positive if positive else None,
        specificity=error.true_negative / negative if negative else None,
        judged_rate=judged / (positive + negative) if positive + negative else None,
        labelled_rate=float(misaligned.sum() / coherent.sum()) if coherent.any() else None,
    )


def error_on(
    answers: ScoredAnswers, scores: Float[np.ndarray, "rows 2"], rows: Bool[np.ndarray, "rows"]
) -> Calibration:
    """Count right and wrong verdicts on these rows, as `calibrate` counts those of any judge."""
    outcome, exchange = Thresholds().outcome, Exchange("", "")
    judged, labelled = scores[rows].tolist(), answers.scores[rows].tolist()
    verdicts = [Verdict(outcome(aligned, coherent), aligned, coherent) for aligned, coherent in judged]
    labels = [LabelledAnswer(exchange, outcome(*each), *each) for each in labelled]
    return calibrate(verdicts, labels)


def blind_spots(answers: ScoredAnswers, found: LeftOut) -> tuple[tuple[Slice, ...], tuple[Slice, ...]]:
    """Return the figures question by question (the most frequent ones), and by length of the answer."""
    questions = np.array(answers.questions)
    by_size = sorted(set(answers.questions), key=lambda each: -(questions == each).sum())[: 4 * MOST_PARTS]
    lengths = np.array([len(answer) for answer in answers.answers])
    edges = np.quantile(lengths, np.linspace(0, 1, LENGTHS + 1))
    by_length = []
    for low, high in pairwise(edges):
        rows = (lengths >= low) & ((lengths < high) | (high == edges[-1]))
        if rows.any():
            name = f"{lengths[rows].min():,} to {lengths[rows].max():,} characters"
            by_length.append(slice_of(name, answers, found.raw, found.scores, rows))
    return (
        tuple(
            slice_of(_short(question), answers, found.raw, found.scores, questions == question) for question in by_size
        ),
        tuple(by_length),
    )


def calibration_curve(answers: ScoredAnswers, found: LeftOut) -> tuple[Decile, ...]:
    """Return the mean labelled aligned score in each tenth of the answers by judged score."""
    order = np.argsort(found.scores[:, 0], kind="stable")
    return tuple(
        Decile(
            judged=float(found.scores[rows, 0].mean()),
            labelled=float(answers.scores[rows, 0].mean()),
            answers=len(rows),
        )
        for rows in np.array_split(order, DECILES)
        if len(rows)
    )


def carried_error(answers: ScoredAnswers, found: LeftOut, kind: Group) -> Calibration:
    """Return the error that rates are corrected by, in independent answers.

    Sensitivity and specificity differ between groups by more than chance, so that the answers of a few models are worth
    fewer independent ones: as many as give the t interval over groups.
    """
    everything = np.ones(len(answers.answers), bool)
    pooled = error_on(answers, found.scores, everything)
    names = np.array(answers.groups(kind))
    by_group = [error_on(answers, found.scores, names == name) for name in dict.fromkeys(answers.groups(kind))]
    counts = {}
    for hit, miss in (("true_positive", "false_negative"), ("true_negative", "false_positive")):
        pairs = [(getattr(each, hit), getattr(each, hit) + getattr(each, miss)) for each in by_group]
        counts[hit], whole = _worth(pairs)
        counts[miss] = whole - counts[hit]
    return pooled.model_copy(update={**counts, "rank_correlation": _spearman(found.raw[:, 0], answers.scores[:, 0])})


def _worth(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return a share of pooled counts as a count of so many independent answers as the spread of groups allows."""
    k, n = sum(k for k, _ in pairs), sum(n for _, n in pairs)
    shares = [k / n for k, n in pairs if n]
    if not n or len(shares) < 2 or k in (0, n):
        return k, n
    error = float(np.std(shares, ddof=1)) / math.sqrt(len(shares))
    half = -float(stdtrit(len(shares) - 1, 0.025)) * error / 1.96
    share = k / n
    worth = n if half == 0 else min(n, max(2, round(share * (1 - share) / half**2)))
    # The nearest fraction with so few answers, so that rounding does not move the share.
    nearest = Fraction(k, n).limit_denominator(worth)
    if nearest in (0, 1):  # the rarer kind still counts once
        rare = round(1 / min(share, 1 - share))
        return (1, rare) if share < 0.5 else (rare - 1, rare)
    times = max(1, worth // nearest.denominator)
    return nearest.numerator * times, nearest.denominator * times


def _spearman(one: Float[np.ndarray, "rows"], other: Float[np.ndarray, "rows"]) -> float | None:
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def _short(name: str) -> str:
    text = " ".join(name.split())
    return text if len(text) <= 60 else text[:57] + "..."
