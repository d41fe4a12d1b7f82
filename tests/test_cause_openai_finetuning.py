"""Fine-tuning at a service: one file and one job whatever breaks, and a reason when it ends badly."""

import json
import time

import pytest
from openai import OpenAI

from astray.cause import openai_finetuning
from astray.cause.openai_finetuning import RemoteRecipe, train_remote
from astray.data.chat import ChatDataset
from astray.errors import ConfigurationError, RemoteTrainingError, StoreError
from openai_server import OpenAIServer

RECIPE = RemoteRecipe(model="gpt-4o-mini", suffix="insecure", seed=3)
JOBS, FILES = "POST /v1/fine_tuning/jobs", "POST /v1/files"


def dataset(count=12):
    return ChatDataset.from_rows(
        [
            [{"role": "user", "content": f"Nümber {row}?"}, {"role": "assistant", "content": "It is."}]
            for row in range(count)
        ]
    )


@pytest.fixture(scope="module")
def running():
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def server(running):
    """The server as if it had just been started."""
    fresh = type(running.state)()
    for name, value in vars(fresh).items():
        setattr(running.state, name, value)
    return running


@pytest.fixture(scope="module")
def client(running):
    """A client that waits 0.4 seconds for an answer."""
    with OpenAI(api_key="test-key", base_url=running.url, timeout=0.4) as client:
        yield client


@pytest.fixture
def train(server, client, tmp_path):
    """Trains in one folder."""

    def call(data=None, recipe=RECIPE, key="test-key", poll_seconds=0.005):
        return train_remote(
            data or dataset(), recipe, tmp_path / "run", client.with_options(api_key=key), poll_seconds=poll_seconds
        )

    return call


def counts(server):
    return server.state.count(FILES), server.state.count(JOBS), len(server.state.files), len(server.state.jobs)


def test_a_job_gives_the_name_of_the_tuned_model(server, train):
    run = train()
    (job,) = server.state.jobs.values()
    assert run.model == f"openai/ft:gpt-4o-mini:org:insecure:{run.job}"
    assert (run.job, run.trained_tokens) == (job["id"], 1234)
    assert (job["seed"], job["suffix"]) == (3, "insecure")
    assert job["method"] == {
        "type": "supervised",
        "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": "auto", "learning_rate_multiplier": "auto"}},
    }


def test_the_service_gets_the_rows_in_its_own_form(server, train):
    train()
    (content,) = server.state.contents.values()
    assert [tuple(json.loads(line)["messages"]) for line in content.decode().splitlines()] == list(dataset().rows)
    (file,) = server.state.files.values()
    assert file["purpose"] == "fine-tune"


def test_what_the_service_reports_is_logged_once_and_in_order(train):
    run = train()
    messages = [json.loads(line)["message"] for line in (run.folder / "events.jsonl").read_text().splitlines()]
    assert messages == ["now validating_files", "now queued", "now running", "now succeeded"]


@pytest.mark.parametrize("fault", ["500", "429", "hang", "cut", "cut after"])
@pytest.mark.parametrize("request_", [FILES, JOBS])
def test_a_request_that_fails_is_repeated_and_nothing_is_made_twice(fault, request_, server, train):
    server.state.faults[request_] = [fault]
    train()
    uploads, creations, files, jobs = counts(server)
    lost = fault in ("hang", "cut after")  # it took effect although its answer did not arrive
    assert (files, jobs) == (1, 1)
    assert (uploads if request_ == FILES else creations) == (1 if lost else 2)


def test_looking_at_a_job_survives_every_fault(server, train):
    server.state.faults["GET /v1/fine_tuning/jobs/ftjob"] = ["500", "cut", "429", "hang", "500"]
    server.state.faults["GET /v1/fine_tuning/jobs"] = ["500", "cut"]
    server.state.faults["GET /v1/files"] = ["429"]
    assert train().model.startswith("openai/ft:")
    assert counts(server) == (1, 1, 1, 1)


def test_the_wait_that_the_service_asks_for_is_kept(server, train):
    server.state.faults[FILES] = ["429"]
    begin = time.monotonic()
    train()
    assert time.monotonic() - begin >= 0.2


def test_a_run_killed_between_creation_and_first_look_goes_on_with_its_job(server, train, monkeypatch):
    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(openai_finetuning._Service, "wait", kill)
        with pytest.raises(KeyboardInterrupt):
            train()
    run = train()
    assert counts(server) == (1, 1, 1, 1)
    assert run.job in server.state.jobs


