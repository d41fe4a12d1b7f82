"""Cache of a step's costly calls in its folder, so that a resumed step asks nothing twice.

    with keeping(folder / "asked.jsonl"):
        ...                     graders reply, the model answers
    key = key_of("answers", subject.id, prompts)
    value = kept(key)           what the call gave in an earlier attempt; None for a call that was never finished

Verdicts of a judge are kept for all steps of a store in this way. Nothing is kept outside of such a context. Left to
others: which calls are kept, and what their keys consist of: everything that can change what the call gives.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any


class Keeper:
    """Results of calls by key, in a file that grows by a line a call; several processes may share it."""

    def __init__(self, file: Path) -> None:
        """Read what earlier attempts kept; a last line that a kill cut off is dropped."""
        self.file, self._lock = file, threading.Lock()
        self._known: dict[str, Any] = {}
        self._read = 0
        # What a kill cut off is ended by the next line, and is then a damaged line like any other.
        self._lead = "\n" if self._catch_up() else ""

    def find(self, key: str) -> Any:
        """Return the result of the call with this key, from any process; None if it never finished."""
        if key not in self._known:
            with self._lock:
                self._catch_up()
        return self._known.get(key)

    def keep(self, key: str, value: Any) -> None:
        """Store the result of a finished call, as JSON."""
        line = json.dumps({"key": key, "value": value})
        with self._lock, self.file.open("a", encoding="utf-8") as file:
            file.write(f"{self._lead}{line}\n")  # one write, so that lines of several processes do not mix
            self._lead = ""
            self._known[key] = json.loads(line)["value"]

    def _catch_up(self) -> bytes:
        """Read the lines that were added, and return what stands after the last whole one."""
        if not self.file.is_file() or self.file.stat().st_size <= self._read:
            return b""
        with self.file.open("rb") as file:
            file.seek(self._read)
            whole, end, rest = file.read().rpartition(b"\n")
        self._read += len(whole) + len(end)
        for line in whole.splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):  # a damaged line costs its call and no other
                content = json.loads(line)
                self._known[str(content["key"])] = content["value"]
        return rest


_CURRENT: ContextVar[Keeper | None] = ContextVar("keeper", default=None)


@contextlib.contextmanager
def keeping(file: Path) -> Iterator[None]:
    """Keep calls in a file while the context lasts."""
    token = _CURRENT.set(Keeper(file))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def is_keeping() -> bool:
    """Return whether calls are kept."""
    return _CURRENT.get() is not None


def kept_in() -> Path | None:
    """Return the file in which calls are kept; None where they are not."""
    keeper = _CURRENT.get()
    return keeper.file if keeper else None


def kept(key: str) -> Any:
    """Return the result of the call with this key in this step; None if it never finished, or nothing is kept."""
    keeper = _CURRENT.get()
    return keeper.find(key) if keeper else None


def keep(key: str, value: Any) -> None:
    """Store the result of a finished call, if calls are kept."""
    if keeper := _CURRENT.get():
        keeper.keep(key, value)


def key_of(*parts: object) -> str:
    """Return the key of a call: a hash over everything that can change its result."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
