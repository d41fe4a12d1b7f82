"""What Slurm's own commands say: the jobs in its queue, how a job ended, what a partition has.

Only answers of these commands are used, never a clock of another machine.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from astray.errors import ConfigurationError, MissingExtraError, UnknownNameError

_SECONDS = 60
"""Seconds that a command has to answer; a busy controller takes some."""
LOST = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED")
"""States of jobs that ended through no fault of their own."""


@dataclass(frozen=True)
class Queued:
    """A job in the queue.

    Attributes:
        state: Slurm's word for it, such as PENDING or RUNNING.
        why: why it waits.
    """

    state: str
    why: str

    @property
    def running(self) -> bool:
        """Return whether it runs."""
        return self.state in ("RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING")


def queue() -> dict[str, Queued] | None:
    """Return this user's jobs that wait or run, those of arrays one by one; None where Slurm does not answer."""
    told = _answer("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i|%T|%r")
    if told is None:
        return None
    rows = (line.strip().split("|", 2) for line in told.splitlines() if line.count("|") >= 2)
    return {job: Queued(state, why) for job, state, why in rows}


def ending(job: str) -> str:
    """Return the state in which a job ended, such as TIMEOUT; "" where Slurm keeps no account or does not answer."""
    told = _answer("sacct", "--noheader", "--parsable2", "--allocations", "--format=State", f"--jobs={job}") or ""
    words = told.split()  # "CANCELLED by 1000"; of a job that was requeued the last attempt stands last
    return next((word for word in reversed(words) if re.fullmatch(r"[A-Z_]{5,}", word)), "")


def check_partition(name: str, gpus: int, minutes: int) -> None:
    """Refuse a partition that does not exist, or that can never run what is asked for.

    Raises:
        MissingExtraError: this machine has no Slurm.
        ConfigurationError: the partition has fewer GPUs a node, or a shorter time limit.
        UnknownNameError: there is no such partition.
    """
    if shutil.which("sbatch") is None or shutil.which("sinfo") is None:
        raise MissingExtraError("Slurm (sbatch is not on the PATH)", "--on slurm", "ssh LOGIN-NODE, and run there")
    told = _answer("sinfo", "--noheader", "--format=%R|%G|%l")
    if told is None:
        return  # a controller that does not answer now; sbatch refuses with its own words
    rows = [line.strip().split("|") for line in told.splitlines() if line.count("|") == 2]
    if name not in (partitions := {row[0] for row in rows}):
        raise UnknownNameError("partition of this cluster", name, partitions)
    most = max(_gpus(row[1]) for row in rows if row[0] == name)
    if gpus > most:
        raise ConfigurationError(
            f"--gpus {gpus}: a node of the partition {name!r} has {most}, so the job would wait for ever. Give "
            f"{f'--gpus {most} or fewer' if most else 'a partition with GPUs, or --gpus 0'}."
        )
    longest = max(_minutes(row[2]) for row in rows if row[0] == name)
    if minutes > longest:
        raise ConfigurationError(
            f"--time {minutes}m: jobs of the partition {name!r} may take {longest:g} minutes. Give --time "
            f"{longest:g}m or less: a training run goes on in the next job from its last checkpoint."
        )


def _gpus(resources: str) -> int:
    """Return the GPUs of a node from Slurm's list of its resources, such as "gpu:a100:4(S:0-1),shard:8"."""
    return sum(int(count) for count in re.findall(r"(?:^|,)gpu(?::[^:,(]+)?:(\d+)", resources))


def _minutes(limit: str) -> float:
    """Return a time limit in minutes: "infinite", "30:00", "4:00:00" or "1-12:00:00"."""
    days, _, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":") if part.isdigit()]
    if not parts:
        return float("inf")
    hours, minutes, seconds = [0, 0, 0, *parts][-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def _answer(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
