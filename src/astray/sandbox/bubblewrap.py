"""Set up a sandbox with bubblewrap: its files, its namespaces, and its user.

Inside there are /usr read-only, the Python that runs this, the modules of `inside`, one empty folder /work in memory,
four devices, and nothing else of the host: no /etc, no home, no environment, no network, no other process. The first
process inside sets the limits before a job's code runs.

Some limits do not bind root, so root starts bubblewrap as a user id that nothing else on the machine has. That user may
not be allowed to reach Python's folder, so root first lays out a view of the file system that has it (with another
bubblewrap, which isolates nothing).

Source: bubblewrap's manual, bwrap(1), version 0.8.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from astray.errors import SandboxError
from astray.sandbox.inside import seccomp

OLDEST = (0, 8)
"""First version that can forbid user namespaces inside."""
HOW_TO_INSTALL = "sudo apt-get install bubblewrap (Debian, Ubuntu), sudo dnf install bubblewrap (Fedora)"
PYTHON, CODE, PACKAGES = "/python", "/code", "/packages"
_INSIDE = f"{CODE}/astray/sandbox/inside"
ENVIRONMENT = {
    "PATH": "/python/bin:/usr/bin:/bin",
    "HOME": "/work",
    "TMPDIR": "/work",
    "LANG": "C.UTF-8",
    "PYTHONPATH": CODE,
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_ARENA_MAX": "1",
}
"""Whole environment of a program in the sandbox.

One malloc arena: otherwise each thread reserves 64 MB of the address space that it may have.
"""
_STRANGER = 1_500_000_000
"""First of the user ids that root runs sandboxes as: with the process's id added, no two processes share one."""
_DEVICES = {"null": "null", "full": "zero", "random": "random", "urandom": "urandom"}
"""Devices of the host -> their names inside.

Zeros inside come from the host's "full": memory mapped from the host's "zero" could not be counted.
"""
_FOR_FIRST = ("CAP_SYS_ADMIN", "CAP_SYS_RESOURCE")
"""Capabilities of the first process in its own namespaces, to renew the sandbox for each job; no job has them."""
_SETTINGS = {
    "/settings/last_process": "/proc/sys/kernel/ns_last_pid",
    "/settings/user_namespaces": "/proc/sys/user/max_user_namespaces",
}
"""Paths inside -> two settings of the first process's own namespaces; it unmounts them once it has written them."""


def find_bubblewrap() -> Path:
    """Return the path of bubblewrap.

    Raises:
        SandboxError: it is not installed or too old, or there are no filters for this machine.
    """
    if not sys.platform.startswith("linux") or seccomp.this_machine() not in seccomp.MACHINES:
        raise SandboxError(
            f"Untrusted code runs in a sandbox of Linux on {' or '.join(seccomp.MACHINES)} only; this is "
            f"{sys.platform} on {seccomp.this_machine()}. Use such a machine, a virtual one for example; it is never "
            "run without a sandbox."
        )
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError(
            f"Untrusted code runs in a sandbox only, and bubblewrap is not installed. Install it: {HOW_TO_INSTALL}."
        )
    if _version(program) < OLDEST:
        raise SandboxError(
            f"{program} is version {'.'.join(map(str, _version(program)))}; the sandbox needs "
            f"{'.'.join(map(str, OLDEST))} or later. Install it: {HOW_TO_INSTALL}."
        )
    return Path(program)


@cache
def _version(program: str) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return tuple(int(number) for number in re.findall(r"\d+", said)[:2])


def start(
    descriptors: Mapping[int, int], packages: Mapping[str, Path], disk_bytes: int, session: bool
) -> "subprocess.Popen[bytes]":
    """Start a sandbox with the warm process of `inside.runner` in it.

    Args:
        descriptors: descriptor number inside -> an open descriptor of ours.
        packages: name -> folder or file of an additional Python package.
        disk_bytes: size of the work folder, which is memory.
        session: whether to add what shells need: /proc, which shows the processes of the sandbox only, /tmp and
            /etc/passwd.

    Raises:
        SandboxError: bubblewrap is missing or could not be started.
    """
    bubblewrap = str(find_bubblewrap())
    places = {PYTHON: Path(sys.base_prefix), _INSIDE: Path(__file__).parent / "inside"}
    places |= {f"{PACKAGES}/{name}": path for name, path in packages.items()}
    # bubblewrap keeps our numbers and may leave descriptors of its own open: ours are moved, the rest is closed.
    program = (
        f"import os; [os.dup2(given, wanted) for wanted, given in {dict(descriptors)!r}.items()]; "
        f"os.closerange({max(descriptors) + 1}, 4096); "
    )
    program += "from astray.sandbox.inside.runner import main; main()"
    filter_reader = _readable(seccomp.for_all(seccomp.this_machine()))
    try:
        command = [*isolation(bubblewrap, places, disk_bytes, session), "--seccomp", str(filter_reader)]
        command += [
            f"{PYTHON}/bin/python{sys.version_info.major}.{sys.version_info.minor}",
            "-s",
            "-S",
            "-P",
            "-c",
            program,
        ]
        if os.geteuid() == 0:
            command = [*_view(bubblewrap, places), *command]
        return _starter(os.getpid()).submit(_spawn, command, (*descriptors.values(), filter_reader)).result()
    finally:
        os.close(filter_reader)


