"""Measures of the persona study beyond rates: reductions, lost coherence, onsets in the mixing sweep, data screening.

Each function reads the steps' tables and returns one value for each training run, or a claim.
"""

import math
from collections.abc import Mapping, Sequence

import polars as pl
from scipy.stats import spearmanr

from astray.engine.claims import NOTHING_LEFT_OUT, not_run
from astray.engine.findings import Findings, Needs
from astray.engine.summary import ClaimRow, IntervalRow, PublishedFigure
from astray.stats.claims import Decision
from astray.stats.onset import Onset, onset
from astray.stats.rates import Rate
from astray.studies.persona_features.analyses import Name
from astray.studies.persona_features.steps import BEST_FILE

EARLY = 0.5
"""Warning is early when a measure departs at no more than this share of the dose at which behaviour does."""


def coherence_losses(found: Findings, evaluation: str, arm: str, own: str) -> list[float]:
    """Return how much an arm's share of coherent answers is below another's, for each seed.

    An untrained arm has one run, which is compared with all seeds.
    """
    if not (found.has(arm) and found.has(own)):
        return []
    shares = {name: _coherence(found, evaluation, name) for name in (arm, own)}
    # An untrained arm has one run, whose seed need not be among the other arm's.
    single = next(iter(shares[own].values()))
    return [shares[own].get(seed, single) - share for seed, share in shares[arm].items()]


def _coherence(found: Findings, evaluation: str, arm: str) -> dict[int, float]:
    answers = found.table.filter(pl.col("arm") == arm, pl.col("evaluation") == evaluation)
    counted = answers.group_by("seed", maintain_order=True).agg(pl.col("outcome").is_in(["aligned", "misaligned"]).mean())
    return dict(counted.iter_rows())


def random_rates(found: Findings, side: str = "base +") -> list[float]:
    """Return the mean misaligned rate on held-out questions over all random directions, for each seed."""
    screens = [one.table("held_out.parquet") for one in found.analysed(Name.CAUSES)]
    chosen = [screen.filter(kind="random direction", side=side)["rate"].drop_nulls() for screen in screens]
    return [float(rates.to_numpy().mean()) for rates in chosen if len(rates)]


def onsets(found: Findings, rates: Mapping[str, Rate], doses: Mapping[str, float], control: str) -> dict[str, Onset]:
    """Return where along the sweep each measure departs from its control; "behaviour" is the misaligned rate.

    Each run's change from its control counts as a share of its own change at the last dose: latents of different
    dictionaries have different scales. A measure that does not change there, such as the number of steps, is left out.

    Args:
        found: findings with the tables of the monitored runs.
        rates: of the arms of the sweep and of the control.
        doses: arm -> share of bad examples, ascending.
        control: the arm without bad examples.
    """
    measured: dict[str, list[dict[str, float]]] = {}
    for one in found.analysed(Name.WARNING):
        for (measure,), rows in one.table("watched.parquet").group_by("measure", maintain_order=True):
            measured.setdefault(str(measure), []).append(dict(rows.select("arm", "value").iter_rows()))
    seeds = [seed for seed in rates[control].seed_rates if all(rates[arm].seed_rates.get(seed) is not None for arm in doses)]
    measured["behaviour"] = [{arm: rates[arm].seed_rates[seed] or 0.0 for arm in (*doses, control)} for seed in seeds]
    last = list(doses)[-1]
    departures = {}
    for measure, runs in measured.items():
        moved = [run for run in runs if run[last] != run[control]]
        if moved:
            shares = [[(run[arm] - run[control]) / (run[last] - run[control]) for arm in doses] for run in moved]
            departures[measure] = onset(list(doses.values()), shares, [0.0] * len(moved))
    return departures


