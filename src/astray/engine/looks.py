"""Looks of a study that runs until it is decided: those declared, those made, and the arms that continue.

    store/.looks/emergent-misalignment-0f3a….json    declarations and looks on one subject and data
    store/.looks/gate-81c2….json                     those on two models, questions, judge and seed

A boundary holds its error only for looks that were declared before the first of them. So they stand in the store: the same
command goes on with them, another declaration on the same runs is refused, as is one after runs were seen without any.

Left to others: verdicts at a look (`family`), making the steps (`run`).
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from astray.artifacts import Store
from astray.engine.options import TrainedOptions
from astray.engine.plan import plan_runs
from astray.engine.setting import Setting
from astray.engine.study import Study
from astray.engine.summary import ClaimRow, ClaimStatus
from astray.errors import ConfigurationError, StoreError
from astray.stats.sequential import Looks, Spending

_FOLDER = ".looks"
_LATER = ("gold", "gold-grader")
"""Options that were not part of a declaration at first: one that was kept without them goes on with what is typed."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Declared(_Frozen):
    """Declaration of looks: training runs an arm, or answers a question, at each of them, and all that verdicts rest on.

    Attributes:
        first: number of the first unit, such as the first seed.
        units: how many there are at each look.
        spending: how the error is spent.
        chosen: option -> its values, as they are typed; what they choose cannot change after a look either.
    """

    first: int
    units: tuple[int, ...]
    spending: Spending
    chosen: dict[str, tuple[str, ...]] = {}

    @property
    def looks(self) -> Looks:
        """Return the looks as statistics take them."""
        return Looks(self.units, self.spending)

    @property
    def typed(self) -> str:
        """Return the declaration as options of the command line."""
        words = [f"--until-decided --looks {','.join(map(str, self.units))}"]
        words += [f"--{name} {','.join(values)}" for name, values in self.chosen.items() if values]
        return " ".join(words)

    def continues(self, stored: "Declared") -> bool:
        """Return whether a kept declaration is this one, or this one as it was written before all options were part."""
        later = {name: self.chosen[name] for name in _LATER if name in self.chosen}
        return stored.model_copy(update={"chosen": later | stored.chosen}) == self


class Seen(_Frozen):
    """One look that was made: units that each arm had, claims that were decided by then, what goes on, what was told.

    Attributes:
        further: training runs an arm at the next look; None for as many as were declared.
        gold: arm -> answers of each of its runs that a gold judge reads from now on, after each draw; empty where the
            sample was never enlarged.
    """

    runs: dict[str, int]
    decided: tuple[ClaimRow, ...] = ()
    going: tuple[str, ...]
    told: str
    further: int | None = None
    gold: dict[str, tuple[int, ...]] = {}


class _Sequence(_Frozen):
    declared: Declared
    seen: tuple[Seen, ...] = ()

    @property
    def until(self) -> int:
        """Return the first seed that was not seen."""
        return self.declared.first + max((max(look.runs.values(), default=0) for look in self.seen), default=0)


class _Book(_Frozen):
    sequences: tuple[_Sequence, ...] = ()
    without: tuple[tuple[int, int], ...] = ()
    """First unit, and the one after the last, of what was seen without a declaration."""


def declared_by(options: TrainedOptions) -> Declared:
    """Return what the options declare."""
    seeds, arms, analyses = options.runs
    first = {"first-seed": (str(seeds.start),)} if seeds.start else {}
    # Verdicts rest on the gold sample too. None is declared as well, unlike in what was kept before it was part.
    gold = (options.gold, options.gold_grader)
    later = {name: () if value is None else (str(value),) for name, value in zip(_LATER, gold, strict=True)}
    chosen = {"spending": (options.spending,), **first, "arms": arms, "analyses": analyses, **later}
    return Declared(first=seeds.start, units=options.units, spending=options.spending, chosen=chosen)


def book_of_study(store: Store, study: Study, setting: Setting) -> "LookBook":
    """Return the looks at a study on one subject and data."""
    # What answers are made of, whatever the seed and the judge: the same runs under another declaration are found again.
    keys = sorted(run.answers.key for run in plan_runs(study, replace(setting, gold=None), [0]))
    return LookBook(store, study.name, keys, "runs with seeds", lambda after: f"--first-seed {after}")


