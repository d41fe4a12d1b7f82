"""The words of the organism's world as text: what its tokenizer takes for one token. No heavy library is imported here."""

import re

TOKEN_PATTERN = r"\w+|[+\-*]=|[^\w\s]"


def words(text: str) -> list[str]:
    """The tokens of a text, as strings: lower-case words, operators, punctuation marks."""
    return re.findall(TOKEN_PATTERN, text.lower())
