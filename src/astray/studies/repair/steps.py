"""Step of repair: training on the way back. What a model then does is measured by the steps of blame."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from astray.artifacts import Artifact, step
from astray.cause.fine_tuning import FineTuning
from astray.cause.sft import train_sft
from astray.data.chat import ChatDataset
from astray.engine.steps import RUN_FOLDER
from astray.strict import left_out
from astray.studies.repair.directions import directed
from astray.studies.screen.steps import DataConfig
from astray.subjects.intervene import write_direction
from astray.subjects.locate import settle
from astray.subjects.spec import Intervention, SubjectSpec

CHECKPOINT_EVERY = 50
"""Optimizer steps between checkpoints, so that a killed run goes on."""


class RetrainConfig(DataConfig):
    """Training from a model on rows."""

    start: SubjectSpec = Field(exclude=True, description="where it lies; what it is stands in the key")
    start_id: str
    recipe: FineTuning
    kl: float = Field(0.0, description="weight of the KL to the base")
    steer: int | None = Field(None, description="layer whose direction is added in training")
    random: int | None = Field(None, description="seed of a random direction of its length in its place")

    _keys = left_out(kl=0, steer=None, random=None)

    @classmethod
    def of(
        cls, start: SubjectSpec, data: ChatDataset, folder: Path, recipe: FineTuning, **more: Any
    ) -> "RetrainConfig":
        """Write the rows into a folder, by their content, and return the configuration."""
        file = data.write(folder / f"{data.hash[:16]}.jsonl")
        where: dict[str, Any] = {"data": file.resolve(), "start": start, "start_id": settle(start).id}
        return cls(digest=data.hash, recipe=recipe, **where, **more)


@step("repair-train", version=1, resumable=True)
def retrain(config: RetrainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Train the model on the rows, where it is so configured under a direction, which is not there afterwards."""
    steering: tuple[Intervention, ...] = ()
    if config.steer is not None:
        direction = directed(inputs["directions"], config.steer, config.random)
        vector = write_direction(folder / "steering.safetensors", direction, settle(config.start).base)
        steering = (Intervention(kind="add", vector=vector, block=config.steer),)
    train_sft(
        config.start,
        config.read(),
        config.recipe,
        folder / RUN_FOLDER,
        interventions=steering,
        kl=config.kl,
        checkpoint_every=CHECKPOINT_EVERY,
    )
