"""Inspect tasks that check first: what cannot work ends the run before its first sample, with a non-zero exit of
`inspect eval`.

Inspect itself only warns of a parameter that a task does not have, and takes values of any type.
"""

import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import anyio
from inspect_ai import Task, task
from inspect_ai.model._model import active_model
from pydantic import ConfigDict, Field, ValidationError, validate_call

from astray.errors import ConfigurationError, UnknownNameError

AtLeastOne = Annotated[int, Field(ge=1)]
"""Number of samples, tokens or turns."""

Temperature = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Temperature of sampling."""

_PARAMETERS: dict[str, frozenset[str]] = {}
"""Parameters of each task, by its name."""


def checked_task(function: Callable[..., Task]) -> Callable[..., Task]:
    """Register a function as an Inspect task that refuses parameters which it does not have, and values of a wrong
    type.

    The annotations of the function are what is checked: bounds and choices stand there, as `Annotated[int,
    Field(ge=1)]` or `Literal`.

    Args:
        function: makes the task; has keyword parameters with defaults.
    """
    signature = inspect.signature(function)
    validated = validate_call(config=ConfigDict(strict=True))(function)
    name = function.__name__
    _PARAMETERS[name] = frozenset(signature.parameters)

    @wraps(function)
    def made(*positional: Any, **given: Any) -> Task:
        for parameter in given:
            if parameter not in signature.parameters and not _is_for_another(parameter):
                raise UnknownNameError(f"parameter of the task {name!r}", parameter, signature.parameters)
        try:
            return validated(
                *positional,
                **{parameter: value for parameter, value in given.items() if parameter in signature.parameters},
            )
        except ValidationError as error:
            raise ConfigurationError(
                f"The task {name!r} cannot be made: {'; '.join(map(_fault, error.errors()))}."
            ) from error

    # Inspect hands over what a task does not name only where the task takes everything.
    everything = inspect.Parameter("parameters", inspect.Parameter.VAR_KEYWORD, annotation=Any)
    made.__signature__ = signature.replace(parameters=[*signature.parameters.values(), everything])  # type: ignore[attr-defined]
    return task(made)


def checked_now(judge: Callable[[], Any]) -> Callable[[], Any]:
    """Return the maker of a judge, called once where a run is about to begin, so that a missing grader is an error now.

    A task that is made outside of `inspect eval` learns of its graders only when it runs, and its judge is made before
    the first answer.

    Raises:
        JudgeError: the grader is missing or cannot be used.
    """
    if _in_a_run():
        judge()
    return judge


def _in_a_run() -> bool:
    """Return whether Inspect is making tasks for a run, so that model roles are known."""
    try:
        anyio.get_current_task()
    except RuntimeError:
        # Scoring leaves its model behind as the active one, so that alone shows nothing.
        return False
    return active_model() is not None


def _is_for_another(parameter: str) -> bool:
    """Return whether a parameter is for another task of the same command: Inspect gives all parameters to all tasks."""
    others = [argument.removeprefix("astray/") for argument in sys.argv if argument.startswith("astray/")]
    return any(parameter in _PARAMETERS.get(other, ()) for other in others)


def _fault(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "its parameters"
    return f"{where} is {error['input']!r}: {error['msg'][:1].lower()}{error['msg'][1:]}"
