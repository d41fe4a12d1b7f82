"""Models whose calls are counted in the ledger of an execution, and refused once its budget is spent.

Left to others: the ledger itself (artifacts), and scenarios, whose samples under way are finished
(measure/agentic/budget).
"""

from typing import Any

from inspect_ai.model import Model, ModelOutput
from typing_extensions import override

from astray.artifacts import current_ledger
from astray.artifacts.ledger import refuse_if_spent


class _Metered(Model):
    """Model that asks the ledger before each call, and notes the tokens after it."""

    @override
    async def generate(self, *args: Any, **settings: Any) -> ModelOutput:
        refuse_if_spent()
        output = await super().generate(*args, **settings)
        ledger = current_ledger()
        if ledger and output.usage:
            ledger.add(output.usage.total_tokens)
        return output


def metered(model: Model) -> Model:
    """Return the model with its calls counted, where the step that runs has a budget; the same model elsewhere.

    Likelihoods that a local grader computes without an answer cost nothing and are not counted.
    """
    if current_ledger() is None or isinstance(model, _Metered):
        return model
    counted = _Metered(model.api, model.config, model.model_args)
    counted._role, counted._explicit_base_url = model._role, model._explicit_base_url
    return counted
