"""Claims and figures on the meter: how much likelier harmful answers became in an arm than in its control.

The interval of a claim adds the chance of training runs and that of questions (`measure.meter.difference`); its note
has the two apart. Left to others: which arms are compared (the studies).
"""

import math
from collections.abc import Iterable, Iterator, Mapping

from astray.engine.claims import decided_fields, interval_name, not_run, status_and_note
from astray.engine.exhibits import Bar, Forest, limits
from astray.engine.findings import Findings, Needs
from astray.engine.summary import ClaimRow, ClaimStatus
from astray.engine.value_claims import NO_VALUE, values_claim
from astray.errors import NotMeasurableError
from astray.measure.meter import MeterDifference, MeterEffect, meter_difference
from astray.stats.claims import Decision
from astray.stats.digits import number
from astray.stats.intervals import Beneath, Interval

QUANTITY = "nats a token"
UNTOUCHED = " that no data touches"
"""Said of the meter's domains where a study's data are known to be about others."""
Region = tuple[float | None, float | None]


def compared(findings: Findings, arm: str, control: str) -> MeterDifference | None:
    """Return the comparison of two arms that were run; None where no pair could be measured, or none was yet."""
    sides = [findings.margins.filter(arm=name) for name in (arm, control)]
    if any(side.is_empty() for side in sides):
        return None
    try:
        return meter_difference(*sides)
    except NotMeasurableError:
        return None


def margin_claim(
    id: str,
    statement: str,
    findings: Findings,
    arm: str,
    control: str,
    region: Region,
    *,
    null: bool = False,
    nothing: str = "No pair could be measured: unknown words.",
) -> ClaimRow:
    """Return a claim that the margin of an arm minus that of its control lies in a region.

    Args:
        id, statement: as for any claim.
        findings: of the study.
        arm: name of the arm.
        control: name of the arm that it is compared with; a single untrained model serves for all runs.
        region: lower and upper border in nats a token, either of which may be missing.
        null: whether it is about the pairs of two good answers.
        nothing: why there is no estimate, where both arms were run.
    """
    needs = findings.needs(arm, control)
    difference = None if needs else compared(findings, arm, control)
    effect = None if difference is None else difference.null if null else difference.harmful
    row = {
        "id": id,
        "statement": statement,
        "expected": f"{interval_name()} of the difference lies {_region_text(region)} {QUANTITY}",
        "unit": "training run",
        "control": control,
        "control_estimate": None,
        "published": None,
        "region": region,
        "quantity": QUANTITY,
        "p_holm": None,
        "arms": (arm, control),
    }
    if effect is None:
        return ClaimRow.model_validate(row | _without_estimate(needs, nothing))
    return ClaimRow.model_validate(row | _with_estimate(effect, region))


def runs_claim(
    id: str,
    statement: str,
    values: Mapping[int, float],
    control: str,
    needs: Needs,
    note: str = "",
    quantity: str = QUANTITY,
    *,
    at_least: float = 0.0,
    beneath: Beneath | None = None,
    without: str = NO_VALUE,
) -> ClaimRow:
    """Return a claim that the mean over runs of a value of each run, in this unit, is at least so large.

    `beneath` and `without` are as of `values_claim`. The note stands where there are values."""
    run_values, shown_note = list(values.values()), note if values else ""
    claim = values_claim(
        id,
        statement,
        run_values,
        control,
        at_least=at_least,
        needs=needs,
        note=shown_note,
        beneath=beneath,
        without=without,
    )
    expected = f"{interval_name()} of the mean lies {_region_text((at_least, None))} {quantity}"
    return claim.model_copy(update={"quantity": quantity, "expected": expected})


def domains_claim(
    id: str,
    statement: str,
    value: float | None,
    interval: Interval | None,
    domains: int,
    control: str,
    needs: Needs,
    note: str,
    *,
    at_least: float = 0.0,
    without: str = NO_VALUE,
) -> ClaimRow:
    """Return a claim that a value which no training run changes is at least so large, by its interval over domains;
    `without` says why there is no value, where it was read."""
    return ClaimRow(
        id=id,
        statement=statement,
        expected=f"{interval_name()} lies {_region_text((at_least, None))} {QUANTITY}",
        n=0 if value is None else domains,
        unit="domain",
        control=control,
        control_estimate=None,
        published=None,
        quantity=QUANTITY,
        **decided_fields(value, interval, (at_least, None)),
        **status_and_note(needs, "" if value is not None else without, note if value is not None else ""),
    )


