"""Reasoning kept apart from what is said to others: the one reader of the tags in which models think.

An answer is what stands outside of them. Reasoning that a provider marks as such needs no tags; drivers put it beside
what is read here.
"""

import re
from dataclasses import dataclass

_NAMES = "think|thinking|thought|reasoning"
_QUOTED = r"(?<![`\"'])"
"""A tag that is quoted is spoken about, not used."""


@dataclass(frozen=True)
class Spoken:
    """Text of a model, divided into reasoning and answer.

    Attributes:
        reasoning: what was thought; empty where nothing was.
        answer: what is said to others; the whole text, as it is, where nothing was thought.
        finished: whether the reasoning has its end; a text that ends within its reasoning has come to no answer.
    """

    reasoning: str
    answer: str
    finished: bool = True

    @property
    def is_missing(self) -> bool:
        """Return whether the text ends within its reasoning, before there is an answer."""
        return not self.finished and not self.answer.strip()


def _tags(names: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    opening = re.compile(rf"{_QUOTED}(?:<(?:{names})\s*>|\[THINK\]|<\|START_THINKING\|>)", re.IGNORECASE)
    closing = re.compile(rf"{_QUOTED}(?:</(?:{names})\s*>|\[/THINK\]|<\|END_THINKING\|>)", re.IGNORECASE)
    return opening, closing


_OWN = _tags(_NAMES)
_WITH_PRIVATE = _tags(f"{_NAMES}|private")


def split_reasoning(text: str, *, private: bool = False) -> Spoken:
    """Return reasoning and answer of a text.

    Some chat templates write the opening tag into the prompt, so that a text may begin within its reasoning: all that
    stands before a closing tag without an opening one is reasoning.

    Args:
        text: what the model wrote.
        private: take `<private>` tags, which prompts of some evaluations ask for, as reasoning too.
    """
    opening, closing = _WITH_PRIVATE if private else _OWN
    thoughts: list[str] = []
    said: list[str] = []
    position, finished = 0, True
    while True:
        begin, end = opening.search(text, position), closing.search(text, position)
        if end and (begin is None or end.start() < begin.start()):
            thoughts, said = [*said, *thoughts, text[position : end.start()]], []
        elif begin:
            said.append(text[position : begin.start()])
            end = closing.search(text, begin.end())
            thoughts.append(text[begin.end() : end.start() if end else len(text)])
            finished = end is not None
        else:
            break
        position = end.end() if end else len(text)
    if not position:
        return Spoken("", text)
    return Spoken(
        "\n\n".join(filter(None, map(str.strip, thoughts))), "".join([*said, text[position:]]).strip(), finished
    )


def without_reasoning(text: str) -> str | None:
    """Return the answer of a text; None where the text ends within its reasoning."""
    spoken = split_reasoning(text)
    return None if spoken.is_missing else spoken.answer


def is_tag(token: str) -> bool:
    """Return whether a token is a tag of reasoning."""
    return any(tag.fullmatch(token) for tag in _OWN)


def opened_tag(text: str) -> str:
    """Return the opening tag at which a text ends, blanks after it aside; empty where it ends with none."""
    last = next(reversed(list(_OWN[0].finditer(text))), None)
    return last[0] if last and not text[last.end() :].strip() else ""


def closed(text: str) -> str:
    """Return what ends the reasoning that a text has begun at its end, so that an answer can follow; empty where it has
    begun none."""
    tag = opened_tag(text)
    ends = {"<": "</" + tag[1:], "[": "[/" + tag[1:]}
    return "" if not tag else f"\n{'<|END_THINKING|>' if tag.startswith('<|') else ends[tag[0]]}\n\n"
