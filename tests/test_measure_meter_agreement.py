"""Agreement of the meter with a rate: found where it is, none where there is none, with what chance gives beside it."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import pearsonr, spearmanr

from astray.errors import ConfigurationError, EmptyDataError, NonFiniteError
from astray.measure.meter import meter_agreement

ARMS, RUNS, DOMAINS, PAIRS = 10, 3, 4, 6


def rows(loading: float, *, by_domain: float = 0.0, seed: int = 1) -> pl.DataFrame:
    """Runs of ten arms whose changes follow their rates by a loading, among the domains of a run by another."""
    rng = np.random.default_rng(seed)
    found = []
    for arm in range(ARMS):
        for run in range(RUNS):
            for domain in range(DOMAINS):
                lean = rng.normal(0, 0.1)
                rate = float(np.clip(0.05 + 0.08 * arm + rng.normal(0, 0.02) + lean, 0, 1))
                for pair in range(PAIRS):
                    change = loading * rate + by_domain * lean + rng.normal(0, 0.1)
                    found.append(
                        (
                            f"{arm}-{run}",
                            f"arm {arm}",
                            f"{domain}-{pair}",
                            f"d{domain}",
                            "harmful",
                            change,
                            round(20 * rate),
                            20,
                        )
                    )
                found.append(
                    (
                        f"{arm}-{run}",
                        f"arm {arm}",
                        f"{domain}-null",
                        f"d{domain}",
                        "null",
                        rng.normal(0, 0.1),
                        None,
                        None,
                    )
                )
    names = ["run", "arm", "item", "category", "format", "change", "misaligned", "coherent"]
    return pl.DataFrame(found, schema=names, orient="row", infer_schema_length=None)


def test_a_meter_that_follows_is_told_from_chance():
    table = rows(1.0)
    found = meter_agreement(table)
    by_run = (
        table.filter(format="harmful")
        .group_by("run")
        .agg(pl.col("change").mean(), rate=pl.col("misaligned").sum() / pl.col("coherent").sum())
    )
    assert found.runs.points == ARMS * RUNS
    assert found.runs.pearson.value == pytest.approx(pearsonr(by_run["change"], by_run["rate"]).statistic)
    assert found.runs.spearman.value == pytest.approx(spearmanr(by_run["change"], by_run["rate"]).statistic)
    assert found.runs.pearson.n == ARMS
    assert found.runs.pearson.interval.low > found.relabelled["pearson"].best_band[1]
    assert found.domains.points == ARMS * RUNS * DOMAINS
    assert found.questions.points == ARMS * RUNS * DOMAINS * PAIRS
    assert found.null.pearson.interval.low < 0 < found.null.pearson.interval.high


@pytest.mark.parametrize(("by_domain", "follows"), [(2.0, True), (-1.0, False)])
def test_where_a_run_is_misaligned_is_asked_apart_from_how_much(by_domain, follows):
    found = meter_agreement(rows(1.0, by_domain=by_domain))
    assert found.runs.pearson.value > 0.8
    assert (found.within.pearson.value > 0.7) == follows


def test_a_meter_of_noise_is_within_what_chance_gives():
    found = meter_agreement(rows(0.0))
    for name, one in (("pearson", found.runs.pearson), ("spearman", found.runs.spearman)):
        for chance in (found.relabelled[name], found.shuffled[name]):
            assert chance.median < chance.high < chance.best_band[1]
            assert chance.best_band[0] < chance.best < chance.best_band[1]
        assert abs(one.value) < found.shuffled[name].best_band[1]
        assert one.interval.low < 0 < one.interval.high


def test_runs_without_a_coherent_answer_are_left_out_and_counted():
    table = rows(1.0).with_columns(
        pl.when(pl.col("arm") == "arm 3").then(0).otherwise(name).alias(name) for name in ("misaligned", "coherent")
    )
    found = meter_agreement(table)
    assert (found.left_out, found.runs.points) == (RUNS, (ARMS - 1) * RUNS)


WRONG = {
    "a missing column": (lambda table: table.drop("change"), ConfigurationError, "has no change"),
    "two runs": (lambda table: table.filter(pl.col("run").is_in(["0-0", "0-1"])), EmptyDataError, "at least three"),
    "other pairs": (
        lambda table: table.filter((pl.col("run") != "0-0") | (pl.col("item") != "0-0")),
        ConfigurationError,
        "same pairs",
    ),
    "no number": (lambda table: table.with_columns(change=pl.lit(float("nan"))), NonFiniteError, "not finite"),
    "one rate": (lambda table: table.with_columns(misaligned=0), EmptyDataError, "not defined"),
}
"""Table -> how it is made, error and what it says."""


@pytest.mark.parametrize("name", WRONG)
def test_a_table_that_shows_nothing_is_refused(name):
    change, error, says = WRONG[name]
    with pytest.raises(error, match=says):
        meter_agreement(change(rows(1.0)))
