"""This process as a place for steps: for debugging, tests and stores that live in memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from astray.artifacts.store import Store
from astray.artifacts.work import Order, Report, carry_out
from astray.artifacts.workplaces.place import BRIEFLY


@dataclass
class Here:
    """Runs each step in this process, one after the other."""

    store: Store
    started: Callable[[str], None]
    chains: bool = False
    retry: float = BRIEFLY
    _orders: list[Order] = field(default_factory=list)

    @property
    def free(self) -> bool:
        """Whether no step waits to be run."""
        return not self._orders

    def start(self, order: Order) -> None:
        """Accept an order; `wait` runs it."""
        self._orders.append(order)

    def wait(self, timeout: float | None) -> list[Report]:
        """Run the accepted orders."""
        orders, self._orders = self._orders, []
        if not orders and timeout:
            time.sleep(timeout)
        return [carry_out(order, self.store, self.started) for order in orders]
