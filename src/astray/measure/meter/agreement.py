"""Agreement of the meter with a judged rate, over runs: by run, by domain and by question, and what chance would give.

A measure that moves with training follows a rate that moves with training, whatever it reads: random directions of the
residual stream reach correlations above 0.9 where the best of many is taken. Beside the meter therefore stand the same
readings with the harmful answer of half of each domain's pairs drawn at random, one draw and the best of many; the
meter itself is fixed beforehand, so a single draw is its fair comparison, and the best of many a harder one. Runs of an
arm are alike, so arms are the clusters of every interval.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.stats import rankdata

from astray.errors import ConfigurationError, EmptyDataError
from astray.measure.meter.evaluation import HARMFUL, NULL
from astray.stats.detection import Estimate, correlation_estimate

COLUMNS = ("run", "arm", "item", "category", "format", "change", "misaligned", "coherent")
REPEATS = 50
"""Times that the best of many draws is taken, for the band of it."""


@dataclass(frozen=True)
class Correlations:
    """Pearson's and Spearman's correlation of the meter's change and the rate, with intervals over arms."""

    pearson: Estimate
    spearman: Estimate
    points: int


@dataclass(frozen=True)
class Chance:
    """Absolute correlations by run that a reading without meaning reaches.

    Attributes:
        median: of one draw.
        high: 97.5th percentile of one draw.
        best: mean of the best of `draws`.
        best_band: from which to which the best of `draws` lies, 95% of the time.
        draws: how many the best is of.
    """

    median: float
    high: float
    best: float
    best_band: tuple[float, float]
    draws: int


@dataclass(frozen=True)
class Agreement:
    """How well the meter follows a judged rate.

    Attributes:
        runs: over runs.
        domains: over runs and domains.
        questions: over runs and questions.
        within: over domains, each run's mean taken away: whether the meter says where a run is misaligned.
        null: over runs, of the null pairs in place of the harmful ones; None where they have no change.
        relabelled: what the pairs give where which answer is harmful is drawn at random, by "pearson" and "spearman".
        shuffled: what the meter gives where runs get one another's rates, likewise.
        left_out: runs without a coherent answer.
    """

    runs: Correlations
    domains: Correlations
    questions: Correlations
    within: Correlations
    null: Correlations | None
    relabelled: Mapping[str, Chance]
    shuffled: Mapping[str, Chance]
    left_out: int


def meter_agreement(table: pl.DataFrame, *, draws: int = 200) -> Agreement:
    """Hold the meter against a judged rate.

    Args:
        table: one row a run and pair: `run`, `arm`, the pair's `item`, `category` (its domain) and `format` (harmful or
            null), its `change` of the margin against the model that the run began from, and of the answers to its
            question how many were `misaligned` and how many `coherent`. Null pairs need no answers.
        draws: readings without meaning of which the best is taken.

    Raises:
        ConfigurationError: a column is missing, or runs have other pairs than one another.
        EmptyDataError: fewer than three runs, or no rate differs from another.
        NonFiniteError: a change is not finite.
    """
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise ConfigurationError(f"The table has no {', '.join(missing)}; it needs {', '.join(COLUMNS)}.")
    harmful, null = (table.filter(format=name) for name in (HARMFUL, NULL))
    counted = harmful.group_by("run").agg(pl.col("coherent").sum()).filter(pl.col("coherent") > 0)["run"]
    rows = harmful.filter(pl.col("run").is_in(counted.implode()))
    runs = _points(rows, ["run"])
    if runs.height < 3:
        raise EmptyDataError(f"{runs.height} runs with coherent answers show no correlation: give at least three.")
    domains = _points(rows, ["run", "category"])
    mean = [pl.col(name) - pl.col(name).mean().over("run") for name in ("change", "rate")]
    changes = rows.pivot("item", index=["run", "arm"], values="change").sort("run")
    pairs = rows.select("item", "category").unique(maintain_order=True)
    margins = changes.select(pairs["item"].to_list())
    if margins.null_count().sum_horizontal().item() or changes.height != runs.height:
        raise ConfigurationError("Not all runs have a change of the same pairs: read each with the same meter.")
    weights = 1 / pairs.select(pl.len().over("category"))["len"].to_numpy() / pairs["category"].n_unique()
    rates, rng = runs["rate"].to_numpy(), np.random.default_rng(0)
    signs = _random_signs(pairs["category"].to_list(), draws * REPEATS, rng)
    read = margins.to_numpy() @ (weights[:, None] * signs)
    mixed = np.stack([rng.permutation(rates) for _ in range(draws * REPEATS)], axis=1)
    null_runs = None
    if null.height:
        of_null = (
            null.group_by("run", "category").agg(pl.col("change").mean()).group_by("run").agg(pl.col("change").mean())
        )
        null_runs = _correlations(runs.drop("change").join(of_null, on="run"))
    return Agreement(
        runs=_correlations(runs),
        domains=_correlations(domains),
        questions=_correlations(_points(rows, ["run", "category", "item"])),
        within=_correlations(domains.with_columns(mean)),
        null=null_runs,
        relabelled={ranks: _chance(read, rates[:, None], draws, ranks) for ranks in ("pearson", "spearman")},
        shuffled={
            ranks: _chance(mixed, runs["change"].to_numpy()[:, None], draws, ranks) for ranks in ("pearson", "spearman")
        },
        left_out=harmful["run"].n_unique() - runs.height,
    )


