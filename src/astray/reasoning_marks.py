"""Marks in which models think: tags, tokens, headings and blocks, by the names that they go by in several languages.

Left to others: which of them are used and which are quoted, and the channels of harmony (reasoning.py).
"""

import re

_STEMS = r"(?:think(?:ing)?|thoughts?|reasoning|cot)"
_KINDS = r"(?:deep|slow|private|hidden|silent|internal|inner|my|extended|assistant|model|agent|secret|raw)"
_PARTS = r"(?:process|steps?|traces?|blocks?|content|chain|phase|log|aloud|out[_-]?loud)"
_THOUGHTS = rf"(?:{_STEMS}|scratch[_-]?pad|monologue|chain[_-]?of[_-]?thoughts?)"
NAMES = (
    rf"(?:{_KINDS}[_-]?){{0,2}}{_THOUGHTS}(?:[_-]?{_PARTS})?|think_never_used_[0-9a-f]+|think_fast(?:er)?|(?:[a-z]{{1,9}}:|longcat_|ant)think(?:ing)?|"
    "scratch_?pad_reasoning|思考|思考过程|思考過程|思考プロセス|思维|思维链|推理|推理过程|思路|推論|생각|사고|추론|denken|nachdenken|gedanken|gedankengang|überlegung|überlegungen|pensée|pensées|"
    "réflexion|réflexions|raisonnement|pensamientos?|razonamientos?|pensamentos?|raciocínio|pensiero|pensieri|ragionamento|думать|мысли|мысль|размышление|размышления|"
    "рассуждение|рассуждения|düşünce|تفكير|सोच|rozumowanie|myślenie|redenering|suy_nghĩ"
)
"""Names of tags that hold nothing else, wherever they stand."""
_OWN_FORM = (
    # opening, closing: marks that are not tags with a name
    (r"\[THINK\]", r"\[/THINK\]"),
    (
        rf"<[|｜]?(?:(?:begin|start)[_▁]?(?:of[_▁]?)?{_STEMS}|{_STEMS}[_▁]?(?:begin|start))[|｜]?>",
        rf"</?[|｜]?(?:end[_▁]?(?:of[_▁]?)?{_STEMS}|{_STEMS}[_▁]?end)[|｜]?>",
    ),
    (r"<\|im_start\|>[ \t]*think(?:ing)?\b", r"(?:<\|im_end\|>\s*)?<\|im_start\|>[ \t]*answer\b"),  # s1
    (
        r"(?:<\|begin\|>assistant)?<\|(?:think(?:ing)?|thought|reasoning)\|>",
        r"<\|/(?:think(?:ing)?|thought|reasoning)\|>|<\|end\|>\s*<\|begin\|>assistant<\|content\|>",  # the last: Solar Open
    ),
    (r"<unused94>(?:thought\b)?", r"<unused95>"),  # MedGemma
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),
    (r"\[REASONING\]", r"\[/REASONING\]"),
    (r"<\|channel>[ \t]*(?:thought|thinking|analysis)?", r"<channel\|>"),
    (r"◁think▷", r"◁/think▷"),
)
_ATTRIBUTES = r"(?:\s+[\w:-]+\s*=\s*[^<>\n]{0,80})?"
_LESS, _MORE = "[<＜]", "[>＞]"
TURN = re.compile(
    r"<\|(?:im_start|start_of_role|start_header_id)\|>assistant(?:<\|end_(?:of_role|header_id)\|>|\n)"
    r"|<\|(?:assistant|im_end|eot_id|endoftext|end_of_text|end|return)\|>|<｜(?:Assistant|end▁of▁sentence)｜>|<end_of_turn>"
    r"|<\|turn>model\n|<turn\|>|</s>"
)
"""Control tokens around an answer, where a server writes them."""
ENVELOPES = re.compile(
    r"(?:<(?P<name>(?:final_)?answer|final|response|output|solution|conclusion)\s*>(?P<named>.*?)(?:</(?P=name)\s*>)?"
    r"|<\|(?:START_RESPONSE|begin_of_(?:solution|box))\|>(?P<marked>.*?)(?:<\|(?:END_RESPONSE|end_of_(?:solution|box))\|>)?)",
    re.DOTALL | re.IGNORECASE,
)
_HEADED = r"(?:My )?(?:(?:Inner |Internal )?(?:thinking|thoughts?)(?: process)?|(?:inner |internal )?monologue)"
_ANSWERED = r"(?:My )?(?:final )?(?:answer|response|reply|output)"
_TAIL = r"(?P<more>\s*+\S)?"
LEADING = tuple(
    re.compile(rf"\s*{pattern}", re.DOTALL | re.IGNORECASE)
    for pattern in (
        rf"<(?P<name>analysis|(?:self_)?reflections?|reason|rationale|deliberation){_ATTRIBUTES}\s*>"
        rf"(?P<text>.*?)(?:</(?P=name)\s*>{_TAIL}|\Z)",
        # Those of services and terminals; without their end they are something else. What a reader sees is the answer:
        # a part that a page folds away, a comment and a heading "Reasoning" stay in it.
        rf"<details\b(?=[^<>\n]{{0,200}}\btype=[\"']?reasoning)[^<>\n]{{0,200}}>(?P<text>.*?)</details\s*>{_TAIL}",
        rf"\[(?P<name>thinking|thoughts?)\](?P<text>.*?)\[/(?P=name)\]{_TAIL}",
        rf"Thinking\.\.\.\n(?P<text>.*?)\n\.\.\.done thinking\.{_TAIL}",
        rf"\*Thinking(?:\.\.\.|…)\*\s*\n(?P<text>(?:>[^\n]*\n\s*)+){_TAIL}",
    )
)
"""Marks that other texts have too: reasoning where the text begins with one and goes on after it."""
_HEADING_ENDS = (
    # What follows a heading's name: with its mark closed after a colon, text too ("**Thoughts:** a"), else its line's end.
    r"(?:[^\S\n]?(?:[:：]\*\*|\*\*[:：]|:\]|\]:)[^\S\n]*\n?|[^\S\n]*[:：]?[^\S\n]*(?:#+|\*\*|\])?[^\S\n]*(?:\n|\Z))"
)
HEADINGS = re.compile(
    r"\A\s*Here(?:'s| is) my thought process:(?P<said>.*?)\n[^\S\n]*Here(?:'s| is) my (?:response|answer):"
    rf"|\A\s*(?P<mark>#{{1,6}} *|\*\*|\[){_HEADED}{_HEADING_ENDS}(?P<marked>.*?)(?<=\n)[^\S\n]*(?P=mark){_ANSWERED}{_HEADING_ENDS}"
    # A text about HTML has such tags too.
    rf"|\A\s*&lt;(?P<tag>{NAMES}){_ATTRIBUTES}\s*&gt;(?P<escaped>.*?)&lt;\s*/\s*(?P=tag)\s*&gt;",
    re.DOTALL | re.IGNORECASE,
)
"""Headings of a thought and of the answer after it, and a tag in HTML's entities that begins the text and is closed."""


def tags(names: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of opening, closing and empty marks, for tags with these names and the marks without one."""
    opening = "|".join([rf"{_LESS}(?:{names}){_ATTRIBUTES}\s*{_MORE}", *(form for form, _ in _OWN_FORM)])
    closing = "|".join([rf"{_LESS}\s*\\?/\s*(?:{names})\s*{_MORE}", *(form for _, form in _OWN_FORM)])
    empty = rf"{_LESS}(?:{names})\s*/{_MORE}"
    return (
        re.compile(opening, re.IGNORECASE),
        re.compile(closing, re.IGNORECASE),
        re.compile(empty, re.IGNORECASE),
    )
