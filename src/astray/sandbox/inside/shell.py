"""Jobs of a session: run commands, write and read files, with the rights of the sandbox's user."""

import base64
import errno
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from astray.sandbox.inside import seccomp


def execute(payload: dict[str, Any], channel: socket.socket) -> int:
    """Become a command.

    Args:
        payload: "command", its words; "input", base64; "cwd"; "env", added to the sandbox's own.
        channel: receives the number of the error where the command cannot be started; the command does not inherit it.
    """
    given = os.memfd_create("input")  # no pipe: a command that does not read would block whoever writes
    content = memoryview(base64.b64decode(payload["input"]))
    while content:
        content = content[os.write(given, content) :]
    os.lseek(given, 0, os.SEEK_SET)
    os.dup2(given, 0)
    os.close(given)
    channel.set_inheritable(False)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what Python starts would too
    os.setsid()  # a group of its own, which can be killed as a whole
    command = payload["command"]
    seccomp.apply(seccomp.for_command(seccomp.this_machine()))
    try:
        os.chdir(payload["cwd"])
        os.execvpe(command[0], command, os.environ | payload["env"])
    except OSError as error:
        channel.sendall(bytes([error.errno or errno.EIO]))
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
    return 127


def write(payload: dict[str, Any], channel: socket.socket) -> int:
    """Write a file, and the folders above it.

    Args:
        payload: "path" and "content", base64.
        channel: receives the number of the error, where there is one.
    """

    def do() -> bytes:
        path = Path(payload["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(payload["content"]))
        return b""

    return _answer(channel, do)


def read(payload: dict[str, Any], channel: socket.socket) -> int:
    """Send a file, after the byte 0, or the number of the error.

    Args:
        payload: "path".
        channel: channel for the content.
    """
    return _answer(channel, Path(payload["path"]).read_bytes)


def _answer(channel: socket.socket, do: Any) -> int:
    try:
        channel.sendall(b"\0" + do())
    except OSError as error:
        channel.sendall(bytes([error.errno or errno.EIO]))
        return 1
    return 0
