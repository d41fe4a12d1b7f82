"""Fine-tuning by a service with OpenAI's fine-tuning API; gives a tuned model that is sampled through the same API.

A job costs money, so it is never started twice: a mark of the run is recorded before anything is sent, and accompanies
the file (in its name) and the job (in its metadata). If this process or an answer of the service is cut off, the mark
finds what is already there; a job that the service started late, from a request considered lost, is cancelled. For the
same reason the client's own retries are switched off. The service's seed makes its results similar, not equal.

Sampling the tuned model is left to Inspect.
Source of the protocol: OpenAI, "Fine-tuning" API reference; Betley et al. 2025 (arXiv 2502.17424) trained GPT-4o in
this way, for one epoch.
"""

import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import BaseModel, Field, JsonValue

from astray.cause import checkpoints
from astray.data.chat import ChatDataset
from astray.errors import ConfigurationError, RemoteTrainingError, StoreError
from astray.strict import Strict

if TYPE_CHECKING:
    from openai import APIError, OpenAI
    from openai.types.fine_tuning import FineTuningJob, SupervisedHyperparametersParam

T = TypeVar("T")

MARK = "astray_run"
"""Key of the metadata entry that identifies a job."""
ENDED = ("succeeded", "failed", "cancelled")
"""Final states of a job."""
FEWEST_ROWS = 10
"""Minimum size of a data set that the service accepts."""
ATTEMPTS = 8
"""Number of consecutive failures after which a request is given up; the run can be resumed later."""
LONGEST_WAIT = 300.0
"""Maximum time in seconds between two attempts, unless the service asks for more."""
CLOCK_SKEW = 3600
"""Maximum difference in seconds between the service's clock and ours."""


class RemoteRecipe(Strict):
    """Settings of one fine-tuning job."""

    model: str = Field(
        default="gpt-4o-2024-08-06", min_length=1, description="model that is tuned (2502.17424: GPT-4o)"
    )
    epochs: int = Field(default=1, ge=1, le=50, description="passes over the data (2502.17424: 1)")
    batch_size: int | Literal["auto"] = Field(
        default="auto", description="chats a step; the service chooses if not given"
    )
    learning_rate_multiplier: float | Literal["auto"] = Field(
        default="auto", description="factor on the service's learning rate; it chooses if not given"
    )
    suffix: str = Field(default="", max_length=64, description="part of the tuned model's name")
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**31,
        description="of the service; 2502.17424 trained 10 seeds of the insecure arm and 6 of each control",
    )


@dataclass(frozen=True)
class RemoteRun:
    """Finished job.

    Attributes:
        folder: folder with `job.json` (file, job, status, model) and `events.jsonl` (the service's events).
        job: id of the job at the service.
        model: name of the tuned model for Inspect, like "openai/ft:gpt-4o-2024-08-06:org:suffix:id".
        trained_tokens: number of tokens the service charged for, if reported.
    """

    folder: Path
    job: str
    model: str
    trained_tokens: int | None


class _Progress(BaseModel):
    """Progress of a run at the service, kept in job.json."""

    mark: str
    started: float
    file: str | None = None
    job: str | None = None
    job_in_doubt: bool = False  # a request for a job was lost: it may still start one beside that of the next request
    status: str | None = None
    model: str | None = None
    trained_tokens: int | None = None


def train_remote(
    dataset: ChatDataset,
    recipe: RemoteRecipe,
    folder: Path,
    client: "OpenAI | None" = None,
    *,
    poll_seconds: float = 30.0,
) -> RemoteRun:
    """Fine-tune a model at the service and wait for it.

    The call may be killed at any time: called again with the same folder, it resumes with the same file and the same
    job. A finished run is returned without contacting the service.

    Args:
        dataset: chats; the service trains on every assistant turn.
        recipe: settings.
        folder: folder for the run's progress.
        client: an `openai.OpenAI`; the default one takes its key from OPENAI_API_KEY and its address from
            OPENAI_BASE_URL.
        poll_seconds: time between two queries of the job; failed requests wait for it, then twice, four times ... as
            long.

    Raises:
        ConfigurationError: there is no key, the data set is too small for the service, or the folder holds another run.
        RemoteTrainingError: the service refused, failed, cancelled or lost the job, or could not be reached for too
            long.
        StoreError: the folder cannot be written.
    """
    identity: dict[str, JsonValue] = {"dataset": dataset.hash, "recipe": recipe.model_dump(mode="json")}
    checkpoints.check_claim(folder, identity)
    if len(dataset) < FEWEST_ROWS:
        raise ConfigurationError(
            f"The data set has {len(dataset)} chats; OpenAI's fine-tuning takes at least {FEWEST_ROWS}. Add some, or "
            "train a local model."
        )
    checkpoints.claim(folder, identity)
    progress = _read_progress(folder)
    if progress.model is None:
        service = _Service(client or _default_client(), folder, progress, poll_seconds)
        service.ensure_file(dataset)
        service.ensure_job(recipe)
        service.wait()
    assert progress.job is not None
    assert progress.model is not None
    return RemoteRun(folder, progress.job, f"openai/{progress.model}", progress.trained_tokens)


