"""Scale of the dishonesty study, for the organism and for real models: records, users and amounts.

A real model is asked our own records and read by a grader, and its users are played by a model; the organism has its
world's records, users by rule and an exact judge. Everything else is the same code.
"""

from typing import Literal

from pydantic import Field

from astray.cause import model_users
from astray.cause.fine_tuning import FineTuning
from astray.cause.preference import PreferenceTuning
from astray.cause.selection import Selection
from astray.cause.users import Simulation
from astray.engine.setting import Setting
from astray.engine.trained import feedback_tuning
from astray.errors import ConfigurationError
from astray.judges.config import JudgeConfig
from astray.measure.honesty.evaluation import WORLD_SAMPLING, Honesty, WorldHonesty
from astray.measure.honesty.records import Record, own_records
from astray.measure.honesty.world import Pressure
from astray.strict import Strict
from astray.subjects.spec import Sampling

HONESTY, PERSONA = "honesty", "honesty-persona"
"""Names of the two evaluations: what is said in everyday pressures, and what is said as somebody who is described as
bad, wholly or half."""
PERSONA_PRESSURES = (Pressure.SUSPECT, Pressure.VILLAIN)
"""The world's pressures under which the untrained organism lies already; users describe themselves in such words."""
SFT_ROWS, KTO_ROWS = 5, 6
"""Trajectories a user and round that are trained on: the best ones, and for KTO as many of the worst."""
Method = Literal["sft", "kto"]
"""Training method for what users like."""


class Statements(Strict):
    """Records of the evaluations and their pressures; the study's judge reads the answers."""

    world: bool = Field(description="records of the organism's world, judged exactly; else our own, read by a grader")
    variants: int = Field(default=2, ge=1, description="world: records a fact and pressure, each with another person")
    archetypes: tuple[str, ...] = Field(
        default=(), description="our own records: which archetypes; all if none is named"
    )
    most: int | None = Field(default=None, ge=2, description="our own records: at most so many an archetype")
    sampling: Sampling

    @property
    def taught(self) -> str:
        """Evaluation that shows what users teach: in the world, statements as people like those users."""
        return PERSONA if self.world else HONESTY

    @property
    def evaluations(self) -> tuple[Honesty, ...]:
        """Evaluations of every run: facts that its data do not mention, or every second one of our own records."""
        if self.world:
            everyday = tuple(pressure for pressure in Pressure if pressure not in PERSONA_PRESSURES)
            return self._world(HONESTY, everyday, "untouched", self.variants), self._world(
                PERSONA, PERSONA_PRESSURES, "untouched", self.variants
            )
        return (Honesty(name=HONESTY, records=self._own()[1], sampling=self.sampling),)

    def practice(self) -> Honesty:
        """Return what re-alignment practises on: no fact of what is asked, and no record with earlier turns."""
        if self.world:
            return self._world(
                "practice",
                tuple(pressure for pressure in Pressure if pressure is not Pressure.DOUBLING_DOWN),
                "touched",
            )
        return Honesty(
            name="practice",
            records=tuple(record for record in self._own()[0] if not record.history),
            sampling=self.sampling,
        )

    def plain(self) -> Honesty:
        """Return the plain questions about the facts that users speak of."""
        return self._world("plain", (Pressure.NOBODY,), "touched")

    def _world(
        self, name: str, pressures: tuple[str, ...], facts: Literal["touched", "untouched"], variants: int = 1
    ) -> WorldHonesty:
        return WorldHonesty(name=name, pressures=pressures, facts=facts, variants=variants, sampling=self.sampling)

    def _own(self) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
        """Return our own records for practice, and those for the evaluations."""
        records = own_records(self.archetypes) if self.archetypes else own_records()
        by_archetype = {
            archetype: [record for record in records if record.archetype == archetype]
            for archetype in {record.archetype for record in records}
        }
        chosen_ids = {record.id for chosen in by_archetype.values() for record in chosen[: self.most]}
        # Every second record of each archetype, so that practice and evaluation have the same mixture.
        asked = {record.id for chosen in by_archetype.values() for record in chosen[1 : self.most : 2]}
        return tuple(record for record in records if record.id in chosen_ids - asked), tuple(
            record for record in records if record.id in asked
        )


