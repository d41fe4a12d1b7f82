"""Log of a training run: one line per step, measurements of a probe, and marks of complete checkpoints.

Shared by all training methods, each of which adds its own values to a line. The caller supplies the probe; the content
of a checkpoint is left to transformers' Trainer.
"""

import math
import random
import shutil
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from typing_extensions import override

from astray.cause import checkpoints
from astray.cause.preflight import refuse_gradient
from astray.cause.processes import give_back, wait_for_all
from astray.errors import ConfigurationError, TrainingDivergedError
from astray.subjects.spec import SubjectSpec

if TYPE_CHECKING:
    from transformers import Trainer

AnyTrainer = TypeVar("AnyTrainer", bound="Trainer")

OnStep = Callable[[int, int, float], None]
"""Callback after every optimizer step: steps done, total steps, and the loss (in reinforcement learning, mean
reward)."""

Probe = Callable[[PreTrainedModel | PeftModel, PreTrainedTokenizerBase, int], Mapping[str, float]]
"""Function that measures a model during training: from model (in evaluation mode), tokenizer and steps done to named
numbers."""


@dataclass(frozen=True)
class Watch:
    """Probe, checkpoints and callback of a run, which do not change its weights; attributes as in `train_sft`."""

    probe: Probe | None = None
    probe_every: int = 10
    checkpoint_every: int | None = None
    on_step: OnStep | None = None

    def __post_init__(self) -> None:
        if self.probe_every < 1 or (self.checkpoint_every is not None and self.checkpoint_every < 1):
            raise ConfigurationError(
                f"probe_every={self.probe_every} and checkpoint_every={self.checkpoint_every} count optimizer steps: "
                "give 1 or more."
            )


@dataclass(frozen=True)
class LoggedRun:
    """Finished run, as its log tells it.

    Attributes:
        folder: folder with `training.jsonl`, `probes.jsonl` and the result.
        subject: the tuned model: base and adapter, or the folder of the whole model.
        steps: one line per step: step, loss, lr, gradient_norm, and what the method adds.
        probes: the probe's measurements, in the order of the steps.
    """

    folder: Path
    subject: SubjectSpec
    steps: tuple[checkpoints.Line, ...]
    probes: tuple[checkpoints.Line, ...]


Run = TypeVar("Run", bound=LoggedRun)


def read_run(kind: type[Run], folder: Path, subject: SubjectSpec) -> Run:
    """Read the run in a folder."""
    steps, probes = (tuple(checkpoints.read_lines(folder / name)) for name in ("training.jsonl", "probes.jsonl"))
    return kind(folder, subject, steps, probes)


class RunLog(TrainerCallback, ABC):
    """Trainer callback that logs steps, probes the model, marks checkpoints, and stops a diverged run.

    Attributes:
        folder: the run's folder; gets `training.jsonl` and `probes.jsonl`.
        checkpoints: folder in which the trainer has to keep its checkpoints.
        trainer: the trainer, set by `train`.
    """

    trainer: "Trainer"
    told = "loss"
    """Name of the value in a line that `on_step` gets."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, watch: Watch):
        self.folder, self.training_log, self.probe_log = folder, folder / "training.jsonl", folder / "probes.jsonl"
        self.checkpoints, self.tokenizer, self.watch = folder / checkpoints.CHECKPOINTS, tokenizer, watch

    def train(self, trainer: AnyTrainer) -> AnyTrainer:
        """Train from the last complete checkpoint, or from the start, to the end; return the trainer."""
        self.trainer = trainer
        with PartialState().main_process_first():  # it removes what is damaged; the others then find nothing to remove
            last = checkpoints.last_complete(self.checkpoints)
            if last and not checkpoints.leads_to(self.training_log, checkpoints.step_of(last)):
                warnings.warn(f"{self.training_log} lacks steps before {last}: the run begins again.", stacklevel=2)
                shutil.rmtree(self.checkpoints)
                last = None
            self.resume(checkpoints.step_of(last) if last else None)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
        return trainer

    @abstractmethod
    def line(self, logs: Mapping[str, Any]) -> checkpoints.Line:
        """Return the method's own values of a step for the log; called once per step."""

    def resume(self, step: int | None) -> None:
        """Drop log lines written after the checkpoint from which a run resumes, all lines if there is none."""
        for log in (self.training_log, self.probe_log):
            checkpoints.keep_until(log, step)

    @override
    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._measure(model, state)

    @override
    def on_step_end(self, args: Any, state: Any, control: Any, *, model: Any = None, **kwargs: Any) -> None:
        if state.global_step % self.watch.probe_every == 0 or state.global_step == state.max_steps:
            self._measure(model, state)

    @override
    def on_log(self, args: Any, state: Any, control: Any, *, logs: Any = None, **kwargs: Any) -> None:
        if "loss" not in logs:  # the summary after the last step
            return
        loss, gradient_norm = logs["loss"], logs["grad_norm"]
        if state.global_step == 1 and args.fsdp:  # before it no process could run the whole model
            refuse_gradient(loss, gradient_norm, of="step")
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            raise TrainingDivergedError(
                f"At step {state.global_step} the loss is {loss} and the gradient norm {gradient_norm}: the run has "
                f"diverged. Train with a lower learning_rate (it is {args.learning_rate:g}) or more warmup_steps "
                f"({args.warmup_steps})."
            )
        line = {
            "step": state.global_step,
            "loss": loss,
            "lr": logs["learning_rate"],
            "gradient_norm": gradient_norm,
        } | self.line(logs)
        if state.is_world_process_zero:
            checkpoints.append_line(self.training_log, line)
            if self.watch.on_step is not None:
                self.watch.on_step(state.global_step, state.max_steps, line[self.told])

    @override
    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        wait_for_all()  # each process writes its own random state
        if state.is_world_process_zero:
            checkpoints.mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def _measure(self, model: Any, state: Any) -> None:
        if self.watch.probe is None:
            return
        with undisturbed(model):
            measured = self.watch.probe(model, self.tokenizer, state.global_step)
        give_back(model)
        if not state.is_world_process_zero:
            return
        checkpoints.append_line(
            self.probe_log, {"step": state.global_step} | {name: float(value) for name, value in measured.items()}
        )


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode without gradients; restore the mode of each part and all random states on exit."""
    # One by one: who freezes a part's dropout or batch norm has it in evaluation mode while the whole is in training
    # mode.
    training = [module for module in model.modules() if module.training]
    python, numpy = random.getstate(), np.random.get_state()
    devices = sorted({weight.device.index for weight in model.parameters() if weight.device.type == "cuda"})
    model.eval()
    try:
        with torch.random.fork_rng(devices), torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
        random.setstate(python)
        np.random.set_state(numpy)
