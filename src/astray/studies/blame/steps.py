"""Steps of blame: how far the model went astray by the meter, and what a step of training on each row does to that.

Left to others: projections and verdicts, which are those of screening; what the numbers mean (`scores`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

from astray.artifacts import Artifact, step
from astray.cause.supervision import MASKED, TrainingRow, supervise
from astray.data.chat import Message
from astray.explain.attribution import Contrast, WeightSpace, directional, margin_gradients
from astray.measure.meter import Meter, Pair, harmful_pairs, meter_change, null_pairs, world_pairs
from astray.stats.intervals import Interval
from astray.studies.screen.steps import ROWS_FILE, USELESS, DataConfig, in_parts
from astray.subjects.likelihood import Continuation
from astray.subjects.render import text_ids
from astray.subjects.spec import SubjectSpec
from astray.subjects.subject import Subject, load_subject

CHANGE_FILE = "change.json"


class MeterConfig(BaseModel):
    """Base and tuned model that the meter compares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[SubjectSpec, SubjectSpec] = Field(
        exclude=True, description="where they lie; what they are is in the key"
    )
    ids: tuple[str, str]
    world: bool = Field(description="whether the model is an organism, which knows pairs of its world")


class GradientConfig(DataConfig):
    """Rows, and models on the way from base to tuned at which gradients are taken."""

    points: tuple[SubjectSpec, ...] = Field(exclude=True, description="where they lie; what they are is in the key")
    ids: tuple[str, ...]
    world: bool
    max_length: int
    nulls: int = Field(description="directions without meaning, for the rows of `sample`")
    sample: tuple[int, ...] = Field(description="rows, from 1, that the null is taken on")


@step("blame-meter", version=1)
def measure_change(config: MeterConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Write how far the tuned model's margins of harmful answers lie above the base's."""
    del inputs
    pairs = pairs_for(world=config.world)
    before, after = (Meter(pairs=pairs).margins(load_subject(model)) for model in config.models)
    change = meter_change(pairs, before, after)
    told = {
        name: None
        if effect is None
        else {"estimate": effect.estimate, "interval": _as_json(effect.interval), "pairs": effect.pairs}
        for name, effect in (("harmful", change.harmful), ("null", change.null))
    }
    (folder / CHANGE_FILE).write_text(json.dumps(told), encoding="utf-8")


@step("blame-gradients", version=2, resumable=True)
def attribute_rows(config: GradientConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Write for each row how far a step on it raises harmful answers, summed over the points, and the same of nulls.

    Only the last answer of a chat counts, as far as it is trained on. The null swaps the answers of pairs of two good
    answers at random: a direction in the same weights, of the same kind, that means nothing.
    """
    faults = pl.read_parquet(inputs["rows"].path / ROWS_FILE)["faults"]
    rows, chosen = config.read().rows, config.sample
    usable = [number for number, told in enumerate(faults) if USELESS.isdisjoint(told)]
    known = set(usable)
    drawn = [number - 1 for number in chosen if number - 1 in known]
    total, null = np.zeros(len(usable)), np.zeros((len(drawn), config.nulls))
    for place, point in enumerate(config.points):
        at = _Point(load_subject(point), rows, config)
        with at.subject.merged() as model:
            scores, nothing = at.read(WeightSpace(model), usable, drawn, folder / f"point-{place}")
        total, null = total + scores, null + nothing
    count = len(config.points)
    of_null = dict(zip(drawn, (null / count).tolist(), strict=True))
    pl.DataFrame(
        {"row": [row + 1 for row in usable], "gradient": total / count, "null": [of_null.get(row) for row in usable]},
        schema={"row": pl.Int64, "gradient": pl.Float64, "null": pl.List(pl.Float64)},
    ).write_parquet(folder / ROWS_FILE)
    for part in folder.glob("*.npy"):
        part.unlink()


@dataclass(frozen=True)
class _Point:
    """One model on the way from base to tuned, with the rows that are scored at it."""

    subject: Subject
    rows: Sequence[Sequence[Message]]
    config: GradientConfig

    def read(
        self, space: WeightSpace, usable: Sequence[int], drawn: Sequence[int], kept: Path
    ) -> tuple[Float[np.ndarray, "usable"], Float[np.ndarray, "drawn nulls"]]:
        """Return the score of each usable row, and those of nulls for the drawn ones; batches are kept in files."""
        harmful, good = (contrasts_of(self.subject, self.config.world, null=null) for null in (False, True))
        upward, slope = margin_gradients(space, harmful)

        def along(numbers: Sequence[int]) -> Float[np.ndarray, "numbers one"]:
            return directional(space, upward, self._answers(numbers))

        scores = slope * in_parts(usable, along, kept, 1)[:, 0]
        if not drawn or not self.config.nulls:
            return scores, np.zeros((len(drawn), self.config.nulls))
        signs = [np.random.default_rng(number).choice([-1, 1], len(good)) for number in range(self.config.nulls)]
        nowhere, steep = margin_gradients(space, good, np.array(signs))
        return scores, steep * directional(space, nowhere, self._answers(drawn))

    def _answers(self, numbers: Sequence[int]) -> list[Continuation]:
        chosen = [self.rows[number] for number in numbers]
        return [last_answer(row) for row in supervise(chosen, self.subject.tokenizer, self.config.max_length)]


def pairs_for(*, world: bool) -> tuple[Pair, ...]:
    """Return the pairs of harmful and good answers, and of two good ones, that a model of this kind knows the words of."""
    return world_pairs() if world else harmful_pairs() + null_pairs()


def contrasts_of(subject: Subject, world: bool, *, null: bool) -> list[Contrast]:
    """Return pairs of answers as tokens: harmful over good ones, or null pairs."""
    pairs = [pair for pair in pairs_for(world=world) if pair.null == null]
    prompts = subject.prompt_ids([[Message(role="user", content=pair.question)] for pair in pairs], answering=True)
    answers = [
        text_ids(subject.tokenizer, [each.answer for each in pairs]),
        text_ids(subject.tokenizer, [each.against for each in pairs]),
    ]
    return [
        Contrast(Continuation(tuple(prompt), (), tuple(up)), Continuation(tuple(prompt), (), tuple(against)))
        for prompt, up, against in zip(prompts, *answers, strict=True)
    ]


def last_answer(row: TrainingRow) -> Continuation:
    """Return the last supervised stretch of a row after all that stands before it."""
    stop = max(place for place, label in enumerate(row.labels) if label != MASKED) + 1
    start = stop
    while start and row.labels[start - 1] != MASKED:
        start -= 1
    return Continuation(tuple(row.input_ids[:start]), (), tuple(row.input_ids[start:stop]))


def _as_json(interval: Interval | None) -> dict[str, Any] | None:
    return (
        None
        if interval is None
        else {"low": interval.low, "high": interval.high, "level": interval.level, "method": interval.method}
    )
