"""Stop asking a grader after consecutive failures: later calls fail at once, as "not asked".

    with patience() as patient:
        ...                     judges are asked
    patient.lost                why a grader was given up; "" for none

Where verdicts decide what happens next, it is strict: work with too few of them would be wrong and not just incomplete.
Without it, as within an evaluation of Inspect, every call is made. Left to others: what becomes of the verdicts that
are missing.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from astray.errors import JudgeError
from astray.judges.failures import Cause, cause_of, failure, is_outage

FAILURES_IN_A_ROW = 20
"""Calls that fail in a row, each after its own retries, until a grader is given up: as many as are with it at one
time."""
EMPTY_SHARE, EMPTY_AT_LEAST = 0.05, 5
"""Empty replies that strict work can do without: a grader may have nothing to say to the same questions each time, and
the work would never end. A few are let pass of few calls, too, but never more than half of them (and one)."""


@dataclass
class Patience:
    """Failed calls in a row of each grader.

    Attributes:
        in_a_row: notes of the calls that failed since the last one that did not, by the grader's name.
        lost: why a grader was given up; "" while none was.
        strict: whether calls that failed are an error, since what comes next depends on their verdicts.
        missed: notes of all calls that failed for an outage but empty replies, each after its own retries; of strict
            work alone.
        calls, empty: of strict work, how many calls ended, and how many of them with an empty reply.
        batch: whether calls go to the provider's batch interface, which is cheaper and takes up to a day.
    """

    strict: bool = False
    batch: bool = False
    in_a_row: dict[str, list[str]] = field(default_factory=dict)
    lost: str = ""
    missed: list[str] = field(default_factory=list)
    calls: int = 0
    empty: int = 0

    def check(self) -> None:
        """Raise JudgeError if this is strict and a grader was given up, calls failed, or too many replies were empty."""
        if not self.strict:
            return
        if self.empty > min(max(EMPTY_AT_LEAST, EMPTY_SHARE * self.calls), max(1, self.calls / 2)):
            raise JudgeError(
                f"{self.empty} of {self.calls} replies of the grader were empty, and what comes next depends on their "
                "verdicts. Finished verdicts are kept: allow it longer replies, or take another grader, and run the same "
                "again; only the others are asked for."
            )
        if not (self.lost or self.missed):
            return
        causes = ", ".join(f"{count} {cause}" for cause, count in Counter(map(cause_of, self.missed)).most_common())
        why = self.lost or (
            f"{len(self.missed)} calls of the grader failed ({causes}), and what comes next depends on their verdicts"
        )
        raise JudgeError(
            f"{why}. Finished verdicts are kept: mend the cause and run the same again, and only the others are "
            "asked for."
        )

    def refusal(self, grader: str) -> str:
        """Return the note of a call that is not made any more; "" for one that is."""
        return failure(Cause.NOT_ASKED, self.lost) if len(self.in_a_row.get(grader, ())) >= FAILURES_IN_A_ROW else ""

    def record(self, grader: str, note: str) -> None:
        """Record the result of a call: the note of its failure, or "" for a reply."""
        notes = self.in_a_row.setdefault(grader, [])
        if self.strict:
            self.calls += 1
            if cause_of(note) == Cause.EMPTY:
                self.empty += 1
            elif is_outage(note):
                self.missed.append(note)
        if not is_outage(note) or cause_of(note) == Cause.BUDGET:  # the grader is there, whatever it said
            notes.clear()
            return
        notes.append(note)
        if len(notes) >= FAILURES_IN_A_ROW and not self.lost:
            causes = ", ".join(f"{count} times {cause}" for cause, count in Counter(map(cause_of, notes)).most_common())
            self.lost = f"{grader} failed {len(notes)} times in a row: {causes}; the last time: {note}"


_CURRENT: ContextVar[Patience | None] = ContextVar("patience", default=None)
_HEARD: ContextVar[set[str] | None] = ContextVar("heard", default=None)


SERVED = "served"
"""Field of a judged answer's `detail`: the models that its grader answered as, where it said another name than it was
asked by."""


def hear(grader: str, model: str) -> None:
    """Note the model that a reply says it is of, such as a dated version, where that is not the one asked for."""
    if (heard := _HEARD.get()) is not None and model and not f"/{grader}".endswith(f"/{model}"):
        heard.add(model)


@contextlib.contextmanager
def hearing(known: Iterable[str] = ()) -> Iterator[set[str]]:
    """Collect the models that graders say they answer as while the context lasts, for what is around it as well.

    Args:
        known: those of a reply that was kept.
    """
    around, heard = _HEARD.get(), set(known)
    token = _HEARD.set(heard)
    try:
        yield heard
    finally:
        _HEARD.reset(token)
        if around is not None:
            around |= heard


def current_patience() -> Patience:
    """Return the current patience, or an unlimited one."""
    return _CURRENT.get() or Patience()


@contextlib.contextmanager
def patience(*, strict: bool = False, batch: bool = False) -> Iterator[Patience]:
    """Give up graders whose calls keep failing while the context lasts."""
    patient = Patience(strict, batch)
    token = _CURRENT.set(patient)
    try:
        yield patient
    finally:
        _CURRENT.reset(token)
