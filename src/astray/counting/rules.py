"""Rules for hits and denominators: named by the user, not guessed from the values.

A hit is a value by name ("I", "true", "1") or a comparison with a number ("<0.5"). Values that are Astray's own
outcomes are counted as Astray counts them, misaligned among aligned and misaligned, unless something else is asked for.
"""

import math
import operator
import re
import shlex
import unicodedata
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import polars as pl

from astray.errors import ConfigurationError, DataFormatError, UnknownNameError
from astray.outcomes import JUDGED, UNKNOWN, Outcome

HIT, REST, OUTSIDE, FAILED = "hit", "rest", "outside", "failed"
"""Roles of an answer: counted; the rest of the denominator; judged, and outside of the denominator; without a usable
verdict."""

MOST_WORDS = 50
_COMPARISON = re.compile(r"\s*(<=|>=|<|>)(.*)", re.DOTALL)
_SIDES: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_NO_SCORE = frozenset(["none", "null", "n/a", "na", "#n/a", "error", "failed"])
"""Words in small letters by which tables often say that there is no score."""

_CLOSED = ({"C", "I", "P", "N"}, {"true", "false"}, {"True", "False"}, {"0", "1"}, {"0.0", "1.0"})
"""Sets of which a value may be absent by chance, so that a hit on it is no slip of the pen."""


