"""Quotes untrusted texts for judges, so that no text can end its quote, and none can keep a judge from being asked.

Every `<`, `>` and `&` of a text is escaped (which also disarms chat control tokens), also the wide forms that Unicode normalisation would turn into
them, and so are bracketed control tokens. What no provider or file can hold, a lone surrogate or NUL, becomes U+FFFD.
"""

import re
from collections.abc import Sequence

_ESCAPES = {ord(sign): f"&#{ord(sign)};" for sign in "\uff1c\uff1e\ufe64\ufe65"} | {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}
_BRACKETED_CONTROL = re.compile(r"\[(/?[A-Z][A-Z_]*)\]")


def sound(text: str) -> str:
    """Text without lone surrogates and NUL, which cannot be sent or written: U+FFFD stands in their place."""
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def escape(text: str) -> str:
    """Text without any `<` or `>`, also after Unicode normalisation, and without bracketed chat control tokens ("[INST]")."""
    return _BRACKETED_CONTROL.sub(r"&#91;\1&#93;", sound(text).translate(_ESCAPES))


def quoted(parts: Sequence[tuple[str, str]]) -> str:
    """Texts as quotes that they cannot end, each between tags with its name."""
    return "\n\n".join(f"<{name}>\n{escape(text)}\n</{name}>" for name, text in parts)


def shown(text: str, longest: int) -> str:
    """A text as it stands in a quote: whole, or its two ends with a mark between them that says how many characters are missing.

    The mark is a tag, so no text can forge one.

    Args:
        text: what is quoted.
        longest: characters that are shown.
    """
    if len(text) <= longest:
        return escape(text)
    start, end = text[: longest - longest // 2], text[-(longest // 2) :]
    return f'{escape(start)}\n<left-out characters="{len(text) - longest}"/>\n{escape(end)}'
