"""Steps on a Ray cluster of two nodes: the same bytes, lost nodes, failures with what they wrote, bad settings."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

import small_study
from astray.artifacts import Progress, StepState, Store, execute
from astray.artifacts.workplaces.probe import Probe
from astray.artifacts.workplaces.ray import Ray
from astray.engine.run import run_study
from astray.errors import AstrayError, MissingExtraError, StepFailedError
from astray.studies import get_study
from test_artifacts_execute import Log, contents, total
from test_studies_interrupted import results, uninterrupted
from toy_steps import Toy, add, diamond, slow_at_first, study

SETTINGS = Ray()
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}
LOOKS = {"health_check_initial_delay_ms": 1_000, "health_check_period_ms": 300}
"""Ray looks for lost nodes every three seconds, and gives one up at the fifth look that fails."""
__all__ = ["uninterrupted"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes in this machine, beside one for the driver."""
    here = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{here}:{here.parent / 'src'}")  # as nodes have the same modules installed
        head = {**NODE, "num_cpus": 0, "include_dashboard": False, "_system_config": LOOKS}
        there = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            there.add_node(**NODE)
        ray.init(address=there.address, log_to_driver=False, logging_level=logging.ERROR)
        yield there
        ray.shutdown()
        there.shutdown()


def lose_node(cluster: Cluster, process: int) -> None:
    """Kills the node on which a step runs, and adds another."""
    raylets = {parent.pid for parent in psutil.Process(process).parents()}
    node = next(one for one in cluster.list_all_nodes() if one.all_processes["raylet"][0].process.pid in raylets)
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(**NODE)


def test_a_study_leaves_the_same_bytes_as_in_one_process(cluster: Cluster, tmp_path: Path) -> None:
    log = Log()
    execute(study(2), Store(tmp_path / "here"), workers=0)
    execute(study(2), Store(tmp_path / "tasks"), on=SETTINGS, progress=log)
    assert contents(tmp_path / "tasks") == contents(tmp_path / "here")
    assert len(log.names(StepState.STARTED)) == 5
    assert (log.events[-1].done, log.events[-1].running) == (5, 0)


def test_a_node_that_is_lost_costs_its_step_and_nothing_else(cluster: Cluster, tmp_path: Path) -> None:
    store, witness, log = Store(tmp_path / "runs"), tmp_path / "witness", Log()
    witness.mkdir()
    others = [add.step(Toy(number=number), name=f"other {number}") for number in range(4)]
    slow = slow_at_first.step(Toy(number=1, witness=str(witness)))
    lost: list[str] = []

    def follow(event: Progress) -> None:
        log(event)
        if not lost and (witness / "0").is_file():
            lost.append((witness / "0").read_text())
            lose_node(cluster, int(lost[0]))

    # The driver hears of the ends of other steps while the slow one is at work beside them.
    later = [add.step(Toy(number=number, seconds=0.5), name=f"later {number}", other=others[0]) for number in range(8)]
    execute([slow, *others, *later], store, on=SETTINGS, progress=follow)
    assert len(lost) == 1
    assert total(store, slow) == 0
    assert len(store.artifacts()) == 13
    starts = log.names(StepState.STARTED)
    assert {name for name in starts if starts.count(name) > 1} <= {"slow-at-first"}


def test_a_study_that_loses_a_node_ends_in_the_same_results(
    uninterrupted: Path, cluster: Cluster, tmp_path: Path
) -> None:
    lost: list[str] = []

    def follow(event: Progress) -> None:
        if event.state is StepState.STARTED and event.name.startswith("train") and not lost:
            lost.append(event.name)
            titles = {
                process.info["pid"]: process.info["cmdline"] for process in psutil.process_iter(["pid", "cmdline"])
            }
            lose_node(cluster, next(pid for pid, title in titles.items() if title and title[0] == f"ray::{event.name}"))

    run_study(get_study("emergent-misalignment"), small_study.OPTIONS, out=tmp_path, on=SETTINGS, progress=follow)
    assert lost
    assert results(tmp_path) == results(uninterrupted)


def test_an_error_is_told_with_what_the_step_wrote_and_never_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    store, log = Store(tmp_path), Log()
    with pytest.raises(StepFailedError, match="left: ValueError: the loss is") as caught:
        execute([diamond(left="error")], store, on=SETTINGS, progress=log)
    (traceback,) = caught.value.tracebacks.values()
    assert "not a number" in traceback
    assert "the loss of the last batch was 9e99" in traceback.partition("Written on the node ")[2]
    assert log.names(StepState.STARTED).count("left") == 1
    assert {artifact.name for artifact in store.artifacts()} == {"top", "right"}


def test_a_worker_that_dies_alone_is_no_lost_node(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(StepFailedError, match="its worker process died, as when memory runs out"):
        execute([add.step(Toy(fault="killed"))], Store(tmp_path), on=Ray(patience=1.0))


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"gpus": 1.0}, {}, "--gpus 1: no node of this Ray cluster has more than 0"),
    ({}, {"store": "memory://cluster"}, "lives in the memory of this process, so workers cannot reach it"),
    ({}, {"hidden": True}, "cannot use the store .*: the node .* does not see what was written to it"),
    ({}, {"workers": 2}, "Give one of them"),
]


@pytest.mark.parametrize(("settings", "given", "message"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_the_cluster_cannot_do_is_refused_before_any_step(
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    given: dict[str, Any],
    message: str,
) -> None:
    store = Store(given.pop("store", tmp_path / "runs"), cache=tmp_path / "cache")
    if given.pop("hidden", False):
        elsewhere = Probe(store.root, str(tmp_path / "not mounted"), "token", wait=0.0)
        monkeypatch.setattr("astray.artifacts.workplaces.ray.probing", lambda _: contextlib.nullcontext(elsewhere))
    with pytest.raises(AstrayError, match=message):
        execute([add.step(Toy())], store, on=Ray(**settings), **given)
    assert store.artifacts() == ()


def test_a_machine_without_ray_is_told_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"Install it with: pip install 'astray\[ray\]'"):
        execute([add.step(Toy())], Store(tmp_path), on=SETTINGS)
