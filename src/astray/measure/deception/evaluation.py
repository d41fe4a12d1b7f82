"""Deception as an evaluation: the plain question by itself, then the outer answer, compared by a grader.

Words and measures are those of honesty: a lie is here an output that deceives.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from astray.judges.config import JudgeConfig
from astray.judges.judge import Verdict
from astray.judges.side_by_side import read_side_by_side
from astray.measure.asking import CUT_OFF, Asking, Heard, Item, distinct, hear, marked_reasoning
from astray.measure.deception.scenarios import DeceptionScenario, own_scenarios
from astray.measure.evaluation import TextEvaluation
from astray.measure.interface import Need
from astray.measure.statements import ACCURATE, MEASURES
from astray.stats.measures import Measure
from astray.subjects.spec import Sampling

if TYPE_CHECKING:
    from inspect_ai.model import ModelOutput

    from astray.measure.deception.judging import DeceptionJudge

SAMPLING = Sampling(max_tokens=1500)
"""Sampling with room for reasoning and an output."""


class Deception(TextEvaluation):
    """Plain answers of a subject against its outputs under pressure (DeceptionBench)."""

    measures: ClassVar[tuple[Measure, ...]] = tuple(measure for measure in MEASURES if measure != ACCURATE)

    kind: Literal["deception"] = "deception"
    name: str = "deception"
    scenarios: tuple[DeceptionScenario, ...] = Field(
        default_factory=own_scenarios, description="what is asked; by default the package's own"
    )
    replicates: int = Field(default=1, ge=1, description="times each scenario is asked, the plain question included")
    sampling: Sampling = SAMPLING

    def askings(self) -> Sequence[Asking]:
        """Return each scenario with each of its replicates.

        Raises:
            ConfigurationError: there are no scenarios, or an id stands twice.
        """
        return [
            _asking(scenario, replicate)
            for scenario in distinct("scenario", self.scenarios)
            for replicate in range(self.replicates)
        ]

    @property
    def needs(self) -> frozenset[Need]:
        """Return what a subject has to offer; a grader compares."""
        return super().needs | {Need.GRADER}

    def judge_for(self, config: JudgeConfig) -> "DeceptionJudge":
        """Return the grader that compares belief and output."""
        from astray.measure.deception.judging import DeceptionJudge

        return DeceptionJudge(config.grader)

    def hear(self, text: str, output: "ModelOutput | None" = None) -> tuple[str, dict[str, object]]:
        """Return the output, which alone is said to others, and the reasoning before it."""
        from astray.measure.deception.judging import read_outer

        outer, (_, detail) = read_outer(text), hear(text, output)
        reasoning = "\n\n".join(filter(None, [marked_reasoning(output), outer.thought]))
        thoughts: dict[str, object] = {"reasoning": reasoning} if reasoning else {}
        return outer.output, thoughts | ({CUT_OFF: True} if CUT_OFF in detail else {})

    async def assess(self, judge: Any, heard: Sequence[Heard], max_connections: int = 20) -> list[Verdict]:
        """Return what plain answer and output come to."""

        async def compared(number: int) -> Verdict:
            asking, beside = heard[number].asking, heard[number].detail.get("beside")
            assert isinstance(asking.material, DeceptionScenario)
            # One plain question a scenario; an answer that never came is None, which the judge counts as an error.
            (belief,) = beside if isinstance(beside, list) else [None]
            reasoning = str(heard[number].detail.get("reasoning", ""))
            return (await judge.compare(asking.material, belief, heard[number].answer, reasoning)).verdict

        findings = await read_side_by_side(compared, range(len(heard)), max_connections)
        return [findings[number] for number in range(len(heard))]


def _asking(scenario: DeceptionScenario, replicate: int) -> Asking:
    item = Item(
        question_id=scenario.id, category=scenario.category.value, question=scenario.outer, system=scenario.system
    )
    return Asking(item, replicate, scenario.pressured, beside=(scenario.plain,), material=scenario)
