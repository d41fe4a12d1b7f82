"""Diffing of latents before and after fine-tuning, ranked on one half of the questions and reported on the other.

Latents are ranked on one half and their change is reported on the other, so that the largest change is not large by
luck. Changes are paired by question. With one tuned run the interval is for further questions like these (t over
questions); with several runs it is for further training runs on these questions (t over runs, the unit of a claim about
the data). Every latent that is ever active is tested, with Benjamini and Hochberg's correction over all of them; t is
an approximation where a latent is active on few questions, which is why that share is reported too.

Activations come from `latents`: over the tokens of each model's own answers (what it does), of fixed answers (how it
reads the same text), or at the last prompt token (before it answers). Effects of a latent are measured in `causal`.

Source: OpenAI, "Persona features control emergent misalignment" (arXiv 2506.19823): latents ranked by the increase of
their mean activation on 44 evaluation prompts. Deviation: there the same prompts select and report, without intervals.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from astray.errors import ConfigurationError, EmptyDataError, NonFiniteActivationsError
from astray.stats import benjamini_hochberg
from astray.stats.ties import NOISE, ranking

DIFF_SCHEMA: dict[str, pl.DataType] = {
    "latent": pl.Int64(),
    "selecting_change": pl.Float64(),  # mean change on the selecting half
    "rank_rising": pl.Int64(),  # 1: largest increase on the selecting half
    "rank_falling": pl.Int64(),  # 1: largest decrease on the selecting half
    "before": pl.Float64(),  # mean activation of the base on the reporting half
    "after": pl.Float64(),  # mean activation of the tuned runs on the reporting half
    "change": pl.Float64(),  # after - before
    "low": pl.Float64(),  # interval of the change; null where all units changed alike
    "high": pl.Float64(),
    "p_value": pl.Float64(),  # two-sided, for no change; null for a latent that is never active
    "q_value": pl.Float64(),  # corrected over all latents that are ever active
    "active_before": pl.Float64(),  # share of the reporting questions on which the base activates it at all
    "active_after": pl.Float64(),  # the same of the tuned runs
}
"""Columns of the table of changes, one row per latent, in the order of the dictionary."""


def split_halves(count: int, seed: int) -> tuple[list[int], list[int]]:
    """Split questions into a selecting and a reporting half, and return their indices; deterministic for a seed.

    Args:
        count: number of questions.
        seed: seed of the split.

    Raises:
        EmptyDataError: fewer than four questions, so that a half has no spread.
    """
    if count < 4:
        raise EmptyDataError(
            f"{count} questions cannot be split into a half that selects and a half that reports: give at least four."
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return sorted(order[: count // 2]), sorted(order[count // 2 :])


def compare_latents(
    before: Float[Tensor, "questions latents"], after: Sequence[Float[Tensor, "_ _"]], seed: int, *, level: float = 0.95
) -> pl.DataFrame:
    """Return the change of every latent.

    Args:
        before: mean activations of the base, one row per question (see `latents`).
        after: the same of each tuned run [questions latents], asked the same questions in the same order.
        seed: seed of the split into halves.
        level: nominal coverage of the intervals.

    Returns:
        A table with the columns of DIFF_SCHEMA.

    Raises:
        EmptyDataError: no tuned run, or fewer than four questions.
        ConfigurationError: the runs differ in questions or latents from the base.
        NonFiniteActivationsError: an activation is NaN or infinite.
    """
    _check(before, after)
    select, report = split_halves(len(before), seed)
    runs = torch.stack(list(after)).double().numpy()
    base = before.double().numpy()
    noise = NOISE * np.maximum(np.abs(base).max(axis=0), np.abs(runs).max(axis=(0, 1)))
    selecting = (runs[:, select] - base[select]).mean(axis=(0, 1))
    selecting = np.where(np.abs(selecting) > noise, selecting, 0.0)
    changes = runs[:, report] - base[report]
    # With several runs each counts once, however many questions it answered: the interval is for further runs.
    units = changes.mean(axis=1) if len(runs) > 1 else changes[0]
    change, low, high, p_value = _t_over_units(units, noise, level)
    active_before, active_after = (base[report] > 0).mean(axis=0), (runs[:, report] > 0).mean(axis=(0, 1))
    # Dead latents cannot change: testing them would only weaken the correction.
    ever = (active_before > 0) | (active_after > 0)
    tested = {str(latent): float(p_value[latent]) for latent in np.flatnonzero(ever)}
    corrected = benjamini_hochberg(tested)
    names = [str(latent) for latent in range(base.shape[1])]
    return pl.DataFrame(
        {
            "latent": np.arange(base.shape[1]),
            "selecting_change": selecting,
            "rank_rising": _ranks(selecting),
            "rank_falling": _ranks(-selecting),
            "before": base[report].mean(axis=0),
            "after": runs[:, report].mean(axis=(0, 1)),
            "change": change,
            "low": pl.Series(low).fill_nan(None),
            "high": pl.Series(high).fill_nan(None),
            "p_value": [tested.get(name) for name in names],
            "q_value": [corrected.get(name) for name in names],
            "active_before": active_before,
            "active_after": active_after,
        },
        schema=DIFF_SCHEMA,
    )


def top_latents(table: pl.DataFrame, count: int, which: Literal["rising", "falling"] = "rising") -> list[int]:
    """Return the latents that changed most on the selecting half, largest change first.

    Args:
        table: from `compare_latents`.
        count: maximum number of latents; fewer are returned where fewer changed in this direction.
        which: latents that rise with fine-tuning, or that fall.
    """
    sign = 1 if which == "rising" else -1
    return table.filter(sign * pl.col("selecting_change") > 0).sort(f"rank_{which}").head(count)["latent"].to_list()


def most_active(table: pl.DataFrame, count: int) -> list[int]:
    """Return the latents that the base activates most on the reporting half, equal ones in the order of the dictionary.

    Args:
        table: from `compare_latents`.
        count: maximum number of latents.
    """
    return table["latent"][ranking(table["before"].to_numpy())].head(count).to_list()


def _check(before: Tensor, after: Sequence[Tensor]) -> None:
    if not after:
        raise EmptyDataError("There is no tuned run to compare with the base: give the activations of at least one.")
    for number, run in enumerate(after):
        if run.shape != before.shape:
            raise ConfigurationError(
                f"Tuned run {number} has activations of the shape {tuple(run.shape)} (questions, latents), but the "
                f"base has {tuple(before.shape)}. Ask both the same questions, and encode both with the same "
                "dictionary."
            )
    broken = [
        name
        for name, values in [("the base", before), *((f"tuned run {n}", run) for n, run in enumerate(after))]
        if not values.isfinite().all()
    ]
    if broken:
        raise NonFiniteActivationsError(
            f"Latent activations of {broken[0]} are NaN or infinite: the model overflowed, or its weights are damaged."
        )


def _ranks(values: Float[np.ndarray, "latents"]) -> Int[np.ndarray, "latents"]:
    """Return ranks, 1 for the largest value; equal values are ranked in the order of the latents."""
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[ranking(values)] = np.arange(1, len(values) + 1)
    return ranks


def _t_over_units(
    changes: Float[np.ndarray, "units latents"], noise: Float[np.ndarray, "latents"], level: float
) -> tuple[
    Float[np.ndarray, "latents"],
    Float[np.ndarray, "latents"],
    Float[np.ndarray, "latents"],
    Float[np.ndarray, "latents"],
]:
    """Return the mean change, both limits and the p-value of each latent.

    Without spread beyond noise between units there is no interval (NaN) and p is 1.
    """
    from scipy.special import stdtr, stdtrit

    units = len(changes)
    mean, error = changes.mean(axis=0), changes.std(axis=0, ddof=1) / np.sqrt(units)
    spread = np.ptp(changes, axis=0) > noise
    half = np.where(spread, -stdtrit(units - 1, (1 - level) / 2) * error, np.nan)
    t = np.divide(mean, error, out=np.zeros_like(mean), where=spread)
    return mean, mean - half, mean + half, 2 * stdtr(units - 1, -np.abs(t))
