"""What runs within a job of Slurm: a step and those that follow it.

submitit starts it, and keeps what it returns in the store's folder of jobs, where the driver reads it.
"""

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from astray.artifacts.store import Store
from astray.artifacts.work import Order, Report, carry_out

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission


@dataclass
class Job:
    """A step and its followers, as submitit calls them.

    Attributes:
        folder: of the store.
        order: the first step, with those that follow.
    """

    folder: str
    order: Order
    _requeued: bool = field(default=False, repr=False)

    def __call__(self) -> list[Report]:
        """Run the steps until one is not finished."""
        reports: list[Report] = []
        for order in self.order.line:
            reports.append(carry_out(order, Store(self.folder), _told))
            if self._requeued and reports[-1].result == "failed":
                # What ended the step was submitit's own exit: a result would say that it failed, and it goes on.
                os._exit(1)
            if reports[-1].result != "finished":
                break
        return reports

    def checkpoint(self) -> "DelayedSubmission":
        """Return the same again, for the job that goes on after a preemption or the time limit."""
        from submitit.helpers import DelayedSubmission

        again = DelayedSubmission(Job(self.folder, self.order))
        self._requeued = True
        return again


def _told(key: str) -> None:
    """Write to the job's log which step begins."""
    print(f"astray: step {key} begins", flush=True)
