"""The store: complete or absent, damage and refusals explained, remote roots, several processes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
from fsspec import AbstractFileSystem

from astray.artifacts import Artifact, Store
from astray.artifacts.manifest import MANIFEST_FILE, Origin
from astray.errors import DataFormatError, MissingExtraError, StoreError


def origin(number: int = 0, name: str = "Train run") -> Origin:
    return Origin(name=name, function="somewhere:train", version=1, config={"number": number}, inputs={})


def write_two_files(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "weights.bin").write_bytes(bytes(range(256)))
    (folder / "notes.txt").write_text("learned\n")


def made(store: Store, number: int = 0, name: str = "Train run") -> Artifact:
    artifact = store.make(origin(number, name), write_two_files)
    assert artifact is not None
    return artifact


def left_behind(store: Store) -> list[str]:
    """What lies in the store beside artifacts."""
    return [path.name for path in store.folder.glob(".*") if path.name not in (".locks", ".names")] + [
        path.name for path in store.folder.glob(".locks/*")
    ]


def test_an_artifact_is_found_by_key_and_by_prefix_and_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    assert store.get(origin().key) is None
    assert store.artifacts() == ()
    first, second = made(store), made(store, 1, "other")
    assert store.get(first.key) == first
    assert (
        store.find("Train run") == store.find("train") == store.find(first.key[:6]) == store.find(first.key) == (first,)
    )
    assert store.artifacts() == (second, first)
    assert first.path.name == f"train-run-{first.key[:16]}"
    assert (first.path / "notes.txt").read_text() == "learned\n"
    assert left_behind(store) == []


def test_an_artifact_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = made(store)
    assert store.make(origin(), lambda folder: pytest.fail("written again")) == first


def test_the_manifest_lists_every_file_and_is_the_same_for_the_same_content(tmp_path: Path) -> None:
    one, two = made(Store(tmp_path / "one")), made(Store(tmp_path / "two"))
    assert set(one.manifest.files) == {"deep/weights.bin", "notes.txt"}
    assert one.manifest.files["notes.txt"].size == 8
    assert (one.path / MANIFEST_FILE).read_bytes() == (two.path / MANIFEST_FILE).read_bytes()


@pytest.mark.parametrize(("seconds", "resumable", "flushed"), [(60.0, False, 0), (60.0, True, 4), (0.0, False, 4)])
def test_what_took_long_is_flushed_to_disk_and_what_is_quickly_made_again_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, resumable: bool, flushed: int
) -> None:
    """Two files, their folder and the manifest; of a resumable step earlier attempts may have taken hours."""
    seen: list[Path] = []
    monkeypatch.setattr("astray.artifacts.manifest.flush", seen.append)
    monkeypatch.setattr("astray.artifacts.store.SHORT_SECONDS", seconds)
    store = Store(tmp_path)
    store.make(origin(), write_two_files, resumable=resumable)
    assert len([path for path in seen if path != store.folder]) == flushed


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> None:
        write_two_files(folder)
        raise ValueError("no gradient")

    with pytest.raises(ValueError, match="no gradient"):
        store.make(origin(), fail)
    assert store.get(origin().key) is None
    assert left_behind(store) == []


def test_other_folders_in_the_store_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "my-notes").mkdir()
    (tmp_path / "readme.txt").touch()
    store = Store(tmp_path)
    artifact = made(store)
    assert store.artifacts() == (artifact,)


def test_links_and_files_called_like_the_manifest_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(DataFormatError, match="'link', which cannot be kept"):
        store.make(origin(), lambda folder: (folder / "link").symlink_to("/etc/hostname"))
    with pytest.raises(DataFormatError, match=r"'artifact.json', which cannot be kept"):
        store.make(origin(), lambda folder: (folder / MANIFEST_FILE).touch())
    assert left_behind(store) == []


def test_a_full_disk_is_explained_and_keeps_what_is_finished(tmp_path: Path) -> None:
    """The error is the system's own: /dev/full answers every write with ENOSPC."""
    store = Store(tmp_path)
    finished = made(store)

    def fill(folder: Path) -> None:
        (folder / "half.bin").write_bytes(b"0" * 1000)
        with Path("/dev/full").open("wb", buffering=0) as disk:
            disk.write(b"1")

    with pytest.raises(
        StoreError, match=r"The disk is full: .* \([0-9.]+ [MG]B free at the store .*everything finished is kept"
    ):
        store.make(origin(1), fill)
    assert store.artifacts() == (finished,)
    assert left_behind(store) == []


