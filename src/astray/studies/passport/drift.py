"""Drift of judges against an earlier passport of the same answers.

A judge has drifted where its scores, its rate of misaligned verdicts or single verdicts moved by more than the bound, and
by more than chance: the 95% interval over questions does not reach 0. Flips count beyond those between repeats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from astray.errors import ConfigurationError, DataFormatError
from astray.files import read_as, read_json
from astray.outcomes import Outcome
from astray.stats.intervals import Interval, mean_over_runs
from astray.strict import Strict
from astray.studies.passport.reading import VERDICTS, Answers

BOUND = 0.05
"""Usual bound: 5 points of a score from 0 to 100, 5% of verdicts."""
MEASURES = ("aligned score", "misaligned verdicts", "flips beyond those of repeats")
_FORM = "the passport.json that `astray judge passport` writes"


class Earlier(Strict):
    """What a passport keeps of its verdicts, for later ones."""

    judging: str
    wordings: dict[str, str]
    answers: list[str]
    served: dict[str, str]
    rows: list[tuple[int, str, str, int, str, float | None, float | None]]

    def verdicts(self) -> pl.DataFrame:
        """Return them as a table."""
        return pl.DataFrame([(*row, "") for row in self.rows], schema=VERDICTS, orient="row")


@dataclass(frozen=True)
class Shift:
    """How far one measure of a judge moved.

    Attributes:
        judge: the grader.
        measure: what moved.
        estimate: by how much; scores from 0 to 100, shares from 0 to 1. None where it cannot be told.
        interval: over questions.
        bound: beyond which it is drift.
        drifted: whether it is.
        note: what cannot be told, and why.
    """

    judge: str
    measure: str
    estimate: float | None
    interval: Interval | None
    bound: float
    drifted: bool
    note: str = ""


@dataclass(frozen=True)
class Drift:
    """Shifts of all judges since an earlier passport."""

    since: Path
    bound: float
    shifts: tuple[Shift, ...]

    @property
    def drifted(self) -> tuple[str, ...]:
        """Return the judges that drifted, or for which this cannot be decided."""
        return tuple(dict.fromkeys(shift.judge for shift in self.shifts if shift.drifted))


def read_earlier(path: Path) -> Earlier:
    """Read what an earlier passport kept.

    Raises:
        DataNotFoundError, DataFormatError: it is no passport.
    """
    content = read_json(path, _FORM)
    kept = content.get("kept") if isinstance(content, dict) else None
    earlier = read_as(Earlier, kept, path, _FORM)
    if wrong := [row for row in earlier.rows if not 0 <= row[0] < len(earlier.answers)]:
        raise DataFormatError(
            f"{path} has a verdict about an answer {wrong[0][0]} that it does not have. Give {_FORM}."
        )
    return earlier


def check_same(
    path: Path, earlier: Earlier, answers: Answers, graders: Sequence[str], wordings: dict[str, str], judging: str
) -> None:
    """Refuse an earlier passport of other answers, wordings or calls.

    Raises:
        ConfigurationError: says what differs.
    """
    common = len(set(earlier.answers) & set(answers.digests))
    why = ""
    if set(earlier.answers) != set(answers.digests):
        why = (
            f"is about other answers: {common:,} of its {len(earlier.answers):,} are among the {len(answers.digests):,} here. "
            "Give its file of answers again, with the same --sample"
        )
    elif changed := [name for name in earlier.wordings if wordings.get(name) != earlier.wordings[name]]:
        why = (
            f"was made with a wording {changed[0]!r} that is missing here, or has another text. Give the same --prompts"
        )
    elif len(wordings) > len(earlier.wordings):
        why = f"has no wording {sorted(wordings.keys() - earlier.wordings.keys())[0]!r}. Give the same --prompts"
    elif earlier.judging != judging:
        why = f"was made in {earlier.judging}, and this one is in {judging}. Give the same --judging"
    elif missing := sorted(set(graders) - {row[1] for row in earlier.rows}):
        why = f"has no grader {missing[0]}. Give graders that it has"
    if why:
        raise ConfigurationError(f"--since {path} {why}, or make a new passport without --since.")


def drift_since(
    path: Path, earlier: Earlier, answers: Answers, verdicts: pl.DataFrame, graders: Sequence[str], bound: float
) -> Drift:
    """Compare verdicts with those of an earlier passport of the same answers.

    Args:
        path: the earlier passport's file.
        earlier: what it kept.
        answers: that were judged.
        verdicts: today's.
        graders: whose drift is asked for.
        bound: share of the scale beyond which a shift is drift.
    """
    place = {digest: at for at, digest in enumerate(answers.digests)}
    moved = pl.Series([place[digest] for digest in earlier.answers], dtype=pl.Int64)
    old = earlier.verdicts().with_columns(moved.gather(earlier.verdicts()["answer"]).alias("answer"))
    questions = pl.DataFrame(
        {"answer": range(len(answers.exchanges)), "question": [e.question for e in answers.exchanges]}
    )
    shifts: list[Shift] = []
    for name in graders:
        both = [_summed(table.filter(judge=name)) for table in (old, verdicts)]
        pairs = both[0].join(both[1], on=["answer", "wording"], suffix="_new").join(questions, on="answer")
        shifts += _shifts(name, pairs, both[0].height, bound)
    return Drift(path, bound, tuple(shifts))


def _summed(table: pl.DataFrame) -> pl.DataFrame:
    """Return for each answer and wording the mean score, the share of misaligned verdicts and their number."""
    kept = table.filter(pl.col("outcome") != Outcome.JUDGE_FAILED.value)
    bad = (pl.col("outcome") == Outcome.MISALIGNED.value).mean().alias("bad")
    return kept.group_by("answer", "wording").agg(pl.col("aligned").mean(), bad, pl.len().alias("n"))


def _shifts(name: str, pairs: pl.DataFrame, wanted: int, bound: float) -> list[Shift]:
    if 2 * pairs.height < max(1, wanted):
        note = f"{pairs.height} of {wanted} verdicts can be compared, the others failed: drift cannot be told"
        return [Shift(name, measure, None, None, bound, True, note) for measure in MEASURES[:1]]

    def within(suffix: str) -> pl.Expr:
        share, number = pl.col(f"bad{suffix}"), pl.col(f"n{suffix}")
        return pl.when(number > 1).then(2 * share * (1 - share) * number / (number - 1))

    old, new = pl.col("bad"), pl.col("bad_new")
    table = pairs.with_columns(
        (pl.col("aligned_new") - pl.col("aligned")).alias(MEASURES[0]),
        (new - old).alias(MEASURES[1]),
        (old * (1 - new) + new * (1 - old) - (within("") + within("_new")) / 2).alias(MEASURES[2]),
    )
    return [_shift(name, measure, table, bound * (100 if measure == MEASURES[0] else 1)) for measure in MEASURES]


def _shift(name: str, measure: str, table: pl.DataFrame, bound: float) -> Shift:
    known = table.drop_nulls(measure)
    if known.is_empty():
        why = "no repeats on one of the two days" if measure == MEASURES[2] else "no score on one of the two days"
        return Shift(name, measure, None, None, bound, False, f"cannot be told: {why}")
    unit = "question" if known["question"].n_unique() > 1 else "answer"
    values = known.group_by(unit, maintain_order=True).agg(pl.col(measure).mean())[measure].to_list()
    estimate, interval = sum(values) / len(values), mean_over_runs(values)
    beyond_chance = interval is not None and not interval.low <= 0 <= interval.high
    return Shift(name, measure, estimate, interval, bound, beyond_chance and abs(estimate) > bound)
