"""Claims of a study together: the verdicts that hold for all of them, by Holm's correction, at one look or at several.

Left to others: a claim alone (`claims`), critical values of looks (`stats.sequential`), what is run next (`looks`).
"""

from collections.abc import Collection, Mapping, Sequence

from astray.engine.summary import ClaimRow, ClaimStatus, LookRow
from astray.stats.claims import Decision, holm
from astray.stats.sequential import Looks

FAMILY_LEVEL = 0.05
"""Probability of any wrong verdict among all claims of a study."""


def with_holm(claims: Sequence[ClaimRow]) -> tuple[ClaimRow, ...]:
    """Return the claims with verdicts that hold for all together, by Holm's correction over those that were tested.

    A claim is decided where its corrected p-value is at most `FAMILY_LEVEL`. The note of one that its own interval
    alone would decide says so.
    """
    corrected = holm({claim.id: claim.p_value for claim in claims if claim.tested})
    return tuple(_in_family(claim, corrected.get(claim.id), len(corrected)) for claim in claims)


def at_look(
    claims: Sequence[ClaimRow],
    before: Mapping[str, ClaimRow],
    looks: Looks,
    look: int,
    fixed: Collection[str],
    runs: int | None = None,
) -> tuple[ClaimRow, ...]:
    """Return the claims with the verdicts that hold for all claims and all looks together.

    A claim that an earlier look decided stays as it was there. P-values are sequential ones, and Holm's correction counts
    every claim that was run, estimable or not, since which of them are estimable may change from look to look.

    Args:
        claims: of this look, each with the interval at the level of the look.
        before: the claims that earlier looks decided, by id.
        looks: those that were declared.
        look: index of this one.
        fixed: arms that no further seed adds to; a claim about them alone has had its only look.
        runs: training runs an arm at this look; None for as many as were declared.
    """
    current = {claim.id: before.get(claim.id, claim) for claim in claims}
    p_values: dict[str, float | None] = {}
    for claim in current.values():
        if claim.status is ClaimStatus.NOT_RUN:
            continue
        if claim.look is not None:
            p_values[claim.id] = claim.look.p_value
        elif claim.p_value is None or not claim.tested:
            p_values[claim.id] = None
        else:
            once = bool(claim.arms) and set(claim.arms) <= set(fixed)
            p_values[claim.id] = claim.p_value if once else looks.over_all(look, claim.p_value)
    corrected = holm(p_values)
    runs = runs or looks.units[look]
    return tuple(
        _in_looks(_in_family(claim, corrected[claim.id], len(corrected)), p_values[claim.id], looks, look, runs)
        if claim.look is None and claim.tested
        else claim
        for claim in current.values()
    )


def _in_looks(claim: ClaimRow, p_value: float | None, looks: Looks, look: int, runs: int) -> ClaimRow:
    return claim.model_copy(update={"look": _look_row(claim, p_value, looks, look, runs)})


def _look_row(claim: ClaimRow, p_value: float | None, looks: Looks, look: int, runs: int) -> LookRow:
    """Return at which look a claim stands, with its estimate corrected for stopping where the look decided it."""
    row = LookRow(look=look + 1, looks=len(looks.units), runs=runs, most=looks.units[-1], p_value=p_value)
    if claim.status is not ClaimStatus.DECIDED or claim.estimate is None or not claim.p_value or not p_value:
        return row
    # Holm tests it at this part of the family's error, at which earlier looks did not stop.
    error = FAMILY_LEVEL * p_value / (claim.p_holm or p_value)
    estimate = claim.estimate
    border = min((limit for limit in claim.region if limit is not None), key=lambda each: abs(each - estimate))
    shrinkage = looks.shrinkage(look, claim.p_value, error)
    return row.model_copy(update={"corrected": border + shrinkage * (estimate - border)})


def _in_family(claim: ClaimRow, p_holm: float | None, tested: int) -> ClaimRow:
    """Return a claim with its corrected p-value, undecided where that is too large."""
    if p_holm is None or p_holm <= FAMILY_LEVEL or claim.verdict is Decision.UNDECIDED:
        return claim.model_copy(update={"p_holm": p_holm})
    note = (
        f"Alone, its interval says {claim.verdict.value}; among the {tested} claims that were tested, that may be "
        "chance (Holm)."
    )
    changed = {"verdict": Decision.UNDECIDED, "status": ClaimStatus.UNDECIDED, "uncorrected": claim.verdict}
    return claim.model_copy(update={"p_holm": p_holm, "note": f"{note} {claim.note}".strip(), **changed})
