"""Calls in text are read strictly: what is no call is none, and what is a broken one is answered."""

import pytest
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageTool, ChatMessageUser
from inspect_ai.tool import ToolCall, ToolCallError

from astray.measure.agentic.factors import BASELINE
from astray.measure.agentic.render import render
from astray.measure.agentic.scenario import load_scenario
from astray.measure.agentic.text_protocol import (
    UNREADABLE,
    as_text,
    introduction,
    is_about_missing_tools,
    read_calls,
    write_call,
)
from astray.measure.agentic.tools import infos_of

INFOS = list(infos_of(render(load_scenario("blackmail"), BASELINE)))


def test_what_is_written_is_read_back():
    arguments = {"to": "a@a.example", "subject": "Grüße <b> ``` </callx>", "body": "two\nlines"}
    text = f"I write.\n{write_call('send_mail', arguments)}\n{write_call('list_mails', {})}"
    calls = read_calls(text, INFOS)
    assert [(call.function, call.arguments, call.parse_error) for call in calls] == [
        ("send_mail", arguments, None),
        ("list_mails", {}, None),
    ]
    assert len({call.id for call in [*calls, *read_calls(text, INFOS, 2)]}) == 4


def test_a_fenced_block_of_json_is_a_call():
    (call,) = read_calls('Now:\n```json\n{"tool": "read_mail", "arguments": {"mail": "m4"}}\n```\nDone.', INFOS)
    assert (call.function, call.arguments, call.parse_error) == ("read_mail", {"mail": "m4"}, None)


@pytest.mark.parametrize(
    "text",
    [
        "I will call send_mail with to=a@a.example.",
        '<private><call tool="list_mails">{}</call></private> No.',
        '<Private ><call tool="list_mails">{}</call></PRIVATE> No.',
        '<think>I could <call tool="list_mails">{}</call></think> No.',
        'I could <call tool="list_mails">{}</call></think> No.',
        '```json\n{"to": "a@a.example"}\n```',
        "```python\nprint(1)\n```",
        "We had a call at noon, a < b, and <called> it a day.",
    ],
)
def test_what_is_no_call_is_none(text):
    assert read_calls(text, INFOS) == []


@pytest.mark.parametrize(
    ("text", "function", "told"),
    [
        ('<call tool="send_mail">{"to": }</call>', "send_mail", "no JSON object"),
        ('<call tool="send_mail">["a"]</call>', "send_mail", "a list, not a JSON object"),
        ('<call tool="send_mail">{"to": ' + "9" * 5000 + "}</call>", "send_mail", "no JSON object"),
        ('<call tool="send_mail">' + "[" * 100_000 + "</call>", "send_mail", "nested too deeply"),
        ('<call tool="send_mail">{"to": "\\ud83d"}</call>', "send_mail", "no JSON object"),
        ('<call tool="send_fax">{}</call>', "send_fax", "there is no tool 'send_fax'; tools: list_mails"),
        ('<call tool="list_mails">{}', UNREADABLE, "with its end"),
        ("<call list_mails>", UNREADABLE, "has to be written"),
        ('```json\n{"tool": "list_mails"}\n```', "list_mails", "exactly the keys"),
        ('```json\n{"tool": "list_mails",\n```', UNREADABLE, "no JSON"),
    ],
)
def test_a_broken_call_says_what_is_wrong(text, function, told):
    (call,) = read_calls(text, INFOS)
    assert call.function == function
    assert told in call.parse_error


def test_a_conversation_reads_as_text_for_a_model_without_tools():
    call = ToolCall(id="1", function="list_mails", arguments={})
    conversation = [
        ChatMessageSystem(content="You are X."),
        ChatMessageUser(content="Go."),
        ChatMessageAssistant(content="I look.", tool_calls=[call]),
        ChatMessageTool(content="m1", tool_call_id="1", function="list_mails"),
        ChatMessageTool(content="", tool_call_id="2", function="read_mail", error=ToolCallError("parsing", "no JSON")),
    ]
    written = as_text(conversation, INFOS)
    assert [message.role for message in written] == ["system", "user", "assistant", "user"]
    assert written[0].text.startswith("You are X.")
    assert all(info.name in written[0].text for info in INFOS)
    assert written[2].tool_calls is None
    assert written[3].text == "Result of list_mails:\nm1\n\nResult of read_mail: ERROR: no JSON"
    assert as_text(conversation[1:2], INFOS)[0].text == introduction(INFOS)


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("registry.ollama.ai/library/x does not support tools", True),
        ("'tools' is not supported with this model", True),
        ("'tiny' was offered the tools ['send_mail'], but astray's provider passes on text only.", True),
        ("Rate limit reached", False),
        ("The tool call was malformed", False),
    ],
)
def test_errors_about_missing_tools_are_known(message, answer):
    assert is_about_missing_tools(ValueError(message)) is answer
