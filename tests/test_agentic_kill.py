"""A run that is killed at random moments goes on without a lost or a repeated sample and ends as one that was not."""

import random
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log_sample_summaries

import small_grid
from astray.measure.agentic import play as agentic_play
from forked import fork_server

KILLS = 3
EMPTY = 4000
"""More bytes than a log without samples has."""


@pytest.fixture
def server() -> ForkServerContext:
    return fork_server()


def run_and_be_killed(server: ForkServerContext, folder: Path, chance: random.Random) -> bool:
    """Runs in a process that is killed a moment after it has written samples; whether it was still at work."""
    before, process = size(folder), server.Process(target=small_grid.run, args=(str(folder),))
    process.start()
    deadline = time.monotonic() + 60
    while size(folder) < before + EMPTY and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 0.05))
    was_running = process.is_alive()
    process.kill()
    process.join()
    return was_running


def size(folder: Path) -> int:
    """Bytes of all logs."""
    return sum(path.stat().st_size for path in folder.rglob("*.eval"))


def written(folder: Path) -> list[str]:
    """Ids of all samples in the logs, in every log they stand in."""
    return [str(each.id) for info in list_eval_logs(str(folder)) for each in read_eval_log_sample_summaries(info)]


def test_kills_lose_and_repeat_nothing(
    server: ForkServerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for changed in ("LOG_BUFFER", "BUDGETED"):  # by `small_grid`
        monkeypatch.setattr(agentic_play, changed, getattr(agentic_play, changed))
    chance = random.Random(0)
    killed = [run_and_be_killed(server, tmp_path / "killed", chance) for _ in range(KILLS)]
    assert sum(killed) == KILLS
    rows = small_grid.run(str(tmp_path / "killed"))
    whole = small_grid.run(str(tmp_path / "whole"))
    assert rows["sample"].n_unique() == len(rows) == small_grid.PART.grid.size
    same = ["sample", "outcome", "executed", "belief"]
    assert rows.select(same).sort("sample").equals(whole.select(same).sort("sample"))
    assert (
        len([info for info in list_eval_logs(str(tmp_path / "killed")) if read_eval_log_sample_summaries(info)])
        >= KILLS
    )
    assert len(written(tmp_path / "killed")) == len(set(written(tmp_path / "killed"))) == small_grid.PART.grid.size