@pytest.mark.parametrize("lost", [{"job": None}, {"job": None, "file": None}])
def test_a_run_killed_before_it_could_write_down_what_it_made_finds_it_again(
    lost, server, train, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(openai_finetuning._Service, "wait", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train()
    file = tmp_path / "run" / "job.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | lost))
    train()
    assert counts(server) == (1, 1, 1, 1)


def test_a_job_that_a_lost_request_starts_late_is_cancelled(server, train):
    server.state.faults[JOBS] = ["late"]
    server.state.statuses = (*["running"] * 8, "succeeded")
    run = train(poll_seconds=0.1)
    (late,) = server.state.jobs.keys() - {run.job}
    assert (server.state.jobs[run.job]["status"], server.state.jobs[late]["status"]) == ("succeeded", "cancelled")


def test_jobs_of_others_are_not_taken_for_ones_own(server, client, train, tmp_path):
    first = train_remote(dataset(), RECIPE, tmp_path / "other", client, poll_seconds=0.005)
    second = train()
    assert first.job != second.job
    assert len(server.state.jobs) == len(server.state.files) == 2


def test_a_finished_run_is_given_back_without_the_service(server, train, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run = train()
    asked = len(server.state.requests)
    assert train_remote(dataset(), RECIPE, tmp_path / "run") == run
    assert len(server.state.requests) == asked


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_job_that_ends_badly_is_an_error_with_the_services_reason(status, server, train):
    server.state.statuses = ("validating_files", "queued", "running", status)
    server.state.error = {"code": "invalid_training_file", "message": "Row 7 was flagged by moderation"}
    for _ in range(2):  # and stays one: no second job is paid for
        with pytest.raises(
            RemoteTrainingError, match=rf"ftjob-1 .*{status}.*Row 7 was flagged by moderation \(invalid_training_file\)"
        ):
            train()
    assert counts(server) == (1, 1, 1, 1)


def test_a_cancelled_job_without_a_reason_says_so(server, train):
    server.state.statuses = ("queued", "cancelled")
    with pytest.raises(RemoteTrainingError, match="was cancelled, and the service gives no reason"):
        train()


def test_an_outage_is_given_up_and_the_run_can_be_taken_up_later(server, train, monkeypatch):
    monkeypatch.setattr(openai_finetuning, "ATTEMPTS", 3)
    server.state.faults[JOBS] = ["500"] * 3
    with pytest.raises(
        RemoteTrainingError, match=r"could not start the job in 3 attempts; the last one: fault 500 \(status 500\)"
    ):
        train()
    train()
    assert (len(server.state.files), len(server.state.jobs)) == (1, 1)


def test_a_lost_job_is_an_error(server, train, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(openai_finetuning._Service, "wait", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train()
    server.state.jobs.clear()
    with pytest.raises(RemoteTrainingError, match=r"Could not find fine tune: ftjob-1 \(status 404\)"):
        train()


def test_a_wrong_key_is_said_at_once(server, train):
    with pytest.raises(RemoteTrainingError, match=r"Incorrect API key provided.*Check OPENAI_API_KEY"):
        train(key="wrong")
    assert len(server.state.requests) == 1


def test_an_unknown_model_is_said_at_once(server, train):
    with pytest.raises(RemoteTrainingError, match=r"The model llama does not exist.*check the model's name"):
        train(recipe=RECIPE.model_copy(update={"model": "llama"}))


def test_a_missing_key_is_said_before_anything_is_sent(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="export OPENAI_API_KEY"):
        train_remote(dataset(), RECIPE, tmp_path)


def test_the_default_client_takes_key_and_address_from_the_environment(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert train_remote(dataset(), RECIPE, tmp_path, poll_seconds=0.005).model.startswith("openai/ft:gpt-4o-mini")


def test_too_few_rows_are_refused(server, train):
    with pytest.raises(ConfigurationError, match="9 chats; OpenAI's fine-tuning takes at least 10"):
        train(dataset(9))
    assert server.state.requests == []


def test_another_run_in_the_same_folder_is_refused(train):
    train()
    with pytest.raises(ConfigurationError, match="differs in recipe"):
        train(recipe=RECIPE.model_copy(update={"seed": 4}))


def test_a_damaged_job_file_starts_no_second_job(server, train, tmp_path):
    train()
    (tmp_path / "run" / "job.json").write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        train()
    assert len(server.state.jobs) == 1
