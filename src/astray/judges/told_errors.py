"""What a service tells beside a reply of HTTP status 200: an error (in its body, in a choice, or by leaving out the
choices), or that the reply is a refusal.

What was said until then would be read as a whole reply, and nothing as a blank one; a refusal may hold a number. Left to others: errors that a client
raises by itself (failures.py).
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from inspect_ai.model import Model, ModelOutput
from inspect_ai.model._openai import OpenAIResponseError


class ToldError(OpenAIResponseError):
    """Error that a service told beside a reply, tried again as if the service had answered with its status.

    One without a status may be for good ("no such model"), and is not tried again.
    """

    def __init__(self, status: int | None, message: str):
        passing = status is not None and (status >= 500 or status == HTTPStatus.REQUEST_TIMEOUT)
        limited = status == HTTPStatus.TOO_MANY_REQUESTS
        super().__init__("rate_limit_exceeded" if limited else "server_error" if passing else "refused", message)
        self.status_code, self.body = status or HTTPStatus.INTERNAL_SERVER_ERROR, {"message": message}


class _Watch:
    """Hook for responses that raises for those that tell an error, after a provider's own hook."""

    def __init__(self, own: Callable[[dict[str, Any]], None]):
        self._own = own

    def __call__(self, response: dict[str, Any]) -> None:
        self._own(response)
        choices = response.get("choices") or []
        told = next((each for each in map(_error_of, [response, *choices]) if each), None)
        if told is None and not choices:
            told = {"message": "the reply has no choices"}
        if told:
            code = told.get("code")
            status = code if isinstance(code, int) and 400 <= code <= 599 else None
            raise ToldError(status, str(told.get("message") or told))


def _error_of(part: object) -> Mapping[str, Any] | None:
    """Return what a response or a choice tells of an error; None where it tells none."""
    if not isinstance(part, Mapping):
        return None
    error = part.get("error") or (part.get("finish_reason") == "error" and "the reply ended in an error")
    return error if isinstance(error, Mapping) else {"message": str(error)} if error else None


def watched(model: Model) -> Model:
    """Return the same model, whose provider from now on raises errors that a service tells beside a reply.

    Providers of OpenAI's protocol let their responses be seen; others tell errors in ways of their own.
    """
    own = getattr(model.api, "on_response", None)
    if own is not None and not isinstance(own, _Watch):
        vars(model.api)["on_response"] = _Watch(own)
    return model


def declined(output: ModelOutput) -> bool:
    """Return whether the provider says that the reply is a refusal, whatever stands in it."""
    content = output.message.content
    return not isinstance(content, str) and any(getattr(part, "refusal", None) for part in content)
