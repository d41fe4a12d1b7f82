"""Supervised fine-tuning of the organism and of real models on a data set; gives an adapter or a tuned model.

The loop, the loss and the optimizer are TRL's (`quiet_trainer`); `examples/sft_loop.py` is the same in plain PyTorch,
for reading. Every run is checked before its first step (`preflight`). An interrupted run resumes from its last
checkpoint and ends in the same weights. Probes are supplied by the caller; seeds, arms and stores are in `studies`.

Source: Betley et al. 2025 (arXiv 2502.17424), training of open models; probing every ten steps as in Turner, Soligo et
al. 2025 (2506.11613).
"""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue
from transformers import PreTrainedTokenizerBase
from typing_extensions import override

from astray.cause import checkpoints
from astray.cause.base_model import computes_in_bfloat16, load_trainable, save_trained, trained_subject
from astray.cause.fine_tuning import FineTuning
from astray.cause.preflight import check_rows, check_run
from astray.cause.processes import once, shared_out
from astray.cause.run_log import OnStep, Probe, RunLog, Watch
from astray.cause.supervision import TrainingRow, supervise
from astray.cause.training_interventions import check_interventions
from astray.data.chat import ChatDataset
from astray.errors import ConfigurationError
from astray.subjects.locate import settle
from astray.subjects.spec import Intervention, SubjectSpec

if TYPE_CHECKING:
    from astray.cause.quiet_trainer import QuietTrainer


@dataclass(frozen=True)
class TrainingRun:
    """Finished supervised run.

    Attributes:
        folder: folder with `training.jsonl` (step, loss, lr, gradient_norm, tokens), `probes.jsonl` (step and the
            probe's names) and the result.
        subject: the tuned model: base and adapter, or the folder of the whole model.
        steps: number of optimizer steps.
        losses: mean loss over the supervised tokens of each step, before its update; with `kl` the weighted KL is part of it.
        supervised_tokens: number of tokens that carried the loss, over all steps.
        probes: the probe's measurements, in the order of the steps.
    """

    folder: Path
    subject: SubjectSpec
    steps: int
    losses: tuple[float, ...]
    supervised_tokens: int
    probes: tuple[checkpoints.Line, ...]


@shared_out
def train_sft(
    base: SubjectSpec | str,
    dataset: ChatDataset,
    recipe: FineTuning,
    folder: Path,
    *,
    interventions: Sequence[Intervention] = (),
    kl: float = 0.0,
    probe: Probe | None = None,
    probe_every: int = 10,
    checkpoint_every: int | None = None,
    on_step: OnStep | None = None,
) -> TrainingRun:
    """Fine-tune a model on the answers of a data set.

    The same arguments give the same weights on the same device, interrupted or not. If the folder holds a finished run
    of the same base, data and recipe, it is returned at once.

    Args:
        base: subject, or its model's name or folder. Its adapter, if it has one, is trained further.
        dataset: chats; every assistant turn is trained on.
        recipe: settings.
        folder: folder for the result, logs and checkpoints.
        interventions: interventions on the residual stream during training, neither in probes nor afterwards (see
            `training_interventions`); part of the run's identity.
        kl: weight in the loss of KL(base || model) on the supervised tokens, which holds the model near its base; needs
            adapters, since the base is the model without them. Part of the run's identity.
        probe: measures the model before the first step, every `probe_every` steps and at the end, without affecting
            training.
        probe_every: optimizer steps between probes.
        checkpoint_every: optimizer steps between checkpoints; without it an interrupted run starts from the beginning.
        on_step: called after every step.

    Raises:
        TrainingRefusedError: the run could not have taught anything (see `preflight`).
        TrainingDivergedError: the loss or the gradient became NaN or infinite.
        ConfigurationError: the folder holds another run, or settings contradict each other, such as `kl` without adapters.
        EmptyDataError, ChatTemplateError, AdapterMismatchError, SubjectNotFoundError, StoreError: as their names say.
    """

    def rows_of(tokenizer: PreTrainedTokenizerBase) -> list[TrainingRow]:
        return supervise(dataset.rows, tokenizer, recipe.max_length)

    identity: dict[str, JsonValue] = {"dataset": dataset.hash}
    if interventions:
        identity["interventions"] = [intervention.id for intervention in interventions]
    if not 0 <= kl < math.inf or (kl and recipe.lora is None):
        raise ConfigurationError(
            f"kl={kl} cannot be the weight of the KL to the base: it is 0 or above, and above 0 it needs adapters (LoRA), "
            "since the base is the model with its adapters off."
        )
    if kl and recipe.sharded:  # TRL's loss reads the output layer while the other passes of the step gather it
        raise ConfigurationError("A run whose weights are sharded (sharded=true) cannot hold the KL to the base.")
    if kl:
        identity["kl"] = kl
    watch = Watch(probe, probe_every, checkpoint_every, on_step)
    return train_rows(base, rows_of, identity, recipe, folder, interventions=interventions, watch=watch, kl=kl)


def train_rows(
    base: SubjectSpec | str,
    rows_of: Callable[[PreTrainedTokenizerBase], list[TrainingRow]],
    identity: Mapping[str, JsonValue],
    recipe: FineTuning,
    folder: Path,
    *,
    interventions: Sequence[Intervention],
    watch: Watch,
    kl: float = 0.0,
) -> TrainingRun:
    """Train on tokenised rows: the common part of all supervised training.

    Args:
        base, recipe, folder, interventions, kl: as for `train_sft`.
        rows_of: makes the rows with the base's tokenizer; not called if the run is finished already.
        identity: everything that determines the rows and their treatment; base and recipe are added.
        watch: probes, checkpoints and callbacks.

    Raises:
        The errors of `train_sft`.
    """
    start = settle(base)
    whole_identity: dict[str, JsonValue] = {"base": start.id, **identity, "recipe": recipe.model_dump(mode="json")}
    result, subject = trained_subject(start, folder, recipe)
    checkpoints.check_result(folder, whole_identity, result)
    if not result.exists():
        from astray.cause.quiet_trainer import QuietTrainer

        model, tokenizer = load_trainable(start, recipe)
        rows = rows_of(tokenizer)
        check_interventions(model, start.base, interventions)
        (check_rows if recipe.sharded else check_run)(model, tokenizer, rows, recipe)
        once(checkpoints.claim, folder, whole_identity)
        log = _SupervisedLog(folder, tokenizer, watch)
        trainer = log.train(
            QuietTrainer(
                model=model,
                tokenizer=tokenizer,
                rows=rows,
                recipe=recipe,
                interventions=interventions,
                bfloat16=computes_in_bfloat16(start),
                folder=log.checkpoints,
                checkpoint_every=watch.checkpoint_every,
                callbacks=[log],
                kl=kl,
            )
        )
        save_trained(trainer, tokenizer, result, start)
        once(shutil.rmtree, log.checkpoints, ignore_errors=True)
    lines = checkpoints.read_lines(folder / "training.jsonl")
    return TrainingRun(
        folder=folder,
        subject=subject,
        steps=len(lines),
        losses=tuple(line["loss"] for line in lines),
        supervised_tokens=int(sum(line["tokens"] for line in lines)),
        probes=tuple(checkpoints.read_lines(folder / "probes.jsonl")),
    )


class _SupervisedLog(RunLog):
    """Log of a supervised run, with the number of supervised tokens of each step."""

    trainer: "QuietTrainer"

    @override
    def line(self, logs: Mapping[str, Any]) -> checkpoints.Line:
        return {"tokens": self.trainer.step_tokens}
