"""Evaluations in several processes: the same samples with the same outcomes, whatever becomes of a process."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log

from astray.artifacts import Progress, StepState
from astray.artifacts.side_by_side import Call, side_by_side
from astray.errors import ConfigurationError, StepFailedError
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.logs import finished
from astray.measure.agentic.runs import WORTHWHILE, Part, processes_for, run_parts
from astray.measure.agentic.subjects import AgenticSubject, subjects_from
from astray.studies.agentic_misalignment.forecast import forecast_acting

GRID = Grid(scenarios=("blackmail",), factors={"goal": ("explicit",)}, replicates=4)
PARTS = [Part("grid", GRID), Part("rule monitor", GRID, "rule")]
SCRIPTED = subjects_from("astray/scripted/sometimes", None, ())
REMOTE = [AgenticSubject(name="remote", model="openai/gpt-4o", grader=("openai/gpt-4o",))]


def test_two_processes_give_the_table_of_one(tmp_path: Path) -> None:
    told: list[Progress] = []
    one = run_parts(SCRIPTED, PARTS, tmp_path / "one", max_tokens=100, workers=1).table
    two = run_parts(SCRIPTED, PARTS, tmp_path / "two", max_tokens=100, workers=2, progress=told.append).table
    same = ["subject", "sample", "monitor", "outcome", "executed", "blocked", "turns", "tokens"]
    assert one.select(same).equals(two.select(same))
    logs = [read_eval_log(info, header_only=True) for info in list_eval_logs(str(tmp_path / "two"))]
    assert sorted(log.results.completed_samples for log in logs if log.results) == [2, 2, 2, 2]
    assert [one.done for one in told if one.state is StepState.FINISHED] == [1, 2]
    again = run_parts(SCRIPTED, PARTS, tmp_path / "two", max_tokens=100, workers=2).table
    assert again.equals(two)
    assert len(list_eval_logs(str(tmp_path / "two"))) == len(logs)


def write(path: Path) -> None:
    """A call that is done."""
    path.touch()


def wait_for_ever(path: Path) -> None:
    """A call that says so when it is interrupted."""
    try:
        path.touch()
        time.sleep(60)
    except KeyboardInterrupt:
        path.with_suffix(".interrupted").touch()
        raise


def die(path: Path) -> None:
    """A call whose process is killed, as by a system without memory."""
    path.touch()
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(waiting: Path) -> None:
    """A call that fails once another one is at work."""
    while not waiting.exists():
        time.sleep(0.01)
    raise StepFailedError("It broke off.", {"grid": "where it broke"})


def test_what_a_call_raises_comes_back_whole_and_interrupts_the_others(tmp_path: Path) -> None:
    waiting, later = tmp_path / "waiting", tmp_path / "later"
    calls: list[Call] = [(wait_for_ever, (waiting,)), (refuse, (waiting,)), *[(write, (later,))] * 9]
    with pytest.raises(StepFailedError, match="It broke off") as raised:
        list(side_by_side(calls, 2))
    assert raised.value.tracebacks == {"grid": "where it broke"}
    assert waiting.with_suffix(".interrupted").exists()


def test_a_killed_process_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StepFailedError, match="fewer workers"):
        list(side_by_side([(die, (tmp_path / "dead",))], 2))
    assert (tmp_path / "dead").exists()


def test_ctrl_c_reaches_every_process_and_nothing_more_is_begun(tmp_path: Path) -> None:
    places, later = [tmp_path / "a", tmp_path / "b"], tmp_path / "later"

    def interrupt() -> None:
        while not all(place.exists() for place in places):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        list(side_by_side([*[(wait_for_ever, (place,)) for place in places], *[(write, (later,))] * 5], 2))
    thread.join()
    assert not later.exists()
    assert all(place.with_suffix(".interrupted").exists() for place in places)


def test_as_many_processes_as_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astray.measure.agentic.runs.usable_cpus", lambda: 8)
    assert processes_for(SCRIPTED, 100 * WORTHWHILE, None, None) == 8
    assert processes_for(SCRIPTED, 3 * WORTHWHILE, None, None) == 3
    assert processes_for(SCRIPTED, WORTHWHILE // 2, None, None) == 1
    assert processes_for(REMOTE, 100 * WORTHWHILE, None, None) == 1
    assert processes_for(REMOTE, 100, 4, None) == 4
    assert processes_for(SCRIPTED, 3, 4, None) == 3
    assert processes_for(SCRIPTED, 100 * WORTHWHILE, 0, None) == 1
    assert processes_for(SCRIPTED, 100 * WORTHWHILE, None, 10**6) == 1
    with pytest.raises(ConfigurationError, match="leave out --workers or --budget"):
        processes_for(SCRIPTED, 100, 2, 10**6)


def test_the_forecast_shares_the_time(tmp_path: Path) -> None:
    one = forecast_acting("Toy", SCRIPTED, PARTS, tmp_path, max_tokens=100)
    four = forecast_acting("Toy", SCRIPTED, PARTS, tmp_path, max_tokens=100, workers=4)
    assert (one.processes, four.processes) == (1, 4)
    assert "in 4 processes" in four.render()
    assert "one subject after the other" in one.render()


def test_ctrl_c_stops_a_run_in_one_process_and_keeps_what_is_done(tmp_path: Path) -> None:
    part = Part("grid", GRID.model_copy(update={"replicates": 60}))

    def interrupt() -> None:
        while not any(path.stat().st_size > 20_000 for path in tmp_path.rglob("*.eval")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_parts(SCRIPTED, [part], tmp_path, max_tokens=100, workers=1)
    [logs] = {path.parent for path in tmp_path.rglob("*.eval")}
    done = len(finished(logs, part.grid))
    assert 0 < done < part.grid.size
    assert len(run_parts(SCRIPTED, [part], tmp_path, max_tokens=100, workers=1).table) == part.grid.size
