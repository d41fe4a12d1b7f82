"""Tokens of the organism's world as text. No heavy library is imported here."""

import re

TOKEN_PATTERN = r"\w+|[+\-*]=|[^\w\s]"


def words(text: str) -> list[str]:
    """Split a text into its tokens, as strings: lower-case words, operators, punctuation marks."""
    return re.findall(TOKEN_PATTERN, text.lower())
