"""Reasoning kept apart from what is said to others: the one reader of the marks in which models think.

An answer is what stands outside of them. Reasoning that a provider marks as such needs no marks; drivers put it beside
what is read here. Four forms are known: tags (`<think>`, in other languages too), channels (`<|channel|>analysis`), the
same channels after a server has taken their tokens away (`analysis...assistantfinal...`), and headings in plain words.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

_NAMES = (
    "think|thinking|thought|thoughts|reasoning|(?:seed:|longcat_|ant)think(?:ing)?|think(?:ing)?_process|scratchpad(?:_reasoning)?|"
    "(?:inner|internal)_(?:thoughts?|monologue|reasoning)|chain_of_thought|cot|思考|思考过程|思考過程|推理|推理过程|思路|推論|생각|사고|추론|denken|gedanken|überlegung|pensée|pensées|"
    "réflexion|raisonnement|pensamiento|razonamiento|pensamento|raciocínio|pensiero|ragionamento|думать|мысли|мысль|размышление|размышления|"
    "рассуждение|рассуждения|düşünce|تفكير|सोच"
)
_OWN_FORM = (
    # opening, closing: marks that are not tags with a name
    (r"\[THINK\]", r"\[/THINK\]"),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    (r"<\|begin_of_(?:thought|reasoning)\|>", r"<\|end_of_(?:thought|reasoning)\|>"),
    (r"<\|(?:thinking|thought|reasoning)\|>", r"<\|/(?:thinking|thought|reasoning)\|>"),
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    (r"\[REASONING\]", r"\[/REASONING\]"),
    (r"<\|channel>[ \t]*(?:thought|thinking|analysis)?", r"<channel\|>"),
    (r"◁think▷", r"◁/think▷"),
)
_QUOTED = r"(?<![`\"'])"
"""A tag that is quoted is spoken about, not used."""
_ATTRIBUTES = r"(?:\s+[\w:-]+\s*=\s*[^<>\n]{0,80})?"
_ENVELOPES = re.compile(
    r"(?:<(?P<name>answer|response|output)\s*>(?P<named>.*?)(?:</(?P=name)\s*>)?"
    r"|<\|(?:START_RESPONSE|begin_of_solution)\|>(?P<marked>.*?)(?:<\|(?:END_RESPONSE|end_of_solution)\|>)?)",
    re.DOTALL | re.IGNORECASE,
)
_HEADINGS = re.compile(
    r"\A\s*Here(?:'s| is) my thought process:(.*?)\n\s*Here(?:'s| is) my (?:response|answer):",
    re.DOTALL | re.IGNORECASE,
)

_CHANNEL = re.compile(
    r"(?:<\|start\|>\s*(?:assistant)?\s*)?<\|channel\|>\s*(?P<name>\w*)(?P<to>[^<]*?)(?:<\|constrain\|>[^<]*)?<\|message\|>"
)
_ROLE = re.compile(r"\s*(?:<\|start\|>)?\s*(?:assistant)?\s*")
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_CHANNEL_TOKENS = ("<|start|>", "<|channel|>", "<|message|>")
_BARE = re.compile(
    r"\A\s*(?:assistant)?(?:analysis|commentary)(?=\S)(?:.*?assistantfinal|[A-Z][\w']*,? [A-Za-z])", re.DOTALL
)
"""A text whose channels lost their tokens; a variable `analysisResult = ...` is none."""
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


def _tags(names: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    opening = "|".join([rf"<(?:{names}){_ATTRIBUTES}\s*>", *(form for form, _ in _OWN_FORM)])
    closing = "|".join([rf"<\s*/\s*(?:{names})\s*>", *(form for _, form in _OWN_FORM)])
    empty = rf"<(?:{names})\s*/>"
    return (
        re.compile(f"{_QUOTED}(?:{opening})", re.IGNORECASE),
        re.compile(f"{_QUOTED}(?:{closing})", re.IGNORECASE),
        re.compile(f"{_QUOTED}(?:{empty})", re.IGNORECASE),
    )


_OWN = _tags(_NAMES)
_WITH_PRIVATE = _tags(f"{_NAMES}|private")


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
    if headed := _HEADINGS.match(text):
        return [Thought(0, headed.end(), headed[1].strip())], True
    return _tagged(text, _WITH_PRIVATE if private else _OWN)


def _tagged(text: str, tags: tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]) -> tuple[list[Thought], bool]:
    opening, closing, empty = tags
    thoughts: list[Thought] = []
    position, finished = 0, True
    while True:
        begin, end = opening.search(text, position), closing.search(text, position)
        if end and (begin is None or end.start() < begin.start()):
            # All before it was thought: what was taken for said as well.
            before, thoughts = thoughts, []
            said = [start for thought in before for start in (thought.start, thought.stop)]
            parts = [text[a:b] for a, b in zip([0, *said[1::2]], [*said[0::2], end.start()], strict=True)]
            inside = [*parts[:-1], *(thought.text for thought in before), parts[-1]]
            thoughts.append(Thought(0, end.end(), "\n\n".join(filter(None, map(str.strip, inside)))))
        elif begin:
            end = closing.search(text, begin.end())
            stop = end.start() if end else len(text)
            thoughts.append(Thought(begin.start(), end.end() if end else stop, text[begin.end() : stop].strip()))
            finished = end is not None
        else:
            break
        position = thoughts[-1].stop
    spans = [range(thought.start, thought.stop) for thought in thoughts]
    alone = [
        Thought(*match.span(), "") for match in empty.finditer(text) if not any(match.start() in span for span in spans)
    ]
    return sorted([*thoughts, *alone], key=lambda thought: thought.start), finished


def _channels(text: str, heads: list[re.Match[str]], end: re.Pattern[str] | None) -> tuple[list[Thought], bool]:
    """Return all but what is said on the final channel, or as a comment to no tool."""
    before = text[: heads[0].start()]
    thoughts = [Thought(0, len(before), "")] if _ROLE.fullmatch(before) else []
    said = False
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        limit = following.start() if following else len(text)
        last = end.search(text, head.end(), limit) if end else None
        stop = last.start() if last else limit
        said = head["name"] == "final" or (head["name"] == "commentary" and not (head["to"] or "").strip())
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
    """Return an answer without the tags that some models write around it where they have thought."""
    inner = _ENVELOPES.fullmatch(answer.strip())
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
    last = next(reversed(list(_OWN[0].finditer(text))), None)
    return last[0] if last and not text[last.end() :].strip() else ""


_ENDS = {
    "[think]": "[/THINK]",
    "<|start_thinking|>": "<|END_THINKING|>",
    "[reasoning]": "[/REASONING]",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|begin_of_reasoning|>": "<|end_of_reasoning|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    **{f"<|{name}|>": f"<|/{name}|>" for name in ("thinking", "thought", "reasoning")},
    "◁think▷": "◁/think▷",
}


def closed(text: str) -> str:
    """Return what ends the reasoning that a text has begun at its end, so that an answer can follow; empty where it has
    begun none."""
    tag = opened_tag(text)
    if not tag:
        return ""
    end = (
        "<channel|>"
        if tag.startswith("<|channel>")
        else _ENDS.get(tag.lower(), "</" + re.split(r"[\s>]", tag[1:], maxsplit=1)[0] + ">")
    )
    return f"\n{end}\n\n"
