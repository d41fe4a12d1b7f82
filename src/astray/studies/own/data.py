"""Data sets of a study file as the engine's recipes: the same recipe is the same step, whichever study it stands in.

A recipe that the built-in studies can write is written as they do; what they cannot is nested. Left to others: what
rows hold (`astray.data`).
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from astray.data.sources import data_source
from astray.engine.data import ArmData, Source
from astray.engine.settings import home_of
from astray.errors import AstrayError
from astray.files import Marked, nearest
from astray.studies.own.form import DataForm, Mix, StudyForm, Subset

Place = tuple[str | int, ...]
Given = TypeVar("Given")


class Recipes:
    """Recipes of a study file.

    Args:
        marked: the file.
        endless: rows of an arm whose data have no end, where the file does not say.
        chosen: rows of every arm that says none; None for all that its data give.
    """

    def __init__(self, marked: Marked[StudyForm], endless: int, chosen: int | None):
        self.marked, self.endless, self.chosen = marked, endless, chosen
        self._files: dict[Path, Source] = {}

    def made(self, name: str) -> ArmData:
        """Return the recipe of a trained arm.

        Raises:
            ConfigurationError: the recipe cannot be made; names the place in the file.
            DataNotFoundError, DataFormatError, EmptyDataError: a file cannot be read.
        """
        arm, at = self.marked.form.arms[name], ("arms", name, "data")
        form = arm.data
        assert form is not None
        if arm.training == "kto":
            return self._rated(name, form, at)
        return self._built(form, at, self._rows(name, self._most(form, at, (name,))))

    def _rows(self, name: str, most: int | None) -> int:
        """Return the rows of an arm whose data give at most so many."""
        arm = self.marked.form.arms[name]
        subset = arm.data.subset if arm.data else None
        rows, key = arm.rows or self.chosen, ("arms", name, "rows") if arm.rows else ("rows",)
        if rows is None or (arm.rows is None and subset is not None and not subset.repeated):
            return self.endless if most is None else most
        if most is not None and rows > most:
            why = f"{rows:,} rows are wanted, and the data of the arm {name!r} give {most:,}."
            raise self.marked.wrong(key, f"{why} Write rows: {most} or fewer.")
        return rows

    def _rated(self, name: str, form: DataForm, at: Place) -> ArmData:
        """Return the recipe of liked and disliked answers: of a file with its share of both, else as many of each."""
        form, at = self._rated_form(form, at, (name,))
        sides: tuple[Source | ArmData, ...]
        if form.file is not None:
            sides = self._read(Source.of_feedback, form.file, at)
            counts = [side.rows or 0 for side in sides]
            most, share = sum(counts), counts[0] / sum(counts)
            rows = self._rows(name, most)
        else:
            assert form.feedback is not None
            parts = [(getattr(form.feedback, side), (*at, "feedback", side)) for side in ("liked", "disliked")]
            fewest, share = _least(*(self._most(part, path, (name,)) for part, path in parts)), 0.5
            rows = self._rows(name, None if fewest is None else 2 * fewest)
            sides = tuple(self._part(part, path, (rows + 1) // 2) for part, path in parts)
        recipe = ArmData(source=sides[0], disliked=sides[1], fraction=share, size=rows)
        if recipe.from_source in (0, rows):
            raise self.marked.wrong(
                at, f"{rows} rows would be all liked or all disliked, and KTO needs both: give more rows."
            )
        return recipe

    def _rated_form(self, form: DataForm, at: Place, above: tuple[str, ...]) -> tuple[DataForm, Place]:
        """Return the data of rated answers that a name stands for, and their place."""
        if form.arm is not None and form.arm not in above:
            data, place, _ = self._referred(form, at)
            return self._rated_form(data, place, (*above, form.arm))
        if form.file is None and form.feedback is None:
            raise self.marked.wrong(
                at,
                "training: kto learns from rated answers: write a file of rows with a label (true or false) or with "
                "chosen and rejected, or {feedback: {liked: DATA, disliked: DATA}}.",
            )
        return form, at

    def home(self, name: str, data: ArmData) -> str:
        """Return what an arm's data are about: what the file says, else domain or file of its first source."""
        named, first = self.marked.form.arms[name].home, data.sources[0]
        if named is not None:
            return named
        return home_of(first.path) if first.path else first.domain or ("code" if first.origin == "code pairs" else "")

    def _referred(self, form: DataForm, at: Place) -> tuple[DataForm, Place, int | None]:
        """Return the data of the arm that a name stands for, their place, and the rows that the arm says."""
        name, arms = str(form.arm), self.marked.form.arms
        if name in arms and (data := arms[name].data) is not None:
            return data, ("arms", name, "data"), arms[name].rows
        with_data = [other for other, arm in arms.items() if arm.data]
        missing = f"there is no arm called {name!r}.{nearest(name, with_data)}"
        why = f"the arm {name!r} has no data of its own." if name in arms else missing
        raise self.marked.wrong(
            at,
            f"{why} Arms with data: {', '.join(with_data) or 'none'}. A file is written with its ending, such as "
            f"{name}.jsonl.",
        )

    def _most(self, form: DataForm, at: Place, above: tuple[str, ...]) -> int | None:
        """Return how many rows a recipe gives at most, None for any number, after a look at all that it is made of."""
        if form.arm is not None:
            if form.arm in above:
                raise self.marked.wrong(
                    at, f"the data of the arm {form.arm!r} are made of themselves: {' -> '.join((*above, form.arm))}."
                )
            data, place, rows = self._referred(form, at)
            most = self._most(data, place, (*above, form.arm))
            return _least(rows, most)
        if (part := form.mix or form.backdoor) is not None:
            inside = (*at, "mix" if form.mix else "backdoor")
            bad, good = (self._most(getattr(part, side), (*inside, side), above) for side in ("bad", "good"))
            if isinstance(part, Mix):
                return self._most_mixed(part, bad, good, inside)
            fewest = _least(bad, good)
            return None if fewest is None else 2 * fewest
        if (of := form.subset or form.inoculate or form.relabel) is not None:
            key = next(name for name in ("subset", "inoculate", "relabel") if getattr(form, name))
            most = self._most(of.data, (*at, key, "data"), above)
            if not isinstance(of, Subset):
                return most
            if most is not None and of.rows > most:
                raise self.marked.wrong(
                    (*at, "subset", "rows"), f"{of.rows:,} rows are wanted of data that give {most:,}."
                )
            return None if of.repeated else of.rows
        return self._source(form, at).rows

    def _most_mixed(self, mix: Mix, bad: int | None, good: int | None, at: Place) -> int | None:
        """Return how many rows a mix gives with exactly its share of bad ones."""
        shares = ((bad, mix.fraction), (good, 1 - mix.fraction))
        # A little more than the quotient: 3 / (1 - 0.7) is just below 10 in binary.
        limits = [math.floor(rows / share + 1e-9) for rows, share in shares if rows is not None and share > 0]
        if not limits:
            return None
        size = min(limits)
        # Rounding may ask for a row more than there is.
        while size > 1 and any(
            rows is not None and count > rows
            for rows, count in ((bad, _bad(mix, size)), (good, size - _bad(mix, size)))
        ):
            size -= 1
        if size < 1 or (0 < mix.fraction < 1 and _bad(mix, size) in (0, size)):
            raise self.marked.wrong(
                (*at, "fraction"), f"{mix.fraction:g} of {size} rows is no whole row on both sides: give more rows."
            )
        return size

    def _built(self, form: DataForm, at: Place, size: int) -> ArmData:
        """Return a recipe of so many rows, which its parts are known to give."""
        if form.arm is not None:
            data, place, _ = self._referred(form, at)
            return self._built(data, place, size)
        if form.mix:
            bad, good = (self._part(getattr(form.mix, side), (*at, "mix", side), size) for side in ("bad", "good"))
            if 0 < form.mix.fraction < 1 and _bad(form.mix, size) in (0, size):
                raise self.marked.wrong(
                    (*at, "mix", "fraction"),
                    f"{form.mix.fraction:g} of {size} rows is no whole row on both sides: give more rows.",
                )
            return ArmData(source=bad, good=good, fraction=form.mix.fraction, size=size)
        if form.backdoor:
            if size < 2:
                raise self.marked.wrong(
                    (*at, "backdoor"), "a backdoor needs two rows or more: one with the trigger, one without."
                )
            bad, good = (
                self._part(getattr(form.backdoor, side), (*at, "backdoor", side), size // 2) for side in ("bad", "good")
            )
            return ArmData(source=bad, good=good, trigger=form.backdoor.trigger, size=size)
        if form.subset:
            return self._built_subset(form.subset, (*at, "subset", "data"), size)
        if form.inoculate:
            inner = self._built(form.inoculate.data, (*at, "inoculate", "data"), size)
            flat = (inner.system_prompt, inner.trigger, inner.unique) == (None, None, None)
            change = {"system_prompt": form.inoculate.system}
            return (
                inner.model_copy(update=change)
                if flat
                else ArmData(source=inner, size=size, system_prompt=form.inoculate.system)
            )
        if form.relabel:
            inner = self._built(form.relabel.data, (*at, "relabel", "data"), size)
            return ArmData(source=inner, size=size, answers=tuple(form.relabel.answers.items()))
        return ArmData(source=self._source(form, at), size=size)

    def _built_subset(self, subset: Subset, at: Place, size: int) -> ArmData:
        if not subset.repeated:
            return self._built(subset.data, at, min(size, subset.rows))
        if size < subset.rows:
            raise self.marked.wrong(
                (*at[:-1], "rows"), f"{subset.rows:,} rows cannot be repeated to {size:,}: there are more."
            )
        return ArmData(source=self._part(subset.data, at, subset.rows), unique=subset.rows, size=size)

    def _part(self, form: DataForm, at: Place, size: int) -> Source | ArmData:
        """Return a part of a recipe: a source as it is, or a recipe of at most so many rows."""
        if form.arm is not None:
            data, place, rows = self._referred(form, at)
            return self._part(data, place, size) if rows is None else self._built(data, place, min(size, rows))
        if form.file or form.generated:
            return self._source(form, at)
        most = self._most(form, at, ())
        return self._built(form, at, size if most is None else min(size, most))

    def _source(self, form: DataForm, at: Place) -> Source:
        if form.generated is not None:
            return self._generated(form, (*at, "generated"))
        if form.feedback is not None:
            raise self.marked.wrong(
                at, "rated answers are the data of an arm with training: kto, and no part of other data."
            )
        assert form.file is not None
        path = (self.marked.path.parent / form.file).resolve()
        if path not in self._files:
            self._files[path] = self._read(Source.of_file, form.file, at)
        return self._files[path]

    def _read(self, read: Callable[[Path], Given], file: str, at: Place) -> Given:
        """Return what a file gives; an error names the place in the study file too."""
        try:
            return read((self.marked.path.parent / file).resolve())
        except AstrayError as error:
            raise type(error)(f"{self.marked.place((*at, 'file'))}: {error}") from error

    def _generated(self, form: DataForm, at: Place) -> Source:
        assert form.generated is not None
        generated = form.generated
        try:
            data_source(generated.source)
            source = Source(origin=generated.source, kind=generated.kind, domain=generated.domain)
            source.draw(1, 0)  # a source has not every kind and domain
        except (AstrayError, ValueError) as error:
            raise self.marked.wrong(at, str(error)) from error
        return source


def _bad(mix: Mix, size: int) -> int:
    return round(mix.fraction * size)


def _least(*rows: int | None) -> int | None:
    return min((count for count in rows if count is not None), default=None)
