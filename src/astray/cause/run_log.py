"""What is written down while a model is trained: a line a step, what a probe measured, which checkpoints are whole.

Shared by all ways of training; each says what a line holds. Left to others: what a probe measures (the caller) and what a checkpoint contains.
"""

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from typing_extensions import override

from astray.cause import checkpoints
from astray.errors import ConfigurationError, TrainingDivergedError

if TYPE_CHECKING:
    from transformers import Trainer

AnyTrainer = TypeVar("AnyTrainer", bound="Trainer")

OnStep = Callable[[int, int, float], None]
"""Told after every optimizer step: steps done, steps in all, and the loss (training by reward: the mean reward)."""

Probe = Callable[[PreTrainedModel | PeftModel, PreTrainedTokenizerBase, int], Mapping[str, float]]
"""Measures a model while it is trained: given model, tokenizer and steps done, it returns named numbers. The model is in evaluation mode."""


class RunLog(TrainerCallback, ABC):
    """Writes each step to the log, probes the model, marks checkpoints, and stops a run that diverged.

    Attributes:
        folder: the run's; gets `training.jsonl` and `probes.jsonl`.
        checkpoints: where the trainer has to keep its checkpoints.
        trainer: set once the trainer is there.
    """

    trainer: "Trainer"
    told = "loss"
    """Name of the number in a line that `on_step` is told."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, probe: Probe | None, probe_every: int, on_step: OnStep | None):
        self.folder, self.training_log, self.probe_log = folder, folder / "training.jsonl", folder / "probes.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.tokenizer, self.probe, self.probe_every, self.on_step_done = tokenizer, probe, probe_every, on_step

    def train(self, trainer: AnyTrainer) -> AnyTrainer:
        """Train from the last complete checkpoint, or from the start, to the end; return the trainer."""
        self.trainer = trainer
        last = checkpoints.last_complete(self.checkpoints)
        self.resume(checkpoints.step_of(last) if last else None)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        return trainer

    @abstractmethod
    def line(self, logs: Mapping[str, Any]) -> checkpoints.Line:
        """What the log says of a step, beside its number; called once a step.

        Args:
            logs: what the trainer measured.
        """

    def resume(self, step: int | None) -> None:
        """Drops what was written after the checkpoint from which a run goes on, everything if there is none."""
        for log in (self.training_log, self.probe_log):
            checkpoints.keep_until(log, step)

    @override
    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._measure(model, state)

    @override
    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any = None, **kwargs: Any) -> None:
        if state.global_step % self.probe_every == 0 or state.global_step == state.max_steps:
            self._measure(model, state)

    @override
    def on_log(self, args: Any, state: Any, control: Any, *, logs: Any = None, **kwargs: Any) -> None:
        if "loss" not in logs:  # the summary after the last step
            return
        loss, gradient_norm = logs["loss"], logs["grad_norm"]
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise TrainingDivergedError(
                f"At step {state.global_step} the loss is {loss} and the gradient norm {gradient_norm}: the run has diverged. "
                f"Train with a lower learning_rate (it is {args.learning_rate:g}) or more warmup_steps ({args.warmup_steps})."
            )
        line = {"step": state.global_step, "loss": loss, "lr": logs["learning_rate"], "gradient_norm": gradient_norm} | self.line(logs)
        if state.is_world_process_zero:
            checkpoints.append_line(self.training_log, line)
            if self.on_step_done is not None:
                self.on_step_done(state.global_step, state.max_steps, line[self.told])

    @override
    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            checkpoints.mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def _measure(self, model: Any, state: Any) -> None:
        if self.probe is None or not state.is_world_process_zero:
            return
        with undisturbed(model):
            measured = self.probe(model, self.tokenizer, state.global_step)
        checkpoints.append_line(self.probe_log, {"step": state.global_step} | {name: float(value) for name, value in measured.items()})


def check_intervals(probe_every: int, checkpoint_every: int | None) -> None:
    """Raises ConfigurationError when one of them counts no steps."""
    if probe_every < 1 or (checkpoint_every is not None and checkpoint_every < 1):
        raise ConfigurationError(f"probe_every={probe_every} and checkpoint_every={checkpoint_every} count optimizer steps: give 1 or more.")


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards mode and random states are as before."""
    training, python, numpy = model.training, random.getstate(), np.random.get_state()
    model.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            yield
    finally:
        model.train(training)
        random.setstate(python)
        np.random.set_state(numpy)
