"""Damaged and hostile stores: names that lead elsewhere, links, changed files, folders that nobody made. One line an
input."""

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astray.artifacts import Artifact, Progress, StepState, Store, execute
from astray.artifacts.manifest import MANIFEST_FILE, Manifest, Origin
from astray.artifacts.soundness import _HASHED, is_plain
from astray.errors import AstrayError, DamagedArtifactError, StoreError
from fuzzing import tried
from toy_steps import Toy, add

SHA = "0" * 64


ORIGIN = Origin(name="Train run", function="somewhere:train", version=1, config={"number": 0}, inputs={})


def manifest_of(**changes: Any) -> dict[str, Any]:
    files = {"sum.txt": {"size": 1, "sha256": SHA}}
    return {"key": ORIGIN.key, "origin": ORIGIN.model_dump(), "files": files} | changes


FILE_NAMES = (
    "../evil",
    "../../evil",
    "a/../../evil",
    "a/..",
    "..",
    ".",
    "",
    "/",
    "/etc/passwd",
    "//host/share",
    "a//b",
    "a/",
    "./a",
    "a/./b",
    "C:evil",
    "c:/evil",
    "Z:\\evil",
    "..\\evil",
    "a\\b",
    "\\\\host\\share",
    "a\0b",
    "\0",
    "a\nb",
    "a\rb",
    "a\x7fb",
    "a\x1bb",
    "artifact.json",
    "x" * 256,
    "/".join(["deep"] * 400),
    "é" * 200,
    "\ud800",
)
"""Names of files that no manifest may hold."""


@pytest.mark.parametrize("name", FILE_NAMES)
def test_a_manifest_with_such_a_file_is_damaged(name: str) -> None:
    with pytest.raises(DamagedArtifactError, match=r"artifact\.json is not a manifest"):
        Manifest.from_bytes(json.dumps(manifest_of(files={name: {"size": 1, "sha256": SHA}})).encode(), "there")


@pytest.mark.parametrize(
    "name", ["a", "a/b/c.bin", "..a", "a..b", "...", "a b", "ä/ö", ".hidden", "deep/artifact.json", "ab:c", "x" * 255]
)
def test_names_that_stay_inside_are_kept(name: str) -> None:
    assert (
        name
        in Manifest.from_bytes(
            json.dumps(manifest_of(files={name: {"size": 1, "sha256": SHA}})).encode(), "there"
        ).files
    )


MANIFESTS: dict[str, bytes] = {
    "empty": b"",
    "cut off": json.dumps(manifest_of()).encode()[:-20],
    "no JSON": b"\x00\xff\xfe",
    "a list": b"[]",
    "null": b"null",
    "nested": b"[" * 100_000,
    "a file and its folder": json.dumps(
        manifest_of(files={name: {"size": 1, "sha256": SHA} for name in ("a", "a/b")})
    ).encode(),
    "a negative size": json.dumps(manifest_of(files={"a": {"size": -1, "sha256": SHA}})).encode(),
    "a size in words": json.dumps(manifest_of(files={"a": {"size": "much", "sha256": SHA}})).encode(),
    "a hash that is none": json.dumps(manifest_of(files={"a": {"size": 1, "sha256": "../x"}})).encode(),
    "a hash too short": json.dumps(manifest_of(files={"a": {"size": 1, "sha256": "00"}})).encode(),
    "no files": json.dumps({name: value for name, value in manifest_of().items() if name != "files"}).encode(),
    "files as a list": json.dumps(manifest_of(files=["a"])).encode(),
    "unknown fields": json.dumps(manifest_of(run="rm")).encode(),
    "another key": json.dumps(manifest_of(key="1" * 64)).encode(),
    "a key that is a path": json.dumps(manifest_of(key="../../x")).encode(),
    "a former key that is a path": json.dumps(manifest_of(formerly="../../x")).encode(),
    "a changed configuration": json.dumps(manifest_of(origin=ORIGIN.model_dump() | {"config": {"number": 1}})).encode(),
    "a number that is none": json.dumps(
        manifest_of(origin=ORIGIN.model_dump() | {"config": {"number": float("nan")}})
    ).encode(),
    "a number of 5,000 digits": json.dumps(manifest_of()).replace('"number": 0', f'"number": {"7" * 5000}').encode(),
    "a lone surrogate": json.dumps(manifest_of(origin=ORIGIN.model_dump() | {"config": {"number": "\ud800"}})).encode(),
    "no name": json.dumps(manifest_of(origin=ORIGIN.model_dump() | {"name": ""})).encode(),
}


