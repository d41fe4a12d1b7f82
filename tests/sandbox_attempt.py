"""One attempt to get out of the sandbox or to use up the machine; the tables of them are in `sandbox_attempts`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """One attempt.

    Attributes:
        name: what is tried.
        code: the body of a function; returns something true, or prints ESCAPED, where it succeeded.
        job: whether it is tried in a warm runner's job, where processes, sockets and shared memory are forbidden too.
        session: whether it is tried as an agent's command, which may have those.
        root: whether even outside only root succeeds.
        then: the body of a second function, run after the first has ended: what was tried is to leave something behind.
    """

    name: str
    code: str
    job: bool = True
    session: bool = True
    root: bool = False
    then: str = ""


LIBC = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); "


def reaches_the_kernel(
    name: str, arguments: str, root: bool = False, job: bool = True, session: bool = True
) -> Attempt:
    """A system call with arguments that do nothing: denied by the filter it gives EPERM or ENOSYS, else anything but
    that."""
    code = LIBC + (
        f"import errno; done = libc.syscall(SYS_{name}, {arguments}); return done >= 0 or ctypes.get_errno() not "
        "in (errno.EPERM, errno.ENOSYS)"
    )
    return Attempt(f"system call {name}", code, job, session, root)


def only_in_job(name: str, code: str, **more: bool | str) -> Attempt:
    """An attempt at something that an agent's commands may do."""
    return Attempt(name, code, session=False, **more)
