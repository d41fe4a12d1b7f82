"""Looks of a gate that asks until it is decided: more answers a question from look to look, with the error of the bounds
held over all of them.

The share of information is taken as that of answers. What questions differ by is seen whole at every look, so looks are more
alike than that, and the boundaries err less often than declared.

Left to others: boundaries (`stats.sequential`), what was declared and seen before (`engine.looks`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from astray.artifacts import Store
from astray.engine.looks import Declared, LookBook, Seen
from astray.errors import ConfigurationError
from astray.stats.noninferiority import LEVEL
from astray.stats.sequential import Looks
from astray.studies.gate.bars import Bar, Verdict
from astray.studies.gate.result import GateResult
from astray.studies.gate.settled import Release

TIMES = (1, 2, 4, 8)
"""Answers a question at each look, as multiples of those of a gate with one."""
_HOPELESS = 2
"""Times the answers of the last look of which more could not decide."""


@dataclass(frozen=True)
class GateLooks:
    """Answers a question at each look that is declared, and the hours after which no further one begins."""

    units: tuple[int, ...]
    hours: float | None = None

    @property
    def levels(self) -> tuple[float, ...]:
        """Return the one-sided confidence of the bounds at each look."""
        looks, error = Looks(self.units), 1 - LEVEL
        return tuple(1 - looks.nominal(look, 2 * error) / 2 for look in range(len(self.units)))


def declared_looks(
    samples: int, given: Sequence[int], until_decided: bool, hours: float | None, *, extend: bool
) -> GateLooks | None:
    """Return the looks that options declare; None for a gate with one.

    Raises:
        ConfigurationError: looks without `until_decided`, beside `extend`, or that do not rise.
    """
    if not until_decided:
        if given or hours is not None:
            name = "--looks" if given else "--max-hours"
            raise ConfigurationError(f"{name} is about looks of a gate: add --until-decided, or leave it out.")
        return None
    if extend:
        raise ConfigurationError("--extend is a second look, and --until-decided declares several: give one of them.")
    if hours is not None and not hours > 0:
        raise ConfigurationError(f"--max-hours {hours:g} lets nothing run. Write a number of hours above 0.")
    units = tuple(given) or tuple(times * samples for times in TIMES)
    Looks(units)
    return GateLooks(units, hours)


def book_of_gate(store: Store, release: Release) -> LookBook:
    """Return the looks at two models with one judge, one set of questions and one seed."""
    sides = [f"{role} {side.id}" for role, runs in release.sides.items() for side in runs]
    asked = [
        f"{evaluation.name} {evaluation.model_dump_json(exclude={'samples'})}" for evaluation in release.evaluations
    ]
    keys = [*sides, *asked, release.judge.model_dump_json(), str(release.seed)]
    return LookBook(store, "gate", keys, "answers to each question from", lambda _: f"--seed {release.seed + 1}")


def looked_until_decided(
    decided: Callable[[int, float], GateResult],
    looks: GateLooks,
    book: LookBook,
    margins: Mapping[str, float],
    spent: Callable[[], bool],
) -> GateResult:
    """Look until the verdict is there, the last look is made, further answers cannot decide, or the time is over.

    Args:
        decided: asks, judges and decides with so many answers a question and bounds of this confidence.
        looks: that are declared.
        book: where they are kept.
        margins: of the bars, part of what is declared.
        spent: whether the budget of tokens is spent, so that answers are missing.

    Raises:
        ConfigurationError: these answers were looked at otherwise before.
    """
    names = {"misaligned": "margin", "incoherent": "coherence-margin", "refused": "refusal-margin"}
    chosen = {names[bar]: (f"{margin:g}",) for bar, margin in margins.items()}
    declared = Declared(first=0, units=looks.units, spending="pocock", chosen=chosen)
    seen, began = list(book.begin(declared)), monotonic()
    for look in range(max(0, len(seen) - 1), len(looks.units)):
        samples, level = looks.units[look], looks.levels[look]
        result = decided(samples, level)
        if spent():  # no look: with all of its answers it may say something else
            why = f"Undecided: budget. Look {look + 1} of {len(looks.units)} was not made whole; the same command goes on."
            result = replace(result, verdict=Verdict.UNDECIDED)
            break
        why = _ends(result, look, looks, (monotonic() - began) / 3600)
        told = f"Look {look + 1} of {len(looks.units)}, with {samples} answers a question: {result.verdict}."
        if look == len(seen):
            book.add(declared, Seen(runs={"answers": samples}, going=() if why else ("answers",), told=told))
            seen.append(Seen(runs={"answers": samples}, going=(), told=told))
        if why:
            break
    held = (
        f"Looks at {', '.join(map(str, looks.units))} answers a question were declared beforehand. Each bar errs in at most "
        f"{1 - LEVEL:.0%} over all of them: the bounds of this look have a level of {level:.2%}."
    )
    notes = (f"{' '.join(each.told for each in seen)} {why}".strip(), held, *result.notes)
    return replace(result, look=(look + 1, len(looks.units)), notes=notes)


def _ends(result: GateResult, look: int, looks: GateLooks, passed: float) -> str:
    """Say why this look is the last; "" where the next one is to be made."""
    undecided = [bar for bar in result.bars if bar.verdict is Verdict.UNDECIDED]
    if result.verdict is not Verdict.UNDECIDED:
        return "It is decided."
    if look + 1 == len(looks.units):
        return "That was the last look."
    hopeless = [bar for bar in undecided if not _answers_may(bar, looks.units[-1])]
    if look and hopeless:
        wider = max((bar.needed.questions or 0 if bar.needed else 0) for bar in hopeless)
        more = f"about {wider:,} questions would" if wider else "so few questions cannot"
        return (
            f"It ends here: by what questions and answers vary, further answers would not decide "
            f"{' and '.join(bar.rule.name for bar in hopeless)}; {more}."
        )
    if looks.hours is not None and passed * looks.units[look + 1] / looks.units[look] > looks.hours:
        return f"Undecided: budget. The next look would not be made in time (--max-hours {looks.hours:g})."
    return ""


def _answers_may(bar: Bar, most: int) -> bool:
    """Return whether answers may decide a bar by the last look, taking twice as many, since the estimate may be off."""
    return bar.needed is not None and bar.needed.samples is not None and bar.needed.samples <= _HOPELESS * most