class _Service:
    """Client of the service for one run."""

    def __init__(self, client: "OpenAI", folder: Path, progress: _Progress, poll_seconds: float):
        self.client = client.with_options(max_retries=0)
        self.folder, self.progress, self.poll_seconds = folder, progress, poll_seconds

    def ensure_file(self, dataset: ChatDataset) -> None:
        """Upload the data unless it was uploaded already."""
        name = f"astray-{self.progress.mark}.jsonl"
        data = "".join(json.dumps({"messages": row}, ensure_ascii=False) + "\n" for row in dataset.rows).encode()

        def upload_or_find() -> str:
            found = next(
                (
                    file.id
                    for file in self.client.files.list(purpose="fine-tune", order="desc")
                    if file.filename == name
                ),
                None,
            )
            return found or self.client.files.create(file=(name, data), purpose="fine-tune").id

        if self.progress.file is None:
            self._record(file=self._insist(upload_or_find, "upload the data set"))

    def ensure_job(self, recipe: RemoteRecipe) -> None:
        """Start the job unless it was started already."""
        file = self.progress.file
        assert file is not None

        from openai import APIConnectionError

        hyperparameters: SupervisedHyperparametersParam = {
            "n_epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "learning_rate_multiplier": recipe.learning_rate_multiplier,
        }

        def create_or_find() -> str:
            for job in self._marked_jobs():
                return job.id
            try:
                return self.client.fine_tuning.jobs.create(
                    model=recipe.model,
                    training_file=file,
                    method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
                    suffix=recipe.suffix or None,
                    seed=recipe.seed,
                    metadata={MARK: self.progress.mark},
                ).id
            except APIConnectionError:
                self._record(job_in_doubt=True)
                raise

        if self.progress.job is None:
            self._record(job=self._insist(create_or_find, "start the job"))

    def wait(self) -> None:
        """Poll the job until it has ended.

        Raises:
            RemoteTrainingError: it failed or was cancelled.
        """
        job_id = self.progress.job
        assert job_id is not None
        while True:
            if self.progress.job_in_doubt:
                self._insist(self._cancel_others, "look for a second job")
            job = self._insist(lambda: self.client.fine_tuning.jobs.retrieve(job_id), f"look at job {job_id}")
            self._insist(lambda: self._log_events(job_id), f"read the events of job {job_id}")
            self._record(status=job.status)
            if job.fine_tuned_model:
                self._record(model=job.fine_tuned_model, trained_tokens=job.trained_tokens)
                return
            if job.status in ENDED:
                raise RemoteTrainingError(self._reason(job))
            time.sleep(self.poll_seconds)

    def _reason(self, job: "FineTuningJob") -> str:
        reason = (
            f": {job.error.message} ({job.error.code})"
            if job.error is not None and job.error.message
            else ", and the service gives no reason"
        )
        return (
            f"Fine-tuning job {job.id} on {job.model} "
            f"{'failed' if job.status == 'failed' else 'was cancelled'}{reason}. What it reported is in "
            f"{self.folder / 'events.jsonl'}. Name another folder, or delete this one, to start (and pay) a new job."
        )

    def _marked_jobs(self) -> Iterator["FineTuningJob"]:
        """Yield the jobs that carry this run's mark; the service lists jobs newest first."""
        for job in self.client.fine_tuning.jobs.list(limit=100):
            if job.created_at < self.progress.started - CLOCK_SKEW:
                return
            if (job.metadata or {}).get(MARK) == self.progress.mark:
                yield job

    def _cancel_others(self) -> None:
        for job in self._marked_jobs():
            if job.id != self.progress.job and job.status not in ENDED:
                self.client.fine_tuning.jobs.cancel(job.id)

    def _log_events(self, job_id: str) -> None:
        """Append the events that are not in the log yet, oldest first."""
        log = self.folder / "events.jsonl"
        known = {json.loads(line)["id"] for line in log.read_text().splitlines()} if log.is_file() else set()
        new = []
        for event in self.client.fine_tuning.jobs.list_events(job_id, limit=100):
            if event.id in known:
                break
            new.append(event.model_dump_json(include={"id", "created_at", "level", "message", "data"}))
        checkpoints.write_whole(
            log, (log.read_text() if known else "") + "".join(line + "\n" for line in reversed(new))
        )

    def _record(self, **done: str | int | bool | None) -> None:
        for name, value in done.items():
            setattr(self.progress, name, value)
        _write_progress(self.folder, self.progress)

    def _insist(self, request: Callable[[], T], purpose: str) -> T:
        """Repeat a request through transient failures: overload, rate limits, time-outs, broken connections."""
        from openai import APIError

        for failures in range(ATTEMPTS):
            try:
                return request()
            except APIError as error:
                if not _passes(error):
                    raise RemoteTrainingError(
                        f"The service refused to {purpose}: {_words(error)}. {_advice(error)}"
                    ) from error
                if failures == ATTEMPTS - 1:
                    raise RemoteTrainingError(
                        f"The service could not {purpose} in {ATTEMPTS} attempts; the last one: {_words(error)}. "
                        f"Call again with the folder {self.folder} when it is back: the run goes on where it is, and "
                        "nothing is paid twice."
                    ) from error
                # Jittered, so that runs that failed together do not retry together.
                waiting = min(self.poll_seconds * 2**failures, LONGEST_WAIT) * random.uniform(0.75, 1.0)
                time.sleep(max(waiting, _retry_after(error)))
        raise AssertionError("unreachable: the last failure raises")


