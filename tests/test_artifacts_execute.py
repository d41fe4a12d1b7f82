"""Executing steps: order, reuse, failures, workers that die."""

import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest
import torch

from astray.artifacts import Progress, Step, StepState, Store, execute
from astray.artifacts.plan import Plan
from astray.artifacts.work import Order, carry_out, seed_generators
from astray.errors import ConfigurationError, StepFailedError, StoreError
from toy_steps import Toy, add, diamond, environment, keep_folder, meet, study

BOTH = pytest.mark.parametrize("workers", [0, 2])


class Log:
    """Keeps the events of an execution."""

    def __init__(self) -> None:
        self.events: list[Progress] = []

    def __call__(self, event: Progress) -> None:
        self.events.append(event)

    def names(self, state: StepState) -> list[str]:
        return [event.name for event in self.events if event.state is state]


def run(store: Store, *steps: Step, workers: int = 0) -> Log:
    log = Log()
    execute(steps, store, workers=workers, progress=log)
    return log


def total(store: Store, step: Step) -> int:
    artifact = store.get(step.key)
    assert artifact is not None
    return int((artifact.path / "sum.txt").read_text())


@BOTH
def test_a_diamond_runs_dependencies_first_and_each_step_once(tmp_path: Path, workers: int) -> None:
    store = Store(tmp_path)
    log = run(store, diamond(), workers=workers)
    assert total(store, diamond()) == 113
    started = log.names(StepState.STARTED)
    assert (started[0], set(started[1:3]), started[3]) == ("top", {"left", "right"}, "bottom")
    last = log.events[-1]
    assert (last.done, last.failed, last.running, last.total) == (4, 0, 0, 4)
    assert last.seconds > 0


