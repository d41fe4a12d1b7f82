"""Errors that a service tells beside a reply of HTTP status 200: in its body, in a choice, or by leaving out the choices.

What was said until then would be read as a whole reply, and nothing as a blank one. Left to others: errors that a client
raises by itself (failures.py).
"""

from collections.abc import Callable, Mapping
from typing import Any

import httpx
from inspect_ai.model import Model
from openai import APIStatusError


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
            status = code if isinstance(code, int) and 400 <= code <= 599 else httpx.codes.INTERNAL_SERVER_ERROR
            # With a status, so that it is tried again, waited for and told as if the service had answered with it.
            answered = httpx.Response(status, request=httpx.Request("POST", "http://service"))
            raise APIStatusError(str(told.get("message") or told), response=answered, body=told)


def _error_of(part: object) -> Mapping[str, Any] | None:
    """Return what a response or a choice tells of an error; None where it tells none."""
    if not isinstance(part, Mapping):
        return None
    error = part.get("error") or ("the reply ended in an error" if part.get("finish_reason") == "error" else None)
    return error if isinstance(error, Mapping) or not error else {"message": str(error)}


def watched(model: Model) -> Model:
    """Return the same model, whose provider from now on raises errors that a service tells beside a reply.

    Providers of OpenAI's protocol let their responses be seen; others tell errors in ways of their own.
    """
    own = getattr(model.api, "on_response", None)
    if own is not None and not isinstance(own, _Watch):
        vars(model.api)["on_response"] = _Watch(own)
    return model
