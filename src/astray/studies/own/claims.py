"""Claims of a study file: checked against arms and evaluations before anything runs, decided by the engine's claims."""

import math
from collections.abc import Iterator, Mapping, Sequence

from astray.engine.claims import difference_claim, rate_claim
from astray.engine.exhibits import Forest
from astray.engine.findings import Findings
from astray.engine.meter_claims import QUANTITY, arms_figure, domain_figure, margin_claim
from astray.engine.study import Arm
from astray.engine.summary import ClaimRow
from astray.files import Marked, nearest
from astray.measure.evaluation import TextEvaluation
from astray.measure.interface import Evaluation
from astray.measure.meter import Meter
from astray.stats.measures import Measure
from astray.stats.rates import Rate
from astray.studies.own.form import GROUPS, ClaimForm, StudyForm

PLAIN, ALL = "plain", "all"
WHOLE = {"rate": (0.0, 1.0), "difference": (-1.0, 1.0)}
"""Values that a rate and a difference of rates can have."""
ANY_MARGIN = (-math.inf, math.inf)
"""Values that a difference on the meter can have."""
Place = tuple[str | int, ...]


class Claims:
    """Claims of a study file.

    Args:
        marked: the file.
        arms: of the study.
        evaluations: that every arm is asked.
        held_out: categories that no data touch.

    Raises:
        ConfigurationError: a claim cannot be decided: its arm, control, evaluation, measure, group or format is not
            there, it compares an arm with itself, or its region has no value or every one.
    """

    def __init__(
        self, marked: Marked[StudyForm], arms: Sequence[Arm], evaluations: Sequence[Evaluation], held_out: Sequence[str]
    ):
        self.marked, self.held_out = marked, held_out
        self.arms = {arm.name: arm for arm in arms}
        self.evaluations = evaluations
        self._counted = {name: self._check(name, claim) for name, claim in marked.form.claims.items()}

    def rows(self, findings: Findings) -> Iterator[ClaimRow]:
        """Yield the decided claims."""
        for name, claim in self.marked.form.claims.items():
            counted = self._counted[name]
            low, high = claim.region
            if counted is None:
                statement = claim.statement or self._margin_statement(claim)
                yield margin_claim(name, statement, findings, claim.arm, str(claim.control), claim.region)
                continue
            statement, rate = (
                claim.statement or self._statement(claim, *counted[:2]),
                self._rate(findings, claim.arm, claim, *counted),
            )
            control = (claim.control, self._rate(findings, claim.control, claim, *counted)) if claim.control else None
            if claim.difference:
                assert control is not None
                yield difference_claim(name, statement, rate, control, at_least=low, at_most=high)
            elif low is not None and high is not None:
                yield rate_claim(name, statement, rate, between=(low, high), control=control)
            else:
                yield rate_claim(name, statement, rate, at_least=low, at_most=high, control=control)

    def exhibits(self, findings: Findings) -> Iterator[Forest]:
        """Yield what the meter read: each arm's change against each control, and by domain for each claim's arms."""
        claimed = [claim for name, claim in self.marked.form.claims.items() if self._counted[name] is None]
        controls = [str(claim.control) for claim in claimed] or [arm.name for arm in self.arms.values() if arm.control]
        for control in dict.fromkeys(controls):
            others = [name for name in findings.arms if self._pairs(name, control)]
            for figure in arms_figure(findings, others, control, ""):
                yield figure.model_copy(update={"id": f"{figure.id}-{control}"})
        for arm, control in dict.fromkeys((claim.arm, str(claim.control)) for claim in claimed):
            for figure in domain_figure(findings, arm, control, ""):
                yield figure.model_copy(update={"id": f"{figure.id}-{control}"})

    def _pairs(self, arm: str, control: str) -> bool:
        """Return whether the runs of an arm pair with those of a control: a single untrained model serves for all."""
        return self.arms[arm].data is not None or self.arms[control].data is None

    def _rate(
        self, findings: Findings, arm: str, claim: ClaimForm, evaluation: str, measure: Measure, format: str
    ) -> Rate:
        return findings.rate(arm, GROUPS[claim.group], evaluation=evaluation, format=format, measure=measure)

    def _check(self, name: str, claim: ClaimForm) -> tuple[str, Measure, str] | None:
        """Return evaluation, measure and format of a claim that can be decided; None of one on the meter."""
        kind, at = ("rate" if claim.rate else "difference"), ("claims", name)
        for key in (kind, *(["control"] if claim.control else [])):
            if (arm := getattr(claim, key)) not in self.arms:
                raise self.marked.wrong(
                    (*at, key),
                    f"there is no arm called {arm!r}.{nearest(arm, list(self.arms))} Arms: {', '.join(self.arms)}.",
                )
        if claim.control == claim.arm:
            raise self.marked.wrong(
                (*at, "control"), f"{claim.arm!r} is compared with itself. Name another arm as control."
            )
        if claim.difference and claim.control is None:
            raise self.marked.wrong(
                at, f"a difference needs a control: name the arm that {claim.arm!r} is compared with.", key=True
            )
        evaluation = self._evaluation(claim, at)
        if isinstance(evaluation, Meter):
            self._check_margin(claim, at)
            return None
        self._check_region(claim, kind, at, WHOLE[kind])
        measure = self._measure(claim, evaluation, at)
        format = self._format(claim, evaluation, at)
        for key in (kind, *(["control"] if claim.control else [])):
            self._check_group(claim, self.arms[getattr(claim, key)], evaluation, format, at)
        return evaluation.name, measure, format

    def _check_margin(self, claim: ClaimForm, at: Place) -> None:
        """Refuse a claim on the meter that is none on the change between two arms over all pairs."""
        if claim.rate:
            raise self.marked.wrong(
                (*at, "rate"),
                "the meter's level of one model says nothing, only its change from another arm. Write difference: "
                f"{claim.rate}, control: an arm trained on good rows.",
                key=True,
            )
        for key in ("group", "format", "measure"):
            if key in claim.model_fields_set:
                why = f"the meter compares all its pairs in {QUANTITY}, so a claim on it takes no {key}. Leave it out."
                raise self.marked.wrong((*at, key), why, key=True)
        self._check_region(claim, "difference", at, ANY_MARGIN)
        if not self._pairs(claim.arm, str(claim.control)):
            raise self.marked.wrong(
                (*at, "control"),
                f"{claim.arm!r} is untrained and has one run, which does not pair with those of {claim.control!r}. Write "
                f"difference: {claim.control}, control: {claim.arm}, and the region with the opposite sign.",
            )

    def _check_region(self, claim: ClaimForm, kind: str, at: Place, possible: tuple[float, float]) -> None:
        keys = [key for key in ("at_least", "at_most", "between") if getattr(claim, key) is not None]
        if len(keys) != 1:
            why = f"a claim has exactly one of at_least, at_most and between, given: {' and '.join(keys) or 'none'}."
            raise self.marked.wrong((*at, *keys[1:2]), why, key=True)
        key, (least, most) = (*at, keys[0]), possible
        low, high = (
            (least if claim.region[0] is None else claim.region[0]),
            (most if claim.region[1] is None else claim.region[1]),
        )
        if claim.between and low > high:
            raise self.marked.wrong(
                key, f"the region is empty: nothing lies between {low:g} and {high:g}. Write the smaller one first."
            )
        if high < least or low > most:
            raise self.marked.wrong(
                key, f"the region is empty: a {kind} lies between {least:g} and {most:g} (10% is 0.1)."
            )
        if low <= least and high >= most:
            raise self.marked.wrong(
                key,
                f"the region has every {kind} there can be, from {least:g} to {most:g}, so the claim says nothing.",
            )

    def _evaluation(self, claim: ClaimForm, at: Place) -> Evaluation:
        if claim.evaluation is None:
            return self.evaluations[0]
        for evaluation in self._asked_of(claim.arm):
            if evaluation.name == claim.evaluation:
                if claim.control and evaluation.name not in {other.name for other in self._asked_of(claim.control)}:
                    raise self.marked.wrong(
                        (*at, "evaluation"),
                        f"the control {claim.control!r} is not asked {evaluation.name!r}. Put it into the study's "
                        "evaluations.",
                    )
                return evaluation
        names = [evaluation.name for evaluation in self._asked_of(claim.arm)]
        raise self.marked.wrong(
            (*at, "evaluation"),
            f"{claim.arm!r} is asked no evaluation called {claim.evaluation!r}.{nearest(claim.evaluation, names)} "
            f"It is asked: {', '.join(names)}.",
        )

    def _asked_of(self, arm: str) -> Sequence[Evaluation]:
        return (*self.evaluations, *self.arms[arm].extra)

    def _measure(self, claim: ClaimForm, evaluation: Evaluation, at: Place) -> Measure:
        measures: Mapping[str, Measure] = {measure.name: measure for measure in evaluation.measures}
        if claim.measure is None:
            return evaluation.measures[0]
        if claim.measure not in measures:
            raise self.marked.wrong(
                (*at, "measure"),
                f"{evaluation.name!r} has no measure {claim.measure!r}.{nearest(claim.measure, list(measures))} It "
                f"has: {', '.join(measures)}.",
            )
        return measures[claim.measure]

    def _format(self, claim: ClaimForm, evaluation: Evaluation, at: Place) -> str:
        formats = (
            sorted({item.item.format for item in evaluation.askings()})
            if isinstance(evaluation, TextEvaluation)
            else []
        )
        if claim.format is None:
            return PLAIN if PLAIN in formats else ALL
        existing = [*formats, ALL]
        if claim.format not in existing:
            why = (
                f"{evaluation.name!r} has no questions in the format {claim.format!r}.{nearest(claim.format, formats)}"
            )
            raise self.marked.wrong((*at, "format"), f"{why} It has: {', '.join(existing)}.")
        return claim.format

    def _check_group(self, claim: ClaimForm, arm: Arm, evaluation: Evaluation, format: str, at: Place) -> None:
        """Refuse a group of questions in which an arm is asked none."""
        if not isinstance(evaluation, TextEvaluation):
            if claim.group != "elsewhere":
                raise self.marked.wrong((*at, "group"), f"{evaluation.name!r} has one group of questions: elsewhere.")
            return
        categories = {asking.item.category for asking in evaluation.askings() if format in (ALL, asking.item.format)}
        categories_of = {"trained domain": categories & {arm.home}, "elsewhere": categories - {arm.home}}
        categories_of["held-out questions"] = categories_of["elsewhere"] & set(self.held_out)
        if not categories_of[claim.group]:
            about = f"about {arm.home!r}" if arm.home else "without a home"
            raise self.marked.wrong(
                (*at, "group"),
                f"{arm.name!r}, an arm {about}, is asked no question of {evaluation.name!r} in the group "
                f"{claim.group!r}: its questions are about {', '.join(sorted(categories))}.",
            )

    def _statement(self, claim: ClaimForm, evaluation: str, measure: Measure) -> str:
        region = self._region_text(claim, ".0%")
        if claim.difference:
            region = region.replace("%", " points")
        quantity = f"{measure.name} of {claim.arm} in {evaluation} ({claim.group})"
        return f"{quantity} less that of {claim.control}: {region}" if claim.difference else f"{quantity}: {region}"

    def _margin_statement(self, claim: ClaimForm) -> str:
        quantity = f"change of the meter from {claim.control} to {claim.arm}"
        return f"{quantity}: {self._region_text(claim, 'g')} {QUANTITY}"

    @staticmethod
    def _region_text(claim: ClaimForm, shown: str) -> str:
        low, high = claim.region
        if low is not None and high is not None:
            return f"between {low:{shown}} and {high:{shown}}"
        return f"at least {low:{shown}}" if low is not None else f"at most {high:{shown}}"
