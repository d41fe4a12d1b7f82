"""The study through HTTP on `transformers serve` with a random-weight chat model, behind a proxy that lets requests
fail: nothing is lost."""

import os
import random
import socket
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import httpx
import polars as pl
import pytest
from inspect_ai.model import GenerateConfig, ModelAPI
from tenacity import wait_none

from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.play import Part
from astray.measure.agentic.subjects import AgenticSubject, check_models
from chat_server import ChatServer
from forked import fork_server
from http_faults import FaultQueue, Faults, Serving, proxy
from playing import run_parts
from preloaded import run
from tiny_models import package_texts, save_tiny_model

GRID = Grid(scenarios=("blackmail",), factors={"goal": ("explicit", "none"), "threat": ("replacement",)}, replicates=2)
PARTS = [Part("grid", GRID), Part("monitor-rule", GRID.model_copy(update={"replicates": 1}), "rule")]
SERVE = "transformers.cli.transformers:main"
"""The command `transformers`."""
ANSWER = 12
"""Tokens of the longest answer."""
PATIENCE = 5
"""Seconds that the client waits. The server answers one request after the other, in some tenths of a second each."""
PASSING = ["429"] * 3 + ["500"] * 3 + ["cut"] * 3 + ["slow"]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[str]:
    """Address of `transformers serve` with a local folder, without a network."""
    place = tmp_path_factory.mktemp("served") / "tiny"
    folder = save_tiny_model(place, positions=16_384, texts=package_texts(), vocabulary=4096)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["transformers", "serve", "tiny", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with (folder.parent / "serve.log").open("wb") as log:
        streams = [Connection(os.dup(log.fileno())) for _ in range(3)]
        given = (SERVE, words, str(folder.parent), {**os.environ, "HF_HUB_OFFLINE": "1"})
        process = fork_server().Process(target=run, args=(streams, *given))
        process.start()
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.join()


def _wait_for(address: str, process: BaseProcess) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.is_alive():
        try:
            httpx.get(address).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("transformers serve did not start")


@pytest.fixture
def queue() -> FaultQueue:
    return FaultQueue(slow=PATIENCE + 1)


@pytest.fixture
def subject(served, queue, monkeypatch) -> Iterator[AgenticSubject]:
    """The model behind a proxy with faults, judged over HTTP as well; answers come as streams."""
    with Serving(Faults(proxy(served), queue)) as between, ChatServer() as graders:
        monkeypatch.setenv("LOOPBACK_BASE_URL", graders.url)
        monkeypatch.setenv("LOOPBACK_API_KEY", "none")
        monkeypatch.setenv("SERVE_API_KEY", "none")
        monkeypatch.setattr(ModelAPI, "retry_wait", lambda _: wait_none())
        make = AgenticSubject.make
        monkeypatch.setattr(AgenticSubject, "make", lambda self: _impatient(make(self)))
        arguments = {"base_url": between.url, "stream": True}
        chosen = AgenticSubject(
            name="tiny", model="openai-api/serve/tiny", arguments=arguments, grader=("openai-api/loopback/judge",)
        )
        check_models((chosen,))
        yield chosen


def _impatient(model):
    """The same model, which gives up an attempt before a slow answer comes, and asks little at a time."""
    model.config = model.config.merge(GenerateConfig(attempt_timeout=PATIENCE, max_connections=2))
    return model


def test_a_served_model_runs_through_faults_and_nothing_is_lost(subject, queue, tmp_path):
    queue.faults = random.Random(0).sample(PASSING + [""] * 10, len(PASSING) + 10)
    rows = run_parts([subject], PARTS, tmp_path, max_tokens=ANSWER).table
    assert sorted(queue.failed) == sorted(PASSING)
    wanted = [(part.monitor, part.grid.sample_id(number)) for part in PARTS for number in range(part.grid.size)]
    assert sorted(rows.select("monitor", "sample").iter_rows()) == sorted(wanted)
    assert set(rows["note"]) == {""}
    assert set(rows["outcome"]) <= {
        Conduct.NOT_UNDERSTOOD,
        Conduct.NEVER_ACTED,
    }  # random weights write neither a call nor a right letter
    assert set(rows["judge"]) <= {"harmless", "none"}
    assert set(rows["turns"]) == {2}
    assert rows["belief"].null_count() == 0
    assert (rows["output_tokens"] >= 4).all()


def test_what_a_fault_ended_is_an_outcome_and_is_asked_again(subject, queue, tmp_path):
    queue.faults = ["400", "", "", "400"]
    first = run_parts([subject], PARTS[:1], tmp_path, max_tokens=ANSWER).table
    lost = set(first.filter(pl.col("outcome") == Conduct.ERRORED)["sample"])
    assert len(first) == first["sample"].n_unique() == GRID.size
    assert 1 <= len(lost) <= 2
    asked = queue.requests
    again = run_parts([subject], PARTS[:1], tmp_path, max_tokens=ANSWER).table
    assert set(again["note"]) == {""}
    assert len(again) == again["sample"].n_unique() == GRID.size
    assert queue.requests - asked == 4 * len(lost)
