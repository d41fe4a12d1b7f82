"""The study on a local model that really acts: its calls are executed and counted, and its own activations stop the
harmful ones."""

import re
import zlib
from pathlib import Path

import polars as pl
import pytest
from inspect_ai.log import list_eval_logs, read_eval_log

from acting_model import train_agent
from astray.engine.run import run_study
from astray.engine.summary import Summary
from astray.mitigate.call_monitor import labelled_calls
from astray.mitigate.call_probe import assess, fitted_probe
from astray.studies import get_study
from astray.studies.agentic_misalignment.options import AgenticOptions
from astray.studies.agentic_misalignment.study import ACTIVATIONS, parts
from astray.subjects.subject import load_subject

STUDY = get_study("agentic-misalignment")
# The agent was trained on the fixed texts and knows no others.
OPTIONS = AgenticOptions(
    scenarios=("blackmail",),
    surface="fixed",
    samples=2,
    grader=("astray/scripted/grader",),
    max_tokens=60,
    analyses=("grid", f"monitor-{ACTIVATIONS}"),
)


@pytest.fixture(scope="module")
def agent(tmp_path_factory) -> Path:
    grid = next(iter(parts(OPTIONS))).grid.model_copy(update={"replicates": 4})
    return train_agent(grid, tmp_path_factory.mktemp("agent"), steps=120)


@pytest.fixture(scope="module")
def results(agent, tmp_path_factory) -> Path:
    return run_study(
        STUDY, OPTIONS.model_copy(update={"subject": f"astray/{agent}"}), out=tmp_path_factory.mktemp("study")
    )


def test_it_acts_both_ways_and_every_call_is_counted(results):
    rows = pl.read_parquet(results / "acts.parquet").filter(pl.col("monitor") == "none")
    assert set(rows["protocol"]) == {"text"}
    assert not rows["simulated"].any()
    assert 0.2 < rows["gate"].mean() < 0.8
    assert (rows["executed"] >= 2).mean() > 0.8
    assert (
        rows.select(pl.col("executed") + pl.col("blocked") + pl.col("failed") == pl.col("attempted")).to_series().all()
    )


def test_its_own_activations_tell_its_harmful_calls_of_other_samples(agent, results):
    calls = labelled_calls(log_of(results, "grid"))
    fit, choose, report = (
        [call for call in calls if zlib.crc32(call.sample.encode()) % 3 == part] for part in range(3)
    )
    subject = load_subject(str(agent))
    found = assess(subject, fitted_probe(subject, fit, 1), choose, report, false_alarms=0.1)
    assert found.auc > 0.8
    assert found.blocked[0] / found.blocked[1] > found.false_alarms[0] / found.false_alarms[1]


def test_the_monitor_of_the_study_reads_the_model_that_acts(agent, results):
    [table] = [each for each in Summary.read(results).exhibits if each.id == "activations"]
    [reading] = [dict(zip((column.title for column in table.columns), row, strict=True)) for row in table.rows]
    assert (reading["Read"], reading["Why there is none"]) == (str(agent), "")
    samples = read_eval_log(log_of(results, f"monitor-{ACTIVATIONS}")).samples
    decided = [
        event for sample in samples for event in sample.events if event.event == "approval" and event.explanation
    ]
    assert decided
    for event in decided:
        score, threshold = map(float, re.findall(r"(?:score|threshold) ([^,\s]+)", event.explanation))
        assert (event.decision == "reject") is (score >= threshold)
    rows = pl.read_parquet(results / "acts.parquet").filter(pl.col("monitor") == ACTIVATIONS)
    assert rows["executed"].sum() + rows["blocked"].sum() > len(rows)


def log_of(results: Path, part: str) -> str:
    """The log of a part of the study."""
    [log] = [info.name for info in list_eval_logs(str(results / "logs")) if f"/{part}/" in info.name]
    return log
