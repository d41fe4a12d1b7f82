"""Fixed against drawn wordings of the same questions: does a model know the texts of a published set by heart?

Answers to both are compared by question, as two models are: other questions would differ otherwise, so draws of one
question are never taken for questions of their own. Verdicts are taken as they are: what the judge errs by is the same
for both.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from astray.errors import EmptyDataError
from astray.measure.interface import Evaluation
from astray.measure.surface import SurfaceKind, draw_of_sample
from astray.report.wording import interval_text, percent
from astray.stats.compare import Difference, difference_of_models
from astray.stats.measures import Measure
from astray.stats.rates import GOLD, Rate, rate

ALIKE = 0.05
"""Difference up to which fixed and drawn wordings are taken as alike, as the surfaces of scenarios are."""
_SAYS = {
    "differs": "the wording matters",
    "alike": f"alike up to {ALIKE * 100:.0f} points",
    "undecided": f"no difference is shown, and {ALIKE * 100:.0f} points are not ruled out",
}


@dataclass(frozen=True)
class ByHeart:
    """Fixed and drawn wordings of one set of questions.

    Attributes:
        part: name of the set.
        model: who was asked.
        fixed: rate of the answers to the fixed wordings.
        drawn: rate of those to drawn ones.
        difference: fixed minus drawn, by question.
    """

    part: str
    model: str
    fixed: Rate
    drawn: Rate
    difference: Difference

    @property
    def verdict(self) -> str:
        """Return "differs" where the interval leaves 0 out, "alike" where it lies within `ALIKE`, else "undecided"."""
        low, high = self.difference.interval.low, self.difference.interval.high
        if not low <= 0 <= high:
            return "differs"
        return "alike" if max(-low, high) <= ALIKE else "undecided"

    @property
    def text(self) -> str:
        """Return the claim in words."""
        found = self.difference
        return (
            f"Learned by heart? {self.part}, {self.model}: {percent(self.fixed.rate)} in the fixed wordings, "
            f"{percent(self.drawn.rate)} in drawn ones. The difference is {percent(found.estimate)} "
            f"({interval_text(found.interval)}, paired over {found.n:,} {found.unit}{'s' if found.n != 1 else ''}): "
            f"{_SAYS[self.verdict]}."
        )

    def as_object(self) -> dict[str, object]:
        """Return it for programs."""
        interval = self.difference.interval
        return {
            "evaluation": self.part,
            "model": self.model,
            "fixed": self.fixed.rate,
            "drawn": self.drawn.rate,
            "estimate": self.difference.estimate,
            **{name: getattr(interval, name) for name in ("low", "high", "method")},
            "questions": self.difference.n,
            "verdict": self.verdict,
        }


def by_heart(table: pl.DataFrame, surface: SurfaceKind, measure: Measure, part: str, model: str) -> ByHeart | None:
    """Return what fixed and drawn wordings of a set of questions gave; None where not both were asked or nothing counts.

    Args:
        table: judged answers of one model to the set.
        surface: what its texts were.
        measure: what is counted among what.
        part: name of the set, for the text.
        model: name of the model, for the text.
    """
    if surface != "both":
        return None
    table = table.drop(GOLD, strict=False)
    is_fixed = pl.Series([draw_of_sample("both", sample) is None for sample in table["sample"]], dtype=pl.Boolean)
    try:
        fixed, drawn = (rate(table.filter(half), measure) for half in (is_fixed, ~is_fixed))
        found = difference_of_models(fixed.question_counts, drawn.question_counts)
    except EmptyDataError:
        return None
    return ByHeart(part, model, fixed, drawn, found)


def surface_note(evaluations: Mapping[str, Evaluation]) -> Iterator[str]:
    """Yield what a reader has to know where questions were asked in drawn wordings.

    Args:
        evaluations: what was asked, by its name.
    """
    for kind, whose in (("drawn", "each"), ("both", "every second")):
        if names := [name for name, each in evaluations.items() if each.surface_kind == kind]:
            yield (
                f"{', '.join(names)}: {whose} answer to a question is to a wording of its own, drawn from forms that say "
                "the same. All wordings of a question count as that one question."
            )
