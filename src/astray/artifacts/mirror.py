"""Artifacts in object storage: any fsspec URL (s3://, gs://, memory://, ...) as permanent storage behind a local cache.

    <root>/<step name>-<key16>/artifact.json                 written last: where it exists, the artifact is complete
    <root>/<step name>-<key16>/<hash of artifact.json>/...   its files
    <root>/.locks/<key16>                                    held while a machine makes the artifact (bucket_locks.py)
    <root>/.names/<key16>                                    its name, for machines that listed the store before
    <root>/.steps/<study>                                    steps of its last run (status)
    <root>/.damaged/<step name>-<key16>-<hash>/...           one that was not what its step wrote, to be looked at

Files lie under the hash of the manifest that lists them, so two machines that finish the same step at the same time
cannot mix their files: whichever manifest is written last names a complete set. Credentials and endpoints come from
fsspec's own configuration (environment variables or ~/.config/fsspec). Leaves to others: making artifacts (store.py).
"""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from astray.artifacts.manifest import KEY_DIGITS, Manifest
from astray.artifacts.soundness import DAMAGED, MANIFEST_FILE, damaged, file_sha256
from astray.errors import AstrayError, MissingExtraError, StoreError

NAMES = ".names"
"""Folder of a store with a file for each key that says under which name its artifact was made."""

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


