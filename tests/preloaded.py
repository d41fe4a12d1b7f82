"""A command that starts in milliseconds: each run is a process of its own, forked from one that has loaded
what commands import. What it is given and where it runs are those of its caller: words, folder, environment, streams.

    python preloaded.py SOCKET MODULE...     the process that the runs are forked from
"""

import gc
import importlib
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

# Of a shell, since the line that names the interpreter of a file holds neither a blank nor a long path.
CALLER = """#!/bin/sh
'''exec' {python} -IS "$0" "$@"
' '''
import json, os, signal, socket, sys
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupted caller has no traceback to show
given = {{"entry": {entry!r}, "words": sys.argv, "folder": os.getcwd(), "environment": dict(os.environ)}}
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps(given).encode())
    server.shutdown(socket.SHUT_WR)
    sys.exit(server.recv(1)[0])
"""


@contextmanager
def preloaded(folder: Path, *modules: str, name: str = "astray", entry: str = "astray.cli:main") -> Iterator[Path]:
    """Start the process; gives the folder with the command of this name, whose function is `entry`."""
    address = folder / "socket"
    commands = write_caller(address, name, entry)
    words = [sys.executable, __file__, str(address), *modules]
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            while not address.exists():
                assert process.poll() is None
                time.sleep(0.05)
            yield commands
        finally:
            process.kill()


def write_caller(address: Path, name: str, entry: str) -> Path:
    """Write a command that asks the process at this address for a run of the function `entry`; returns its folder."""
    command = address.with_name("bin") / name
    command.parent.mkdir(exist_ok=True)
    command.write_text(CALLER.format(python=shlex.quote(sys.executable), address=str(address), entry=entry))
    command.chmod(0o755)
    return command.parent


def asked(connection: socket.socket) -> tuple[list[Connection], dict[str, Any]]:
    """Read what a command asks for: its streams, and entry, words, folder and environment."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    return [Connection(each) for each in descriptors], json.loads(connection.makefile("rb").read())


def serve(address: str, *modules: str) -> None:
    """Run what is asked for, each in a process that is forked from this one, until the process that started this one
    closes its standard input or ends, by whatever signal."""
    for name in modules:
        importlib.import_module(name)
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address + ".new")
        listening.listen()
        Path(address + ".new").rename(address)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for a run
        while listening in select.select([listening, 0], [], [])[0]:
            connection, _ = listening.accept()
            streams, given = asked(connection)
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listening.close()
                _attend(connection, streams, given)
            connection.close()
            for stream in streams:
                stream.close()


def _attend(connection: socket.socket, streams: list[Connection], given: dict[str, Any]) -> NoReturn:
    """Wait for a run and tell how it ended."""
    process = os.fork()
    if process == 0:
        connection.close()
        run(streams, **given)
        sys.exit()
    for stream in streams:
        stream.close()
    _, status = os.waitpid(process, 0)
    tell(connection, os.waitstatus_to_exitcode(status))
    os._exit(0)


def tell(connection: socket.socket, code: int) -> None:
    """Tell a command how its run ended."""
    with suppress(ConnectionError):  # it was killed
        connection.send(bytes([code % 256]))


def run(streams: list[Connection], entry: str, words: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be the process of a run; connections carry the streams, since they can be sent to another process."""
    module, _, function = entry.partition(":")
    main = getattr(importlib.import_module(module), function)
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    main()


def execute() -> None:
    """Entry of a command that executes the Python it is given."""
    exec(sys.argv[1], {})


if __name__ == "__main__":
    serve(*sys.argv[1:])
