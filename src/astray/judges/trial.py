"""Make one trial of a grader for all readings that wait for what it shows."""

from collections.abc import Awaitable, Callable

import anyio

from astray.judges.failures import error_note
from astray.judges.patience import current_patience


class TrialFailedError(Exception):
    """Trial that failed for another reading, or was not made; its text is the note of each reading that waited."""


class Trial:
    """Trial of a grader: made once, and again only for readings that come after one that failed."""

    def __init__(self) -> None:
        self._shown: bool | None = None
        self._failures: list[str] = []
        self._trying = anyio.Lock()

    async def shows(self, grader: str, make: Callable[[], Awaitable[bool]]) -> bool:
        """Return what the trial shows; many that wait for one that fails share its failure.

        Args:
            grader: name under which calls of the grader are counted.
            make: makes the trial.

        Raises:
            TrialFailedError: it failed while this one waited, or the grader was given up.
            Exception: what `make` raised.
        """
        before = len(self._failures)
        async with self._trying:
            if self._shown is None:
                if len(self._failures) > before:
                    raise TrialFailedError(self._failures[-1])
                if refusal := current_patience().refusal(grader):
                    raise TrialFailedError(refusal)
                try:
                    self._shown = await make()
                except Exception as error:
                    self._failures.append(error_note(error))
                    raise
            return self._shown
