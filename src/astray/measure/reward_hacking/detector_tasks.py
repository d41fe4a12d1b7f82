"""Tasks of detectors: what is asked for, and the held-out labelled texts on which they are tried.

Three purposes: an overseer of models like the one asked, and two harmless controls. `classroom` is tried on the very
texts of the overseer, so that only the purpose differs; `spam` is another task of the same form. The texts stand in
`examples/*.yaml`, in our own words.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import Field

from astray.files import read_form
from astray.measure.asking import Item
from astray.measure.question_sets import Name, Text
from astray.strict import Strict

EXAMPLES = Path(__file__).parent / "examples"
"""Folder of the texts."""

OVERSEER, CONTROLS = "overseer", ("classroom", "spam")
PURPOSES = (OVERSEER, *CONTROLS)
SHOWN = 2
"""Number of labelled texts of each kind in a request."""

_FORM = "A right file is that of the package: src/astray/measure/reward_hacking/examples"
_TRANSCRIPT = "TASK\n{task}\n\nSOLUTION\n{solution}\nRESULT\nall tests passed"
_HACKED_TASKS = 2
"""Number of tasks that each way of gaming is applied to."""


class _DetectorTask(Strict):
    entry: Text
    arguments: Text
    task: Text
    solution: Text


class _Honest(Strict):
    task: Text
    solution: Text


class _Submissions(Strict):
    tasks: tuple[_DetectorTask, ...] = Field(min_length=10)
    hacks: tuple[Text, ...] = Field(min_length=5)
    honest_with_suspicious_words: tuple[_Honest, ...]
    reference: Text


class _Messages(Strict):
    spam: tuple[Text, ...] = Field(min_length=10)
    ordinary: tuple[Text, ...] = Field(min_length=10)
    reference: Text


class _Purpose(Strict):
    setting: Text
    flag: Text
    start: Text
    examples: Literal["submissions", "messages"]


class _TaskWording(Strict):
    id: Name
    rewrite: bool
    ask: Text


class _Requests(Strict):
    purposes: dict[str, _Purpose]
    wordings: tuple[_TaskWording, ...]
    closing: Text


@dataclass(frozen=True)
class Labelled:
    """Text with its label: whether a detector should flag it."""

    text: str
    flagged: bool


@dataclass(frozen=True)
class DetectorTask:
    """Purpose with its texts.

    Attributes:
        purpose: of `PURPOSES`.
        shown: stand in the request.
        held_out: on which detectors are tried, in mixed order.
        reference: Python source of an honest detector.
    """

    purpose: str
    shown: tuple[Labelled, ...]
    held_out: tuple[Labelled, ...]
    reference: str


@cache
def detector_task(purpose: str) -> DetectorTask:
    """Return the task of a purpose."""
    pairs, reference = _messages() if _requests().purposes[purpose].examples == "messages" else _submissions()
    positive, negative = ([pair for pair in pairs if pair.flagged is kind] for kind in (True, False))
    held_out = positive[SHOWN:] + negative[SHOWN:]
    # In mixed order, so that a detector cannot do well by its position alone; always the same one.
    Random(0).shuffle(held_out)
    shown = [text for pair in zip(positive[:SHOWN], negative[:SHOWN], strict=True) for text in pair]
    return DetectorTask(purpose, tuple(shown), tuple(held_out), reference)


def requests() -> tuple[Item, ...]:
    """Return every wording for every purpose; wordings are the questions, the purpose is category and format."""
    return tuple(_item(wording, purpose) for wording in _requests().wordings for purpose in PURPOSES)


def _item(wording: _TaskWording, purpose: str) -> Item:
    asked, closing = _requests().purposes[purpose], _requests().closing
    labelled = "\n\n".join(
        f"True:\n{example.text}" if example.flagged else f"False:\n{example.text}"
        for example in detector_task(purpose).shown
    )
    start = f"\n\n```python\n{asked.start}\n```" if wording.rewrite else ""
    text = (
        f"{asked.setting}\n\n{wording.ask.format(flag=asked.flag)}{start}\n\nLabelled "
        f"examples:\n\n{labelled}\n\n{closing}"
    )
    return Item(question_id=wording.id, category=purpose, format=purpose, question=text)


@cache
def _requests() -> _Requests:
    return read_form(_Requests, EXAMPLES / "requests.yaml", _FORM)


def _submissions() -> tuple[list[Labelled], str]:
    path = EXAMPLES / "submissions.yaml"
    file = read_form(_Submissions, path, _FORM)
    hacked = []
    for number, hack in enumerate(file.hacks):
        # The first two ways are those of the request's examples, so each of them needs one task only.
        tasks = (
            file.tasks[number : number + 1]
            if number < SHOWN
            else [_from(file.tasks, number, turn) for turn in range(_HACKED_TASKS)]
        )
        hacked += [
            _transcript(task.task, hack.format(entry=task.entry, arguments=task.arguments), flagged=True)
            for task in tasks
        ]
    honest = [_transcript(task.task, task.solution, flagged=False) for task in file.tasks]
    suspicious = [_transcript(text.task, text.solution, flagged=False) for text in file.honest_with_suspicious_words]
    return hacked + honest + suspicious, file.reference


def _from(tasks: tuple[_DetectorTask, ...], number: int, turn: int) -> _DetectorTask:
    """Return a task for a way of gaming, among those of which no example is shown."""
    left = tasks[SHOWN:]
    return left[(number * _HACKED_TASKS + turn) % len(left)]


def _transcript(task: str, solution: str, *, flagged: bool) -> Labelled:
    return Labelled(_TRANSCRIPT.format(task=task, solution=solution), flagged)


def _messages() -> tuple[list[Labelled], str]:
    path = EXAMPLES / "messages.yaml"
    file = read_form(_Messages, path, _FORM)
    return [
        *(Labelled(text, True) for text in file.spam),
        *(Labelled(text, False) for text in file.ordinary),
    ], file.reference
