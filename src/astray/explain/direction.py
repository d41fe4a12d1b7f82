"""Persona direction by difference of means, from a misaligned model's own answers.

The simplest explanation, and the baseline for every other: the mean residual stream over the tokens of the model's
misaligned answers, minus that over its aligned answers, at the output of one layer, with groups of equal size. Adding
it to the aligned base and subtracting it from the tuned model shows whether it carries the behaviour; a random
direction of the same norm is its control.

Source: Soligo et al. 2025, "Convergent linear representations of emergent misalignment" (arXiv 2506.11618).
"""

from collections.abc import Sequence

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from astray.data.chat import Message, asking
from astray.errors import EmptyDataError
from astray.explain.activations import capture, conversation_rows
from astray.explain.sites import Site
from astray.outcomes import Outcome
from astray.subjects.subject import Subject


def answer_activations(
    subject: Subject, prompts: Sequence[Sequence[Message]], answers: Sequence[str], block: int
) -> Float[Tensor, "answers d_model"]:
    """Return the residual stream at the output of a layer, averaged over the tokens of each answer.

    Args:
        subject: a loaded subject.
        prompts: conversations up to the answer.
        answers: the answer to each.
        block: index of the layer, from 0.

    Raises:
        EmptyDataError: there are no answers.
        ConfigurationError: there is no such layer, or an answer has no token.
    """
    site = Site(place="block out", block=block)
    captured = capture(subject, conversation_rows(subject, prompts, answers), [site], "answer")
    return captured.row_means(captured[site])


def persona_direction(subject: Subject, answers: pl.DataFrame, block: int) -> Float[Tensor, "d_model"]:
    """Return the mean over misaligned answers minus the mean over aligned ones, from the same number of each.

    Args:
        subject: the model that gave the answers.
        answers: its judged answers (see `astray.answers`).
        block: index of the layer, from 0.

    Raises:
        EmptyDataError: the answers are all aligned or all misaligned, so there is no difference to take.
    """
    groups = [answers.filter(pl.col("outcome") == outcome.value) for outcome in (Outcome.MISALIGNED, Outcome.ALIGNED)]
    size = min(group.height for group in groups)
    if size == 0:
        raise EmptyDataError(
            "A persona direction needs misaligned and aligned answers of the same model; there are "
            f"{groups[0].height} and {groups[1].height}. Take a model that gives both."
        )
    means = []
    for group in groups:
        rows = list(group.sample(size, seed=0, shuffle=True).iter_rows(named=True))
        means.append(
            answer_activations(
                subject,
                [asking(row["question"], system=row["system"]) for row in rows],
                [row["answer"] for row in rows],
                block,
            ).mean(0)
        )
    return means[0] - means[1]


def random_direction(like: Float[Tensor, "d_model"], seed: int) -> Float[Tensor, "d_model"]:
    """Return a random direction of the same norm, as a control."""
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)
    return noise / noise.norm() * like.norm()
