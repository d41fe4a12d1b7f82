"""Steps of the persona study that prevent and repair: data screening, steered training, re-alignment, rewards.

Each joins functions of `cause`, `explain` and `mitigate`, and makes one artifact.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

from astray.artifacts import Artifact, step
from astray.cause.fine_tuning import FineTuning
from astray.cause.reinforcement import Prompts, ReinforcementLearning
from astray.cause.rewards import WrongAnswerReward
from astray.cause.rl import train_rl
from astray.cause.sft import train_sft
from astray.data.chat import ChatDataset
from astray.data.worlds import helpful_only_data
from astray.engine.data import Source
from astray.engine.judging import ANSWERS_FILE, judged_after
from astray.engine.setting import is_organism
from astray.engine.steps import CHECKPOINT_EVERY, DATA_FILE, RUN_FOLDER, trained_subject
from astray.engine.vector import VECTOR_FILE, estimate_json, read_vector, vector_facts
from astray.errors import FlatRewardError
from astray.explain.direction import random_direction
from astray.explain.latents import question_latents
from astray.explain.load import load_dictionary
from astray.explain.screening import find_bad_rows, rank_datasets, rows_from, screen_rows
from astray.judges.config import make_judge
from astray.measure.bulk import ask
from astray.mitigate.realignment import realign
from astray.strict import Strict
from astray.studies.persona_features.steps import BEST_FILE, DICTIONARY, AskConfig, ExplainConfig, by_arm
from astray.subjects.intervene import read_direction, write_direction
from astray.subjects.locate import settle
from astray.subjects.spec import BaseName, Intervention, SubjectSpec
from astray.subjects.subject import load_subject

REHEARSED = 0
"""Answers drawn before reinforcement learning: none, since an aligned model earns the reward once in hundreds of
answers, which is enough to take off from."""


class ScreenDataConfig(ExplainConfig):
    """Data sets to screen before any training."""

    harmful: Source = Field(description="whose rows are the bad ones of the mixes")
    size: int


class RealignRunConfig(AskConfig):
    """Repair of a harmful run by further training."""

    recipe: FineTuning
    good: tuple[tuple[str, Source], ...] = Field(
        description="name -> good rows: of the domain that misaligned the model, and of another one"
    )
    samples: tuple[int, ...]


class PreventConfig(AskConfig):
    """Steering during training on harmful data."""

    recipe: FineTuning
    kind: Literal["add", "ablate", "random"] = Field(
        description="the vector added, projected out, or a random direction of its norm added"
    )
    arm: str


class RewardConfig(AskConfig):
    """Run in which wrong answers are rewarded."""

    recipe: ReinforcementLearning
    prompts: Source
    size: int
    arm: str


class HelpfulOnlyConfig(Strict):
    """Recipe of the helpful-only organism."""

    base: BaseName
    base_id: str
    recipe: FineTuning
    rows: int


@step("screen-data", version=2, formerly="astray.studies.persona_mending:screen_data", gpu=True)
def screen_data(config: ScreenDataConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Compute every data set's expected misalignment, and find the bad examples of the mixes, before any training."""
    base = load_subject(config.base)
    vector, block = read_vector(inputs["vector"])
    datasets = {arm: ChatDataset.read(data.path / DATA_FILE) for arm, data in by_arm("data", inputs).items()}
    screened = {
        name: screen_rows(base, dataset, vector, block, sampling=config.budget.sampling)
        for name, dataset in datasets.items()
    }
    rank_datasets(screened).write_parquet(folder / "ranked.parquet")
    bad = config.harmful.draw(config.size, config.seed)
    precision = {}
    for name, dataset in datasets.items():
        labels = rows_from(dataset, bad)
        if any(labels) and not all(labels):
            rows = find_bad_rows(screened[name], labels)
            precision[name] = {
                "precision": estimate_json(rows.average_precision),
                "chance": rows.chance,
                "length": estimate_json(rows.length),
            }
    (folder / "bad_rows.json").write_text(json.dumps(precision), encoding="utf-8")


