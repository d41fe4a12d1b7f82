"""A store in object storage: a real local server that speaks S3, shared by machines with caches of their own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from astray.artifacts import StepState, Store, execute
from astray.artifacts.mirror import Mirror
from astray.artifacts.workplaces.probe import Probe
from test_artifacts_execute import contents, run, total
from toy_steps import diamond


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
