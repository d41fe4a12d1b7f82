"""Inspect sandbox environment (`inspect eval ... --sandbox astray`) for agents that must not reach the host.

Each sample has one sandbox: /work is its folder, in memory; commands see /usr, no network and one another. Inspect's
tools that install a program of their own in the sandbox (exec_remote and tools that need it) do not work: nothing but
/work can be written, and there is no root.
"""

import base64
import errno
import os
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal, overload

import anyio
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
    SandboxUserUnsupportedError,
    sandboxenv,
)
from typing_extensions import override

from astray.sandbox.limits import SESSION_LIMITS
from astray.sandbox.probe import require_sandbox
from astray.sandbox.runner import Profile, Run, Runner

WORK = PurePosixPath("/work")
SESSION = Profile(session=True, disk_bytes=512 << 20)
_ERRORS: dict[int, type[OSError]] = {
    errno.ENOENT: FileNotFoundError,
    errno.ENOTDIR: FileNotFoundError,
    errno.EISDIR: IsADirectoryError,
    errno.EACCES: PermissionError,
    errno.EPERM: PermissionError,
    errno.EROFS: PermissionError,
}


@sandboxenv(name="astray")
class AstraySandbox(SandboxEnvironment):
    """Sandbox whose commands share files and processes; one command at a time."""

    @override
    @classmethod
    async def task_init(cls, task_name: str, config: SandboxEnvironmentConfigType | None) -> None:
        """Verify that the sandbox isolates, before the first sample."""
        await anyio.to_thread.run_sync(require_sandbox)

    @override
    @classmethod
    async def sample_init(
        cls, task_name: str, config: SandboxEnvironmentConfigType | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """Start a sandbox."""
        return {"default": cls(await anyio.to_thread.run_sync(partial(Runner, SESSION)))}

    @override
    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        """End the sandbox, with everything that runs in it."""
        for environment in environments.values():
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(environment.as_type(AstraySandbox).close)

    def __init__(self, runner: Runner) -> None:
        """Wrap a runner with a session."""
        super().__init__()
        self._runner = runner
        self._turn = anyio.Lock()

    def close(self) -> None:
        """End the sandbox."""
        self._runner.close()

    @override
    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Run a command; see `SandboxEnvironment.exec`.

        A command is not retried after a time-out: it may have done half its work.
        """
        if user is not None and user != "sandbox":
            raise SandboxUserUnsupportedError(
                f"Commands in this sandbox run as the user 'sandbox'; there is no {user!r} in it."
            )
        given = input.encode() if isinstance(input, str) else input or b""
        # As text: payloads are JSON, and the input need not be UTF-8.
        payload = {
            "command": cmd,
            "input": base64.b64encode(given).decode(),
            "cwd": str(WORK / (cwd or "")),
            "env": env or {},
        }
        run = await self._do("execute", payload, timeout, SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE)
        if run.stopped == "time":
            raise TimeoutError(f"{cmd[0]} ran longer than {timeout or SESSION_LIMITS.wall_seconds} s.")
        if run.answer and _ERRORS.get(run.answer[0]) is PermissionError:
            raise PermissionError(run.answer[0], "not allowed to run", cmd[0])
        out, err = run.output.decode(errors="replace"), run.errors.decode(errors="replace")
        if run.stopped == "output":
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR, out)
        if run.stopped == "memory":
            err += (
                f"\nThe sandbox ended all its processes: together they held more than {SESSION.memory_bytes >> 20} "
                "MiB of memory."
            )
        code = run.code if run.code is not None else 128 + (run.signal or 0)  # as a shell reports a signal
        return ExecResult(success=code == 0, returncode=code, stdout=out, stderr=err)

    @override
    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Write a file; see `SandboxEnvironment.write_file`."""
        content = contents.encode() if isinstance(contents, str) else contents
        payload = {"path": str(WORK / file), "content": base64.b64encode(content).decode()}
        _said(await self._do("write", payload, None, 1 << 10), file)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    @override
    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        """Read a file; see `SandboxEnvironment.read_file`."""
        most = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        run = await self._do("read", {"path": str(WORK / file)}, None, most + 1)
        if run.stopped == "output":
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
        content = _said(run, file)
        return content.decode() if text else content

    async def _do(self, function: str, payload: dict[str, Any], timeout: int | None, most: int) -> Run:
        """Run a job of `inside.shell` in a thread, one at a time."""
        limits = SESSION_LIMITS.model_copy(
            update={"output_bytes": most, "wall_seconds": float(timeout or SESSION_LIMITS.wall_seconds)}
        )
        async with self._turn:
            run = await anyio.to_thread.run_sync(partial(self._runner.do, f"shell:{function}", payload, limits))
        if run.stopped == "sandbox":
            raise SandboxUnavailableError("The sandbox is down.")
        return run


def _said(run: Run, file: str) -> bytes:
    """Return the answer of a job of `inside.shell`, after the byte that reports success.

    Raises:
        OSError: the error that the job reports; a plain one where it reported nothing, because its time or memory ran
            out.
    """
    if not run.answer:
        raise OSError(
            errno.EIO, f"no answer from the sandbox ({run.stopped or run.errors.decode(errors='replace')[-200:]})", file
        )
    number = run.answer[0]
    if number:
        raise _ERRORS.get(number, OSError)(number, os.strerror(number), file)
    return run.answer[1:]
