"""Ask a judge about many texts concurrently, and stop if it cannot be used at all."""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, runtime_checkable

import anyio

from astray.errors import JudgeError
from astray.judges.judge import Verdict
from astray.judges.patience import SERVED, current_patience, hearing
from astray.outcomes import Outcome

Thing = TypeVar("Thing", bound=Hashable)
Reading = TypeVar("Reading")
WITHOUT_VERDICT = (Outcome.ERRORED, Outcome.JUDGE_FAILED, Outcome.NOT_JUDGED)


@runtime_checkable
class NamesModels(Protocol):
    """Reading of a part, which hands on the models that its grader answered as."""

    def of_models(self, names: Sequence[str]) -> Any:
        """Return the same reading with these models."""
        ...


def _of_models(reading: Reading, heard: set[str]) -> Reading:
    """Return a verdict or reading with the models that its grader answered as; one that failed is of none."""
    if heard and isinstance(reading, Verdict) and reading.outcome not in WITHOUT_VERDICT:
        return replace(reading, detail={**reading.detail, SERVED: ", ".join(sorted(heard))})
    if heard and isinstance(reading, NamesModels):
        return reading.of_models(sorted(heard))
    return reading


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
                with hearing() as heard:
                    readings[thing] = _of_models(await read(thing), heard)
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