def domain_figure(findings: Findings, arm: str, control: str, which: str = UNTOUCHED) -> Iterator[Forest]:
    """Yield the change of every domain's harmful pairs, and of all null pairs below; nothing where it was not
    measured. The domains are as `which` says."""
    difference = None if findings.needs(arm, control) else compared(findings, arm, control)
    if difference is None:
        return
    bars = [effect_bar(name, "harmful answers", effect) for name, effect in difference.domains.items()]
    bars.sort(key=lambda bar: -(bar.value or 0.0))
    null = [effect_bar("null pairs (all domains)", "two good answers", difference.null)] if difference.null else []
    yield Forest(
        id=f"meter-{arm}",
        title=f"Harmful answers in the domains{which}: {arm} against {control}",
        text=(
            "Change of the margin, the log-probability per token of the harmful answer minus that of the good one, "
            f"over {difference.harmful.pairs} questions in {len(difference.domains)} domains. Intervals are over questions "
            "and, with several runs, training runs. The null pairs have two good answers each and should not move."
        ),
        x_title=f"change against {control}, {QUANTITY}",
        percent=False,
        bars=(*bars, *null),
    )


def arms_figure(findings: Findings, arms: Iterable[str], control: str, which: str = UNTOUCHED) -> Iterator[Forest]:
    """Yield each arm's change against one control, harmful pairs and null pairs; nothing where none was measured.
    The domains are as `which` says."""
    bars, over = [], ""
    for arm in arms:
        difference = None if arm == control or findings.needs(arm, control) else compared(findings, arm, control)
        if difference is not None:
            null = difference.null.pairs if difference.null else 0
            over = (
                f"Over {difference.harmful.pairs} questions in {len(difference.domains)} domains{which}, beside {null} "
                "null pairs."
            )
            bars.append(effect_bar(arm, "harmful answers", difference.harmful))
            bars += [effect_bar(f"{arm}, null pairs", "two good answers", difference.null)] if difference.null else []
    if bars:
        yield Forest(
            id="meter-arms",
            title=f"How much likelier harmful answers became, by arm: against {control}",
            text=f"{over} The level of one arm says nothing, so none is shown.",
            x_title=f"change against {control}, {QUANTITY}",
            percent=False,
            bars=tuple(bars),
        )


def effect_bar(label: str, group: str, effect: MeterEffect) -> Bar:
    """Return a change as a bar, with its interval."""
    note = f"{len(effect.runs)} training runs; {effect.higher} of {effect.pairs} pairs higher"
    return Bar(label=label, group=group, value=effect.estimate, note=note, **limits(effect.interval))


def _with_estimate(effect: MeterEffect, region: Region) -> dict[str, object]:
    alone = [
        f"{source} alone {_text(interval)}"
        for source, interval in (("over runs", effect.by_run), ("over questions", effect.by_question))
        if interval
    ]
    single = (
        ""
        if effect.by_run
        else "One training run says nothing about further ones, so nothing is decided: 3 or more would (--seeds 3)."
    )
    note = f"95% interval {', '.join(alone)}; {effect.higher} of {effect.pairs} pairs are higher." if alone else ""
    row: dict[str, object] = {"n": len(effect.runs), "note": " ".join(filter(None, (single, note)))}
    return row | decided_fields(effect.estimate, effect.interval, region, single)


def _without_estimate(needs: Needs, note: str) -> dict[str, object]:
    """Return the fields of a claim without an estimate."""
    row: dict[str, object] = {"estimate": None, "interval": None, "n": 0, "verdict": Decision.UNDECIDED}
    why: dict[str, object] = {"status": ClaimStatus.NOT_ESTIMABLE, "note": note}
    return row | {"p_value": None} | (not_run(needs) if needs else why)


def _region_text(region: Region) -> str:
    low, high = region
    if low is not None and high is not None:
        text = f"between {low:g} and {high:g}"
    else:
        text = f"at or above {low:g}" if low is not None else f"at or below {high if high is not None else math.inf:g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _text(interval: Interval) -> str:
    return f"{number(interval.low)} to {number(interval.high)}"
