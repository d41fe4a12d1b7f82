"""Filters on system calls: which calls no program in the sandbox may make, and which further ones no job may.

Namespaces hide the host, but a program still talks to the host's kernel. The first filter forbids calls that have let
programs out of containers (new namespaces, mounts, tracing, bpf, io_uring, keyrings) and sockets that no network
namespace isolates (vsock). The second is set before the code of a job runs: no new process, no other program, no signal
to another process, nothing that outlives it. Runs inside, with no import but these.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst; the numbers are those of asm/unistd_64.h (x86-64) and
asm-generic/unistd.h (arm64).
"""

import ctypes
import errno
import platform
import struct
from collections.abc import Iterator
from functools import cache

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machine, as Python names it -> the kernel's mark of its system calls."""
MACHINES = tuple(_AUDIT_ARCH)

_FIRST_UNKNOWN = 451
"""First system call newer than this list; programs manage without those. x32 calls on x86-64 are far above."""

_EVERYWHERE = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "kcmp": (312, 272), "pidfd_getfd": (438, 438),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "syslog": (103, 116), "lookup_dcookie": (212, 18), "nfsservctl": (180, 42), "vhangup": (153, 58),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "uselib": (134, None), "ustat": (136, None), "sysfs": (139, None),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "sethostname": (170, 161), "setdomainname": (171, 162), "vmsplice": (278, 75), "memfd_secret": (447, 447),
    "move_pages": (279, 239), "migrate_pages": (256, 238), "mbind": (237, 235), "set_mempolicy": (238, 237), "get_mempolicy": (239, 236),
}  # fmt: skip
"""Denied to all programs: name -> number on x86-64 and on arm64."""

_IN_JOBS = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "tkill": (200, 130), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "socket": (41, 198),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180), "mq_unlink": (241, 181), "memfd_create": (319, 279),
    "setpriority": (141, 140), "ioprio_set": (251, 30),
    "flock": (73, 32), "inotify_init": (253, None), "inotify_init1": (294, 26), "inotify_add_watch": (254, 27),
}  # fmt: skip
"""Denied to jobs of a warm runner as well: other processes, memory that would outlive the job or that no limit counts,
and locks and watches on files of the host, through which concurrent jobs could communicate."""

_FIRST_PROCESS_ONLY = ("mount", "umount2")
"""Calls denied everywhere but to the first process, which denies them to what it starts."""

_IN_COMMANDS = (*_FIRST_PROCESS_ONLY, "memfd_create", "inotify_init", "inotify_init1", "inotify_add_watch")
"""Denied to a session's commands as well: uncountable memory, and watches on the host's use of its files."""

_OWN_PROCESS_ONLY = {
    "kill": (62, 129), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
}  # fmt: skip
"""Calls that a job may make on itself and on no other process: the first argument is a process."""

_CLONE, _CLONE3, _SOCKET, _IOCTL, _FCNTL, _MMAP, _CLOCK = (
    (56, 220),
    (435, 435),
    (41, 198),
    (16, 29),
    (72, 25),
    (9, 222),
    (228, 113),
)
_NEW_NAMESPACES = 0x7E020080
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
_CLONE_THREAD = 0x10000
_FAMILIES = (1, 2, 10)
"""Kinds of sockets that a network namespace holds: AF_UNIX, AF_INET, AF_INET6."""
_TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put characters into a terminal as if its user had typed them."""
_LEASES = (1024, 1025, 1026)
"""F_SETLEASE, F_GETLEASE and F_NOTIFY: whoever holds them is told what others do with a file, and can keep them
waiting."""
_LOCKS = (5, 6, 7, 36, 37, 38, 1031)
"""F_GETLK, F_SETLK, F_SETLKW and those of open files; F_SETPIPE_SZ, which takes from what all sandboxes have
together."""
_SHARED, _NO_FILE = 0x01, 0x20
"""MAP_SHARED and MAP_ANONYMOUS: together they keep memory that is mapped no more."""
_CLOCKS_OF_FIRST = (0xFFFFFFF0, 0xFFFFFFF1, 0xFFFFFFF2)
"""Processor time of the first process, which clears up after every job."""

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_KILL, _ALLOW = 0x80000000, 0x7FFF0000
_DENY, _UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS


def for_all(machine: str) -> bytes:
    """Assemble the filter for everything in the sandbox, as `bwrap --seccomp` reads it; the first process may mount."""
    rules = [
        *_opening(machine),
        *_denied({name: call for name, call in _EVERYWHERE.items() if name not in _FIRST_PROCESS_ONLY}, machine),
    ]
    # The flags of clone3 lie in memory, which a filter cannot read; where it is unknown, programs use clone.
    rules += [_if_number(_CLONE3, machine, [_answer(_UNKNOWN)])]
    rules += [_if_number(_CLONE, machine, [_argument(0), _jump(_JUMP_BITS, _NEW_NAMESPACES, 0, 1), _answer(_DENY)])]
    rules += [_if_number(_SOCKET, machine, _unless_one_of(0, _FAMILIES))]
    rules += [_if_number(_IOCTL, machine, [_argument(1), *_if_one_of(_TERMINAL_INPUT)])]
    return b"".join([*rules, _answer(_ALLOW)])


@cache
def for_job(machine: str, process: int) -> bytes:
    """Assemble the filter for the code of a job."""
    rules = [
        *_opening(machine),
        *_denied(_IN_JOBS | {name: _EVERYWHERE[name] for name in _FIRST_PROCESS_ONLY}, machine),
    ]
    rules += [_if_number(_CLONE, machine, [_argument(0), _jump(_JUMP_BITS, _CLONE_THREAD, 1, 0), _answer(_DENY)])]
    for name, numbers in _OWN_PROCESS_ONLY.items():
        # For the other calls 0 is the caller itself; for a signal it is the whole process group.
        own = (process,) if name.startswith(("kill", "tgkill", "rt_")) else (0, process)
        rules += [_if_number(numbers, machine, _unless_one_of(0, own))]
    rules += [_if_number(_FCNTL, machine, [_argument(1), *_if_one_of((*_LEASES, *_LOCKS))])]
    rules += [_if_number(_CLOCK, machine, [_argument(0), *_if_one_of(_CLOCKS_OF_FIRST)])]
    return b"".join([*rules, _no_shared_memory(machine), _answer(_ALLOW)])


def for_command(machine: str) -> bytes:
    """Assemble the filter for a session's commands."""
    calls = _EVERYWHERE | _IN_JOBS
    rules = [*_opening(machine), *_denied({name: calls[name] for name in _IN_COMMANDS}, machine)]
    rules += [_if_number(_FCNTL, machine, [_argument(1), *_if_one_of(_LEASES)])]
    return b"".join([*rules, _no_shared_memory(machine), _answer(_ALLOW)])


