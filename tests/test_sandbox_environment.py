"""The sandbox as an Inspect environment: Inspect's own conformance checks hold in it, and an evaluation runs in one."""

import inspect

import anyio
import psutil
import pytest
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.scorer import Score, Target, accuracy, scorer
from inspect_ai.solver import TaskState, solver
from inspect_ai.util import SandboxUserUnsupportedError, sandbox
from inspect_ai.util._sandbox import self_check

from astray.sandbox.environment import AstraySandbox

NEEDS_ROOT = {"test_exec_as_user"}
SLOW = {
    "test_exec_timeout_kills_process",
    "test_exec_timeout_kills_child_processes",
    "test_exec_timeout",
}  # they wait; our own test waits less
CHECKS = {
    name: check
    for name, check in vars(self_check).items()
    if name.startswith("test_") and inspect.iscoroutinefunction(check)
}


async def in_sandbox(*checks):
    environments = await AstraySandbox.sample_init("checks", None, {})
    try:
        return [await check(environments["default"]) for check in checks]
    finally:
        await AstraySandbox.sample_cleanup("checks", None, environments, interrupted=False)


def test_inspects_own_checks_hold():
    checks = [check for name, check in sorted(CHECKS.items()) if name not in NEEDS_ROOT | SLOW]
    assert len(checks) >= 35
    anyio.run(in_sandbox, *checks)


def test_a_timeout_ends_the_command_and_what_it_started():
    async def check(environment):
        with pytest.raises(TimeoutError):
            await environment.exec(["sh", "-c", "sleep 41 & sleep 42"], timeout=1)
        await anyio.sleep(0.3)
        assert (await environment.exec(["sh", "-c", "ps -e -o args | grep 'slee[p]'"])).stdout == ""

    anyio.run(in_sandbox, check)


def test_two_samples_share_nothing_and_nothing_reaches_the_host():
    async def check():
        first, second = [(await AstraySandbox.sample_init("t", None, {}))["default"] for _ in range(2)]
        try:
            await first.write_file("mine/file.txt", "x")
            with pytest.raises(FileNotFoundError):
                await second.read_file("mine/file.txt")
            await first.exec(["ln", "-s", "/etc/shadow", "link"])
            with pytest.raises(FileNotFoundError):
                await first.read_file("link")
            with pytest.raises(SandboxUserUnsupportedError):
                await first.exec(["id"], user="root")
            seen = await first.exec(["sh", "-c", "id -un; ls /; tail -n +3 /proc/net/dev"])
            who, *rest = seen.stdout.split("\n")
            assert who == "sandbox"
            assert {"usr", "work", "proc"} < set(rest)
            assert not {"home", "root", "var", "sys", "run", "mnt"} & set(rest)
            assert [line.split(":")[0].strip() for line in rest if ":" in line] == ["lo"]
        finally:
            for environment in (first, second):
                await AstraySandbox.sample_cleanup("t", None, {"default": environment}, interrupted=False)

    anyio.run(check)


@scorer(metrics=[accuracy()])
def what_is_in_the_file():
    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=(await sandbox().read_file("result.txt")) == target.text)

    return score


@solver
def computes_in_the_sandbox():
    async def solve(state: TaskState, generate):
        await sandbox().exec(["sh", "-c", "echo $((20 + 22)) > result.txt"])
        return state

    return solve


def test_an_evaluation_runs_in_it_by_name(tmp_path):
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    task = Task(
        dataset=[Sample("?", target="42\n", id=number) for number in range(3)],
        solver=computes_in_the_sandbox(),
        scorer=what_is_in_the_file(),
    )
    [log] = eval(task, model=None, sandbox="astray", log_dir=str(tmp_path), display="none", log_realtime=False)
    assert log.status == "success"
    assert log.results.scores[0].metrics["accuracy"].value == 1
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