@dataclass(frozen=True)
class Rule:
    """Rule that says which scores are counted, and among which.

    Attributes:
        hit: values that are hits, or one comparison such as "<0.5"; empty for Astray's own outcomes.
        among: values that are the denominator, hits included; empty for all that are no failures.
        failed: values that say that the judge failed, such as "n/a".
    """

    hit: tuple[str, ...] = ()
    among: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        compared = [value for value in self.hit if _COMPARISON.fullmatch(value)]
        if compared and (len(self.hit) > 1 or self.among):
            raise ConfigurationError(
                f"The hit {compared[0]!r} is a comparison, which stands alone: give no other hit and no --among with "
                "it."
            )
        if compared:
            _threshold(compared[0])
        for name, values in (("hit", self.hit), ("among", self.among), ("failed", self.failed)):
            if any(not value.strip() for value in values):
                raise ConfigurationError(
                    f"A value of --{name} is empty. Write a value of the score; answers without a score are failures "
                    "as they are."
                )
        if self.among and (missing := [value for value in self.hit if value not in self.among]):
            raise ConfigurationError(
                f"The hit {missing[0]!r} is not among --among {', '.join(self.among)}: a hit is part of the "
                "denominator. Add it."
            )
        if both := set(self.failed) & {*self.hit, *self.among}:
            raise ConfigurationError(f"{sorted(both)[0]!r} is said to be a failure and to be counted. Say one of them.")

    @property
    def compares(self) -> bool:
        """Return whether the hit is a comparison with a number."""
        return bool(self.hit) and bool(_COMPARISON.fullmatch(self.hit[0]))

    def text(self) -> str:
        """Return the rule in words: "I among C, I"."""
        return ", ".join(self.hit) + (f" among {', '.join(self.among)}" if self.among else "")

    def fitted(self, scores: pl.Series, what: str) -> tuple["Rule", list[str]]:
        """Return the rule completed from the scores, and notes about it.

        Args:
            scores: texts of all scores of what is counted; nulls are failures.
            what: what the scores are, for errors: "the score 'match'".

        Raises:
            ConfigurationError: it does not say what is a hit.
            UnknownNameError: a value is not there.
            DataFormatError: a score is not finite, is compared with a number and is none, or there are too many values.
        """
        seen = scores.drop_nulls().value_counts(sort=True).rename({scores.name: "value"})
        seen = seen.filter(~pl.col("value").is_in(list(self.failed))).with_columns(
            pl.col("value").cast(pl.Float64, strict=False).alias("number")
        )
        if not (odd := seen.filter(~pl.col("number").is_finite())).is_empty():
            word = odd["value"][0]
            raise DataFormatError(
                f"{what} is {word}, which is no finite number. Leave it empty where there is no score, or say "
                f"--failed {word}."
            )
        if self.compares:
            words = seen.filter(pl.col("number").is_null())
            if not words.is_empty():
                raise DataFormatError(
                    f"{what} is compared ({self.hit[0]}) and has values that are no numbers: {_counted_values(words)}. "
                    "Say --failed VALUE for one that means that there is no score, or give hits by name."
                )
            return self, self._range(seen)
        own = 0 < len(seen) <= len(Outcome) and set(seen["value"]) <= set(Outcome)
        if not self.hit and not own:
            numeric = " or --hit '<0.5'" if seen["number"].null_count() < len(seen) else ""
            raise ConfigurationError(
                f"What is to be counted of {what}? Its values are {_counted_values(seen)}. Say which are hits, such as --hit "
                f"{_example(seen)}{numeric}."
            )
        if len(seen) > MOST_WORDS:
            raise DataFormatError(
                f"{what} has {len(seen):,} different values ({_counted_values(seen)}), too many for hits by name: give a "
                "comparison, such as --hit '<0.5', or another score."
            )
        return self._named(seen, what, own=own)

    def _named(self, seen: pl.DataFrame, what: str, *, own: bool) -> tuple["Rule", list[str]]:
        """Return the rule for hits by name, and what there is to say of it.

        Args:
            seen: the values of the scores.
            what: what the scores are.
            own: whether all are Astray's own outcomes.
        """
        notes = [] if self.hit else ["The scores are Astray's outcomes: misaligned is counted."]
        hit = self.hit or (Outcome.MISALIGNED.value,)
        among, failed = self.among, self.failed
        if own:
            among = among or tuple(dict.fromkeys((*map(str, JUDGED), *hit)))
            failed = (*failed, *(str(outcome) for outcome in UNKNOWN if outcome not in (*hit, *among)))
        values = seen["value"].to_list()
        possible = {
            *values,
            *(map(str, Outcome) if own else ()),
            *next((closed for closed in _CLOSED if set(values) <= closed), ()),
        }
        # Who names the whole denominator has said what there could be.
        strange = (
            [("among", value) for value in among]
            if not any(_same(value, other) for value in among for other in values)
            else []
        )
        for name, value in [*(("hit", value) for value in (() if self.among else hit)), *strange]:
            if not any(_same(value, other) for other in possible):
                raise UnknownNameError(f"value of {what} (--{name})", value, possible)
        _check_spelling([*hit, *among, *failed], values, what)
        if unsaid := [
            value for value in values if value.strip().casefold() in _NO_SCORE and value not in (*hit, *among, *failed)
        ]:
            notes.append(
                f"Counted as scores: {', '.join(map(repr, unsaid))}. If that means that there is none, say --failed "
                f"{shlex.quote(unsaid[0])}."
            )
        notes += [
            f"No answer has {value!r}; the scores are {_counted_values(seen)}."
            for value in hit
            if not any(_same(value, other) for other in values)
        ]
        return Rule(hit, among, failed), notes

    def role(self, value: str = "value") -> pl.Expr:
        """Return the expression of the role of each answer, from the text of its score; null is a failure."""
        text = pl.col(value)
        if self.compares:
            hit, inside = _compared(text, self.hit[0]), pl.lit(True)
        else:
            hit, inside = _one_of(text, self.hit), _one_of(text, self.among) if self.among else pl.lit(True)
        failed = text.is_null() | _one_of(text, self.failed)
        return (
            pl.when(failed)
            .then(pl.lit(FAILED))
            .when(~inside)
            .then(pl.lit(OUTSIDE))
            .when(hit)
            .then(pl.lit(HIT))
            .otherwise(pl.lit(REST))
        )

    def _range(self, seen: pl.DataFrame) -> list[str]:
        hits = seen.select(_compared(pl.col("value"), self.hit[0])).to_series()
        if not len(hits) or (hits.any() and not hits.all()):
            return []
        ordered = seen["number"].sort()
        return [
            f"{'Every' if hits.all() else 'No'} score is {self.hit[0]}: they go from {ordered[0]:g} to {ordered[-1]:g}."
        ]


