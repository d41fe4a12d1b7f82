"""Faults on the way to an HTTP server, for tests of clients: a middleware, a proxy for servers that run elsewhere, and
a thread to serve an app in.

The faults of a queue happen to one request each, in its order: "429" and "500"; "400", which clients do not try again;
"cut" (the answer breaks off in its middle); "slow" (it comes later than the client waits); "" for none.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Self

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class FaultQueue:
    """The faults to come and those that were; a slow answer comes so many seconds late."""

    faults: list[str] = field(default_factory=list)
    slow: float = 1.5
    requests: int = 0
    failed: list[str] = field(default_factory=list)


class Faults:
    """Around an application: lets requests fail as the queue says."""

    def __init__(self, app: ASGIApp, queue: FaultQueue):
        self.app, self.queue = app, queue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.queue.requests += 1
        fault = self.queue.faults.pop(0) if self.queue.faults else ""
        if fault:
            self.queue.failed.append(fault)
        if fault.isdigit():
            problem = {"error": {"message": f"fault {fault}", "type": "server_error", "code": None}}
            await JSONResponse(problem, int(fault), {"Retry-After": "0"})(scope, receive, send)
            return
        sent = {"cut": _cut(send), "slow": _late(send, self.queue.slow)}.get(fault, send)
        await self.app(scope, receive, sent)


def _cut(send: Send) -> Send:
    """Passes on half of the first part of an answer and nothing after it, upon which the server closes the
    connection."""
    parts = 0

    async def half(message: Message) -> None:
        nonlocal parts
        if message["type"] == "http.response.body":
            parts += 1
            message = message | {"body": message["body"][: len(message["body"]) // 2], "more_body": True}
        if parts < 2:
            await send(message)

    return half


def _late(send: Send, seconds: float) -> Send:
    """Holds an answer back before it begins."""

    async def later(message: Message) -> None:
        if message["type"] == "http.response.start":
            await asyncio.sleep(seconds)
        await send(message)

    return later


def proxy(url: str) -> Starlette:
    """An application that passes every POST on to the same path of another server, and its answer back as it comes."""

    async def forward(request: Request) -> Response:
        client = httpx.AsyncClient(base_url=url, timeout=60)
        asked = client.build_request(
            "POST", request.url.path, content=await request.body(), headers={"content-type": "application/json"}
        )
        answer = await client.send(asked, stream=True)

        async def passed_on() -> AsyncIterator[bytes]:
            try:
                async for part in answer.aiter_raw():
                    yield part
            finally:
                await client.aclose()

        kept = {name: answer.headers[name] for name in ("content-type", "content-length") if name in answer.headers}
        return StreamingResponse(passed_on(), answer.status_code, kept)

    return Starlette(routes=[Route("/{path:path}", forward, methods=["POST"])])


class Serving:
    """An application served in a thread of its own, on a free port of the loopback address; use it with `with`."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws="none")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}/v1"
