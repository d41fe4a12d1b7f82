"""Studies that are killed, interrupted or run twice at once end in the same bytes as one that was left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest

from astray.artifacts import Store, execute
from forked import fork_server
from toy_steps import run_endless, run_study, study


def contents(root: Path) -> dict[str, bytes]:
    """Every file in a store, hidden ones too, but for the times that steps took."""
    files = [path for path in root.rglob("*") if path.is_file() and path.name != ".timings"]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it did not happen within a minute"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has asked for its exit code yet does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def worker_pids(witness: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in witness.iterdir()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a study leaves that nobody disturbs."""
    root = tmp_path_factory.mktemp("uninterrupted")
    execute(study(), Store(root), workers=0)
    return contents(root)


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    return fork_server(["toy_steps", "pytest", "filelock"])


def kill_at_random(process: ForkServerProcess, root: Path, most_files: int, moments: random.Random) -> None:
    """Starts a study and kills it some milliseconds after it has written a random number of files."""
    enough = moments.randrange(most_files)
    process.start()
    wait_until(lambda: sum(len(files) for _, _, files in os.walk(root)) >= enough)
    time.sleep(0.01 * moments.random())
    process.kill()
    process.join()


def test_a_study_killed_at_any_moment_goes_on_to_the_same_bytes(
    tmp_path: Path, server: ForkServerContext, uninterrupted: dict[str, bytes]
) -> None:
    moments = random.Random(0)
    cut_short = 0
    for number in range(20):
        root = tmp_path / str(number)
        kill_at_random(server.Process(target=run_study, args=(str(root), 0)), root, len(uninterrupted), moments)
        cut_short += contents(root) != uninterrupted
        execute(study(), Store(root), workers=0)
        assert contents(root) == uninterrupted
    assert cut_short > 0


def test_a_study_with_workers_killed_goes_on_to_the_same_bytes(
    tmp_path: Path, server: ForkServerContext, uninterrupted: dict[str, bytes]
) -> None:
    moments = random.Random(1)
    for number in range(3):
        root = tmp_path / str(number)
        kill_at_random(server.Process(target=run_study, args=(str(root), 2)), root, len(uninterrupted), moments)
        execute(study(), Store(root), workers=0)  # while workers of the killed process may still be at work
        assert contents(root) == uninterrupted


def test_workers_end_with_the_process_that_started_them(tmp_path: Path, server: ForkServerContext) -> None:
    root, witness = tmp_path / "runs", tmp_path / "witness"
    witness.mkdir()
    process = server.Process(target=run_endless, args=(str(root), str(witness)))
    process.start()
    wait_until(lambda: len(worker_pids(witness)) == 2)
    process.kill()
    process.join()
    wait_until(lambda: not any(map(is_alive, worker_pids(witness))))
    Store(root).sweep()
    assert [artifact.name for artifact in Store(root).artifacts()] == ["quick"]
    assert list(root.glob(".partial*")) == list(root.glob(".locks/*")) == []


def test_ctrl_c_stops_the_workers_and_keeps_what_is_finished(tmp_path: Path) -> None:
    root, witness = tmp_path / "runs", tmp_path / "witness"
    witness.mkdir()
    command = [sys.executable, "-c", f"import toy_steps; toy_steps.run_endless({str(root)!r}, {str(witness)!r})"]
    with subprocess.Popen(
        command, cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            wait_until(lambda: len(worker_pids(witness)) == 2)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the study and its workers alike
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert stderr.count("Traceback") == 1
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert not any(map(is_alive, worker_pids(witness)))
    assert [artifact.name for artifact in Store(root).artifacts()] == ["quick"]
    assert list(root.glob(".partial*")) == list(root.glob(".locks/*")) == []


def test_two_studies_that_share_a_store_do_each_step_once(tmp_path: Path, server: ForkServerContext) -> None:
    root, witness = tmp_path / "runs", tmp_path / "witness"
    witness.mkdir()
    processes = [server.Process(target=run_study, args=(str(root), workers, str(witness))) for workers in (0, 0, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    starts = Counter(path.name.split("-")[0] for path in witness.iterdir())
    assert starts == {"10": 1, "11": 1, "1": 2, "0": 1}
    assert len(Store(root).artifacts()) == 5
    assert list(root.glob(".partial*")) == list(root.glob(".locks/*")) == []
