"""Acting models in several processes: the same samples with the same outcomes, and a Ctrl-C that keeps what is done."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log

from astray.artifacts import Progress, StepState, Store
from astray.engine.forecast.acting import WORTHWHILE, acting_workers
from astray.measure.agentic import play as agentic_play
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.logs import finished
from astray.measure.agentic.play import Part
from astray.measure.agentic.subjects import AgenticSubject, subjects_from
from forked import fork_workers
from playing import forecast_parts, plan_of, run_parts, setting_of

GRID = Grid(scenarios=("blackmail",), factors={"goal": ("explicit",)}, replicates=4)
PARTS = [Part("grid", GRID), Part("rule monitor", GRID, "rule")]
SCRIPTED = subjects_from("astray/scripted/sometimes", None, ())
REMOTE = [AgenticSubject(name="remote", model="openai/gpt-4o", grader=("openai/gpt-4o",))]
SAME = ["subject", "sample", "monitor", "outcome", "executed", "blocked", "turns", "tokens"]


def test_two_processes_give_the_table_of_one_in_the_same_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agentic_play, "PIECE", 2)
    fork_workers(monkeypatch)
    told: list[Progress] = []
    one = run_parts(SCRIPTED, PARTS, tmp_path / "one", max_tokens=100, workers=0).table
    two = run_parts(SCRIPTED, PARTS, tmp_path / "two", max_tokens=100, workers=2, progress=told.append).table
    assert one.select(SAME).equals(two.select(SAME))
    logs = [read_eval_log(info, header_only=True) for info in list_eval_logs(str(tmp_path / "two"))]
    assert [log.results.completed_samples for log in logs if log.results] == [2, 2, 2, 2]
    assert [one.done for one in told if one.state is StepState.FINISHED] == [1, 2, 3, 4]
    assert {each.key for each in Store(tmp_path / "one").artifacts()} == {
        each.key for each in Store(tmp_path / "two").artifacts()
    }
    again = run_parts(SCRIPTED, PARTS, tmp_path / "two", max_tokens=100, workers=2).table
    assert again.equals(two)
    assert len(list_eval_logs(str(tmp_path / "two"))) == len(logs)


def test_as_many_processes_as_are_worth_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astray.engine.forecast.acting.usable_cpus", lambda: 8)

    def workers(subjects: list[AgenticSubject], samples: int) -> int:
        part = Part(
            "grid", Grid(scenarios=("blackmail",), factors={"goal": ("none",), "threat": ("none",)}, replicates=samples)
        )
        return acting_workers(plan_of(setting_of(subjects, [part])), Store(tmp_path))

    scripted = list(SCRIPTED)
    assert workers(scripted, 9 * WORTHWHILE) == 8
    assert workers(scripted, 3 * WORTHWHILE) == 3
    assert workers(scripted, WORTHWHILE // 2) == 0
    assert workers(REMOTE, 9 * WORTHWHILE) == workers([*scripted, *REMOTE], 9 * WORTHWHILE) == 0


def test_the_forecast_shares_the_time(tmp_path: Path) -> None:
    one, four = (forecast_parts(SCRIPTED, PARTS, tmp_path, workers=workers) for workers in (None, 4))
    assert (one.processes, four.processes) == (0, 4)
    assert "in 4 processes" in four.render()
    assert "one subject after the other" in one.render()


@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_stops_a_run_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    fork_workers(monkeypatch)
    part = Part("grid", GRID.model_copy(update={"replicates": 60}))

    def interrupt() -> None:
        while not any(path.stat().st_size > 20_000 for path in tmp_path.rglob("*.eval")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_parts(SCRIPTED, [part], tmp_path, max_tokens=100, workers=workers)
    done = sum(len(finished(logs, part.grid)) for logs in tmp_path.glob(".unfinished/*/logs"))
    assert 0 < done < part.grid.size
    again = run_parts(SCRIPTED, [part], tmp_path, max_tokens=100).table
    assert len(again) == part.grid.size
    [artifact] = Store(tmp_path).artifacts()
    samples = [sample for info in list_eval_logs(str(artifact.path)) for sample in read_eval_log(info).samples or ()]
    ids = [
        sample.id for sample in samples if sample.error is None
    ]  # an interrupt in this process is an error of what is under way
    assert len(ids) == len(set(ids)) == part.grid.size