def test_two_workers_work_at_the_same_time(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.mkdir()
    steps = [meet.step(Toy(number=number, witness=str(witness)), name=str(number)) for number in range(2)]
    log = run(Store(tmp_path / "runs"), *steps, workers=2)
    assert max(event.running for event in log.events) == 2


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run(store, diamond())
    log = run(store, diamond())
    assert [(event.name, event.state) for event in log.events] == [("bottom", StepState.DONE_BEFORE)]


def test_a_change_reruns_only_what_depends_on_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = add.step(Toy(number=1), name="first")
    run(store, add.step(Toy(number=2), name="second", first=first))
    log = run(store, add.step(Toy(number=3), name="second", first=first))
    assert (log.names(StepState.DONE_BEFORE), log.names(StepState.STARTED)) == (["first"], ["second"])
    newer = Step(add, Toy(number=1), {}, 2, "first")
    log = run(store, add.step(Toy(number=3), name="second", first=newer))
    assert log.names(StepState.STARTED) == ["first", "second"]


def test_inputs_of_a_done_step_are_not_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run(store, diamond())
    for artifact in store.find("top"):
        (artifact.path / "sum.txt").unlink()  # damaged, but nobody needs it any more
    assert run(store, diamond()).names(StepState.DONE_BEFORE) == ["bottom"]


def test_the_same_bytes_come_out_of_workers_and_of_this_process(tmp_path: Path) -> None:
    for name, workers in (("here", 0), ("workers", 2)):
        run(Store(tmp_path / name), *study(2), workers=workers)
    assert contents(tmp_path / "here") == contents(tmp_path / "workers")


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a store that belongs to an artifact."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.glob("[!.]*/**/*") if path.is_file()}


@BOTH
def test_a_failure_takes_down_only_what_needs_it(tmp_path: Path, workers: int) -> None:
    store = Store(tmp_path)
    log = Log()
    with pytest.raises(StepFailedError) as caught:
        execute([diamond(left="error"), add.step(Toy(number=5), name="alone")], store, workers=workers, progress=log)
    message = str(caught.value)
    assert "1 of 5 steps failed and 1 that need them were not run; the other 3 are done and kept" in message
    assert "left: ValueError: the loss is (traceback: " in message
    (folder_name,) = caught.value.tracebacks
    assert "not a number" in caught.value.tracebacks[folder_name]
    assert (tmp_path / ".failures" / f"{folder_name}.txt").read_text() == caught.value.tracebacks[folder_name]
    assert log.names(StepState.SKIPPED) == ["bottom"]
    assert {artifact.name for artifact in store.artifacts()} == {"top", "right", "alone"}


def test_two_failures_that_one_step_needs_skip_it_once(tmp_path: Path) -> None:
    with pytest.raises(
        StepFailedError, match="2 of 4 steps failed and 1 that need them were not run; the other 1 are done"
    ):
        run(Store(tmp_path), diamond(left="error", right="exit"))


def test_an_error_of_astray_keeps_its_message(tmp_path: Path) -> None:
    with pytest.raises(StepFailedError, match=r"left: The data set has no rows. Give one with rows. \(traceback"):
        run(Store(tmp_path), diamond(left="astray error"))


def test_a_failed_step_is_tried_again_and_its_traceback_forgotten(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    source = tmp_path / "source.txt"
    step = add.step(Toy(witness=str(source)))
    with pytest.raises(StepFailedError, match="No such file or directory"):
        run(store, step)
    source.mkdir()
    run(store, step)
    assert list((tmp_path / "runs" / ".failures").iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("killed", r"was killed \(SIGKILL\), as a system does when memory runs out. Use fewer workers"),
        ("gone", "ended by itself with exit code 5"),
    ],
)
def test_a_worker_that_dies_is_replaced_and_its_step_reported(tmp_path: Path, fault: str, reason: str) -> None:
    store = Store(tmp_path)
    with pytest.raises(StepFailedError, match=f"left: its worker process {reason}"):
        run(store, diamond(left=fault), workers=1)
    assert {artifact.name for artifact in store.artifacts()} == {"top", "right"}
    assert list(tmp_path.glob(".partial*")) == []


@BOTH
def test_a_full_disk_stops_the_execution_with_the_stores_own_error(tmp_path: Path, workers: int) -> None:
    store = Store(tmp_path)
    chain = add.step(Toy(number=7), name="later", first=add.step(Toy(fault="disk full"), name="first"))
    with pytest.raises(StoreError, match="The disk is full"):
        run(store, chain, workers=workers)
    assert list(tmp_path.glob(".partial*")) == []


def test_a_step_that_leaves_a_link_fails_alone(tmp_path: Path) -> None:
    with pytest.raises(StepFailedError, match="left: The step 'left' left 'link', which cannot be kept"):
        run(Store(tmp_path), diamond(left="link"))


def test_a_step_that_another_process_is_doing_is_waited_for_while_others_are_done(tmp_path: Path) -> None:
    store, log = Store(tmp_path), Log()
    shared = add.step(Toy(number=1), name="shared")
    held, released = threading.Event(), threading.Event()

    def write(folder: Path) -> None:
        held.set()
        assert released.wait(60)
        (folder / "sum.txt").write_text("1")

    def follow(event: Progress) -> None:
        log(event)
        if (event.name, event.state) == ("own", StepState.FINISHED):
            released.set()

    with ThreadPoolExecutor() as threads:
        other = threads.submit(store.make, shared.origin, write)
        assert held.wait(60)
        own = add.step(Toy(number=2, seconds=0.7), name="own")  # longer than several looks at the shared step
        last = add.step(Toy(), name="last", shared=shared, own=own)
        execute([last], store, workers=1, progress=follow)
        assert other.result()
    assert total(store, last) == 3
    assert log.names(StepState.WAITING) == ["shared"]
    assert log.names(StepState.STARTED) == ["own", "last"]
    assert log.names(StepState.FINISHED) == ["own", "shared", "last"]


def test_workers_have_one_thread_stay_and_load_nothing_heavy(tmp_path: Path) -> None:
    store = Store(tmp_path)
    steps = [environment.step(Toy(number=number)) for number in range(3)]
    lines = [
        (artifact.path / "environment.txt").read_text().split()
        for artifact in execute(steps, store, workers=1).values()
    ]
    assert len({pid for pid, *_ in lines}) == 1
    assert len({order for _, _, order, _ in lines}) == 1
    assert all((threads, torch) == ("1", "False") for _, threads, _, torch in lines)


def test_idle_workers_leave_no_temporary_folder_behind(tmp_path: Path) -> None:
    store, kept = Store(tmp_path), keep_folder.step(Toy())
    run(store, kept, workers=1)
    artifact = store.get(kept.key)
    assert artifact is not None
    assert not Path((artifact.path / "kept.txt").read_text()).exists()


def test_a_step_does_not_depend_on_what_ran_before_it() -> None:
    """The global generators are seeded from the step's key."""

    def draw(key: str) -> tuple[float, ...]:
        seed_generators(key)
        return random.random(), float(numpy.random.rand()), float(torch.rand(()))

    first = draw("3f" * 32)
    assert draw("3e" * 32) != first
    assert draw("3f" * 32) == first


def test_a_script_without_a_guard_is_told_to_have_one(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import toy_steps\ntoy_steps.run_study('runs', 1)\n")
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert 'put the call under `if __name__ == "__main__":`' in done.stderr


def test_a_step_that_was_made_meanwhile_under_another_name_is_not_made_again(tmp_path: Path) -> None:
    store, started = Store(tmp_path), []
    step = add.step(Toy(number=1), name="one", other=add.step(Toy(number=2), name="two"))
    plan = Plan([step], store)
    run(store, add.step(Toy(number=1), name="another", other=add.step(Toy(number=2), name="other")))
    report = carry_out(Order.of(step, plan=plan), store, started.append)
    assert (report.result, report.ran, started) == ("finished", False, [])
    assert [artifact.name for artifact in store.artifacts()] == ["another", "other"]


NOTES = [
    "",
    ".",
    "..",
    "no digits",
    "../{digits}",
    "../../away-{digits}",
    "/tmp/away-{digits}",
    ".partial-{digits}",
    "a\0-{digits}",
    "gone-{digits}",
    "a" * 5000 + "-{digits}",
    "\ud800-{digits}",
    "one-0123456789abcdef",
]


@pytest.mark.parametrize("note", NOTES)
def test_a_name_that_was_noted_wrongly_is_no_artifact(tmp_path: Path, note: str) -> None:
    store, step = Store(tmp_path / "runs"), add.step(Toy(number=1), name="one")
    run(store, add.step(Toy(number=2)))
    run(Store(tmp_path), add.step(Toy(number=1), name="away"))
    text = note.format(digits=step.key[:16]).encode("utf-8", "surrogatepass")
    (store.folder / ".names" / step.key[:16]).write_bytes(text)
    run(store, step)
    assert total(store, step) == 1
    assert [artifact.name for artifact in store.artifacts()] == ["add", "one"]


def test_the_store_is_listed_as_often_for_many_steps_as_for_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[Path] = []
    names = Store._local_names
    monkeypatch.setattr(Store, "_local_names", lambda store: listed.append(store.folder) or names(store))
    for count in (2, 20):
        step = add.step(Toy(), name="0")
        for number in range(count):
            step = add.step(Toy(number=number), name=f"{number}", before=step)
        run(Store(tmp_path / f"{count}"), step)
    assert listed.count(tmp_path / "2") == listed.count(tmp_path / "20") > 0


def test_long_chains_come_before_short_ones(tmp_path: Path) -> None:
    short = add.step(Toy(number=1), name="short")
    long = add.step(
        Toy(number=4),
        name="end",
        before=add.step(Toy(number=3), name="middle", before=add.step(Toy(number=2), name="begin")),
    )
    assert run(Store(tmp_path), short, long).names(StepState.STARTED) == ["begin", "middle", "short", "end"]


def test_chains_may_be_longer_than_python_recurses(tmp_path: Path) -> None:
    step = add.step(Toy())
    for _ in range(1200):
        step = add.step(Toy(number=1), before=step)
    assert len(Plan([step], Store(tmp_path)).steps) == 1201


def test_a_store_in_memory_works_without_workers_and_is_refused_with_them(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}"
    run(Store(url, cache=tmp_path / "one"), diamond())
    assert total(Store(url, cache=tmp_path / "two"), diamond()) == 113
    with pytest.raises(ConfigurationError, match=r"workers cannot reach it. Give workers=0"):
        execute([diamond()], Store(url, cache=tmp_path / "one"), workers=2)


def test_a_negative_number_of_workers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="workers=-1 is no number of processes"):
        execute([diamond()], Store(tmp_path), workers=-1)