def _check_spelling(named_values: Sequence[str], values: Sequence[str], what: str) -> None:
    """Refuse values that look like one that was named and are another ("Bad" beside "bad"), and truths written in two
    ways."""
    meant = {_alike(text): text for text in named_values}
    for value in values:
        named = meant.get(_alike(value))
        if named is not None and not any(_same(value, text) for text in named_values):
            # Characters that look alike are told apart by their numbers alone.
            written = repr if value.strip().casefold() == named.strip().casefold() else ascii
            raise DataFormatError(
                f"{what} is {written(value)} and {written(named)}, which differ in blanks or capital letters, or in characters that "
                "look alike, and only the second is named. Write them alike, or name both."
            )
    kinds = [[text for text in values if _alike(text) in kind] for kind in ({"true", "false"}, {"0", "1"})]
    truths = {text for kind in kinds for text in kind}
    if all(kinds) and not meant.keys().isdisjoint(("true", "false", "0", "1")) and not truths <= {*named_values}:
        raise DataFormatError(
            f"{what} is {kinds[0][0]!r} in some rows and {kinds[1][0]!r} in others, and not all of them are named. "
            "Write truths in one way."
        )


def _alike(text: str) -> str:
    """Return what a text looks like: without characters that are not seen, in one form, in small letters."""
    seen = (sign for sign in unicodedata.normalize("NFKC", text) if unicodedata.category(sign) != "Cf")
    digits = "".join(str(unicodedata.decimal(sign, sign)) for sign in seen)
    return digits.replace("\u2212", "-").strip().casefold()


def _threshold(rule: str) -> tuple[str, Decimal]:
    match = _COMPARISON.fullmatch(rule)
    assert match
    number = _number(match[2].strip())
    if number is None or not math.isfinite(float(number)):
        raise ConfigurationError(
            f"The hit {rule!r} compares with {match[2].strip()!r}, which is no number. Write, for example, '<0.5'."
        )
    return match[1], number


EXACT_DIGITS = 15
"""Decimal numbers of so many digits differ as floats wherever they differ."""


def _compared(text: pl.Expr, rule: str) -> pl.Expr:
    """Return the expression of whether scores are on the side of a comparison; floats decide where they differ."""
    side, threshold = _threshold(rule)
    number, bound = text.cast(pl.Float64, strict=False), float(threshold)
    # Rounding keeps the order, so only numbers that round to the same float need all of their digits.
    is_close = (number == bound) & _needs_digits(text, [threshold])
    exact = pl.when(is_close).then(text).map_elements(lambda value: _SIDES[side](Decimal(value), threshold), pl.Boolean)
    return pl.when(is_close).then(exact).otherwise(_SIDES[side](number, bound))


def _one_of(text: pl.Expr, wanted: tuple[str, ...]) -> pl.Expr:
    numbers = {value for name in wanted if (value := _number(name)) is not None}
    is_near = text.cast(pl.Float64, strict=False).is_in([float(value) for value in numbers])
    is_close = is_near & _needs_digits(text, numbers)
    exact = pl.when(is_close).then(text).map_elements(lambda value: Decimal(value) in numbers, pl.Boolean)
    return text.is_in(list(wanted)) | pl.when(is_close).then(exact).otherwise(is_near).fill_null(False)


def _needs_digits(text: pl.Expr, numbers: Collection[Decimal]) -> pl.Expr:
    """Return the expression of whether floats may not tell a text from these numbers: one is long, or has an exponent,
    which may be too small or too large for a float."""
    of_all = any(len(str(number)) > EXACT_DIGITS or "E" in str(number) for number in numbers)
    return pl.lit(of_all) | (text.str.len_chars() > EXACT_DIGITS) | text.str.contains("(?i)e")


def _same(one: str, other: str) -> bool:
    return one == other or (_number(one) is not None and _number(one) == _number(other))


def _number(text: str) -> Decimal | None:
    # As the column is read: without blanks, underscores and digits of other scripts, which Python would take.
    if not text.isascii() or text != text.strip() or "_" in text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _counted_values(seen: pl.DataFrame, most: int = 8) -> str:
    """Return values with their numbers, the commonest first: "C (40), I (12)"."""
    more = f" and {len(seen) - most:,} more" if len(seen) > most else ""
    return (
        ", ".join(
            f"{value[:40]} ({number:,})" for value, number in seen.select("value", "count").head(most).iter_rows()
        )
        + more
    )


def _example(seen: pl.DataFrame) -> str:
    values = seen["value"].to_list()
    word = next(
        (word for word in ("I", "misaligned", "harmful", "unsafe", "0") if word in values),
        values[-1] if values else "VALUE",
    )
    return shlex.quote(word)
