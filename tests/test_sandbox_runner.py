"""A sandbox from outside: limits, ends, what is left of a job, and what happens where there is no sandbox that
holds."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from astray import machine
from astray.errors import AstrayError, ConfigurationError, SandboxError
from astray.sandbox import Job, Limits, Pool, Profile, Runner, bubblewrap, probe, require_sandbox
from astray.sandbox.inside.values import write_value

QUICK = Limits(wall_seconds=15.0, cpu_seconds=1)
BRIEF = Limits(wall_seconds=0.5, cpu_seconds=5)
HONEST = "def f(): return 5"


def payload(source: str, cases: int = 1):
    return {"nonce": "n", "source": source, "entry": "f", "cases": [write_value(())] * cases}


def command(script: str):
    return {"command": ["/bin/bash", "-c", script], "input": "", "cwd": "/work", "env": {}}


@pytest.fixture(scope="module")
def runner():
    with Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def session():
    with Runner(Profile(session=True, memory_bytes=300 << 20)) as session:
        yield session


@pytest.mark.parametrize(
    ("source", "limits", "stopped", "by"),
    [
        ("import time\ntime.sleep(60)", BRIEF, "time", signal.SIGKILL),
        ("while True: pass", QUICK, "", signal.SIGXCPU),
        ("import signal\nsignal.signal(signal.SIGXCPU, print)\nwhile True: pass", QUICK, "", signal.SIGKILL),
        ("import ctypes\nctypes.string_at(0)", QUICK, "", signal.SIGSEGV),
        (
            (
                "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\nwhile True: "
                "time.sleep(1)"
            ),
            BRIEF,
            "time",
            signal.SIGKILL,
        ),
    ],
    ids=["sleeps", "spins", "spins and ignores the warning", "crashes", "waits for a thread"],
)
def test_a_job_that_does_not_end_well_is_ended_and_the_next_one_is_served(runner, source, limits, stopped, by):
    run = runner.do("truth:run", payload(source), limits)
    assert (run.code, run.stopped, run.signal) == (None, stopped, by)
    assert run.cpu_seconds < 2.5
    assert runner.do("truth:run", payload(HONEST), QUICK).answer == b'n 0 value ["i","0x5"]\n'


def test_output_and_answer_are_cut_where_they_become_too_much(runner):
    limits = QUICK.model_copy(update={"output_bytes": 1000})
    loud = runner.do(
        "truth:run", payload("import sys\nprint('x' * 10**7)\nprint('y' * 10**7, file=sys.stderr)"), limits
    )
    assert loud.stopped == "output"
    assert len(loud.output) == 1000
    long = runner.do("truth:run", payload("def f(): return 'x' * 10**6"), limits)
    assert (long.stopped, len(long.answer)) == ("output", 1000)
    assert runner.do("truth:run", payload(HONEST), limits).stopped == ""


def test_a_job_sees_nothing_of_the_one_before(runner):
    mark = "kept-for-the-next"
    runner.do(
        "truth:run",
        payload(
            f"import builtins, math, sys, os\nbuiltins.print = math.pi = 3\nsys.modules['kept'] = os\nkept = {mark!r}"
        ),
        QUICK,
    )
    source = f"""
import gc, math, sys
def f():
    seen = [o for o in gc.get_objects() if isinstance(o, dict) and {mark[:8]!r} + {mark[8:]!r} in map(repr, o.values())]
    return [len(seen), math.pi > 3.1, "kept" in sys.modules, print is not 3]
"""
    assert runner.do("truth:run", payload(source), QUICK).answer == b'n 0 value ["l",["i","0x0"],true,false,true]\n'


def test_a_job_has_one_descriptor_of_its_own_and_no_way_to_the_parent(runner):
    source = """
import os, stat
def f():
    found = []
    for number in range(64):
        try:
            mode = os.fstat(number).st_mode
        except OSError:
            continue
        found.append([number > 2, stat.S_ISSOCK(mode)])
    return found
