"""Batches from requests that come one by one: wait a moment, take what belongs together, answer it in a thread.

Knows nothing of models or Inspect; the provider uses it. There is no background task: the first request that finds nobody at work
leads, answers a batch that it belongs to, and hands on. A request that is cancelled leaves the others alone.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio
from anyio import to_thread

Request = TypeVar("Request")
Answer = TypeVar("Answer")

QUIET_SECONDS = 0.02
"""A batch closes when no request has come for this long, or when it is full."""


@dataclass(eq=False)
class _Waiting(Generic[Request, Answer]):
    """One request with what became of it; `woken` is set when it is answered or has to lead."""

    request: Request
    key: Hashable
    woken: anyio.Event = field(default_factory=anyio.Event)
    outcome: Answer | Exception | None = None


class Batcher(Generic[Request, Answer]):
    """Answers single requests in batches."""

    def __init__(self, run: Callable[[list[Request]], list[Answer]], size: int) -> None:
        """A batcher.

        Args:
            run: answers a batch, in order; called in a thread, never twice at a time.
            size: most requests in a batch.
        """
        self._run, self._size = run, size
        self._queue: list[_Waiting[Request, Answer]] = []
        self._led = False

    async def submit(self, request: Request, key: Hashable) -> Answer:
        """The answer to one request.

        Args:
            request: what to answer.
            key: only requests with the same key share a batch.

        Raises:
            Exception: what `run` raised for this request.
        """
        waiting: _Waiting[Request, Answer] = _Waiting(request, key)
        self._queue.append(waiting)
        try:
            if self._led:
                await waiting.woken.wait()
            if waiting.outcome is None:
                await self._lead(waiting)
        finally:
            if waiting in self._queue:  # cancelled
                self._queue.remove(waiting)
                if waiting.woken.is_set():
                    self._hand_on()
        if isinstance(waiting.outcome, Exception):
            raise waiting.outcome
        assert waiting.outcome is not None
        return waiting.outcome

    async def _lead(self, leader: _Waiting[Request, Answer]) -> None:
        """Answers the leader and those that share its batch. Shielded: others depend on it, even when the leader's own sample is cancelled."""
        self._led = True
        with anyio.CancelScope(shield=True):
            try:
                await self._until_quiet(leader.key)
                batch = [leader, *(other for other in self._queue if other.key == leader.key and other is not leader)][: self._size]
                self._queue = [other for other in self._queue if other not in batch]
                await to_thread.run_sync(self._answer, batch)
                for answered in batch:
                    answered.woken.set()
            finally:
                self._hand_on()

    async def _until_quiet(self, key: Hashable) -> None:
        gathered, before = self._count(key), 0
        while before < gathered < self._size:
            await anyio.sleep(QUIET_SECONDS)
            gathered, before = self._count(key), gathered

    def _count(self, key: Hashable) -> int:
        return sum(waiting.key == key for waiting in self._queue)

    def _hand_on(self) -> None:
        """Lets the next one in the queue lead."""
        self._led = bool(self._queue)
        if self._queue:
            self._queue[0].woken.set()

    def _answer(self, batch: list[_Waiting[Request, Answer]]) -> None:
        """Answers a batch; when that fails, its halves, so that an error reaches the request it belongs to."""
        try:
            answers = self._run([waiting.request for waiting in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].outcome = error
                return
            self._answer(batch[: len(batch) // 2])
            self._answer(batch[len(batch) // 2 :])
            return
        for waiting, answer in zip(batch, answers, strict=True):
            waiting.outcome = answer
