"""First process in the sandbox: stays warm, and has a fork of itself do each job.

It never sees a job's content: each job comes with a channel of its own, from which only the fork reads, so nothing of a
job is left in the memory that the next one is forked from; how a job ended is recorded and sent without a Python object
(`ending`), and its folder and its process id are new (`fresh`). As the first process of its namespace no signal from
inside can end or stop it, and processes that a job leaves behind become its children. It ends when the channel to the
parent ends, and everything in the sandbox with it. Jobs and sessions: see `Profile` in `astray.sandbox.runner`, which
is the outer side.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import site
import socket
import sys
import time
import traceback
from typing import Any

from astray.sandbox.inside import fresh, seccomp
from astray.sandbox.inside.ending import STOPS, Ending
from astray.sandbox.inside.held import held_bytes, remove_segments

CONTROL = 3
"""Descriptor of the channel to the parent."""
MAX_ORDER = 65_536
WATCH_S = 0.05
"""Seconds between measurements of the memory of a session's processes."""
FIRST_COPY = 2
"""Process id of every job, where the sandbox is renewed for each."""
WARM = (
    "ast", "atexit", "bisect", "builtins", "collections", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "heapq",
    "io", "itertools", "json", "math", "operator", "queue", "random", "re", "statistics", "string", "textwrap", "threading", "time",
    "types", "typing", "unittest",
    "astray.sandbox.inside.truth", "astray.sandbox.inside.careless", "astray.sandbox.inside.shell", "astray.sandbox.inside.recording",
)  # fmt: skip
"""Modules that programs import, and the jobs: imported once, here."""
_LIMITS = {
    "cpu_seconds": resource.RLIMIT_CPU,
    "memory_bytes": resource.RLIMIT_AS,
    "file_bytes": resource.RLIMIT_FSIZE,
    "files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
}
_NONE_OF = (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE)
_MORE_BEFORE_KILL = 1
"""Seconds of processor time between the signal that a program may catch and the one that it may not."""


def main() -> None:
    """Run jobs until the parent hangs up."""
    hide()
    control = socket.socket(fileno=CONTROL)
    profile = json.loads(control.recv(MAX_ORDER))
    renewal = fresh.renewal(profile["disk_bytes"])
    if profile["session"]:
        fresh.give_up_rights()
    sys.path[:] = [path for path in sys.path if path] + profile["paths"]
    for name in (*WARM, *profile["modules"]):
        importlib.import_module(name)
    site.setquit()  # exit and quit, which a program started in the usual way has
    seccomp.for_job(seccomp.this_machine(), FIRST_COPY)  # cached for every fork
    gc.freeze()  # forks then share more of this memory: no collection writes to it
    control.send(json.dumps({"renews": renewal is not None}).encode())
    memory = profile["memory_bytes"] if profile["session"] else None
    ending = Ending()
    while True:
        while memory and not select.select([control], [], [], WATCH_S)[0]:
            reap()
            if held_bytes() > memory:
                end_session()  # what a command left behind
        order, channels, _, _ = socket.recv_fds(control, MAX_ORDER, 3)
        if not order:
            return  # the parent hung up or died
        if memory is None:
            carry_out_alone(json.loads(order), channels, control, renewal, ending)
        else:
            carry_out_command(json.loads(order), channels, control, memory, ending)
        ending.send(control)


