"""Jobs: report what can be seen and done inside, so that the outer side can judge whether the sandbox isolates."""

import ctypes
import fcntl
import json
import mmap
import os
import socket
from pathlib import Path
from typing import Any


def of_session(payload: dict[str, Any], channel: socket.socket) -> int:
    """Report what a session's command sees, as JSON."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    seen = {
        "host file": Path(payload["host_file"]).exists(),
        "network devices": [
            line.partition(":")[0].strip()
            for line in Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
        ],
        "processes": [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()],
        "namespaces": {
            name: str((Path("/proc/self/ns") / name).readlink())
            for name in ("cgroup", "ipc", "net", "pid", "user", "uts")
        },
        "capabilities": status["CapEff"],
        "no new privileges": status["NoNewPrivs"],
        "filters": status["Seccomp_filters"] if "Seccomp_filters" in status else status["Seccomp"],
        "environment": sorted(os.environ),
        "writable": [
            path
            for path in ("/", "/usr", "/python", "/code", "/dev")
            if _done(lambda place=path: (Path(place) / "new").touch())
        ],
    }
    channel.sendall(json.dumps(seen).encode())
    return 0


def of_job(payload: dict[str, Any], channel: socket.socket) -> int:
    """Report which forbidden actions a job can do, as JSON."""
    del payload
    tried = {
        "start a process": lambda: os.posix_spawn("/usr/bin/true", ["true"], {}),
        "fork": lambda: os.fork() or os._exit(0),
        "open a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
        "signal the first process": lambda: os.kill(1, 0),
        "trace": lambda: _system("ptrace", 0, 0, 0, 0),
        "mount": lambda: _system("mount", b"work", b"/work", b"tmpfs", 0, None),
        "lock a file of the host": lambda: fcntl.flock(os.open("/usr", os.O_RDONLY), fcntl.LOCK_SH),
        "watch files of the host": lambda: _system("inotify_init1", 0),
        "keep memory that it does not map": lambda: mmap.mmap(-1, 4096),
        "make a namespace": lambda: _system("unshare", 0x10000000),
        "open many files": lambda: [os.open("/dev/null", os.O_RDONLY) for _ in range(100_000)],
        "have much memory": lambda: bytearray(1 << 40),
    }
    channel.sendall(json.dumps([name for name, act in tried.items() if _done(act)]).encode())
    return 0


def _done(act: Any) -> bool:
    try:
        act()
    except (OSError, MemoryError):
        return False
    return True


def _system(name: str, *arguments: int | bytes | None) -> None:
    if ctypes.CDLL(None, use_errno=True)[name](*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
