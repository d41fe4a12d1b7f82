"""Dynamic batching of requests that arrive one by one: wait briefly, collect matching ones, answer them in a thread.

Independent of models and of Inspect; the provider uses it. There is no background task: the first request that finds no
leader leads, answers a batch that contains it, and passes the lead on. A cancelled request leaves the others
unaffected.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio
from anyio import to_thread

Request = TypeVar("Request")
Answer = TypeVar("Answer")

QUIET_SECONDS = 0.02
"""Time in seconds without a new request after which a batch closes; a full batch closes at once."""


@dataclass(eq=False)
class _Waiting(Generic[Request, Answer]):
    """One request with its outcome; `woken` is set when it is answered or has to lead."""

    request: Request
    key: Hashable
    woken: anyio.Event = field(default_factory=anyio.Event)
    outcome: Answer | Exception | None = None


class Batcher(Generic[Request, Answer]):
    """Service that answers single requests in batches."""

    def __init__(self, run: Callable[[list[Request]], list[Answer]], size: int) -> None:
        """Create a batcher.

        Args:
            run: answers a batch, in order; called in a thread, never concurrently.
            size: maximum number of requests in a batch.
        """
        self._run, self._size = run, size
        self._queue: list[_Waiting[Request, Answer]] = []
        self._led = False

    async def submit(self, request: Request, key: Hashable) -> Answer:
        """Return the answer to one request.

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
        """Answer the leader and the requests that share its batch."""
        self._led = True
        # Shielded: the other requests depend on this one, even when the leader's own sample is cancelled.
        with anyio.CancelScope(shield=True):
            try:
                await self._until_quiet(leader.key)
                batch = [leader, *(other for other in self._queue if other.key == leader.key and other is not leader)][
                    : self._size
                ]
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
        """Pass the lead to the next request in the queue."""
        self._led = bool(self._queue)
        if self._queue:
            self._queue[0].woken.set()

    def _answer(self, batch: list[_Waiting[Request, Answer]]) -> None:
        """Answer a batch; if that fails, answer its halves, so that an error reaches the request that caused it."""
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
