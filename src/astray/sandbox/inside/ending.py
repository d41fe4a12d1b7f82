"""Report of how a job ended: bytes that the kernel writes and that are sent and overwritten, never Python objects.

The next job is forked from the first process and could find an object in its memory, even a freed one: an exit status
is a byte of the last job's choice, and so a message from one job to the next. Both sides use this module.
"""

import ctypes
import socket
from typing import Literal

STOPS: tuple[Literal["", "time", "memory"], ...] = ("", "time", "memory")
"""Reasons for which a job is ended from outside."""
_libc = ctypes.CDLL(None, use_errno=True)


class Ending(ctypes.Structure):
    """Report of how a job ended.

    Attributes:
        status: status as from wait.
        stopped: index in `STOPS`.
        clean: whether no trace of the job is left.
        usage: use of processor and memory, as `getrusage` writes it.
    """

    _fields_ = (
        ("status", ctypes.c_int),
        ("stopped", ctypes.c_int),
        ("clean", ctypes.c_int),
        ("usage", ctypes.c_long * 18),
    )

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the job, in user and in kernel mode."""
        user, user_micro, kernel, kernel_micro = self.usage[:4]
        return float(user + kernel + (user_micro + kernel_micro) / 1e6)

    def wait(self, process: int) -> None:
        """Wait for the end of a child and record it.

        Raises:
            OSError: it is no child.
        """
        if _libc.wait4(process, ctypes.byref(self), 0, ctypes.byref(self, Ending.usage.offset)) != process:
            raise OSError(ctypes.get_errno(), "no such child")

    def send(self, control: socket.socket) -> None:
        """Send the report, without an error where nobody listens, and erase it."""
        _libc.send(control.fileno(), ctypes.byref(self), ctypes.sizeof(self), socket.MSG_NOSIGNAL)
        ctypes.memset(ctypes.byref(self), 0, ctypes.sizeof(self))
