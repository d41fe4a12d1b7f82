"""A step without work, which worker processes and the nodes of a cluster can import."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from astray.artifacts import Artifact, step


class Number(BaseModel):
    """Which of many steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int


@step("noop", version=1, gpu=True)
def noop(config: Number, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Write nothing."""
