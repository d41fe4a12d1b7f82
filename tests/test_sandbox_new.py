"""Each job finds its sandbox as new, and all memory that a session holds is counted, whether it is mapped or not."""

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from astray.data.exercises import Case, Exercise
from astray.sandbox import Grader, Limits, Pool, Profile, Runner, bubblewrap, require_sandbox, verify
from astray.sandbox.inside.values import read_value, write_value

LIMITS = Limits(wall_seconds=15.0, cpu_seconds=5)
ADD = Exercise(
    "add", "Add.", "add", (Case((2, 3), 5), Case((0, 0), 0)), (Case((7, -9), -2),), "def add(a, b):\n    return a + b\n"
)
ECHO = Exercise("echo", "Repeat.", "", (Case(("1\n",), "1\n"),), (Case(("5\n",), "5\n"),), "print(input())\n")


def answer(runner: Runner, source: str):
    """What the function f of a source returns in a job."""
    run = runner.do("truth:run", {"nonce": "n", "source": source, "entry": "f", "cases": [write_value(())]}, LIMITS)
    return read_value(run.answer.decode().partition(" value ")[2])


@pytest.fixture
def grader():
    with Grader(workers=1) as grader:
        yield grader


def test_a_solution_that_locks_the_work_folder_spoils_no_later_one(grader):
    spoiling = "import os\nos.chmod('/work', 0o500)\ndef add(a, b): return a + b\n"
    for _ in range(3):
        grader.grade([ADD], [spoiling])
        honest = grader.grade([ADD, ECHO], [ADD.reference, ECHO.reference])
        assert [(grade.weak, grade.true) for grade in honest] == [(True, True)] * 2
    verify([ADD, ECHO], grader.pool)


def test_two_solutions_cannot_talk_through_the_work_folder(grader):
    exercises = [
        Exercise(f"add {n}", "Add.", "add", (Case((n, 3), n + 3),), (Case((n, 4), n + 4),), ADD.reference)
        for n in range(12)
    ]
    computes = "import os\ndef add(a, b):\n    os.utime('/work', ns=(0, a + b))\n    return a + b\n"
    listens = "import os\ndef add(a, b):\n    return os.stat('/work').st_mtime_ns - (b == 3)\n"
    grades = grader.grade([each for each in exercises for _ in range(2)], [computes, listens] * 12)
    assert all(grade.true for grade in grades[::2])
    assert not any(grade.passed for grade in grades[1::2])


def test_the_number_of_a_job_and_of_its_threads_says_nothing_of_those_before():
    source = (
        "import os, threading\ndef f():\n    t = threading.Thread(target=int)\n    t.start()\n    return "
        "os.getpid(), t.native_id\n"
    )
    with Runner() as runner:
        assert [answer(runner, source) for _ in range(4)] == [(2, 3)] * 4


FRAMES = """
import gc, sys
def f():
    found, frame = [], sys._getframe()
    while frame:
        found.append(repr(frame.f_locals))
        frame = frame.f_back
    found += [repr(each) for each in gc.get_objects() if isinstance(each, (dict, list, tuple))]
    return any(str(MARK << 8) in text for text in found)
"""


def test_how_a_job_ended_cannot_be_found_by_the_next_one():
    with Runner() as runner:
        for mark in (173, 91):
            runner.do(
                "truth:run", {"nonce": "n", "source": f"import os\nos._exit({mark})", "entry": "f", "cases": []}, LIMITS
            )
            assert answer(runner, FRAMES.replace("MARK", f"int('{mark}')")) is False


def test_where_the_host_does_not_grant_a_sandbox_the_right_to_mount_each_job_has_one_of_its_own(monkeypatch):
    monkeypatch.setattr(bubblewrap, "_FOR_FIRST", ())
    with Runner() as runner:
        run = runner.do(
            "truth:run", {"nonce": "n", "source": "def f(): return 5", "entry": "f", "cases": [write_value(())]}, LIMITS
        )
        assert (run.answer, run.intact) == (b'n 0 value ["i","0x5"]\n', False)
    require_sandbox.__globals__["_probe"].cache_clear()
    with Pool(1) as pool:
        verify([ADD] * 3, pool)
        assert pool.processes == ()
    require_sandbox.__globals__["_probe"].cache_clear()


