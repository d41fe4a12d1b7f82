"""Read a grader's reply: the agreed word, or the line with its verdict. Only the exact form counts.

Left to others: scores (score.py), numbers of any size (numbers.py), and asking (words.py).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PAIRS = ("**", "__", "*", "_", "`", '"', "'")
_DRESS = r"[\s*_`]*"


def undressed(text: str) -> str:
    """Strip what surrounds a text without changing it: blanks, Markdown, quotation marks, the full stop.

    A mark goes only where it stands on both sides, since "5*" may be five stars.
    """
    while True:
        bare = text.strip()
        if not bare.endswith(".."):  # after which something may have been left out
            bare = bare.removesuffix(".").strip()
        pair = next(
            (each for each in _PAIRS if len(bare) > 2 * len(each) and bare.startswith(each) and bare.endswith(each)), ""
        )
        bare = bare[len(pair) : len(bare) - len(pair)]
        if bare == text:
            return text
        text = bare


def read_word(reply: str, words: Sequence[str]) -> str:
    """Return the agreed word that the whole reply is, in whatever case; empty where it is none.

    Args:
        reply: the grader's reply.
        words: the agreed words. A part of a word is not the word, and two words are none.
    """
    said = undressed(reply)
    return next((word for word in words if said.isascii() and said.casefold() == word.casefold()), "")


@dataclass(frozen=True)
class Line:
    """Verdict that a reply gives on a line of its own.

    Attributes:
        fields: values of the form's groups; empty where there is no verdict.
        also: addition to the verdict on the last such line.
        reason: text before the first line with the verdict.
        fault: why there is no verdict: "contradicts itself", "has no line with its verdict".
    """

    fields: tuple[str, ...] = ()
    also: str = ""
    reason: str = ""
    fault: str = ""


def read_fields(reply: str, labels: Sequence[str]) -> tuple[dict[str, tuple[int, str]], str]:
    """Read the values of a reply that is one line for each label, "LABEL: value", in the asked order and nothing else.

    Args:
        reply: the grader's reply; a code fence around it changes nothing.
        labels: the labels that were asked for.

    Returns:
        Label -> index of its value in the reply and the value, and ""; or nothing and why it cannot be read.
    """
    lines, start = [], 0
    for line in reply.splitlines(keepends=True):
        if line.strip():
            lines.append((start, line))
        start += len(line)
    if len(lines) > 2 and re.fullmatch(r"```\w*\s*", lines[0][1]) and lines[-1][1].strip() == "```":
        lines = lines[1:-1]
    if len(lines) != len(labels):
        return {}, f"has {len(lines)} lines and not one for each of {', '.join(labels)}"
    values = {}
    for label, (begin, line) in zip(labels, lines, strict=True):
        field = re.fullmatch(
            # A mark that was closed at the label or after the colon is not the one at the end of the line.
            rf"[\s*_`#>-]*?(?P<mark>[*_`]*){label}(?P<end>[*_`]{{1,2}})?\s*:(?P<after>[*_`]{{1,2}}(?=\s))?\s*"
            r"(?P<value>\S.*?)(?(end)|(?(after)|(?:(?P=mark))?))\s*",
            line,
            re.IGNORECASE,
        )
        if field is None:
            return {}, f"has no line '{label}: ...' where it was asked for"
        values[label] = (begin + field.start("value"), field["value"])
    return values, ""


def read_line(reply: str, label: str, nonce: str, form: str, name: str = "verdict") -> Line:
    """Read the verdict from the lines that begin with a label and a nonce; all of them have to be whole and agree.

    Args:
        reply: the grader's reply.
        label: the word before the nonce ("VERDICT").
        nonce: random text from the prompt, which the judged text cannot know and so cannot imitate.
        form: regular expression for the whole rest of a line, marks around it aside. Its groups are the verdict, except
            a last one named `also`, in which lines may differ.
        name: name of the verdict in the fault.
    """
    begun = list(
        re.finditer(rf"^(?:[^\S\n]|[*_`#>])*+{label} {re.escape(nonce)}{_DRESS}:(?P<rest>[^\n]*)", reply, re.MULTILINE)
    )
    read = [re.fullmatch(rf"{_DRESS}{form}[\s*_`.]*", line["rest"]) for line in begun]
    if not begun:
        return Line(fault=f"has no line with its {name}")
    if not all(read):
        return Line(fault=f"has a line with its {name} that is not in the agreed form")
    also = [line.groupdict(default="").get("also", "") for line in read if line]
    verdicts = {line.groups(default="")[: -1 if "also" in line.groupdict() else None] for line in read if line}
    if len(verdicts) > 1:
        return Line(fault="contradicts itself")
    return Line(verdicts.pop(), also[-1], " ".join(reply[: begun[0].start()].split())[:300])
