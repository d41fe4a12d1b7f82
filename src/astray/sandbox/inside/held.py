"""Measure the memory that a session holds: of its processes, and of kernel objects mapped by none of them.

Memory that cannot be counted is forbidden (`seccomp.for_command`): files in memory without a name, and shared memory
without a file. Pipes are not counted; the kernel gives a user no more than 64 MiB for them.
"""

import contextlib
import ctypes
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_SEMAPHORE_BYTES, _MESSAGE_BYTES = 128, 64
"""Kernel memory of each semaphore and message, beside a message's content."""
_DATAGRAMS = 12
"""Maximum number of messages in a datagram socket, as large as a buffer: ten of the kernel's, one on either side."""
_SEGMENTS = {"shm": "shmid", "msg": "msqid", "sem": "semid"}
"""Kind of System V object -> the column with its number."""


def held_bytes() -> int:
    """Return the bytes held by everything but the first process; shared memory counts for each process."""
    return _of_processes() + _of_segments() + _of_unix_sockets() + _of_network_sockets()


def remove_segments() -> None:
    """Remove System V objects, which outlive processes."""
    libc = ctypes.CDLL(None)
    for kind, column in _SEGMENTS.items():
        for row in _rows(_PROC / "sysvipc" / kind):
            # a semaphore's number comes before the command, which is IPC_RMID
            arguments = (0, 0) if kind == "sem" else (0,)
            getattr(libc, f"{kind}ctl")(int(row[column]), *arguments, None)


def _of_processes() -> int:
    kilobytes = 0
    for folder in _PROC.iterdir():
        if folder.name.isdecimal() and folder.name != "1":
            with contextlib.suppress(OSError):
                lines = (folder / "status").read_text(encoding="utf-8", errors="replace").splitlines()
                kilobytes += sum(
                    int(line.split()[1]) for line in lines if line.startswith(("VmRSS:", "VmSwap:", "VmPTE:"))
                )
    return 1024 * kilobytes


def _of_segments() -> int:
    shared = sum(int(row["rss"]) + int(row["swap"]) for row in _rows(_PROC / "sysvipc/shm"))
    queues, sets = list(_rows(_PROC / "sysvipc/msg")), list(_rows(_PROC / "sysvipc/sem"))
    messages = sum(int(row["cbytes"]) + _MESSAGE_BYTES * int(row["qnum"]) for row in queues)
    semaphores = sum(_SEMAPHORE_BYTES * int(row["nsems"]) for row in sets)
    return shared + messages + semaphores + resource.getpagesize() * (len(queues) + len(sets))


def _of_unix_sockets() -> int:
    """Return the most that they can hold.

    The kernel does not report what they hold, and does not list sockets that are closed with unread messages.
    """
    kinds = [row["Type"] for row in _rows(_PROC / "net/unix")]
    return (len(kinds) + (_DATAGRAMS - 1) * kinds.count("0002")) * _largest_buffer() if kinds else 0


def _largest_buffer() -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)
        return asking.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def _of_network_sockets() -> int:
    """Return twice what is queued, since the kernel keeps small parts in large pieces."""
    queues = [row["tx_queue"] for kind in ("tcp", "tcp6", "udp", "udp6") for row in _rows(_PROC / "net" / kind)]
    return 2 * sum(
        int(sent, 16) + int(received, 16) for sent, _, received in (queue.partition(":") for queue in queues)
    )


def _rows(table: Path) -> Iterator[dict[str, str]]:
    """Yield the lines of a kernel table, keyed by its first line; none where the kernel has no such table."""
    with contextlib.suppress(OSError):
        names, *lines = table.read_text(encoding="ascii", errors="replace").splitlines()
        for line in lines:
            yield dict(zip(names.split(), line.split(), strict=False))
