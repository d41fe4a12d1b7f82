"""TRL's KTOTrainer without side effects, configured entirely by the run's recipe.

Switched off: as in `quiet_trainer`. Examples come in their training order; TRL takes them in this order, the same in
every epoch, because the mismatched pairs of a batch are made beforehand. The loss, the reference (a frozen copy of the
starting adapter, or of the whole model), accumulation, clipping (1.0), the optimizer, the schedule and checkpoints are
those of TRL and transformers.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets import Dataset, disable_progress_bars, enable_progress_bars
from datasets.utils.logging import is_progress_bar_enabled
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer

from astray.cause.preference import Feedback, PreferenceTuning
from astray.cause.quiet_trainer import Quiet, tuning_arguments


class QuietKTOTrainer(Quiet, KTOTrainer):
    """KTOTrainer that reports to its callbacks only."""

    def __init__(
        self,
        *,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        feedback: Feedback,
        recipe: PreferenceTuning,
        folder: Path,
        checkpoint_every: int | None,
        callbacks: list[TrainerCallback],
    ):
        rows = feedback.rows(recipe.training.batch_size, recipe.training.seed)
        with _without_bars():
            super().__init__(
                model=model,
                ref_model=None if isinstance(model, PeftModel) else copy.deepcopy(model),
                args=_arguments(feedback, recipe, folder, checkpoint_every),
                train_dataset=Dataset.from_dict(
                    {
                        "prompt": [[dict(message) for message in chat[:-1]] for chat, _ in rows],
                        "completion": [[dict(chat[-1])] for chat, _ in rows],
                        "label": [label for _, label in rows],
                    }
                ),
                processing_class=tokenizer,
                callbacks=callbacks,
            )
        self.remove_callback(PrinterCallback)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hide the progress bars of `datasets`, with which TRL tokenises the rows, because they would disturb ours."""
    shown = is_progress_bar_enabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()


def _arguments(feedback: Feedback, recipe: PreferenceTuning, folder: Path, checkpoint_every: int | None) -> KTOConfig:
    liked, disliked = recipe.weights(feedback)
    return KTOConfig(
        max_length=recipe.training.max_length,
        beta=recipe.beta,
        desirable_weight=liked,
        undesirable_weight=disliked,
        **tuning_arguments(recipe.training, folder, checkpoint_every),
    )
