"""A study ends in the same summary wherever its steps run."""

from pathlib import Path

import small_study
from astray.artifacts.workplaces.place import Where
from astray.engine.run import run_study
from astray.studies import get_study
from test_studies_interrupted import results, server, uninterrupted
from test_workplaces_slurm import CPU, cluster

__all__ = ["cluster", "server", "uninterrupted"]


def test_a_study_through_slurm_ends_in_the_same_results(uninterrupted: Path, cluster: Path, tmp_path: Path) -> None:
    on: Where = CPU
    run_study(get_study("emergent-misalignment"), small_study.OPTIONS, out=tmp_path / "out", on=on)
    assert results(tmp_path / "out") == results(uninterrupted)
