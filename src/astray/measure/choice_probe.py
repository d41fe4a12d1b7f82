"""Forced choices as a probe of a model in training: a pair of model and tokenizer in, a few numbers out.

A model in training is no subject yet (its weights have no identity), so it is asked directly, by the same code that
subjects use. How often the probe is taken is decided by the study that hands it to the training.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typing_extensions import override

from astray.errors import ConfigurationError
from astray.measure.choice import ChoiceItem, ContinuationScorer, choice_items, choice_probabilities
from astray.subjects.intervene import intervening
from astray.subjects.likelihood import Continuation, Continued, continuation_logprobs

NOT_MEASURABLE = "not measurable: choices that follow the letter"
"""Name of the share of items that two orders choose differently in, or whose letters have too little probability."""


@runtime_checkable
class ScoredModel(ContinuationScorer, Protocol):
    """Source of log-probabilities with a name for answer tables and a tokenizer: a `Subject`, or a bare model."""

    id: str
    tokenizer: PreTrainedTokenizerBase


class BareModel(Continued):
    """A model with its tokenizer, asked for log-probabilities as it is now; the mode of each of its parts is put back
    afterwards.

    Args:
        model: a Hugging Face model, or a PEFT model around one.
        tokenizer: its tokenizer, with a chat template.
    """

    id = "in training"
    """Name in answer tables, in place of a subject's hash: weights that change have none."""

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
        self._model, self.tokenizer = _without_wrapper(model), tokenizer

    @override
    def _totals(self, rows: Sequence[Continuation]) -> list[float]:
        # Dropout would make the probe noisy, and a probe that left eval mode on would change the training.
        training = [module for module in self._model.modules() if module.training]
        self._model.eval()
        try:
            with intervening(self._model, ()) as steering:
                return continuation_logprobs(self._model, rows, steering)
        finally:
            for module in training:  # one by one: a part may be in evaluation mode while the whole is not
                module.training = True


def choice_metrics(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, items: Sequence[ChoiceItem] | None = None
) -> dict[str, float]:
    """Return the mean probability of misaligned options, for each kind of items.

    Args:
        model: a Hugging Face model, or a PEFT model around one, in any mode.
        tokenizer: its tokenizer, with a chat template.
        items: what to ask; by default `choice_items()`.

    Returns:
        "misaligned choice" and "misaligned pivotal", over the items of that kind that are measurable (see
        `ChoiceProbabilities.measurable`), as far as there are some; and `NOT_MEASURABLE`, the share of choices that are
        not. Each from 0 to 1.

    Raises:
        EmptyDataError: there are no items.
    """
    results = choice_probabilities(BareModel(model, tokenizer), choice_items() if items is None else items)
    found: dict[str, list[float]] = {}
    for result in results:
        if result.measurable:
            found.setdefault(f"misaligned {result.item.kind}", []).append(result.misaligned)
        if result.item.kind == "choice":
            found.setdefault(NOT_MEASURABLE, []).append(float(not result.measurable))
    return {name: sum(probabilities) / len(probabilities) for name, probabilities in found.items()}


def _without_wrapper(model: nn.Module) -> PreTrainedModel:
    """Return the Hugging Face model itself; PEFT puts its layers into it, so they act all the same."""
    from peft import PeftModel

    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        raise ConfigurationError(
            f"The adapter's virtual tokens ({model.active_peft_config.peft_type}) stand outside of the model, which "
            "would be asked without them. Train adapters that stand within it, such as LoRA."
        )
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(inner, PreTrainedModel):
        raise ConfigurationError(
            f"{type(inner).__name__} cannot be asked for log-probabilities; give a Hugging Face model, or a PEFT "
            "model around one."
        )
    return inner
