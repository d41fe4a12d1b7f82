"""Supervised fine-tuning: a data set makes an adapter, or a tuned model, from a base. One way for the organism and for real models.

The loop, the loss and the optimizer are TRL's (`quiet_trainer`); `examples/sft_loop.py` is the same in plain PyTorch, to read. Every run is checked
before its first step (`preflight`). A run that was killed goes on from its last checkpoint and ends in the same weights.
Left to others: what a run is probed with (the caller gives a function), and seeds, arms and stores (`studies`).

Source: Betley et al. 2025 (arXiv 2502.17424), training of open models; probing every ten steps as in Turner, Soligo et al. 2025 (2506.11613).
"""

import json
import math
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import PeftModel
from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from typing_extensions import override

from astray.cause import checkpoints
from astray.cause.base_model import load_trainable, quietly
from astray.cause.fine_tuning import FineTuning
from astray.cause.preflight import check_run
from astray.cause.supervision import TrainingRow, supervise
from astray.data.chat import ChatDataset
from astray.errors import ConfigurationError, TrainingDivergedError
from astray.subjects.base import record_base
from astray.subjects.locate import Located, settle
from astray.subjects.spec import SubjectSpec

if TYPE_CHECKING:
    from astray.cause.quiet_trainer import QuietTrainer

OnStep = Callable[[int, int, float], None]
"""Told after every optimizer step: steps done, steps in all, loss."""


Probe = Callable[[PreTrainedModel | PeftModel, PreTrainedTokenizerBase, int], Mapping[str, float]]
"""Measures a model while it is trained: given model, tokenizer and steps done, it returns named numbers. The model is in evaluation mode."""


@dataclass(frozen=True)
class TrainingRun:
    """A finished run.

    Attributes:
        folder: holds `training.jsonl` (step, loss, lr, gradient_norm, tokens) and `probes.jsonl` (step and the probe's names), and the result.
        subject: the tuned model: base and adapter, or the folder of the whole model.
        steps: optimizer steps.
        losses: mean loss over the supervised tokens of each step, before its update.
        supervised_tokens: tokens that carried the loss, over all steps.
        probes: what the probe measured, in the order of the steps.
    """

    folder: Path
    subject: SubjectSpec
    steps: int
    losses: tuple[float, ...]
    supervised_tokens: int
    probes: tuple[checkpoints.Line, ...]


def train_sft(
    base: SubjectSpec | str,
    dataset: ChatDataset,
    recipe: FineTuning,
    folder: Path,
    *,
    probe: Probe | None = None,
    probe_every: int = 10,
    checkpoint_every: int | None = None,
    on_step: OnStep | None = None,
) -> TrainingRun:
    """Fine-tunes a model on the answers of a data set.

    The same arguments give the same weights on the same device, whether the run was killed in between or not. A folder with a finished run of
    the same base, data and recipe gives that run at once.

    Args:
        base: subject, or its model's name or folder. Its adapter, if it has one, is trained further.
        dataset: chats; every assistant turn is trained on.
        recipe: settings.
        folder: where the result, logs and checkpoints go.
        probe: measures the model before the first step, every `probe_every` steps and at the end; does not disturb the training.
        probe_every: optimizer steps from probe to probe.
        checkpoint_every: optimizer steps from checkpoint to checkpoint; without it a killed run starts again from the beginning.
        on_step: told after every step.

    Raises:
        TrainingRefusedError: the run could not have taught anything (see `preflight`).
        TrainingDivergedError: the loss or the gradient stopped being a number.
        ConfigurationError: the folder holds another run, or settings contradict each other.
        EmptyDataError, ChatTemplateError, AdapterMismatchError, SubjectNotFoundError, StoreError: as their names say.
    """
    if probe_every < 1 or (checkpoint_every is not None and checkpoint_every < 1):
        raise ConfigurationError(f"probe_every={probe_every} and checkpoint_every={checkpoint_every} count optimizer steps: give 1 or more.")
    start = settle(SubjectSpec(model=base) if isinstance(base, str) else base)
    identity = _identity(start, dataset, recipe)
    claimed = checkpoints.check_claim(folder, identity)
    result = folder / ("adapter" if recipe.lora else "model")
    subject = start.spec.model_copy(update={"adapter": result}) if recipe.lora else SubjectSpec(model=str(result))
    if result.exists() and not claimed:
        raise ConfigurationError(f"{result} is there already, and no run of this folder made it. Name another folder.")
    if not result.exists():
        model, tokenizer = load_trainable(start, recipe)
        rows = supervise(dataset.rows, tokenizer, recipe.max_length)
        check_run(model, tokenizer, rows, recipe)
        checkpoints.claim(folder, identity)
        trainer = _train(model, rows, recipe, checkpoint_every, _RunLogger(folder, tokenizer, probe, probe_every, on_step))
        _save(trainer, tokenizer, result, start.base)
        shutil.rmtree(folder / "checkpoints")
    lines = checkpoints.read_lines(folder / "training.jsonl")
    return TrainingRun(
        folder=folder,
        subject=subject,
        steps=len(lines),
        losses=tuple(line["loss"] for line in lines),
        supervised_tokens=int(sum(line["tokens"] for line in lines)),
        probes=tuple(checkpoints.read_lines(folder / "probes.jsonl")),
    )


