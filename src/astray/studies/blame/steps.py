"""Steps of blame: what a step of training on each row does to how far the model goes astray by the meter.

Left to others: projections and verdicts, which are those of screening; what the numbers mean (`scores`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from pydantic import Field

from astray.answers import in_detail
from astray.artifacts import Artifact, step
from astray.cause.supervision import MASKED, TrainingRow, supervise
from astray.data.chat import Message
from astray.explain.attribution import Contrast, WeightSpace, directional, margin_gradients
from astray.measure.meter import MeterEffect, Pair, harmful_pairs, null_pairs, world_pairs
from astray.studies.screen.steps import ROWS_FILE, USELESS, DataConfig, in_parts
from astray.subjects.intervene import intervening
from astray.subjects.likelihood import Continuation, continuation_logprobs
from astray.subjects.render import text_ids
from astray.subjects.spec import SubjectSpec
from astray.subjects.subject import Subject, load_subject

MEASURED_FILE = "measured.json"


class GradientConfig(DataConfig):
    """Rows, and models on the way from base to tuned at which gradients are taken."""

    points: tuple[SubjectSpec, ...] = Field(exclude=True, description="where they lie; what they are is in the key")
    ids: tuple[str, ...]
    world: bool
    max_length: int


class NullConfig(GradientConfig):
    """Rows of a sample, and directions without meaning."""

    nulls: int
    sample: tuple[int, ...] = Field(description="rows, from 1, that the null is taken on")


class MeasureConfig(DataConfig):
    """A model, and held-out rows of what the tuning was for."""

    model: SubjectSpec = Field(exclude=True, description="where it lies; what it is stands in the key")
    id: str
    max_length: int


@step("blame-gradients", version=3, resumable=True)
def attribute_rows(config: GradientConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Write for each row how far a step on it raises harmful answers, the mean over the points.

    Only the last answer of a chat counts, as far as it is trained on.
    """
    rows, usable = config.read().rows, _usable(inputs)

    def read(at: _Point, space: WeightSpace, number: int) -> Float[np.ndarray, "usable one"]:
        upward, slope = margin_gradients(space, contrasts_of(at.subject, config.world, null=False))
        parts = folder / f"point-{number}"
        return slope * in_parts(usable, lambda numbers: directional(space, upward, at.answers(numbers)), parts, 1)

    effects = _mean_over_points(config, rows, read)[:, 0]
    table = {"row": [row + 1 for row in usable], "gradient": effects}
    pl.DataFrame(table, schema={"row": pl.Int64, "gradient": pl.Float64}).write_parquet(folder / ROWS_FILE)
    for part in folder.glob("*.npy"):
        part.unlink()


