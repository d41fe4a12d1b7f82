"""Describe why a judge failed, in one note that begins with its cause.

A note is made from an exception or from a reply that cannot be used. A cause is a short fixed phrase, so that failures
can be counted by it, whatever provider and judge they come from. After it a note has the detail: the status, the
provider's own message, the reply.
"""

import re
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from astray.errors import BudgetSpentError
from astray.judges.quoting import sound

LONGEST = 300
"""Maximum length of a note's detail, in characters."""
NO_REASON = "no reason given"
"""Cause under which failures are counted whose note names none."""


class Cause(StrEnum):
    """Cause for which a judge gave no verdict."""

    RATE_LIMIT = "rate limit"
    """Too many calls or tokens for now (status 429)."""
    KEY = "key refused"
    """Key not accepted, not for this request, or without credit (status 401, 402 or 403, or a message about credit)."""
    NOT_FOUND = "no such model"
    """No such model or address at the provider (status 404)."""
    REQUEST = "request refused"
    """Request that the provider cannot serve: too long, an unsupported setting (other status from 400 to 499)."""
    SERVER = "server error"
    """Failure of the provider (status from 500 to 599)."""
    TIMEOUT = "time-out"
    """No reply within the time that was given."""
    CONNECTION = "no connection"
    """Provider not reachable, or connection lost."""
    FILTER = "content filter"
    """Grader stopped by a filter of the provider, or a reply that the provider marks as a refusal."""
    NO_REPLY = "no reply"
    """No reply at all."""
    EMPTY = "empty reply"
    """Reply without any text."""
    CUT_OFF = "reply cut off"
    """Reply that ended at its token limit, before its verdict or within its reasoning."""
    UNREADABLE = "unreadable reply"
    """Reply that is none of those that were asked for, or more than one."""
    UNLIKELY = "too little probability"
    """Too little probability on numbers and agreed words."""
    NOT_ASKED = "not asked"
    """Not asked any more, since the calls before it had failed."""
    BUDGET = "budget spent"
    """Not asked, since the budget of the run was spent before."""
    JUDGE = "judge error"
    """Anything else that went wrong while judging."""


OUTAGES = (
    Cause.RATE_LIMIT,
    Cause.KEY,
    Cause.NOT_FOUND,
    Cause.SERVER,
    Cause.TIMEOUT,
    Cause.CONNECTION,
    Cause.NO_REPLY,
    Cause.EMPTY,
    Cause.NOT_ASKED,
    Cause.BUDGET,
    Cause.JUDGE,
)
"""Causes that lie in the service or the way to it, not in the answer: the same question may get a verdict later."""

_ANY_CAUSE = re.compile(rf"\b({'|'.join(Cause)}): ")
_STATUS = re.compile(r"\b(?:status|code|http)\b\D{0,12}([45]\d\d)\b", re.IGNORECASE)
_NO_MONEY = re.compile(r"\b(?:credit|quota|billing|payment)", re.IGNORECASE)
_BY_STATUS = {
    401: Cause.KEY,
    402: Cause.KEY,
    403: Cause.KEY,
    404: Cause.NOT_FOUND,
    408: Cause.TIMEOUT,
    429: Cause.RATE_LIMIT,
    504: Cause.TIMEOUT,
}
_DEEPEST = 10
"""Maximum number of wrappers that are removed from an error."""


def failure(cause: Cause, detail: object) -> str:
    """Return the note of a failure: its cause, and a detail on one line."""
    return f"{cause}: {shortened(str(detail))}"


def error_note(error: BaseException) -> str:
    """Return the note of a failure caused by an exception, with the provider's status and message.

    Args:
        error: the exception; wrappers, such as those of a library for retries, are removed.
    """
    bare = unwrapped(error)
    status = _status(bare)
    suffix = f" (status {status})" if status else ""
    return failure(_cause(bare, status), f"{type(bare).__name__}{suffix}: {_message(bare)}")


def cause_of(note: str) -> str:
    """Return the cause that a failed verdict's note names first, whichever judge wrote it."""
    found = _ANY_CAUSE.search(note)
    return found[1] if found else NO_REASON


def count_causes(notes: Iterable[str]) -> dict[str, int]:
    """Count failures by cause, the most frequent first.

    Args:
        notes: of verdicts that failed.

    Examples:
        >>> count_causes(["rate limit: RateLimitError (status 429): slow down", "no reply: stop"])
        {'rate limit': 1, 'no reply': 1}
    """
    return dict(Counter(map(cause_of, notes)).most_common())


def is_outage(note: str) -> bool:
    """Return whether a failed verdict's note names an outage among its causes: one question of several is enough."""
    return any(cause in OUTAGES for cause in _ANY_CAUSE.findall(note))


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return the text on one line, in characters that every file can hold, cut to a maximum length."""
    line = " ".join(sound(text).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def unwrapped(error: BaseException) -> BaseException:
    """Return the error within wrappers, such as those of a library for retries."""
    for _ in range(_DEEPEST):
        attempt = getattr(
            error, "last_attempt", None
        )  # of tenacity's RetryError, whose own text is the address of an object
        inner = (
            attempt.exception()
            if attempt is not None
            else error.exceptions[0]
            if isinstance(error, BaseExceptionGroup)
            else error.__cause__
            if hasattr(error, "provider_message")  # Inspect's for a refused request, which begins with all of it
            else None
        )
        if inner is None:
            break
        error = inner
    return error


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error carries or mentions."""
    response = getattr(error, "response", None)
    carried = [getattr(error, name, None) for name in ("status_code", "status", "code")] + [
        getattr(response, "status_code", None)
    ]
    # Clients disagree on the attribute, and `code` may also be a text or an exit code.
    known = next((code for code in carried if isinstance(code, int) and 400 <= code <= 599), None)
    mentioned = _STATUS.search(str(error)) if known is None else None
    return int(mentioned[1]) if mentioned else known


def _message(error: BaseException) -> str:
    """Return the provider's message, where its answer has one, else the error's text."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else None
    return message if isinstance(message, str) and message.strip() else str(error) or "no message"


def _cause(error: BaseException, status: int | None) -> Cause:
    if isinstance(error, BudgetSpentError):
        return Cause.BUDGET
    if status is not None and status < 500 and status != 429 and _NO_MONEY.search(_message(error)):
        return Cause.KEY
    if status is not None:
        return _BY_STATUS.get(status, Cause.SERVER if status >= 500 else Cause.REQUEST)
    # With the names of the classes it derives from: httpx.ReadError is a NetworkError.
    name = " ".join(kind.__name__.lower() for kind in type(error).__mro__)
    if "timeout" in name:
        return Cause.TIMEOUT
    return Cause.CONNECTION if any(part in name for part in ("connect", "network", "protocolerror")) else Cause.JUDGE
