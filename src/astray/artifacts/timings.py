"""Durations of finished steps, in a file of the store: used for forecasts, and not part of any artifact.

store/.timings    a JSON object a line
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from astray.artifacts.disk import no_link
from astray.artifacts.store import Store

_FILE = ".timings"
HERE = "this machine"
"""Place of steps that run in processes of this machine."""


@dataclass(frozen=True)
class Timing:
    """Resources that a step took.

    Attributes:
        key: of the step.
        function: registered name of its function.
        place: where it ran, with what it got there (`Where.label`); `HERE` for processes of this machine.
        seconds: wall-clock time, as the machine counted it that ran the step.
        memory: largest resident memory of its process by then, in bytes.
        gpu_memory: largest memory that it held on a GPU, in bytes; 0 without one.
    """

    key: str
    function: str
    place: str
    seconds: float
    memory: int
    gpu_memory: int


def note_timing(store: Store, timing: Timing) -> None:
    """Append a timing; if the disk does not allow it, or the file is a link, forecasts do without."""
    line = json.dumps(asdict(timing)) + "\n"
    with contextlib.suppress(OSError), no_link(store.folder / _FILE).open("a", encoding="utf-8") as file:
        file.write(line)  # a single write, so that two processes do not mix their lines


def timings(store: Store, place: str) -> Iterator[Timing]:
    """Yield the timings of steps that ran in a place."""
    with contextlib.suppress(FileNotFoundError), (store.folder / _FILE).open(encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError, TypeError):  # cut short by a full disk
                timing = Timing(**json.loads(line))
                if timing.place == place:
                    yield timing
