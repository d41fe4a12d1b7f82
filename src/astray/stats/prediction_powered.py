"""Rates from a small sample of answers that a good judge read and a large one that only a cheap judge read.

Prediction-powered inference (Angelopoulos et al. 2023, arXiv 2301.09633) with power tuning (PPI++, arXiv 2311.01453):
the rate is that of the gold verdicts plus `tuning` times what the cheap verdicts of all answers say beyond those of the
gold sample. The gold sample is drawn at random, so the rate is right however the cheap judge errs, and the tuning, which
is estimated on other runs than those that it is applied to, keeps a useless judge from doing harm.

A rate has a denominator (coherent answers) that both judges decide, so numerator and denominator are estimated in the
same way. The result is put as counts of "effective" answers by training run or question: as many gold verdicts as would
be as informative. Runs and questions then vary as they do for any rate (intervals.py), also at 0. One disagreement of
either kind is added to those that were seen, so that a judge who happened to agree on few misaligned answers is not
taken for a perfect one. Simulated coverage: docs/judges.md. Left to others: drawing the sample (engine/gold.py).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

MISALIGNED, ALIGNED, OUTSIDE = range(3)
"""Places of an outcome in the tallies: counted, the rest of the denominator, neither."""
_FOLDS = 5
_MOST = 0.999
"""Largest tuning and smallest share of a denominator, as fractions of 1, that keep divisions finite."""


@dataclass(frozen=True)
class PowerTuned:
    """Rates of many studies at once, each from gold and cheap verdicts on cells of answers (run x question).

    Attributes:
        estimate: rate that the gold judge would have found among all answers.
        tuning: weight of the cheap verdicts of each cell, 0 to 1.
        residual: variance that the cheap verdicts leave, as a share of that of the gold verdicts.
        cheap: verdicts of the cheap judge on all answers of each cell.
        both: verdicts of the gold judge x of the cheap one on the gold sample of each cell.
    """

    estimate: Float[np.ndarray, " studies"]
    tuning: Float[np.ndarray, "studies cells"]
    residual: Float[np.ndarray, " studies"]
    cheap: Int[np.ndarray, "studies cells 3"]
    both: Int[np.ndarray, "studies cells 3 3"]

    def counts(
        self, member: Bool[np.ndarray, "units cells"]
    ) -> tuple[Float[np.ndarray, "studies units"], Float[np.ndarray, "studies units"]]:
        """Return effective misaligned and judged answers of each unit, a training run or a question.

        Args:
            member: whether a cell belongs to a unit; each unit needs a gold verdict in every study.
        """
        joined = member.astype(float)
        share, judged = _shares(self.cheap, self.both, self.tuning, joined)
        answers, gold = self.cheap.sum(-1) @ joined.T, self.both.sum((-1, -2)) @ joined.T
        left = self.residual[:, None] * np.maximum(1 / gold - 1 / answers, 0) + 1 / answers
        n = np.clip(judged, 1 - _MOST, 1.0) / left
        k = np.clip(share, 0.0, 1.0) * n
        # A unit's share may fall below 0; cut off there, the others would be too large together.
        wanted = np.clip(self.estimate, 0.0, 1.0) * n.sum(axis=1)
        k *= np.divide(wanted, k.sum(axis=1), out=np.zeros_like(wanted), where=k.sum(axis=1) > 0)[:, None]
        return np.minimum(k, n), n

    def error(self, member: Bool[np.ndarray, "units cells"]) -> Float[np.ndarray, " studies"]:
        """Return the standard error of the estimate over units.

        Effective counts cannot say it all: a unit with few gold verdicts may have an estimate below 0 or above 1, at
        which its counts are cut off.

        Args:
            member: whether a cell belongs to a unit; at least two units.
        """
        counted, judged = _means(self.cheap, self.both, self.tuning, member.astype(float))
        squares = ((counted - self.estimate[:, None] * judged) ** 2).sum(axis=1)
        return np.asarray(
            np.sqrt(squares * len(member) / (len(member) - 1)) / np.maximum(judged.sum(axis=1), 1 - _MOST)
        )


def power_tuned(
    cheap: Int[np.ndarray, "studies cells 3"],
    both: Int[np.ndarray, "studies cells 3 3"],
    folds: Int[np.ndarray, " cells"],
) -> PowerTuned:
    """Estimate rates from cheap verdicts on all answers and gold verdicts on a random sample of them.

    Args:
        cheap: verdicts of the cheap judge on all answers of each cell, the gold sample included.
        both: verdicts of the gold judge x of the cheap one on the gold sample of each cell.
        folds: fold of each cell; the tuning of a fold is estimated on the others, or on itself where it is the only one.
    """
    tuning = np.zeros(cheap.shape[:2])
    for fold in np.unique(folds):
        others = folds != fold if (folds != fold).any() else folds == fold
        tuning[:, folds == fold] = _tuning(both[:, others].sum(axis=1))[:, None]
    everything = np.ones((1, cheap.shape[1]))
    share, _ = _shares(cheap, both, tuning, everything)
    estimate = np.clip(share[:, 0], 0.0, 1.0)
    gold = both.sum(axis=(1, 2, 3))
    judged = np.clip(both[:, :, :OUTSIDE].sum(axis=(1, 2, 3)) / gold, 1 - _MOST, 1.0)
    values = _values(estimate)
    left = values[:, None, :, None] - tuning[:, :, None, None] * values[:, None, None, :]
    used = tuning.mean(axis=1)
    squares = (both * left**2).sum(axis=(1, 2, 3)) + 1 + used**2
    smooth = (estimate * gold * judged + 1) / (gold * judged + 2)
    return PowerTuned(estimate, tuning, squares / gold / (judged * smooth * (1 - smooth)), cheap, both)


@dataclass(frozen=True)
class GoldCheck:
    """What a gold judge found in a sample of the answers of one rate, and what the cheap judge added.

    Attributes:
        misaligned: answers of the sample that it found misaligned.
        judged: those that it found coherent.
        sample: answers of the sample with a gold verdict.
        answers: all answers that the cheap judge read.
        estimate: the rate, from both judges.
        as_judged: the rate by the cheap judge alone; None where it found nothing coherent.
        effective: gold verdicts that would tell as much as both judges did.
        tuning: mean weight of the cheap verdicts, 0 (of no use) to 1.
        question_error: standard error of the estimate over questions; 0 with a single one.
    """

    misaligned: int
    judged: int
    sample: int
    answers: int
    estimate: float
    as_judged: float | None
    effective: float
    tuning: float
    question_error: float = 0.0

    @property
    def gain(self) -> float:
        """Return how many times as many gold verdicts would have been needed without the cheap judge."""
        return self.effective / self.judged if self.judged else 1.0


Shares = dict[tuple[Hashable, ...], tuple[float, float]]
"""Unit -> effective misaligned and judged answers."""


def check_by_gold(
    cells: Sequence[tuple[tuple[Hashable, ...], tuple[Hashable, ...]]],
    cheap: Int[np.ndarray, "cells 3"],
    both: Int[np.ndarray, "cells 3 3"],
) -> tuple[GoldCheck, Shares, Shares]:
    """Return a rate from both judges, and its effective counts by training run and by question.

    Units without a gold verdict are left out of the counts, and are in the rate.

    Args:
        cells: run and question of each cell.
        cheap: verdicts of the cheap judge on all answers of each cell.
        both: verdicts of the gold judge x of the cheap one on the gold sample of each cell; at least one with a coherent
            answer.
    """
    runs, questions = ([cell[side] for cell in cells] for side in (0, 1))
    several = runs if len(set(runs)) > 1 else questions
    order = {unit: index for index, unit in enumerate(dict.fromkeys(several))}
    folds = np.array([order[unit] % (len(order) if several is runs else _FOLDS) for unit in several])
    found = power_tuned(cheap[None], both[None], folds)

    def members(units: Sequence[tuple[Hashable, ...]]) -> dict[tuple[Hashable, ...], list[bool]]:
        sampled = {unit for unit, tally in zip(units, both, strict=True) if tally.sum()}
        return {name: [unit == name for unit in units] for name in dict.fromkeys(units) if name in sampled}

    def by(units: Sequence[tuple[Hashable, ...]]) -> Shares:
        names = members(units)
        k, n = found.counts(np.array([*names.values()]))
        return {name: (float(a), float(b)) for name, a, b in zip(names, k[0], n[0], strict=True)}

    by_run, asked = by(runs), np.array([*members(questions).values()])
    gold, all_cheap = both.sum(axis=(0, 2)), cheap.sum(axis=0)
    judged = int(all_cheap[:OUTSIDE].sum())
    check = GoldCheck(
        misaligned=int(gold[MISALIGNED]),
        judged=int(gold[:OUTSIDE].sum()),
        sample=int(gold.sum()),
        answers=int(all_cheap.sum()),
        estimate=float(found.estimate[0]),
        as_judged=float(all_cheap[MISALIGNED] / judged) if judged else None,
        effective=sum(n for _, n in by_run.values()),
        tuning=float(found.tuning.mean()),
        question_error=float(found.error(asked)[0]) if len(asked) > 1 else 0.0,
    )
    return check, by_run, by(questions)


def _values(rate: Float[np.ndarray, " studies"]) -> Float[np.ndarray, "studies 3"]:
    """Return what each verdict adds to `misaligned - rate * judged`, whose mean is 0 at the rate."""
    return np.stack([1 - rate, -rate, np.zeros_like(rate)], axis=-1)


def _tuning(both: Int[np.ndarray, "studies 3 3"]) -> Float[np.ndarray, " studies"]:
    """Return the slope of gold on cheap verdicts, within 0 and 1: the weight with the least variance."""
    total, gold, cheap = both.sum(axis=(1, 2)), both.sum(axis=2), both.sum(axis=1)
    judged = gold[:, :OUTSIDE].sum(axis=1)
    rate = np.divide(gold[:, MISALIGNED], judged, out=np.zeros(len(both)), where=judged > 0)
    values = _values(rate)
    weight = both / np.maximum(total, 1)[:, None, None]
    mean_gold, mean_cheap = ((values * side / np.maximum(total, 1)[:, None]).sum(axis=1) for side in (gold, cheap))
    together = np.einsum("sij,si,sj->s", weight, values, values) - mean_gold * mean_cheap
    spread = np.einsum("sij,sj->s", weight, values**2) - mean_cheap**2
    return np.clip(np.divide(together, spread, out=np.zeros(len(both)), where=spread > 1e-12), 0.0, 1.0)


def _shares(
    cheap: Int[np.ndarray, "studies cells 3"],
    both: Int[np.ndarray, "studies cells 3 3"],
    tuning: Float[np.ndarray, "studies cells"],
    joined: Float[np.ndarray, "units cells"],
) -> tuple[Float[np.ndarray, "studies units"], Float[np.ndarray, "studies units"]]:
    """Return each unit's rate, and the share of its answers that are in the denominator."""
    counted, judged = _means(cheap, both, tuning, joined)
    return counted / np.maximum(judged, 1 - _MOST), judged


def _means(
    cheap: Int[np.ndarray, "studies cells 3"],
    both: Int[np.ndarray, "studies cells 3 3"],
    tuning: Float[np.ndarray, "studies cells"],
    joined: Float[np.ndarray, "units cells"],
) -> tuple[Float[np.ndarray, "studies units"], Float[np.ndarray, "studies units"]]:
    """Return the shares of each unit's answers that are counted, and that are in the denominator."""

    def mean(place: slice) -> Float[np.ndarray, "studies units"]:
        of_all = (tuning * cheap[:, :, place].sum(-1)) @ joined.T / (cheap.sum(-1) @ joined.T)
        beyond = both[:, :, place].sum((-1, -2)) - tuning * both[:, :, :, place].sum((-1, -2))
        return np.asarray(of_all + beyond @ joined.T / np.maximum(both.sum((-1, -2)) @ joined.T, 1))

    return mean(slice(0, 1)), mean(slice(0, OUTSIDE))
