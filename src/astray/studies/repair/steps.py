"""Step of repair: training on the way back. What a model then does is measured by the steps of blame."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from astray.artifacts import Artifact, step
from astray.cause.fine_tuning import FineTuning
from astray.cause.sft import train_sft
from astray.data.chat import ChatDataset
from astray.engine.steps import RUN_FOLDER
from astray.studies.screen.steps import DataConfig
from astray.subjects.locate import settle
from astray.subjects.spec import SubjectSpec

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


@step("repair-train", version=1, resumable=True)
def retrain(config: RetrainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train the model on the rows."""
    del inputs
    train_sft(config.start, config.read(), config.recipe, folder / RUN_FOLDER, checkpoint_every=CHECKPOINT_EVERY)