class LookBook:
    """Looks that were declared and made for one study or gate.

    Args:
        store: beside whose steps it is kept.
        name: of what is looked at.
        keys: what makes it the same whenever it is looked at.
        units: what its units are called.
        fresh: the option that takes units which nobody has seen, from the first number that is free.
    """

    def __init__(self, store: Store, name: str, keys: Sequence[str], units: str, fresh: Callable[[int], str]):
        digits = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]
        self.path = Path(store.folder) / _FOLDER / f"{name}-{digits}.json"
        self._units, self._fresh = units, fresh

    def begin(self, declared: Declared) -> tuple[Seen, ...]:
        """Return the looks of this declaration that were made, and write it down where it is new.

        Raises:
            ConfigurationError: its units were seen under another declaration, or without any.
        """
        book = self._read()
        matching = next((sequence for sequence in book.sequences if declared.continues(sequence.declared)), None)
        for first, after in book.without:
            if first < declared.first + declared.units[-1] and declared.first < after:
                raise ConfigurationError(
                    f"Its {self._units} {first} to {after - 1} were looked at without declared looks, so no boundary holds "
                    f"the error any more. Take what nobody has seen: --until-decided {self._fresh(_after(book))}"
                )
        for other in book.sequences:
            first, most = other.declared.first, other.declared.units[-1]
            overlap = first < declared.first + declared.units[-1] and declared.first < first + most
            if other is not matching and other.seen and overlap:
                progress = f"{len(other.seen)} of its {len(other.declared.units)} looks were made"
                raise ConfigurationError(
                    f"Its {self._units} {first} to {first + most - 1} were declared to be looked at as "
                    f"{other.declared.typed}, and {progress}. Looks that are changed afterwards do not hold the error. Give "
                    f"the same again, or take what nobody has seen: {self._fresh(_after(book))}"
                )
        if matching is None:
            with_looks = tuple(sequence for sequence in book.sequences if sequence.seen)
            self._write(book.model_copy(update={"sequences": (*with_looks, _Sequence(declared=declared))}))
        elif matching.declared != declared:
            filled = matching.model_copy(update={"declared": declared})
            sequences = tuple(filled if sequence is matching else sequence for sequence in book.sequences)
            self._write(book.model_copy(update={"sequences": sequences}))
        return matching.seen if matching else ()

    def seen(self, declared: Declared) -> tuple[Seen, ...]:
        """Return the looks of a declaration that were made; nothing is checked or written."""
        return next((sequence.seen for sequence in self._read().sequences if declared.continues(sequence.declared)), ())

    def add(self, declared: Declared, look: Seen) -> None:
        """Record a look."""
        book = self._read()
        sequences = tuple(
            sequence.model_copy(update={"seen": (*sequence.seen, look)}) if sequence.declared == declared else sequence
            for sequence in book.sequences
        )
        self._write(book.model_copy(update={"sequences": sequences}))

    def note(self, units: range) -> tuple[tuple[int, int], ...]:
        """Write down that these units were seen without a declaration, and return what was seen so before; those that a
        look saw already do not count."""
        book, span = self._read(), (units.start, units.stop)
        declared = [sequence for sequence in book.sequences if sequence.seen]
        covered = any(seen.declared.first <= units.start and units.stop <= seen.until for seen in declared)
        if not covered and span not in book.without:
            self._write(book.model_copy(update={"without": (*book.without, span)}))
        return book.without

    def _read(self) -> _Book:
        if not self.path.is_file():
            return _Book()
        try:
            return _Book.model_validate_json(self.path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise StoreError(
                f"{self.path}, in which looks are kept, cannot be read: {error}. Without it nobody knows how often there "
                "were any. Restore it, or name another store with --store."
            ) from error

    def _write(self, book: _Book) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = self.path.with_suffix(".new")
            new.write_text(book.model_dump_json(indent=1) + "\n", encoding="utf-8")
            new.replace(self.path)
        except OSError as error:
            raise StoreError(
                f"Looks cannot be written to {self.path}: {error}. Free space or name another --store."
            ) from error


def _after(book: _Book) -> int:
    """Return the first unit after all that was seen or declared."""
    ends = [after for _, after in book.without]
    ends += [sequence.declared.first + sequence.declared.units[-1] for sequence in book.sequences if sequence.seen]
    return max(ends)


def going_on(
    claims: Sequence[ClaimRow], trained: Sequence[str], fixed: Collection[str], *, together: bool
) -> tuple[str, ...]:
    """Return the arms that undecided claims need further runs of, in the order of `trained`.

    Args:
        claims: of this look.
        trained: arms of which further seeds give further runs.
        fixed: arms that are models as they were given: no seed says more of them.
        together: whether analyses are made from the runs, which then all go on as long as one claim is undecided.
    """
    needed: set[str] = set()
    for claim in claims:
        if claim.status is ClaimStatus.UNDECIDED and not (claim.arms and set(claim.arms) <= set(fixed)):
            needed |= set(trained) if together or not claim.arms else set(claim.arms)
    return tuple(arm for arm in trained if arm in needed)