@pytest.mark.parametrize("content", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_manifest_that_is_none_is_damaged_and_other_artifacts_are_found(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    sound = made(store, 1)
    bad = tmp_path / f"train-run-{ORIGIN.key[:16]}"
    bad.mkdir()
    (bad / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(DamagedArtifactError):
        store.get(ORIGIN.key)
    assert store.artifacts() == (sound,)
    assert [error.folder for error in store.damage()] == [bad]


def made(store: Store, number: int = 0) -> Artifact:
    return execute([step := add.step(Toy(number=number), name=f"step {number}")], store, workers=0)[step.key]


def same_size(folder: Path) -> None:
    (folder / "sum.txt").write_text("9")


def same_size_and_time(folder: Path) -> None:
    before = (folder / "sum.txt").stat()
    same_size(folder)
    os.utime(folder / "sum.txt", ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(folder: Path) -> None:
    (folder / "new").write_text("9")
    (folder / "new").rename(folder / "sum.txt")


def link_to_file(folder: Path) -> None:
    (folder / "sum.txt").rename(folder.parent / "elsewhere.txt")
    (folder / "sum.txt").symlink_to(folder.parent / "elsewhere.txt")


def link_to_folder(folder: Path) -> None:
    (folder / "sub").rename(folder.parent / "elsewhere")
    (folder / "sub").symlink_to(folder.parent / "elsewhere")


def linked_whole(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


def linked_manifest(folder: Path) -> None:
    (folder / MANIFEST_FILE).rename(folder.parent / "elsewhere.json")
    (folder / MANIFEST_FILE).symlink_to(folder.parent / "elsewhere.json")


def folder_in_place(folder: Path) -> None:
    (folder / "sum.txt").unlink()
    (folder / "sum.txt").mkdir()


def pipe_in_place(folder: Path) -> None:
    (folder / "sum.txt").unlink()
    os.mkfifo(folder / "sum.txt")


def file_for_folder(folder: Path) -> None:
    (folder / "sub").rename(folder.parent / "elsewhere")
    (folder / "sub").touch()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "same size": (same_size, "sum.txt differs from its checksum"),
    "same size and time": (same_size_and_time, "sum.txt differs from its checksum"),
    "another inode": (replaced, "sum.txt differs from its checksum"),
    "cut": (
        lambda folder: (folder / "sub" / "chance.bin").write_bytes(b"x"),
        "sub/chance.bin has 1 bytes instead of 1024",
    ),
    "missing": (lambda folder: (folder / "sum.txt").unlink(), "sum.txt is missing"),
    "a link to a file": (link_to_file, "sum.txt is a link"),
    "a link to a folder": (link_to_folder, "sub is a link"),
    "a link in its place": (linked_whole, "it is a link"),
    "a link to the manifest": (linked_manifest, "artifact.json is a link"),
    "a folder": (folder_in_place, "sum.txt is no regular file"),
    "a pipe": (pipe_in_place, "sum.txt is no regular file"),
    "a file for a folder": (file_for_folder, "sub/chance.bin is missing"),
    "no manifest": (lambda folder: (folder / MANIFEST_FILE).unlink(), "artifact.json is missing"),
}


@pytest.mark.parametrize(("damage", "told"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_artifact_is_told_moved_aside_and_made_again(
    tmp_path: Path, damage: Callable[[Path], object], told: str
) -> None:
    store = Store(tmp_path)
    artifact = made(store)
    content = (artifact.path / "sum.txt").read_bytes()
    damage(artifact.path)
    with pytest.raises(DamagedArtifactError, match=told):
        store.get(artifact.key)
    assert next(iter(store.damage())).folder == tmp_path / artifact.manifest.origin.folder_name
    events: list[Progress] = []
    step = add.step(Toy(), name="step 0")
    again = execute([step], store, workers=0, progress=events.append)[step.key]
    assert again == artifact
    assert (again.path / "sum.txt").read_bytes() == content
    [event] = [event for event in events if event.state is StepState.DAMAGED]
    assert told in event.reason
    assert [path.name for path in (tmp_path / ".damaged").iterdir()] == [f"{artifact.path.name}.0"]
    for kept in tmp_path.glob("elsewhere*"):
        assert kept.is_file() or any(kept.iterdir())  # what a link led to is as it was


def test_a_file_that_was_hashed_is_not_read_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = made(Store(tmp_path))
    time.sleep(0.15)  # a fresh file may change within a tick of the file system's clock
    assert artifact.path
    with monkeypatch.context() as patch:
        patch.setattr("astray.artifacts.soundness.file_sha256", lambda path: pytest.fail(f"{path} was read again"))
        assert artifact.path.is_dir()
    assert str(artifact.path / "sum.txt") in _HASHED
    same_size_and_time(artifact.path)
    with pytest.raises(DamagedArtifactError, match="differs from its checksum"):
        _ = artifact.path


def test_an_input_that_is_damaged_while_its_reader_waits_stops_the_run_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = add.step(Toy(number=1), name="first")
    second = add.step(Toy(number=2), name="second", before=first)

    def told(event: Progress) -> None:
        if (event.name, event.state) == ("first", StepState.FINISHED):
            same_size(tmp_path / first.origin.folder_name)

    with pytest.raises(StoreError, match=r"first-[0-9a-f]{16} is damaged: sum.txt differs"):
        execute([second], store, workers=0, progress=told)
    assert (execute([second], store, workers=0)[second.key].path / "sum.txt").read_text() == "3"


ODD_NAMES = (
    ".partial-..-x",
    ".partial-../x".replace("/", "-"),
    ".partial-",
    ".partial-..",
    ".partial-0123456789abcdeg-1-dead",
    ".partial-0123456789abcdef",
    ".partial-*-x",
    ".locks/..x",
    ".locks/0123",
    ".locks/name with blanks",
    ".unfinished/notes.txt",
    "0123456789abcdef",
    "-0123456789abcdef",
    "notes-0123456789abcdef",
    "x-0123456789abcdeg",
    "..x",
    "a b",
    "ä-ö",
)


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_store_with_things_that_nobody_made_works(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "store" / name
    path.parent.mkdir(parents=True)
    path.mkdir() if kind == "folder" else path.touch()
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "kept.txt").touch()
    store = Store(tmp_path / "store")
    artifact = made(store)
    store.sweep()
    assert artifact in store.artifacts()
    assert (tmp_path / "beside" / "kept.txt").exists()


def remote_store(tmp_path: Path, content: bytes, folder: str) -> Store:
    """A remote store with such a manifest in a folder, and something to download under every name it may hold."""
    url = f"memory://{tmp_path.name}/remote"
    fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/remote/{folder}/{MANIFEST_FILE}", content)
    return Store(url, cache=tmp_path / "in" / "cache")


@pytest.mark.parametrize("name", [*FILE_NAMES[:12], "a\\..\\..\\evil"])
def test_a_remote_manifest_writes_nothing_anywhere_else(tmp_path: Path, name: str) -> None:
    content = json.dumps(manifest_of(files={name: {"size": 1, "sha256": SHA}})).encode()
    store = remote_store(tmp_path, content, ORIGIN.folder_name)
    with pytest.raises(DamagedArtifactError):
        store.get(ORIGIN.key)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("name", ["../../evil", "..", "x-0123456789abcdef", f"../{ORIGIN.folder_name}"])
def test_a_remote_folder_name_is_never_a_local_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("astray.artifacts.mirror.Mirror.folder_names", lambda _self: [name])
    store = remote_store(tmp_path, json.dumps(manifest_of()).encode(), "x")
    with contextlib.suppress(StoreError):
        for artifact in (store.get(ORIGIN.key), *store.artifacts()):
            assert artifact is None or artifact.path
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "in/cache" not in path.as_posix()]


_PART = st.one_of(
    st.text(max_size=6), st.sampled_from(["..", ".", "", "a", "C:", "\\", "\0", "artifact.json", "x" * 300])
)


_FILE_NAME = st.lists(_PART, min_size=1, max_size=4).map("/".join)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=4,
)


@tried(60)
@given(
    names=st.lists(_FILE_NAME, max_size=3),
    changes=st.dictionaries(st.sampled_from(["key", "formerly", "read", "files", "origin"]), _JSON, max_size=1),
)
def test_no_manifest_writes_outside_or_raises_a_bare_error(
    names: list[str], changes: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    content = json.dumps(manifest_of(files={name: {"size": 0, "sha256": SHA} for name in names}) | changes).encode()
    with contextlib.suppress(AstrayError):
        manifest = Manifest.from_bytes(content, root)
        store = Store(f"memory://{root.name}/remote", cache=root / "in" / "cache")
        assert store.mirror
        fsspec.filesystem("memory").pipe_file(f"/{root.name}/remote/{ORIGIN.folder_name}/{MANIFEST_FILE}", content)
        assert store.fetch(manifest).is_relative_to(root / "in" / "cache")
    assert {path.name for path in root.iterdir()} <= {"in"}


@tried(100)
@given(st.text(max_size=20))
def test_a_plain_name_is_one_part_of_a_path(name: str) -> None:
    if is_plain(name):
        assert Path("store", name).resolve().parent == Path("store").resolve()
        assert name not in (".", "..")
