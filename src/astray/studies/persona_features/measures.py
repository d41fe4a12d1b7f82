"""Measures of the persona study beyond rates: reductions, lost coherence, warning along the mixing sweep, data
screening.

Each function reads the steps' tables and returns one value for each training run, an estimate, or a claim.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from astray.engine.claims import NOTHING_LEFT_OUT, not_run
from astray.engine.findings import Findings, Needs, interval_row
from astray.engine.summary import ClaimRow, ClaimStatus, PublishedFigure
from astray.outcomes import JUDGED
from astray.stats.claims import Decision, decide
from astray.stats.detection import Estimate, correlation_estimate
from astray.stats.intervals import Counts
from astray.stats.measures import COHERENT
from astray.stats.onset import Onset, onset
from astray.stats.rates import Rate
from astray.stats.ties import level_ties
from astray.stats.warning import (
    FEWEST_READINGS,
    NetShare,
    Warned,
    difference,
    net_share,
    net_share_of_counts,
    over_doses,
    over_training_runs,
)
from astray.studies.persona_features.analyses import Name
from astray.studies.persona_features.steps import BEST_FILE

EARLY = 0.10
"""Shares of bad rows up to which a warning is early: published misalignment appears between 25% and 75%
(2506.19823)."""


def coherence(findings: Findings, evaluation: str, arm: str) -> Rate:
    """Return the share of answers that are coherent, without those at which the judge failed."""
    return findings.rate(arm, None, evaluation=evaluation, format="all", measure=COHERENT)


def random_counts(findings: Findings) -> list[Counts]:
    """Return misaligned and coherent held-out answers under all random directions added to the base, by seed."""
    screens = [analysis.table("held_out.parquet") for analysis in findings.analysed(Name.CAUSES)]
    chosen = [screen.filter(kind="random direction", side="base +") for screen in screens]
    return [(int(row["misaligned"].sum()), int(row.select(JUDGED).sum().sum_horizontal()[0])) for row in chosen]


@dataclass(frozen=True)
class Sweep:
    """Course of one measure along the mixing sweep; "behaviour" is the rate of misaligned answers.

    Attributes:
        onset: smallest share of bad rows at which its mean over questions departs from the control's.
        shares: seed -> arm -> net share of its readings that are found at 5% false alarms.
    """

    onset: Onset
    shares: Mapping[str, Mapping[str, NetShare]]

    def at(self, arms: Sequence[str]) -> Warned:
        """Return the mean net share in these arms, over training runs."""
        return over_training_runs([over_doses([of_run[arm] for arm in arms]) for of_run in self.shares.values()])


def sweeps(findings: Findings, rates: Mapping[str, Rate], doses: Mapping[str, float], control: str) -> dict[str, Sweep]:
    """Return the course of each measure and of behaviour, over the same training runs.

    Empty where no run has readings and judged answers in all arms, at least `FEWEST_READINGS` of each.

    Args:
        findings: findings with the tables of the monitored runs.
        rates: of the arms of the sweep and of the control.
        doses: arm -> share of bad examples, ascending.
        control: the arm without bad examples.
    """
    arms = (control, *doses)
    read: dict[str, dict[str, dict[str, list[float]]]] = {}
    for analysis in findings.analysed(Name.WARNING):
        for (measure, seed, arm), rows in analysis.table("watched.parquet").group_by(
            "measure", "seed", "arm", maintain_order=True
        ):
            read.setdefault(str(measure), {}).setdefault(str(seed), {})[str(arm)] = rows["value"].to_list()
    counts = {arm: rates[arm].seed_counts for arm in arms}
    seeds = [
        seed
        for seed in counts[control]
        if all(counts[arm].get(seed, (0, 0))[1] >= FEWEST_READINGS for arm in arms)
        and read
        and all(
            len(of_measure.get(seed, {}).get(arm, ())) >= FEWEST_READINGS
            for of_measure in read.values()
            for arm in arms
        )
    ]
    if not seeds:
        return {}
    means = {
        measure: {seed: {arm: statistics.fmean(runs[seed][arm]) for arm in arms} for seed in seeds}
        for measure, runs in read.items()
    }
    shares = {
        measure: {seed: {arm: net_share(runs[seed][arm], runs[seed][control]) for arm in doses} for seed in seeds}
        for measure, runs in read.items()
    }
    means["behaviour"] = {seed: {arm: counts[arm][seed][0] / counts[arm][seed][1] for arm in arms} for seed in seeds}
    answers = {seed: min(len(runs[seed][control]) for runs in read.values()) for seed in seeds}
    shares["behaviour"] = {
        seed: {arm: net_share_of_counts(counts[arm][seed], counts[control][seed], answers[seed]) for arm in doses}
        for seed in seeds
    }
    departures = {
        measure: onset(
            list(doses.values()),
            [[run[arm] for arm in doses] for run in runs.values()],
            [run[control] for run in runs.values()],
        )
        for measure, runs in means.items()
    }
    return {measure: Sweep(departures[measure], shares[measure]) for measure in shares}


def early_arms(doses: Mapping[str, float]) -> list[str]:
    """Return the arms of the sweep in which a warning would be early."""
    return [arm for arm, share in doses.items() if share <= EARLY]


def warning_claim(
    id: str,
    statement: str,
    measure: str,
    courses: Mapping[str, Sweep],
    doses: Mapping[str, float],
    published: PublishedFigure,
    needs: Needs = NOTHING_LEFT_OUT,
) -> ClaimRow:
    """Return a claim that a measure warns early: at small shares of bad rows it finds more than behaviour does.

    Both have the same false-alarm rate and one answer a reading; the interval of the paired difference over training
    runs decides. Where arms of the sweep were left out (`needs`) it is not run.
    """
    fields: dict[str, Any] = {
        "estimate": None,
        "interval": None,
        "control_estimate": None,
        "p_value": None,
        "n": 0,
        "verdict": Decision.UNDECIDED,
    }
    if needs:
        fields |= not_run(needs)
    elif measure not in courses:
        why = (
            f"No training run has {FEWEST_READINGS} readings and as many coherent answers at every share, which 5% "
            "false alarms take."
        )
        fields |= {"status": ClaimStatus.NOT_ESTIMABLE, "note": why}
    else:
        fields |= _against_behaviour(courses[measure], courses["behaviour"], early_arms(doses))
    return ClaimRow(
        id=id,
        statement=statement,
        expected="the 95% interval of the difference of net shares lies at or above 0%",
        region=(0.0, None),
        unit="training run",
        control="behaviour: misaligned answers, at the same false-alarm rate and number of answers",
        p_holm=None,
        published=published,
        **fields,
    )


def _against_behaviour(own: Sweep, behaviour: Sweep, early: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a claim that compares a measure with behaviour, run by run, over the early arms."""
    # Paired by run: the measure and the behaviour of one training share its chance.
    pairs = [
        (over_doses([runs[seed][arm] for arm in early]) for runs in (own.shares, behaviour.shares))
        for seed in own.shares
    ]
    more = over_training_runs([difference(*pair) for pair in pairs])
    note = f"Net share found: {share_text(own.at(early))}; by behaviour {share_text(behaviour.at(early))}. " + (
        f"Departs from its control at {dose_text(own.onset)}, behaviour at {dose_text(behaviour.onset)}."
        if more.n > 1
        else "With a single training run there is no interval, so nothing is decided."
    )
    return {
        "estimate": more.share,
        "interval": interval_row(more.interval),
        "control_estimate": behaviour.at(early).share,
        "p_value": more.p_value,
        "n": more.n,
        "verdict": decide(more.share, more.interval, at_least=0.0),
        "note": note,
    }


