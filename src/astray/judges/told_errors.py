"""What a service tells beside a reply of HTTP status 200: an error (in its body, in a choice, or by leaving out the
choices), or that the reply is a refusal.

What was said until then would be read as a whole reply, and nothing as a blank one; a refusal may hold a number. A reply
may also come in parts, which are put together here. Left to others: errors that a client raises by itself (failures.py).
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from inspect_ai.model import ChatCompletionChoice, Model, ModelOutput
from inspect_ai.model._openai import OpenAIResponseError
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessage


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
        _check(response)


def _check(response: Mapping[str, Any]) -> None:
    """Raise ToldError for a response that tells an error, or has no choices."""
    choices = response.get("choices") or []
    told = next((error for error in map(_error_of, [response, *choices]) if error), None)
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


class _Whole:
    """Hook for completions that makes one text of a reply in parts, before a provider's own hook."""

    def __init__(self, own: Callable[..., list[ChatCompletionChoice]]):
        self._own = own

    def __call__(self, completion: ChatCompletion, tools: list[Any]) -> list[ChatCompletionChoice]:
        for choice in completion.choices:
            _as_written(choice.message)
        return self._own(completion, tools)


class _Request:
    """Request for a completion by a client of OpenAI's library, which looks at what comes back as both hooks do: before
    anything else reads it, and also where a provider has no hooks."""

    def __init__(self, own: Callable[..., Awaitable[Any]]):
        self._own = own

    async def __call__(self, **request: Any) -> Any:
        completion = await self._own(**request)
        if request.get("stream"):
            return completion
        if not isinstance(completion, ChatCompletion):  # a body that is JSON and no object
            raise ToldError(None, f"the reply is no completion but {completion!r:.40}")
        _check(completion.model_dump(warnings=False))
        for choice in completion.choices:
            _as_written(choice.message)
        return completion


def _as_written(message: ChatCompletionMessage) -> None:
    """Give a message the form of the protocol: one text, and calls whose arguments are JSON text.

    Raises:
        ToldError: it has none.
    """
    _join_parts(message)
    calls: Any = message.tool_calls or []
    for call in calls if isinstance(calls, list) else [calls]:
        function: Any = getattr(call, "function", None)
        if getattr(call, "type", None) == "custom":
            continue
        if not isinstance(getattr(function, "name", None), str):
            raise ToldError(None, f"the reply holds a call that names no function: {call!r:.60}")
        given: Any = getattr(function, "arguments", None)
        if isinstance(given, str):
            continue
        if given is not None and not isinstance(given, Mapping):
            raise ToldError(None, f"the arguments of a call are no JSON object but {given!r:.40}")
        function.arguments = json.dumps(given or {})  # some servers send the object itself


def _join_parts(message: ChatCompletionMessage) -> None:
    """Replace a content that is a list of parts by its text; refusals and reasoning go where the protocol has them.

    Raises:
        ToldError: the content is neither text nor a list of such parts.
    """
    content: Any = message.content
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise ToldError(None, f"the reply's content is no text but {content!r:.40}")
    texts: dict[str, list[str]] = {"text": [], "refusal": [], "reasoning": []}
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else None
        of = {"output_text": "text", "thinking": "reasoning"}.get(kind, kind) if isinstance(kind, str) else ""
        text = part.get("text" if of == "text" else kind) if isinstance(part, Mapping) and of in texts else None
        if of == "reasoning" and isinstance(text, list):  # Mistral's is a list of parts in its turn
            text = "".join(str(each.get("text", "")) for each in text if isinstance(each, Mapping))
        if not isinstance(text, str):
            raise ToldError(None, f"the reply holds a part that is no text: {part!r:.60}")
        texts[of].append(text)
    message.content = "".join(texts["text"])
    message.refusal = message.refusal or "".join(texts["refusal"]) or None
    if texts["reasoning"]:
        vars(message).setdefault("reasoning_content", "".join(texts["reasoning"]))


def watched(model: Model) -> Model:
    """Return the same model, whose provider from now on raises errors that a service tells beside a reply, and joins
    replies in parts.

    Providers of OpenAI's protocol ask through a client of its library, or let their responses be seen; others tell errors
    in ways of their own.
    """
    own = getattr(model.api, "on_response", None)
    if own is not None and not isinstance(own, _Watch):
        vars(model.api)["on_response"] = _Watch(own)
        if choices := getattr(model.api, "chat_choices_from_completion", None):
            vars(model.api)["chat_choices_from_completion"] = _Whole(choices)
    if isinstance(client := getattr(model.api, "client", None), AsyncOpenAI):
        completions = client.chat.completions
        if not isinstance(completions.create, _Request):
            vars(completions)["create"] = _Request(completions.create)
    return model


def declined(output: ModelOutput) -> bool:
    """Return whether the provider says that the reply is a refusal, whatever stands in it."""
    content = output.message.content
    return not isinstance(content, str) and any(getattr(part, "refusal", None) for part in content)
