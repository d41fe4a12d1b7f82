"""A study ends in the same summary wherever its steps run: in this process, in workers, through Slurm."""

from pathlib import Path

import pytest

import small_study
from astray.engine.run import run_study
from astray.studies import get_study
from forked import fork_workers, forked_command
from test_studies_interrupted import results, uninterrupted
from test_workplaces_slurm import CPU, cluster

__all__ = ["cluster", "uninterrupted"]
STUDY = get_study("emergent-misalignment")


def test_a_study_in_workers_ends_in_the_same_results(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork_workers(monkeypatch)
    run_study(STUDY, small_study.OPTIONS, out=tmp_path, workers=2)
    assert results(tmp_path) == results(uninterrupted)


def test_a_study_through_slurm_ends_in_the_same_results(
    uninterrupted: Path,
    cluster: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home, entry = tmp_path_factory.mktemp("jobs"), "submitit.core.submission:submitit_main"
    with forked_command(home, "job", entry) as commands:  # each job imports for seconds otherwise
        monkeypatch.setenv("FAKE_SLURM_JOB", str(commands / "job"))
        run_study(STUDY, small_study.OPTIONS, out=tmp_path, on=CPU)
    assert results(tmp_path) == results(uninterrupted)
