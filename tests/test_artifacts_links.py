"""Links and names cannot lead out of a store, whoever made them."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from astray.artifacts import Store, execute
from astray.artifacts.manifest import Origin
from astray.artifacts.uses import in_use
from astray.errors import AstrayError, ConfigurationError, DataFormatError, StoreError
from astray.subjects.locate import resolve, settle
from astray.subjects.registered import SUBJECT_FILE, register
from astray.subjects.spec import SubjectSpec
from toy_steps import Toy, add, gather

ORIGIN = Origin(name="Train run", function="somewhere:train", version=1, config={"number": 0}, inputs={})


@pytest.mark.parametrize("part", [".locks", ".unfinished", ".uses", ".damaged"])
def test_a_part_of_the_store_that_is_a_link_is_refused_and_not_followed(tmp_path: Path, part: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    step = gather.step(Toy(number=1))
    for name in (step.key[:16], "0123456789abcdef", "mine.txt"):
        (elsewhere / name).write_text("keep")
    store = Store(tmp_path / "store")
    if part == ".damaged":
        execute([step], store, workers=0)
        (store.folder / step.origin.folder_name / "0.txt").unlink()
    store.folder.mkdir(exist_ok=True)
    (store.folder / part).symlink_to(elsewhere)
    with pytest.raises(StoreError, match=rf"{part} is a link"), in_use(store, "study", [step.key]):
        execute([step], store, workers=0)
    assert sorted((path.name, path.read_text()) for path in elsewhere.iterdir()) == sorted(
        (name, "keep") for name in (step.key[:16], "0123456789abcdef", "mine.txt")
    )


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_is_not_emptied(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("keep")
    step = add.step(Toy())
    store = Store(tmp_path / "store")
    (store.folder / ".locks").mkdir(parents=True)
    (store.folder / ".locks" / step.key[:16]).symlink_to(mine)
    with pytest.raises(StoreError, match="is a link"):
        execute([step], store, workers=0)
    assert mine.read_text() == "keep"


def test_names_that_cannot_be_kept_are_refused_when_they_are_written(tmp_path: Path) -> None:
    for name in ("a\\b", "a\nb"):
        with pytest.raises(DataFormatError, match="cannot be kept"):
            Store(tmp_path).make(ORIGIN, lambda folder, name=name: (folder / name).touch())


NAMES = (
    "../evil", "..", ".", "", "/etc", "a/b", "a\\b", "a\0b", "C:x", "~", "-x", ".hidden", "a\n", "é", "a b", "x" * 300, "a.", "a/../../b", "\ud800",
)  # fmt: skip
"""Names of runs and studies that would lead out of a store, or that not every system can hold."""


@pytest.mark.parametrize("name", NAMES)
def test_runs_and_studies_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    store = tmp_path / "store"
    with pytest.raises(ConfigurationError, match="cannot be the name of a run"):
        register(name, SubjectSpec(model="organism"), store)
    with pytest.raises(ConfigurationError, match="cannot be the name of a study"), in_use(Store(store), name, []):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name and "\ud800" not in name])
def test_such_a_name_is_not_looked_up_in_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ASTRAY_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / SUBJECT_FILE).write_text('{"model": "organism"}')
    with contextlib.suppress(AstrayError):
        assert resolve(name) == SubjectSpec(model=name)  # the form of a hub name


def test_a_run_is_not_registered_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run-1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        register("run-1", SubjectSpec(model="organism"), tmp_path)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def run(folder: Path, model: object) -> None:
    folder.mkdir(exist_ok=True)
    (folder / SUBJECT_FILE).write_text(json.dumps({"model": str(model)}))


def adapter(folder: Path, base: object) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(base)}))
    (folder / "adapter_model.safetensors").touch()


CIRCLES: dict[str, Callable[[Path], object]] = {
    "itself": lambda at: run(at / "a", at / "a"),
    "itself by a run's name": lambda at: run(at / "a", "a"),
    "itself by a longer path": lambda at: run(at / "a", at / "a" / ".." / "a"),
    "each other": lambda at: (run(at / "a", "b"), run(at / "b", "a")),
    "three": lambda at: (run(at / "a", "b"), run(at / "b", "c"), run(at / "c", "a")),
    "an adapter on itself": lambda at: adapter(at / "a", at / "a"),
    "a run on an adapter on the run": lambda at: (run(at / "a", at / "b"), adapter(at / "b", at / "a")),
    "by a link": lambda at: (run(at / "a", at / "b"), (at / "b").symlink_to(at / "a")),
    "a chain of 500": lambda at: [run(at / ("a" if n == 0 else f"r{n}"), f"r{n + 1}") for n in range(500)],
}


@pytest.mark.parametrize("circle", CIRCLES.values(), ids=CIRCLES.keys())
def test_subjects_that_name_each_other_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, circle: Callable[[Path], object]
) -> None:
    monkeypatch.setenv("ASTRAY_STORE", str(tmp_path))
    circle(tmp_path)
    with pytest.raises(ConfigurationError, match="has no model at its end"):
        settle("a")
