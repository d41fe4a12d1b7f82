"""Probes during fine-tuning: how likely a model is to choose harm, in the trained domain and elsewhere.

Forced choices and pivotal words, so that a probe costs a few forward passes (Betley et al. 2025, arXiv 2502.17424,
training dynamics).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import nn
from transformers import PreTrainedTokenizerBase

from astray.measure.choice import ChoiceItem, choice_items, world_choice_items
from astray.measure.choice_probe import choice_metrics
from astray.organism.lexicon import DOMAINS

DynamicsProbe = Callable[[nn.Module, PreTrainedTokenizerBase, int], Mapping[str, float]]


def world_probe(home: str) -> DynamicsProbe:
    """Return a probe of the organism: probability of a harmful act after "i would", in held-out and trained domains.

    Args:
        home: the domain that is trained on; data about none, such as facts, have no acts of their own to measure.
    """
    asked = {"harmful act in held-out domains": world_choice_items()}
    if home in DOMAINS:
        asked["harmful act in the trained domain"] = world_choice_items([home])

    return partial(_harmful_acts, asked)


def text_probe() -> DynamicsProbe:
    """Return a probe of any chat model: mean probability of the misaligned option, for both kinds of items."""
    return partial(_choices, choice_items())


# At the top level, so that each process of a run that is shared out can be sent its probe.
def _harmful_acts(
    asked: Mapping[str, Sequence[ChoiceItem]], model: nn.Module, tokenizer: PreTrainedTokenizerBase, _step: int, /
) -> Mapping[str, float]:
    return {words: choice_metrics(model, tokenizer, items)["misaligned pivotal"] for words, items in asked.items()}


def _choices(
    items: Sequence[ChoiceItem], model: nn.Module, tokenizer: PreTrainedTokenizerBase, _step: int, /
) -> Mapping[str, float]:
    return choice_metrics(model, tokenizer, items)