"""
    answer = runner.do("truth:run", payload(source), QUICK).answer
    assert answer.count(b"[") - 1 - 3 <= 2 * 2
    assert answer.count(b'["l",true,true]') == 1


def test_too_many_files_end_the_sandbox_and_nothing_else():
    with Runner() as runner:
        run = runner.do("truth:run", payload("for i in range(3000): open(f'/work/{i}', 'w').close()"), QUICK)
        assert not run.intact


def test_a_session_keeps_files_and_processes_and_a_timeout_ends_only_the_command(session):
    limits = Limits(wall_seconds=1.0, processes=32)
    session.do("shell:execute", command("echo kept > file; setsid sleep 30 & sleep 0.1"), limits)
    late = session.do("shell:execute", command("sleep 31 & sleep 32"), limits)
    assert late.stopped == "time"
    seen = session.do("shell:execute", command("cat file; ps -e -o args"), limits).output.decode()
    assert seen.startswith("kept")
    assert "sleep 30" in seen
    assert "sleep 31" not in seen
    assert "sleep 32" not in seen


def test_the_processes_of_a_session_share_one_limit_of_memory(session):
    hog = "python3 -c 'import time; held = bytearray(150 << 20); time.sleep(20)' & "
    run = session.do("shell:execute", command(hog * 3 + "wait"), Limits(wall_seconds=10.0, processes=32))
    assert run.stopped == "memory"
    session.do("shell:execute", command(hog * 3 + "sleep 0"), Limits(wall_seconds=10.0, processes=32))
    for _ in range(100):
        time.sleep(0.1)  # nobody waits for a command now, and the limit holds all the same
        left = session.do("shell:execute", command("ps -e -o args"), Limits(processes=32)).output.decode()
        if "bytearray" not in left:
            break
    assert "bytearray" not in left


def test_closing_ends_every_process_and_gives_back_every_descriptor():
    Runner().close()
    before = descriptors_open()
    with Runner(Profile(session=True)) as runner:
        runner.do("shell:execute", command("setsid sleep 300 & setsid sleep 300 & true"), Limits(processes=32))
        inside = psutil.Process(runner.process).children(recursive=True)
        assert len(inside) >= 3
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in inside)
    assert descriptors_open() == before


def test_a_sandbox_ends_with_the_process_that_started_it():
    code = """
import os, signal
from astray.sandbox import Limits, Profile, Runner
import psutil
runner = Runner(Profile(session=True))
runner.do("shell:execute", {"command": ["/bin/sh", "-c", "sleep 300 & true"], "input": "", "cwd": "/work", "env": {}}, Limits())
print(*[process.pid for process in psutil.Process().children(recursive=True)], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    inside = [int(word) for word in done.stdout.split()]
    assert len(inside) >= 3
    for _ in range(100):
        alive = [
            pid for pid in inside if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        ]
        if not alive:
            break
        time.sleep(0.05)
    assert alive == []


def test_a_pool_replaces_a_sandbox_that_is_odd_and_leaks_nothing_over_hundreds_of_jobs():
    sources = [
        HONEST,
        "import os\nos._exit(3)",
        "raise SystemExit(0)",
        "1 +",
        "open('left', 'w')",
        "import os\nos.mkdir('a')\nos.chmod('a', 0)",
    ] * 3
    sources[7] = "import os\nfor i in range(2000): open(f'/work/{i}', 'w').close()"
    before = children()
    with Pool(2) as pool:
        pool.run([Job("truth:run", payload(HONEST), QUICK)] * 8)
        descriptors, processes = descriptors_open(), len(children())
        runs = pool.run([Job("truth:run", payload(source), QUICK) for source in sources * 20])
        assert [run.answer for run in runs[::18]] == [b'n 0 value ["i","0x5"]\n'] * 20
        assert [number % 18 for number, run in enumerate(runs) if not run.intact] == [7] * 20
        assert descriptors_open() <= descriptors
        assert len(children()) <= processes
    assert children() == before


def descriptors_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def test_a_pool_of_nothing_is_refused():
    with pytest.raises(ConfigurationError, match="write 1 or more"):
        Pool(0)


@pytest.fixture
def unprobed():
    """The probe is made anew, before and after."""
    probe._probe.cache_clear()
    yield
    probe._probe.cache_clear()


def test_without_bubblewrap_nothing_is_run(unprobed, monkeypatch):
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda program: None)
    with pytest.raises(SandboxError, match="apt-get install bubblewrap") as caught:
        Pool()
    assert isinstance(caught.value, AstrayError)
    assert isinstance(caught.value, RuntimeError)


