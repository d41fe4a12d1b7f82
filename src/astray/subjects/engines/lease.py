"""Leases on vLLM servers of this machine: the first process that needs one has it started, the last that leaves ends it.

All processes of a user share a server of the same base, format, rank and GPU. A process keeps its leases until it ends or
loads a model onto a GPU itself (`release`), which the server would fill. Left to others: running the server (`keeper`).
"""

import contextlib
import fcntl
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from astray.errors import EngineError
from astray.subjects.engines import keeper
from astray.subjects.gpu import LEAVING
from astray.subjects.identity import digest_of

SECONDS, ARGUMENTS = "ASTRAY_VLLM_SECONDS", "ASTRAY_VLLM_ARGS"
"""Variables with the time in which a server has to be healthy, and with further arguments of `vllm serve`."""
USUAL_SECONDS = 900.0
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of adapters that vLLM can be started for."""
ADAPTERS, ADAPTERS_BESIDE = 4, 16
"""Adapters that one batch may mix, and that are kept beside."""
_ON_CPU = b"device_config=cpu"
_POLL = 0.1
_ENDING, _LISTENS = 60.0, 5.0


@dataclass(frozen=True)
class Wanted:
    """Server that is needed.

    Attributes:
        folder: of the model's files.
        name: by content.
        dtype: number format of the weights.
        rank: largest rank of adapters; 0 for a server without adapters.
        gpu: number of its GPU; "" on a machine without.
    """

    folder: Path
    name: str
    dtype: str
    rank: int = 0
    gpu: str = ""

    def order(self) -> dict[str, Any]:
        """Return the command for the keeper."""
        command = ["vllm", "serve", str(self.folder), "--dtype", self.dtype]
        # Without it the model's generation_config would set temperatures and penalties that nobody asked for.
        command += ["--generation-config", "vllm"]
        if self.rank:
            command += ["--enable-lora", "--max-lora-rank", str(next(r for r in RANKS if r >= self.rank))]
            command += ["--max-loras", str(ADAPTERS), "--max-cpu-loras", str(ADAPTERS_BESIDE)]
        environment = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
        environment |= {"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu else {}
        return {
            "name": self.name,
            "command": [*command, *shlex.split(os.environ.get(ARGUMENTS, ""))],
            "environment": environment,
            "seconds": float(os.environ.get(SECONDS, USUAL_SECONDS)),
        }

    @property
    def home(self) -> Path:
        """Return the folder of this server, with its log."""
        return Path(tempfile.gettempdir()) / f"astray-engines-{os.getuid()}" / digest_of(self.order())

    @property
    def was_on_cpu(self) -> bool:
        """Return whether the server that was last started for this is one of vLLM's build for CPUs, by its log."""
        with contextlib.suppress(OSError):
            return _ON_CPU in (self.home / "log").read_bytes()
        return False


@dataclass(frozen=True)
class Running:
    """Server that is healthy.

    Attributes:
        address: without `/v1`.
        model: name of its base.
        folder: with its log.
    """

    address: str
    model: str
    folder: Path

    @property
    def log(self) -> str:
        """Return the last lines of its log."""
        return keeper.tail(self.folder / "log")


_HELD: dict[Path, int] = {}
_KEEPERS: list["subprocess.Popen[bytes]"] = []
"""Keepers that this process started, which may outlive their use here."""
_LOCK = threading.Lock()


def running(wanted: Wanted) -> Running:
    """Return a healthy server, started where there is none; this process then uses it until it ends.

    Raises:
        EngineError: it does not start; with the end of its log.
    """
    order, folder = wanted.order(), wanted.home
    with _LOCK:
        for other in [held for held in _HELD if held != folder and _same_gpu(held, wanted.gpu)]:
            _let_go(other)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder not in _HELD:
            lease = os.open(folder / "lease", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lease, fcntl.LOCK_SH)  # waits for a keeper that is ending its server
            _HELD[folder] = lease
        with _alone(folder / "start"):
            until = time.monotonic() + _ENDING
            while _is_kept(folder) and _is_over(folder) and time.monotonic() < until:
                time.sleep(_POLL)
            if not _is_kept(folder):
                (folder / "state.json").unlink(missing_ok=True)
                (folder / "gpu").write_text(wanted.gpu, encoding="utf-8")
                (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
                _start(folder)
        state = _settled(folder)
        if state["status"] != "ready":
            _let_go(folder)
            raise EngineError(
                f"The server `{' '.join(order['command'])}` does not start: {state['reason']}. The end of its log:\n"
                f"{keeper.tail(folder / 'log') or '(it wrote nothing)'}"
            )
    return Running(state["address"], state["model"], folder)


def release() -> None:
    """Give up all servers of this process, and wait until those that nobody else uses have ended."""
    with _LOCK:
        for folder in list(_HELD):
            _let_go(folder)


LEAVING.append(release)


def _same_gpu(folder: Path, gpu: str) -> bool:
    return (folder / "gpu").read_text(encoding="utf-8") == gpu


def _start(folder: Path) -> None:
    with (folder / "keeper.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-I", keeper.__file__, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the driver alone, which then ends its lease
        )
    _KEEPERS[:] = [each for each in _KEEPERS if each.poll() is None] + [process]
    while not (folder / "state.json").is_file():
        if process.poll() is not None:
            raise EngineError(f"No server can be kept here: {keeper.tail(folder / 'keeper.log')}")
        time.sleep(_POLL)


def _settled(folder: Path) -> dict[str, Any]:
    """Wait until a server is ready or failed, and return which."""
    while True:
        state = _state(folder)
        if state["status"] != "starting":
            return state
        if not _is_kept(folder):
            return {"status": "failed", "reason": f"its keeper ended ({keeper.tail(folder / 'keeper.log')})"}
        time.sleep(_POLL)


def _let_go(folder: Path) -> None:
    os.close(_HELD.pop(folder))
    until = time.monotonic() + _ENDING
    while _is_kept(folder) and not _is_used(folder) and time.monotonic() < until:
        time.sleep(_POLL)


def _is_kept(folder: Path) -> bool:
    """Return whether a keeper is at work."""
    return not _is_free(folder / "keeper")


def _is_over(folder: Path) -> bool:
    """Return whether a server has ended, or died a moment ago, which its keeper is about to notice."""
    state = _state(folder)
    if state["status"] != "ready":
        return bool(state["status"] != "starting")
    host, _, port = state["address"].removeprefix("http://").partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_LISTENS).close()
    except ConnectionRefusedError:
        return True
    except OSError:  # busy, which is no end
        return False
    return False


def _state(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "state.json").read_text(encoding="utf-8")))


def _is_used(folder: Path) -> bool:
    """Return whether another process uses a server; while its keeper ends it, the keeper itself holds the lease."""
    lease = folder / "lease"
    return _locks(os.open(lease, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_SH) and not _is_free(lease)


def _is_free(file: Path) -> bool:
    """Return whether nobody locks a file."""
    return not file.is_file() or _locks(os.open(file, os.O_RDWR), fcntl.LOCK_EX)


def _locks(handle: int, kind: int) -> bool:
    """Return whether an open file can be locked now; it is closed again."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
