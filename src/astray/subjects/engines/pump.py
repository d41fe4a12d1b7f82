"""Many requests to one or several servers: as many at once as they say that they can take, none lost, none twice.

An answer counts when a proof of the served weights has passed before it was asked for and again after it came (`Lane.confirm`).
Answers of a server that was lost in between are asked again. Left to others: what is asked and what becomes of it.
"""

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import httpx

from astray.errors import EngineError
from astray.subjects.engines.client import LONG, Load, NotServedError, Server, ServerDownError, checked

FEWEST, MOST = 16, 4096
"""Requests at once: at first where a server says nothing of itself, and at most."""
CONFIRM_EVERY, CONFIRM_SECONDS = 256, 10.0
"""Answers, or seconds with any, after which the served weights are proven again."""
CONFIRM_LAST = 60.0
"""Seconds until they are proven again once nothing more is to be asked: the proof at the end comes soon."""
CONFIRM_PAUSE = 30.0
"""Times as long as a proof took until the next one: a slow server works on answers, and not on proofs."""
CLIENTS = 16
"""Pools of connections that requests are spread over: what a pool does for a request grows with its other requests."""
LOOK = 1.0
"""Seconds between looks at a server's work."""
FAILURES = 6
"""Failures in a row, with none that succeeded in between, after which a server is recovered, and then given up."""
PAUSE = 0.25
"""Seconds of the first pause after a failure; each further one is twice as long."""


@dataclass
class Job:
    """One request.

    Attributes:
        key: by which its result is kept.
        body: of the request, but for the model's name.
        length: tokens that it takes up at most.
        read: makes the result of the choice.
    """

    key: str
    body: Mapping[str, Any]
    length: int
    read: Callable[[Mapping[str, Any]], Any]


@runtime_checkable
class Lane(Protocol):
    """A server with the weights that are asked."""

    @property
    def server(self) -> Server:
        """Return its client."""
        ...

    @property
    def model(self) -> str:
        """Return the name of the weights at the server."""
        ...

    @property
    def proven_at(self) -> float:
        """Return when the weights were last proven, by the monotonic clock."""
        ...

    def prepare(self) -> None:
        """Make the server serve the weights, and prove that it does; again after it was lost."""
        ...

    def confirm(self) -> None:
        """Prove it once more."""
        ...


@dataclass
class _Flow:
    """What is under way at one server."""

    lane: Lane
    limit: int = FEWEST
    busy: dict[asyncio.Task[Any], Job] = field(default_factory=dict)
    unconfirmed: list[tuple[Job, Any]] = field(default_factory=list)
    confirming: asyncio.Task[None] | None = None
    settled: list[tuple[Job, Any]] = field(default_factory=list)
    failures: int = 0
    recovered: int = 0
    confirmed_at: float = 0.0
    proof_took: float = 0.0
    looked_at: float = 0.0


def pump(lanes: Sequence[Lane], jobs: Iterable[Job], done: Callable[[Job, Any], None]) -> None:
    """Run jobs, and hand on each result once it is confirmed.

    Args:
        lanes: servers that hold the same weights.
        jobs: requests, in the order in which they are made.
        done: called once for each job, in the order in which they are confirmed.

    Raises:
        EngineError: a server is lost for good, or refuses a request.
        ProofError: a server does not hold the weights; nothing unconfirmed was handed on.
    """
    waiting = deque(jobs)

    async def all_lanes() -> None:
        flows = [_Flow(lane) for lane in lanes[: max(1, len(waiting))]]
        async with asyncio.TaskGroup() as group:
            for flow in flows:
                group.create_task(_drive(flow, waiting, done))

    try:
        asyncio.run(all_lanes())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _drive(flow: _Flow, waiting: deque[Job], done: Callable[[Job, Any], None]) -> None:
    """Keep one server busy until no job is left."""
    lane = flow.lane
    if time.monotonic() > lane.proven_at + CONFIRM_SECONDS:
        await _prepare(flow)
    flow.confirmed_at = lane.proven_at
    async with contextlib.AsyncExitStack() as stack:
        clients = itertools.cycle([await stack.enter_async_context(one) for one in _clients(lane.server)])
        flow.limit = _limit(flow, await asyncio.to_thread(lane.server.load), waiting)
        try:
            while waiting or flow.busy or flow.unconfirmed or flow.confirming:
                while waiting and len(flow.busy) < flow.limit:
                    job = waiting.popleft()
                    flow.busy[asyncio.create_task(_asked(next(clients), lane, job))] = job
                if _is_due(flow, waiting):
                    flow.settled, flow.unconfirmed = flow.unconfirmed, []
                    flow.confirming = asyncio.create_task(asyncio.to_thread(_confirm, flow))
                if lost := await _collect(flow, waiting, done):
                    await _recover(flow, waiting, lost)
                if time.monotonic() > flow.looked_at + LOOK and len(flow.busy) >= flow.limit:
                    flow.looked_at = time.monotonic()
                    flow.limit = _limit(flow, await asyncio.to_thread(lane.server.load), waiting)
        finally:
            await _stop(flow)