def _no_shared_memory(machine: str) -> bytes:
    """Deny shared memory without a file; a file's memory counts for the work folder."""
    return _if_number(
        _MMAP,
        machine,
        [_argument(3), _jump(_JUMP_BITS, _NO_FILE, 0, 2), _jump(_JUMP_BITS, _SHARED, 0, 1), _answer(_DENY)],
    )


def apply(program: bytes) -> None:
    """Set a filter on this process for good; the process must have given up new privileges, as all in the sandbox have.

    Raises:
        OSError: the kernel refused.
    """

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    kernel = ctypes.CDLL(None, use_errno=True)
    set_seccomp, mode_filter = 22, 2
    if kernel.prctl(set_seccomp, mode_filter, ctypes.byref(Program(len(program) // 8, program)), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel refused the filter on system calls")


def _opening(machine: str) -> Iterator[bytes]:
    """Kill calls of another architecture, refuse calls newer than this list, and leave the call's number loaded."""
    yield _load(_ARCHITECTURE)
    yield _jump(_JUMP_EQUAL, _AUDIT_ARCH[machine], 1, 0)
    yield _answer(_KILL)
    yield _load(_NUMBER)
    yield _jump(_JUMP_AT_LEAST, _FIRST_UNKNOWN, 0, 1)
    yield _answer(_UNKNOWN)


def _denied(calls: dict[str, tuple[int, int | None]], machine: str) -> Iterator[bytes]:
    for numbers in calls.values():
        yield _if_number(numbers, machine, [_answer(_DENY)])


def _if_number(numbers: tuple[int, int | None], machine: str, body: list[bytes]) -> bytes:
    """Return the instructions for one system call; after them the number is loaded again."""
    number = numbers[MACHINES.index(machine)]
    if number is None:
        return b""
    instructions = [*body, _load(_NUMBER)]
    return b"".join([_jump(_JUMP_EQUAL, number, 0, len(instructions)), *instructions])


def _if_one_of(values: tuple[int, ...]) -> list[bytes]:
    return [instruction for value in values for instruction in (_jump(_JUMP_EQUAL, value, 0, 1), _answer(_DENY))]


def _unless_one_of(argument: int, values: tuple[int, ...]) -> list[bytes]:
    # Each match jumps over the tests that are left and the denial behind them.
    jumps = [_jump(_JUMP_EQUAL, value, len(values) - index, 0) for index, value in enumerate(values)]
    return [_argument(argument), *jumps, _answer(_DENY)]


def _argument(index: int) -> bytes:
    """Load the low half of an argument: all that the kernel reads of a process id, a flag word or a command."""
    return _load(_ARGUMENTS + 8 * index)


def _load(offset: int) -> bytes:
    return struct.pack("<HBBI", _LOAD, 0, 0, offset)


def _jump(test: int, value: int, when_true: int, when_false: int) -> bytes:
    return struct.pack("<HBBI", test, when_true, when_false, value)


def _answer(action: int) -> bytes:
    return struct.pack("<HBBI", _RETURN, 0, 0, action)


def this_machine() -> str:
    """Return the machine's name, as in `MACHINES` where there are filters for it."""
    return platform.machine()
