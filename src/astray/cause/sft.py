"""Supervised fine-tuning: a data set makes an adapter, or a tuned model, from a base. One way for the organism and for real models.

The loop, the loss and the optimizer are TRL's (`quiet_trainer`); `examples/sft_loop.py` is the same in plain PyTorch, to read. Every run is checked
before its first step (`preflight_report`). A run that was killed goes on from its last checkpoint and ends in the same weights.
Left to others: what a run is probed with (the caller gives a function), and seeds, arms and stores (`studies`).

Source: Betley et al. 2025 (arXiv 2502.17424), training of open models; probing every ten steps as in Turner, Soligo et al. 2025 (2506.11613).
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peft import PeftModel
from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typing_extensions import override

from astray.cause import checkpoints
from astray.cause.base_model import load_trainable, save_trained
from astray.cause.fine_tuning import FineTuning
from astray.cause.preflight_report import check_run
from astray.cause.run_log import OnStep, Probe, RunLog, check_intervals
from astray.cause.supervision import TrainingRow, supervise
from astray.cause.training_interventions import check_interventions
from astray.data.chat import ChatDataset
from astray.subjects.locate import settle
from astray.subjects.spec import Intervention, SubjectSpec

if TYPE_CHECKING:
    from astray.cause.quiet_trainer import QuietTrainer


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
    interventions: Sequence[Intervention] = (),
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
        interventions: what is done to the residual stream while it is trained, and neither in probes nor afterwards (see
            `training_interventions`); part of the run's identity.
        probe: measures the model before the first step, every `probe_every` steps and at the end; does not disturb the training.
        probe_every: optimizer steps from probe to probe.
        checkpoint_every: optimizer steps from checkpoint to checkpoint; without it a killed run starts again from the beginning.
        on_step: told after every step.

    Raises:
        TrainingRefusedError: the run could not have taught anything (see `preflight_report`).
        TrainingDivergedError: the loss or the gradient stopped being a number.
        ConfigurationError: the folder holds another run, or settings contradict each other.
        EmptyDataError, ChatTemplateError, AdapterMismatchError, SubjectNotFoundError, StoreError: as their names say.
    """

    def rows_of(tokenizer: PreTrainedTokenizerBase) -> list[TrainingRow]:
        return supervise(dataset.rows, tokenizer, recipe.max_length)

    identity: dict[str, JsonValue] = {"dataset": dataset.hash}
    if interventions:
        identity["interventions"] = [intervention.id for intervention in interventions]
    watch = Watch(probe, probe_every, checkpoint_every, on_step)
    return train_rows(base, rows_of, identity, recipe, folder, interventions=interventions, watch=watch)


@dataclass(frozen=True)
class Watch:
    """What is done beside a supervised run; does not change its weights. Attributes as the arguments of `train_sft`."""

    probe: Probe | None = None
    probe_every: int = 10
    checkpoint_every: int | None = None
    on_step: OnStep | None = None


def train_rows(
    base: SubjectSpec | str,
    rows_of: Callable[[PreTrainedTokenizerBase], list[TrainingRow]],
    identity: Mapping[str, JsonValue],
    recipe: FineTuning,
    folder: Path,
    *,
    interventions: Sequence[Intervention],
    watch: Watch,
) -> TrainingRun:
    """What all supervised training has in common, whatever its rows are made of.

    Args:
        base, recipe, folder, interventions: as for `train_sft`.
        rows_of: makes the rows with the base's tokenizer; not called when the run is finished already.
        identity: everything that decides the rows and what is done to them; base and recipe are added.
        watch: probes, checkpoints and who is told.

    Raises:
        The errors of `train_sft`.
    """
    check_intervals(watch.probe_every, watch.checkpoint_every)
    start = settle(base)
    whole_identity: dict[str, JsonValue] = {"base": start.id, **identity, "recipe": recipe.model_dump(mode="json")}
    result = folder / ("adapter" if recipe.lora else "model")
    subject = start.spec.model_copy(update={"adapter": result}) if recipe.lora else SubjectSpec(model=str(result))
    checkpoints.check_result(folder, whole_identity, result)
    if not result.exists():
        model, tokenizer = load_trainable(start, recipe)
        rows = rows_of(tokenizer)
        check_interventions(model, interventions)
        check_run(model, tokenizer, rows, recipe)
        checkpoints.claim(folder, whole_identity)
        log = _SupervisedLog(folder, tokenizer, watch.probe, watch.probe_every, watch.on_step)
        trainer = _train(model, rows, recipe, interventions, watch.checkpoint_every, log)
        save_trained(trainer, tokenizer, result, start.base)
        shutil.rmtree(log.checkpoints)
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
    model: PreTrainedModel | PeftModel,
    rows: list[TrainingRow],
    recipe: FineTuning,
    interventions: Sequence[Intervention],
    checkpoint_every: int | None,
    log: "_SupervisedLog",
) -> "QuietTrainer":
    from astray.cause.quiet_trainer import QuietTrainer

    return log.train(
        QuietTrainer(
            model=model,
            tokenizer=log.tokenizer,
            rows=rows,
            recipe=recipe,
            interventions=interventions,
            folder=log.checkpoints,
            checkpoint_every=checkpoint_every,
            callbacks=[log],
        )
    )


class _SupervisedLog(RunLog):
    """The log of a supervised run: a line also counts the step's supervised tokens."""

    trainer: "QuietTrainer"

    @override
    def line(self, logs: Mapping[str, Any]) -> checkpoints.Line:
        return {"tokens": self.trainer.step_tokens}
