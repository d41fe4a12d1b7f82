"""Locks of steps in object storage: an object that only one machine can make, and that its holder renews.

    <root>/.locks/<key16>              who holds the lock, and how often it was renewed
    <root>/.locks/<key16>.<hash>       somebody is taking over the lock whose content has this hash

Making is exclusive by the storage itself (on S3 a conditional write, `If-None-Match: *`). A lock that nobody renews is
taken over: no clock of another machine is read for that, since each process measures itself how long it has seen the
same content. A holder that only stalled does its step to the end, which is then done twice; its artifact is whole all
the same (see `mirror`). Reading a lock and then renewing or removing it are two calls: a machine that stalls for longer
than `STALE` just between them takes the lock from who has it by then, and the step may be done once more. Leaves to
others: locks between the processes of one machine (`disk.locked`).
"""

import contextlib
import hashlib
import json
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from astray.artifacts.mirror import Mirror
from astray.errors import StoreError

LOCKS = ".locks"
RENEWED = 30.0
"""Seconds between two renewals of a lock."""
STALE = 300.0
"""Seconds without a renewal after which a lock is taken over."""
_POLL = 2.0
_TRIES = 3

_Result = TypeVar("_Result")

_seen: dict[str, tuple[bytes, float]] = {}
"""Content of others' locks as this process saw it, and since when, by its own clock."""
_exclusive: dict[str, bool] = {}
"""Whether a storage really refuses to make an object twice, by URL."""


@dataclass(frozen=True)
class Holder:
    """Machine that holds the lock of a step.

    Attributes:
        machine: its name.
        held: seconds for which it has held the lock, by the number of renewals.
        silent: seconds since the last renewal, by the clocks of the storage and of this machine; None if not known.
    """

    machine: str
    held: float
    silent: float | None

    @property
    def is_gone(self) -> bool:
        """Return whether a run would take the lock over once it has watched it for `STALE` seconds."""
        return self.silent is not None and self.silent > STALE


def holders(mirror: Mirror) -> dict[str, Holder]:
    """Return who holds the lock of each step that some machine works at, by the digits of its key."""
    return {
        name: Holder(
            (_field(content, "owner").split() or ["an unknown machine"])[0],
            float(_field(content, "renewals") or 0) * RENEWED,
            mirror.age(f"{LOCKS}/{name}"),
        )
        for name, content in mirror.objects(LOCKS).items()
        if "." not in name  # somebody takes over a lock
    }


