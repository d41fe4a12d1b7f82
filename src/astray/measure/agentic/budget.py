"""Early stopping by tokens: what was begun is finished and kept, no more is begun. All evaluations share a ledger."""

from collections.abc import Sequence
from typing import Any

from inspect_ai.dataset import Sample
from inspect_ai.log import EvalSpec
from inspect_ai.model._model import model_usage
from inspect_ai.scorer import SampleScore
from inspect_ai.util import EarlyStop, EarlyStopping
from typing_extensions import override

from astray.artifacts import Ledger

BUDGETED = 8
"""Samples at a time where there is a budget: as many go beyond it at most, in each process."""


class Budget(EarlyStopping):
    """Early stopping of Inspect, by tokens of all models.

    Args:
        ledger: how many may be used, and how many are; samples that are under way when they are used up go a little
            beyond.
    """

    def __init__(self, ledger: Ledger):
        self._ledger, self._noted = ledger, 0

    @override
    async def start_task(self, task: EvalSpec, samples: Sequence[Sample], epochs: int) -> str:
        """Return the name that logs have for it."""
        self._noted = self._used()  # what was judged before the task has been noted already
        return "budget of tokens"

    @override
    async def schedule_sample(self, id: str | int, epoch: int) -> EarlyStop | None:
        """Let a sample begin while there are tokens."""
        used = self._note()
        return (
            None
            if used < self._ledger.limit
            else EarlyStop(id=id, epoch=epoch, reason=f"{used:,} of {self._ledger.limit:,} tokens are used")
        )

    @override
    async def complete_sample(self, id: str | int, epoch: int, scores: dict[str, SampleScore]) -> None:
        """Note what it used, for the evaluations of other processes."""
        self._note()

    @override
    async def complete_task(self) -> dict[str, Any]:
        """Return what a log keeps of it."""
        return {"tokens": self._ledger.limit, "spent": self._note()}

    def _note(self) -> int:
        """Note what was used here since the last time, and return what all evaluations have used."""
        # Inspect's count is a running total of this process: only what is new may be added to the shared ledger.
        used = self._used()
        new, self._noted = used - self._noted, used
        return self._ledger.add(new)

    def _used(self) -> int:
        return sum(usage.total_tokens for usage in model_usage().values())