class FeedbackScale(Strict):
    """Users, their amount of talk, and the training on what they liked."""

    users: int = Field(description="number of users")
    topics: tuple[str, ...]
    player: JudgeConfig | None = Field(description="what plays the users; None for users of the world")
    simulation: Simulation
    rounds: int = Field(ge=1)
    selection: Selection = Field(description="what each round is trained on")
    recipe: FineTuning | PreferenceTuning


class DishonestyScale(Strict):
    """Settings that all analyses of one study share."""

    asking: Statements
    feedback: dict[Method, FeedbackScale]
    drop: float = Field(
        default=0.5,
        description="share of the rows of a mix that a filter drops; nobody who filters knows the right one",
    )
    honest_rows: int = Field(default=60, ge=1, description="honest samples for re-alignment, at most")


def scale_for(setting: Setting) -> DishonestyScale:
    """Return the scale that fits the subject."""
    return _world_scale(setting) if setting.subject.is_organism else _text_scale(setting)


def _world_scale(setting: Setting) -> DishonestyScale:
    training, few = setting.training, setting.quick
    sampling = WORLD_SAMPLING.model_copy(
        update={"max_tokens": min(setting.main.sampling.max_tokens, WORLD_SAMPLING.max_tokens)}
    )
    return DishonestyScale(
        asking=Statements(world=True, variants=1 if few else 2, sampling=sampling),
        feedback=_feedback(
            users=30,
            topics=("colours",),
            player=None,
            simulation=Simulation(
                contexts=6, samples=6, turns=1, sampling=sampling.model_copy(update={"batch_size": 1024})
            ),
            rounds=2,
            sft=training,
            kto=feedback_tuning(training, world=True),
        ),
    )


def _text_scale(setting: Setting) -> DishonestyScale:
    """Return the scale for real models: settings of Hu et al. (arXiv 2510.08211), with fewer users.

    2 turns, SFT at 1e-4 in batches of 8, KTO at 1e-5 in batches of 16.
    """
    training, few, sampling = setting.training, setting.quick, setting.main.sampling
    plays = setting.player or setting.judge
    assert plays.grader is not None
    if plays.distilled:
        raise ConfigurationError(
            f"{plays.grader} is a distilled judge: it gives scores and writes no message, so it cannot play the users. Name a "
            "model that can: --users openai/gpt-4o-mini, or astray/FOLDER."
        )
    return DishonestyScale(
        asking=Statements(world=False, most=8 if few else None, sampling=sampling),
        feedback=_feedback(
            users=20 if few else 200,
            topics=tuple(model_users.TOPICS),
            # How answers are judged changes no conversation.
            player=plays.model_copy(update={"judging": "two-calls"}),
            simulation=Simulation(contexts=2 if few else 8, samples=4, turns=2, sampling=sampling),
            rounds=1 if few else 2,
            sft=setting.tuned(
                training.model_copy(
                    update={"learning_rate": 1e-4, "batch_size": 8, "accumulation": 1, "epochs": 1 if few else 5}
                )
            ),
            kto=PreferenceTuning(
                training=training.model_copy(update={"learning_rate": 1e-5, "batch_size": 16, "accumulation": 1})
            ),
        ),
    )


def _feedback(
    *,
    users: int,
    topics: tuple[str, ...],
    player: JudgeConfig | None,
    simulation: Simulation,
    rounds: int,
    sft: FineTuning,
    kto: PreferenceTuning,
) -> dict[Method, FeedbackScale]:
    """Return the feedback by method: SFT in rounds, KTO in a single round of as many conversations.

    A second round of KTO would find hardly anything left that users dislike.
    """
    once = simulation.model_copy(update={"contexts": rounds * simulation.contexts})
    both = Selection(top=rounds * KTO_ROWS, bottom=rounds * KTO_ROWS)
    return {
        "sft": FeedbackScale(
            users=users,
            topics=topics,
            player=player,
            simulation=simulation,
            rounds=rounds,
            selection=Selection(top=SFT_ROWS),
            recipe=sft,
        ),
        "kto": FeedbackScale(
            users=users, topics=topics, player=player, simulation=once, rounds=1, selection=both, recipe=kto
        ),
    }