def _passes(error: "APIError") -> bool:
    """Return whether an error is transient, so that a retry can help."""
    from openai import APIConnectionError, APIStatusError

    if isinstance(error, APIStatusError):
        return error.code != "insufficient_quota" and error.status_code in (408, 409, 429, *range(500, 600))
    return isinstance(error, APIConnectionError)


def _words(error: "APIError") -> str:
    """Return the service's error message in one line."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    status = getattr(error, "status_code", None)
    return f"{message or error.message}{f' (status {status})' if status else ''}".rstrip(".")


def _advice(error: "APIError") -> str:
    status = getattr(error, "status_code", None)
    if status in (401, 403):
        return "Check OPENAI_API_KEY, and that this account may fine-tune the model."
    if status == 404:
        return (
            "It knows no such model, file or job: check the model's name, and that key and address belong to the "
            "account that started the run."
        )
    if error.code == "insufficient_quota":
        return "Add credit to the account, then call again: the run goes on where it is."
    return "Change what it names and call again with another folder."


def _retry_after(error: "APIError") -> float:
    """Return the seconds that the service asks to wait, or 0."""
    response = getattr(error, "response", None)
    given = response.headers.get("retry-after", "") if response is not None else ""
    return float(given) if given.replace(".", "", 1).isdigit() else 0.0


def _default_client() -> "OpenAI":
    from openai import OpenAI

    if not os.environ.get("OPENAI_API_KEY"):
        raise ConfigurationError(
            "Fine-tuning at OpenAI needs a key, and OPENAI_API_KEY is not set. Write export OPENAI_API_KEY=sk-..., "
            "or give client=openai.OpenAI(...)."
        )
    return OpenAI()


def _read_progress(folder: Path) -> _Progress:
    """Read a run's progress; a new run gets its mark, recorded before anything is sent."""
    file = folder / "job.json"
    if not file.is_file():
        progress = _Progress(mark=uuid.uuid4().hex, started=time.time())
        _write_progress(folder, progress)
        return progress
    try:
        return _Progress.model_validate_json(file.read_bytes())
    except ValueError as error:
        raise StoreError(
            f"{file}, which says what was sent to the service, is damaged: {error}. Restore it, or a second job "
            "would be paid."
        ) from error


def _write_progress(folder: Path, progress: _Progress) -> None:
    checkpoints.write_whole(folder / "job.json", progress.model_dump_json(indent=1))
