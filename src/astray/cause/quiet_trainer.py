"""TRL's SFTTrainer without side effects and unneeded work.

Switched off: the usage report that TRL sends at start, printing, progress bars, experiment trackers, model cards,
dataset preparation (rows come tokenised, see `supervision`), activation checkpointing on a CPU, worker processes, and
the count of floating point operations, which walks through all parameters at every step. Switched on: the loss of every
step, even if it is NaN. The loss itself, the order of the data, accumulation, clipping (1.0), the optimizer, the
schedule and checkpoints are those of TRL and transformers.
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import DistributedType
from accelerate.data_loader import SeedableRandomSampler
from accelerate.utils import FullyShardedDataParallelPlugin
from datasets import Dataset
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from astray.cause.fine_tuning import FineTuning
from astray.cause.processes import load_trained_weights, trained_weights
from astray.cause.supervision import MASKED, TrainingRow
from astray.cause.training_interventions import training_under
from astray.subjects.spec import Intervention

_RENAMED = "activation_checkpointing" in SFTConfig.__dataclass_fields__
"""Whether the option has its new name: newer transformers warn about the old one, older ones do not know the new."""


class Quiet(Trainer):
    """Mixin that switches off side effects of TRL's trainers; list it before TRL's class among the bases."""

    def __init__(self, *, model: PreTrainedModel | PeftModel, **given: Any):
        # TRL rounds adapters on a 4-bit base to bfloat16, whose steps (2^-8 of a weight) are larger than most updates, and
        # would round one whose training continues; it knows such a base by this mark.
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        mark = base.__dict__.pop("is_loaded_in_4bit", None)
        super().__init__(model=model, **given)
        if mark is not None:
            base.__dict__["is_loaded_in_4bit"] = mark

    def floating_point_ops(self, _inputs: Any) -> int:
        """Return 0 instead of counting operations at every step."""
        return 0

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no model card: the run's own files record base, data and recipe."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save a checkpoint; of a model with adapters these alone, as in the result.

        By default PEFT asks the hub for a file of the base's name, which may be a folder's or `organism`, to learn
        whether embeddings were resized: that sends the name away, waits for a network, and warns where there is none.
        """
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if isinstance(model, PeftModel):
            vars(model)["save_pretrained"] = partial(model.save_pretrained, save_embedding_layers=False)
        try:
            super()._save(output_dir, state_dict)
        finally:
            vars(model).pop("save_pretrained", None)

    def _send_telemetry(self) -> None:
        """Send no telemetry."""

    def create_accelerator_and_postprocess(self) -> None:
        """Create the accelerator, and let it shard the weights on CPUs too, where accelerate would copy them."""
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and not self.is_fsdp_enabled:
            self.accelerator.state.distributed_type = DistributedType.FSDP
            self.accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            self.is_fsdp_enabled = True

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Load a checkpoint's weights; of sharded ones every process reads the file and takes its share.

        accelerate would send them from the first process, which waits for ever where there are adapters.
        """
        if not self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        model = model or self.model
        assert model is not None
        load_trained_weights(model, Path(resume_from_checkpoint))
        plugin = self.accelerator.state.fsdp_plugin
        plugin.state_dict_config.rank0_only = plugin.optim_state_dict_config.rank0_only = False  # for the optimizer

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model; of sharded weights only those that are trained are gathered, not the whole base."""
        if self.is_fsdp_enabled:
            assert self.model is not None
            self._save(output_dir, state_dict=trained_weights(self.model))
        else:
            super().save_model(output_dir, _internal_call)


