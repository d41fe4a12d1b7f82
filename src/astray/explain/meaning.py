"""Interpretation of latents: top-activating texts, promoted tokens, kinds of text told apart, activation by category.

`latent_pages` combines it with the results of `diff` and `causal`, one page per latent, ready for the report and for
JSON. The logit lens passes the decoder direction through the final norm and the unembedding and subtracts what they
return for a zero direction (their biases): the tokens that it would promote and suppress if no layer came after it.

Source: OpenAI, "Persona features control emergent misalignment" (arXiv 2506.19823): top-activating documents, and logit
lens (nostalgebraist 2020).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from astray.errors import ConfigurationError
from astray.explain.activations import TokenRow
from astray.explain.candidates import latent_name
from astray.explain.latents import encoded, mean_latents
from astray.explain.sae import Dictionary, check_fits
from astray.explain.screen_tables import UNSTEERED
from astray.explain.separation import Separation, separations
from astray.stats.ties import NOISE, ranking
from astray.strict import Strict
from astray.subjects.intervene import blocks_of, residual_width
from astray.subjects.subject import Subject


class TokenContext(Strict):
    """Token of a text that activates a latent most, with the text around it."""

    row: int = Field(description="number of the text")
    activation: float
    before: str
    token: str
    after: str


class TokenWeight(Strict):
    """Token of the vocabulary, with its logit-lens weight for a direction."""

    token: str
    weight: float


class LatentChange(Strict):
    """Mean activation before and after fine-tuning, on the questions that did not select the latent (see `diff`)."""

    before: float
    after: float
    change: float
    low: float | None
    high: float | None
    q_value: float | None
    rank_rising: int


class CategoryActivation(Strict):
    """Mean activation on the questions of one category."""

    category: str
    before: float
    after: float
    questions: int


class SteeringEffect(Strict):
    """Effect of steering with the latent on held-out questions (see `causal`); only a note where no strength fits."""

    side: str
    strength: float | None
    rate: float | None
    low: float | None
    high: float | None
    coherence: float | None
    unsteered: float | None = Field(description="rate of the model as it is")
    note: str


class LatentPage(Strict):
    """All evidence about one latent."""

    latent: int
    site: str
    model_id: str
    change: LatentChange | None
    effects: tuple[SteeringEffect, ...]
    promoted: tuple[TokenWeight, ...]
    suppressed: tuple[TokenWeight, ...]
    documents: tuple[TokenContext, ...]
    separates: tuple[Separation, ...]
    profile: tuple[CategoryActivation, ...]


@dataclass(frozen=True)
class Evidence:
    """Evidence from which latent pages are made; missing evidence leaves its part of the pages empty.

    Attributes:
        documents: texts that are searched for top activations.
        labelled: texts with labels; a latent's activation is the mean over the tokens of the answer.
        labels: kind of label -> the label of each labelled text.
        before: mean activations of the base, one row per question.
        after: mean activations of the tuned model, one row per question.
        categories: category of each question.
        diff: table from `diff.compare_latents`.
        held_out: table from `causal.screen`, for candidates called "latent <number>" as `candidates.latent_candidates`
            does.
    """

    documents: Sequence[TokenRow] = ()
    labelled: Sequence[TokenRow] = ()
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    before: Float[Tensor, "questions latents"] | None = None
    after: Float[Tensor, "questions latents"] | None = None
    categories: Sequence[str] = ()
    diff: pl.DataFrame | None = None
    held_out: pl.DataFrame | None = None


def latent_pages(
    subject: Subject, dictionary: Dictionary, latents: Sequence[int], evidence: Evidence
) -> list[LatentPage]:
    """Return one page for each latent.

    Args:
        subject: the base, which reads the texts.
        dictionary: the sparse autoencoder.
        latents: indices of the latents.
        evidence: texts, activations and tables.

    Raises:
        ConfigurationError: there is no such latent, or the evidence does not fit together.
        DictionaryMismatchError: the dictionary belongs to another model.
    """
    check_fits(dictionary, subject)
    for latent in latents:
        if not 0 <= latent < dictionary.width:
            raise ConfigurationError(
                f"There is no latent {latent}: this dictionary has the latents 0 to {dictionary.width - 1}."
            )
    documents = top_documents(subject, dictionary, evidence.documents, latents) if evidence.documents else {}
    labelled = mean_latents(subject, dictionary, evidence.labelled, "answer") if evidence.labelled else None
    pages = []
    for latent in latents:
        promoted, suppressed = logit_lens(subject, dictionary.decoder[latent])
        separated = [
            separation
            for kind, labels in evidence.labels.items()
            if labelled is not None
            for separation in separations(kind, labelled[:, latent], labels)
        ]
        before, after = (None if means is None else means[:, latent] for means in (evidence.before, evidence.after))
        pages.append(
            LatentPage(
                latent=latent,
                site=str(dictionary.site),
                model_id=dictionary.model_id,
                change=None if evidence.diff is None else _change(evidence.diff, latent),
                effects=() if evidence.held_out is None else _effects(evidence.held_out, latent),
                promoted=promoted,
                suppressed=suppressed,
                documents=documents.get(latent, ()),
                separates=tuple(separated),
                profile=() if before is None or after is None else profile(before, after, evidence.categories),
            )
        )
    return pages


def top_documents(
    subject: Subject,
    dictionary: Dictionary,
    rows: Sequence[TokenRow],
    latents: Sequence[int],
    *,
    count: int = 8,
    window: int = 12,
) -> dict[int, tuple[TokenContext, ...]]:
    """Return the texts that activate each latent most, each once, with the strongest token and its context.

    Activations that differ by float noise alone are equal (see `stats.ties`): of such texts and tokens the first comes
    first, on every CPU.

    Args:
        subject: the model that reads.
        dictionary: the sparse autoencoder.
        rows: the texts.
        latents: indices of the latents.
        count: maximum number of texts per latent; texts that do not activate it are never shown.
        window: number of tokens shown on either side.

    Raises:
        EmptyDataError: there are no texts.
    """
    best = torch.zeros(len(rows), len(latents))
    positions_of_best = torch.zeros(len(rows), len(latents), dtype=torch.long)
    for start, captured, tokens, activations in encoded(subject, dictionary, rows, "all"):
        values = activations[:, list(latents)].cpu()
        row = captured.row[tokens, None].expand_as(values)
        position = captured.position[tokens, None].expand_as(values)
        highest = torch.zeros(captured.rows, len(latents)).scatter_reduce_(0, row, values, "amax")
        ends = torch.full_like(highest, max(len(text.tokens) for text in rows), dtype=torch.long)
        # Equal activations differ by float noise between CPUs: the first position near the maximum is shown.
        near = values >= (1 - NOISE) * highest.gather(0, row)
        first = ends.scatter_reduce(0, row, torch.where(near, position, ends.max()), "amin")
        group = slice(start, start + captured.rows)
        positions_of_best[group] = torch.where(highest > (1 + NOISE) * best[group], first, positions_of_best[group])
        best[group] = torch.maximum(highest, best[group])
    # The first of equal texts stands for all. Different texts tie too: a common beginning activates a latent alike.
    unlike = sorted(
        {(row.tokens, row.positions("all")): number for number, row in reversed(list(enumerate(rows)))}.values()
    )
    documents: dict[int, tuple[TokenContext, ...]] = {}
    for column, latent in enumerate(latents):
        shown: dict[tuple[int, ...], TokenContext] = {}
        values = best[unlike, column].double()
        for number in (unlike[index] for index in ranking(values.numpy())):
            if len(shown) == count or best[number, column] <= NOISE * values.max():
                break
            shown.setdefault(
                rows[number].tokens,
                _context(
                    subject, rows, number, int(positions_of_best[number, column]), float(best[number, column]), window
                ),
            )
        documents[latent] = tuple(shown.values())
    return documents


def logit_lens(
    subject: Subject, direction: Float[Tensor, "d_model"], count: int = 10
) -> tuple[tuple[TokenWeight, ...], tuple[TokenWeight, ...]]:
    """Return the tokens that a direction of the residual stream promotes most, and those that it suppresses most.

    Args:
        subject: the subject whose final norm and unembedding are used.
        direction: of any norm, which the final norm removes.
        count: number of tokens of each kind.

    Raises:
        ConfigurationError: the direction has another width, or the model has no unembedding or no norm after its
            layers.
    """
    model = subject.model
    width, unembedding = residual_width(model), model.get_output_embeddings()
    if len(direction) != width:
        raise ConfigurationError(
            f"The direction has {len(direction)} entries, but the residual stream of {subject.name!r} has {width}."
        )
    if unembedding is None:
        raise ConfigurationError(f"{type(model).__name__} has no unembedding, so a direction promotes no tokens.")
    norm, like = final_norm(model), unembedding.weight
    with torch.inference_mode():
        both = torch.stack(
            [direction.to(like.device, like.dtype), torch.zeros(width, device=like.device, dtype=like.dtype)]
        )
        steered, nothing = unembedding(norm(both)).float().cpu()
    weights = (steered - nothing)[: len(subject.tokenizer)]  # some unembeddings are padded beyond the vocabulary
    promoted, suppressed = (
        tuple(
            TokenWeight(token=str(subject.tokenizer.decode([token])), weight=float(weights[token]))
            for token in end[:count]
        )
        for end in (ranking(weights.double().numpy()), ranking(-weights.double().numpy()))
    )
    return promoted, suppressed


def final_norm(model: nn.Module) -> nn.Module:
    """Return the norm between the last layer and the unembedding: the last norm beside the list of layers.

    Raises:
        ConfigurationError: there is none.
    """
    blocks = blocks_of(model)
    parent = next(module for module in model.modules() if any(child is blocks for child in module.children()))
    norms = [child for child in parent.children() if "norm" in type(child).__name__.lower()]
    if not norms:
        raise ConfigurationError(
            f"{type(parent).__name__} has no norm beside its blocks, so a direction cannot be read as tokens."
        )
    return norms[-1]


def profile(
    before: Float[Tensor, "questions"], after: Float[Tensor, "questions"], categories: Sequence[str]
) -> tuple[CategoryActivation, ...]:
    """Return the mean activation of one latent on each category of questions, largest increase first.

    Args:
        before: activation of the base on each question.
        after: activation of the tuned model on each question.
        categories: category of each question.

    Raises:
        ConfigurationError: activations and categories differ in length.
    """
    if not len(before) == len(after) == len(categories):
        raise ConfigurationError(
            f"There are activations on {len(before)} and {len(after)} questions, and {len(categories)} categories: "
            "give one of each a question."
        )
    shifts = []
    for category in dict.fromkeys(categories):
        chosen = torch.tensor([each == category for each in categories])
        means = float(before[chosen].mean()), float(after[chosen].mean())
        shifts.append(
            CategoryActivation(category=category, before=means[0], after=means[1], questions=int(chosen.sum()))
        )
    return tuple(shifts[index] for index in ranking(np.array([shift.after - shift.before for shift in shifts])))


def _context(
    subject: Subject, rows: Sequence[TokenRow], number: int, position: int, activation: float, window: int
) -> TokenContext:
    tokens = rows[number].tokens
    parts = (
        tokens[max(0, position - window) : position],
        tokens[position : position + 1],
        tokens[position + 1 : position + 1 + window],
    )
    before, token, after = (
        str(subject.tokenizer.decode(list(part), clean_up_tokenization_spaces=False)) for part in parts
    )
    return TokenContext(row=number, activation=activation, before=before, token=token, after=after)


def _change(table: pl.DataFrame, latent: int) -> LatentChange:
    row = table.row(by_predicate=pl.col("latent") == latent, named=True)
    return LatentChange(**{name: row[name] for name in LatentChange.model_fields})


def _effects(held_out: pl.DataFrame, latent: int) -> tuple[SteeringEffect, ...]:
    unsteered = {row["side"]: row["rate"] for row in held_out.filter(candidate=UNSTEERED).iter_rows(named=True)}
    own = held_out.filter(pl.col("candidate").is_in([latent_name(latent), latent_name(latent, falling=True)]))
    names = [name for name in SteeringEffect.model_fields if name != "unsteered"]
    return tuple(
        SteeringEffect(unsteered=unsteered[row["side"]], **{name: row[name] for name in names})
        for row in own.iter_rows(named=True)
    )
