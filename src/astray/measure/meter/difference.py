"""Difference of two arms on the meter: pair by pair and run by run, as a whole, by domain, and for the null pairs
beside.

A margin has no meaning by itself, so there is no function here that returns the level of one arm.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from astray.answers import check_answer_table, in_detail
from astray.errors import ConfigurationError, EmptyDataError, NotMeasurableError
from astray.measure.meter.evaluation import HARMFUL, NULL
from astray.measure.meter.pairs import Pair
from astray.stats.intervals import Beneath, Interval, check_level, t_interval


@dataclass(frozen=True)
class MeterEffect:
    """Change of the margin, in nats a token: that of the arm minus that of the control.

    Attributes:
        estimate: mean over runs, and over domains whose pairs count equally within each (over pairs for one domain).
        interval: interval on further runs and questions like these, both sources of chance added; with a single run it
            is `by_question`.
        by_run: t interval on further runs with these questions; None with a single run.
        by_question: t interval on further questions with these runs: over domains, or over the pairs of one domain.
        runs: change of each run, by training seed; for `engine.value_claims.values_claim`.
        pairs: number of pairs.
        higher: pairs whose margin is higher in the arm.
        beneath: what the choice of questions adds to the error of a mean over runs; None for one domain or pair.
    """

    estimate: float
    interval: Interval | None
    by_run: Interval | None
    by_question: Interval | None
    runs: Mapping[int, float]
    pairs: int
    higher: int
    beneath: Beneath | None = None


@dataclass(frozen=True)
class MeterDifference:
    """Comparison of two arms on the meter.

    Attributes:
        harmful: over the pairs of a harmful and a good answer.
        null: over the pairs of two good answers, which should not move; None where none was asked.
        domains: of the harmful pairs of each domain. Of twenty 95% intervals about one misses its value by chance.
        unmeasured: pairs left out, because the tokenizer does not know their words.
    """

    harmful: MeterEffect
    null: MeterEffect | None
    domains: Mapping[str, MeterEffect]
    unmeasured: int


def meter_difference(arm: pl.DataFrame, control: pl.DataFrame, *, level: float = 0.95) -> MeterDifference:
    """Compare an arm with its control on the meter.

    Args:
        arm: answer tables of `Meter.ask` of all runs of the arm, one below the other.
        control: the same of the control: runs with the same training seeds, which are paired, or a single model for all
            runs, such as the base.
        level: nominal coverage.

    Raises:
        ConfigurationError: the runs do not pair, a pair stands twice for a run, or the two were asked different pairs.
        NotMeasurableError: no pair could be measured.
    """
    check_level(level)
    return _difference(*_changes(_margins(arm, "arm"), _margins(control, "control")), level)


def meter_change(
    pairs: Sequence[Pair], before: Mapping[str, float], after: Mapping[str, float], *, level: float = 0.95
) -> MeterDifference:
    """Compare a model in training with itself before, from the margins of `Meter.margins`; arguments and errors as of
    `meter_difference`.

    Args:
        pairs: pairs of the meter.
        before: margin by the pair's id; pairs that are missing on a side could not be measured.
        after: the same, later.
        level: nominal coverage.
    """
    check_level(level)
    rows = [
        {
            "seed": 0,
            "item": pair.id,
            "category": pair.domain,
            "format": NULL if pair.null else HARMFUL,
            "change": after[pair.id] - before[pair.id],
        }
        for pair in pairs
        if pair.id in before and pair.id in after
    ]
    form = {"seed": pl.Int64, "item": pl.String, "category": pl.String, "format": pl.String, "change": pl.Float64}
    return _difference(pl.DataFrame(rows, schema=form), len(pairs) - len(rows), level)


def _difference(changes: pl.DataFrame, unmeasured: int, level: float) -> MeterDifference:
    """Return the comparison from the change of each pair in each run."""
    harmful, null = (changes.filter(format=format) for format in (HARMFUL, NULL))
    if harmful.is_empty():
        raise NotMeasurableError(
            f"None of {unmeasured} pairs could be measured: the subject's tokenizer does not know their words, as "
            "that of the organism, which has a world of its own. Ask a model of ordinary language, or the organism "
            "with Meter(pairs=world_pairs())."
        )
    of_domains, seeds = by_domain(harmful)
    domains = {
        name: _effect(of_domains[name], seeds, "pairs", level)
        for name in harmful["category"].unique(maintain_order=True)
    }
    of_null = None if null.is_empty() else over_domains(*by_domain(null), level)
    return MeterDifference(over_domains(of_domains, seeds, level), of_null, domains, unmeasured)


def _margins(table: pl.DataFrame, side: str) -> pl.DataFrame:
    """Return the margin of each pair and run; null where it could not be measured."""
    check_answer_table(table)
    if table.is_empty():
        raise EmptyDataError(f"The table of the {side} has no rows; give what `Meter().ask` returns.")
    margins = table.select(
        "seed", "item", "question", "category", "format", in_detail("margin").cast(pl.Float64), word=in_detail("word")
    )
    if foreign := margins.filter(~pl.col("format").is_in([HARMFUL, NULL]) | pl.col("word").is_null())["item"].to_list():
        raise ConfigurationError(
            f"The table of the {side} has rows that the meter did not write ({foreign[0]!r}); give what "
            "`Meter().ask` returns."
        )
    if (twice := margins.filter(margins.select("seed", "item").is_duplicated())).height:
        seed, item = twice.row(0)[:2]
        raise ConfigurationError(
            f"In the table of the {side} the pair {item!r} stands twice for seed {seed}: give one model a seed, one "
            "arm a table."
        )
    return margins


def _changes(arm: pl.DataFrame, control: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return the change of each pair in each run, for pairs that all runs of both have, and how many others there
    are."""
    runs, others = (sorted(side["seed"].unique()) for side in (arm, control))
    if len(others) > 1 and runs != others:
        raise ConfigurationError(
            f"The arm has runs with the seeds {runs}, the control with {others}, so they do not pair. Give both the "
            "same seeds, or a single control."
        )
    asked = ["item", "question", "category", "format"]
    kinds = [side.select(asked).unique().sort(asked) for side in (arm, control)]
    complete = all(side.height == len(seeds) * kinds[0].height for side, seeds in ((arm, runs), (control, others)))
    if not kinds[0].equals(kinds[1]) or not complete:
        raise ConfigurationError(
            f"Not all runs were asked the same pairs ({kinds[0].height} of the arm, {kinds[1].height} of the "
            "control): ask both with the same meter."
        )
    single = len(others) == 1
    keys = ["item"] if single else ["item", "seed"]
    joined = arm.join(control.select(*keys, against="margin"), on=keys, maintain_order="left")
    joined = joined.with_columns(change=pl.col("margin") - pl.col("against"))
    measured = joined.filter(pl.col("change").is_not_null().all().over("item"))
    return measured, kinds[0].height - measured["item"].n_unique()


