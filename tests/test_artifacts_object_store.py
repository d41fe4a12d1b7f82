"""A store in object storage: a real local server that speaks S3, shared by machines with caches of their own."""

import errno
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock
from typing import Any

import boto3
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

from astray.artifacts import Progress, StepState, Store, bucket_locks, execute
from astray.artifacts.bucket_locks import locked
from astray.artifacts.manifest import KEY_DIGITS
from astray.artifacts.mirror import Mirror
from astray.artifacts.status import note_steps
from astray.artifacts.workplaces.probe import Probe
from astray.cli import app
from astray.errors import StoreError
from test_artifacts_execute import Log, contents, run, total
from toy_steps import Toy, add, diamond


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of a bucket."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = server.get_host_and_port()
        for name, value in (("ENDPOINT_URL", f"http://{host}:{port}"), ("DEFAULT_REGION", "us-east-1")):
            patch.setenv(f"AWS_{name}", value)
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            patch.setenv(f"AWS_{name}", "testing")
        boto3.client("s3").create_bucket(Bucket="runs")
        put, one = S3Response.put_object, Lock()

        def alone(response: S3Response) -> Any:
            with one:  # as S3 does, whose conditional writes are atomic
                return put(response)

        patch.setattr(S3Response, "put_object", alone)
        yield "s3://runs"
    server.stop()


