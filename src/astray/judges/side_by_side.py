"""Ask a judge about many things concurrently, and stop when it cannot be used at all."""

from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import TypeVar

import anyio

from astray.errors import JudgeError
from astray.judges.patience import current_patience

Thing = TypeVar("Thing", bound=Hashable)
Reading = TypeVar("Reading")


async def read_side_by_side(
    read: Callable[[Thing], Awaitable[Reading]], things: Iterable[Thing], max_connections: int
) -> dict[Thing, Reading]:
    """Read many things concurrently; equal things are read once.

    Args:
        read: reads one thing; of its exceptions only JudgeError is expected.
        things: things to read.
        max_connections: maximum number of things being read at one time, at least 1.

    Raises:
        JudgeError: the first one that reading raised; things not begun by then are not read. Or a grader was given up
            (see `patience`), and what comes next needs its verdicts.
    """
    wanted = list(dict.fromkeys(things))
    readings: dict[Thing, Reading] = {}
    waiting = iter(wanted)
    # Collected and raised at the end: raised within the task group it would come out wrapped in an exception group.
    unusable: list[JudgeError] = []

    async def work() -> None:
        for thing in waiting:
            try:
                readings[thing] = await read(thing)
            except JudgeError as error:
                unusable.append(error)
            if unusable:
                return

    async with anyio.create_task_group() as workers:
        for _ in range(max(1, min(max_connections, len(wanted)))):
            workers.start_soon(work)
    if unusable:
        raise unusable[0]
    current_patience().check()
    return readings