def test_a_full_disk_is_known_by_the_text_of_libraries_that_hide_the_number(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        raise RuntimeError(f"SafetensorError: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")

    with pytest.raises(StoreError, match="is full"):
        Store(tmp_path).make(origin(), fill)


def test_a_root_that_is_a_file_or_lies_below_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "runs.txt"
    file.touch()
    with pytest.raises(StoreError, match=r"runs.txt is a file; results need a folder"):
        Store(file)
    with pytest.raises(StoreError, match=r"cannot be read: Not a directory. Give a folder"):
        made(Store(file / "runs"))


def test_a_folder_without_write_permission_is_explained(tmp_path: Path) -> None:
    """In a process of its own, which gives up root's rights where it has them: root may write anywhere."""
    script = (
        "import os, sys; from pathlib import Path; import filelock\n"
        "from astray.artifacts import Store; from astray.artifacts.manifest import Origin; from astray.errors import "
        "StoreError\n"
        "folder = Path(sys.argv[1]); folder.chmod(0o500)\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "origin = Origin(name='x', function='m:f', version=1, config={}, inputs={})\n"
        "try: Store(folder / 'runs').make(origin, lambda partial: None)\n"
        "except StoreError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot be written: Permission denied. Give a folder that you may write to" in done.stdout


def test_partials_of_dead_processes_are_swept_and_those_at_work_are_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    stale = tmp_path / f".partial-{origin(1).key[:16]}-1-dead"
    stale.mkdir()

    def write(folder: Path) -> None:
        (folder / "x").touch()
        Store(tmp_path).sweep()
        assert folder.is_dir()

    assert store.make(origin(), write)
    assert not stale.exists()
    assert left_behind(store) == []


def test_a_step_that_is_being_done_can_be_left_to_the_one_who_does_it(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        assert Store(tmp_path).make(origin(), write_two_files, wait=False) is None

    assert Store(tmp_path).make(origin(), write)


def test_a_file_url_is_the_folder_it_names(tmp_path: Path) -> None:
    artifact = made(Store(f"file://{tmp_path}/runs"))
    assert Store(tmp_path / "runs").get(artifact.key) == artifact


def test_a_remote_store_is_complete_without_its_cache(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/remote"
    artifact = made(Store(url, cache=tmp_path / "here"))
    elsewhere = Store(url, cache=tmp_path / "elsewhere")
    (found,) = elsewhere.artifacts()
    assert not (tmp_path / "elsewhere").exists()  # looking downloads nothing
    assert found == artifact
    assert (found.path / "deep" / "weights.bin").read_bytes() == bytes(range(256))
    assert left_behind(elsewhere) == []
    assert elsewhere.make(origin(), lambda folder: pytest.fail("written again")) == artifact


def test_a_remote_artifact_without_manifest_is_absent(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/remote"
    store = Store(url, cache=tmp_path / "here")
    artifact = made(store)
    remote = fsspec.filesystem("memory")
    remote.rm(f"/{tmp_path.name}/remote/{artifact.path.name}/{MANIFEST_FILE}")
    assert store.get(artifact.key) is None
    assert made(store) == artifact


def test_a_damaged_remote_file_is_not_downloaded(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/remote"
    artifact = made(Store(url, cache=tmp_path / "here"))
    remote = fsspec.filesystem("memory")
    (notes,) = remote.glob(f"/{tmp_path.name}/remote/*/*/notes.txt")
    remote.pipe_file(notes, b"changed!")
    elsewhere = Store(url, cache=tmp_path / "elsewhere")
    found = elsewhere.get(artifact.key)
    assert found is not None
    with pytest.raises(StoreError, match=r"notes.txt is missing or differs from its checksum\. Run the same again"):
        _ = found.path
    assert left_behind(elsewhere) == []
    assert not (tmp_path / "elsewhere" / artifact.path.name).exists()
    # It is out of the way, where it can be looked at, so that the same command makes it anew.
    assert Store(url, cache=tmp_path / "third").get(artifact.key) is None
    (aside,) = remote.glob(f"/{tmp_path.name}/remote/.damaged/*/*/notes.txt")
    assert remote.cat_file(aside) == b"changed!"
    assert made(elsewhere) == artifact
    assert (elsewhere.artifacts()[0].path / "notes.txt").read_bytes() != b"changed!"


def test_a_damaged_remote_manifest_is_made_anew(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/remote"
    artifact = made(Store(url, cache=tmp_path / "here"))
    elsewhere, remote = Store(url, cache=tmp_path / "elsewhere"), fsspec.filesystem("memory")
    remote.pipe_file(f"/{tmp_path.name}/remote/{artifact.path.name}/{MANIFEST_FILE}", b"{}")
    (damage,) = elsewhere.damage()
    assert elsewhere.put_aside(damage)
    assert elsewhere.get(artifact.key) is None
    assert made(elsewhere) == artifact


class Buckets(AbstractFileSystem):
    """Object storage with one bucket, which is empty."""

    protocol = "buckets"

    def ls(self, path: str, detail: bool = True, **_: object) -> list[object]:
        if path == "there":
            return []
        raise FileNotFoundError(path)


@pytest.mark.parametrize(("root", "told"), [
    ("", "has no name"),
    (" ", "has no name"),
    ("file://", "has no name"),
    ("buckets://gone", "'gone', which does not exist"),
    ("buckets://gone/runs", "'gone', which does not exist"),
    ("buckets://gone/a/b", "'gone', which does not exist"),
    ("buckets://there", ""),
    ("buckets://there/runs", ""),
])  # fmt: skip
def test_a_store_that_is_nowhere_is_refused_before_anything_is_done(tmp_path: Path, root: str, told: str) -> None:
    fsspec.register_implementation("buckets", Buckets, clobber=True)
    if not told:
        assert Store(root, cache=tmp_path).artifacts() == ()
        return
    with pytest.raises(StoreError, match=told):
        Store(root, cache=tmp_path).artifacts()


def test_an_unknown_kind_of_store_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"The store nosuch://place cannot be used: ValueError: Protocol not known"):
        Store("nosuch://place", cache=tmp_path).artifacts()
    with pytest.raises(MissingExtraError, match=r"pip install 'fsspec\[dropbox\]'"):
        Store("dropbox://place", cache=tmp_path).artifacts()