@dataclass(frozen=True)
class Mirror:
    """Remote half of a store.

    Attributes:
        url: fsspec URL of the store's root.
    """

    url: str

    def folder_names(self) -> list[str]:
        """Return the names of all folders in the remote store, complete or not."""
        with self._reaching() as (files, root):
            # fsspec caches listings, and other machines write to the same root.
            files.invalidate_cache()
            try:
                # `exists` would say no of a storage that cannot be reached, and everything would be done before that is
                # found.
                paths = files.ls(root, detail=False)
            except FileNotFoundError:
                self._check_bucket(files, root)
                return []
            return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in paths)

    def _check_bucket(self, files: "AbstractFileSystem", root: str) -> None:
        """Refuse a root in a bucket that there is not: it would look like an empty store until a result is written."""
        bucket = root.split("/", maxsplit=1)[0]  # "" for storages without buckets, whose paths begin with a slash
        try:
            if bucket:
                files.ls(bucket, detail=False)
        except FileNotFoundError as error:
            raise StoreError(
                f"The store {self.url} lies in {bucket!r}, which does not exist or may not be seen. Make it with the "
                "storage's own tools, or name one that exists."
            ) from error

    def put_aside(self, folder_name: str) -> None:
        """Take a damaged artifact out of use: it is copied into `.damaged`, and its manifest removed.

        Its files stay, since another machine may be writing the same ones anew; the next upload replaces them.
        """
        with self._reaching() as (files, root):
            old = f"{root}/{folder_name}"
            content: bytes = files.cat_file(f"{old}/{MANIFEST_FILE}")
            new = f"{root}/{DAMAGED}/{folder_name}-{hashlib.sha256(content).hexdigest()[:8]}"
            for path in files.find(old):
                target = f"{new}/{str(path).removeprefix(old).lstrip('/')}"
                files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
                files.pipe_file(target, files.cat_file(path))
            if files.cat_file(f"{old}/{MANIFEST_FILE}") == content:  # not made anew in the meantime
                files.rm_file(f"{old}/{MANIFEST_FILE}")

    def manifest(self, folder_name: str) -> Manifest | None:
        """Return the manifest of a remote artifact, or None where none is complete.

        Raises:
            StoreError: the manifest is damaged or the storage cannot be reached.
        """
        with self._reaching() as (files, root):
            try:
                content: bytes = files.cat_file(f"{root}/{folder_name}/{MANIFEST_FILE}")
            except FileNotFoundError:
                return None
        return Manifest.from_bytes(content, f"{self.url}/{folder_name}")

    def manifests(self, folder_names: Sequence[str]) -> dict[str, Manifest]:
        """Return the manifests of those of these artifacts that are complete, fetched at the same time.

        Raises:
            StoreError: a manifest is damaged or the storage cannot be reached.
        """
        with self._reaching() as (files, root):
            files.invalidate_cache()
            paths = [f"{root}/{name}/{MANIFEST_FILE}" for name in folder_names]
            contents = files.cat(paths, on_error="return") if paths else {}
            found = {path.rsplit("/", 2)[1]: content for path, content in contents.items()}
            for content in found.values():
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
        whole = {name: content for name, content in found.items() if isinstance(content, bytes)}
        return {name: Manifest.from_bytes(content, f"{self.url}/{name}") for name, content in whole.items()}

    def upload(self, folder: Path, manifest: Manifest) -> None:
        """Copy a sealed local folder to the remote store, its manifest last."""
        with self._reaching() as (files, root):
            target = f"{root}/{manifest.origin.folder_name}"
            for name in manifest.files:
                remote = f"{target}/{_content_name(manifest)}/{name}"
                files.makedirs(remote.rsplit("/", 1)[0], exist_ok=True)
                files.put_file(str(folder / name), remote)
            files.makedirs(target, exist_ok=True)
            self.write(f"{NAMES}/{manifest.key[:KEY_DIGITS]}", manifest.origin.folder_name.encode())
            files.pipe_file(f"{target}/{MANIFEST_FILE}", manifest.to_bytes())

    def noted_name(self, digits: str) -> str:
        """Return the name under which an artifact was made last, by the digits of its key; "" where none was noted."""
        return (self.read(f"{NAMES}/{digits}") or b"").decode(errors="replace")

    def read(self, name: str) -> bytes | None:
        """Return the content of an object; None where there is none."""
        with self._reaching() as (files, root):
            try:
                content: bytes = files.cat_file(f"{root}/{name}")
            except FileNotFoundError:
                return None
        return content

    def objects(self, folder: str) -> dict[str, bytes]:
        """Return the objects directly in a folder by name, fetched at the same time."""
        with self._reaching() as (files, root):
            files.invalidate_cache()
            paths = [str(path) for path in files.find(f"{root}/{folder}", maxdepth=1)]
            contents = files.cat(paths, on_error="omit") if paths else {}  # omitted: removed since
        return {path.rsplit("/", 1)[1]: content for path, content in contents.items()}

    def age(self, name: str) -> float | None:
        """Return the seconds since an object was written, by the clocks of the storage and of this machine; None where the
        storage does not tell."""
        with self._reaching() as (files, root), contextlib.suppress(FileNotFoundError, NotImplementedError):
            return (datetime.now(UTC) - files.modified(f"{root}/{name}").astimezone(UTC)).total_seconds()
        return None

    def write(self, name: str, content: bytes) -> None:
        """Write an object, in place of one that is there."""
        with self._reaching() as (files, root):
            files.makedirs(f"{root}/{name}".rsplit("/", 1)[0], exist_ok=True)
            files.pipe_file(f"{root}/{name}", content)

    def create(self, name: str, content: bytes) -> bool | None:
        """Make an object that is not there yet; return False where another is there, None where the storage's driver cannot
        make one exclusively.

        Raises:
            StoreError: it cannot be written.
        """
        with self._reaching() as (files, root):
            files.makedirs(f"{root}/{name}".rsplit("/", 1)[0], exist_ok=True)
            try:
                files.pipe_file(f"{root}/{name}", content, mode="create")
            # Each driver has its own error for an object that is there: what is there decides.
            except Exception as error:
                try:
                    there = self.read(name)
                except StoreError:
                    raise error from None  # why nothing can be written says more than why nothing can be read
                if there is not None:
                    return there == content
                if isinstance(error, FileExistsError):  # and was removed since
                    return False
                if _knows_no_mode(error):
                    return None
                raise
        return True

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with self._reaching() as (files, root), contextlib.suppress(FileNotFoundError):
            files.rm_file(f"{root}/{name}")

    def copy(self, source: Manifest, manifest: Manifest) -> None:
        """Copy an artifact within the remote store under another manifest, which is written last."""
        with self._reaching() as (files, root):
            old, new = (
                f"{root}/{source.origin.folder_name}/{_content_name(source)}",
                f"{root}/{manifest.origin.folder_name}",
            )
            for name in manifest.files:
                remote = f"{new}/{_content_name(manifest)}/{name}"
                files.makedirs(remote.rsplit("/", 1)[0], exist_ok=True)
                try:
                    files.cp_file(f"{old}/{name}", remote)
                except NotImplementedError:  # a storage that cannot copy by itself
                    with tempfile.TemporaryDirectory() as here:
                        files.get_file(f"{old}/{name}", f"{here}/file")
                        files.put_file(f"{here}/file", remote)
            files.makedirs(new, exist_ok=True)
            files.pipe_file(f"{new}/{MANIFEST_FILE}", manifest.to_bytes())

    def download(self, manifest: Manifest, folder: Path) -> None:
        """Download a remote artifact into an empty local folder and check every byte.

        Raises:
            StoreError: a remote file is missing or does not match the manifest, or the storage cannot be reached.
        """
        name_there = manifest.origin.folder_name
        with self._reaching() as (files, root):
            for name, record in manifest.files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    files.get_file(f"{root}/{name_there}/{_content_name(manifest)}/{name}", str(folder / name))
                if not (folder / name).is_file() or file_sha256(folder / name) != record.sha256:
                    raise damaged(f"{self.url}/{name_there}", f"{name} is missing or differs from its checksum")
        (folder / MANIFEST_FILE).write_bytes(manifest.to_bytes())

    @contextlib.contextmanager
    def _reaching(self) -> "Iterator[tuple[AbstractFileSystem, str]]":
        """Yield the file system and the root's path in it; any failure there becomes a StoreError with the reason."""
        from fsspec.core import url_to_fs

        try:
            files, root = url_to_fs(self.url)
            yield files, root.rstrip("/")
        except AstrayError:
            raise
        except ImportError as error:
            protocol = self.url.split("://", 1)[0]
            raise MissingExtraError(
                f"fsspec's driver for {protocol}://", f"The store {self.url}", f"pip install 'fsspec[{protocol}]'"
            ) from error
        except Exception as error:  # each storage has errors of its own; all mean that the store cannot be used
            raise StoreError(
                f"The store {self.url} cannot be used: {type(error).__name__}: {error}. Check the address and the "
                "credentials."
            ) from error


def _knows_no_mode(error: Exception) -> bool:
    """Return whether a driver, or the storage behind it, has no conditional writes."""
    is_of_mode = isinstance(error, (TypeError, ValueError)) and "mode" in str(error)
    is_unknown = isinstance(error, OSError) and error.errno == errno.ENOSYS  # s3fs for a reply of status 501
    return is_of_mode or is_unknown or isinstance(error, NotImplementedError)


def default_cache(url: str) -> Path:
    """Return the local folder for artifacts of a remote store where none is given."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "astray" / "stores" / hashlib.sha256(url.encode()).hexdigest()[:KEY_DIGITS]


def _content_name(manifest: Manifest) -> str:
    return hashlib.sha256(manifest.to_bytes()).hexdigest()[:16]
