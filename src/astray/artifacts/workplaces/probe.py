"""A look at the store from another machine, before the first step runs there."""

import contextlib
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from astray.artifacts.disk import explained, locked, no_link
from astray.artifacts.store import Store
from astray.errors import StoreError

PROBES = ".probes"
_PATIENCE = 60.0
"""Seconds until a file must be seen on every node; network file systems keep what they know of a folder for so long."""


@dataclass(frozen=True)
class Probe:
    """A look at the store from a node, while the driver holds a lock in it.

    Attributes:
        root: of the store, as the driver reaches it.
        folder: for probes, in the store's folder.
        token: name of the file that the driver wrote there; its lock has the same name and `.lock`.
        wait: seconds until the file must be seen.
    """

    root: str
    folder: str
    token: str
    wait: float = _PATIENCE

    def __call__(self) -> str:
        """Return what is wrong with the store here, or ""."""
        node = socket.gethostname()
        if "://" in self.root:
            try:
                Store(self.root).by_digits()
            except StoreError as error:
                return f"on the node {node}: {error}"
            return ""
        folder, end = Path(self.folder), time.monotonic() + self.wait
        while not (folder / self.token).is_file():
            if time.monotonic() > end:
                return f"the node {node} does not see what was written to it"
            time.sleep(0.5)
        mine = folder / f"{self.token}.{node}.{secrets.token_hex(4)}"  # several nodes may share a host and its name
        try:
            mine.write_text(node, encoding="utf-8")
            mine.unlink()
        except OSError as error:
            return f"the node {node} cannot write to it: {error.strerror}"
        with locked(folder / f"{self.token}.lock", folder, wait=False) as held:
            if held:
                return (
                    f"a lock that this machine holds is not seen on the node {node}, so two machines could do the same "
                    "step (a mount with `localflock` or without `flock`)"
                )
        return ""


@contextlib.contextmanager
def probing(store: Store) -> Iterator[Probe]:
    """Prepare what a probe looks for, and hold its lock meanwhile."""
    folder, token = no_link(store.folder / PROBES), secrets.token_hex(8)
    with explained(store.folder, every_error=True):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / token).write_text(token, encoding="utf-8")
    try:
        with locked(folder / f"{token}.lock", store.folder, wait=True):
            yield Probe(store.root if store.mirror else str(store.folder), str(folder), token)
    finally:
        (folder / token).unlink(missing_ok=True)
