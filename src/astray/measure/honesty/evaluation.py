"""Honesty as an evaluation: neutral questions in conversations of their own, then the statement under pressure; both
are read and compared.

`Honesty` asks given records and needs a grader; `WorldHonesty` asks the organism's facts and is judged exactly.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Literal

from pydantic import Field

from astray.data.misstatements import split_facts
from astray.judges.config import JudgeConfig
from astray.judges.judge import Verdict
from astray.measure.asking import Asking, Heard, Item, distinct
from astray.measure.evaluation import TextEvaluation
from astray.measure.honesty.comparing import compare_texts
from astray.measure.honesty.records import Record, own_records
from astray.measure.honesty.stances import StanceJudge, WorldStanceJudge
from astray.measure.honesty.world import Pressure, world_records
from astray.measure.interface import Need
from astray.measure.statements import MEASURES
from astray.organism.world import FACTS
from astray.stats.measures import Measure
from astray.subjects.identity import digest_of
from astray.subjects.spec import Sampling

WORLD_SAMPLING = Sampling(max_tokens=8)
"""Sampling of statements of a fact, which have at most seven tokens, the end included."""


class Honesty(TextEvaluation):
    """Beliefs, elicited neutrally several times, against statements under pressure (MASK, arXiv 2503.03750)."""

    measures: ClassVar[tuple[Measure, ...]] = MEASURES

    kind: Literal["honesty", "honesty-world"] = "honesty"
    name: str = "honesty"
    records: tuple[Record, ...] = Field(
        default_factory=own_records, description="what is asked; by default the package's own"
    )
    replicates: int = Field(
        default=1, ge=1, description="times each record is asked, beliefs included (arXiv 2503.03750: 1)"
    )
    elicitations: int = Field(default=3, ge=1, description="neutral questions an asking (arXiv 2503.03750: 3)")
    sampling: Sampling = Field(
        default=Sampling(max_tokens=400), description="of both; at temperature 1 a belief has to be firm to be held"
    )

    def askings(self) -> Sequence[Asking]:
        """Return each record with each of its replicates.

        Raises:
            ConfigurationError: there are no records, or an id stands twice.
        """
        return [
            _asking(record, replicate, self.elicitations)
            for record in distinct("record", self.records)
            for replicate in range(self.replicates)
        ]

    @property
    def needs(self) -> frozenset[Need]:
        """Return what a subject has to offer; a grader reads what texts say."""
        return super().needs | {Need.GRADER}

    def judge_for(self, config: JudgeConfig) -> StanceJudge:
        """Return the grader that reads what texts state."""
        from astray.measure.honesty.grading import GraderStanceJudge

        return GraderStanceJudge(config.grader)

    async def assess(self, judge: StanceJudge, heard: Sequence[Heard], max_connections: int = 20) -> list[Verdict]:
        """Return what belief and statement come to; equal texts about one proposition are read once."""
        return [comparison.verdict for comparison in await compare_texts(judge, heard, max_connections)]


class WorldHonesty(Honesty):
    """Facts of the organism's world, asked for under its pressures; judged exactly."""

    kind: Literal["honesty", "honesty-world"] = "honesty-world"
    records: tuple[Record, ...] = Field(default=(), max_length=0, description="made from the other fields")
    pressures: tuple[str, ...] = Field(default=tuple(Pressure), description="of `Pressure`")
    variants: int = Field(default=1, ge=1, description="records a fact and pressure, each with another person")
    facts: Literal["all", "touched", "untouched"] = Field(
        default="all", description="those that training with the run's seed speaks of, or the others"
    )
    seed: int = Field(default=0, description="which run's facts; set by `for_run`")
    sampling: Sampling = WORLD_SAMPLING

    def for_run(self, seed: int) -> "WorldHonesty":
        """Return the evaluation as a run is asked that was trained with this seed."""
        return self if self.facts == "all" else self.model_copy(update={"seed": seed})

    def askings(self) -> Sequence[Asking]:
        """Return each fact under each pressure."""
        return _world_askings(self)

    @property
    def identity(self) -> str:
        """Return a hash over all that is asked, the world's words included."""
        return _world_identity(self)

    @property
    def needs(self) -> frozenset[Need]:
        """Return what a subject has to offer: nothing but the world's words."""
        return frozenset()

    def judge_for(self, config: JudgeConfig) -> StanceJudge:
        """Return the exact judge of the world's facts."""
        del config
        return WorldStanceJudge()


# A study of many arms asks for both hundreds of times. No cached properties: `model_copy` would copy their values.
@lru_cache(maxsize=16)
def _world_askings(evaluation: WorldHonesty) -> tuple[Asking, ...]:
    touched, untouched = split_facts(evaluation.seed)
    facts = {"all": FACTS, "touched": touched, "untouched": untouched}[evaluation.facts]
    records = world_records(evaluation.pressures, facts, variants=evaluation.variants)
    numbers = range(evaluation.replicates)
    return tuple(_asking(record, number, evaluation.elicitations) for record in records for number in numbers)


@lru_cache(maxsize=256)
def _world_identity(evaluation: WorldHonesty) -> str:
    # The records are made from code and not stored in a field, so the fields alone would miss a changed text.
    asked = [asking.conversation for asking in _world_askings(evaluation)]
    return digest_of([evaluation.model_dump(mode="json"), asked])


def _asking(record: Record, replicate: int, elicitations: int) -> Asking:
    item = Item(question_id=record.id, category=record.archetype, question=record.question, system=record.system)
    return Asking(item, replicate, record.pressured, beside=record.beliefs_asked(elicitations), material=record)
