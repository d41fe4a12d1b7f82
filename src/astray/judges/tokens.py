"""Read what a reply's tokens and their log-probabilities say: where a text stands in them, and what else might have
been said there.

Left to others: scores (score.py) and asking (grader.py).
"""

import math
from collections.abc import Mapping, Sequence

from inspect_ai.model import ChatCompletionChoice, Logprob

from astray.judges.score import NUMBERS, clean_tokens, plain


def positions(choice: ChatCompletionChoice) -> list[Logprob]:
    """Return the tokens of a reply with their log-probabilities; none where the grader gives none."""
    return choice.logprobs.content if choice.logprobs is not None else []


def token_at(path: Sequence[Logprob], index: int) -> int | None:
    """Return which token of a reply holds the character with this index; None where the character before is in it."""
    start = 0
    for number, token in enumerate(plain(position.token) for position in path):
        if start <= index < start + len(token):
            return number if not token[: index - start].strip() else None
        start += len(token)
    return None


def known_tokens(path: Sequence[Logprob], *, ended: bool) -> dict[str, dict[str, float]]:
    """Map each beginning of the sampled number to the probabilities after it, along the sampled reply.

    Nothing follows the last token of a reply that ended.
    """
    known: dict[str, dict[str, float]] = {}
    beginning = ""
    for index, position in enumerate(path):
        beginning += plain(position.token).strip() if index == 0 else position.token
        is_last = index + 1 == len(path)
        if beginning not in NUMBERS or (is_last and not ended):
            break
        known[beginning] = {} if is_last else probabilities_of(top_tokens(path[index + 1]))
    return known


def spells(path: Sequence[Logprob], text: str) -> bool:
    """Return whether the tokens are those of the reply (and not, say, of reasoning that came before it).

    Only a control token may follow: the text "5" is not that of the tokens "50".
    """
    spelled, said = "".join(plain(position.token) for position in path).strip(), text.strip()
    rest = spelled.removeprefix(said).lstrip()
    return spelled.startswith(said) and (not rest or rest[0] in "<[")


def tokens_at(position: Logprob) -> dict[str, float]:
    """Return the cleaned probabilities at one position."""
    return clean_tokens(probabilities_of(top_tokens(position)))


def top_tokens(position: Logprob) -> dict[str, float]:
    """Map each token to its log-probability; of tokens that are written alike the more likely one counts."""
    top = {position.token: position.logprob}  # the sampled token need not be among the most likely ones
    for candidate in position.top_logprobs or []:
        top[candidate.token] = max(candidate.logprob, top.get(candidate.token, -math.inf))
    return top


def probabilities_of(logprobs: Mapping[str, float]) -> dict[str, float]:
    """Convert log-probabilities to probabilities.

    Raises:
        ValueError: they add up to more than 1, or to NaN.
    """
    # The cap keeps exp from overflowing on values that are no log-probabilities; the sum then rejects them.
    shares = {token: math.exp(min(logprob, 1.0)) for token, logprob in logprobs.items()}
    total = math.fsum(shares.values())
    if not total <= 1.01:  # written this way round NaN is rejected too
        raise ValueError(f"its token log-probabilities are none: they add up to a probability of {total:.2f}")
    return shares
