"""Steps on a Slurm cluster: the same bytes, nothing lost and nothing done twice, whatever happens to jobs and drivers."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fake_slurm
from astray.artifacts import Store, execute
from astray.artifacts.status import note_steps
from astray.artifacts.work import Order
from astray.artifacts.workplaces.named import named_place
from astray.artifacts.workplaces.slurm import Slurm
from astray.cli import app
from astray.errors import AstrayError, ConfigurationError, MissingExtraError, StepFailedError, StoreError
from test_artifacts_execute import Log, contents, total
from toy_steps import Toy, add, diamond, run_slow, slow, slow_at_first, study

HERE = Path(__file__).parent
CPU = Slurm("cpu", patience=2.0, pause=0.2)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster of one machine, whose store has been probed before."""
    folder = tmp_path / "slurm"
    commands = fake_slurm.install(folder)
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{HERE.parent / 'src'}")
    return folder


def probed(store: Store, partition: str = "cpu") -> Store:
    """A store that a first job has looked at."""
    (store.folder / ".slurm").mkdir(parents=True)
    (store.folder / ".slurm" / f"passed-{partition}").write_text(str(store.folder))
    return store


def strike(cluster: Path, *faults: tuple[str, Path]) -> None:
    fake_slurm.write(cluster / "faults.json", [(kind, str(pattern)) for kind, pattern in faults])


def arrays(cluster: Path) -> int:
    return len(list(cluster.glob("number-*")))


def test_a_study_leaves_the_same_bytes_as_in_one_process(cluster: Path, tmp_path: Path) -> None:
    log = Log()
    execute(study(2), Store(tmp_path / "here"), workers=0)
    execute(study(2), Store(tmp_path / "jobs"), on=CPU, progress=log)
    assert contents(tmp_path / "jobs") == contents(tmp_path / "here")
    assert arrays(cluster) == 3  # the probe, both chains (each with the step that follows it), the step that joins them
    assert (log.events[-1].done, log.events[-1].running) == (5, 0)


FAULTS: list[tuple[str, str, int, str]] = [
    # name, what strikes each attempt, attempts, how it ends ("" for well)
    ("preempted, and requeued by itself", "preempt", 2, ""),
    ("preempted for good", "preempt for good", 2, ""),
    ("a node that is lost", "node", 2, ""),
    ("nodes that are lost again and again", "node node node", 3, r"3 of its jobs were lost \(NODE_FAIL\)"),
    ("the time limit", "timeout", 1, "ran into the time limit. Give a longer --time"),
    ("no memory left", "memory", 1, "had not enough memory. Give more with --memory"),
]


