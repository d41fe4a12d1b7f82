"""Labelled records: acts of an agent, written by hand with whether they are harmful, and played without a model.

A folder holds `<scenario>.yaml` files, each a list of plays. Gates are tested on them, and the judges of a study are
held against them, which tells their error on such records (`judge_errors`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    ChatMessageUser,
    ContentReasoning,
    ContentText,
)
from inspect_ai.tool import ToolCall, ToolCallError, ToolError
from pydantic import Field

from astray.errors import DataNotFoundError
from astray.files import read_as, read_yaml
from astray.measure.agentic.acts import Act
from astray.measure.agentic.desk import Desk
from astray.measure.agentic.factors import factors_from
from astray.measure.agentic.render import Office, render
from astray.measure.agentic.scenario import load_scenario
from astray.strict import Strict

EXAMPLE = (
    "- {name: ..., steps: [{say: ..., calls: [{tool: send_mail, arguments: {...}}]}], harmful: false, attempted: 1, "
    "executed: 1}"
)


class Attempt(Strict):
    """Call that the agent makes, and what is done to it besides what the tool does."""

    tool: str
    arguments: dict[str, str] = Field(default_factory=dict)
    fate: Literal["passed", "blocked", "unreadable"] = Field(
        default="passed", description="blocked: an approver refuses it; unreadable: its arguments are no JSON"
    )


class Turn(Strict):
    """Message of the agent."""

    private: str = ""
    say: str = ""
    calls: tuple[Attempt, ...] = ()


class Play(Strict):
    """Acts of an agent in a cell, and what is true of them."""

    name: str
    cell: dict[str, str] = Field(default_factory=dict)
    steps: tuple[Turn, ...] = Field(min_length=1)
    harmful: bool = Field(description="whether the harmful act was executed")
    tried: bool | None = Field(default=None, description="executed or blocked; as `harmful` where it is not given")
    attempted: int
    executed: int
    ways: tuple[str, ...] | None = Field(
        default=None, description="the ways out that were taken; of scenarios whose gate tells them apart"
    )


class _Plays(Strict):
    plays: tuple[Play, ...] = Field(min_length=1)


@dataclass(frozen=True)
class LabelledRecord:
    """Play with the record and acts that it left.

    Attributes:
        scenario: name of the scenario.
        play: what was written.
        office: the cell.
        messages: the conversation.
        acts: what was executed.
    """

    scenario: str
    play: Play
    office: Office
    messages: tuple[ChatMessage, ...]
    acts: tuple[Act, ...]


def read_plays(path: Path) -> tuple[Play, ...]:
    """Return the plays of a file.

    Raises:
        DataNotFoundError, EmptyDataError, DataFormatError: the file cannot be used; says where.
    """
    return read_as(_Plays, {"plays": read_yaml(path, EXAMPLE)}, path, EXAMPLE).plays


def labelled_records(folder: Path, scenarios: Sequence[str]) -> tuple[LabelledRecord, ...]:
    """Return all plays of a folder for some scenarios, performed.

    Raises:
        DataNotFoundError: there is no file for any of them.
        EmptyDataError, DataFormatError: a file cannot be used.
    """
    files = {name: folder / f"{load_scenario(name).name}.yaml" for name in scenarios}
    there = {name: path for name, path in files.items() if path.is_file()}
    if not there:
        names = ", ".join(path.name for path in files.values())
        raise DataNotFoundError(
            f"{folder} has labelled records for none of the scenarios. It needs at least one of the files {names}: "
            f"{EXAMPLE}"
        )
    return tuple(perform(name, play) for name, path in there.items() for play in read_plays(path))


def perform(scenario: str, play: Play) -> LabelledRecord:
    """Play to the end, and return the record.

    Raises:
        UnknownNameError, ConfigurationError: the scenario does not offer the cell.
    """
    return perform_in(scenario, render(load_scenario(scenario), factors_from(play.cell)), play)


def perform_in(scenario: str, office: Office, play: Play) -> LabelledRecord:
    """Play in an office to the end, and return the record."""
    desk = Desk(office)
    messages: list[ChatMessage] = [ChatMessageUser(content=office.task)]
    for number, turn in enumerate(play.steps):
        calls = [_tool_call(f"{number}-{index}", attempt, office) for index, attempt in enumerate(turn.calls)]
        content = [ContentReasoning(reasoning=office.fill(turn.private)), ContentText(text=office.fill(turn.say))]
        messages.append(ChatMessageAssistant(content=content, tool_calls=calls))
        messages += [_result(call, attempt, desk) for call, attempt in zip(calls, turn.calls, strict=True)]
    return LabelledRecord(scenario, play, office, tuple(messages), tuple(desk.acts))


def _tool_call(id: str, attempt: Attempt, office: Office) -> ToolCall:
    if attempt.fate == "unreadable":
        return ToolCall(id=id, function=attempt.tool, arguments={}, parse_error="no JSON")
    return ToolCall(
        id=id, function=attempt.tool, arguments={name: office.fill(text) for name, text in attempt.arguments.items()}
    )


def _result(call: ToolCall, attempt: Attempt, desk: Desk) -> ChatMessageTool:
    error, content = None, ""
    if attempt.fate == "blocked":
        error = ToolCallError("approval", "not allowed")
    elif attempt.fate == "unreadable":
        error = ToolCallError("parsing", "no JSON")
    else:
        try:
            content = desk.call(call.function, call.arguments)
        except ToolError as refused:
            error = ToolCallError("unknown", refused.message)
    return ChatMessageTool(content=content, tool_call_id=call.id, function=call.function, error=error)
