"""A study ends in the same summary wherever its steps run: in this process, in workers, through Slurm, on Ray with a lost node."""

from pathlib import Path

import psutil
from ray.cluster_utils import Cluster

import small_study
from astray.artifacts import Progress, StepState
from astray.artifacts.workplaces.ray import Ray
from astray.engine.run import run_study
from astray.studies import get_study
from test_studies_interrupted import results, server, uninterrupted
from test_workplaces_ray import cluster as nodes
from test_workplaces_ray import lose_node
from test_workplaces_slurm import CPU, cluster

__all__ = ["cluster", "nodes", "server", "uninterrupted"]
STUDY = get_study("emergent-misalignment")


def test_a_study_in_workers_ends_in_the_same_results(uninterrupted: Path, tmp_path: Path) -> None:
    run_study(STUDY, small_study.OPTIONS, out=tmp_path, workers=2)
    assert results(tmp_path) == results(uninterrupted)


def test_a_study_through_slurm_ends_in_the_same_results(uninterrupted: Path, cluster: Path, tmp_path: Path) -> None:
    run_study(STUDY, small_study.OPTIONS, out=tmp_path, on=CPU)
    assert results(tmp_path) == results(uninterrupted)


def test_a_study_on_ray_that_loses_a_node_ends_in_the_same_results(
    uninterrupted: Path, nodes: Cluster, tmp_path: Path
) -> None:
    lost: list[str] = []

    def follow(event: Progress) -> None:
        if event.state is StepState.STARTED and event.name.startswith("train") and not lost:
            lost.append(event.name)
            titles = {
                process.info["pid"]: process.info["cmdline"] for process in psutil.process_iter(["pid", "cmdline"])
            }
            lose_node(nodes, next(pid for pid, title in titles.items() if title and title[0] == f"ray::{event.name}"))

    run_study(STUDY, small_study.OPTIONS, out=tmp_path, on=Ray(), progress=follow)
    assert lost
    assert results(tmp_path) == results(uninterrupted)
