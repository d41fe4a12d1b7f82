"""Steps of repair on a direction: where training moved the model, and the weights without that.

The direction is the mean difference between the tuned model and the one that it is compared with, at the last token
before the answer, in the residual stream after a layer: at four layers over the depth, on the questions of the half that
chooses. Beside each stand random directions, which are projected out and trained with just as it is.

Source: difference of means, Soligo et al. 2025 (arXiv 2506.11618); here between models, as in the model diffing of Wang
et al. 2025 (2506.19823).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from astray.artifacts import Artifact, step
from astray.data.chat import asking
from astray.engine.steps import RUN_FOLDER
from astray.errors import ConfigurationError
from astray.explain.activations import capture, conversation_rows
from astray.explain.direction import random_direction
from astray.explain.sites import Site
from astray.mitigate.projecting_out import check_projectable, write_projected_out
from astray.strict import Strict
from astray.subjects.intervene import blocks_of, read_direction, write_direction
from astray.subjects.spec import SubjectSpec
from astray.subjects.subject import Subject, load_subject

FACTS_FILE = "directions.json"
LAYERS = 4
"""Layers at which a direction is made: at a quarter, half, three quarters and the end of the depth."""


class DirectionConfig(Strict):
    """Two models, and the questions on which they are compared."""

    tuned: SubjectSpec = Field(exclude=True, description="where it lies; what it is stands in the key")
    reference: SubjectSpec = Field(exclude=True, description="likewise")
    ids: tuple[str, str]
    questions: tuple[str, ...]


class ProjectConfig(Strict):
    """A model out of whose weights a direction is projected."""

    start: SubjectSpec = Field(exclude=True, description="where it lies; what it is stands in the key")
    start_id: str
    layer: int = Field(description="whose direction it is")
    random: int | None = Field(description="seed of a random direction of its length in its place")


@dataclass(frozen=True)
class Directions:
    """Directions that were found.

    Attributes:
        moved: by layer, from 0: length of the direction over that of the residual stream in the model compared with;
            layers without a direction are left out.
        unmoved: layers at which training moved nothing, as below the first one that was trained.
        unmergeable: why none can be projected out of the model's weights; "" where they can.
    """

    moved: dict[int, float]
    unmoved: tuple[int, ...]
    unmergeable: str

    @classmethod
    def of(cls, artifact: Artifact) -> "Directions":
        """Read what `find_directions` wrote."""
        told = json.loads((artifact.path / FACTS_FILE).read_text(encoding="utf-8"))
        shares = {int(layer): share for layer, share in told["moved"].items()}
        moved = {layer: share for layer, share in shares.items() if share}
        nothing = "" if moved else "training moved the model before answers at none of the layers."
        return cls(moved, tuple(sorted(shares.keys() - moved)), nothing or told["unmergeable"])

    @property
    def farthest(self) -> int:
        """Return the layer where training moved the model farthest; there has to be one."""
        return max(self.moved, key=self.moved.__getitem__)


@step("repair-directions", version=1)
def find_directions(config: DirectionConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Write the direction in which training moved the model at each of four layers, and how far."""
    del inputs
    # One model after the other: two large ones do not share the memory.
    tuned = load_subject(config.tuned)
    try:
        check_projectable(tuned)
        unmergeable = ""
    except ConfigurationError as error:
        unmergeable = str(error)
    moved, bases = _before_answers(tuned, config.questions), [tuned.base_folder]
    del tuned
    reference = load_subject(config.reference)
    still, bases = _before_answers(reference, config.questions), [*bases, reference.base_folder]
    shares = {}
    for layer, own in moved.items():
        direction = (own - still[layer]).mean(0)
        shares[layer] = float(direction.norm() / still[layer].norm(dim=1).mean())
        if direction.any():
            write_direction(folder / _file(layer), direction, *bases)
    (folder / FACTS_FILE).write_text(json.dumps({"moved": shares, "unmergeable": unmergeable}), encoding="utf-8")


@step("repair-project", version=1)
def project_out(config: ProjectConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Write the adapter of the model without the direction, or without a random one."""
    direction = directed(inputs["directions"], config.layer, config.random)
    write_projected_out(load_subject(config.start), direction, folder / RUN_FOLDER / "adapter")


def directed(artifact: Artifact, layer: int, random: int | None) -> Float[Tensor, "d_model"]:
    """Return the direction of a layer, or a random one of its length."""
    found = read_direction(artifact.path / _file(layer))
    return found if random is None else random_direction(found, random)


def _file(layer: int) -> str:
    return f"layer-{layer}.safetensors"


def _before_answers(subject: Subject, questions: tuple[str, ...]) -> dict[int, Float[Tensor, "questions d_model"]]:
    """Return the residual stream at the last token of each prompt, by layer."""
    with subject.merged() as model:
        depth = len(blocks_of(model))
    layers = sorted({max(0, round(depth * (place + 1) / LAYERS) - 1) for place in range(LAYERS)})
    sites = {layer: Site(place="block out", block=layer) for layer in layers}
    rows = conversation_rows(subject, [asking(question) for question in questions])
    read = capture(subject, rows, list(sites.values()), "last prompt")
    return {layer: read.row_means(read[site]) for layer, site in sites.items()}
