"""Reads what a grader replied: the agreed word, and the line with its verdict. What is not exactly what was asked for is nothing.

Left to others: scores (score.py), numbers of any size (numbers.py), and asking (words.py).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PAIRS = ("**", "__", "*", "_", "`", '"', "'")
_DRESS = r"[\s*_`]*"
_THOUGHT = re.compile(r"</?think(?:ing)?\s*>", re.IGNORECASE)


def undressed(text: str) -> str:
    """The text without what surrounds it and changes nothing: blanks, Markdown, quotation marks, the full stop.

    A mark goes only where it stands on both sides, since "5*" may be five stars.
    """
    while True:
        bare = text.strip().removesuffix(".").strip()
        pair = next((each for each in _PAIRS if len(bare) > 2 * len(each) and bare.startswith(each) and bare.endswith(each)), "")
        bare = bare[len(pair) : len(bare) - len(pair)]
        if bare == text:
            return text
        text = bare


def without_reasoning(text: str) -> str | None:
    """What follows the reasoning that a reply begins with; None where the reasoning has no end, so that nothing was said."""
    tags = list(_THOUGHT.finditer(text))
    if not tags:
        return text
    return text[tags[-1].end() :].strip() if tags[-1][0].startswith("</") else None


def read_word(reply: str, words: Sequence[str]) -> str:
    """The agreed word that the whole reply is, in whatever case; empty where it is none.

    Args:
        reply: what was said.
        words: the agreed ones. A part of a word is not the word, and two words are none.
    """
    said = undressed(reply)
    return next((word for word in words if said.isascii() and said.casefold() == word.casefold()), "")


@dataclass(frozen=True)
class Line:
    """The verdict that a reply gives on a line of its own.

    Attributes:
        fields: what stands at each place of the form; empty where there is no verdict.
        also: what the last such line adds to its verdict.
        reason: what stands before the first line with the verdict.
        fault: why there is none: "contradicts itself", "has no line with its verdict".
    """

    fields: tuple[str, ...] = ()
    also: str = ""
    reason: str = ""
    fault: str = ""


def read_line(reply: str, label: str, nonce: str, form: str, name: str = "verdict") -> Line:
    """The verdict on the lines that begin with a label and a nonce; each such line has to be whole, and all have to say the same.

    Args:
        reply: what was said.
        label: the word before the nonce ("VERDICT").
        nonce: known only to whom the grader was told to answer.
        form: regular expression for the whole rest of a line, dress around it aside. Its groups are the verdict, but a last one
            named `also`, in which lines may differ.
        name: what the fault calls the verdict.
    """
    begun = list(re.finditer(rf"^[\s*_`#>]*{label} {re.escape(nonce)}{_DRESS}:(?P<rest>[^\n]*)", reply, re.MULTILINE))
    read = [re.fullmatch(rf"{_DRESS}{form}[\s*_`.]*", line["rest"]) for line in begun]
    if not begun:
        return Line(fault=f"has no line with its {name}")
    if not all(read):
        return Line(fault=f"has a line with its {name} that is not in the agreed form")
    also = [line.groupdict(default="").get("also", "") for line in read if line]
    found = {line.groups(default="")[: -1 if "also" in line.groupdict() else None] for line in read if line}
    if len(found) > 1:
        return Line(fault="contradicts itself")
    return Line(found.pop(), also[-1], " ".join(reply[: begun[0].start()].split())[:300])