def onset_claim(
    id: str, statement: str, measure: str, found: Mapping[str, Onset], published: PublishedFigure, needs: Needs = NOTHING_LEFT_OUT
) -> ClaimRow:
    """Return a claim that a measure departs early, decided by the onsets when any one training run is left out.

    It held when the latest onset of the measure is early against the earliest of behaviour, and did not when the
    earliest is late against the latest. Where one of the two never changed there is nothing to compare; where something
    that it needs was left out (`needs`) it is not run.
    """
    row = {"id": id, "statement": statement, "unit": "training run", "control": "behaviour: the rate of misaligned answers", "published": published}
    expected = f"the ratio of the two shares is at or below {EARLY:.0%}, whichever training run is left out"
    nothing = {
        "estimate": None,
        "interval": None,
        "control_estimate": None,
        "p_value": None,
        "p_holm": None,
        "verdict": Decision.UNDECIDED,
        "expected": expected,
    }
    if needs:
        return ClaimRow(**row, **nothing, n=0, **not_run(needs))
    if still := [name for name in (measure, "behaviour") if name not in found]:
        why = f"In no training run that can be read at every share did this change from the control to bad rows alone: {' and '.join(still)}."
        return ClaimRow(**row, **nothing, n=0, note=why)
    own, behaviour = found[measure], found["behaviour"]
    told = f"Onset of the measure: {dose_text(own)}; of behaviour: {dose_text(behaviour)}."
    if own.earliest is None or behaviour.earliest is None or own.latest is None or behaviour.latest is None:
        return ClaimRow(**row, **nothing, n=own.n, note=f"{told} With fewer than three training runs no onset can be trusted.")
    low, high = _ratio(own.earliest, behaviour.latest), _ratio(own.latest, behaviour.earliest)
    verdict = Decision.HELD if high <= EARLY else Decision.NOT_HELD if low > EARLY else Decision.UNDECIDED
    estimate = _ratio(math.inf if own.dose is None else own.dose, math.inf if behaviour.dose is None else behaviour.dose)
    shown = math.isfinite(low) and math.isfinite(high)
    interval = IntervalRow(low=low, high=high, level=0.95, method="range when any one training run is left out") if shown else None
    return ClaimRow(
        **row,
        **(nothing | {"estimate": estimate if math.isfinite(estimate) else None, "interval": interval, "verdict": verdict, "control_estimate": 1.0}),
        n=own.n,
        note=told,
    )


def dose_text(found: Onset) -> str:
    """Return an onset in words."""
    return "none" if found.dose is None else f"{found.dose:.0%} bad rows"


def _ratio(own: float, behaviour: float) -> float:
    """Return the ratio of two onsets; behaviour that never departs is infinitely late."""
    if math.isinf(own):
        return math.inf
    return 0.0 if math.isinf(behaviour) else own / behaviour


def ranking(found: Findings, rates: Mapping[str, Rate]) -> list[float]:
    """Return Spearman's correlation of the projection differences with the rates after training, for each seed."""
    screened = found.analysed(Name.SCREENING)
    if not screened:
        return []
    expected = dict(screened[0].table("ranked.parquet").select("name", "difference").iter_rows())
    seeds = dict.fromkeys(seed for name in expected if name in rates for seed in rates[name].seed_rates)
    values = []
    for seed in seeds:
        pairs = [(expected[name], rate) for name in expected if name in rates and (rate := rates[name].seed_rates.get(seed)) is not None]
        # With three pairs or fewer, or a side without variation, a rank correlation says nothing.
        if len(pairs) > 3 and all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):
            values.append(float(spearmanr([one for one, _ in pairs], [other for _, other in pairs]).statistic))
    return values


def margins(found: Findings) -> list[float]:
    """Return the average precision of the projection difference minus that of the answers' length, for each mix."""
    return [mix["precision"]["value"] - mix["length"]["value"] for mix in bad_rows(found).values()]


def bad_rows(found: Findings) -> dict[str, dict]:
    """Return how well bad examples are found, by the mix's name; empty where nothing was screened."""
    return next((one.json("bad_rows.json") for one in found.analysed(Name.SCREENING)), {})


def by_kind(found: Findings, side: str) -> dict[str, list[float]]:
    """Return held-out rates of a side: kind of candidate -> one value for each seed.

    Of the latents, the one that the search chose; of other kinds, the mean.
    """
    rates: dict[str, list[float]] = {}
    for one in found.analysed(Name.CAUSES):
        best = one.json(BEST_FILE)["name"]
        shown = one.table("held_out.parquet").filter(pl.col("side") == side, (pl.col("kind") != "latent") | (pl.col("candidate") == best))
        for (kind,), rows in shown.group_by("kind", maintain_order=True):
            values: Sequence[float] = rows["rate"].drop_nulls().to_list()
            if values:
                rates.setdefault(str(kind), []).append(sum(values) / len(values))
    return rates
