"""Says why a judge failed: one note that begins with its cause, from an exception or from a reply that cannot be used.

A cause is a short fixed phrase, so that failures can be counted by it, whatever provider and judge they come from. What stands after it in a note is
the detail: the status, the provider's own message, the reply.
"""

import re
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from astray.judges.quoting import sound

LONGEST = 300
"""Characters of a detail that a note keeps."""
NO_REASON = "no reason given"
"""What failures are counted under whose note names no cause."""


class Cause(StrEnum):
    """Why a judge gave no verdict."""

    RATE_LIMIT = "rate limit"
    """The provider refused for now: too many calls or tokens (status 429)."""
    KEY = "key refused"
    """The provider does not accept the key or what it asks for (status 401 or 403)."""
    NOT_FOUND = "no such model"
    """The provider knows no such model or address (status 404)."""
    REQUEST = "request refused"
    """The provider cannot do what it was asked: too long, a setting that it does not take (other status from 400 to 499)."""
    SERVER = "server error"
    """The provider failed (status from 500 to 599)."""
    TIMEOUT = "time-out"
    """No reply within the time that was given."""
    CONNECTION = "no connection"
    """The provider could not be reached, or the line was cut."""
    FILTER = "content filter"
    """A filter of the provider stopped the grader."""
    NO_REPLY = "no reply"
    """The grader replied with nothing."""
    CUT_OFF = "reply cut off"
    """The reply ended at its token limit, before its verdict or within its reasoning."""
    UNREADABLE = "unreadable reply"
    """The reply is none of those that were asked for, or more than one."""
    UNLIKELY = "too little probability"
    """Too little of the probability lies on numbers and agreed words."""
    JUDGE = "judge error"
    """Anything else that went wrong while judging."""


_ANY_CAUSE = re.compile(rf"\b({'|'.join(Cause)}): ")
_STATUS = re.compile(r"\b(?:status|code|http)\b\D{0,12}([45]\d\d)\b", re.IGNORECASE)
_BY_STATUS = {401: Cause.KEY, 403: Cause.KEY, 404: Cause.NOT_FOUND, 408: Cause.TIMEOUT, 429: Cause.RATE_LIMIT, 504: Cause.TIMEOUT}
_DEEPEST = 10
"""Wrappers around an error that are taken off."""


def failure(cause: Cause, detail: object) -> str:
    """The note of a failure: its cause, and a detail on one line."""
    return f"{cause}: {shortened(str(detail))}"


def error_note(error: BaseException) -> str:
    """The note of a failure that an exception is the reason of, with the provider's status and message.

    Args:
        error: what was raised; a wrapper, such as that of a library for retries, is taken off.
    """
    bare = _unwrapped(error)
    status = _status(bare)
    told = f" (status {status})" if status else ""
    return failure(_cause(bare, status), f"{type(bare).__name__}{told}: {_message(bare)}")


def cause_of(note: str) -> str:
    """The cause that a failed verdict's note names first, whichever judge wrote it."""
    found = _ANY_CAUSE.search(note)
    return found[1] if found else NO_REASON


def count_causes(notes: Iterable[str]) -> dict[str, int]:
    """How many failures each cause has, the most frequent first.

    Args:
        notes: of verdicts that failed.

    Example:
        >>> count_causes(["rate limit: RateLimitError (status 429): slow down", "no reply: stop"])
        {'rate limit': 1, 'no reply': 1}
    """
    return dict(Counter(map(cause_of, notes)).most_common())


def shortened(text: str, longest: int = LONGEST) -> str:
    """The text on one line, in characters that every file can hold, at most so many of them."""
    line = " ".join(sound(text).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def _unwrapped(error: BaseException) -> BaseException:
    for _ in range(_DEEPEST):
        attempt = getattr(error, "last_attempt", None)  # of tenacity's RetryError, whose own text is the address of an object
        inner = attempt.exception() if attempt is not None else error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        if inner is None:
            break
        error = inner
    return error


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error carries or tells."""
    response = getattr(error, "response", None)
    carried = [getattr(error, name, None) for name in ("status_code", "status", "code")] + [getattr(response, "status_code", None)]
    known = next((each for each in carried if isinstance(each, int) and 400 <= each <= 599), None)
    told = _STATUS.search(str(error)) if known is None else None
    return int(told[1]) if told else known


def _message(error: BaseException) -> str:
    """What the provider says, where its answer has a message, else what the error says."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else None
    return message if isinstance(message, str) and message.strip() else str(error) or "no message"


def _cause(error: BaseException, status: int | None) -> Cause:
    if status is not None:
        return _BY_STATUS.get(status, Cause.SERVER if status >= 500 else Cause.REQUEST)
    if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
        return Cause.TIMEOUT
    name = type(error).__name__.lower()
    return Cause.CONNECTION if isinstance(error, ConnectionError) or "connect" in name or "network" in name else Cause.JUDGE