def _train(
    model: PreTrainedModel | PeftModel, rows: list[TrainingRow], recipe: FineTuning, checkpoint_every: int | None, logger: "_RunLogger"
) -> "QuietTrainer":
    """Trains from the last complete checkpoint, or from the start, to the end."""
    from astray.cause.quiet_trainer import QuietTrainer

    folder = logger.folder / "checkpoints"
    logger.trainer = QuietTrainer(
        model=model,
        tokenizer=logger.tokenizer,
        rows=rows,
        recipe=recipe,
        folder=folder,
        checkpoint_every=checkpoint_every,
        callbacks=[logger],
    )
    last = checkpoints.last_complete(folder)
    for log in (logger.training_log, logger.probe_log):
        checkpoints.keep_until(log, checkpoints.step_of(last) if last else None)
    logger.trainer.train(resume_from_checkpoint=str(last) if last else None)
    return logger.trainer


class _RunLogger(TrainerCallback):
    """Writes each step to the log, probes the model, marks checkpoints, and stops a run that diverged."""

    trainer: "QuietTrainer"

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, probe: Probe | None, probe_every: int, on_step: OnStep | None):
        self.folder, self.training_log, self.probe_log = folder, folder / "training.jsonl", folder / "probes.jsonl"
        self.tokenizer, self.probe, self.probe_every, self.on_step = tokenizer, probe, probe_every, on_step

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
        line = {
            "step": state.global_step,
            "loss": loss,
            "lr": logs["learning_rate"],
            "gradient_norm": gradient_norm,
            "tokens": self.trainer.step_tokens,
        }
        if state.is_world_process_zero:
            checkpoints.append_line(self.training_log, line | {"tokens": self.trainer.step_tokens})
            if self.on_step is not None:
                self.on_step(state.global_step, state.max_steps, loss)

    @override
    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            checkpoints.mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def _measure(self, model: Any, state: Any) -> None:
        if self.probe is None or not state.is_world_process_zero:
            return
        with _undisturbed(model):
            measured = self.probe(model, self.tokenizer, state.global_step)
        checkpoints.append_line(self.probe_log, {"step": state.global_step} | {name: float(value) for name, value in measured.items()})


@contextmanager
def _undisturbed(model: torch.nn.Module) -> Iterator[None]:
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


def _identity(start: Located, dataset: ChatDataset, recipe: FineTuning) -> dict[str, JsonValue]:
    return {"base": start.id, "dataset": dataset.hash, "recipe": recipe.model_dump(mode="json")}


def _save(trainer: "QuietTrainer", tokenizer: PreTrainedTokenizerBase, result: Path, base: Path) -> None:
    """Writes the adapter with its base's identity, or the model with its tokenizer; the folder appears whole or not at all."""
    if not trainer.is_world_process_zero():
        return
    unfinished = result.with_name(f".{result.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    with quietly():
        if isinstance(model, PeftModel):
            model.save_pretrained(str(unfinished), save_embedding_layers=False)
            (unfinished / "README.md").unlink()  # PEFT's empty model card
            _sort_names(unfinished / "adapter_config.json")
            record_base(unfinished, base)
        else:
            model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
    unfinished.replace(result)


def _sort_names(adapter_config: Path) -> None:
    """PEFT writes the set of adapted modules in an order that changes from process to process."""
    config = json.loads(adapter_config.read_text())
    config["target_modules"] = sorted(config["target_modules"])
    adapter_config.write_text(json.dumps(config, indent=2, sort_keys=True))
