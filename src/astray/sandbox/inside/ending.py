"""How a job ended, as the first process says it: bytes that the kernel writes and that are sent on and overwritten,
never Python objects.

The next job is copied from the first process's memory, where it could find an object, also one that is freed: a status
is a byte of the job's choice. Both sides use it.
"""

import ctypes
import socket
from typing import Literal

STOPS: tuple[Literal["", "time", "memory"], ...] = ("", "time", "memory")
"""Why a job was ended from outside."""
_libc = ctypes.CDLL(None, use_errno=True)


class Ending(ctypes.Structure):
    """How a job ended.

    Attributes:
        status: as from wait.
        stopped: index in `STOPS`.
        clean: whether nothing of it is left.
        usage: of processor and memory, as `getrusage` writes it.
    """

    _fields_ = (("status", ctypes.c_int), ("stopped", ctypes.c_int), ("clean", ctypes.c_int), ("usage", ctypes.c_long * 18))

    @property
    def cpu_seconds(self) -> float:
        """Of the job, in user and in kernel mode."""
        user, user_micro, kernel, kernel_micro = self.usage[:4]
        return float(user + kernel + (user_micro + kernel_micro) / 1e6)

    def wait(self, process: int) -> None:
        """Waits for the end of a child and notes it.

        Raises:
            OSError: it is no child.
        """
        if _libc.wait4(process, ctypes.byref(self), 0, ctypes.byref(self, Ending.usage.offset)) != process:
            raise OSError(ctypes.get_errno(), "no such child")

    def send(self, control: socket.socket) -> None:
        """Sends it, to nobody where nobody listens, and forgets it."""
        _libc.send(control.fileno(), ctypes.byref(self), ctypes.sizeof(self), socket.MSG_NOSIGNAL)
        ctypes.memset(ctypes.byref(self), 0, ctypes.sizeof(self))
