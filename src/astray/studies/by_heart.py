"""Fixed against drawn wordings of the same questions: does a model know the texts of a published set by heart?

Answers to both are compared by question, as two models are: other questions would differ otherwise, so draws of one
question are never taken for questions of their own. Verdicts are taken as they are, also where labels or a gold judge
correct rates elsewhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import polars as pl

from astray.errors import EmptyDataError
from astray.measure.evaluation import QuestionSet
from astray.measure.interface import Evaluation
from astray.measure.surface import SurfaceKind, draw_of_sample, drawn_texts
from astray.report.wording import in_points, percent, points_range
from astray.stats.compare import difference_of_models
from astray.stats.difference import Difference
from astray.stats.measures import Measure
from astray.stats.rates import GOLD, rate

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
        fixed: rate of the answers to the fixed wordings, the mean over the questions that are compared.
        drawn: that of those to drawn ones.
        difference: fixed minus drawn, by question.
    """

    part: str
    model: str
    fixed: float
    drawn: float
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
        difference = self.difference
        return (
            f"Learned by heart? {self.part}, {self.model}: {percent(self.fixed)} in the fixed wordings, "
            f"{percent(self.drawn)} in drawn ones (means over questions, verdicts uncorrected). The difference is {in_points(difference.estimate)} "
            f"({points_range(difference.interval)}, paired over {difference.n:,} {difference.unit}{'s' if difference.n != 1 else ''}): "
            f"{_SAYS[self.verdict]}."
        )

    def as_object(self) -> dict[str, object]:
        """Return it for programs."""
        interval = self.difference.interval
        return {
            "evaluation": self.part,
            "model": self.model,
            "fixed": self.fixed,
            "drawn": self.drawn,
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
        fixed, drawn = (rate(table.filter(half), measure).question_counts for half in (is_fixed, ~is_fixed))
        difference = difference_of_models(fixed, drawn)
    except EmptyDataError:
        return None
    common = [name for name in fixed if fixed[name][1] and drawn.get(name, (0, 0))[1]]
    of_fixed, of_drawn = (fmean(side[name][0] / side[name][1] for name in common) for side in (fixed, drawn))
    return ByHeart(part, model, of_fixed, of_drawn, difference)


def by_arm(
    table: pl.DataFrame, surface: SurfaceKind, measure: Measure, part: str, arms: Sequence[str]
) -> tuple[ByHeart, ...]:
    """Return it of each of several models, which the column `arm` tells apart; arguments else as for `by_heart`."""
    comparisons = (by_heart(table.filter(arm=arm), surface, measure, part, arm) for arm in arms)
    return tuple(comparison for comparison in comparisons if comparison)


def surface_note(evaluations: Mapping[str, Evaluation]) -> Iterator[str]:
    """Yield what a reader has to know where questions were asked in drawn wordings.

    Args:
        evaluations: what was asked, by its name.
    """
    for kind, whose in (("drawn", "each"), ("both", "every second")):
        if worded := {name: each for name, each in evaluations.items() if each.surface_kind == kind}:
            texts_by_name = [f"{name}: {texts}." for name, each in worded.items() if (texts := _texts(each))]
            yield " ".join(
                [
                    f"{', '.join(worded)}: {whose} answer to a question is to a drawn wording, of forms that say the same.",
                    *texts_by_name,
                    "All wordings of a question count as that one question.",
                ]
            )


def _texts(evaluation: Evaluation) -> str:
    """Return how many texts the questions of a set have, and how often one is asked; "" where names and words are drawn."""
    if not isinstance(evaluation, QuestionSet) or evaluation.surface is None:
        return ""
    questions = dict.fromkeys(item.question_id for item in evaluation.items)
    wordings = evaluation.surface.by_question
    sizes = [len(drawn_texts(wordings[name])) for name in questions if name in wordings]
    draws = sum(draw_of_sample(evaluation.surface.kind, sample) is not None for sample in range(evaluation.samples))
    number = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes):,}"
    again = -(-draws // min(sizes))
    return (
        f"{number} drawn texts a question, taken in turn"
        + (f", so one is asked up to {again} times" if again > 1 else "")
        + (
            f"; {fixed} of {len(questions)} questions have one text, which is always asked"
            if (fixed := len(questions) - len(sizes))
            else ""
        )
    )
