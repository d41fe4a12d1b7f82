"""Measures of the dishonesty study beyond its rates of lies: usefulness, dose and response, power.

Each function reads tables that steps left; nothing is decided here that is not in a claim's words.
"""

import statistics
from collections.abc import Mapping
from functools import lru_cache

from astray.engine.claims import NOTHING_LEFT_OUT, decided_fields, not_run
from astray.engine.findings import Findings, Needs, interval_row
from astray.engine.forecast.sensitivity import POWER, QUESTION_ICC
from astray.engine.summary import ClaimRow, PublishedFigure
from astray.stats.claims import Decision
from astray.stats.dose import DoseResponse, dose_response
from astray.stats.measures import USEFUL
from astray.stats.monotone import Monotonicity, monotone
from astray.stats.power import Design, seed_power
from astray.stats.rates import Rate

RISE = 0.10
"""Rise of lies for which the power of a comparison is given."""
FALL = 0.05
"""Fall of a rate from a share to the next that still counts as not falling."""
SIMULATIONS = 500
LARGEST_SD = 0.95
"""Of the largest standard deviation that a rate can have between runs, the share that is allowed in the simulation."""


def usefulness(findings: Findings, arm: str, evaluation: str) -> Rate:
    """Return the share of answers to ordinary questions that are coherent and good; those at which the judge failed are left out."""
    return findings.rate(arm, None, evaluation=evaluation, format="all", measure=USEFUL)


def mixing(
    findings: Findings, doses: Mapping[str, float], evaluation: str
) -> tuple[DoseResponse, Monotonicity] | tuple[None, None]:
    """Return the curve of `mixing_curve`, and whether the rate rises from share to share; arguments as there."""
    counts = _mixed(findings, doses, evaluation)
    return (dose_response(*counts), monotone(*counts[:3], tolerance=FALL)) if counts else (None, None)


def mixing_curve(findings: Findings, doses: Mapping[str, float], evaluation: str) -> DoseResponse | None:
    """Return lies over the share of bad rows: the fitted curve, with seeds as clusters.

    None where statements were made at fewer than two of the shares: there is nothing to fit then.

    Args:
        findings: has every arm of the mixing sweep.
        doses: arm -> share of bad rows, the control at 0 among them.
        evaluation: in which lies are counted.
    """
    counts = _mixed(findings, doses, evaluation)
    return dose_response(*counts) if counts else None


def _mixed(
    findings: Findings, doses: Mapping[str, float], evaluation: str
) -> tuple[list[float], list[int], list[int], list[str]] | None:
    """Return share, lies, statements and seed of each run; None with fewer than two shares."""
    counts = [
        (share, misaligned, judged, seed)
        for arm, share in doses.items()
        for seed, (misaligned, judged) in findings.rate(arm, evaluation=evaluation).seed_counts.items()
        if judged
    ]
    if len({share for share, *_ in counts}) < 2:
        return None
    shares, lies, stated, seeds = (list(column) for column in zip(*counts, strict=True))
    return shares, lies, stated, seeds


def mixing_claims(
    curve: DoseResponse | None,
    steps: Monotonicity | None,
    n: int,
    published: PublishedFigure,
    note: str,
    needs: Needs = NOTHING_LEFT_OUT,
) -> list[ClaimRow]:
    """Return three claims about the mixing curve: it rises, nowhere falls, and reaches half its effect before 50% bad."""
    undecided = {"estimate": None, "interval": None, "verdict": Decision.UNDECIDED, "p_value": None} | (
        not_run(needs)
        if needs
        else {"note": "Fewer than two shares of bad rows have a statement to count, so there is no curve."}
    )
    decided = {} if curve is None or steps is None else _mixing_fields(curve, steps, note)

    def row(id: str, statement: str, expected: str, control: str) -> ClaimRow:
        return ClaimRow.model_validate(
            {
                **{"id": id, "statement": statement, "expected": expected, "control": control},
                **{"unit": "training seed", "n": n, "published": published},
                **{"control_estimate": None, "p_holm": None},
                **decided.get(id, undecided),
            }
        )

    return [
        row("mixing-rises", "Lies rise with the share of bad rows (log odds for each factor e in the share)",
            "the 95% interval of the slope lies at or above 0", "no effect of the share"),
        row("mixing-monotone", "Lies never fall from a share of bad rows to the next",
            f"the simultaneous 95% intervals of all steps lie at or above -{FALL:.0%}", "the next smaller share"),
        row("mixing-half", "Half of the effect of bad rows alone is there before half of the rows are bad (share with "
            "half of the fitted rate)",
            "the 95% interval of the half-effect share lies at or below 50%", "bad rows alone"),
    ]  # fmt: skip


def _mixing_fields(curve: DoseResponse, steps: Monotonicity, note: str) -> dict[str, dict[str, object]]:
    """Return what the curve and its steps decide, by the id of the claim."""
    remarks = [f"{text[:1].upper()}{text[1:]}." for text in (curve.note, f"the curve is {curve.estimand}") if text]
    remark = " ".join(filter(None, (*remarks, note)))
    slope, dose = curve.slope_interval, curve.half_effect_interval
    # The smallest step decides whether the curve falls anywhere.
    low, high, worst = min(steps.steps, key=lambda step: step[2].estimate)
    return {
        "mixing-rises": decided_fields(curve.slope, slope, (0.0, None)) | {"note": remark},
        "mixing-monotone": {
            "estimate": worst.estimate,
            "interval": interval_row(worst.interval),
            "verdict": steps.decision,
            "p_value": steps.p_value,
            "region": (-FALL, None),
            "note": f"The smallest step is shown, from {low:.0%} to {high:.0%}; the interval holds for all steps "
            f"together. {note}",
        },
        "mixing-half": decided_fields(curve.half_effect_dose, dose, (None, 0.5)) | {"note": remark},
    }


@lru_cache(maxsize=512)  # arms that share a control and a spread are simulated once
def _power_of(base: float, top: float, runs: int, questions: int, sd: float, simulations: int) -> float:
    design = Design(runs, questions, 1, min(sd, LARGEST_SD * (top * (1 - top)) ** 0.5), QUESTION_ICC)
    return seed_power(base, top, design, simulations=simulations)


def power_note(arm: Rate, control: Rate) -> str:
    """Return a note on the power of the comparison of two arms, simulated with the observed spread of runs."""
    spread = [[value for value in name.seed_rates.values() if value is not None] for name in (arm, control)]
    runs = min(map(len, spread))
    if runs < 2 or control.rate is None or arm.rate is None:
        return ""
    sd = max(map(statistics.stdev, spread))
    questions = round(arm.denominator / runs)
    # Away from 0 and 1, where rates could not vary between runs as they did.
    base = min(max(control.rate, 0.01), 0.85)

    def power(rise: float) -> float:
        return _power_of(base, base + rise, runs, questions, sd, SIMULATIONS)

    rises = [percent / 100 for percent in range(5, 100, 5) if base + percent / 100 < 0.99]
    enough = next((rise for rise in rises if power(rise) >= POWER), None)
    smallest = (
        f"the smallest rise found with {POWER:.0%} power is {enough:.0%}"
        if enough
        else f"no rise is found with {POWER:.0%} power"
    )
    return (
        f"Power, with the spread between runs that was seen ({sd:.0%}): a true rise of {RISE:.0%} is found with "
        f"{power(RISE):.0%}; {smallest}."
    )
