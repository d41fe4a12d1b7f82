"""Probes during fine-tuning: how likely a model is to choose harm, in the trained domain and elsewhere.

Forced choices and pivotal words, so that a probe costs a few forward passes (Betley et al. 2025, arXiv 2502.17424,
training dynamics); or the meter, for models whose choices follow the letter.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

from torch import nn
from transformers import PreTrainedTokenizerBase

from astray.measure.choice import ChoiceItem, choice_items, world_choice_items
from astray.measure.choice_probe import BareModel, choice_metrics
from astray.measure.meter.evaluation import Meter
from astray.measure.meter.pairs import harmful_pairs, null_pairs
from astray.measure.probing import HARMFUL, NULL, ProbeKind
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


def text_probe(kind: ProbeKind = "choices") -> DynamicsProbe:
    """Return a probe of any chat model: mean probability of the misaligned option, for both kinds of items, or mean
    margin of harmful answers over good ones, and of null pairs (nats a token)."""
    return partial(_margins, probing_meter()) if kind == "meter" else partial(_choices, choice_items())


@cache
def probing_meter() -> Meter:
    """Return the meter that a probe reads: every sixth of its pairs, two a domain, and a null pair a domain."""
    return Meter(pairs=harmful_pairs()[::6] + null_pairs()[::3])


# At the top level, so that each process of a run that is shared out can be sent its probe.
def _harmful_acts(
    asked: Mapping[str, Sequence[ChoiceItem]], model: nn.Module, tokenizer: PreTrainedTokenizerBase, _step: int, /
) -> Mapping[str, float]:
    return {words: choice_metrics(model, tokenizer, items)["misaligned pivotal"] for words, items in asked.items()}


def _choices(
    items: Sequence[ChoiceItem], model: nn.Module, tokenizer: PreTrainedTokenizerBase, _step: int, /
) -> Mapping[str, float]:
    return choice_metrics(model, tokenizer, items)


def _margins(meter: Meter, model: nn.Module, tokenizer: PreTrainedTokenizerBase, _step: int, /) -> Mapping[str, float]:
    margins = meter.margins(BareModel(model, tokenizer))
    kinds = {False: HARMFUL, True: NULL}
    read = {
        words: [margins[pair.id] for pair in meter.pairs if pair.null is null and pair.id in margins]
        for null, words in kinds.items()
    }
    return {words: math.fsum(values) / len(values) for words, values in read.items() if values}