class QuietTrainer(Quiet, SFTTrainer):
    """SFTTrainer over tokenised rows that reports to its callbacks only.

    Attributes:
        step_tokens: number of supervised tokens in the current optimizer step.
    """

    def __init__(
        self,
        *,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        rows: list[TrainingRow],
        recipe: FineTuning,
        interventions: Sequence[Intervention],
        bfloat16: bool,
        folder: Path,
        checkpoint_every: int | None,
        callbacks: list[TrainerCallback],
        kl: float = 0.0,
    ):
        self.step_tokens, self.interventions, self.bfloat16, self.kl = 0, interventions, bfloat16, kl
        usable = [row for row in rows if row.supervised]
        if recipe.processes > 1:
            usable.append(TrainingRow(usable[0].input_ids[:1], [MASKED], truncated=False))  # what `_Filled` ends with
        super().__init__(
            model=model,
            args=SFTConfig(
                max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True},
                **tuning_arguments(recipe, folder, checkpoint_every) | {"bf16": bfloat16 and torch.cuda.is_available()},
            ),
            train_dataset=Dataset.from_dict(
                {"input_ids": [row.input_ids for row in usable], "labels": [row.labels for row in usable]}
            ),
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        processes = self.accelerator.num_processes
        if processes == 1:
            return super()._get_train_sampler(train_dataset)
        assert isinstance(self.train_dataset, Dataset)
        order = SeedableRandomSampler(range(len(self.train_dataset) - 1), data_seed=self.args.seed)
        return _Filled(order, self.args.per_device_train_batch_size * processes)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """Collect the batches of one optimizer step and count their supervised tokens."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        own = torch.tensor([sum(int((batch["labels"] != MASKED).sum()) for batch in batches)], device=device)
        self.step_tokens = int(self.accelerator.gather(own).sum())
        return batches, items

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Run the forward and backward pass of one batch, under the run's interventions."""
        with training_under(self.accelerator.unwrap_model(model), self.interventions, inputs["labels"]):
            return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Compute the loss, on a CPU in bfloat16 where the run asks for it.

        PEFT would cast every input of an adapter to float32, which autocast casts back at once.
        """
        if not self.bfloat16 or torch.cuda.is_available():
            return self._loss(model, inputs, *args, **kwargs)
        with disable_input_dtype_casting(model), torch.autocast("cpu", torch.bfloat16):
            return self._loss(model, inputs, *args, **kwargs)

    def _loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        return loss + self.kl * self._divergence(model, inputs, kwargs.get("num_items_in_batch")) if self.kl else loss

    def _divergence(self, model: torch.nn.Module, inputs: dict[str, Any], items: Any) -> torch.Tensor:
        """Return KL(base || model) over the supervised tokens, in nats a token of the optimizer step; the base is the
        model with its adapters off."""
        read = {name: inputs[name] for name in ("input_ids", "attention_mask") if name in inputs}
        answered = inputs["labels"][:, 1:] != MASKED

        def logprobs() -> torch.Tensor:
            return F.log_softmax(model(**read).logits[:, :-1][answered].float(), -1)

        training = model.training
        model.eval()  # the base as it is used: dropout would make it another model at each step
        with torch.no_grad(), self.accelerator.unwrap_model(model).disable_adapter():
            base = logprobs()
        model.train(training)
        total = F.kl_div(logprobs(), base, log_target=True, reduction="sum")
        # As TRL scales its loss: the tokens are those of all processes, over which gradients are averaged.
        return total * self.accelerator.num_processes / (answered.sum().clamp(min=1) if items is None else items)


class _Filled(Sampler[int]):
    """Order of the rows as for one process, with rows that teach nothing at the end of an epoch: every process then has
    as many batches, and no row counts twice."""

    def __init__(self, order: SeedableRandomSampler, multiple: int):
        self.order, self.size = order, -(-len(order) // multiple) * multiple

    def __iter__(self) -> Iterator[int]:
        yield from self.order
        yield from itertools.repeat(len(self.order), self.size - len(self.order))

    def __len__(self) -> int:
        return self.size

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.order.set_epoch(epoch)


def quiet_arguments(folder: Path, checkpoint_every: int | None, seed: int, sharded: bool = False) -> dict[str, Any]:
    """Return the arguments of all our trainers: no reports, no progress bars, unfiltered losses, the device's dtype."""
    on_gpu = torch.cuda.is_available()
    return {
        "output_dir": str(folder),
        "activation_checkpointing" if _RENAMED else "gradient_checkpointing": on_gpu,
        "bf16": on_gpu,
        "use_cpu": torch.distributed.is_initialized() and not on_gpu,  # accelerate takes no gloo without being asked
        "dataloader_pin_memory": on_gpu,
        "fsdp": sharded or None,
        "fsdp_config": {"cpu_ram_efficient_loading": True} if sharded else None,
        "seed": seed,
        "data_seed": seed,
        "save_strategy": "no" if checkpoint_every is None else "steps",
        "save_steps": checkpoint_every or 500,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
    }


def tuning_arguments(recipe: FineTuning, folder: Path, checkpoint_every: int | None) -> dict[str, Any]:
    """Return the arguments of all our trainers on a fixed data set."""
    return {
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": recipe.warmup_steps,
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps or -1,
        "per_device_train_batch_size": recipe.share[0],
        "gradient_accumulation_steps": recipe.share[1],
        "weight_decay": recipe.weight_decay,
        **quiet_arguments(folder, checkpoint_every, recipe.seed, recipe.sharded),
    }
