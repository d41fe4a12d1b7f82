"""Limits of a job in the sandbox."""

from pydantic import Field

from astray.strict import Strict

_MB = 1 << 20


class Limits(Strict):
    """Limits of one job. They hold for root too: the sandbox's processes are another user's."""

    wall_seconds: float = Field(
        10.0, gt=0, description="from start to end; 3 to 10 s are usual for tests of a function"
    )
    cpu_seconds: int = Field(5, ge=1, description="processor time of a process")
    memory_bytes: int = Field(
        512 * _MB, ge=64 * _MB, description="address space of a process; Python itself needs some 40 MB"
    )
    file_bytes: int = Field(16 * _MB, ge=0, description="size of one file")
    files: int = Field(64, ge=16, description="open files of a process")
    processes: int = Field(16, ge=0, description="threads beside the job's first; in a session, processes")
    output_bytes: int = Field(
        256 * 1024, ge=0, description="of standard output and of standard error each, and of what a job answers"
    )


SESSION_LIMITS = Limits(
    wall_seconds=120,
    cpu_seconds=60,
    memory_bytes=2048 * _MB,
    file_bytes=64 * _MB,
    files=256,
    processes=64,
    output_bytes=10 * _MB,
)
"""Limits of an agent's commands, which start compilers and servers; 10 MiB of output is Inspect's own limit."""