def dose_text(onset: Onset) -> str:
    """Return an onset in words."""
    return "none" if onset.dose is None else f"{onset.dose:.0%} bad rows"


def share_text(warned: Warned) -> str:
    """Return a net share with its interval."""
    return f"{warned.share:.1%}" + (
        f" ({warned.interval.low:.1%} to {warned.interval.high:.1%})" if warned.interval else ""
    )


def ranking(findings: Findings, rates: Mapping[str, Rate]) -> Estimate | None:
    """Return Spearman's correlation of the projection differences with the mean rates after training, over data sets;
    None where one of them does not vary."""
    screened = findings.analysed(Name.SCREENING)
    ranked = screened[0].table("ranked.parquet").select("name", "difference").iter_rows() if screened else ()
    pairs = [(name, expected, rates[name].rate) for name, expected in ranked if name in rates]
    measured = [(name, expected, rate) for name, expected, rate in pairs if rate is not None]
    if any(len({pair[side] for pair in measured}) < 2 for side in (1, 2)):
        return None
    names, expected, observed = zip(*measured, strict=True)
    return correlation_estimate(
        level_ties(np.array(expected)), level_ties(np.array(observed)), names, "data set", ranks=True
    )


def margins(findings: Findings) -> tuple[list[float], float]:
    """Return the average precision of the projection difference minus that of the answers' length, for each mix, and the
    standard error that the rows of the mixes leave at least.

    Mixes share their rows, so their errors are averaged and do not cancel.
    """
    mixes = bad_rows(findings).values()
    widths = [
        [mix[of]["high"] - mix[of]["low"] if mix[of]["low"] is not None else 0.0 for of in ("precision", "length")]
        for mix in mixes
    ]
    error = sum(math.hypot(*width) for width in widths) / max(1, len(widths)) / (2 * 1.96)
    return [mix["precision"]["value"] - mix["length"]["value"] for mix in mixes], error


def bad_rows(findings: Findings) -> dict[str, dict]:
    """Return how well bad examples are found, by the mix's name; empty where nothing was screened."""
    return next((analysis.json("bad_rows.json") for analysis in findings.analysed(Name.SCREENING)), {})


def by_kind(findings: Findings, side: str) -> dict[str, list[float]]:
    """Return held-out rates of a side: kind of candidate -> one value for each seed.

    Of the latents, the one that the search chose; of other kinds, the mean.
    """
    rates: dict[str, list[float]] = {}
    for analysis in findings.analysed(Name.CAUSES):
        best = analysis.json(BEST_FILE)["name"]
        shown = analysis.table("held_out.parquet").filter(
            pl.col("side") == side, (pl.col("kind") != "latent") | (pl.col("candidate") == best)
        )
        for (kind,), rows in shown.group_by("kind", maintain_order=True):
            values: Sequence[float] = rows["rate"].drop_nulls().to_list()
            if values:
                rates.setdefault(str(kind), []).append(sum(values) / len(values))
    return rates
