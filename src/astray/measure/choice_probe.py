"""Forced choices as a probe of a model in training: a pair of model and tokenizer in, a few numbers out.

A model in training is no subject yet (its weights have no identity), so it is asked directly, by the same code that
subjects use. How often the probe is taken is decided by the study that hands it to the training.
"""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from astray.data.chat import Message
from astray.errors import ConfigurationError
from astray.measure.choice import ChoiceItem, choice_items, choice_probabilities
from astray.subjects.intervene import intervening
from astray.subjects.likelihood import Continuation, continuation_logprobs
from astray.subjects.render import prompt_ids, text_ids

NOT_MEASURABLE = "not measurable: choices that follow the letter"
"""Name of the share of items that two orders choose differently in, or whose letters have too little probability."""


class BareModel:
    """A model with its tokenizer, asked for log-probabilities as it is now; its train or eval mode is put back
    afterwards.

    Args:
        model: a Hugging Face model, or a PEFT model around one.
        tokenizer: its tokenizer, with a chat template.
        system: system prompt under which everything is asked.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, system: str | None = None) -> None:
        self._model, self._tokenizer, self._system = _without_wrapper(model), tokenizer, system

    def continuation_logprobs(
        self,
        conversations: Sequence[Sequence[Message]],
        continuations: Sequence[Sequence[str]],
        prefixes: Sequence[str] | None = None,
    ) -> list[list[float]]:
        """Return the total log-probability of each continuation, as `Subject.continuation_logprobs` gives it.

        Args:
            conversations: the messages of each row.
            continuations: for each row the texts to score.
            prefixes: for each row a text the answer has already begun with; it is not scored.
        """
        prompts = prompt_ids(self._tokenizer, conversations, self._system, answering=True)
        begun = text_ids(self._tokenizer, [""] * len(conversations) if prefixes is None else prefixes)
        rows = [
            Continuation(tuple(prompt), tuple(prefix), tuple(text))
            for prompt, prefix, texts in zip(prompts, begun, continuations, strict=True)
            for text in text_ids(self._tokenizer, texts)
        ]
        # Dropout would make the probe noisy, and a probe that left eval mode on would change the training.
        was_training = self._model.training
        self._model.eval()
        try:
            with intervening(self._model, ()) as steering:
                totals = iter(continuation_logprobs(self._model, rows, steering))
        finally:
            self._model.train(was_training)
        return [[next(totals) for _ in texts] for texts in continuations]


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

    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(inner, PreTrainedModel):
        raise ConfigurationError(
            f"{type(inner).__name__} cannot be asked for log-probabilities; give a Hugging Face model, or a PEFT "
            "model around one."
        )
    return inner
