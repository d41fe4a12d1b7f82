"""A study ends in the same summary wherever its steps run: in this process, in workers, through Slurm."""

from pathlib import Path

import small_study
from astray.engine.run import run_study
from astray.studies import get_study
from test_studies_interrupted import results, uninterrupted
from test_workplaces_slurm import CPU, cluster

__all__ = ["cluster", "uninterrupted"]
STUDY = get_study("emergent-misalignment")


def test_a_study_in_workers_ends_in_the_same_results(uninterrupted: Path, tmp_path: Path) -> None:
    run_study(STUDY, small_study.OPTIONS, out=tmp_path, workers=2)
    assert results(tmp_path) == results(uninterrupted)


def test_a_study_through_slurm_ends_in_the_same_results(uninterrupted: Path, cluster: Path, tmp_path: Path) -> None:
    run_study(STUDY, small_study.OPTIONS, out=tmp_path, on=CPU)
    assert results(tmp_path) == results(uninterrupted)