SEGMENT = "import ctypes, time; libc = ctypes.CDLL(None); libc.shmat.restype = ctypes.c_void_p; "
HOLDS = {
    "segments that nobody maps": SEGMENT
    + "[(at := libc.shmat(libc.shmget(0, 1 << 26, 0o1600), None, 0), ctypes.memset(at, 1, 1 << 26), "
    "libc.shmdt(ctypes.c_void_p(at))) for _ in range(6)]; time.sleep(12)",
    "messages that nobody reads": SEGMENT
    + "text = (ctypes.c_char * 8008)(1); queues = [libc.msgget(0, 0o1600) for _ in range(20000)]; "
    "[libc.msgsnd(queue, text, 8000, 0o4000) for queue in queues * 2]; time.sleep(12)",
    "buffers of sockets": "import socket, time; held = [socket.socketpair() for _ in range(400)]; time.sleep(12)",
    "buffers of datagrams": "import socket, time; held = [socket.socketpair(type=socket.SOCK_DGRAM) for _ in range(60)]; time.sleep(12)",
    "memory of a process": "import time; held = bytearray(320 << 20); time.sleep(12)",
}
"""What holds more than 300 MiB: name -> a program of a session."""


@pytest.fixture(scope="module")
def session():
    with Runner(Profile(session=True, memory_bytes=300 << 20)) as session:
        yield session


def said(session: Runner, source: str, seconds: float = 10.0):
    given = base64.b64encode(source.encode()).decode()
    payload = {"command": ["python3", "-"], "input": given, "cwd": "/work", "env": {}}
    return session.do("shell:execute", payload, Limits(wall_seconds=seconds, cpu_seconds=30, files=1024, processes=32))


@pytest.mark.parametrize("name", HOLDS)
def test_a_session_that_holds_too_much_is_ended_whatever_holds_it(session, name):
    assert said(session, HOLDS[name]).stopped == "memory"
    after = said(
        session, "print(sum(len(open(f'/proc/sysvipc/{kind}').readlines()) for kind in ('shm', 'msg', 'sem')))"
    )
    assert (after.stopped, after.output) == ("", b"3\n")


def test_what_programs_do_with_memory_and_files_goes_on_in_a_session(session):
    source = """
import fcntl, mmap, os, socket, sqlite3, subprocess
with open("shared", "w+b") as file:
    file.truncate(1 << 20)
    fcntl.flock(file, fcntl.LOCK_EX)
    mmap.mmap(file.fileno(), 1 << 20)[5] = 5
assert open("shared", "rb").read()[5] == 5
assert open("/dev/zero", "rb").read(5) == bytes(5)
os.utime("shared", (5, 5))
base = sqlite3.connect("base")
base.execute("create table t (x)")
base.commit()
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).sendall(b"x")
print(subprocess.run(["cat"], input="well", text=True, capture_output=True).stdout)
"""
    run = said(session, source)
    assert (run.output, run.stopped) == (b"well\n", ""), run.errors


def test_a_session_has_a_bound_on_files_without_content():
    with Runner(Profile(session=True, disk_bytes=1 << 20)) as small:
        run = said(small, "for n in range(300): open(f'f{n}', 'w').close()")
    assert b"No space left" in run.errors


@pytest.mark.skipif(os.geteuid() != 0, reason="whoever is no root runs all the attempts as an ordinary user already")
def test_the_attempts_fail_for_an_ordinary_user_too(tmp_path):
    """Runs the suite as nobody, in a view of the file system in which that user reaches Python and this project."""
    tests = Path(__file__).parent
    places = {
        Path(place).resolve() for place in (sys.base_prefix, sys.prefix, tests.parent, *filter(os.path.isdir, sys.path))
    }
    closed = {folder for place in places for folder in place.parents if not folder.stat().st_mode & 0o001}
    words = ["--perms", "1777", "--tmpfs", "/tmp"]  # first: the project itself may lie there
    words += [word for folder in sorted(closed) for word in ("--perms", "0755", "--tmpfs", str(folder))]
    for place in sorted(places):
        words += [word for folder in reversed(place.parents[:-1]) for word in ("--perms", "0755", "--dir", str(folder))]
        words += ["--ro-bind", str(place), str(place)]
    words += ["--chdir", str(tests.parent)]
    user = [shutil.which("setpriv") or "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    suite = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_sandbox_attempts.py"]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HOME": "/tmp",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [str(bubblewrap.find_bubblewrap()), "--dev-bind", "/", "/", *words, *user, *suite]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
