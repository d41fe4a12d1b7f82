"""Readings of the meter: one step a model, shared by all who compare models by it, so that a store reads a model once.

An audit, a gate, blame and repair find one another's readings. What follows from them is `measure.meter`'s to say.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from astray.answers import read_answers
from astray.artifacts import Progress, Step, Store, execute
from astray.artifacts.uses import in_use
from astray.engine.asking import forget_subject, step_of
from astray.engine.judging import ANSWERS_FILE
from astray.engine.models import NamedModel
from astray.errors import NotMeasurableError
from astray.measure.meter import Meter, world_pairs


def meter_for(*, world: bool) -> Meter:
    """Return the meter with pairs in the words that a model knows: those of the organism's world, or ordinary ones."""
    return Meter(pairs=world_pairs()) if world else Meter()


def reading_steps(models: Mapping[str, NamedModel], verb: str) -> dict[str, Step]:
    """Return the step that reads each model, by its role; a model in two roles has one step."""
    return {
        role: step_of(model, meter_for(world=model.is_organism), None, 0, (verb, f"{role}-meter"))
        for role, model in models.items()
    }


def readings(
    models: Mapping[str, NamedModel],
    verb: str,
    store: Store,
    progress: Callable[[Progress], None] | None,
    workers: int = 0,
) -> dict[str, pl.DataFrame]:
    """Return the margins of each model by its role, as `Meter.ask` does.

    Args:
        models: role -> model.
        verb: of the command, under which the readings are noted as in use.
        store: where readings are kept and looked up.
        progress: called with the progress of every step.
        workers: worker processes; 0 for this process alone.

    Raises:
        NotMeasurableError: a model cannot be read; says why.
        StepFailedError: a reading broke off.
    """
    steps = reading_steps(models, verb)
    try:
        with in_use(store, verb, [step.key for step in steps.values()]):
            wanted = list({step.key: step for step in steps.values()}.values())
            artifacts = execute(wanted, store, workers=workers, progress=progress)
    finally:
        forget_subject()
    for role, step in steps.items():
        if why := artifacts[step.key].manifest.provisional:
            raise NotMeasurableError(f"{models[role].name} cannot be read by the meter: {why}")
    return {role: read_answers(Path(artifacts[step.key].path) / ANSWERS_FILE) for role, step in steps.items()}
