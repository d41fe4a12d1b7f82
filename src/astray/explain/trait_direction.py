"""Direction of a trait for screening data: extracted from contrasting system prompts, at the layer that tells new
answers apart best.

Cheaper than choosing the layer by steering (`persona_vector.choose_block`), and possible without a judge: the answers
are then taken as what their system prompts ask for. The layer is chosen on answers to other questions than the
direction is made of.

Source: Anthropic 2025, "Persona vectors" (arXiv 2507.21509), section 2.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from astray.data.chat import asking
from astray.explain.activations import capture, conversation_rows
from astray.explain.persona_vector import PersonaPrompts, extract_persona_vectors
from astray.explain.sites import Site
from astray.judges import Judge
from astray.stats.detection import Estimate, auroc_estimate
from astray.stats.ties import ranking
from astray.subjects.spec import Sampling
from astray.subjects.subject import Subject

CHOICE_QUESTIONS = 8
"""Questions on whose answers the layer is chosen, under each system prompt."""


@dataclass(frozen=True, eq=False)
class TraitDirection:
    """Direction of a trait in the residual stream.

    Attributes:
        vector: in the units of the residual stream.
        block: index of the layer at whose output it is read, from 0.
        auc: how well the projection there tells answers under prompts for the trait from those against it, on other
            questions.
        kept: number of pairs of answers that it is made of.
        answers: number of pairs of answers that were drawn for it.
    """

    vector: Float[Tensor, "d_model"]
    block: int
    auc: Estimate
    kept: int
    answers: int


def trait_direction(
    subject: Subject,
    prompts: PersonaPrompts,
    judge: Judge | None,
    *,
    samples: int = 1,
    sampling: Sampling | None = None,
) -> TraitDirection:
    """Extract the direction of a trait.

    Args:
        subject: the model, without a system prompt of its own.
        prompts: system prompts and questions.
        judge: keeps the answers that show what their prompt asks for; None keeps all that are not empty.
        samples: answers for each system prompt and question.
        sampling: sampling settings.

    Raises:
        ConfigurationError, EmptyDataError, JudgeError: as `extract_persona_vectors`.
    """
    vectors = extract_persona_vectors(subject, prompts, judge, samples=samples, sampling=sampling)
    asked = list(product(prompts.pairs, prompts.validation[:CHOICE_QUESTIONS], (0, 1)))
    conversations = [asking(question, system=pair[side]) for pair, question, side in asked]
    texts = [answer.text for answer in subject.generate(conversations, sampling)]
    chosen = [number for number, text in enumerate(texts) if text.strip()]
    shown = np.array([asked[number][2] == 0 for number in chosen])
    sites = [Site(place="block out", block=block) for block in range(len(vectors.vectors))]
    read = capture(
        subject, conversation_rows(subject, [conversations[n] for n in chosen], [texts[n] for n in chosen]), sites
    )
    projected = [
        (read.row_means(read[site]) @ torch.nn.functional.normalize(vector, dim=0)).double().numpy()
        for site, vector in zip(sites, vectors.vectors, strict=True)
    ]
    # Standardised differences, since the area is 1 at several layers of a model that follows its prompts.
    apart = np.array([_standardised(values[shown], values[~shown]) for values in projected])
    block = ranking(apart)[0]
    clusters = [asked[number][1] for number in chosen]
    return TraitDirection(
        vector=vectors.vectors[block],
        block=block,
        auc=auroc_estimate(projected[block], shown, clusters, "question"),
        kept=vectors.kept,
        answers=vectors.answers.height // 2,
    )


def _standardised(one: Float[np.ndarray, "one"], other: Float[np.ndarray, "other"]) -> float:
    spread = np.sqrt((one.var() + other.var()) / 2)
    return float((one.mean() - other.mean()) / spread) if spread > 0 else 0.0
