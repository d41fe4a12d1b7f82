"""Test from inside whether the sandbox isolates on this machine, once, before anything untrusted runs.

A bubblewrap that is installed but does not isolate (another program of that name, a kernel without a feature) is
refused like a missing one.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from astray.errors import SandboxError
from astray.sandbox.bubblewrap import ENVIRONMENT
from astray.sandbox.limits import Limits
from astray.sandbox.runner import Profile, Runner

_KNOWN_VARIABLES = {*ENVIRONMENT, "LD_LIBRARY_PATH", "PWD", "LC_CTYPE"}


def require_sandbox() -> None:
    """Verify that untrusted code can be run; takes some 0.2 seconds the first time.

    Raises:
        SandboxError: it cannot (no bubblewrap, namespaces forbidden, no isolation); says what to do.
    """
    _probe(os.getpid())


@cache
def _probe(process: int) -> None:
    del process  # a fork of this process tests for itself
    leaks = [*_seen_in_session(), *_done_in_job()]
    if leaks:
        raise SandboxError(
            f"The sandbox for untrusted code does not hold on this machine: {'; '.join(leaks)}. It is not used, and "
            "nothing untrusted is run. Install Debian's bubblewrap on a machine with Linux 5.14 or later, and see "
            "docs/sandbox.md."
        )


def _seen_in_session() -> Iterator[str]:
    with tempfile.NamedTemporaryFile() as canary, Runner(Profile(session=True)) as runner:
        Path(canary.name).chmod(0o644)  # readable for everybody: only isolation may hide it
        run = runner.do("evidence:of_session", {"host_file": canary.name}, Limits(processes=8))
        left = runner.do(
            "shell:execute",
            _command("for i in $(seq 40); do sleep 30 & done; wait"),
            Limits(processes=8, wall_seconds=0.5),
        )
    if run.code != 0:
        yield f"it cannot be looked at from inside ({run.errors.decode(errors='replace')[-200:]})"
        return
    yield from _leaks(json.loads(run.answer))
    if b"fork" not in left.errors:  # the shell says that it cannot fork
        yield "the number of processes has no limit"


def _leaks(seen: dict[str, Any]) -> Iterator[str]:
    if seen["host file"]:
        yield "a file of the host can be seen"
    if set(seen["network devices"]) - {"lo"}:
        yield f"it has the network devices {', '.join(seen['network devices'])}"
    if len(seen["processes"]) > 2:  # the first process and the job itself
        yield "processes of the host can be seen"
    namespaces = seen["namespaces"].items()
    shared = [name for name, link in namespaces if link == str(Path("/proc/self/ns", name).readlink())]
    if shared:
        yield f"it shares the host's namespaces {', '.join(shared)}"
    if int(seen["capabilities"], 16) or seen["no new privileges"] != "1":
        yield "it has privileges or can get some"
    if seen["filters"] == "0":
        yield "system calls are not filtered"
    if set(seen["environment"]) - _KNOWN_VARIABLES:
        yield "the host's environment can be seen"
    if seen["writable"]:
        yield f"{', '.join(seen['writable'])} can be written"


def _done_in_job() -> Iterator[str]:
    with Runner() as runner:
        run = runner.do("evidence:of_job", {}, Limits(wall_seconds=5.0))
    if run.code != 0:
        yield f"a job in it does not end well ({run.errors.decode(errors='replace')[-200:]})"
        return
    for done in json.loads(run.answer):
        yield f"a job can {done}"
    if runner.renews and not run.intact:
        yield "a job left something behind"


def _command(script: str) -> dict[str, Any]:
    return {"command": ["/bin/sh", "-c", script], "input": "", "cwd": "/work", "env": {}}