@pytest.mark.parametrize(("fault", "attempts", "ending"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_job_that_is_lost_is_done_again_and_one_that_fails_is_told(
    cluster: Path, tmp_path: Path, fault: str, attempts: int, ending: str
) -> None:
    store, witness = probed(Store(tmp_path / "runs")), tmp_path / "witness"
    witness.mkdir()
    kinds = fault.split() if ending else [fault]
    strike(cluster, *((kind, witness / str(number)) for number, kind in enumerate(kinds)))
    step = slow_at_first.step(Toy(number=len(kinds), witness=str(witness)))
    if ending:
        with pytest.raises(StepFailedError, match=ending) as caught:
            execute([step], store, on=CPU)
        assert "log.err)" in str(caught.value)
        assert store.artifacts() == ()
    else:
        execute([step], store, on=CPU)
        assert total(store, step) == 0
    assert len(list(witness.iterdir())) == attempts
    assert fake_slurm.read(cluster / "faults.json") == []


def test_a_failure_has_the_jobs_traceback_and_takes_down_only_what_needs_it(cluster: Path, tmp_path: Path) -> None:
    store = probed(Store(tmp_path / "runs"))
    with pytest.raises(
        StepFailedError, match=r"left: ValueError: the loss is \(job \d+_\d, log: .*log.err\)"
    ) as caught:
        execute([diamond(left="error")], store, on=CPU)
    assert "1 of 4 steps failed and 1 that need them were not run; the other 2 are done" in str(caught.value)
    assert "not a number" in "".join(caught.value.tracebacks.values())
    assert {artifact.name for artifact in store.artifacts()} == {"top", "right"}
    execute([diamond()], store, on=CPU)
    assert total(store, diamond()) == 113


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("killed", [True, False], ids=["a driver that is killed", "two drivers"])
def test_a_second_driver_finds_the_jobs_of_the_first(cluster: Path, tmp_path: Path, killed: bool) -> None:
    store, witness = probed(Store(tmp_path / "runs")), tmp_path / "witness"
    witness.mkdir()
    driver = multiprocessing.get_context("spawn").Process(target=run_slow, args=(str(store.folder), str(witness), CPU))
    driver.start()
    until(lambda: any(witness.iterdir()))
    if killed:
        driver.kill()
    execute([slow(str(witness))], store, on=CPU)
    driver.join()
    assert (driver.exitcode == 0) is not killed
    assert total(store, slow(str(witness))) == 5
    assert len(list(witness.iterdir())) == 1
    assert arrays(cluster) == 1  # both steps went as one job, which nobody submitted again


def test_a_controller_that_is_silent_is_waited_for(cluster: Path, tmp_path: Path) -> None:
    store = probed(Store(tmp_path / "runs"))
    configured = fake_slurm.read(cluster / "cluster.json")
    fake_slurm.write(cluster / "cluster.json", configured | {"silent": True})
    with CPU.opened(store, lambda key: None) as jobs:
        jobs.start(Order.of(add.step(Toy(number=3))))
        assert jobs.wait(0.5) == []
        assert arrays(cluster) == 0
        fake_slurm.write(cluster / "cluster.json", configured)
        assert [report.result for report in jobs.wait(None)] == ["finished"]


def test_steps_wait_where_the_cluster_takes_only_some_jobs(cluster: Path, tmp_path: Path) -> None:
    store = probed(Store(tmp_path / "runs"))
    fake_slurm.write(cluster / "cluster.json", fake_slurm.read(cluster / "cluster.json") | {"most": 2})
    execute([add.step(Toy(number=number), name=str(number)) for number in range(5)], store, on=CPU)
    assert len(store.artifacts()) == 5
    assert arrays(cluster) >= 3


def test_only_steps_that_run_a_model_get_gpus(cluster: Path, tmp_path: Path) -> None:
    store, witness = probed(Store(tmp_path / "runs"), "gpu"), tmp_path / "witness"
    witness.mkdir()
    train = slow_at_first.step(Toy(witness=str(witness)), data=add.step(Toy(number=2)))
    settings = Slurm("gpu", gpus=2, minutes=90, account="lab", memory=3.5, patience=2.0, pause=0.2)
    execute([add.step(Toy(number=1), run=train)], store, on=settings)
    asked = [
        {name: job["given"].get(name) for name in ("gpus-per-node", "time", "account", "mem")}
        for job in fake_slurm.jobs().values()
    ]
    usual = {"gpus-per-node": None, "time": "90", "account": "lab", "mem": "3584MB"}
    assert asked == [usual, usual | {"gpus-per-node": "2"}, usual]


def test_status_tells_what_waits_runs_and_failed_with_its_log(
    cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = probed(Store(tmp_path / "runs"))
    steps = [add.step(Toy(number=number), name=name) for number, name in enumerate(("waits", "runs", "fails", "alone"))]
    ended = add.step(Toy(number=9), name="ended")
    execute([ended], store, workers=0)
    note_steps(store, "toy", [*steps, ended])
    fake_slurm.write(cluster / "cluster.json", fake_slurm.read(cluster / "cluster.json") | {"held": True})
    with CPU.opened(store, lambda key: None) as jobs:
        for step in steps[:3]:
            jobs.start(Order.of(step))
        jobs.wait(0.0)
    for job, state in (("1_1", "RUNNING"), ("1_2", "TIMEOUT")):
        fake_slurm.write(cluster / "jobs" / f"{job}.json", {"state": state})
    log = store.folder / ".slurm" / "jobs"
    failed = f"  failed   fails  job 1_2 TIMEOUT  log: {log}/1_2_0_log.err"
    lines = [
        "toy: 1 done, 1 running, 1 queued, 1 failed, 1 not begun",
        f"  running  runs  job 1_1  log: {log}/1_1_0_log.err",
        f"  queued   waits  job 1_0 PENDING (Priority)  log: {log}/1_0_0_log.err",
        failed,
    ]
    for options, told in (([], lines), (["--only-failed"], [lines[0], failed])):
        app.main(["status", "--store", str(store.folder), *options], standalone_mode=False)
        assert capsys.readouterr().out.splitlines() == told


REFUSED: list[tuple[dict[str, Any], dict[str, Any], type[AstrayError], str]] = [
    ({"partition": "gpus"}, {}, ConfigurationError, "no partition of this cluster called 'gpus'. Did you mean 'gpu'"),
    ({"partition": "gpu", "gpus": 8}, {}, ConfigurationError, "--gpus 8: a node of the partition 'gpu' has 4"),
    ({"partition": "cpu", "gpus": 1}, {}, ConfigurationError, "'cpu' has 0, so the job would wait for ever"),
    ({"partition": "gpu", "minutes": 2880}, {}, ConfigurationError, "may take 1440 minutes. Give --time 1440m or less"),
    (
        {"partition": "cpu", "account": "x"},
        {"account": "lab"},
        ConfigurationError,
        "Slurm refused the job: .*Invalid acc",
    ),
    (
        {"partition": "cpu", "patience": 0.0},
        {"hidden": "runs"},
        StoreError,
        r"first job \(1\) ended as FAILED and left no",
    ),
]


@pytest.mark.parametrize(("settings", "configured", "error", "message"), REFUSED, ids=[row[3] for row in REFUSED])
def test_what_the_cluster_cannot_do_is_refused_before_any_step(
    cluster: Path, tmp_path: Path, settings: dict[str, Any], configured: dict[str, Any], error: type, message: str
) -> None:
    fake_slurm.write(cluster / "cluster.json", fake_slurm.read(cluster / "cluster.json") | configured)
    store = Store(tmp_path / "runs")
    if error is ConfigurationError:
        error = AstrayError
    with pytest.raises(error, match=message):
        execute([add.step(Toy())], store, on=Slurm(**{"pause": 0.2} | settings))
    assert store.artifacts() == ()


def test_a_machine_without_slurm_or_submitit_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"Slurm .sbatch is not on the PATH"):
        execute([add.step(Toy())], Store(tmp_path / "runs"), on=CPU)
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(MissingExtraError, match=r"Install it with: pip install 'astray\[slurm\]'"):
        execute([add.step(Toy())], Store(tmp_path / "runs"), on=CPU)


def test_a_store_that_is_no_folder_and_workers_beside_a_place_are_refused(cluster: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="needs a store in a folder that all nodes mount"),
        CPU.opened(Store("s3://bucket/runs", cache=tmp_path), lambda key: None),
    ):
        pass
    with pytest.raises(ConfigurationError, match="Give one of them"):
        execute([add.step(Toy())], Store(tmp_path), on=CPU, workers=2)


NAMED: list[tuple[dict[str, Any], str]] = [
    ({"on": "slurm"}, "--on slurm needs --partition NAME"),
    ({"on": "slrum"}, "no place to run on called 'slrum'. Did you mean 'slurm'"),
    ({"partition": "gpu"}, "--partition is a setting of --on slurm. Write that as well, or leave --partition out"),
    ({"gpus": 1}, "--gpus is a setting of --on slurm or --on ray"),
    ({"on": "ray", "time": "4h"}, "--time is a setting of --on slurm"),
    *(
        ({"on": "slurm", "partition": "gpu", "time": time}, "is no time limit")
        for time in ("4", "0h", "4:00", "1.5h", "")
    ),
]


@pytest.mark.parametrize(("given", "message"), NAMED, ids=[" ".join(map(str, row[0].values())) for row in NAMED])
def test_a_place_that_is_named_wrongly_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(AstrayError, match=message):
        named_place(**given)


@pytest.mark.parametrize(("time", "minutes"), [("90m", 90), ("4h", 240), ("2d", 2880), (None, 240)])
def test_a_place_has_what_was_given(time: str | None, minutes: int) -> None:
    assert named_place("slurm", partition="p", gpus=1, time=time) == Slurm("p", 1, minutes)
    assert named_place(None) is None