def test_doctor_says_whether_code_can_be_isolated_and_what_to_install(unprobed, monkeypatch):
    assert machine._sandbox().fine
    probe._probe.cache_clear()
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda program: None)
    missing = machine._sandbox()
    assert not missing.fine
    assert "apt-get install bubblewrap" in missing.detail


@pytest.mark.parametrize(
    ("says", "advice"),
    [
        (
            (
                "bwrap: No permissions to create new namespace, likely because the kernel does not allow "
                "non-privileged user namespaces."
            ),
            "sysctl user.max_user_namespaces",
        ),
        ("bwrap: setting up uid map: Permission denied", "apparmor_restrict_unprivileged_userns"),
        ("bwrap: something else", "docs/sandbox.md"),
    ],
    ids=["namespaces forbidden", "forbidden by AppArmor", "another reason"],
)
def test_where_namespaces_are_forbidden_nothing_is_run_and_the_message_says_what_to_do(
    unprobed, monkeypatch, tmp_path, says, advice
):
    program = tmp_path / "bwrap"
    program.write_text(
        f"#!/bin/sh\n[ \"$1\" = --version ] && echo bubblewrap 0.9.0 && exit\necho '{says}' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda name: str(program))
    with pytest.raises(SandboxError, match=advice) as caught:
        require_sandbox()
    assert says.removeprefix("bwrap: ") in str(caught.value)


def test_an_old_bubblewrap_and_another_machine_are_refused(unprobed, monkeypatch, tmp_path):
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho bubblewrap 0.4.1\n")
    program.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(bubblewrap.shutil, "which", lambda name: str(program))
        with pytest.raises(SandboxError, match=r"version 0\.4; the sandbox needs 0\.8"):
            require_sandbox()
    monkeypatch.setattr(bubblewrap.sys, "platform", "darwin")
    with pytest.raises(SandboxError, match="never run without a sandbox"):
        require_sandbox()


def without(words):
    """`bubblewrap.isolation` without some of its words."""
    isolation = bubblewrap.isolation

    def weaker(*given):
        return [word for word in isolation(*given) if word not in words]

    return weaker


def exposed(*given):
    """`bubblewrap.isolation` with the host's /tmp in place of its own and the root left writable."""
    words = bubblewrap_isolation(*given)
    at = words.index("--remount-ro")
    return [*words[:at], *words[at + 2 :]]


bubblewrap_isolation = bubblewrap.isolation


@pytest.mark.parametrize(
    ("weaken", "says"),
    [
        (("isolation", without(["--unshare-net"])), "network"),
        (("isolation", without(["--unshare-ipc"])), "shares the host's namespaces ipc"),
        (("isolation", without(["--unshare-uts", "--hostname", "sandbox"])), "shares the host's namespaces uts"),
        (("isolation", without(["--clearenv"])), "environment can be seen"),
        (("isolation", exposed), "can be written"),
        (("ENVIRONMENT", {**bubblewrap.ENVIRONMENT, "HOST_SECRET": "x"}), "environment can be seen"),
    ],
    ids=["network", "ipc", "host name", "environment", "writable system", "variables"],
)
def test_a_sandbox_that_does_not_isolate_is_refused(unprobed, monkeypatch, weaken, says):
    monkeypatch.setattr(bubblewrap, *weaken)
    if says.startswith("environment"):
        spawn = subprocess.Popen
        monkeypatch.setattr(
            bubblewrap.subprocess,
            "Popen",
            lambda *given, **more: spawn(*given, **{**more, "env": {"HOST_SECRET": "x"}}),
        )
    with pytest.raises(SandboxError, match="does not hold on this machine") as caught:
        require_sandbox()
    assert says in str(caught.value)


def test_a_sandbox_without_its_filters_is_refused(unprobed, monkeypatch):
    monkeypatch.setattr(
        bubblewrap.seccomp, "for_all", lambda machine: b"\x06\x00\x00\x00\x00\x00\xff\x7f"
    )  # allows everything
    with pytest.raises(SandboxError, match="a job can") as caught:
        require_sandbox()
    assert "trace" in str(caught.value)
