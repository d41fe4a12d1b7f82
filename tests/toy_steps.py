"""Cheap steps that worker processes can import, and small graphs of them."""

import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict

from astray.artifacts import Artifact, Step, Store, current_ledger, execute, step
from astray.artifacts.workplaces.place import Where
from astray.errors import EmptyDataError
from astray.judges.patience import current_patience
from astray.kept import keep


class Toy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = 0
    seconds: float = 0.0
    fault: str = ""
    witness: str = ""  # a folder in which every start of the step leaves a file


@step("add", version=1)
def add(config: Toy, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Writes its number plus the sum of its inputs, and 1 kB of chance."""
    if config.witness:
        (Path(config.witness) / f"{config.number}-{os.getpid()}-{time.monotonic_ns()}").touch()
    _do(config.fault, folder)
    (folder / "sub").mkdir()
    (folder / "sub" / "chance.bin").write_bytes(random.randbytes(1024))  # the generator is seeded by the key
    time.sleep(config.seconds)
    total = config.number + sum(int((source.path / "sum.txt").read_text()) for source in inputs.values())
    (folder / "sum.txt").write_text(str(total))


def _do(fault: str, folder: Path) -> None:
    """Goes wrong in one of many ways."""
    match fault:
        case "error":
            print("the loss of the last batch was 9e99")
            raise ValueError("the loss is\nnot a number")
        case "astray error":
            raise EmptyDataError("The data set has no rows. Give one with rows.")
        case "exit":
            sys.exit(3)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "gone":
            os._exit(5)
        case "disk full":
            (folder / "half.bin").write_bytes(b"0" * 1000)
            with Path("/dev/full").open("wb", buffering=0) as disk:  # the system itself answers ENOSPC
                disk.write(b"1")
        case "link":
            (folder / "link").symlink_to("/etc/hostname")


@step("meet", version=1)
def meet(config: Toy, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Ends only if another step is there at the same time."""
    (Path(config.witness) / str(config.number)).touch()
    for _ in range(6000):
        if len(list(Path(config.witness).iterdir())) > 1:
            return
        time.sleep(0.01)
    raise TimeoutError("nobody came")


@step("environment", version=1)
def environment(config: Toy, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Writes the thread settings and the process that it runs in."""
    (folder / "environment.txt").write_text(
        f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')} {hash('set order')} {'torch' in sys.modules}"
    )


KEPT: list[TemporaryDirectory[str]] = []
"""Temporary folders that this process keeps to its end, as libraries do."""


@step("keep-folder", version=1)
def keep_folder(config: Toy, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Makes a temporary folder that is removed when the process ends by itself, and writes where it is."""
    KEPT.append(TemporaryDirectory())
    (folder / "kept.txt").write_text(KEPT[-1].name)


def diamond(number: int = 1, *, seconds: float = 0.0, top: str = "", left: str = "", right: str = "") -> Step:
    """top -> left, right -> bottom; the sum at the bottom is 2 * number + 111."""
    first = add.step(Toy(number=number, seconds=seconds, fault=top), name="top")
    one = add.step(Toy(number=10, seconds=seconds, fault=left), name="left", first=first)
    other = add.step(Toy(number=100, seconds=seconds, fault=right), name="right", first=first)
    return add.step(Toy(number=1, seconds=seconds), name="bottom", one=one, other=other)


def study(width: int = 2, seconds: float = 0.003, witness: str = "") -> list[Step]:
    """Several chains of two steps and a step that joins them."""
    ends = []
    for chain in range(width):
        start = add.step(Toy(number=10 + chain, seconds=seconds, witness=witness), name=f"start {chain}")
        ends.append(add.step(Toy(number=1, seconds=seconds, witness=witness), name=f"end {chain}", before=start))
    return [add.step(Toy(witness=witness), name="join", **{f"chain {number}": end for number, end in enumerate(ends)})]


def run_study(root: str, workers: int, witness: str = "") -> None:
    """A whole study, to be killed from outside."""
    execute(study(witness=witness), Store(root), workers=workers)


def slow(witness: str) -> Step:
    """A step that needs one of several seconds."""
    before = add.step(Toy(number=4, seconds=2.0, witness=witness), name="slow")
    return add.step(Toy(number=1), name="last", before=before)


def run_slow(root: str, witness: str, on: Where) -> None:
    """A driver of a cluster, to be killed from outside or run beside another."""
    execute([slow(witness)], Store(root), on=on)


def run_endless(root: str, witness: str) -> None:
    """Steps on two workers, of which one finishes and the others would last an hour."""
    quick = add.step(Toy(number=1), name="quick")
    execute(
        [
            add.step(Toy(number=number, seconds=3600, witness=witness), name="endless", before=quick)
            for number in (1, 2)
        ],
        Store(root),
        workers=2,
    )


@step("slow-at-first", version=1, resumable=True, gpu=True)
def slow_at_first(config: Toy, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Lasts an hour at its first attempts, its number of them, of each of which it leaves a file with its process in a folder."""
    begun = len(list(Path(config.witness).glob("[!.]*")))
    (Path(config.witness) / f".{begun}").write_text(str(os.getpid()))
    (Path(config.witness) / f".{begun}").rename(Path(config.witness) / str(begun))
    (folder / "sum.txt").write_text(str(sum(int((one.path / "sum.txt").read_text()) for one in inputs.values())))
    time.sleep(3600 if begun < config.number else 0)


@step("gather", version=1, resumable=True)
def gather(config: Toy, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Leaves a file more at every attempt until there are as many as its number; a fault comes after the first file."""
    files = len(list(folder.glob("*.txt")))
    (folder / f"{files}.txt").write_text(
        " ".join(str(len(list(source.path.glob("*.txt")))) for source in inputs.values())
    )
    if files == 0:
        _do(config.fault, folder)
    time.sleep(config.seconds)
    return None if files + 1 >= config.number else f"{config.number - files - 1} files"


@step("spend", version=1)
def spend(config: Toy, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Spends its number, one at a time, while there is something."""
    ledger = current_ledger()
    for spent in range(config.number):
        if ledger is not None and ledger.exhausted:
            return f"{config.number - spent} more"
        if ledger is not None:
            ledger.add(1)
    return None


@step("settle-later", version=1)
def settle_later(config: Toy, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Writes its number, or what stands in a file "now" beside; has something left to try until a file "settled" is
    there."""
    now = Path(config.witness) / "now"
    (folder / "sum.txt").write_text(now.read_text() if now.is_file() else str(config.number))
    return None if (Path(config.witness) / "settled").is_file() else "a verdict"


def note_process() -> None:
    """Keeps what one of the processes of a training run knows of itself."""
    from astray.cause.processes import is_first  # loads torch, which steps here do without

    start = multiprocessing.get_start_method(allow_none=True)
    known = {"strict": current_patience().strict, "first": is_first(), "start": start}
    keep(f"process {os.environ['RANK']}", known)
