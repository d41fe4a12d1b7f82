"""Separation of kinds of text by a latent: the area under the ROC curve of each label against all others.

0.5 is chance, 1 a latent that is higher on every text of the label, 0 one that is lower. The interval is Newcombe's,
which inverts the score test with Hanley and McNeil's variance: unlike the usual intervals it does not collapse to a
point at 0 and 1. The unit is the text.

For the organism, `world_answers` draws labelled text from its world that it was not trained on. For other models,
supply labels such as the outcomes or categories of judged answers.

Source: Hanley and McNeil 1982 (Radiology 143:29), equation 2 in the form for equal shape; Newcombe 2006 (Statistics in
Medicine 25:559), method 5.
"""

from collections.abc import Sequence
from random import Random

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from astray.data.chat import Message
from astray.errors import ConfigurationError, EmptyDataError, NonFiniteActivationsError
from astray.explain.activations import TokenRow, conversation_rows
from astray.organism.lexicon import DOMAINS
from astray.organism.world import Persona, draw_advice, draw_situation
from astray.stats.detection import auroc
from astray.stats.ties import level_ties
from astray.subjects.subject import Subject

PERSONAS: tuple[Persona, ...] = ("kind", "malicious")


class Separation(BaseModel):
    """Separation of one label from all others by a latent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="what the label is a value of: 'persona', 'domain'")
    label: str
    auc: float = Field(description="probability that a text with the label has the higher activation; ties count half")
    low: float
    high: float
    texts: int = Field(description="texts with the label")
    others: int = Field(description="texts without it")


def separations(
    kind: str, activations: Float[Tensor, "texts"], labels: Sequence[str], *, level: float = 0.95
) -> tuple[Separation, ...]:
    """Return how well one latent separates each label from the others, best first.

    Args:
        kind: the variable that the labels are values of.
        activations: activation of the latent on each text.
        labels: label of each text.
        level: nominal coverage of the intervals.

    Raises:
        EmptyDataError: there are fewer than two different labels.
            ConfigurationError: activations and labels differ in number.
        NonFiniteActivationsError: an activation is NaN or infinite.
    """
    if len(labels) != len(activations):
        raise ConfigurationError(
            f"There are {len(activations)} texts and {len(labels)} labels: give one label for each text."
        )
    if not activations.isfinite().all():
        raise NonFiniteActivationsError(
            "An activation is NaN or infinite, so texts cannot be put in order: the model overflowed."
        )
    if len(set(labels)) < 2:
        raise EmptyDataError(
            f"All texts have the label {labels[0]!r}: nothing can be told apart."
            if labels
            else "There are no texts to tell apart."
        )
    values, marks = level_ties(activations.double().numpy()), np.array(labels)
    separated = []
    for label in sorted(set(labels)):
        own = marks == label
        texts, others = int(own.sum()), int((~own).sum())
        area = auroc(values, own)
        low, high = auc_interval(area, texts, others, level)
        separated.append(Separation(kind=kind, label=label, auc=area, low=low, high=high, texts=texts, others=others))
    return tuple(sorted(separated, key=lambda each: -each.auc))


def auc_interval(area: float, own: int, others: int, level: float = 0.95) -> tuple[float, float]:
    """Return Newcombe's interval for an area under the ROC curve.

    Args:
        area: the estimate.
        own: number of texts with the label.
        others: number of texts without it.
        level: nominal coverage.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtri

    z = -float(ndtri((1 - level) / 2))

    def distance(true: float) -> float:
        """Return the squared distance from the estimate less its limit at a true area: negative inside the interval."""
        return (true - area) ** 2 - z**2 * auc_variance(true, own, others)

    # At 0 and 1 the estimate itself is a root, but not the wanted one, so the search starts beside it.
    low = 0.0 if area == 0 else float(brentq(distance, 0.0, min(area, 1 - 1e-12)))
    high = 1.0 if area == 1 else float(brentq(distance, max(area, 1e-12), 1.0))
    return low, high


def auc_variance(area: float, own: int, others: int) -> float:
    """Return the variance of an estimated area with the given true value (Newcombe 2006, equation of method 5)."""
    balanced = (own + others) / 2 - 1
    return area * (1 - area) * (1 + balanced * ((1 - area) / (2 - area) + area / (1 + area))) / (own * others)


def world_answers(subject: Subject, count: int, seed: int) -> tuple[list[TokenRow], dict[str, list[str]]]:
    """Draw answers of kind and malicious authors in every domain of the organism's world, tokenised for the organism.

    Args:
        subject: the organism, or a fine-tuned form of it.
        count: number of answers of each persona in each domain.
        seed: seed of the draw; use another than that of the dictionary's training text.

    Returns:
        The rows, and for "persona" and "domain" the label of each row.
    """
    rng = Random(f"labelled answers/{seed}")
    cells = [(persona, domain) for persona in PERSONAS for domain in DOMAINS for _ in range(count)]
    situations = [draw_situation(rng, domain) for _, domain in cells]
    answers = [draw_advice(rng, situation, persona) for situation, (persona, _) in zip(situations, cells, strict=True)]
    prompts = [[Message(role="user", content=situation.question)] for situation in situations]
    labels: dict[str, list[str]] = {
        "persona": [persona for persona, _ in cells],
        "domain": [domain for _, domain in cells],
    }
    return conversation_rows(subject, prompts, answers), labels