def test_what_one_machine_made_another_finds_without_listing_the_store(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute([diamond()], Store(f"{bucket}/one", cache=tmp_path / "one"), workers=2)
    execute([diamond()], Store(tmp_path / "folder"), workers=0)
    assert contents(tmp_path / "one") == contents(tmp_path / "folder")
    monkeypatch.setattr(Mirror, "folder_names", lambda _: pytest.fail("the whole store was listed"))
    other = Store(f"{bucket}/one", cache=tmp_path / "two")
    log = run(other, diamond())
    assert [(event.name, event.state) for event in log.events] == [("bottom", StepState.DONE_BEFORE)]
    monkeypatch.undo()
    assert total(other, diamond()) == 113


def test_an_unfinished_study_goes_on_on_another_machine(bucket: str, tmp_path: Path) -> None:
    step = diamond(2)
    execute([step.inputs["one"]], Store(f"{bucket}/two", cache=tmp_path / "one"), workers=0)
    log = run(Store(f"{bucket}/two", cache=tmp_path / "two"), step)
    assert set(log.names(StepState.DONE_BEFORE)) == {"top", "left"}
    assert log.names(StepState.STARTED) == ["right", "bottom"]


def test_a_node_that_cannot_reach_the_bucket_says_so(bucket: str) -> None:
    assert Probe(f"{bucket}/three", "", "")() == ""
    assert "cannot be used" in Probe("nosuch://runs", "", "")()


def test_the_store_is_listed_before_and_after_an_execution_and_not_for_each_step(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, list_all = [], Mirror.folder_names
    monkeypatch.setattr(Mirror, "folder_names", lambda mirror: listed.append(mirror) or list_all(mirror))
    execute([diamond()], Store(f"{bucket}/listed", cache=tmp_path / "one"), workers=0)
    assert len(listed) <= 2


def test_what_another_machine_made_under_another_name_since_the_listing_is_found(bucket: str, tmp_path: Path) -> None:
    here, there = (Store(f"{bucket}/named", cache=tmp_path / name) for name in ("here", "there"))
    step = diamond().inputs["one"]
    listing = here.by_digits()
    execute([replace(step, name="elsewhere")], there, workers=0)
    assert listing == {}
    found = here.get(step.key, among=here.since(step.origin, ()))
    assert found is not None
    assert found.name == "elsewhere"


def test_two_drivers_on_one_bucket_do_each_step_once(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_locks, "_POLL", 0.01)
    steps, logs = [diamond(number) for number in (1, 2)], (Log(), Log())
    began, waited = Event(), Event()

    def first(event: Progress) -> None:
        logs[0](event)
        if event.state is StepState.STARTED:
            began.set()
            assert waited.wait(60)  # the lock is held until the other driver has met it

    def second(event: Progress) -> None:
        logs[1](event)
        if event.state is StepState.WAITING:
            waited.set()

    with ThreadPoolExecutor(2) as threads:
        stores = [Store(f"{bucket}/shared", cache=tmp_path / name) for name in ("one", "two")]
        one = threads.submit(execute, steps, stores[0], workers=0, progress=first)
        assert began.wait(60)
        two = threads.submit(execute, steps, stores[1], workers=0, progress=second)
        assert one.result().keys() == two.result().keys()
    names = [name for log in logs for name in log.names(StepState.STARTED)]
    assert sorted(names) == sorted(["top", "left", "right", "bottom"] * 2)
    assert [total(store, steps[0]) for store in stores] == [113, 113]
    assert not [key for key in _objects(bucket) if key.startswith("shared/.locks")]


def test_status_tells_on_every_machine_which_other_one_runs_a_step(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, steps = f"{bucket}/status", [add.step(Toy(number=number), name=name) for number, name in enumerate("ab")]
    note_steps(Store(url, cache=tmp_path / "one"), "toy", steps)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "two"))  # a machine that has run nothing
    with locked(Mirror(url), steps[1].key[:KEY_DIGITS], "node7 boot /cache x", wait=False):
        for stale, told in ((300.0, "on node7, for "), (-1.0, "on node7, last heard of ")):
            monkeypatch.setattr(bucket_locks, "STALE", stale)
            app.main(["status", "--store", url], standalone_mode=False)
            counted, running = capsys.readouterr().out.splitlines()
            assert counted == "toy: 1 running, 1 not begun"
            assert running.startswith(f"  running  b  {told}")


def _objects(bucket: str) -> list[str]:
    found = boto3.client("s3").list_objects_v2(Bucket=bucket.removeprefix("s3://"))
    return [each["Key"] for each in found.get("Contents", ())]


def test_a_lock_that_nobody_renews_is_taken_over_by_its_age_as_seen_here_or_by_its_owner(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(f"{bucket}/stale")
    held = [locked(mirror, "ab", owner, wait=False) for owner in ("killed", "other", "killed")]
    with held[0] as first:
        assert first
        with held[1] as second:
            assert not second  # seen for the first time: it may have been renewed just now
        with held[2] as third:  # the machine's own lock of the step is free, so whoever held this one was killed
            assert third
    with locked(mirror, "cd", "far away, in another century", wait=False):
        monkeypatch.setattr(bucket_locks, "STALE", 0.0)
        with locked(mirror, "cd", "here", wait=False) as held_here:
            assert not held_here
        mirror.write(".locks/cd", b"renewed, by a version that writes something else")
        with locked(mirror, "cd", "here", wait=False) as held_here:
            assert not held_here
        with (
            pytest.warns(UserWarning, match="was not renewed for 0 s: its step is done here"),
            locked(mirror, "cd", "here", wait=False) as held_here,
        ):
            assert held_here
    assert not [key for key in _objects(bucket) if key.startswith("stale/")]


def test_two_that_find_a_lock_stale_do_not_both_take_it(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_locks, "STALE", 0.0)
    mirror = Mirror(f"{bucket}/claims")
    mirror.write(".locks/ab", b"killed")
    taken, remove = [], Mirror.remove

    def overtaken(own: Mirror, name: str) -> None:
        if name == ".locks/ab" and not taken:  # just before this process removes the stale lock, another one comes
            with locked(mirror, "ab", "two", wait=False) as held:
                taken.append(held)
        remove(own, name)

    with locked(mirror, "ab", "one", wait=False) as held:
        assert not held  # seen for the first time
    monkeypatch.setattr(Mirror, "remove", overtaken)
    with pytest.warns(UserWarning, match="its step is done here"), locked(mirror, "ab", "one", wait=False) as held:
        monkeypatch.undo()
    assert (held, taken) == (True, [False])


def test_a_holder_renews_its_lock_and_says_when_it_was_taken_over(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror, lost, write = Mirror(f"{bucket}/renewed"), [True], Mirror.write

    def away_once(own: Mirror, name: str, content: bytes) -> None:
        write(own, name, content)
        if lost:
            lost.pop()
            raise StoreError("the connection was lost before the response came")

    class Turns(Event):
        """Lets a lock be renewed three times; another machine takes it before the last."""

        left = 3

        def wait(self, timeout: float | None = None) -> bool:
            self.left -= 1
            if self.left == 0:
                there = mirror.read(".locks/ab")
                assert there is not None
                assert b'"renewals": 2' in there
                write(mirror, ".locks/ab", b"of another machine")
            return self.left < 0

    monkeypatch.setattr(Mirror, "write", away_once)
    lock = bucket_locks._Lock(mirror, ".locks/ab", "here")
    assert lock.acquire(wait=False)
    with pytest.warns(UserWarning, match="another machine does this step, too"):
        lock.renew(Turns())
    lock.release()
    assert mirror.read(".locks/ab") == b"of another machine"


def test_a_storage_that_takes_no_lock_ends_the_step_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refused)
    monkeypatch.setattr(bucket_locks, "_POLL", 0.0)
    with (
        pytest.raises(StoreError, match="AccessDenied"),
        locked(Mirror("memory://read-only"), "ab", "here", wait=False),
    ):
        pytest.fail("a step that cannot be stored was begun")


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSYS, "NotImplemented"), TypeError("unexpected keyword argument 'mode'"), NotImplementedError()],
)
def test_a_storage_without_conditional_writes_is_used_without_locks(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", unknown)
    with (
        pytest.warns(UserWarning, match="makes no object exclusively"),
        locked(Mirror("memory://no-conditions"), "ab", "here", wait=False) as held,
    ):
        assert held


def test_a_lock_is_left_to_others_where_the_storage_fails_after_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    create, mirror = Mirror.create, Mirror("memory://fails-then")

    def made_once(own: Mirror, name: str, content: bytes) -> bool | None:
        if own.read(name) is None:
            return create(own, name, content)
        raise StoreError("503 Slow Down")

    monkeypatch.setattr(Mirror, "create", made_once)
    monkeypatch.setattr(bucket_locks, "_POLL", 0.0)
    with pytest.raises(StoreError, match="Slow Down"), locked(mirror, "ab", "here", wait=False):
        pytest.fail("nobody knows whether the storage excludes others")
    assert mirror.read(".locks/ab") is None


def test_a_copy_of_a_cache_folder_on_another_machine_has_a_name_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store("memory://copied", cache=tmp_path)
    (tmp_path / ".owner").write_text("")  # of a process that was killed just then
    own = store._owner()
    assert own == store._owner()
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    assert store._owner() != own
    copied = Store("memory://copied", cache=shutil.copytree(tmp_path, tmp_path.with_name("copy")))
    assert copied._owner() != store._owner()
    assert store._owner().split()[-1] == own.split()[-1] == (tmp_path / ".owner").read_text()


def test_a_storage_that_cannot_exclude_others_says_so_and_works_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda files, path, value, **_: pipe(files, path, value))
    store, one = Store("memory://overwrites", cache=tmp_path), add.step(Toy(number=4))
    with pytest.warns(UserWarning, match="makes no object exclusively"):
        execute([one], store, workers=0)
    assert total(store, one) == 4
