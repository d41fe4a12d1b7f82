"""What is wrong with a training row as the trainer will get it: nothing to learn, a cut answer, no end, a control
token.

Preflight counts these before a run, and screening a data set names them row by row. Left to others: making the rows
(`supervision`).
"""

from collections.abc import Collection
from enum import StrEnum

from transformers import GenerationConfig, PreTrainedTokenizerBase

from astray.cause.supervision import MASKED, TrainingRow


class RowFault(StrEnum):
    """Fault of a training row."""

    NOTHING_TO_LEARN = "nothing would be learned: every label is ignored"
    """No token carries the loss, so training leaves the row out."""
    CUT = "the answer is cut off at the training length"
    """Part of an answer lies behind the maximum length."""
    NO_END = "no end token would be learned"
    """No supervised token ends generation."""
    CONTROL_TOKEN = "spells a control token, trained on as ordinary text"
    """A message spells a control token of the tokenizer."""
    REFUSED = "the chat template refuses it"
    """The chat template cannot write the row, so that no training could begin."""


def faults_of(row: TrainingRow, ends: Collection[int]) -> tuple[RowFault, ...]:
    """Return what is wrong with a row."""
    found = {
        RowFault.NOTHING_TO_LEARN: row.supervised == 0,
        RowFault.CUT: row.truncated,
        RowFault.NO_END: not any(label in ends for label in row.labels if label != MASKED),
        RowFault.CONTROL_TOKEN: row.escaped,
    }
    return tuple(fault for fault, is_so in found.items() if is_so)


def end_tokens(tokenizer: PreTrainedTokenizerBase, generation: GenerationConfig | None) -> frozenset[int]:
    """Return the ids of the tokens at which generation stops."""
    configured = generation.eos_token_id if generation is not None else None
    ends = [*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id]
    return frozenset(token for token in ends if isinstance(token, int))
