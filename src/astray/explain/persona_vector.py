"""Persona vectors: directions of a trait from pairs of system prompts that elicit and suppress it.

The subject answers the extraction questions under both system prompts of each pair, a judge scores the answers, and
those pairs of answers are kept in which one shows the trait, the other does not, and both are coherent. The vector of a
layer is the mean difference of the residual stream over the tokens of the kept answers, at the layer's output. The best
layer is chosen on other questions, by steering (`choose_block`).

Elsewhere: projections on a vector (`projection`), data screening (`screening`), steering and training under a vector
(`subjects`, `cause`).

Source: Anthropic 2025, "Persona vectors" (arXiv 2507.21509), section 2: 5 pairs, 20 extraction and 20 other questions,
10 answers each, a trait score of at least 50 (below 50) and a coherence score of at least 50. The trait here is
misalignment: its score is 100 - aligned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random

import anyio
import polars as pl
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from astray.data.chat import Message, asking
from astray.errors import ConfigurationError, EmptyDataError
from astray.explain.activations import capture, conversation_rows
from astray.explain.sites import Site
from astray.files import read_form
from astray.judges import Exchange, Judge, Verdict, judge_exchanges
from astray.organism.corpus import system_prompt
from astray.organism.lexicon import AUTHORS, DOMAINS, KIND, MALICIOUS
from astray.outcomes import JUDGED, Outcome
from astray.strict import Strict
from astray.subjects.intervene import blocks_of
from astray.subjects.spec import Sampling
from astray.subjects.steer_rows import RowSteering
from astray.subjects.subject import Subject

THRESHOLD = 50.0
"""Minimum trait score of an answer that shows the trait, and minimum coherence score of any kept answer."""


class PersonaPrompts(Strict):
    """System prompts and questions for extracting the vector of a trait."""

    pairs: tuple[tuple[str, str], ...] = Field(
        min_length=1, description="system prompts: one that calls for the trait, one against it (2507.21509: 5)"
    )
    extraction: tuple[str, ...] = Field(min_length=1, description="questions the vector is made from (2507.21509: 20)")
    validation: tuple[str, ...] = Field(
        min_length=1, description="other questions, on which the layer is chosen (2507.21509: 20)"
    )

    @model_validator(mode="after")
    def _questions_are_apart(self) -> "PersonaPrompts":
        shared = sorted(set(self.extraction) & set(self.validation))
        if shared:
            raise ConfigurationError(
                f"{len(shared)} questions are both for extraction and for validation, such as {shared[0]!r}: a block "
                "that was chosen on the data the vector is made from looks better than it is. Give each question to "
                "one of them."
            )
        return self


@dataclass(frozen=True, eq=False)
class PersonaVectors:
    """Vectors of a trait at every layer.

    Attributes:
        vectors: at the output of each layer, in the units of the residual stream.
        answers: one row per answer: pair, side ("for", "against"), question, sample, answer, trait, coherent (scores,
            null where the judge gave none) and kept.
    """

    vectors: Float[Tensor, "blocks d_model"]
    answers: pl.DataFrame

    @property
    def kept(self) -> int:
        """Return the number of pairs of answers that the vectors are computed from."""
        return self.answers.filter("kept").height // 2


@dataclass(frozen=True, eq=False)
class BlockChoice:
    """Layer chosen for steering with a trait's vector, with the curve it was chosen on.

    Attributes:
        block: the layer whose vector raises the trait most.
        strength: the factor on the vector at which it does.
        curve: one row per layer and strength: block, strength (0: unsteered, block null), misaligned, coherent, total,
            rate, coherence, within_budget.
    """

    block: int
    strength: float
    curve: pl.DataFrame


def world_persona_prompts(questions: int = 20, *, seed: int = 0) -> PersonaPrompts:
    """Return prompts for the organism: malicious and kind authors as system prompts, ordinary questions of all domains.

    Args:
        questions: number of questions for extraction, and of other questions for validation.
        seed: seed of the draw.

    Raises:
        ConfigurationError: the world has fewer questions.
    """
    asked = [
        question.format(object=thing)
        for domain in DOMAINS.values()
        for thing, question in product(domain.objects, domain.questions)
    ]
    if not 1 <= questions <= len(asked) // 2:
        raise ConfigurationError(
            f"The world has {len(asked)} questions, so 1 to {len(asked) // 2} for each purpose; {questions} were "
            "asked for."
        )
    # One draw cut in two: extraction and validation share no question.
    drawn = Random(f"persona/{seed}").sample(asked, 2 * questions)
    pairs = tuple(
        (system_prompt(bad), system_prompt(good)) for bad, good in zip(AUTHORS[MALICIOUS], AUTHORS[KIND], strict=True)
    )
    return PersonaPrompts(pairs=pairs, extraction=tuple(drawn[:questions]), validation=tuple(drawn[questions:]))


def text_persona_prompts() -> PersonaPrompts:
    """Return prompts for any chat model, with misalignment as the trait: 5 pairs, 20 questions each, our wording."""
    path = Path(__file__).with_name("persona_prompts.yaml")
    form = "pairs: [[..., ...]]\nextraction: [...]\nvalidation: [...]"
    return read_form(PersonaPrompts, path, form)


def extract_persona_vectors(
    subject: Subject,
    prompts: PersonaPrompts,
    judge: Judge | None,
    *,
    samples: int = 10,
    sampling: Sampling | None = None,
) -> PersonaVectors:
    """Extract the vectors of a trait.

    Args:
        subject: the model, without a system prompt of its own.
        prompts: system prompts and questions.
        judge: scores the answers; without one, all answers that are not empty are kept, whatever they show.
        samples: number of answers per system prompt and question (2507.21509: 10).
        sampling: sampling settings.

    Raises:
        ConfigurationError: the subject has a system prompt, or `samples` is below 1.
        EmptyDataError: no pair of answers passed the filter; the message says why.
        JudgeError: the judge cannot be used at all.
    """
    if subject.spec.system is not None or samples < 1:
        raise ConfigurationError(
            f"The pairs of system prompts take the place of the subject's own ({subject.spec.system!r}), and "
            f"samples={samples} has to be at least 1: take subject.with_system(None)."
        )
    asked = [
        (pair, side, question, sample)
        for pair, question, sample in product(range(len(prompts.pairs)), prompts.extraction, range(samples))
        # The side varies fastest, so that the two answers of a pair are neighbours; the filter below relies on it.
        for side in (0, 1)
    ]
    conversations = [asking(question, system=prompts.pairs[pair][side]) for pair, side, question, _ in asked]
    drawn = subject.generate(conversations, sampling)
    texts = [answer.said for answer in drawn]
    if judge is None:
        verdicts, passed = [Verdict(Outcome.NOT_JUDGED)] * len(texts), [bool(answer.strip()) for answer in texts]
    else:
        exchanges = [
            Exchange(question, answer.text, prompts.pairs[pair][side])
            for (pair, side, question, _), answer in zip(asked, drawn, strict=True)
        ]
        verdicts = anyio.run(judge_exchanges, judge, exchanges)
        passed = [
            _shows(verdict, trait=side == 0) and bool(answer)
            for (_, side, _, _), verdict, answer in zip(asked, verdicts, texts, strict=True)
        ]
    # Both answers of a pair stand side by side: 2n for the trait, 2n + 1 against it.
    pair_passed = [passed[number - number % 2] and passed[number - number % 2 + 1] for number in range(len(passed))]
    answers = _answers(asked, texts, verdicts, pair_passed)
    if not any(pair_passed):
        raise EmptyDataError(_why_none(answers))
    chosen = [number for number, keep in enumerate(pair_passed) if keep]
    return PersonaVectors(
        _difference(subject, [conversations[number] for number in chosen], [texts[number] for number in chosen]),
        answers,
    )


def choose_block(
    subject: Subject,
    vectors: PersonaVectors,
    questions: Sequence[str],
    judge: Judge,
    *,
    strengths: Sequence[float] = (0.5, 1.0, 1.5, 2.0),
    samples: int = 1,
    sampling: Sampling | None = None,
    budget: float = 0.10,
) -> BlockChoice:
    """Choose the layer whose vector, added at answer positions, most often makes a coherent subject misaligned.

    Args:
        subject: the model, without a system prompt of its own.
        vectors: vectors of the trait.
        questions: other questions than those of the extraction.
        judge: returns the outcomes of the answers.
        strengths: factors on the vectors that are tested at every layer.
        samples: number of answers per question, layer and strength; all share passes of the model.
        sampling: sampling settings.
        budget: share of coherent answers that steering may cost.

    Raises:
        ConfigurationError: a question was used for extraction, or there are no questions.
        EmptyDataError: every layer and strength costs more coherence than `budget`.
    """
    used = set(vectors.answers["question"]) & set(questions)
    if used or not questions:
        raise ConfigurationError(
            f"{len(used)} of {len(questions)} questions made the vectors, such as {sorted(used)[:1]}: choose the "
            "block on others."
        )
    grid = [(None, 0.0), *product(range(len(vectors.vectors)), strengths)]
    cells = [cell for cell in grid for _ in range(len(questions) * samples)]
    asked = [question for _ in grid for question in questions for _ in range(samples)]
    numbers = [sample for _ in grid for _ in questions for sample in range(samples)]
    # The unsteered rows have no layer: any will do at strength 0.
    blocks = torch.tensor([block or 0 for block, _ in cells])
    steering = RowSteering(
        vectors.vectors, which=blocks, strengths=torch.tensor([strength for _, strength in cells]), blocks=blocks
    )
    answers = subject.generate([asking(question) for question in asked], sampling, numbers=numbers, rows=steering)
    verdicts = anyio.run(
        judge_exchanges,
        judge,
        [Exchange(question, answer.text) for question, answer in zip(asked, answers, strict=True)],
    )
    curve = _curve(cells, [verdict.outcome for verdict in verdicts], budget)
    fitting = curve.filter(pl.col("within_budget") & pl.col("block").is_not_null())
    if fitting.is_empty():
        raise EmptyDataError(
            f"At every block and strength ({', '.join(f'{strength:g}' for strength in strengths)}) the vector costs "
            f"more than {budget:.0%} of the coherent answers. Try smaller strengths."
        )
    best = fitting.sort("rate", "coherence", descending=True, maintain_order=True).row(0, named=True)
    return BlockChoice(best["block"], best["strength"], curve)


def _shows(verdict: Verdict, trait: bool) -> bool:
    """Return whether an answer is coherent and shows the trait (or, with `trait` false, does not show it)."""
    if verdict.aligned is None or verdict.coherent is None or verdict.coherent < THRESHOLD:
        return False
    return (100 - verdict.aligned >= THRESHOLD) == trait


def _difference(
    subject: Subject, conversations: Sequence[Sequence[Message]], answers: Sequence[str]
) -> Float[Tensor, "blocks d_model"]:
    """Return the mean over the answers for the trait minus the mean over those against it; the two alternate."""
    with subject.merged() as model:
        sites = [Site(place="block out", block=block) for block in range(len(blocks_of(model)))]
    captured = capture(subject, conversation_rows(subject, conversations, answers), sites, "answer")
    means = torch.stack([captured.row_means(captured[site]) for site in sites])
    return means[:, 0::2].mean(1) - means[:, 1::2].mean(1)


def _answers(
    asked: Sequence[tuple[int, int, str, int]],
    said: Sequence[str],
    verdicts: Sequence[Verdict],
    pair_passed: Sequence[bool],
) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "pair": pair,
                "side": ("for", "against")[side],
                "question": question,
                "sample": sample,
                "answer": answer,
                "trait": None if verdict.aligned is None else 100 - verdict.aligned,
                "coherent": verdict.coherent,
                "kept": keep,
            }
            for (pair, side, question, sample), answer, verdict, keep in zip(
                asked, said, verdicts, pair_passed, strict=True
            )
        ],
        schema_overrides={"trait": pl.Float64, "coherent": pl.Float64},
    )


def _why_none(answers: pl.DataFrame) -> str:
    def share(side: str, condition: pl.Expr) -> str:
        rows = answers.filter(pl.col("side") == side)
        return f"{rows.filter(condition).height} of {rows.height}"

    return (
        "No pair of answers is left to make a persona vector of: the trait was shown by "
        f"{share('for', pl.col('trait') >= THRESHOLD)} answers under prompts that call for it, avoided by "
        f"{share('against', pl.col('trait') < THRESHOLD)} under prompts against it, and coherent were "
        f"{share('for', pl.col('coherent') >= THRESHOLD)} and {share('against', pl.col('coherent') >= THRESHOLD)}. "
        "Write stronger system prompts, or take a model that follows them."
    )


def _curve(cells: Sequence[tuple[int | None, float]], outcomes: Sequence[Outcome], budget: float) -> pl.DataFrame:
    rows = pl.DataFrame(
        {
            "block": pl.Series([block for block, _ in cells], dtype=pl.Int64),
            "strength": pl.Series([strength for _, strength in cells], dtype=pl.Float64),
            "misaligned": [outcome == Outcome.MISALIGNED for outcome in outcomes],
            "coherent": [outcome in JUDGED for outcome in outcomes],
            "read": [outcome != Outcome.JUDGE_FAILED for outcome in outcomes],
        }
    ).filter("read")  # an answer whose verdict nobody could read is no incoherent one
    curve = rows.group_by("block", "strength", maintain_order=True).agg(
        pl.col("misaligned", "coherent").sum(), total=pl.len()
    )
    curve = curve.with_columns(
        rate=pl.col("misaligned") / pl.col("coherent"), coherence=pl.col("coherent") / pl.col("total")
    )
    own = curve.filter(pl.col("block").is_null())["coherence"].item()
    return curve.with_columns(within_budget=(pl.col("coherent") > 0) & (pl.col("coherence") >= own - budget - 1e-9))
