"""A study that is killed again and again ends in the same results as one that was left alone."""

import os
import random
import re
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from filelock import FileLock

import small_study
from forked import fork_server

KILLS = 10
RESULTS = ("summary.json", "answers.parquet", "dynamics.parquet")


def results(out: Path) -> dict[str, bytes]:
    """What the study left, but for the day on which it was written."""
    found = {name: (out / "emergent-misalignment" / name).read_bytes() for name in RESULTS}
    return found | {"summary.json": re.sub(rb'"made": "[^"]*"', b'"made": ""', found["summary.json"])}


def files_in(out: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(out))


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    return fork_server()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study in one process that nobody disturbs, made once for all processes of tests."""
    here = tmp_path_factory.getbasetemp()
    out = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "uninterrupted"
    with FileLock(f"{out}.lock"):
        if not (out / "emergent-misalignment" / "summary.json").is_file():
            small_study.run(str(out))
    return out


def run_until(server: ForkServerContext, out: Path, files: int, delay: float) -> bool:
    """Goes on with a study and kills it a moment after it has written so many files; says whether it was still at
    work."""
    process = server.Process(target=small_study.run, args=(str(out),))
    process.start()
    while files_in(out) < files and process.is_alive():
        time.sleep(0.002)
    process.join(delay)
    was_running = process.is_alive()
    process.kill()
    process.join()
    return was_running


@pytest.mark.parametrize("seed", [0, 1])
def test_a_study_killed_at_random_moments_ends_in_the_same_results(
    server: ForkServerContext, uninterrupted: Path, tmp_path: Path, seed: int
) -> None:
    moments = random.Random(seed)
    most = files_in(uninterrupted)
    cut_short = sum(
        run_until(server, tmp_path, files, 0.5 * moments.random())
        for files in sorted(moments.choices(range(most), k=KILLS))
    )
    assert cut_short >= KILLS // 2  # most kills hit a study at work
    process = server.Process(target=small_study.run, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert results(tmp_path) == results(uninterrupted)
    assert list((tmp_path / "store").glob(".partial*")) == []
