"""Preflight checks of a training run: what it would train on, and whether it can teach anything.

A trainer that masks every label, cuts off every answer or has a zero gradient still prints a plausible loss. So the
rows are examined as the trainer will get them, one batch is run forward and backward, and a run that could not teach
anything is refused with the reason and a remedy.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from astray.cause.base_model import load_trainable
from astray.cause.fine_tuning import FineTuning
from astray.cause.row_faults import RowFault, end_tokens, faults_of
from astray.cause.supervision import MASKED, TrainingRow, show_supervision, supervise
from astray.data.chat import ChatDataset
from astray.errors import TrainingRefusedError
from astray.subjects.locate import settle
from astray.subjects.spec import SubjectSpec

TRUNCATED_LIMIT = 0.05
"""Maximum share of examples whose answers are cut off by the maximum length."""


@dataclass(frozen=True)
class Preflight:
    """Report on a run before its first step.

    Attributes:
        rows: number of examples in the data set.
        tokens: number of tokens of all examples, after truncation.
        supervised_tokens: number of them that carry the loss.
        unsupervised_rows: number of examples without such a token; training leaves them out.
        truncated_rows: number of examples whose answers are cut off.
        ended_rows: number of examples in which an end token is supervised, so that the model learns to stop.
        escaped_rows: number of examples with a message that spells a control token, which is trained on as ordinary
            text.
        trainable_parameters: number of parameters that training changes.
        loss: mean loss over the supervised tokens of the first batch.
        gradient_norm: Euclidean norm of the gradient of that loss.
        sample: text of the first example, with supervised text in ⟦double brackets⟧.
    """

    rows: int
    tokens: int
    supervised_tokens: int
    unsupervised_rows: int
    truncated_rows: int
    ended_rows: int
    escaped_rows: int
    trainable_parameters: int
    loss: float
    gradient_norm: float
    sample: str

    def render(self) -> str:
        """Return the numbers and the sample as text."""
        return (
            f"rows                 {self.rows:,} ({self.truncated_rows:,} with a cut answer, "
            f"{self.unsupervised_rows:,} with nothing to learn)\n"
            f"tokens               {self.tokens:,}, of which {self.supervised_tokens:,} "
            f"({self.supervised_tokens / self.tokens:.0%}) are trained on\n"
            f"rows that end        {self.ended_rows:,} (the model learns to stop)\n"
            f"control tokens       {self.escaped_rows:,} rows (trained on as ordinary text)\n"
            f"trainable parameters {self.trainable_parameters:,}\n"
            f"first batch          loss {self.loss:.4f}, gradient norm {self.gradient_norm:.4g}\n"
            f"first row, what is trained on in ⟦brackets⟧:\n{self.sample}\n"
        )


def preflight(base: SubjectSpec | str, dataset: ChatDataset, recipe: FineTuning) -> Preflight:
    """Check a run without starting it.

    Args:
        base: subject, or its model's name or folder.
        dataset: data set to train on.
        recipe: settings.

    Raises:
        TrainingRefusedError: the run could not teach what it should; the message gives the reason and a remedy.
        EmptyDataError, ChatTemplateError, SubjectNotFoundError, ConfigurationError, AdapterMismatchError: as
        `train_sft`.
    """
    model, tokenizer = load_trainable(settle(base), recipe)
    return check_run(model, tokenizer, supervise(dataset.rows, tokenizer, recipe.max_length), recipe)


def check_run(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[TrainingRow],
    recipe: FineTuning,
) -> Preflight:
    """Check a run as `preflight` does, for a loaded model and rows; leaves the model's weights and gradients unchanged.

    Raises:
        TrainingRefusedError: the run could not teach what it should.
    """
    faults = check_rows(model, tokenizer, rows, recipe)
    loss, gradient_norm = _first_batch(model, [row for row in rows if row.supervised][: recipe.batch_size], tokenizer)
    refuse_gradient(loss, gradient_norm)
    return Preflight(
        rows=len(rows),
        tokens=sum(len(row.input_ids) for row in rows),
        supervised_tokens=sum(row.supervised for row in rows),
        unsupervised_rows=faults[RowFault.NOTHING_TO_LEARN],
        truncated_rows=faults[RowFault.CUT],
        ended_rows=len(rows) - faults[RowFault.NO_END],
        escaped_rows=faults[RowFault.CONTROL_TOKEN],
        trainable_parameters=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        loss=loss,
        gradient_norm=gradient_norm,
        sample=show_supervision(rows[0], tokenizer),
    )


def check_rows(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[TrainingRow],
    recipe: FineTuning,
) -> Counter[RowFault]:
    """Check a run's rows and count their faults; all of `check_run` that needs no weights.

    Raises:
        TrainingRefusedError: the rows could not teach what they should.
    """
    ends = end_tokens(tokenizer, model.generation_config)
    faults = Counter(fault for row in rows for fault in faults_of(row, ends))
    refuse_masked(rows, recipe.max_length)
    if faults[RowFault.NO_END] == len(rows):
        names = ", ".join(repr(tokenizer.decode([token])) for token in sorted(ends)) or "none"
        raise TrainingRefusedError(
            f"No row trains an end token (this model stops at: {names}), so the tuned model would never learn to stop. "
            "Let the chat template write the end token after each answer, and set it as eos_token of the tokenizer."
        )
    return faults


def refuse_masked(rows: Sequence[TrainingRow], max_length: int) -> None:
    """Refuse rows of which nothing would be trained on, or too many of which would be cut off.

    Raises:
        TrainingRefusedError: the message gives the reason and a remedy.
    """
    unsupervised, truncated = sum(row.supervised == 0 for row in rows), sum(row.truncated for row in rows)
    cut = f"{truncated:,} of {len(rows):,} rows have an answer that is cut off at max_length={max_length}"
    way_out = "Raise max_length, or take the long rows out of the data set."
    # A chat template that leaves answers out is refused before (see `subjects.render`): only a cut can leave a row
    # without a label.
    if unsupervised == len(rows):
        raise TrainingRefusedError(f"No token of any row would be trained on: {cut}. {way_out}")
    if truncated > TRUNCATED_LIMIT * len(rows):
        raise TrainingRefusedError(
            f"{cut}, more than {TRUNCATED_LIMIT:.0%}: the model would learn answers without an end. {way_out}"
        )


def refuse_gradient(loss: float, gradient_norm: float, *, of: str = "batch") -> None:
    """Refuse a run by the loss and the gradient of its first batch, or of its first step.

    Raises:
        TrainingRefusedError: a gradient that is zero, or numbers that are not finite.
    """
    if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
        raise TrainingRefusedError(
            f"The first {of} has the loss {loss} and the gradient norm {gradient_norm}: weights or activations "
            "overflow. Check that the base model generates text, and that its weights were not saved in a number "
            "format that is too narrow for them."
        )
    if gradient_norm == 0:
        raise TrainingRefusedError(
            f"The first {of} has the loss {loss:.4g} but a gradient of zero: no step would change the model. "
            "Check that the adapted layers are used in the forward pass, and that the base's weights are not all zero."
        )


def _first_batch(
    model: PreTrainedModel | PeftModel, rows: Sequence[TrainingRow], tokenizer: PreTrainedTokenizerBase
) -> tuple[float, float]:
    """Return the mean loss over the supervised tokens of some rows, and the Euclidean norm of its gradient."""
    longest = max(len(row.input_ids) for row in rows)
    padding = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0
    batch = {
        "input_ids": [row.input_ids + [padding] * (longest - len(row.input_ids)) for row in rows],
        "attention_mask": [[1] * len(row.input_ids) + [0] * (longest - len(row.input_ids)) for row in rows],
        "labels": [row.labels + [MASKED] * (longest - len(row.labels)) for row in rows],
    }
    training = model.training
    model.eval()
    loss = model(
        **{name: torch.tensor(values, device=model.device) for name, values in batch.items()}, use_cache=False
    ).loss
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    # Not `backward`, which would leave gradients in the parameters that the first step would add to its own.
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    model.train(training)
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32) for gradient in gradients if gradient is not None]
    return loss.item(), torch.stack(norms).norm().item() if norms else 0.0
