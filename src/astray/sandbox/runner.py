"""Outer side of one sandbox with its warm process: sends jobs and reports how they ended. Inner side: `inside.runner`.

Each job has a channel and outputs of its own, so one job's answer can never be taken for another's. Anything odd (no
end in time, a process left behind, a work folder still in use) ends the sandbox; `Pool` then starts another. Left to
others: the meaning of jobs.
"""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from astray.errors import SandboxError
from astray.sandbox import bubblewrap
from astray.sandbox.inside.ending import STOPS
from astray.sandbox.limits import Limits
from astray.sandbox.talk import Said, converse

INSIDE = "astray.sandbox.inside"
CONTROL = 3
START_SECONDS = 30.0
GRACE_SECONDS = 5.0
"""Seconds beyond a job's time until a sandbox that has not reported its end is ended from outside."""
_CHUNK = 1 << 16

Stopped = Literal["", "time", "memory", "output", "sandbox"]
"""Reason for which a job was ended: its time, its memory, too much output, or the end of the whole sandbox."""


@dataclass(frozen=True)
class Profile:
    """Kind of sandbox.

    Attributes:
        session: False: jobs of Python functions, each alone in a sandbox as new, without other processes. True:
            commands that share files and may leave processes behind, for one agent.
        packages: name -> path of an additional Python package.
        modules: modules imported at the start, so that jobs have them at once.
        disk_bytes: size of the work folder, which is memory.
        memory_bytes: limit for all processes of a session together; those of a job have `Limits.memory_bytes`.
    """

    session: bool = False
    packages: Mapping[str, Path] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    disk_bytes: int = 32 << 20
    memory_bytes: int = 2 << 30


@dataclass(frozen=True)
class Run:
    """Result of a job.

    Attributes:
        code: exit status; None where a signal ended it.
        signal: the signal; None where it ended by itself.
        stopped: why it was ended from outside, "" where it was not.
        answer: bytes that it sent on its channel.
        output: its standard output.
        errors: its standard error.
        seconds: time from order to report.
        cpu_seconds: processor time.
        intact: whether the sandbox can be used again: no trace of a job on its own is left, and the next one finds
            everything as new.
    """

    code: int | None
    signal: int | None
    stopped: Stopped
    answer: bytes
    output: bytes
    errors: bytes
    seconds: float
    cpu_seconds: float
    intact: bool


class Runner:
    """Sandbox; a context manager that ends it."""

    def __init__(self, profile: Profile | None = None) -> None:
        """Start the sandbox, in some 60 ms.

        Raises:
            SandboxError: it cannot be started; says why and what to do.
        """
        self.profile = profile or Profile()
        # Packets: an order arrives whole, together with its descriptors.
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                self._process = bubblewrap.start(
                    {CONTROL: theirs.fileno()}, self.profile.packages, self.profile.disk_bytes, self.profile.session
                )
        except SandboxError:
            self._control.close()
            raise
        self._greet()

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @property
    def process(self) -> int:
        """Id, outside, of the process that holds the sandbox."""
        return self._process.pid

    def do(self, job: str, payload: Mapping[str, Any], limits: Limits) -> Run:
        """Run a job and wait for its end.

        Args:
            job: module and function inside, as in "truth:run".
            payload: argument of the function, sent as JSON.
            limits: limits of the job.
        """
        begun = time.monotonic()
        order = json.dumps({"job": f"{INSIDE}.{job}", "limits": limits.model_dump()}).encode()
        ours, theirs = socket.socketpair()
        (output, output_end), (errors, errors_end) = os.pipe(), os.pipe()
        with theirs:
            try:
                socket.send_fds(self._control, [order], [theirs.fileno(), output_end, errors_end])
            except OSError:
                pass  # the sandbox is down: `converse` then sees no report
            finally:
                os.close(output_end)
                os.close(errors_end)
        until = begun + limits.wall_seconds + GRACE_SECONDS
        content = json.dumps(payload).encode()
        said = converse(
            self._control, ours, (output, errors), content, limits.output_bytes, until, wait=not self.profile.session
        )
        return _run(said, time.monotonic() - begun, self.profile.session or self.renews)

    def close(self) -> None:
        """End the sandbox and everything in it, and wait until it is gone."""
        self._control.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _greet(self) -> None:
        """Send the first process its configuration, and wait until it is ready."""
        paths = [bubblewrap.PACKAGES] if self.profile.packages else []
        hello = {
            "session": self.profile.session,
            "paths": paths,
            "modules": self.profile.modules,
            "memory_bytes": self.profile.memory_bytes,
        }
        hello["disk_bytes"] = self.profile.disk_bytes
        try:
            self._control.settimeout(START_SECONDS)
            self._control.send(json.dumps(hello).encode())
            ready = self._control.recv(_CHUNK)
        except OSError:
            ready = b""
        if ready:
            self.renews: bool = json.loads(ready)["renews"]
            return
        self._kill()
        said = b"" if self._process.stderr is None else self._process.stderr.read(_CHUNK)
        self.close()
        raise SandboxError(_why_not(said.decode(errors="replace").strip()))

    def _kill(self) -> None:
        """Kill the processes in the sandbox, and the process that holds it where it does not end by itself."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _why_not(said: str) -> str:
    advice = "It is never run without a sandbox. "
    if "namespace" in said or "uid map" in said or "Operation not permitted" in said or "Permission denied" in said:
        advice += (
            "This machine seems to forbid user namespaces. Where you administer it: sudo sysctl "
            "user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1 (Debian), "
            "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu); in a container, run it with --security-opt "
            "seccomp=unconfined --security-opt systempaths=unconfined."
        )
    else:
        advice += "See docs/sandbox.md for what it needs."
    return f"The sandbox for untrusted code does not start. bubblewrap says: {said or 'nothing'}. {advice}"


def _run(said: Said, seconds: float, again: bool) -> Run:
    answer, output, errors = said.texts
    report = said.report
    if report is None:
        return Run(None, None, "sandbox", answer, output, errors, seconds, 0.0, intact=False)
    ended = os.waitstatus_to_exitcode(report.status)
    return Run(
        code=ended if ended >= 0 else None,
        signal=-ended if ended < 0 else None,
        stopped=STOPS[report.stopped] or ("output" if said.too_much else ""),
        answer=answer,
        output=output,
        errors=errors,
        seconds=seconds,
        cpu_seconds=report.cpu_seconds,
        intact=again and bool(report.clean),
    )
