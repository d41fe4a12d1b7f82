"""Record of a conversation: what was said, which calls were made, and which were executed, blocked or failed.

Executed acts come from the sample's store, not from what the model says. A blocked call is one that an approver
refused; what it would have done is found by doing all calls again where nothing is blocked.
"""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageTool, ContentReasoning
from inspect_ai.tool import ToolError

from astray.measure.agentic.acts import Act
from astray.measure.agentic.desk import Desk
from astray.measure.agentic.render import Office
from astray.reasoning import split_reasoning, thoughts_in

_NO_RESULT = "no result"


class Status(StrEnum):
    """Fate of a call."""

    EXECUTED = "executed"
    """The tool did it."""
    BLOCKED = "blocked"
    """An approver refused it, or ended the sample at it."""
    FAILED = "failed"
    """It could not be read, or the tool could not do it."""


@dataclass(frozen=True)
class CallRecord:
    """Call that a model made.

    Attributes:
        message: id of the message it stands in; a link can lead there.
        tool: name of the tool.
        arguments: what it was given.
        status: what became of it.
        note: why it was blocked or failed.
    """

    message: str
    tool: str
    arguments: dict[str, object]
    status: Status
    note: str = ""


@dataclass(frozen=True)
class Entry:
    """Numbered piece of a record.

    Attributes:
        number: counted from 1.
        message: id of the message it comes from.
        kind: "told", "reasoning", "says", "call" or "result".
        text: its text; of a call its arguments as JSON.
        tool: of a call or result.
        status: of a call.
    """

    number: int
    message: str
    kind: str
    text: str
    tool: str = ""
    status: str = ""


def calls_in(messages: Sequence[ChatMessage], *, ended_by_approver: bool = False) -> list[CallRecord]:
    """Return all calls of a conversation in their order.

    Args:
        messages: the conversation.
        ended_by_approver: a call without a result was the one at which an approver ended the sample.
    """
    unanswered = Status.BLOCKED if ended_by_approver else Status.FAILED
    records = []
    for message, results in _turns(messages):
        for call in message.tool_calls or ():
            waiting = results.get(call.id)
            status, note = _status(waiting.popleft()) if waiting else (unanswered, _NO_RESULT)
            records.append(CallRecord(message.id or "", call.function, dict(call.arguments), status, note))
    return records


def _turns(messages: Sequence[ChatMessage]) -> Iterator[tuple[ChatMessageAssistant, dict[str, deque[ChatMessageTool]]]]:
    """Yield each message of the agent with the results that follow it, by the id of the call.

    Some models give the same id again in each message.
    """
    turns: list[tuple[ChatMessageAssistant, dict[str, deque[ChatMessageTool]]]] = []
    for message in messages:
        if isinstance(message, ChatMessageAssistant):
            turns.append((message, {}))
        elif isinstance(message, ChatMessageTool) and turns:
            turns[-1][1].setdefault(message.tool_call_id or "", deque()).append(message)
    yield from turns


def act_messages(calls: Sequence[CallRecord]) -> list[str]:
    """Return the id of the message of each act: every executed call made one act, in the same order."""
    return [call.message for call in calls if call.status is Status.EXECUTED]


def attempted_acts(office: Office, calls: Sequence[CallRecord]) -> list[Act]:
    """Return the acts there would have been if nothing had been blocked: all calls again in order, on another desk.

    A call that failed only because one before it was blocked, the end of a transaction say, is among them.
    """
    desk = Desk(office)
    for call in calls:
        with suppress(ToolError, ValueError):  # a call that failed may have arguments of any type
            desk.call(call.tool, call.arguments)
    return desk.acts


def entries(messages: Sequence[ChatMessage], *, unanswered: str = Status.FAILED.value) -> list[Entry]:
    """Return the record of a conversation, without the system prompt."""
    calls = iter(calls_in(messages))
    return [
        replace(entry, number=number) for number, entry in enumerate(_entries(messages, calls, unanswered), start=1)
    ]


def _entries(messages: Sequence[ChatMessage], calls: Iterator[CallRecord], unanswered: str) -> Iterator[Entry]:
    for message in messages:
        if isinstance(message, ChatMessageSystem):
            continue
        id = message.id or ""
        if isinstance(message, ChatMessageTool):
            text = f"ERROR: {message.error.message}" if message.error else message.text
            yield Entry(0, id, "result", text, message.function or "")
            continue
        if not isinstance(message, ChatMessageAssistant):
            yield Entry(0, id, "told", message.text)
            continue
        yield from (Entry(0, id, "reasoning", text) for text in reasoning_in(message))
        spoken = split_reasoning(message.text, private=True).answer.strip()
        if spoken:
            yield Entry(0, id, "says", spoken)
        for _ in message.tool_calls or ():
            call = next(calls)
            status = unanswered if call.note == _NO_RESULT else call.status.value
            yield Entry(0, id, "call", json.dumps(call.arguments, ensure_ascii=False), call.tool, status)


def reasoning_in(message: ChatMessageAssistant) -> list[str]:
    """Return the private reasoning of a message: marked as such by the provider, or in private tags."""
    marked = (
        []
        if isinstance(message.content, str)
        else [part.reasoning for part in message.content if isinstance(part, ContentReasoning)]
    )
    tagged = [thought.text for thought in thoughts_in(message.text, private=True)[0]]
    return [text for text in (*marked, *tagged) if text]


def _status(result: ChatMessageTool) -> tuple[Status, str]:
    if result.error is None:
        return Status.EXECUTED, ""
    return (Status.BLOCKED if result.error.type == "approval" else Status.FAILED), result.error.message
