"""A small agentic run that a test can start in a process of its own, and kill."""

from pathlib import Path

import polars as pl

from astray.measure.agentic import play as agentic_play
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.play import Part
from astray.measure.agentic.subjects import subjects_from
from playing import run_parts

PART = Part("grid", Grid(scenarios=("blackmail",), factors={"goal": ("explicit",)}, replicates=16))


def run(folder: str) -> pl.DataFrame:
    """Plays the grid, with every sample on the disk as soon as it has ended, and few at a time."""
    agentic_play.LOG_BUFFER, agentic_play.BUDGETED = 1, 4
    subjects = subjects_from("astray/scripted/sometimes", None, ())
    return run_parts(subjects, [PART], Path(folder), max_tokens=100, budget=10**9).table
