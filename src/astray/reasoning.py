"""Reasoning kept apart from what is said to others: the one reader of the marks in which models think.

An answer is what stands outside of them. Reasoning that a provider marks as such needs no marks; drivers put it beside
what is read here. Four forms are known: tags (`<think>`, in other languages too), channels (`<|channel|>analysis`), the
same channels after a server has taken their tokens away (`analysis...assistantfinal...`), and headings in plain words.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from astray.reasoning_marks import ENVELOPES, HEADINGS, LEADING, NAMES, TURN, tags

_QUOTES = frozenset("`\"'“”„‘‚«「")
"""Marks before a tag that is spoken about, not used."""
_CODE = re.compile(r"(?<!`)(`+)(?!`)[^`\n]+\1(?!`)")
_FENCE = re.compile(r"[ \t]{0,3}(```+|~~~+)([^`\n]*)\n?")
_CHANNEL = re.compile(
    r"(?:<\|start\|>\s*(?P<role>[^<]{0,80}?)\s*)?<\|channel\|>\s*(?P<name>\w*)(?P<to>[^<]*?)(?:<\|constrain\|>[^<]*)?(?:<\|message\|>|\Z)"
    # A text without channels, and one whose first token the server took for itself.
    r"|<\|start\|>\s*assistant\s*<\|message\|>|\A\s*(?P<first>analysis|commentary|final)\s*<\|message\|>"
)
_ROLE = re.compile(r"\s*(?:<\|start\|>)?\s*(?:assistant)?\s*")
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_CHANNEL_TOKENS = ("<|start|>", "<|channel|>", "<|message|>")
_BARE = re.compile(
    r"\A\s*+(?:(?:assistant)?(?:analysis|commentary)(?=\S)"
    r"(?:.*?assistantfinal|[A-Z][\w']*,? [A-Za-z]|(?:we|the|this|they|user|need|okay|ok|so|let|it|i)\b,? [A-Za-z])"
    r"|assistantfinal\S|.*?(?<=[\n.!?)])assistantfinal(?=\s*+\S))",
    re.DOTALL,
)
"""A text whose channels lost their tokens, the first perhaps with its name; a variable `analysisResult = ...` is none."""
_BARE_CHANNEL = re.compile(
    r"(?:\A\s*(?:assistant)?|assistant)(?P<name>analysis|commentary|final)(?P<to> ?to=[\w.]+(?: ?(?:code|json))?)?"
)


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


@dataclass(frozen=True)
class Thought:
    """Part of a text that is not said to others.

    Attributes:
        start: where it begins in the text, its mark included.
        stop: where it ends, its mark included.
        text: what was thought, without marks and blanks around it; empty for a mark alone.
    """

    start: int
    stop: int
    text: str


_OWN = tags(NAMES)
_WITH_PRIVATE = tags(f"{NAMES}|private")


def thoughts_in(text: str, *, private: bool = False) -> tuple[list[Thought], bool]:
    """Return the parts of a text that are reasoning, in their order, and whether the last one has its end.

    Some chat templates write the opening tag into the prompt, so that a text may begin within its reasoning: all that
    stands before a closing tag without an opening one is reasoning.

    Args:
        text: what the model wrote.
        private: take `<private>` tags, which prompts of some evaluations ask for, as reasoning too.
    """
    if _CHANNEL.search(text):
        return _channels(text, list(_CHANNEL.finditer(text)), _CHANNEL_END)
    if _BARE.match(text):
        return _channels(text, list(_BARE_CHANNEL.finditer(text)), None)
    if headed := HEADINGS.match(text):
        return [Thought(0, headed.end(), (headed["said"] or headed["marked"] or headed["escaped"] or "").strip())], True
    return _tagged(text, _WITH_PRIVATE if private else _OWN)


def _tagged(text: str, tags: tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]) -> tuple[list[Thought], bool]:
    opening, closing, empty = tags
    begins = [(match.span(), True, _is_quoted(text, match)) for match in opening.finditer(text)]
    marks = sorted([*begins, *((match.span(), False, _is_quoted(text, match)) for match in closing.finditer(text))])
    code = _code_in(text) if marks else []
    thoughts: list[Thought] = []
    inside: list[str] = []  # all that was written up to the last closing tag that no opening one belongs to
    orphan = position = 0
    begin: tuple[int, int] | None = None
    quoted = -1  # index of the piece of code in which an opening tag is quoted
    in_quotes = False  # whether an opening tag is quoted whose closing one may stand before the end of the quote
    for (start, stop), opens, is_quoted in marks:
        if begin is not None:
            if not opens and not is_quoted:
                thoughts.append(Thought(begin[0], stop, text[begin[1] : start].strip()))
                begin, position = None, stop
            continue
        piece = bisect_right(code, (start, len(text))) - 1
        in_code = piece >= 0 and start < code[piece][1]
        if opens and in_code:
            quoted = piece
        elif is_quoted or (in_quotes and not opens and text[stop : stop + 1] in _QUOTES):
            in_quotes = opens
        elif opens:
            begin = (start, stop)
        elif not (in_code and quoted == piece):
            # All before it was thought: what was taken for said as well.
            for thought in thoughts:
                inside += [text[orphan : thought.start], thought.text]
                orphan = thought.stop
            inside.append(text[position:start])
            thoughts, orphan, position = [], stop, stop
    if begin is not None:
        thoughts.append(Thought(begin[0], len(text), text[begin[1] :].strip()))
    if orphan:
        thoughts.insert(0, Thought(0, orphan, "\n\n".join(filter(None, map(str.strip, inside)))))
    led, cut = _leading(text, thoughts)
    alone = [Thought(*match.span(), "") for match in empty.finditer(text) if not _is_quoted(text, match)]
    return _apart([*thoughts, *led, *alone]), begin is None and not cut


def _apart(thoughts: list[Thought]) -> list[Thought]:
    """Return thoughts in their order, without those that stand within another one."""
    kept: list[Thought] = []
    for thought in sorted(thoughts, key=lambda each: (each.start, -each.stop)):
        if not kept or thought.start >= kept[-1].stop:
            kept.append(thought)
    return kept


def _leading(text: str, thoughts: list[Thought]) -> tuple[list[Thought], bool]:
    """Return the blocks of `LEADING` before anything is said, and whether the last one is cut off."""
    found: list[Thought] = []
    position, waiting = 0, list(thoughts)
    while True:
        if waiting and not text[position : waiting[0].start].strip():
            position = waiting.pop(0).stop
        elif match := _led_by(text, position):
            stop = match.start("more") if match["more"] else match.end()
            found.append(Thought(position, stop, match["text"].strip()))
            if not match["more"]:
                return found, True
            position = stop
            waiting = [thought for thought in waiting if thought.start >= stop]
        else:
            return found, False


def _led_by(text: str, position: int) -> re.Match[str] | None:
    """Return the block of `LEADING` that begins at a place, where there is more after it or it is cut off."""
    matches = (pattern.match(text, position) for pattern in LEADING)
    return next((match for match in matches if match and (match["more"] or match.end() == match.end("text"))), None)


def _is_quoted(text: str, match: re.Match[str]) -> bool:
    before = text[match.start() - 1 : match.start()]
    return before in _QUOTES or (before == "(" and text[match.end() : match.end() + 1] == ")")


def _code_in(text: str) -> list[tuple[int, int]]:
    """Return where code in Markdown stands: fenced blocks that have their end, and spans within a line."""
    found: list[tuple[int, int]] = []
    position, fence, begin = 0, "", 0
    for line in text.splitlines(keepends=True):
        mark = _FENCE.fullmatch(line)
        if not fence and mark:
            fence, begin = mark[1], position
        elif fence and mark and mark[1].startswith(fence) and not mark[2].strip():
            found.append((begin, position + len(line)))
            fence = ""
        position += len(line)
    spans = [match.span() for match in _CODE.finditer(text)]
    return sorted([*found, *(span for span in spans if not any(a <= span[0] < b for a, b in found))])


def _channels(text: str, heads: list[re.Match[str]], end: re.Pattern[str] | None) -> tuple[list[Thought], bool]:
    """Return all but what is said on the final channel, or as a comment to no tool."""
    before = text[: heads[0].start()]
    # Without its tokens a text may begin within a channel that the prompt has opened.
    thought = "" if _ROLE.fullmatch(before) else before.strip() if end is None else None
    thoughts = [] if thought is None else [Thought(0, len(before), thought)]
    said = False
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        parts = head.groupdict()
        name, other = parts.get("first") or parts["name"] or "final", (parts.get("role") or "assistant") != "assistant"
        limit = following.start() if following else len(text)
        last = end.search(text, head.end(), limit) if end else None
        stop = last.start() if last else limit
        begun = end is None or head[0].endswith("<|message|>")  # and not cut off within its name
        said = begun and not other and (name == "final" or (name == "commentary" and not (parts["to"] or "").strip()))
        if said:
            thoughts.append(Thought(*head.span(), ""))
        else:
            thoughts.append(Thought(head.start(), stop, text[head.end() : stop].strip()))
        if stop < limit:
            thoughts.append(Thought(stop, limit, ""))
    return thoughts, said


def split_reasoning(text: str, *, private: bool = False) -> Spoken:
    """Return reasoning and answer of a text.

    Args:
        text: what the model wrote.
        private: take `<private>` tags, which prompts of some evaluations ask for, as reasoning too.
    """
    thoughts, finished = thoughts_in(text, private=private)
    if not thoughts:
        return Spoken("", text)
    answer = _bare("".join(said_parts(text, thoughts)))
    return Spoken("\n\n".join(thought.text for thought in thoughts if thought.text), answer, finished)


def said_parts(text: str, thoughts: Sequence[Thought]) -> list[str]:
    """Return the parts of a text around its thoughts, as they are; one more than there are thoughts."""
    places = [0, *(place for thought in thoughts for place in (thought.start, thought.stop)), len(text)]
    return [text[start:stop] for start, stop in list(pairwise(places))[::2]]


def _bare(answer: str) -> str:
    """Return an answer without the tags and tokens that stand around it where a model has thought."""
    turns, start, stop = list(TURN.finditer(answer)), 0, len(answer)
    for turn in turns:
        if answer[start : turn.start()].strip():
            break
        start = turn.end()
    for turn in reversed(turns):
        if answer[turn.end() : stop].strip():
            break
        stop = turn.start()
    answer = answer[start:stop]
    inner = ENVELOPES.fullmatch(answer.strip())
    return (answer if inner is None else inner["named"] or inner["marked"] or "").strip()


def without_reasoning(text: str) -> str | None:
    """Return the answer of a text; None where the text ends within its reasoning."""
    spoken = split_reasoning(text)
    return None if spoken.is_missing else spoken.answer


def conclusion(text: str) -> str | None:
    """Return what stands after the last reasoning of a text, as of a grader that changed its mind; None where the
    reasoning has no end."""
    thoughts, finished = thoughts_in(text)
    if not thoughts:
        return text
    return (
        _bare(next((part for part in reversed(said_parts(text, thoughts)) if part.strip()), "")) if finished else None
    )


def is_tag(token: str) -> bool:
    """Return whether a token is a tag of reasoning."""
    return any(tag.fullmatch(token) for tag in _OWN)


def marks_among(tokens: Iterable[str]) -> set[str]:
    """Return which of a tokenizer's special tokens tell reasoning from answer: tags, and the tokens of channels where
    there are channels."""
    known = set(tokens)
    return {token for token in known if is_tag(token)} | (
        set(_CHANNEL_TOKENS) if known.issuperset(_CHANNEL_TOKENS) else set()
    )


def opened_tag(text: str) -> str:
    """Return the opening tag at which a text ends, blanks after it aside; empty where it ends with none."""
    last = next((match for match in reversed(list(_OWN[0].finditer(text))) if not _is_quoted(text, match)), None)
    return last[0] if last and not text[last.end() :].strip() else ""


_BEGUN = re.compile("begin|start", re.IGNORECASE)
_ENDS = {
    "[think]": "[/THINK]",
    "[reasoning]": "[/REASONING]",
    "<|inner_prefix|>": "<|inner_suffix|>",
    **{f"<|{name}|>": f"<|/{name}|>" for name in ("think", "thinking", "thought", "reasoning")},
    "◁think▷": "◁/think▷",
}


def closed(text: str) -> str:
    """Return what ends the reasoning that a text has begun at its end, so that an answer can follow; empty where it has
    begun none."""
    tag = opened_tag(text).replace("＜", "<").replace("＞", ">")
    if not tag:
        return ""
    end = (
        "<channel|>"
        if tag.startswith("<|channel>")
        else "<unused95>"
        if tag.startswith("<unused94>")
        else "<|im_end|>\n<|im_start|>answer"
        if tag.startswith("<|im_start|>")
        else _BEGUN.sub(lambda word: "END" if word[0].isupper() else "end", tag)
        if _BEGUN.search(tag)
        else _ENDS.get(tag.lower(), "</" + re.split(r"[\s>]", tag[1:], maxsplit=1)[0] + ">")
    )
    return f"\n{end}\n\n"