def hide() -> None:
    """Keep every process in the sandbox from reading this one's memory or descriptors; a fork of it is hidden too."""
    not_dumpable = 4
    ctypes.CDLL(None).prctl(not_dumpable, 0, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # the kernel drops signals that the first process has no handler for


def carry_out_alone(
    order: dict[str, Any], channels: list[int], control: socket.socket, renewal: fresh.Renewal | None, ending: Ending
) -> None:
    """Have a fork do a job on its own, end it at its time limit, and remove every trace of it.

    Args:
        order: "job" and "limits".
        channels: the job's channel, standard output and standard error.
        control: channel to the parent.
        renewal: means to renew the sandbox for the job; None where it does one job only.
        ending: filled with how the job ended; clean where it left no process, and nothing that holds its files.
    """
    if renewal:
        renewal.begin()
    job = start(order, channels, control, renewal, alone=True)
    ending.stopped = STOPS.index(watch(job, order["limits"]["wall_seconds"], control))
    if ending.stopped:
        os.kill(job, signal.SIGKILL)
    ending.wait(job)
    alone = end_all() == 0
    ended = renewal is None or renewal.end()
    ending.clean = alone and ended


def carry_out_command(
    order: dict[str, Any], channels: list[int], control: socket.socket, memory: int, ending: Ending
) -> None:
    """Have a fork do a session's job, which may leave files and processes, and end it at its limits.

    Args:
        order: "job" and "limits".
        channels: the job's channel, standard output and standard error.
        control: channel to the parent.
        memory: bytes that everything in the session may hold.
        ending: filled with how the job ended.
    """
    job = start(order, channels, control, None, alone=False)
    stopped = watch(job, order["limits"]["wall_seconds"], control, memory)
    if stopped:
        os.kill(-1 if stopped == "memory" else job, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job, signal.SIGKILL)  # a command has a group of its own, with what it started
    ending.wait(job)
    if stopped == "memory":
        end_session()
    reap()
    ending.stopped, ending.clean = STOPS.index(stopped), True


def start(
    order: dict[str, Any], channels: list[int], control: socket.socket, renewal: fresh.Renewal | None, alone: bool
) -> int:
    """Fork a process that does a job, and return its process id."""
    job = os.fork()
    if job == 0:
        control.close()
        do(order, channels, renewal, alone)
    for channel in channels:
        os.close(channel)
    return job


def do(order: dict[str, Any], channels: list[int], renewal: fresh.Renewal | None, alone: bool) -> None:
    """Do a job in the fork and exit.

    In this order: give up all rights, take channels and limits, read the payload, and set the filter on system calls
    just before the job's code runs.
    """
    code = 1
    try:
        if renewal:
            renewal.close()
        fresh.give_up_rights()
        os.chdir(fresh.WORK)
        take_channels(channels[1:])
        limit(order["limits"])
        with socket.socket(fileno=channels[0]) as channel:
            payload = read_payload(channel)
            if alone:
                seccomp.apply(seccomp.for_job(seccomp.this_machine(), os.getpid()))
            module, _, function = order["job"].partition(":")
            code = getattr(importlib.import_module(module), function)(payload, channel)
    except SystemExit as leaving:
        code = exit_code(leaving)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        os._exit(code & 255)  # without the exit handlers of the process that this one was forked from


def exit_code(leaving: SystemExit) -> int:
    """Return the exit status that a program would have had that left with this exception."""
    if leaving.code is None:
        return 0
    return leaving.code if isinstance(leaving.code, int) else 1


def take_channels(outputs: list[int]) -> None:
    """Open nothing on descriptor 0, and the outputs on 1 and 2."""
    nothing = os.open("/dev/null", os.O_RDONLY)
    for target, source in enumerate((nothing, *outputs)):
        os.dup2(source, target)
        os.close(source)


def limit(limits: dict[str, int]) -> None:
    """Set limits on this process and its descendants; from here on they can be lowered, not raised."""
    for name, kind in _LIMITS.items():
        most = limits[name] + (2 if name == "processes" else 0)  # the runner and this process count too
        resource.setrlimit(kind, (most, most + (_MORE_BEFORE_KILL if name == "cpu_seconds" else 0)))
    for kind in _NONE_OF:
        resource.setrlimit(kind, (0, 0))


def read_payload(channel: socket.socket) -> dict[str, Any]:
    """Read the payload: eight bytes with its length, then JSON."""
    size = int.from_bytes(receive(channel, 8), "big")
    return json.loads(receive(channel, size))


def receive(channel: socket.socket, size: int) -> bytes:
    """Read exactly that many bytes."""
    parts = []
    while size:
        part = channel.recv(min(size, 1 << 20))
        if not part:
            raise EOFError("the parent hung up")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def watch(job: int, seconds: float, control: socket.socket, memory: int | None = None) -> str:
    """Wait until a job has ended or must be ended.

    Returns:
        "" where it has ended; "time" where its time is over, "memory" where the session holds too much memory.
    """
    over = time.monotonic() + seconds
    handle = os.pidfd_open(job)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(control, 0)  # only its end is news
    try:
        while (left := over - time.monotonic()) > 0:
            events = poll.poll(1000 * (left if memory is None else min(left, WATCH_S)))
            if any(descriptor == control.fileno() for descriptor, _ in events):
                sys.exit()  # and everything in the sandbox ends with its first process
            if events:
                return ""
            if memory is not None and held_bytes() > memory:
                return "memory"
        return "time"
    finally:
        os.close(handle)


def end_all() -> int:
    """Kill every other process in the sandbox, wait for each, and return their number."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    return reap(flags=0)


def end_session() -> None:
    """End everything that holds memory in a session; its files stay."""
    end_all()
    remove_segments()


def reap(flags: int = os.WNOHANG) -> int:
    """Reap the children that have ended, or with `flags` 0 wait for all of them, and return their number."""
    ended = 0
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, flags)[0]:
            ended += 1
    return ended