def _clients(server: Server) -> list[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    context = httpx.create_ssl_context(trust_env=False)  # made once: it takes longer than all else of a client
    return [
        httpx.AsyncClient(headers=server.headers, timeout=LONG, limits=limits, verify=context, trust_env=False)
        for _ in range(CLIENTS)
    ]


async def _prepare(flow: _Flow) -> None:
    """Have the weights served and proven; what fails in passing is tried again."""
    for attempt in range(FAILURES):
        try:
            await asyncio.to_thread(flow.lane.prepare)
        except (ServerDownError, NotServedError) as error:
            if attempt == FAILURES - 1:
                raise EngineError(f"The server {flow.lane.server.address} cannot be used: {error}.") from error
            await asyncio.sleep(PAUSE * 2**attempt)
        else:
            flow.confirmed_at = time.monotonic()
            return


def _is_due(flow: _Flow, waiting: Sequence[Job]) -> bool:
    """Return whether what has come is to be confirmed now."""
    if flow.confirming or not flow.unconfirmed:
        return False
    if not flow.busy:
        return True
    since = time.monotonic() - flow.confirmed_at
    due = since > CONFIRM_SECONDS or len(flow.unconfirmed) >= CONFIRM_EVERY if waiting else since > CONFIRM_LAST
    return due and since > CONFIRM_PAUSE * flow.proof_took


def _confirm(flow: _Flow) -> None:
    began = time.monotonic()
    flow.lane.confirm()
    flow.proof_took = time.monotonic() - began


async def _stop(flow: _Flow) -> None:
    tasks = [*flow.busy, *([flow.confirming] if flow.confirming else [])]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _asked(client: httpx.AsyncClient, lane: Lane, job: Job) -> Any:
    model, server = lane.model, lane.server
    try:
        answer = await client.post(f"{server.address}/v1/completions", json={**job.body, "model": model})
    except httpx.HTTPError as error:
        raise ServerDownError(f"{type(error).__name__}: {error}") from error
    return job.read(checked(answer, model))


async def _collect(flow: _Flow, waiting: deque[Job], done: Callable[[Job, Any], None]) -> Exception | None:
    """Take what has come, hand on what is confirmed, put back what failed, and return the failure if there is one."""
    tasks: set[asyncio.Task[Any]] = {*flow.busy, *([flow.confirming] if flow.confirming else [])}
    if not tasks:
        return None
    finished, _ = await asyncio.wait(tasks, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
    lost: Exception | None = None
    for task in finished:
        job = flow.busy.pop(task, None)
        try:
            result = task.result()
        except (ServerDownError, NotServedError) as error:
            lost = error
            waiting.extendleft([job] if job else [each for each, _ in flow.settled])
        else:
            if job:
                flow.unconfirmed.append((job, result))
                flow.failures = 0
            else:
                for settled, value in flow.settled:
                    done(settled, value)
                flow.confirmed_at, flow.recovered = time.monotonic(), 0
        if job is None:
            flow.confirming, flow.settled = None, []
    return lost


async def _recover(flow: _Flow, waiting: deque[Job], error: Exception) -> None:
    """Wait, and have the server prepared again where it was lost."""
    flow.failures += 1
    if isinstance(error, ServerDownError) and flow.failures < FAILURES:
        await asyncio.sleep(PAUSE * 2 ** min(flow.failures - 1, 4))
        if await asyncio.to_thread(_is_there, flow.lane):
            return
    if flow.recovered == FAILURES or flow.failures > 2 * FAILURES:
        raise EngineError(
            f"The server {flow.lane.server.address} was lost {flow.recovered} times ({error}). What was answered is kept: "
            "run the same again."
        )
    # What has come since the last proof goes with the server that gave it.
    await _stop(flow)
    waiting.extendleft([*flow.busy.values(), *(job for job, _ in (*flow.unconfirmed, *flow.settled))])
    for jobs in (flow.busy, flow.unconfirmed, flow.settled):
        jobs.clear()
    flow.confirming = None
    flow.recovered += 1
    await _prepare(flow)


def _is_there(lane: Lane) -> bool:
    try:
        return lane.model in lane.server.models()
    except (ServerDownError, NotServedError):
        return False


def _limit(flow: _Flow, load: Load | None, waiting: Sequence[Job]) -> int:
    """Return how many requests are to be under way: some more than the server works on, so that it never waits for us."""
    if load is None:
        return max(flow.limit, FEWEST)
    if not flow.busy:
        longest = max((job.length for job in waiting), default=1)
        return min(MOST, max(FEWEST, load.tokens // longest))
    if load.waiting == 0:
        return min(MOST, 2 * flow.limit)
    return min(MOST, max(FEWEST, load.running + max(FEWEST, load.running // 4)))