@contextlib.contextmanager
def locked(mirror: Mirror, digits: str, owner: str, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a step on all machines; yield False if another one holds it and `wait` is false.

    Args:
        mirror: the store.
        digits: first digits of the step's key.
        owner: name of this machine, since it was started, and its cache folder, whose own lock of the step is held: a
            lock in this name was left by a process that was killed.
        wait: whether to wait for it.

    Raises:
        StoreError: the storage cannot be reached.
    """
    lock = _Lock(mirror, f"{LOCKS}/{digits}", owner)
    held = lock.acquire(wait)
    ended = threading.Event()
    renewing = threading.Thread(target=lock.renew, args=(ended,), daemon=True)
    if held and lock.made:
        renewing.start()
    try:
        yield held
    finally:
        if held and lock.made:
            ended.set()
            renewing.join()
            with contextlib.suppress(StoreError):  # a lock that is left is taken over
                lock.release()


@dataclass
class _Lock:
    mirror: Mirror
    name: str
    owner: str
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    renewals: int = 0
    made: bool = False

    @property
    def content(self) -> bytes:
        return json.dumps({"owner": self.owner, "token": self.token, "renewals": self.renewals}).encode()

    def acquire(self, wait: bool) -> bool:
        """Make the lock; return True, too, where the storage cannot exclude others, which a warning tells."""
        while True:
            made = _tried(lambda: self.mirror.create(self.name, self.content))
            if made:
                try:
                    self.made = self._excludes()
                except StoreError:
                    with contextlib.suppress(StoreError):  # a lock that is left is taken over
                        self.release()
                    raise
                return True
            if made is None:
                self._warn_unlocked()
                return True
            if not self._freed():
                if not wait:
                    return False
                time.sleep(_POLL)

    def renew(self, ended: threading.Event) -> None:
        """Renew the lock until its step has ended."""
        while not ended.wait(RENEWED):
            with contextlib.suppress(StoreError):  # the storage may be back the next time
                if not self._is_own(self.mirror.read(self.name)):
                    warnings.warn(
                        f"The lock {self.name} of {self.mirror.url} was not renewed for {STALE:.0f} s and taken over: "
                        "another machine does this step, too. The artifact is whole, whoever ends last.",
                        stacklevel=2,
                    )
                    return
                self.renewals += 1
                self.mirror.write(self.name, self.content)

    def release(self) -> None:
        """Remove the lock, unless it was taken over."""
        if self._is_own(self.mirror.read(self.name)):
            self.mirror.remove(self.name)

    def _is_own(self, content: bytes | None) -> bool:
        """Return whether a lock is this one, whatever number of renewals was stored: a response may be lost."""
        return content is not None and _field(content, "token") == self.token

    def _freed(self) -> bool:
        """Return whether the lock can be tried again at once: it is gone, or was left behind and is now removed."""
        there = _tried(lambda: self.mirror.read(self.name))
        if there is None:
            return True
        if self.owner and _field(there, "owner") == self.owner:
            self.mirror.remove(self.name)
            return True
        return self._unchanged(self.name, there) and self._take_over(there)

    def _take_over(self, there: bytes) -> bool:
        """Remove a stale lock, where no other machine is just doing so."""
        claim = f"{self.name}.{hashlib.sha256(there).hexdigest()[:8]}"
        if not self.mirror.create(claim, self.content):
            if (other := self.mirror.read(claim)) and self._unchanged(claim, other):
                self.mirror.remove(claim)  # who began to take it over is gone, too
            return False
        if self.mirror.read(self.name) == there:
            warnings.warn(
                f"The lock {self.name} of {self.mirror.url}, held by {_field(there, 'owner')!r}, was not renewed for "
                f"{STALE:.0f} s: its step is done here.",
                stacklevel=2,
            )
            self.mirror.remove(self.name)
        self.mirror.remove(claim)
        return True

    def _unchanged(self, name: str, there: bytes) -> bool:
        """Return whether this process has seen the same content for so long that its writer must be gone."""
        place = f"{self.mirror.url}/{name}"
        before, since = _seen.get(place, (b"", 0.0))
        if before != there:
            _seen[place] = (there, time.monotonic())
            return False
        return time.monotonic() - since >= STALE

    def _excludes(self) -> bool:
        """Return whether the storage refuses a second lock; asked once for each storage, with the lock that is held."""
        url = self.mirror.url
        if url not in _exclusive:
            _exclusive[url] = _tried(lambda: self.mirror.create(self.name, self.content + b" ")) is False
            if not _exclusive[url]:
                self._warn_unlocked()
        if not _exclusive[url]:
            self.mirror.remove(self.name)
        return _exclusive[url]

    def _warn_unlocked(self) -> None:
        warnings.warn(
            f"The storage of {self.mirror.url} makes no object exclusively, so two machines may do the same step at the "
            "same time. Use one that does (S3, Google Cloud Storage), with a current fsspec driver.",
            stacklevel=2,
        )


def _tried(call: Callable[[], _Result]) -> _Result:
    """Return the result of a call to the storage, which may be back at the next try."""
    for _ in range(_TRIES - 1):
        try:
            return call()
        except StoreError:
            time.sleep(_POLL)
    return call()


def _field(content: bytes, name: str) -> str:
    try:
        return str(json.loads(content)[name])
    except (ValueError, KeyError, TypeError):
        return ""