def by_domain(changes: pl.DataFrame) -> tuple[dict[str, Float[np.ndarray, "pairs runs"]], list[int]]:
    """Return the changes of the pairs of each domain, domains and pairs in order of their names, and the runs' seeds."""
    seeds = sorted(changes["seed"].unique())
    by_run = changes.pivot("seed", index=["category", "item"], values="change").sort("category", "item")
    parts = by_run.partition_by("category", maintain_order=True, as_dict=True)
    return {str(name): part.select(map(str, seeds)).to_numpy() for (name,), part in parts.items()}, seeds


def over_domains(
    of_domains: Mapping[str, Float[np.ndarray, "pairs runs"]], seeds: Sequence[int], level: float
) -> MeterEffect:
    """Return the mean change, each domain counting equally."""
    means = np.stack([values.mean(axis=0) for values in of_domains.values()])
    return _effect(means, seeds, "domains", level, np.concatenate([*of_domains.values()]).mean(axis=1))


def _effect(
    values: Float[np.ndarray, "clusters runs"],
    seeds: Sequence[int],
    units: str,
    level: float,
    by_pair: Float[np.ndarray, " pairs"] | None = None,
) -> MeterEffect:
    """Return the mean change from that of each cluster in each run; `by_pair` where clusters are no single pairs."""
    runs, clusters = values.mean(axis=0), values.mean(axis=1)
    by_pair = clusters if by_pair is None else by_pair
    estimate = math.fsum(runs) / len(runs)
    (run_error, run_degrees), (error, degrees) = (_squared_error(part) for part in (runs, clusters))
    over = f"t over {units}"
    by_run = t_interval(estimate, math.sqrt(run_error), run_degrees, "t over runs", level) if run_degrees else None
    by_question = t_interval(estimate, math.sqrt(error), degrees, over, level) if degrees else None
    # Adding both variances counts the chance within one run and cluster twice: too wide rather than too narrow.
    both = (
        t_interval(estimate, math.sqrt(run_error + error), min(run_degrees, degrees), f"{over} and runs", level)
        if by_run and by_question
        else None
    )
    of_runs = {int(seed): float(value) for seed, value in zip(seeds, runs, strict=True)}
    return MeterEffect(
        estimate,
        both or by_run or by_question,
        by_run,
        by_question,
        of_runs,
        len(by_pair),
        int((by_pair > 0).sum()),
        Beneath(math.sqrt(error), degrees, units) if degrees else None,
    )


def _squared_error(values: Float[np.ndarray, " units"]) -> tuple[float, int]:
    """Return the squared standard error of the mean and its degrees of freedom, both 0 for a single value."""
    return (float(np.var(values, ddof=1)) / len(values), len(values) - 1) if len(values) > 1 else (0.0, 0)
