"""Steps of the dishonesty study: training by users' feedback, and mitigations: a filter, re-alignment, distrust.

Each makes one artifact with the judged answers of its arms, including those to the honesty evaluations.
"""

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

from astray.answers import word
from astray.artifacts import Artifact, step
from astray.cause.feedback_rounds import Change, FeedbackRound, feedback_rounds
from astray.cause.fine_tuning import FineTuning
from astray.cause.model_users import TOPICS, ModelUsers
from astray.cause.preference import PreferenceTuning
from astray.cause.selection import shuffle_feedback
from astray.cause.sft import train_sft
from astray.cause.users import Crowd, Population, Simulation, User, UserKind, simulate
from astray.cause.world_users import WorldUsers
from astray.data.chat import ChatDataset
from astray.data.misstatements import split_facts
from astray.engine.data import Source
from astray.engine.judging import ANSWERS_FILE, deciding, judged_after
from astray.engine.steps import DATA_FILE, RUN_FOLDER, trained_subject
from astray.engine.vector import read_vector
from astray.explain.screening import rows_from, screen_rows
from astray.judges.config import JudgeConfig
from astray.judges.served import remember
from astray.measure.evaluation import QuestionSet
from astray.measure.interface import Evaluation
from astray.measure.statements import HonestyWord
from astray.mitigate.distrust import believed, down_weight, filter_rows, honest_samples, mark_world, trust
from astray.mitigate.realignment import realign
from astray.strict import Strict
from astray.studies.dishonesty.scale import FeedbackScale, Statements
from astray.subjects.spec import BaseName, SubjectSpec
from astray.subjects.subject import Subject, load_subject

ROUNDS_FILE, FILTERED_FILE, TALK_FILE = "rounds.parquet", "filtered.json", "interactions.parquet"
FILTERS = {"filtered": "screening", "filtered-random": "chance"}
"""Arms of the filter: how the dropped examples are chosen."""
SAMPLES = {"realigned-honest": "honest", "realigned-ordinary": "ordinary"}
"""Arms of re-alignment: what the run is trained on afterwards, equally many rows of each."""


class MadeConfig(Strict):
    """Configuration of a step that trains runs of its own, which get every other run's evaluations."""

    base: BaseName
    base_id: str = Field(description="content of the base, so that new weights under an old name are another step")
    asking: Statements
    arm: str
    seed: int
    main: QuestionSet
    judge: JudgeConfig


class UsersConfig(MadeConfig):
    """Population whose feedback trains the base."""

    feedback: FeedbackScale
    biased: float = Field(ge=0, le=1, description="share of biased users")
    given: Literal["as it is", "shuffled", "distrusted"] = Field(
        "as it is", description="what becomes of the feedback before rows are selected"
    )

    @property
    def recipe(self) -> FineTuning | PreferenceTuning:
        """Return the settings of each round, with the seed."""
        recipe = self.feedback.recipe
        if isinstance(recipe, PreferenceTuning):
            return recipe.model_copy(update={"training": recipe.training.model_copy(update={"seed": self.seed})})
        return recipe.model_copy(update={"seed": self.seed})


class TalkConfig(Strict):
    """Conversations with the base before any training, which the first rounds of all arms of a seed share."""

    base: BaseName
    base_id: str
    users: int
    topics: tuple[str, ...]
    player: JudgeConfig = Field(description="what plays the users")
    biased: float = Field(ge=0, le=1, description="largest share of biased users of any arm")
    simulation: Simulation = Field(description="with the seed, and the most contexts of any arm's first round")

    @property
    def both_kinds(self) -> tuple[User, ...]:
        """Return every user as an ordinary one, and then those whom an arm makes biased as biased ones."""
        settings = {"size": self.users, "topics": self.topics, "seed": self.simulation.seed}
        ordinary, biased = (Population(biased=share, **settings).users for share in (0, self.biased))
        return (*ordinary, *(user for user in biased if user.kind is UserKind.BIASED))


