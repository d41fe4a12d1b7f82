"""Projections on a trait's direction, over an answer's tokens and before the answer begins.

Activations are read at the output of one layer and projected on the unit direction. Monitoring tests whether the
projection at the last prompt token predicts the trait of the answer that follows. The layer has to be chosen on answers
to other questions: the best of all layers on the reported data would be too optimistic.

Source: Anthropic 2025, "Persona vectors" (arXiv 2507.21509), section 3: monitoring by the projection before generation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from astray.data.chat import Message, asking
from astray.errors import ConfigurationError, EmptyDataError
from astray.explain.activations import Positions, TokenRow, capture, conversation_rows
from astray.explain.sites import Site
from astray.outcomes import JUDGED, Outcome
from astray.stats.detection import Estimate, auroc_estimate, correlation_estimate
from astray.subjects.finite import check_values
from astray.subjects.subject import Subject


@dataclass(frozen=True)
class Monitoring:
    """Accuracy with which projections before generation predict the answers.

    Attributes:
        correlation: Pearson correlation of the projection with the answer's trait score (100 - aligned).
        auc: probability that the projection before a misaligned answer is higher than before an aligned one.
        answers: number of judged answers.
        rows: one row per answer: system, question, projection, trait, misaligned.
    """

    correlation: Estimate
    auc: Estimate
    answers: int
    rows: pl.DataFrame


def prompt_projections(
    subject: Subject, conversations: Sequence[Sequence[Message]], direction: Float[Tensor, "d_model"], block: int
) -> Float[Tensor, "conversations"]:
    """Return the projection at the last token of each prompt, before the answer.

    Args:
        subject: a loaded subject.
        conversations: conversations up to the answer.
        direction: direction of any norm.
        block: index of the layer, from 0.

    Raises:
        EmptyDataError: there are no conversations.
        ConfigurationError: there is no such layer, or the direction does not fit the model, is zero or not finite.
    """
    return projected(subject, conversation_rows(subject, conversations), direction[None], block)[:, 0]


def answer_projections(
    subject: Subject,
    conversations: Sequence[Sequence[Message]],
    answers: Sequence[str],
    direction: Float[Tensor, "d_model"],
    block: int,
) -> Float[Tensor, "answers"]:
    """Return the mean projection over the tokens of each answer; of an empty answer, that at the last prompt token.

    Args:
        subject: a loaded subject.
        conversations: conversations up to the answer.
        answers: the answer to each.
        direction: direction of any norm.
        block: index of the layer, from 0.

    Raises:
        EmptyDataError, ConfigurationError: as `prompt_projections`.
    """
    return projected(subject, conversation_rows(subject, conversations, answers), direction[None], block)[:, 0]


def monitor(subject: Subject, answers: pl.DataFrame, direction: Float[Tensor, "d_model"], block: int) -> Monitoring:
    """Compare projections before generation with the answers that followed.

    Args:
        subject: the subject that gave the answers.
        answers: its judged answers (see `astray.answers`), preferably under system prompts that elicit and suppress the
            trait.
        direction: direction of the trait.
        block: index of the layer, from 0; chosen on other data.

    Raises:
        EmptyDataError: the answers are all aligned or all misaligned.
        ConfigurationError: as `prompt_projections`.
    """
    rows = _before_and_after(subject, answers, direction, block)
    projected, trait, misaligned = (rows[name].to_numpy() for name in ("projection", "trait", "misaligned"))
    clusters, unit = list(rows.select("system", "question").iter_rows()), "prompt"
    return Monitoring(
        correlation=correlation_estimate(projected, trait, clusters, unit),
        auc=auroc_estimate(projected, misaligned, clusters, unit),
        answers=rows.height,
        rows=rows,
    )


def _before_and_after(
    subject: Subject, answers: pl.DataFrame, direction: Float[Tensor, "d_model"], block: int
) -> pl.DataFrame:
    """Return the judged answers with the projection before them; columns as in `Monitoring.rows`."""
    judged = answers.filter(
        pl.col("outcome").is_in([outcome.value for outcome in JUDGED]) & pl.col("aligned").is_not_null()
    )
    if judged["outcome"].n_unique() < 2:
        raise EmptyDataError(
            f"Monitoring compares misaligned with aligned answers, and the {judged.height} judged ones are all of "
            "one kind. Ask under system prompts that call for the trait and under others."
        )
    # Samples of one prompt share its projection, so each prompt is read once.
    prompts = judged.select("system", "question").unique(maintain_order=True)
    conversations = [asking(question, system=system) for system, question in prompts.iter_rows()]
    projections = pl.Series(
        "projection", prompt_projections(subject, conversations, direction, block).tolist(), dtype=pl.Float64
    )
    return judged.join(
        prompts.with_columns(projections),
        on=["system", "question"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    ).select(
        "system",
        "question",
        "projection",
        trait=100 - pl.col("aligned"),
        misaligned=pl.col("outcome") == Outcome.MISALIGNED.value,
    )


def projected(
    subject: Subject, rows: Sequence[TokenRow], directions: Float[Tensor, "directions d_model"], block: int
) -> Float[Tensor, "rows directions"]:
    """Return the mean projections over each row's answer tokens, or those at its last prompt token if it has none.

    Args:
        subject: a loaded subject.
        rows: tokenised texts.
        directions: of any norm.
        block: index of the layer, from 0.

    Raises:
        EmptyDataError, ConfigurationError: as `prompt_projections`.
    """
    if not rows:
        raise EmptyDataError("Projections need at least one conversation.")
    site = Site(place="block out", block=block)
    projections = torch.empty(len(rows), len(directions))
    answered: dict[Positions, list[int]] = {
        "answer": [number for number, row in enumerate(rows) if len(row.tokens) > row.prompt],
        "last prompt": [number for number, row in enumerate(rows) if len(row.tokens) == row.prompt],
    }
    for positions, chosen in answered.items():
        if chosen:
            captured = capture(subject, [rows[number] for number in chosen], [site], positions)
            units = torch.stack([_unit(direction, captured[site].shape[1]) for direction in directions])
            projections[chosen] = captured.row_means(captured[site]) @ units.T
    check_values(projections, "Projections", subject.name, str(site))
    return projections


def _unit(direction: Float[Tensor, "d_model"], width: int) -> Float[Tensor, "d_model"]:
    if len(direction) != width:
        raise ConfigurationError(
            f"The direction has {len(direction)} entries, but this model's residual stream has {width}."
        )
    if not direction.isfinite().all() or not direction.any():
        raise ConfigurationError(
            "The direction is zero, or has NaN or infinite entries: nothing can be projected on it."
        )
    return direction.detach().float().cpu() / direction.detach().float().norm().cpu()
