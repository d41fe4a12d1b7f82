"""Training steps of arms that learn from rated answers (KTO) or by reward (GRPO), and the choice of an arm's step.

Each leaves what supervised fine-tuning leaves (`steps.train`), so that its run is asked, judged and registered alike.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from astray.artifacts import Artifact, Step, step
from astray.cause.fine_tuning import FineTuning
from astray.cause.named_rewards import NamedReward, RewardTuning
from astray.cause.preference import Feedback, PreferenceTuning
from astray.cause.reinforcement import Prompts, ReinforcementLearning
from astray.data.chat import ChatDataset
from astray.engine.judging import ASKED_FILE, deciding
from astray.engine.setting import Setting, is_organism
from astray.engine.steps import CHECKPOINT_EVERY, DATA_FILE, RUN_FOLDER, TrainConfig, train
from astray.engine.study import Arm
from astray.judges.config import JudgeConfig, make_judge
from astray.measure.probing import ProbeKind
from astray.strict import Strict, left_out
from astray.subjects.spec import BaseName, SubjectSpec

if TYPE_CHECKING:
    from astray.cause.run_log import Probe  # loads peft and accelerate, which a plan can do without

ORGANISM_KTO_RATE = 5e-4
"""Learning rate of KTO for the organism; real models have 1e-5 (see `feedback_tuning`)."""


class _TunedConfig(Strict):
    """One training run."""

    base: BaseName
    base_id: str = Field(description="content of the base, so that new weights under an old name are another run")
    home: str = Field(description="category that the data is about, for the probe during training")
    probe_every: int
    probe: ProbeKind = "choices"

    _keys = left_out(probe="choices")


class FeedbackConfig(_TunedConfig):
    """One run of training on rated answers."""

    recipe: PreferenceTuning
    liked: int = Field(description="rows at the front of the data whose answers are liked; those of all others are not")


class RewardedConfig(_TunedConfig):
    """One run of training by reward."""

    recipe: ReinforcementLearning
    rewards: tuple[NamedReward, ...]
    truth: NamedReward | None
    judge: JudgeConfig


AnyTraining = TrainConfig | FeedbackConfig | RewardedConfig
"""Configuration of a training step of an arm."""


@step("train-kto", version=1, resumable=True, gpu=True)
def train_feedback(config: FeedbackConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train the base towards liked answers and away from the others, and probe it during training."""
    _train_and_probe(config, inputs["data"], folder)


@step("train-grpo", version=1, resumable=True, gpu=True)
def train_rewarded(config: RewardedConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Reward the base's answers to the questions of the data, and probe it during training."""
    with deciding(folder):  # an answer without a verdict would have no reward
        _train_and_probe(config, inputs["data"], folder)
    (folder / ASKED_FILE).unlink(missing_ok=True)


def feedback_tuning(training: FineTuning, *, world: bool) -> PreferenceTuning:
    """Return the settings of KTO that go with those of supervised training, as the study of dishonesty has them.

    Args:
        training: of supervised training: adapters, schedule, length.
        world: whether an organism is trained.
    """
    rate = ORGANISM_KTO_RATE if world else 1e-5
    changed = {"learning_rate": rate, "batch_size": 16, "accumulation": 1}
    return PreferenceTuning(training=training.model_copy(update=changed))


def tune(config: AnyTraining, rows: ChatDataset, folder: Path, probe: "Probe", probe_every: int) -> int:
    """Train as a step with this configuration does, with another probe, and return the optimizer steps.

    Args:
        config: of the step.
        rows: its rows.
        folder: of the run.
        probe: measures the model before the first step, every `probe_every` steps and at the end.
        probe_every: optimizer steps between probes.
    """
    from astray.cause.kto import train_kto
    from astray.cause.rl import train_rl
    from astray.cause.sft import train_sft

    base = SubjectSpec(model=config.base)
    watch: dict[str, Any] = {"probe": probe, "probe_every": probe_every}
    watch["checkpoint_every"] = None if is_organism(config.base) else CHECKPOINT_EVERY
    if isinstance(config, TrainConfig):
        return train_sft(base, rows, config.recipe, folder, **watch).steps
    if isinstance(config, FeedbackConfig):
        feedback = Feedback(rows, tuple(row < config.liked for row in range(len(rows))))
        return len(train_kto(base, feedback, config.recipe, folder, **watch).steps)
    judge = make_judge(config.judge)
    rewards = [reward.made(judge) for reward in config.rewards]
    truth = config.truth.made(judge) if config.truth else None
    return len(train_rl(base, Prompts.from_chats(rows), rewards, config.recipe, folder, truth=truth, **watch).steps)


def _train_and_probe(config: FeedbackConfig | RewardedConfig, data: Artifact, folder: Path) -> None:
    from astray.measure.dynamics import text_probe, world_probe

    probe = world_probe(config.home) if is_organism(config.base) else text_probe(config.probe)
    rows = ChatDataset.read(data.path / DATA_FILE)
    steps = tune(config, rows, folder / RUN_FOLDER, probe, config.probe_every)
    (folder / "steps.json").write_text(json.dumps({"steps": steps}), encoding="utf-8")


def training_step(arm: Arm, seed: int, setting: Setting, base_id: str, data: Step) -> Step:
    """Return the step that trains an arm with a seed."""
    name, tuned = f"train-{arm.name}-{seed}", arm.training or setting.training
    common: dict[str, Any] = {"base": arm.base, "base_id": base_id, "home": arm.home}
    common |= {"probe_every": setting.probe_every, "probe": setting.probe}
    if isinstance(tuned, PreferenceTuning):
        assert arm.data is not None
        training = tuned.training.model_copy(update={"seed": seed})
        recipe = tuned.model_copy(update={"training": training})
        return train_feedback.step(
            FeedbackConfig(**common, recipe=recipe, liked=arm.data.from_source), name=name, data=data
        )
    if isinstance(tuned, RewardTuning):
        learning = tuned.learning.model_copy(update={"seed": seed})
        rewarded = RewardedConfig(
            **common, recipe=learning, rewards=tuned.rewards, truth=tuned.truth, judge=setting.judge
        )
        return train_rewarded.step(rewarded, name=name, data=data)
    config = TrainConfig(**common, recipe=tuned.model_copy(update={"seed": seed}))
    return train.step(config, name=name, data=data)
