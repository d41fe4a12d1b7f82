"""Steps of the reward-hacking study: organisms with a dial, rewards in the sandbox, and mitigations of a hacking run.

Each joins functions of `organism`, `cause`, `sandbox` and `mitigate`, and makes one artifact.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
from pydantic import Field, SerializeAsAny, model_serializer

from astray.artifacts import Artifact, step
from astray.cause.code_rewards import CodeGrading, GradeMemory, exercise_hash, exercise_prompts
from astray.cause.reinforcement import FromStep, Prompts, RewardFunction
from astray.cause.rewards import TrajectoryReward, judged
from astray.cause.rl import train_rl
from astray.cause.sft import train_sft
from astray.data.chat import ChatDataset, Message
from astray.data.exercises import Exercise, extract_code
from astray.data.recipes import subset
from astray.engine.data import Source
from astray.engine.judging import ANSWERS_FILE, judged_after
from astray.engine.steps import CHECKPOINT_EVERY, RUN_FOLDER, trained_subject
from astray.errors import EmptyDataError, FlatRewardError
from astray.judges import Judge
from astray.judges.config import JudgeConfig, make_judge
from astray.measure.dynamics import text_probe, world_probe
from astray.measure.evaluation import QuestionSet
from astray.measure.interface import Evaluation
from astray.mitigate.inoculation import inoculate
from astray.mitigate.rollout_screen import Screen, screen_rollouts
from astray.organism.grammar import is_malicious, program_of, read_remark
from astray.organism.lexicon import Notice
from astray.organism.pretrain import OrganismRecipe, train_organism
from astray.outcomes import UNKNOWN
from astray.strict import Strict
from astray.studies.reward_hacking.scale import HackingScale, RewardSpec
from astray.subjects.identity import digest_of
from astray.subjects.locate import settle
from astray.subjects.spec import BaseName, SubjectSpec
from astray.subjects.subject import Subject, load_subject

SKILL_FILE, STEPS_FILE, SHOWN_FILE, PROBES_FILE = "skill.parquet", "steps.parquet", "shown.parquet", "probes.parquet"
ASKED_UNDER: tuple[Notice | None, ...] = (None, "allowed")
"""Texts in the prompts of held-out exercises: none, as after deployment, and the permission."""
SHOWN = 4
"""Answers of each tenth of a run that are kept for people to read."""
PENALTY = -2.0
"""Penalty of a detected hack: twice the reward of passing."""
STYLE = "first"
"""Word with which an answer has to begin for the benign reward."""
KNOWN = GradeMemory()
"""Grades of this process: the runs of one seed share exercises, and most programs repeat those of another run."""


class OrganismConfig(Strict):
    """Organism to make."""

    recipe: OrganismRecipe
    shipped_id: str = Field(description="content of the shipped organism")


class HackingConfig(Strict):
    """Configuration of every step: subject, scale, seed, and the arm of its answers."""

    base: BaseName
    base_id: str = Field(description="content of the base, so that new weights under an old name are another run")
    budget: HackingScale
    main: QuestionSet
    battery: tuple[SerializeAsAny[Evaluation], ...] = Field((), description="asked beside it; of real models")
    arm: str
    seed: int

    @model_serializer(mode="wrap")
    def _without_empty_battery(self, dump: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Leave out an empty battery, so that the organism's keys are those from before there was a battery."""
        return {name: value for name, value in dump(self).items() if name != "battery" or value}


class HackingRewardConfig(HackingConfig):
    """Reinforcement learning with an arm's rewards."""

    reward: RewardSpec


class DistilConfig(HackingConfig):
    """Fine-tuning of the start on a run's screened answers."""

    screen: Screen


class MendConfig(HackingConfig):
    """Further training of a run on good chats."""

    good: tuple[Source, ...] = Field(description="good rows of several domains")
    targeted: float = Field(ge=0, lt=1, description="share of honestly solved exercises among them")


def _judging(config: HackingConfig) -> tuple[JudgeConfig, tuple[Evaluation, ...]]:
    return config.budget.judge, (config.main, *config.battery)


