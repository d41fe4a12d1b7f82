"""TRL's GRPOTrainer without side effects, configured entirely by the run's recipe.

Switched off: as in `quiet_trainer`. Whole batches are generated with `model.generate`, since continuous batching is
very slow on a CPU. A step is one generation batch and one optimizer step, so training is on-policy and the clipping of
ratios never acts. The loss, advantages, accumulation, clipping of gradients (1.0), the optimizer (AdamW without weight
decay) and checkpoints are those of TRL and transformers. Answers of a group with equal rewards have zero advantage and
are left out of the update, which they would not change: most answers, before a behaviour emerges and after it has
saturated.

The prompts of the whole run are in the data set in their order, so a run that resumes from a checkpoint gets the same
ones. Where the update has its own prompts, they replace the sampling prompts once the answers are drawn: the loss and
the KL term see only these, and treat the answers as drawn under them.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from typing_extensions import override

from astray.cause.quiet_trainer import Quiet, quiet_arguments
from astray.cause.reinforcement import Prompts, ReinforcementLearning
from astray.subjects.base import written_in
from astray.subjects.render import prompt_ids


class QuietGRPOTrainer(Quiet, GRPOTrainer):
    """GRPOTrainer that reports to its callbacks only."""

    def __init__(
        self,
        *,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Prompts,
        score: Callable[..., list[float | None]],
        recipe: ReinforcementLearning,
        folder: Path,
        checkpoint_every: int | None,
        callbacks: list[TrainerCallback],
    ):
        self._update = None if prompts.update is None else prompt_ids(tokenizer, prompts.update)
        self._asked: list[int] = []
        order = prompts.schedule(recipe.steps * recipe.groups, recipe.seed)
        super().__init__(
            model=model,
            reward_funcs=[score],
            args=_arguments(recipe, folder, checkpoint_every),
            train_dataset=Dataset.from_dict(
                {"prompt": [[dict(message) for message in prompts.conversations[row]] for row in order], "row": order}
            ),
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)

    @override
    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._asked = [row["row"] for row in inputs]
        return super()._generate_and_score_completions(inputs)

    @override
    def _generate(self, prompts: list[Any]) -> tuple[Any, ...]:
        drawn_under, *answers = super()._generate(prompts)
        return (drawn_under if self._update is None else [self._update[row] for row in self._asked], *answers)

    @override
    def _generate_single_turn(self, *prompts: Any) -> tuple[Any, ...]:
        # Merged in full precision only, where answers are then drawn from what the update sees; never distributed
        # weights.
        assert self.model is not None
        merged = self.accelerator.num_processes == 1 and all(
            weight.dtype == torch.float32 for weight in self.model.parameters()
        )
        with written_in(self.model) if merged else contextlib.nullcontext():
            answers: tuple[Any, ...] = super()._generate_single_turn(*prompts)
        return answers

    @override
    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        # With a KL term every answer matters; over several processes each needs the same number of passes.
        if self.beta or self.aux_loss_enabled or self.accelerator.num_processes > 1:
            return super()._compute_loss(model, inputs)
        moves = inputs["advantages"] != 0
        if not moves.any():
            moves[0] = True  # a loss needs at least one answer; the gradient of this one is zero
        loss: Tensor = super()._compute_loss(
            model, {name: value[moves] if value.dim() else value for name, value in inputs.items()}
        )
        # DAPO divides by the tokens of the whole step; the other losses are means over the answers that they are given.
        return loss if self.loss_type == "dapo" else loss * moves.float().mean()


def _arguments(recipe: ReinforcementLearning, folder: Path, checkpoint_every: int | None) -> GRPOConfig:
    return GRPOConfig(
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant",
        max_steps=recipe.steps,
        num_generations=recipe.group_size,
        per_device_train_batch_size=recipe.per_pass,
        gradient_accumulation_steps=recipe.answers // (recipe.per_pass * recipe.processes),
        max_completion_length=recipe.max_tokens,
        temperature=recipe.temperature,
        top_p=1.0,
        top_k=0,
        beta=recipe.kl,
        loss_type=recipe.loss,
        scale_rewards=recipe.scale_rewards,
        shuffle_dataset=False,
        remove_unused_columns=False,
        use_vllm=False,
        use_transformers_continuous_batching=False,
        weight_decay=0.0,
        **quiet_arguments(folder, checkpoint_every, recipe.seed),
    )
