"""A study that takes seconds, for tests that kill it."""

from pathlib import Path

import torch

from astray.engine.options import StudyOptions
from astray.engine.run import run_study
from astray.studies import get_study

OPTIONS = StudyOptions(subject="organism-small", seeds=1, size=32, samples=1, arms=("harmful-medicine",))


def run(out: str) -> None:
    """Runs the study, or goes on with it, in this process with one thread."""
    torch.set_num_threads(1)
    run_study(get_study("emergent-misalignment"), OPTIONS, out=Path(out), workers=0)