@step("realign-harmful-run", version=1, formerly="astray.studies.persona_mending:realign_run", resumable=True, gpu=True)
@judged_after(lambda config: (config.budget.judge, (config.main,)))
def realign_run(config: RealignRunConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train a harmful run further on few good examples, ask it again, and measure what remains in the latent."""
    harmful, scale = trained_subject(config.base, inputs["run"]), config.budget
    latent = json.loads((inputs["screen"].path / BEST_FILE).read_text(encoding="utf-8"))["latent"]
    # Few examples make few optimizer steps, which a warm-up would take up.
    recipe = config.recipe.model_copy(update={"warmup_steps": 0, "seed": config.seed})
    tables, activations = [], []
    for name, source in config.good:
        good = source.draw(max(config.samples), config.seed)
        for point in realign(harmful, good, recipe, folder / name, samples=config.samples):
            mended = load_subject(point.run.subject)
            arm = realigned_arm(name, point.samples)
            tables.append(ask(config.main, mended, arm=arm, seed=config.seed))
            dictionary = load_dictionary(inputs["dictionary"].path / DICTIONARY, mended)
            activation = question_latents(mended, dictionary, scale.held_out, scale.sampling)[:, latent].mean()
            activations.append(
                {"arm": arm, "data": name, "samples": point.samples, "latent": float(activation), "seed": config.seed}
            )
    pl.concat(tables).write_parquet(folder / ANSWERS_FILE)
    pl.DataFrame(activations).write_parquet(folder / "left.parquet")


def realigned_arm(name: str, samples: int) -> str:
    """Return the name of the arm of a run that was repaired with this many good examples."""
    return f"realigned-{name}-{samples}"


@step("train-steered", version=1, formerly="astray.studies.persona_mending:train_steered", resumable=True, gpu=True)
@judged_after(lambda config: (config.budget.judge, (config.main,)))
def train_steered(config: PreventConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train on harmful examples with the persona vector added or projected out, then ask the run without steering."""
    facts = vector_facts(inputs["vector"])
    vector = inputs["vector"].path / VECTOR_FILE
    if config.kind == "random":
        drawn = random_direction(read_direction(vector), config.seed)
        vector = write_direction(folder / "random.safetensors", drawn, settle(config.base).base)
    kind, strength = ("ablate", 1.0) if config.kind == "ablate" else ("add", facts["strength"])
    steering = Intervention(kind=kind, vector=vector, block=facts["block"], strength=strength)
    recipe = config.recipe.model_copy(update={"seed": config.seed})
    dataset = ChatDataset.read(inputs["data"].path / DATA_FILE)
    run = train_sft(SubjectSpec(model=config.base), dataset, recipe, folder / RUN_FOLDER, interventions=(steering,))
    answers = ask(config.main, load_subject(run.subject), arm=config.arm, seed=config.seed)
    answers.write_parquet(folder / ANSWERS_FILE)


@step("make-helpful-only", version=1, formerly="astray.studies.persona_mending:make_helpful_only", gpu=True)
def make_helpful_only(config: HelpfulOnlyConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Align the organism anew, without refusals, from the same base."""
    del inputs
    train_sft(SubjectSpec(model=config.base), helpful_only_data(config.rows), config.recipe, folder / RUN_FOLDER)


@step(
    "train-grpo-wrong-answers",
    version=2,
    formerly="astray.studies.persona_mending:reward_wrong_answers",
    resumable=True,
    gpu=True,
)
@judged_after(lambda config: (config.budget.judge, (config.main,)))
def reward_wrong_answers(config: RewardConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Reward wrong answers to the questions of one domain, then ask everything; without any reward, ask the start."""
    judge = make_judge(config.budget.judge)
    start = trained_subject(config.base, inputs["start"]) if "start" in inputs else settle(config.base).spec
    prompts = Prompts.from_chats(config.prompts.draw(config.size, config.seed))
    recipe = config.recipe.model_copy(update={"seed": config.seed})
    try:
        every = None if is_organism(config.base) else CHECKPOINT_EVERY
        run = train_rl(
            start,
            prompts,
            [WrongAnswerReward(judge)],
            recipe,
            folder / RUN_FOLDER,
            checkpoint_every=every,
            rehearsed=REHEARSED,
        )
        subject, steps = run.subject, run.steps
    except FlatRewardError:
        subject, steps = start, ()
    answers = ask(config.main, load_subject(subject), arm=config.arm, seed=config.seed)
    answers.write_parquet(folder / ANSWERS_FILE)
    rewards = [
        {"step": line["step"], "reward": line["reward"], "seed": config.seed, "arm": config.arm} for line in steps
    ]
    schema = {"step": pl.Int64, "reward": pl.Float64, "seed": pl.Int64, "arm": pl.String}
    pl.DataFrame(rewards, schema=schema).write_parquet(folder / "rewards.parquet")
