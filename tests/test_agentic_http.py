"""The study over HTTP: a chat server on the loopback address as subject and grader, whose faults lose no sample; and
one that is not there."""

import pytest
from inspect_ai.model import GenerateConfig, ModelAPI
from tenacity import wait_none

from astray.engine.run import run_study
from astray.errors import ConfigurationError, JudgeError
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.play import Part
from astray.measure.agentic.subjects import check_models, subjects_from
from astray.studies import get_study
from astray.studies.agentic_misalignment.options import AgenticOptions
from chat_server import ChatServer
from http_faults import FaultQueue
from playing import run_parts

STUDY = get_study("agentic-misalignment")
PARTS = [
    Part(
        "grid",
        Grid(scenarios=("blackmail",), factors={"goal": ("explicit",), "threat": ("replacement",)}, replicates=6),
    ),
    Part(
        "monitor-judge",
        Grid(scenarios=("blackmail",), factors={"goal": ("explicit",), "threat": ("replacement",)}, replicates=2),
        "judge",
    ),
]


@pytest.fixture
def server(monkeypatch):
    with ChatServer() as running:
        monkeypatch.setenv("LOOPBACK_BASE_URL", running.url)
        monkeypatch.setenv("LOOPBACK_API_KEY", "none")
        monkeypatch.setattr(ModelAPI, "retry_wait", lambda _: wait_none())
        yield running


def subjects():
    return subjects_from("openai-api/loopback/worker", None, ("openai-api/loopback/judge", "openai-api/loopback/judge"))


def test_a_chat_model_behind_http_runs_and_faults_lose_nothing(server, tmp_path, monkeypatch):
    chosen = subjects()
    check_models(chosen)
    assert chosen[0].make().config.max_retries == 3
    make = type(chosen[0]).make
    monkeypatch.setattr(type(chosen[0]), "make", lambda self: _impatient(make(self)))
    server.state.faults = ["429", "500", "cut", "slow", "500", "429"]
    found = run_parts(chosen, PARTS, tmp_path, max_tokens=200)
    assert sorted(server.state.failed) == ["429", "429", "500", "500", "cut", "slow"]
    plain, watched = (found.table.filter(found.table["monitor"] == name) for name in ("none", "judge"))
    assert (len(plain), len(watched)) == (6, 2)
    assert found.table["sample"].n_unique() == 6
    assert set(found.table["note"]) == {""}
    assert plain["gate"].all()
    assert set(plain["judge"]) == {"harmful"}
    assert set(plain["belief"]) == {"real"}
    assert set(watched["outcome"]) == {"blocked"}
    assert set(plain["protocol"]) == {"native"}


def test_a_server_without_tools_is_given_the_text_protocol(server, tmp_path):
    server.state.refuses_tools = True
    found = run_parts(subjects(), PARTS[:1], tmp_path, max_tokens=200)
    assert set(found.table["protocol"]) == {"text"}
    assert set(found.table["note"]) == {""}
    assert found.table["gate"].all()


def test_a_grader_that_is_not_there_is_said_before_anything_is_asked(server, tmp_path):
    server.__exit__()
    before = server.state.requests
    options = AgenticOptions(
        subject="astray/scripted/never", grader=("openai-api/loopback/judge",), scenarios=("blackmail",), samples=1
    )
    with pytest.raises(
        JudgeError, match=r"openai-api/loopback/judge was asked .* gave none: no connection: .*Nothing was asked"
    ):
        run_study(STUDY, options, out=tmp_path)
    assert server.state.requests == before
    assert not list(tmp_path.iterdir())


def test_a_subject_that_is_not_there_is_said_before_anything_is_asked(server, tmp_path):
    server.__exit__()
    options = AgenticOptions(
        subject="openai-api/loopback/worker", grader=("astray/scripted/grader",), scenarios=("blackmail",), samples=1
    )
    with pytest.raises(
        ConfigurationError,
        match=r"\(openai-api/loopback/worker\) cannot be reached: APIConnectionError.*Nothing was asked",
    ):
        run_study(STUDY, options, out=tmp_path)
    assert not list(tmp_path.iterdir())


def _impatient(model):
    """The same model, which gives up an attempt before a slow answer comes."""
    model.config = model.config.merge(GenerateConfig(attempt_timeout=1, max_retries=20))
    assert FaultQueue.slow > 1
    return model
