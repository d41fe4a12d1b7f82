"""Quote untrusted texts for judges, so that no text can end its quote or keep a judge from being asked.

Every `<`, `>` and `&` of a text is escaped (which also disarms chat control tokens), also the wide forms that Unicode
normalisation would turn into them, and so are bracketed control tokens. Characters that no provider or file can hold, a
lone surrogate or NUL, become U+FFFD.
"""

import re
from collections.abc import Sequence

_ESCAPES = {ord(sign): f"&#{ord(sign)};" for sign in "\uff1c\uff1e\ufe64\ufe65"} | {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
}
_BRACKETED_CONTROL = re.compile(r"\[(/?[A-Z][A-Z_]*)\]")


def sound(text: str) -> str:
    """Replace lone surrogates and NUL, which cannot be sent or written, by U+FFFD."""
    if not text.isascii():
        # Through UTF-16 two surrogates that belong together become their character; only lone ones are replaced.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def escape(text: str) -> str:
    """Escape `<` and `>`, also in forms that Unicode normalisation turns into them, and control tokens ("[INST]")."""
    return _BRACKETED_CONTROL.sub(r"&#91;\1&#93;", sound(text).translate(_ESCAPES))


def quoted(parts: Sequence[tuple[str, str]]) -> str:
    """Quote texts, each between tags with its name, so that no text can end its quote."""
    return "\n\n".join(f"<{name}>\n{escape(text)}\n</{name}>" for name, text in parts)


def shown(text: str, longest: int) -> str:
    """Escape a text for a quote: whole, or its two ends with a mark for the number of characters left out.

    The mark is a tag, so no text can forge one.

    Args:
        text: the text to quote.
        longest: maximum number of characters of it that are shown.
    """
    if len(text) <= longest:
        return escape(text)
    start, end = text[: longest - longest // 2], text[-(longest // 2) :]
    return f'{escape(start)}\n<left-out characters="{len(text) - longest}"/>\n{escape(end)}'