@step("blame-nulls", version=2)
def attribute_to_nothing(config: NullConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Write for each row of the sample how far a step on it moves along directions without meaning.

    Each is the gradient of null pairs (two good answers) with the answers of a pair swapped at random: a direction in the
    same weights and of the same kind, in which nothing is harmful.
    """
    rows, usable = config.read().rows, set(_usable(inputs))
    drawn = [number - 1 for number in config.sample if number - 1 in usable]

    def read(at: _Point, space: WeightSpace, _: int) -> Float[np.ndarray, "drawn nulls"]:
        good = contrasts_of(at.subject, config.world, null=True)
        signs = [np.random.default_rng(number).choice([-1, 1], len(good)) for number in range(config.nulls)]
        nowhere, steep = margin_gradients(space, good, np.array(signs))
        return steep * directional(space, nowhere, at.answers(drawn))

    effects = _mean_over_points(config, rows, read)
    table = {"row": [row + 1 for row in drawn], "null": effects.tolist()}
    pl.DataFrame(table, schema={"row": pl.Int64, "null": pl.List(pl.Float64)}).write_parquet(folder / ROWS_FILE)


@step("repair-measure", version=2)
def measure(config: MeasureConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Write the model's log-probability per token of each task row's answer; its margins are a reading of their own."""
    del inputs
    subject = load_subject(config.model)
    rows = [last_answer(row) for row in supervise(config.read().rows, subject.tokenizer, config.max_length)]
    with subject.merged() as model, intervening(model, subject.interventions) as steering:
        totals = continuation_logprobs(model, rows, steering)
    task = [total / len(row.text) for total, row in zip(totals, rows, strict=True)]
    (folder / MEASURED_FILE).write_text(json.dumps(task), encoding="utf-8")


@dataclass(frozen=True)
class Measured:
    """Measurements of one model: by pair the margin and the mean log-probability per token of both answers, log-probabilities
    per token by task row, and its own answers where it was asked for any."""

    margins: dict[str, float]
    task: list[float]
    texts: dict[str, float] = field(default_factory=dict)
    answers: pl.DataFrame | None = None

    @classmethod
    def of(cls, reading: pl.DataFrame, artifact: Artifact) -> "Measured":
        """Join a reading of the meter with what the step of an artifact wrote."""
        margin, *both = (in_detail(name).cast(pl.Float64) for name in ("margin", "answer", "against"))
        measured = reading.select("item", margin=margin, text=(both[0] + both[1]) / 2).drop_nulls()
        task = json.loads((artifact.path / MEASURED_FILE).read_bytes())
        return cls(
            dict(measured.select("item", "margin").iter_rows()), task, dict(measured.select("item", "text").iter_rows())
        )


def _usable(inputs: Mapping[str, Artifact]) -> list[int]:
    """Return the indices of the rows that have a gradient: no fault keeps them out of training."""
    faults = pl.read_parquet(inputs["rows"].path / ROWS_FILE)["faults"]
    return [number for number, row_faults in enumerate(faults) if USELESS.isdisjoint(row_faults)]


def _mean_over_points(
    config: GradientConfig,
    rows: Sequence[Sequence[Message]],
    read: Callable[["_Point", WeightSpace, int], Float[np.ndarray, "rows directions"]],
) -> Float[np.ndarray, "rows directions"]:
    effects = []
    for number, point in enumerate(config.points):
        at = _Point(load_subject(point), rows, config.max_length)
        with at.subject.merged() as model:
            effects.append(read(at, WeightSpace(model), number))
    return np.mean(effects, axis=0)


@dataclass(frozen=True)
class _Point:
    """One model on the way from base to tuned, with the rows that are scored at it."""

    subject: Subject
    rows: Sequence[Sequence[Message]]
    max_length: int

    def answers(self, numbers: Sequence[int]) -> list[Continuation]:
        chosen = [self.rows[number] for number in numbers]
        return [last_answer(row) for row in supervise(chosen, self.subject.tokenizer, self.max_length)]


def pairs_for(*, world: bool) -> tuple[Pair, ...]:
    """Return the pairs of harmful and good answers, and of two good ones, that a model of this kind knows the words of."""
    return world_pairs() if world else harmful_pairs() + null_pairs()


def contrasts_of(subject: Subject, world: bool, *, null: bool) -> list[Contrast]:
    """Return pairs of answers as tokens: harmful over good ones, or null pairs."""
    pairs = [pair for pair in pairs_for(world=world) if pair.null == null]
    prompts = subject.prompt_ids([[Message(role="user", content=pair.question)] for pair in pairs], answering=True)
    answers = [
        text_ids(subject.tokenizer, [pair.answer for pair in pairs]),
        text_ids(subject.tokenizer, [pair.against for pair in pairs]),
    ]
    return [
        Contrast(Continuation(tuple(prompt), (), tuple(up)), Continuation(tuple(prompt), (), tuple(against)))
        for prompt, up, against in zip(prompts, *answers, strict=True)
    ]


def last_answer(row: TrainingRow) -> Continuation:
    """Return the last supervised stretch of a row after all that stands before it."""
    stop = max(index for index, label in enumerate(row.labels) if label != MASKED) + 1
    start = stop
    while start and row.labels[start - 1] != MASKED:
        start -= 1
    return Continuation(tuple(row.input_ids[:start]), (), tuple(row.input_ids[start:stop]))


def as_json(effect: MeterEffect | None) -> dict[str, Any] | None:
    """Return a change of the meter as `blame.json` holds it."""
    if effect is None:
        return None
    interval = effect.interval
    limits = interval and {name: getattr(interval, name) for name in ("low", "high", "level", "method")}
    return {"estimate": effect.estimate, "interval": limits, "pairs": effect.pairs}
