"""Steps of repair: training on the way back, and what a model then does and still can."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import ConfigDict, Field

from astray.answers import in_detail
from astray.artifacts import Artifact, step
from astray.cause.fine_tuning import FineTuning
from astray.cause.sft import train_sft
from astray.cause.supervision import supervise
from astray.data.chat import ChatDataset
from astray.engine.steps import RUN_FOLDER
from astray.studies.blame.steps import last_answer
from astray.studies.screen.steps import DataConfig
from astray.subjects.intervene import intervening
from astray.subjects.likelihood import continuation_logprobs
from astray.subjects.locate import settle
from astray.subjects.spec import SubjectSpec
from astray.subjects.subject import load_subject

MEASURED_FILE = "measured.json"
CHECKPOINT_EVERY = 50
"""Optimizer steps between checkpoints, so that a killed run goes on."""


class RetrainConfig(DataConfig):
    """Training from a model on rows."""

    start: SubjectSpec = Field(exclude=True, description="where it lies; what it is stands in the key")
    start_id: str
    recipe: FineTuning

    @classmethod
    def of(cls, start: SubjectSpec, data: ChatDataset, folder: Path, recipe: FineTuning) -> "RetrainConfig":
        """Write the rows into a folder, by their content, and return the configuration."""
        file = data.write(folder / f"{data.hash[:16]}.jsonl")
        return cls(data=file.resolve(), digest=data.hash, start=start, start_id=settle(start).id, recipe=recipe)


class MeasureConfig(DataConfig):
    """A model, and held-out rows of what the tuning was for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: SubjectSpec = Field(exclude=True, description="where it lies; what it is stands in the key")
    id: str
    max_length: int


@step("repair-train", version=1, resumable=True)
def retrain(config: RetrainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train the model on the rows."""
    del inputs
    train_sft(config.start, config.read(), config.recipe, folder / RUN_FOLDER, checkpoint_every=CHECKPOINT_EVERY)


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
    """What one model does: margins by pair, and log-probabilities per token by task row."""

    margins: dict[str, float]
    task: list[float]

    @classmethod
    def of(cls, reading: pl.DataFrame, artifact: Artifact) -> "Measured":
        """Join a reading of the meter with what the step of an artifact wrote."""
        known = reading.select("item", margin=in_detail("margin").cast(pl.Float64)).drop_nulls()
        return cls(dict(known.iter_rows()), json.loads((artifact.path / MEASURED_FILE).read_bytes()))
