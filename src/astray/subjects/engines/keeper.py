"""Keep one vLLM server of this machine running while any process uses it; run as a program of its own by `lease`.

    python -I keeper.py FOLDER          reads FOLDER/order.json, writes FOLDER/state.json

Users hold a shared lock on FOLDER/lease, which the kernel takes from them however they end. Once nobody holds it, the
server's process group is ended. If the keeper itself is killed, the kernel ends the server. Imports nothing of Astray, so
that it starts at once.
"""

import contextlib
import ctypes
import fcntl
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

TRIES = 3
"""Ports that are tried, each free when it was chosen."""
POLL = 0.2
TAIL = 2000
"""Characters of the log that an error shows."""
LEAVE = 15.0
"""Seconds that a server has to end by itself."""
_TAKEN = ("address already in use", "errno 98", "errno 48")
_DIE_WITH_PARENT = 1


def main(folder: Path) -> None:
    """Start the server, tell how that went, and stop it when nobody uses it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (folder / "keeper").open("w") as own:
        fcntl.flock(own, fcntl.LOCK_EX)
        _tell(folder, status="starting")
        order = json.loads((folder / "order.json").read_text(encoding="utf-8"))
        with (folder / "log").open("ab") as log:
            for attempt in range(1, TRIES + 1):
                process, told = _started(folder, order, log)
                taken = any(word in tail(folder / "log").lower() for word in _TAKEN)
                if told["status"] == "ready" or not taken or attempt == TRIES:
                    break
            _tell(folder, **told)
            with _ended(process):
                if told["status"] != "ready":
                    return
                while process.poll() is None and not _unused(folder):
                    time.sleep(POLL)
                # Told before it ends: who comes now waits, and starts another.
                _tell(folder, status="ended")


def _started(folder: Path, order: dict[str, Any], log: IO[bytes]) -> tuple["subprocess.Popen[bytes]", dict[str, Any]]:
    """Start the server on a free port and wait until it is healthy; return what there is to tell."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A name that no other server has: whoever answers on the port is then known to be this one.
    name = f"{order['name']}-{secrets.token_hex(4)}"
    command = [*order["command"], "--host", "127.0.0.1", "--port", str(port), "--served-model-name", name]
    log.truncate(0)
    process = subprocess.Popen(
        [*command, "--seed", str(secrets.randbelow(1 << 31))],
        env=os.environ | order["environment"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509
    )
    until = time.monotonic() + order["seconds"]
    while process.poll() is None:
        if _serves(port, name):
            return process, {"status": "ready", "address": f"http://127.0.0.1:{port}", "model": name}
        if time.monotonic() > until:
            return process, {"status": "failed", "reason": f"it was not healthy within {order['seconds']:g} seconds"}
        if _unused(folder):
            return process, {"status": "failed", "reason": "nobody waited for it"}
        time.sleep(POLL)
    return process, {"status": "failed", "reason": f"it {_ending(process.returncode)} before it was healthy"}


def _serves(port: int, name: str) -> bool:
    """Return whether a healthy server of this name listens."""
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        for path in ("/health", "/v1/models"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", path)
                answer = connection.getresponse()
                text = answer.read().decode(errors="replace")
                if answer.status != http.HTTPStatus.OK:
                    return False
        return name in text
    return False


def _unused(folder: Path) -> bool:
    """Return whether nobody holds the lease; who comes later waits until this process has ended."""
    lease = os.open(folder / "lease", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lease)
        return False
    return True  # kept open on purpose


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """End the server's process group on exit, its engine processes included."""
    try:
        yield
    finally:
        for number, seconds in ((signal.SIGTERM, LEAVE), (signal.SIGKILL, LEAVE)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    with contextlib.suppress(OSError):
        return log.read_bytes()[-TAIL:].decode(errors="replace").strip()
    return ""


def _tell(folder: Path, **state: object) -> None:
    unfinished = folder / "state.json.new"
    unfinished.write_text(json.dumps(state), encoding="utf-8")
    unfinished.replace(folder / "state.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