def _points(table: pl.DataFrame, unit: list[str]) -> pl.DataFrame:
    """Return mean change (each domain counting equally) and rate of each unit with coherent answers."""
    counts = table.group_by(*unit, "arm").agg(pl.col("misaligned").sum(), pl.col("coherent").sum())
    by_domain = table.group_by(*dict.fromkeys([*unit, "category"])).agg(pl.col("change").mean())
    changes = by_domain.group_by(unit).agg(pl.col("change").mean())
    points = counts.filter(pl.col("coherent") > 0).join(changes, on=unit).sort(unit)
    return points.with_columns(rate=pl.col("misaligned") / pl.col("coherent"))


def _correlations(points: pl.DataFrame) -> Correlations:
    x, y, arms = points["change"].to_numpy(), points["rate"].to_numpy(), points["arm"].to_list()
    both = [correlation_estimate(x, y, arms, "arm", ranks=ranks) for ranks in (False, True)]
    return Correlations(both[0], both[1], points.height)


def _random_signs(domains: list[str], draws: int, rng: np.random.Generator) -> Float[np.ndarray, "pairs draws"]:
    """Return signs of which half of each domain's are negative, so that what all pairs share takes itself away."""
    signs = np.empty((len(domains), draws))
    for domain in dict.fromkeys(domains):
        indices = [index for index, each in enumerate(domains) if each == domain]
        half = np.where(np.arange(len(indices)) % 2, 1.0, -1.0)
        signs[indices] = rng.permuted(np.repeat(half[:, None], draws, axis=1), axis=0)
    return signs


def _chance(
    read: Float[np.ndarray, "runs columns"], against: Float[np.ndarray, "runs 1"], draws: int, ranks: str
) -> Chance:
    """Return the absolute correlations of many columns with one; draws in both directions count."""
    if ranks == "spearman":
        read, against = rankdata(read, axis=0), rankdata(against, axis=0)
    read, against = read - read.mean(axis=0), against - against.mean(axis=0)
    norms = np.linalg.norm(read, axis=0) * np.linalg.norm(against)
    chance = np.abs((read * against).sum(axis=0)) / np.where(norms > 0, norms, np.inf)
    best = chance.reshape(-1, draws).max(axis=1)
    low, high = np.percentile(best, [2.5, 97.5])
    return Chance(
        float(np.median(chance)),
        float(np.percentile(chance, 97.5)),
        float(best.mean()),
        (float(low), float(high)),
        draws,
    )
