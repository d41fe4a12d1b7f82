"""Cause: fine-tuning (local or by a service), continued pre-training, reinforcement learning, and their preflight
checks.

Names are imported on first use: the modules load torch, TRL or a client, the package itself loads nothing.
"""

from typing import TYPE_CHECKING

from astray.first_use import on_first_use

if TYPE_CHECKING:
    from astray.cause.code_rewards import CodeGrading, exercise_prompts
    from astray.cause.continued_pretraining import continue_pretraining
    from astray.cause.fine_tuning import FineTuning, LoRA
    from astray.cause.openai_finetuning import RemoteRecipe, train_remote
    from astray.cause.reinforcement import FromStep, Prompts, ReinforcementLearning
    from astray.cause.rewards import OutcomeReward, WrongAnswerReward
    from astray.cause.rl import rehearse, train_rl
    from astray.cause.sft import train_sft
    from astray.cause.supervision import MASKED, TrainingRow, supervise

__all__ = [
    "MASKED",
    "CodeGrading",
    "FineTuning",
    "FromStep",
    "LoRA",
    "OutcomeReward",
    "Prompts",
    "ReinforcementLearning",
    "RemoteRecipe",
    "TrainingRow",
    "WrongAnswerReward",
    "continue_pretraining",
    "exercise_prompts",
    "rehearse",
    "supervise",
    "train_remote",
    "train_rl",
    "train_sft",
]

__getattr__ = on_first_use(__name__, __file__)
