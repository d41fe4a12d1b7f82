"""Every call to the file system of a store fails once, in each way that file systems fail: nothing is lost, nothing that
was finished is done again, and the error is one of Astray's."""

import contextlib
import errno
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from astray.artifacts import Store, execute
from astray.errors import AstrayError
from test_artifacts_interrupted import contents
from toy_steps import study

WAYS = {"full": errno.ENOSPC, "broken": errno.EIO, "read-only": errno.EROFS, "gone away": errno.ETIMEDOUT}
CALLS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.scandir", "os.listdir", "os.truncate")


class Faults:
    """Hook of Python's auditing that lets some calls under a folder fail."""

    def __init__(self):
        self.root, self.seen, self.failing, self.way, self.hit = "", 0, range(0), 0, 0

    def __call__(self, event, arguments):
        if not self.root or event not in CALLS or not str(arguments[0]).startswith(self.root):
            return
        self.seen += 1
        if self.seen - 1 in self.failing:
            self.hit += 1
            raise OSError(self.way, "injected", str(arguments[0]))

    def during(self, root, failing=range(0), way=0):
        """Count the calls under a folder from now on, and let those of these numbers fail."""
        self.root, self.seen, self.failing, self.way = str(root), 0, failing, way

    def over(self):
        self.root = ""


FAULTS = Faults()
sys.addaudithook(FAULTS)


def run(root: Path, witness: Path) -> None:
    execute(study(witness=str(witness)), Store(root), workers=0)


def started(witness: Path) -> int:
    """Count the starts of steps since the last time."""
    left = list(witness.iterdir())
    for path in left:
        path.unlink()
    return len(left)


def finished(root: Path) -> int:
    return len([path for path in root.glob("*/artifact.json") if not path.parent.name.startswith(".")])


@pytest.fixture(scope="module", autouse=True)
def flushed() -> Iterator[None]:
    """Steps are flushed to disk however short they are, so that this fails as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("astray.artifacts.store.SHORT_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def witness(tmp_path_factory):
    """The folder in which steps note their starts; one for all, since it stands in their keys."""
    return tmp_path_factory.mktemp("witness")


@pytest.fixture(scope="module")
def undisturbed(witness, tmp_path_factory):
    """What a study leaves that no fault disturbs, the number of its calls, and of its steps."""
    root = tmp_path_factory.mktemp("undisturbed")
    FAULTS.during(root)
    run(root, witness)
    FAULTS.over()
    return contents(root), FAULTS.seen, started(witness)


@pytest.mark.parametrize(("way", "lasting"), [*((way, 1) for way in WAYS), ("broken", 6), ("gone away", 6)])
def test_a_store_that_fails_anywhere_loses_nothing_and_repeats_nothing(way, lasting, undisturbed, witness, tmp_path):
    expected, calls, steps = undisturbed
    faults = range(list(WAYS).index(way), calls, len(WAYS))
    for first in faults:
        root = tmp_path / str(first)
        FAULTS.during(root, range(first, first + lasting), WAYS[way])
        with contextlib.suppress(AstrayError):  # any other error is a fault of ours
            run(root, witness)
        FAULTS.over()
        done, _ = finished(root), started(witness)
        run(root, witness)
        assert contents(root) == expected, first
        assert started(witness) == steps - done, first
    assert len(faults) >= 38
