"""Claims of a study file: checked against arms and evaluations before anything runs, decided by the engine's claims."""

from collections.abc import Iterator, Mapping, Sequence

from astray.engine.claims import difference_claim, rate_claim
from astray.engine.findings import Findings
from astray.engine.study import Arm
from astray.engine.summary import ClaimRow
from astray.files import Marked, nearest
from astray.measure.evaluation import TextEvaluation
from astray.measure.interface import Evaluation
from astray.stats.measures import Measure
from astray.stats.rates import Rate
from astray.studies.own.form import GROUPS, ClaimForm, StudyForm

PLAIN, ALL = "plain", "all"
WHOLE = {"rate": (0.0, 1.0), "difference": (-1.0, 1.0)}
"""Values that a rate and a difference of rates can have."""
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

    def rows(self, found: Findings) -> Iterator[ClaimRow]:
        """Yield the decided claims."""
        for name, claim in self.marked.form.claims.items():
            counted = self._counted[name]
            low, high = claim.region
            statement, one = (
                claim.statement or self._statement(claim, *counted[:2]),
                self._rate(found, claim.arm, claim, *counted),
            )
            control = (claim.control, self._rate(found, claim.control, claim, *counted)) if claim.control else None
            if claim.difference:
                assert control is not None
                yield difference_claim(name, statement, one, control, at_least=low, at_most=high)
            elif low is not None and high is not None:
                yield rate_claim(name, statement, one, between=(low, high), control=control)
            else:
                yield rate_claim(name, statement, one, at_least=low, at_most=high, control=control)

    def _rate(
        self, found: Findings, arm: str, claim: ClaimForm, evaluation: str, measure: Measure, format: str
    ) -> Rate:
        return found.rate(arm, GROUPS[claim.group], evaluation=evaluation, format=format, measure=measure)

    def _check(self, name: str, claim: ClaimForm) -> tuple[str, Measure, str]:
        """Return evaluation, measure and format of a claim that can be decided."""
        kind, at = ("rate" if claim.rate else "difference"), ("claims", name)
        self._check_region(claim, kind, at)
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
        measure = self._measure(claim, evaluation, at)
        format = self._format(claim, evaluation, at)
        for key in (kind, *(["control"] if claim.control else [])):
            self._check_group(claim, self.arms[getattr(claim, key)], evaluation, format, at)
        return evaluation.name, measure, format

    def _check_region(self, claim: ClaimForm, kind: str, at: Place) -> None:
        given = [key for key in ("at_least", "at_most", "between") if getattr(claim, key) is not None]
        if len(given) != 1:
            why = f"a claim has exactly one of at_least, at_most and between, given: {' and '.join(given) or 'none'}."
            raise self.marked.wrong((*at, *given[1:2]), why, key=True)
        place, (least, most) = (*at, given[0]), WHOLE[kind]
        low, high = (
            (least if claim.region[0] is None else claim.region[0]),
            (most if claim.region[1] is None else claim.region[1]),
        )
        if claim.between and low > high:
            raise self.marked.wrong(
                place, f"the region is empty: nothing lies between {low:g} and {high:g}. Write the smaller one first."
            )
        if high < least or low > most:
            raise self.marked.wrong(
                place, f"the region is empty: a {kind} lies between {least:g} and {most:g} (10% is 0.1)."
            )
        if low <= least and high >= most:
            raise self.marked.wrong(
                place,
                f"the region has every {kind} there can be, from {least:g} to {most:g}, so the claim says nothing.",
            )

    def _evaluation(self, claim: ClaimForm, at: Place) -> Evaluation:
        if claim.evaluation is None:
            return self.evaluations[0]
        for each in self._asked_of(claim.arm):
            if each.name == claim.evaluation:
                if claim.control and each.name not in {other.name for other in self._asked_of(claim.control)}:
                    raise self.marked.wrong(
                        (*at, "evaluation"),
                        f"the control {claim.control!r} is not asked {each.name!r}. Put it into the study's "
                        "evaluations.",
                    )
                return each
        names = [each.name for each in self._asked_of(claim.arm)]
        raise self.marked.wrong(
            (*at, "evaluation"),
            f"{claim.arm!r} is asked no evaluation called {claim.evaluation!r}.{nearest(claim.evaluation, names)} "
            f"It is asked: {', '.join(names)}.",
        )

    def _asked_of(self, arm: str) -> Sequence[Evaluation]:
        return (*self.evaluations, *self.arms[arm].extra)

    def _measure(self, claim: ClaimForm, evaluation: Evaluation, at: Place) -> Measure:
        measures: Mapping[str, Measure] = {each.name: each for each in evaluation.measures}
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
        known = [*formats, ALL]
        if claim.format not in known:
            why = (
                f"{evaluation.name!r} has no questions in the format {claim.format!r}.{nearest(claim.format, formats)}"
            )
            raise self.marked.wrong((*at, "format"), f"{why} It has: {', '.join(known)}.")
        return claim.format

    def _check_group(self, claim: ClaimForm, arm: Arm, evaluation: Evaluation, format: str, at: Place) -> None:
        """Refuse a group of questions in which an arm is asked none."""
        if not isinstance(evaluation, TextEvaluation):
            if claim.group != "elsewhere":
                raise self.marked.wrong((*at, "group"), f"{evaluation.name!r} has one group of questions: elsewhere.")
            return
        categories = {each.item.category for each in evaluation.askings() if format in (ALL, each.item.format)}
        there = {"trained domain": categories & {arm.home}, "elsewhere": categories - {arm.home}}
        there["held-out questions"] = there["elsewhere"] & set(self.held_out)
        if not there[claim.group]:
            about = f"about {arm.home!r}" if arm.home else "without a home"
            raise self.marked.wrong(
                (*at, "group"),
                f"{arm.name!r}, an arm {about}, is asked no question of {evaluation.name!r} in the group "
                f"{claim.group!r}: its questions are about {', '.join(sorted(categories))}.",
            )

    def _statement(self, claim: ClaimForm, evaluation: str, measure: Measure) -> str:
        low, high = claim.region
        region = (
            f"between {low:.0%} and {high:.0%}"
            if None not in (low, high)
            else f"at least {low:.0%}"
            if high is None
            else f"at most {high:.0%}"
        )
        what = f"{measure.name} of {claim.arm} in {evaluation} ({claim.group})"
        return f"{what} less that of {claim.control}: {region}" if claim.difference else f"{what}: {region}"