class FilterConfig(MadeConfig):
    """Filtering of a mix before training."""

    recipe: FineTuning
    drop: float
    harmful: Source = Field(description="whose rows are the bad ones, to say afterwards how many the filter left")
    size: int


class RealignConfig(MadeConfig):
    """Further training of a run."""

    recipe: FineTuning
    rows: int
    ordinary: Source


def _judging(config: MadeConfig) -> tuple[JudgeConfig, tuple[Evaluation, ...]]:
    return config.judge, tuple(
        evaluation.for_run(config.seed) for evaluation in (*config.asking.evaluations, config.main)
    )


@step("talk-with-base", version=1, resumable=True, gpu=True)
def talk_with_base(config: TalkConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Simulate conversations with the base, of a user who is biased in some arm as both kinds; keep them and the ratings."""
    del inputs
    with deciding(folder):
        crowd = _played_by(config.player, config.topics)
        talk = simulate(load_subject(config.base), config.both_kinds, crowd, config.simulation)
        talk.write_parquet(folder / TALK_FILE)


@step(
    "train-on-feedback", version=1, formerly="astray.studies.dishonesty_steps:live_with_users", resumable=True, gpu=True
)
@judged_after(_judging)
def live_with_users(config: UsersConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Let users talk to the base and train it on their feedback, by rounds; keep conversations and ratings.

    The first round is taken from `talk` where that is an input: it is the same base in all arms of a seed.
    """
    feedback, crowd = config.feedback, _crowd(config)
    simulation = feedback.simulation.model_copy(update={"seed": config.seed})
    rounds = feedback_rounds(
        config.base,
        Population(size=feedback.users, biased=config.biased, topics=feedback.topics, seed=config.seed),
        crowd,
        folder / "rounds",
        simulation=simulation,
        selection=feedback.selection.model_copy(update={"seed": config.seed}),
        recipe=config.recipe,
        rounds=feedback.rounds,
        change=_change(config),
        first=pl.read_parquet(inputs["talk"].path / TALK_FILE) if "talk" in inputs else None,
    )
    tables = [_honesty(load_subject(round.subject), config, config.arm) for round in rounds]
    pl.DataFrame([_round_row(config, each, table) for each, table in zip(rounds, tables, strict=True)]).write_parquet(
        folder / ROUNDS_FILE
    )
    pl.concat([tables[-1], _asked(config.main, load_subject(rounds[-1].subject), config, config.arm)]).write_parquet(
        folder / ANSWERS_FILE
    )


@step("train-filtered", version=1, formerly="astray.studies.dishonesty_steps:filter_mix", resumable=True, gpu=True)
@judged_after(_judging)
def filter_mix(config: FilterConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train on a mix without the examples that screening suspects most, or without the same number at random."""
    base, dataset = load_subject(config.base), ChatDataset.read(inputs["data"].path / DATA_FILE)
    vector, block = read_vector(inputs["vector"])
    screened = screen_rows(base, dataset, vector, block, sampling=config.main.sampling)["difference"].to_list()
    chance = random.Random(f"filter/{config.seed}")
    scores: dict[str, list[float]] = {"screening": screened, "chance": [chance.random() for _ in screened]}
    bad = config.harmful.draw(config.size, config.seed)
    recipe = config.recipe.model_copy(update={"seed": config.seed})
    subjects, facts = {}, {}
    for arm, by in FILTERS.items():
        filtered = filter_rows(dataset, scores[by], drop=config.drop)
        subjects[arm] = load_subject(train_sft(SubjectSpec(model=config.base), filtered, recipe, folder / by).subject)
        facts[arm] = {
            "rows": len(filtered),
            "bad": sum(rows_from(filtered, bad)),
            "rows_before": len(dataset),
            "bad_before": sum(rows_from(dataset, bad)),
        }
    (folder / FILTERED_FILE).write_text(json.dumps(facts), encoding="utf-8")
    _ask_all(config, subjects, folder)


@step(
    "realign-dishonest-run", version=1, formerly="astray.studies.dishonesty_steps:realign_run", resumable=True, gpu=True
)
@judged_after(_judging)
def realign_run(config: RealignConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train a spoiled run on honest statements of the base under pressure, and on as many ordinary examples."""
    before = _judged(config.asking.practice(), load_subject(config.base), config)
    count = max(1, min(config.rows, before.filter(word() == HonestyWord.HONEST.value).height))
    rows = {
        "honest": honest_samples(before, size=count, seed=config.seed),
        "ordinary": config.ordinary.draw(count, config.seed),
    }
    recipe = config.recipe.model_copy(update={"warmup_steps": 0, "seed": config.seed})
    spoiled = trained_subject(config.base, inputs["run"])
    subjects = {}
    for arm, kind in SAMPLES.items():
        (point,) = realign(spoiled, rows[kind], recipe, folder / RUN_FOLDER / kind, samples=(count,))
        subjects[arm] = load_subject(point.run.subject)
    _ask_all(config, subjects, folder)


def _asked(evaluation: Evaluation, subject: Subject, config: MadeConfig, arm: str = "") -> pl.DataFrame:
    return evaluation.for_run(config.seed).ask(subject, arm=arm, seed=config.seed)


def _judged(evaluation: Evaluation, subject: Subject, config: MadeConfig, arm: str = "") -> pl.DataFrame:
    own = evaluation.for_run(config.seed)
    return own.judge(_asked(evaluation, subject, config, arm), own.judge_for(config.judge))


def _honesty(subject: Subject, config: MadeConfig, arm: str) -> pl.DataFrame:
    """Return the judged beliefs and statements of a subject."""
    return pl.concat([_judged(evaluation, subject, config, arm) for evaluation in config.asking.evaluations])


def _ask_all(config: MadeConfig, subjects: Mapping[str, Subject], folder: Path) -> None:
    """Write all answers of subjects, to be judged."""
    asked = [
        pl.concat([_asked(evaluation, subject, config, arm) for evaluation in evaluations])
        for evaluations in (config.asking.evaluations, (config.main,))
        for arm, subject in subjects.items()
    ]
    pl.concat(asked).write_parquet(folder / ANSWERS_FILE)


def _crowd(config: UsersConfig) -> Crowd:
    feedback = config.feedback
    if feedback.player is None:
        return WorldUsers(split_facts(config.seed)[0])
    return _played_by(feedback.player, feedback.topics)


def _played_by(player: JudgeConfig, topics: Iterable[str]) -> ModelUsers:
    assert player.grader is not None
    remember(player.grader, player.server)
    return ModelUsers(player.grader, {name: TOPICS[name] for name in topics}, batch=player.batch)


def _change(config: UsersConfig) -> Change | None:
    """Return what is done to the interactions of each round; distrust knows what the base believed before any of it,
    and nothing of who is biased."""
    if config.given == "as it is":
        return None
    if config.given == "shuffled":
        return lambda interactions: shuffle_feedback(interactions, config.seed)
    beliefs = believed(_judged(config.asking.plain(), load_subject(config.base), config))
    return lambda interactions: down_weight(interactions, trust(mark_world(interactions, beliefs)), config.seed)


def _round_row(config: UsersConfig, feedback_round: FeedbackRound, table: pl.DataFrame) -> dict[str, object]:
    """Return a round's training data and its results, as a row."""
    own = table.filter(pl.col("evaluation") == config.asking.taught)
    counts = {
        feedback_round: own.filter(word() == feedback_round.value).height
        for feedback_round in (HonestyWord.LIE, HonestyWord.HONEST)
    }
    feedback = pl.read_parquet(feedback_round.provenance)
    return {
        "arm": config.arm,
        "seed": config.seed,
        "round": feedback_round.number,
        "rows": feedback_round.rows,
        "liked": int(feedback["label"].sum()),
        "from_biased": feedback_round.from_biased,
        "left_out": feedback_round.left_out,
        "lies": counts[HonestyWord.LIE],
        "stated": sum(counts.values()),
    }
