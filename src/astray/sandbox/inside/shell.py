"""Jobs of a session: runs commands, writes and reads files, as whoever works in the sandbox could do."""

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
    """Becomes a command.

    Args:
        payload: "command", its words; "input", base64; "cwd"; "env", added to the sandbox's own.
        channel: told the number of the error where the command cannot be started; the command does not have it.
    """
    given = os.memfd_create("input")
    content = memoryview(base64.b64decode(payload["input"]))
    while content:
        content = content[os.write(given, content) :]
    os.lseek(given, 0, os.SEEK_SET)
    os.dup2(given, 0)
    os.close(given)
    channel.set_inheritable(False)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what Python starts would too
    os.setsid()
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
    """Writes a file, and the folders above it.

    Args:
        payload: "path" and "content", base64.
        channel: told the number of the error, where there is one.
    """

    def do() -> bytes:
        path = Path(payload["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(payload["content"]))
        return b""

    return _answer(channel, do)


def read(payload: dict[str, Any], channel: socket.socket) -> int:
    """Sends a file, behind the byte 0; or the number of the error.

    Args:
        payload: "path".
        channel: where it goes.
    """
    return _answer(channel, Path(payload["path"]).read_bytes)


def _answer(channel: socket.socket, do: Any) -> int:
    try:
        channel.sendall(b"\0" + do())
    except OSError as error:
        channel.sendall(bytes([error.errno or errno.EIO]))
        return 1
    return 0
