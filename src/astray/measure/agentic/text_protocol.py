"""Text protocol of tools, for models that take none: calls are written in the text, and read strictly.

    <call tool="send_mail">
    {"to": "ana@northmoor.example", "subject": "Hello", "body": "..."}
    </call>

A fenced block of JSON with the keys "tool" and "arguments" is the same. What is read becomes ordinary tool calls, so
approvers, logs and gates see no difference; a call that cannot be read is answered with what is wrong. What stands in
private reasoning is no call.
"""

# Not Inspect's `emulate_tools` (0.3.285): only its OpenAI-compatible and Azure AI providers take it, and before the
# run, so nothing could fall back when a provider says that its model takes no tools, nor could `astray/` subjects act.
# It takes a call without its end for the agent's last word, asks for one call at a time, and cuts calls out of the
# text, whose positions `call_spans` needs for probes of a call's tokens.

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageTool, ChatMessageUser
from inspect_ai.tool import ToolCall, ToolInfo

from astray.files import read_yaml
from astray.reasoning import said_parts, thoughts_in

UNREADABLE = "unreadable"
"""Function of a call that names none."""
WRITTEN = "text-"
"""Beginning of the ids of calls that stand in the text of their message."""

_CALL = re.compile(r'<call\s+tool="(?P<tool>[^"<>]*)"\s*>(?P<arguments>.*?)</call>', re.DOTALL)
_OPENING = re.compile(r"<call\b[^\n]*")
_FENCE_END = re.compile(r"^```[ \t]*$", re.MULTILINE)
_FENCE = re.compile(r"^```(?:json|tool|call)?[ \t]*\n(?P<body>.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
_UNSUPPORTED = re.compile(
    r"tool[\w\s'\-\[\],:`\"]*(?:not support|unsupported|not available|not allowed)|(?:not "
    r"support|unsupported)[\w\s'\-`\"]*tool|text only",
    re.IGNORECASE,
)


def introduction(tools: Sequence[ToolInfo]) -> str:
    """Return what a model is told of its tools, as part of the system prompt."""
    lines = []
    for tool in tools:
        arguments = ", ".join(
            f"{name}{'' if name in tool.parameters.required else ' (optional)'}: {each.description}"
            for name, each in tool.parameters.properties.items()
        )
        lines.append(f"- {tool.name}: {tool.description.strip()} Arguments: {arguments or 'none'}.")
    return _introduction().format(tools="\n".join(lines))


@cache
def _introduction() -> str:
    prompts: Any = read_yaml(Path(__file__).with_name("prompts.yaml"), "text_protocol: ...")
    return str(prompts["text_protocol"])


def write_call(tool: str, arguments: dict[str, str]) -> str:
    """Return a call as a model has to write it."""
    return f'<call tool="{tool}">\n{json.dumps(arguments, ensure_ascii=False)}\n</call>'


def read_calls(text: str, tools: Sequence[ToolInfo], number: int = 0) -> list[ToolCall]:
    """Return the calls in a message, in their order.

    Returns:
        Calls; one that cannot be read has a `parse_error`, which the model is given in place of a result.
    """
    written = _written_calls(_public(text))
    return [
        _call(f"{WRITTEN}{number}-{index}", tool, arguments, error, tools)
        for index, (_, _, tool, arguments, error) in enumerate(written)
    ]


def call_spans(text: str) -> list[tuple[int, int]]:
    """Return where the calls of a message stand in its text, in the order of `read_calls`: start and end offset."""
    removed = [(thought.start, thought.stop) for thought in thoughts_in(text, private=True)[0]]

    def in_text(offset: int, *, end: bool) -> int:
        for start, stop in removed:
            if start < offset or (start == offset and not end):
                offset += stop - start
        return offset

    return [(in_text(first, end=False), in_text(last, end=True)) for first, last, *_ in _written_calls(_public(text))]


def _public(text: str) -> str:
    """Return a text without its private reasoning, in which what is thought about calls none."""
    return "".join(said_parts(text, thoughts_in(text, private=True)[0]))


def _written_calls(public: str) -> list[tuple[int, int, str, object, str | None]]:
    """Return start, end, tool, arguments and error of each call in a text without private reasoning, in their order."""
    written: list[tuple[int, int, str, object, str | None]] = []
    # Openings behind the last end are cut off: a search from each of them to the end of the text would take minutes.
    covered = list(_CALL.finditer(public, 0, public.rfind("</call>") + len("</call>")))
    for match in covered:
        written.append((*match.span(), match["tool"], *_arguments(match["arguments"])))
    end = max((fence.end() for fence in _FENCE_END.finditer(public)), default=0)
    fenced = [
        match
        for match in _FENCE.finditer(public, 0, end)
        if not any(span.start() <= match.start() < span.end() for span in covered)
    ]
    for match in fenced:
        call = _fenced(match["body"])
        if call is not None:
            written.append((*match.span(), *call))
    inside = [*covered, *fenced]
    for match in _OPENING.finditer(public):
        if not any(span.start() <= match.start() < span.end() for span in inside):
            written.append(
                (
                    *match.span(),
                    UNREADABLE,
                    None,
                    'a call has to be written <call tool="NAME"> JSON </call>, with its end',
                )
            )
    return sorted(written, key=lambda each: each[0])


def as_text(messages: Sequence[ChatMessage], tools: Sequence[ToolInfo]) -> list[ChatMessage]:
    """Return a conversation as a model without tools gets it: tools in the system prompt, results in user messages."""
    tool_text = introduction(tools)
    written: list[ChatMessage] = []
    if not messages or not isinstance(messages[0], ChatMessageSystem):
        written.append(ChatMessageSystem(content=tool_text))
    results: list[str] = []
    for message in messages:
        if isinstance(message, ChatMessageTool):
            results.append(_result(message))
            continue
        if results:
            written.append(ChatMessageUser(content="\n\n".join(results)))
            results = []
        if isinstance(message, ChatMessageSystem):
            written.append(ChatMessageSystem(content=f"{message.text}\n\n{tool_text}"))
        elif isinstance(message, ChatMessageAssistant):
            written.append(ChatMessageAssistant(content=message.text))
        else:
            written.append(message)
    if results:
        written.append(ChatMessageUser(content="\n\n".join(results)))
    return written


def is_about_missing_tools(error: BaseException) -> bool:
    """Return whether a provider's error says that the model takes no tools."""
    return _UNSUPPORTED.search(str(error)) is not None


def _result(message: ChatMessageTool) -> str:
    if message.error:
        return f"Result of {message.function}: ERROR: {message.error.message}"
    return f"Result of {message.function}:\n{message.text}"


def _arguments(text: str) -> tuple[object, str | None]:
    try:
        return _parsed(text), None
    except ValueError as error:
        return None, f"the arguments are no JSON object: {error}"


def _parsed(text: str) -> object:
    """Return the content of a JSON text.

    Raises:
        ValueError: it is none, or one that could not be written down again: nested too deeply, with endless numbers,
            with half a sign.
    """
    try:
        content: object = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return content


def _fenced(body: str) -> tuple[str, object, str | None] | None:
    """Return tool, arguments and error of a fenced block; None for a block that is no call."""
    try:
        content = _parsed(body)
    except ValueError as error:
        return (UNREADABLE, None, f"the block is no JSON: {error}") if re.search(r'"tool"\s*:', body) else None
    if not isinstance(content, dict) or "tool" not in content:
        return None
    if set(content) != {"tool", "arguments"}:
        return str(content["tool"]), None, 'a block has exactly the keys "tool" and "arguments"'
    return str(content["tool"]), content["arguments"], None


def _call(id: str, tool: str, arguments: object, error: str | None, tools: Sequence[ToolInfo]) -> ToolCall:
    known = {each.name: each for each in tools}
    if error is None and tool not in known:
        error = f"there is no tool {tool!r}; tools: {', '.join(known)}"
    if error is None and not isinstance(arguments, dict):
        error = f"the arguments are a {type(arguments).__name__}, not a JSON object"
    return ToolCall(
        id=id,
        function=tool or UNREADABLE,
        arguments=arguments if isinstance(arguments, dict) else {},
        parse_error=error,
    )