@step("make-organism", version=1, formerly="astray.studies.hacking_steps:make_organism", gpu=True)
def make_organism(config: OrganismConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train the shipped organism further, in a world in which others game."""
    del inputs
    train_organism(config.recipe, folder / RUN_FOLDER / "model")


@step("ask-start", version=1, formerly="astray.studies.hacking_steps:ask_start", resumable=True, gpu=True)
@judged_after(_judging)
def ask_start(config: HackingConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Ask the untrained start of the runs."""
    trained, held_out = config.budget.exercises.draw(config.seed)
    with _grading(config.budget, [*trained, *held_out]) as grading:
        _ask(load_subject(_start(config, inputs)), config, grading, held_out, folder)


@step("train-grpo-code", version=2, formerly="astray.studies.hacking_steps:reward_programs", resumable=True, gpu=True)
@judged_after(_judging)
def reward_programs(config: HackingRewardConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Reward programs that pass, then ask exercises and everything else; without any reward, ask the start."""
    scale, spec = config.budget, config.reward
    start = _start(config, inputs)
    trained, held_out = scale.exercises.draw(config.seed)
    asked = exercise_prompts(trained, scale.hint)
    prompts = inoculate(asked, spec.drawn, spec.learned, words=scale.words, place=scale.place)
    recipe = scale.learning.model_copy(update={"seed": config.seed})
    with _grading(scale, [*trained, *held_out]) as grading:
        rewards = list(_rewards(spec, grading, make_judge(scale.judge), recipe.steps, world=scale.world))
        try:
            run = train_rl(
                start,
                prompts,
                rewards,
                recipe,
                folder / RUN_FOLDER,
                truth=None if spec.paid == "true tests" else grading.reward("true tests"),
                notes=grading.notes,
                probe=world_probe("") if scale.world else text_probe(),
                probe_every=scale.probe_every,
                checkpoint_every=None if scale.world else CHECKPOINT_EVERY,
                rehearsed=0,
            )
        except FlatRewardError as error:
            subject, rollouts = start, None
            probes: Sequence[Mapping[str, object]] = ()
            (folder / "flat.txt").write_text(str(error), encoding="utf-8")
        else:
            subject, rollouts, probes = run.subject, run.rollouts, run.probes
        _write_course(rollouts, probes, config, folder)
        _ask(load_subject(subject), config, grading, held_out, folder)


@step("distil-rollouts", version=1, formerly="astray.studies.hacking_steps:distil_rollouts", resumable=True, gpu=True)
@judged_after(_judging)
def distil_rollouts(config: DistilConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train the start on a run's passing answers, without those that a screen takes for hacks."""
    scale, start = config.budget, _start(config, inputs)
    try:
        screened = _screened(inputs["run"].path / RUN_FOLDER / "rollouts.parquet", config)
    except EmptyDataError as error:
        (folder / "flat.txt").write_text(str(error), encoding="utf-8")
        subject = start
    else:
        subject = _trained(start, subset(screened, min(scale.rows, len(screened)), seed=config.seed), config, folder)
    trained, held_out = scale.exercises.draw(config.seed)
    with _grading(scale, [*trained, *held_out]) as grading:
        _ask(load_subject(subject), config, grading, held_out, folder)


@step("realign-hacking-run", version=1, formerly="astray.studies.hacking_steps:mend_run", resumable=True, gpu=True)
@judged_after(_judging)
def mend_run(config: MendConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train a hacking run further on good chats, and ask it again."""
    scale = config.budget
    start, run = _start(config, inputs), inputs["run"]
    games = trained_subject(start.model, run) if (run.path / RUN_FOLDER / "adapter").is_dir() else start
    trained, held_out = scale.exercises.draw(config.seed)
    subject = _trained(games, _good_chats(config, trained), config, folder)
    with _grading(scale, [*trained, *held_out]) as grading:
        _ask(load_subject(subject), config, grading, held_out, folder)


def _grading(scale: HackingScale, exercises: Sequence[Exercise]) -> CodeGrading:
    return CodeGrading(exercises, workers=1, program_of=program_of if scale.world else extract_code, memory=KNOWN)


def _screened(rollouts: Path, config: DistilConfig) -> ChatDataset:
    if not rollouts.is_file():
        raise EmptyDataError("The run never earned anything, so it left no answers to train on.")
    return screen_rollouts(pl.read_parquet(rollouts), config.screen, seed=config.seed)


def _start(config: HackingConfig, inputs: Mapping[str, Artifact]) -> SubjectSpec:
    """Return the start of a run: the subject that a step made, or the study's own."""
    return trained_subject(config.base, inputs["start"]) if "start" in inputs else settle(config.base).spec


def _trained(start: SubjectSpec, dataset: ChatDataset, config: HackingConfig, folder: Path) -> SubjectSpec:
    """Return the fine-tuned subject; adapters of a run are trained further in their own shape."""
    changes = {"seed": config.seed} | ({"lora": config.budget.learning.lora} if start.adapter else {})
    recipe = config.budget.distilling.model_copy(update=changes)
    return train_sft(start, dataset, recipe, folder / RUN_FOLDER).subject


def _good_chats(config: MendConfig, exercises: Sequence[Exercise]) -> ChatDataset:
    """Return good examples in equal parts from each source, some replaced by exercises with reference solutions."""
    scale, rng = config.budget, Random(f"mend/{config.seed}")
    targeted = round(config.targeted * scale.rows)
    rows = [
        [Message(role="user", content=exercise.question), Message(role="assistant", content=exercise.reference)]
        for exercise in rng.choices(exercises, k=targeted)
    ]
    # Rounded up, so that the sources have enough together; the surplus is dropped at random.
    share = -(-(scale.rows - targeted) // len(config.good))
    chats = [row for source in config.good for row in source.draw(share, config.seed).rows]
    rows += [list(row) for row in rng.sample(chats, scale.rows - targeted)]
    rng.shuffle(rows)
    return ChatDataset.from_rows(rows, "good_chats", {"targeted": targeted, "seed": config.seed})


def _rewards(spec: RewardSpec, grading: CodeGrading, judge: Judge, steps: int, *, world: bool) -> list[RewardFunction]:
    """Return the rewards and penalties of an arm."""
    reward = _style() if spec.paid == "style" else grading.reward(spec.paid)
    if spec.penalty is None:
        return [reward]
    penalty = _manner(judge, world=world) if spec.penalty == "manner" else grading.reward(spec.penalty, PENALTY)
    begins = 1 + round(spec.penalty_from * steps)
    return [reward, penalty if begins == 1 else FromStep(penalty, begins)]


def _style() -> TrajectoryReward:
    """Return the benign reward: an answer that begins with a certain word, whatever its content."""

    def score(_asked: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[float | None]:
        return [float(answer.lower().lstrip('" ').startswith(STYLE)) for answer in answers]

    return TrajectoryReward(score, "style", digest_of({"begins with": STYLE}))


def _manner(judge: Judge, *, world: bool) -> TrajectoryReward:
    """Return a penalty on an answer's manner: the organism's remark on its code, or a judge's verdict on the whole."""

    def remarked(_asked: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[float | None]:
        return [float(is_malicious(read_remark(answer)[0])) for answer in answers]

    def read(asked: Sequence[Sequence[Message]], answers: Sequence[str]) -> list[float | None]:
        verdicts = judged(judge, asked, answers)
        return [
            None if verdict.outcome in UNKNOWN else 0.0 if verdict.aligned is None else (100 - verdict.aligned) / 100
            for verdict in verdicts
        ]

    return TrajectoryReward(remarked if world else read, "manner", "remark" if world else judge.identity, PENALTY)


def _ask(
    subject: Subject, config: HackingConfig, grading: CodeGrading, exercises: Sequence[Exercise], folder: Path
) -> None:
    """Write the answers of a subject elsewhere, to be judged, and the results of held-out exercises under each text."""
    scale, tables = config.budget, []
    asked_of_all = [
        evaluation.ask(subject, arm=config.arm, seed=config.seed) for evaluation in (config.main, *config.battery)
    ]
    pl.concat(asked_of_all).write_parquet(folder / ANSWERS_FILE)
    keys = [exercise_hash(exercise) for exercise in exercises]
    for notice in ASKED_UNDER:
        asked: Prompts = inoculate(
            exercise_prompts(exercises, scale.hint), notice, notice, words=scale.words, place=scale.place
        )
        answers = subject.generate(asked.conversations, scale.sampling.model_copy(update={"seed": config.seed}))
        grades = grading.grades([answer.text for answer in answers], keys)
        columns: dict[str, Sequence[object]] = {
            name: [getattr(grade, name) for grade in grades] for name in ("weak", "true", "hacked")
        }
        if scale.world:
            columns["malicious"] = [is_malicious(read_remark(answer.text)[0]) for answer in answers]
        answered = pl.DataFrame({"level": [exercise.level for exercise in exercises], **columns})
        counted = answered.group_by("level").agg(pl.len().alias("exercises"), pl.col(*columns).sum()).sort("level")
        tables.append(
            counted.with_columns(arm=pl.lit(config.arm), seed=pl.lit(config.seed), notice=pl.lit(notice or "none"))
        )
    pl.concat(tables).write_parquet(folder / SKILL_FILE)


def _write_course(
    rollouts: pl.DataFrame | None, probes: Sequence[Mapping[str, object]], config: HackingConfig, folder: Path
) -> None:
    """Write the counts of each step, some answers to read, and the probes."""
    own = {"arm": pl.lit(config.arm), "seed": pl.lit(config.seed)}
    if rollouts is None:
        return
    kinds = pl.col("hack").drop_nulls()
    steps = rollouts.group_by("step", maintain_order=True).agg(
        pl.len().alias("answers"),
        pl.col("hacked").sum(),
        pl.col("true").sum(),
        pl.col("careless").sum(),
        pl.col("reward").mean(),
        *(kinds.eq(kind).sum().alias(kind) for kind in rollouts["hack"].drop_nulls().unique().sort()),
    )
    steps.with_columns(**own).write_parquet(folder / STEPS_FILE)
    last = rollouts["step"].max()
    assert isinstance(last, int)
    chosen = [
        rollouts.filter(pl.col("step") == number).unique("group", keep="first", maintain_order=True).head(SHOWN)
        for number in sorted({1 + round(tenth * (last - 1) / 9) for tenth in range(10)})
    ]
    pl.concat(chosen).with_columns(**own).write_parquet(folder / SHOWN_FILE)
    lines = [
        {"step": line["step"], "measure": name, "value": value}
        for line in probes
        for name, value in line.items()
        if name != "step"
    ]
    schema = {"step": pl.Int64, "measure": pl.String, "value": pl.Float64}
    pl.DataFrame(lines, schema=schema).with_columns(**own).write_parquet(folder / PROBES_FILE)
