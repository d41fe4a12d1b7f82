"""Budget that the steps of an execution share, such as tokens of models: one count for all processes, in a file.

Left to others: what is counted, and ending a step when the budget is spent (the step, which reads `current_ledger`).
"""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from astray.errors import BudgetSpentError, ConfigurationError


@dataclass(frozen=True)
class Ledger:
    """Limit, and the amount that all processes have spent of it.

    Attributes:
        path: file with the count; created anew by `opened`.
        limit: how much may be spent.
    """

    path: Path
    limit: int

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path, limit: int, spent: int = 0) -> "Iterator[Ledger]":
        """Open a ledger for the time of an execution.

        Args:
            folder: folder of the file, created if it does not exist.
            limit: how much may be spent.
            spent: how much of the limit was spent before.

        Raises:
            ConfigurationError: the limit lets nothing be spent.
        """
        if limit < 1:
            raise ConfigurationError(f"A budget of {limit} lets nothing run. Write a number above 0.")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f".ledger-{os.getpid()}"
        path.write_text(str(spent), encoding="utf-8")
        try:
            yield cls(path, limit)
        finally:
            path.unlink(missing_ok=True)
            _lock_file(path).unlink(missing_ok=True)

    @property
    def spent(self) -> int:
        """Amount spent so far."""
        return self.add(0)

    @property
    def exhausted(self) -> bool:
        """Return whether nothing is left."""
        return self.spent >= self.limit

    def add(self, amount: int) -> int:
        """Add an amount to the count of what was spent, and return the count."""
        from filelock import FileLock

        with FileLock(_lock_file(self.path)):
            count = int(self.path.read_text(encoding="utf-8")) + amount
            if amount:
                written = self.path.with_suffix(f".{os.getpid()}")
                written.write_text(str(count), encoding="utf-8")
                written.replace(self.path)  # whole even if this process is killed
        return count


@dataclass
class _Spending:
    """Ledger of a step, and how much the step was refused since it began or last took account of it."""

    ledger: Ledger | None = None
    refused: int = 0


_CURRENT: ContextVar[_Spending | None] = ContextVar("spending", default=None)


def current_ledger() -> Ledger | None:
    """Return the ledger of the execution that runs this step; None where nothing is limited."""
    current = _CURRENT.get()
    return current.ledger if current else None


def refuse_if_spent() -> None:
    """Raise an error if this step is about to spend and nothing is left.

    Raises:
        BudgetSpentError: nothing is left.
    """
    current = _CURRENT.get()
    if current and current.ledger and current.ledger.exhausted:
        current.refused += 1
        raise _spent(current.ledger)


def take_refusals() -> int:
    """Return how often this step was refused; it then answers for what is missing, and may end with what there is."""
    current = _CURRENT.get() or _Spending()
    refused, current.refused = current.refused, 0
    return refused


@contextlib.contextmanager
def spending(ledger: Ledger | None) -> Iterator[None]:
    """Make a ledger the current one while a step runs.

    Raises:
        BudgetSpentError: the step was refused something and took no account of it: judges and users turn any error
            into a missing value, so its result would be wrong and not short.
    """
    token = _CURRENT.set(current := _Spending(ledger))
    try:
        yield
    finally:
        _CURRENT.reset(token)
    if ledger and current.refused:
        raise _spent(ledger)


def _spent(ledger: Ledger) -> BudgetSpentError:
    limit = f"The budget of {ledger.limit / 1e6:g} million tokens is spent."
    return BudgetSpentError(
        f"{limit} What is done is kept; the same command with a larger --budget goes on from there."
    )


def _lock_file(path: Path) -> Path:
    return path.with_suffix(".lock")
