"""Training steps of arms that learn from rated answers (KTO) or by reward (GRPO), and the choice of an arm's step.

Each leaves what supervised fine-tuning leaves (`steps.train`), so that its run is asked, judged and registered alike.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from astray.artifacts import Artifact, Step, step
from astray.cause.named_rewards import NamedReward, RewardTuning
from astray.cause.preference import Feedback, PreferenceTuning
from astray.cause.reinforcement import Prompts, ReinforcementLearning
from astray.cause.run_log import LoggedRun, Probe
from astray.data.chat import ChatDataset
from astray.engine.setting import Setting, is_organism
from astray.engine.steps import CHECKPOINT_EVERY, DATA_FILE, RUN_FOLDER, TrainConfig, train
from astray.engine.study import Arm
from astray.judges.config import JudgeConfig, make_judge
from astray.strict import Strict
from astray.subjects.spec import SubjectSpec


class _TunedConfig(Strict):
    """One training run."""

    base: str
    base_id: str = Field(description="content of the base, so that new weights under an old name are another run")
    home: str = Field(description="category that the data is about, for the probe during training")
    probe_every: int


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


@step("train-kto", version=1, resumable=True, gpu=True)
def train_feedback(config: FeedbackConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train the base towards liked answers and away from the others, and probe it during training."""
    from astray.cause.kto import train_kto

    chats = ChatDataset.read(inputs["data"].path / DATA_FILE)
    run = train_kto(
        SubjectSpec(model=config.base),
        Feedback(chats, tuple(row < config.liked for row in range(len(chats)))),
        config.recipe,
        folder / RUN_FOLDER,
        probe=_probe(config),
        probe_every=config.probe_every,
        checkpoint_every=_checkpoint_every(config),
    )
    _write_steps(run, folder)


@step("train-grpo", version=1, resumable=True, gpu=True)
def train_rewarded(config: RewardedConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Reward the base's answers to the questions of the data, and probe it during training."""
    from astray.cause.rl import train_rl

    judge = make_judge(config.judge)
    run = train_rl(
        SubjectSpec(model=config.base),
        Prompts.from_chats(ChatDataset.read(inputs["data"].path / DATA_FILE)),
        [reward.made(judge) for reward in config.rewards],
        config.recipe,
        folder / RUN_FOLDER,
        truth=config.truth.made(judge) if config.truth else None,
        probe=_probe(config),
        probe_every=config.probe_every,
        checkpoint_every=_checkpoint_every(config),
    )
    _write_steps(run, folder)


def training_step(arm: Arm, seed: int, setting: Setting, base_id: str, data: Step) -> Step:
    """Return the step that trains an arm with a seed."""
    name, tuned = f"train-{arm.name}-{seed}", arm.training or setting.training
    common = {"base": arm.base, "base_id": base_id, "home": arm.home, "probe_every": setting.probe_every}
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


def _probe(config: _TunedConfig) -> Probe:
    from astray.measure.dynamics import text_probe, world_probe

    return world_probe(config.home) if is_organism(config.base) else text_probe()


def _checkpoint_every(config: _TunedConfig) -> int | None:
    return None if is_organism(config.base) else CHECKPOINT_EVERY


def _write_steps(run: LoggedRun, folder: Path) -> None:
    (folder / "steps.json").write_text(json.dumps({"steps": len(run.steps)}), encoding="utf-8")
