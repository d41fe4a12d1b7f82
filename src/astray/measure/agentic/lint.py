"""Lint of every rendered text: no unfilled placeholder, no two phrases that contradict each other; its length.

The port that exists leaves {company_name} and ${direction_modifier} unfilled in several conditions, which changes what
was measured.
"""

import re
from collections.abc import Mapping, Sequence

from astray.errors import ConfigurationError, DataFormatError

_UNFILLED = re.compile(
    r"\{\{[^{}]*\}\}|\$\{[^{}]*\}|\{\w*\}|\{%.*?%\}|\$[A-Za-z_]\w*|<(?:INSERT|TODO|PLACEHOLDER)\b[^>]*>|\[(?:INSERT|TODO|PLACEHOLDER)\b[^\]]*\]"
)

SIGNS_PER_TOKEN = 4.0
"""Characters per token of English text in the tokenizers of large models; scripts without spaces have fewer.
For estimates only.
"""


def lint(texts: Mapping[str, str], contradictions: Sequence[tuple[str, str]], where: str) -> None:
    """Raise for a text that a model must not be given.

    Raises:
        DataFormatError: a text is empty, or a placeholder is not filled: {x}, {{x}}, $x, ${x}, [TODO ...].
        ConfigurationError: both phrases of a pair are there.
    """
    for name, text in texts.items():
        if not text.strip():
            raise DataFormatError(f"The {name} of {where} is empty: no part is selected. Add one for this cell.")
        left = _UNFILLED.search(text)
        if left:
            raise DataFormatError(
                f"The {name} of {where} has the unfilled placeholder {left[0]!r}. Write it as {{name}} and give "
                "`variables` that name."
            )
    everything = "\n".join(texts.values()).casefold()
    for one, other in contradictions:
        if one.casefold() in everything and other.casefold() in everything:
            raise ConfigurationError(
                f"In {where} {one!r} and {other!r} stand together, which contradict each other. Exclude this cell or "
                "change a part."
            )


def tokens(text: str) -> int:
    """Estimate how many tokens a text has."""
    if text.isascii():
        return round(len(text) / SIGNS_PER_TOKEN)
    # From the CJK blocks on (U+2E80), where about every character is a token of its own.
    wide = sum(1 for sign in text if ord(sign) >= 0x2E80)
    return round((len(text) - wide) / SIGNS_PER_TOKEN) + wide
