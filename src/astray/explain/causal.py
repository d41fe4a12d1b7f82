"""Causal screen of directions: add each to the base, subtract it from the tuned model, and judge the answers.

Latents of a dictionary are screened beside directions that cost less to find (mean difference, persona vector) and
directions that should have no effect (random ones, random latents). All get the same strengths, the same questions and
the same random numbers. A candidate's strength is the one with the largest effect on the search questions among those
that keep coherence within a given distance of the model's own; at that strength it answers the held-out questions,
once. Many candidates x strengths x questions share a pass of the model (`subjects.steer_rows`).

Strengths are multiples of the mean norm of the base's residual stream at the steered layer, read at the last prompt
token of the search questions (where steering of answers begins, and where no attention sink inflates the mean).
Directions are normalised. So one grid fits every model, and every candidate changes the residual stream by the same
length.

Source: OpenAI, "Persona features control emergent misalignment" (arXiv 2506.19823). There strength is tuned under 10%
incoherence; here the coherence that steering may cost is counted from the model's own, because a fixed limit would
reject nearly every repair of a model that is incoherent to begin with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import anyio
import polars as pl
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from astray.data.chat import asking
from astray.errors import ConfigurationError, EmptyDataError
from astray.explain.activations import capture, conversation_rows
from astray.explain.candidates import Candidate
from astray.explain.screen_tables import ANSWERS_SCHEMA, UNSTEERED, Side, held_out_results, search_curve
from astray.explain.sites import Site
from astray.judges import Exchange, Judge, judge_exchanges
from astray.outcomes import Outcome
from astray.strict import Strict
from astray.subjects.finite import check_values
from astray.subjects.spec import Sampling, Schedule
from astray.subjects.steer_rows import RowSteering
from astray.subjects.subject import Subject

JudgeAnswers = Callable[[Sequence[str], Sequence[str]], Sequence[Outcome]]
"""Function from questions and answers to the outcome of each answer."""


class ScreenConfig(Strict):
    """Settings of a causal screen."""

    block: int = Field(ge=0, description="layer whose output is steered, from 0")
    strengths: tuple[float, ...] = Field(
        default=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
        min_length=1,
        description="tried on every candidate, in multiples of the residual norm",
    )
    positions: Literal["all", "answer"] = Field(
        default="all", description="'all': every token (2506.19823); 'answer': from the last prompt token on"
    )
    schedule: Schedule | None = Field(
        default=None, description="how the strength changes over the answer; without one it is constant"
    )
    coherence_budget: float = Field(
        default=0.10,
        ge=0,
        le=1,
        description="share of coherent answers that steering may cost on the search questions (2506.19823: 10%); the "
        "best of many strengths lies near the edge, so on held-out questions it costs a little more",
    )
    search_samples: int = Field(default=1, ge=1, description="answers to each search question, at each strength")
    held_out_samples: int = Field(
        default=1, ge=1, description="answers to each held-out question, at the chosen strength"
    )
    sampling: Sampling = Field(default=Sampling(), description="how answers are drawn")


@dataclass(frozen=True)
class Screen:
    """Results of a causal screen.

    Attributes:
        unit: length in the residual stream that a strength of 1 adds.
        search: the search curves, see SEARCH_SCHEMA in screen_tables.
        held_out: the results, see HELD_OUT_SCHEMA there.
        answers: the answers to the held-out questions, see ANSWERS_SCHEMA there.
    """

    unit: float
    search: pl.DataFrame
    held_out: pl.DataFrame
    answers: pl.DataFrame


@dataclass(frozen=True)
class _SteeringTrial:
    """Candidate at one strength."""

    candidate: int
    name: str
    kind: str
    strength: float


def screen(
    base: Subject,
    tuned: Subject,
    candidates: Sequence[Candidate],
    search: Sequence[str],
    held_out: Sequence[str],
    judge: JudgeAnswers,
    config: ScreenConfig,
) -> Screen:
    """Screen every candidate on both models.

    Several tuned runs share one base, whose side needs to be screened only once: see `screen_side`.

    Args:
        base: the aligned model, to which directions are added.
        tuned: the misaligned model, from which they are subtracted.
        candidates: the directions, including controls.
        search: questions on which the strength is chosen.
        held_out: other questions, on which the chosen strength is evaluated once.
        judge: returns the outcome of each answer (see `judged_by`).
        config: layer, strengths and the coherence that steering may cost.

    Raises:
        EmptyDataError: no candidates or questions, or a model with no coherent answer of its own.
        ConfigurationError: a question is in both sets, two candidates share a name, or directions or layer do not fit
            the model.
    """
    unit = residual_norm(base, search, config.block)
    models: tuple[tuple[Side, Subject], ...] = (("base +", base), ("tuned -", tuned))
    sides = [screen_side(side, subject, candidates, search, held_out, judge, config, unit) for side, subject in models]
    return Screen(
        unit,
        *(
            pl.concat(tables)
            for tables in zip(*((side.search, side.held_out, side.answers) for side in sides), strict=True)
        ),
    )


def screen_side(
    side: Side,
    subject: Subject,
    candidates: Sequence[Candidate],
    search: Sequence[str],
    held_out: Sequence[str],
    judge: JudgeAnswers,
    config: ScreenConfig,
    unit: float,
) -> Screen:
    """Screen every candidate on one model.

    Args:
        side: whether directions are added ('base +') or subtracted ('tuned -').
        subject: the base, or the tuned model.
        candidates: the directions.
        search: questions on which the strength is chosen.
        held_out: other questions, on which the chosen strength is evaluated once.
        judge: returns the outcome of each answer.
        config: layer, strengths and the coherence that steering may cost.
        unit: length that a strength of 1 adds, `residual_norm` of the base.

    Raises:
        EmptyDataError, ConfigurationError: as in `screen`.
    """
    _check(candidates, search, held_out)
    directions = unit * normalize(
        torch.stack([candidate.direction.detach().to("cpu", torch.float32) for candidate in candidates]), dim=1
    )
    asker = _SteeredAsker(subject, directions, side, judge, config)
    # The unsteered model answers in the same pass: strength 0 leaves a row as it is, whatever its direction.
    nothing = _SteeringTrial(0, UNSTEERED, UNSTEERED, 0.0)
    grid = [
        _SteeringTrial(number, tried.name, tried.kind, strength)
        for strength in config.strengths
        for number, tried in enumerate(candidates)
    ]
    curve = search_curve(asker.ask([nothing, *grid], search, config.search_samples), side, config.coherence_budget)
    chosen = {row["candidate"]: row["strength"] for row in curve.filter("chosen").iter_rows(named=True)}
    final = [
        _SteeringTrial(number, tried.name, tried.kind, chosen[tried.name])
        for number, tried in enumerate(candidates)
        if tried.name in chosen
    ]
    answers = asker.ask([nothing, *final], held_out, config.held_out_samples)
    return Screen(unit, curve, held_out_results(answers, candidates, side), answers)


def residual_norm(subject: Subject, questions: Sequence[str], block: int) -> float:
    """Return the mean norm of the residual stream at a layer's output, at the last prompt token: the unit of strengths.

    Raises:
        EmptyDataError: there are no questions.
        ConfigurationError: there is no such layer.
    """
    site = Site(place="block out", block=block)
    rows = conversation_rows(subject, [asking(question) for question in questions])
    norms = capture(subject, rows, [site], "last prompt")[site].norm(dim=1)
    check_values(norms, "Norms", subject.name, str(site))
    return float(norms.mean())


def judged_by(judge: Judge) -> JudgeAnswers:
    """Wrap a judge of `astray.judges` as a function; equal exchanges are judged once. It runs its own event loop."""

    def outcomes(questions: Sequence[str], answers: Sequence[str]) -> list[Outcome]:
        exchanges = [Exchange(question, answer) for question, answer in zip(questions, answers, strict=True)]
        return [verdict.outcome for verdict in anyio.run(judge_exchanges, judge, exchanges)]

    return outcomes


class _SteeredAsker:
    """Sampler of one of the two models under many kinds of steering."""

    def __init__(
        self, subject: Subject, directions: Tensor, side: Side, judge: JudgeAnswers, config: ScreenConfig
    ) -> None:
        self._subject, self._directions, self._judge, self._config = subject, directions, judge, config
        self._side, self._sign = side, 1.0 if side == "base +" else -1.0

    def ask(self, trials: Sequence[_SteeringTrial], questions: Sequence[str], samples: int) -> pl.DataFrame:
        """Return all answers with outcomes, in the order of trials, questions and samples."""
        asked = [(trial, question, sample) for trial in trials for question in questions for sample in range(samples)]
        rows = RowSteering(
            self._directions,
            torch.tensor([trial.candidate for trial, _, _ in asked]),
            torch.tensor([self._sign * trial.strength for trial, _, _ in asked], dtype=torch.float32),
            torch.full((len(asked),), self._config.block),
            self._config.positions,
            self._config.schedule,
        )
        generations = self._subject.generate(
            [asking(question) for _, question, _ in asked],
            self._config.sampling,
            # Numbered by sample only: all candidates draw with the same random numbers, which removes noise from
            # differences.
            numbers=[sample for _, _, sample in asked],
            rows=rows,
        )
        outcomes = self._judge([question for _, question, _ in asked], [generation.text for generation in generations])
        return pl.DataFrame(
            [
                (trial.name, trial.kind, self._side, trial.strength, question, sample, generation.said, outcome.value)
                for (trial, question, sample), generation, outcome in zip(asked, generations, outcomes, strict=True)
            ],
            schema=ANSWERS_SCHEMA,
            orient="row",
        )


def _check(candidates: Sequence[Candidate], search: Sequence[str], held_out: Sequence[str]) -> None:
    if not candidates or not search or not held_out:
        raise EmptyDataError(
            f"A screen needs candidates, search questions and held-out questions; there are {len(candidates)}, "
            f"{len(search)} and {len(held_out)}."
        )
    names = [candidate.name for candidate in candidates]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise ConfigurationError(f"Two candidates are called {doubled!r}: give each a name of its own.")
    shared = next((question for question in search if question in held_out), None)
    if shared is not None:
        raise ConfigurationError(
            f"The question {shared!r} is a search question and a held-out one. What chose the strength cannot "
            "evaluate it: split the questions."
        )