def isolation(bubblewrap: str, places: Mapping[str, Path], disk_bytes: int, session: bool) -> list[str]:
    """Return the command line that isolates; the program to start follows it."""
    sources = (
        {inside: inside for inside in places}
        if os.geteuid() == 0
        else {inside: str(path) for inside, path in places.items()}
    )
    return [
        *(
            bubblewrap,
            "--unshare-user",
            "--unshare-ipc",
            "--unshare-pid",
            "--unshare-net",
            "--unshare-uts",
            "--unshare-cgroup",
        ),
        *(word for capability in _FOR_FIRST for word in ("--cap-add", capability)),
        *(
            "--uid",
            "1000",
            "--gid",
            "1000",
            "--die-with-parent",
            "--new-session",
            "--as-pid-1",
            "--hostname",
            "sandbox",
            "--clearenv",
        ),
        *(word for name, value in _environment().items() for word in ("--setenv", name, value)),
        *_system(inside=True),
        *(word for inside, path in sources.items() for word in ("--ro-bind", path, inside)),
        *(word for inside, setting in _SETTINGS.items() for word in ("--bind-try", setting, inside)),
        *("--perms", "0700", "--size", str(disk_bytes), "--tmpfs", "/work"),
        *(
            ("--proc", "/proc", "--symlink", "/work", "/tmp", "--ro-bind", f"{sources[_INSIDE]}/passwd", "/etc/passwd")
            if session
            else ()
        ),
        *("--remount-ro", "/", "--chdir", "/work"),
    ]


def _view(bubblewrap: str, places: Mapping[str, Path]) -> list[str]:
    """Return the command line by which root enters a view of the file system that has every path, as another user."""
    user = str(_STRANGER + os.getpid())
    return [
        *(bubblewrap, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"),
        *_system(inside=False),
        *(
            word
            for inside, path in places.items()
            for word in (*_folders_above(inside), "--ro-bind", str(path), inside)
        ),
        *("--bind", "/proc", "/proc", "--perms", "1777", "--dir", "/tmp"),
        *(shutil.which("setpriv") or "setpriv", "--reuid", user, "--regid", user, "--clear-groups"),
    ]


def _folders_above(path: str) -> list[str]:
    """Return words that create a path's parent folders, open to everybody; bubblewrap would make them its own."""
    return [word for folder in reversed(Path(path).parents[:-1]) for word in ("--perms", "0755", "--dir", str(folder))]


def _system(inside: bool) -> list[str]:
    """Return words for /usr and the links to it, and for the devices under their names inside, or the host's."""
    words = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            words += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            words += ["--ro-bind", str(path), str(path)]
    words += ["--perms", "0755", "--dir", "/dev"]
    return words + [
        word
        for host, name in _DEVICES.items()
        for word in ("--dev-bind", f"/dev/{host}", f"/dev/{name if inside else host}")
    ]


def _environment() -> dict[str, str]:
    """Return the environment inside."""
    # Python may be built with its library in its own folder, whose path differs inside.
    return ENVIRONMENT if sys.base_prefix == "/usr" else ENVIRONMENT | {"LD_LIBRARY_PATH": f"{PYTHON}/lib"}


def _readable(content: bytes) -> int:
    """Return a descriptor from which the content can be read."""
    reader, writer = os.pipe()
    os.write(writer, content)  # less than a pipe holds
    os.close(writer)
    return reader


def _spawn(command: list[str], descriptors: tuple[int, ...]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={},
        )
    except OSError as error:
        raise SandboxError(f"{command[0]} cannot be started: {error}. Install it: {HOW_TO_INSTALL}.") from error


@cache
def _starter(process: int) -> ThreadPoolExecutor:
    """Return the thread that starts sandboxes.

    With --die-with-parent a sandbox ends with the thread that started it, so that thread has to stay.
    """
    del process  # a fork of this process has no threads, and gets its own
    return ThreadPoolExecutor(1, thread_name_prefix="sandbox-starter")
