"""A server that speaks OpenAI's fine-tuning API on the loopback address, with faults on demand.

It keeps files and jobs in memory. A job goes one status further each time it is looked at. A fault is put in a queue
for a route and happens once: "500", "429" (with Retry-After), "cut" (the connection breaks before the request took
effect), "cut after" (it took effect, its answer is lost), "hang" (it took effect, but the answer comes later than a
test's client waits) and "late" (it takes effect when the client has given up).
"""

import asyncio
import itertools
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from http_faults import Serving

STATUSES = ("validating_files", "queued", "running", "succeeded")


@dataclass
class State:
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    events: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    requests: list[str] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    statuses: tuple[str, ...] = STATUSES
    error: dict[str, str] | None = None
    key: str = "test-key"
    numbers: Any = field(default_factory=itertools.count)

    def count(self, request: str) -> int:
        return self.requests.count(request)


class Faults:
    """Around the application: lets requests fail as their route's queue says."""

    def __init__(self, app: ASGIApp, state: State):
        self.app, self.state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        route = f"{scope['method']} {scope['path']}"
        route = next((known for known in self.state.faults if route.endswith(known) or known in route), route)
        self.state.requests.append(f"{scope['method']} {scope['path']}")
        queue = self.state.faults[route]
        fault = queue.pop(0) if queue else None
        if fault == "late":
            body = await receive()
            await asyncio.sleep(0.6)

            async def replay() -> Message:
                """The request as it came before its client went away."""
                return body

            receive = replay
        if fault in ("500", "429"):
            problem = {"error": {"message": f"fault {fault}", "type": "server_error", "code": None, "param": None}}
            headers = {"Retry-After": "0.2"} if fault == "429" else {}
            await JSONResponse(problem, int(fault), headers)(scope, receive, send)
            return
        if fault == "cut":
            await _cut(send)
            return
        if fault in ("cut after", "hang"):

            async def swallow(message: Message) -> None:
                """The answer is lost."""

            await self.app(scope, receive, swallow)
            await asyncio.sleep(0.6 if fault == "hang" else 0)
            await _cut(send)
            return
        await self.app(scope, receive, send)


async def _cut(send: Send) -> None:
    """An answer that ends before its announced length, upon which the server closes the connection."""
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"1000")],
        }
    )
    await send({"type": "http.response.body", "body": b"{"})


def build_app(state: State) -> FastAPI:
    app = FastAPI()

    def failure(status: int, message: str, code: str | None = None) -> JSONResponse:
        return JSONResponse(
            {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}}, status
        )

    @app.middleware("http")
    async def check_key(request: Request, call_next):
        if request.headers.get("authorization") != f"Bearer {state.key}":
            return failure(401, "Incorrect API key provided.", "invalid_api_key")
        return await call_next(request)

    @app.post("/v1/files")
    async def upload(request: Request):
        async with request.form() as form:
            file, purpose = form["file"], form["purpose"]
            assert isinstance(file, UploadFile)
            content = await file.read()
        number = f"file-{next(state.numbers)}"
        state.contents[number] = content
        state.files[number] = {
            "id": number,
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
            "filename": file.filename,
            "purpose": purpose,
            "status": "processed",
        }
        return state.files[number]

    @app.get("/v1/files")
    async def list_files():
        return {"object": "list", "data": list(reversed(state.files.values())), "has_more": False}

    @app.post("/v1/fine_tuning/jobs")
    async def create(request: Request):
        wanted = await request.json()
        if wanted["training_file"] not in state.files:
            return failure(400, f"invalid training_file: {wanted['training_file']}")
        if not wanted["model"].startswith("gpt-"):
            return failure(404, f"The model {wanted['model']} does not exist", "model_not_found")
        number = f"ftjob-{next(state.numbers)}"
        state.jobs[number] = {
            "id": number,
            "object": "fine_tuning.job",
            "created_at": int(time.time()),
            "fine_tuned_model": None,
            "hyperparameters": wanted["method"]["supervised"]["hyperparameters"],
            "organization_id": "org",
            "result_files": [],
            "status": None,
            "error": None,
            "trained_tokens": None,
            **{name: wanted.get(name) for name in ("model", "training_file", "seed", "suffix", "metadata", "method")},
        }
        return look(number)

    @app.get("/v1/fine_tuning/jobs")
    async def list_jobs():
        return {"object": "list", "data": list(reversed(state.jobs.values())), "has_more": False}

    @app.get("/v1/fine_tuning/jobs/{number}")
    async def retrieve(number: str):
        return look(number) if number in state.jobs else failure(404, f"Could not find fine tune: {number}")

    @app.post("/v1/fine_tuning/jobs/{number}/cancel")
    async def cancel(number: str):
        state.jobs[number]["status"] = "cancelled"
        return state.jobs[number]

    @app.get("/v1/fine_tuning/jobs/{number}/events")
    async def events(number: str):
        return {"object": "list", "data": list(reversed(state.events[number])), "has_more": False}

    def look(number: str) -> dict[str, Any]:
        job = state.jobs[number]
        if state.looks[number] < len(state.statuses) and job["status"] != "cancelled":
            job["status"] = state.statuses[state.looks[number]]
            state.looks[number] += 1
            event = {
                "id": f"ftevent-{next(state.numbers)}",
                "object": "fine_tuning.job.event",
                "created_at": int(time.time()),
                "level": "info",
            }
            state.events[number].append({**event, "message": f"now {job['status']}", "type": "message", "data": {}})
        if job["status"] == "succeeded":
            job.update(fine_tuned_model=f"ft:{job['model']}:org:{job['suffix'] or ''}:{number}", trained_tokens=1234)
        if job["status"] in ("failed", "cancelled"):
            job["error"] = state.error
        return job

    return app


class OpenAIServer(Serving):
    """The server in a thread of its own, on a free port; use it with `with`."""

    def __init__(self) -> None:
        self.state = State()
        super().__init__(Faults(build_app(self.state), self.state))
