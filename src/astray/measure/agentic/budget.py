"""Stops a run when it has used its tokens: what was begun is finished and kept, nothing further is begun. Several evaluations may share a budget."""

from collections.abc import Sequence
from typing import Any

from inspect_ai.dataset import Sample
from inspect_ai.log import EvalSpec
from inspect_ai.model._model import model_usage
from inspect_ai.scorer import SampleScore
from inspect_ai.util import EarlyStop, EarlyStopping
from typing_extensions import override

from astray.errors import ConfigurationError


class Budget(EarlyStopping):
    """Inspect's early stopping, by tokens of all models of the evaluation.

    Args:
        tokens: how many may be used; samples that are under way when they are used up go a little beyond.
        spent: those that earlier evaluations used.

    Attributes:
        spent: tokens of all evaluations that have ended.
        exhausted: whether a sample was not begun for want of tokens.
    """

    def __init__(self, tokens: int, spent: int = 0):
        if tokens < 1:
            raise ConfigurationError(f"A budget of {tokens} tokens lets nothing run. Write a number above 0.")
        self.tokens, self.spent, self.exhausted = tokens, spent, False

    @override
    async def start_task(self, task: EvalSpec, samples: Sequence[Sample], epochs: int) -> str:
        """The name that logs have for it."""
        return "budget of tokens"

    @override
    async def schedule_sample(self, id: str | int, epoch: int) -> EarlyStop | None:
        """Lets a sample begin while there are tokens."""
        used = self.spent + _used_here()
        if used < self.tokens:
            return None
        self.exhausted = True
        return EarlyStop(id=id, epoch=epoch, reason=f"{used:,} of {self.tokens:,} tokens are used")

    @override
    async def complete_sample(self, id: str | int, epoch: int, scores: dict[str, SampleScore]) -> None:
        """Nothing to note: Inspect counts the tokens."""

    @override
    async def complete_task(self) -> dict[str, Any]:
        """What a log keeps of it. From then on the tokens of this evaluation are spent."""
        before = self.spent
        self.spent += _used_here()
        return {"tokens": self.tokens, "spent before": before}


def _used_here() -> int:
    """Tokens of all models in the evaluation that runs."""
    return sum(each.total_tokens for each in model_usage().values())
