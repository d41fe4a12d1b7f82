"""What the executor knows of a place where steps run."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from astray.artifacts.store import Store
from astray.artifacts.work import Order, Report

BRIEFLY = 0.2
"""Seconds until a step that another process was doing is tried again where that costs nothing."""


@runtime_checkable
class Workplace(Protocol):
    """A place that takes orders and reports on them; it is closed when the execution ends, in whatever way.

    Attributes:
        chains: whether an order may bring steps that follow it (`Order.then`).
        retry: seconds until a step that another process was doing is ordered again.
    """

    chains: bool
    retry: float

    @property
    def free(self) -> bool:
        """Whether the place takes another order now."""
        ...

    def start(self, order: Order) -> None:
        """Take an order."""
        ...

    def wait(self, timeout: float | None) -> list[Report]:
        """Return reports as soon as there are any, or none after `timeout` seconds."""
        ...


@runtime_checkable
class Where(Protocol):
    """The settings of a place, such as a partition of a cluster."""

    @property
    def label(self) -> str:
        """Name of the place and of what a step that runs a model gets there: times are compared within one label."""
        ...

    @property
    def gpus(self) -> float:
        """GPUs of a step that runs a model."""
        ...

    def opened(self, store: Store, started: Callable[[str], None]) -> AbstractContextManager[Workplace]:
        """Open the place for one execution.

        Args:
            store: receives the artifacts.
            started: called with the key of each step that starts.

        Raises:
            ConfigurationError: there is no such place, or it has not what was asked for.
            MissingExtraError: its package is not installed.
            StoreError: steps that run there cannot reach the store.
        """
        ...
