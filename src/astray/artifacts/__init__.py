"""Steps and the artifacts that they write: a finished step is not run again, and an artifact is complete or absent.

@step("train", version=1)
def train(config: TrainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None: ...

dataset = mix.step(MixConfig(share=0.5))
run = train.step(TrainConfig(seed=3), dataset=dataset)
artifact = execute([run], Store("runs"))[run.key]
artifact.path / "adapter"
"""

from astray.artifacts.contents import Artifact
from astray.artifacts.execute import Progress, StepState, execute
from astray.artifacts.ledger import Ledger, current_ledger
from astray.artifacts.step import Step, StepFunction, step
from astray.artifacts.store import Store

__all__ = [
    "Artifact",
    "Ledger",
    "Progress",
    "Step",
    "StepFunction",
    "StepState",
    "Store",
    "current_ledger",
    "execute",
    "step",
]
