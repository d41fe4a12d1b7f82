"""No attempt to get out of the sandbox, or to leave something in it, succeeds; and each would be noticed if it did."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from astray.sandbox import Limits, Profile, Runner
from astray.sandbox.inside import seccomp
from sandbox_attempt import Attempt
from sandbox_attempts import ATTEMPTS

TRIED_AS_ROOT = os.geteuid() == 0
CALL_NUMBERS = {
    name: numbers[seccomp.MACHINES.index(seccomp.this_machine())]
    for name, numbers in {
        **seccomp._EVERYWHERE,
        **seccomp._IN_JOBS,
        **seccomp._OWN_PROCESS_ONLY,
        "clone": seccomp._CLONE,
        "clone3": seccomp._CLONE3,
    }.items()
}
LIMITS = Limits(wall_seconds=4.0, cpu_seconds=3)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """What an attempt is after, on this side."""
    folder = tmp_path_factory.mktemp("host")
    (folder / "secret").write_text("a secret")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as file,
    ):
        name = f"astray-attempts-{os.getpid()}"
        abstract.bind("\0" + name)
        file.bind(str(folder / "socket"))
        for listener in (abstract, file):
            listener.listen(64)
        yield {
            "FILE": str(folder / "secret"),
            "FOLDER": str(folder),
            "PORT": str(server.getsockname()[1]),
            "ABSTRACT": name,
            "SOCKET": str(folder / "socket"),
            "PID": str(os.getpid()),
            "HOSTNAME": os.uname().nodename,
            "FIRST": "1",
        }


@pytest.fixture(scope="module")
def runner():
    with Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def session():
    with Runner(Profile(session=True)) as runner:
        yield runner


def script(code: str, host: dict[str, str]) -> str:
    for name, value in host.items():
        code = re.sub(rf"\b{name}\b", value, code)
    code = re.sub(r"SYS_(\w+)", lambda found: str(CALL_NUMBERS[found[1]]), code)
    return f"""
def attempt():
{textwrap.indent(code, "    ")}
try:
    if attempt():
        print("ESCAPED", flush=True)
except BaseException as error:
    print("failed:", type(error).__name__, error, flush=True)
"""


def in_job(runner: Runner, source: str):
    return runner.do("truth:run", {"nonce": "n", "source": source, "entry": "attempt", "cases": []}, LIMITS)


def in_session(runner: Runner, source: str):
    given = base64.b64encode(source.encode()).decode()
    payload = {"command": ["python3", "-S", "-"], "input": given, "cwd": "/work", "env": {}}
    return runner.do("shell:execute", payload, Limits(wall_seconds=6.0, processes=64, files=256, file_bytes=64 << 20))


def named(attempts):
    return pytest.mark.parametrize("attempt", attempts, ids=lambda attempt: attempt.name)


OUTSIDE = """
import json, os, sys
for number, scripts in enumerate(json.load(sys.stdin)):
    os.makedirs(f"{number}/work")
    for script in scripts:
        child = os.fork()
        if child == 0:
            os.chdir(f"{number}/work")
            said = os.open("../said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(said, 1), os.dup2(said, 2), os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            try:
                exec(script, {})
            finally:
                os._exit(0)
        os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def said_outside(host, tmp_path_factory):
    """What each attempt says that is made on the host itself, by its name."""
    folder = tmp_path_factory.mktemp("outside")
    made = [attempt for attempt in ATTEMPTS if TRIED_AS_ROOT or not attempt.root]
    host = host | {"FIRST": host["PID"]}
    scripts = json.dumps([[script(code, host) for code in (attempt.code, attempt.then) if code] for attempt in made])
    environment = {"ASTRAY_CANARY": "x", "PATH": "/usr/bin:/bin"}
    subprocess.run(
        [sys.executable, "-S", "-c", OUTSIDE],
        cwd=folder,
        env=environment,
        input=scripts,
        text=True,
        check=True,
        timeout=60,
    )
    return {attempt.name: (folder / str(number) / "said").read_text() for number, attempt in enumerate(made)}


@named([attempt for attempt in ATTEMPTS if TRIED_AS_ROOT or not attempt.root])
def test_outside_a_sandbox_the_attempt_succeeds_so_that_its_check_can_notice_something(attempt: Attempt, said_outside):
    assert "ESCAPED" in said_outside[attempt.name]


@named([attempt for attempt in ATTEMPTS if attempt.job])
def test_in_a_job_it_does_not(attempt: Attempt, host, runner, monkeypatch):
    monkeypatch.setenv("ASTRAY_CANARY", "x")
    for code in filter(None, (attempt.code, attempt.then)):
        run = in_job(runner, script(code, host))
        assert b"ESCAPED" not in run.output + run.errors
        assert run.stopped != "sandbox"
    assert run.intact
    honest = runner.do(
        "truth:run", {"nonce": "n", "source": "def f(): return 5", "entry": "f", "cases": ['["t"]']}, LIMITS
    )
    assert honest.answer == b'n 0 value ["i","0x5"]\n'
    assert Path(host["FILE"]).read_text() == "a secret"


@named([attempt for attempt in ATTEMPTS if attempt.session])
def test_as_a_command_of_an_agent_it_does_not(attempt: Attempt, host, session, monkeypatch):
    monkeypatch.setenv("ASTRAY_CANARY", "x")
    run = in_session(session, script(attempt.code, host))
    assert b"ESCAPED" not in run.output + run.errors
    assert Path(host["FILE"]).read_text() == "a secret"


def test_there_are_at_least_sixty_attempts():
    assert len({attempt.name for attempt in ATTEMPTS}) == len(ATTEMPTS) >= 60
