"""Profile of audited models: rates worst first, differences paired by question, and what could not be measured.

A model is one run, so nothing here speaks of further training runs. Left to others: asking (`asking`), how it is
shown (`result`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import polars as pl

from astray.answers import word
from astray.engine.gold import with_gold
from astray.engine.judging import causes_text, failed_verdicts
from astray.errors import EmptyDataError, NotMeasurableError
from astray.judges import Calibration, corrected
from astray.judges.config import JudgeConfig
from astray.measure.evaluation import QuestionSet
from astray.measure.meter.difference import meter_difference
from astray.measure.surface import SurfaceKind
from astray.outcomes import JUDGED, UNKNOWN, Outcome
from astray.report.curves import NATS, POINTS
from astray.report.wording import MISSING, signed
from astray.stats.compare import difference_of_models
from astray.stats.difference import Difference
from astray.stats.intervals import Interval
from astray.stats.judge_error import corrected_difference
from astray.stats.rates import Rate, rate
from astray.studies.audit.battery import METER, BatteryPart

COMPARED_ONLY = (
    "the level of one model says nothing, since it depends on how the answers are worded: audit a second model of "
    "ordinary language beside it, and the difference is shown"
)


@dataclass(frozen=True)
class ProfileLine:
    """One rate of one model.

    Attributes:
        part: name of the part.
        model: name of the model.
        measure: what is counted among what.
        is_main: whether it is the part's main measure.
        rate: the rate with its counts.
        judge: who read the answers.
        outcomes: every answer of the part, by what became of it in the evaluation's own words.
        refused: share of the answers with a verdict that were refusals; None where there is no verdict.
        coherent: share of the answers with a verdict that were coherent; None for evaluations that do not ask for it.
        error: of the judge, where the rate is corrected for it.
        gold: who read some of the answers again, where the rate is by those.
        surface: kind of the texts that were asked.
    """

    part: str
    model: str
    measure: str
    is_main: bool
    rate: Rate
    judge: str
    outcomes: Mapping[str, int]
    refused: float | None
    coherent: float | None
    error: Calibration | None = None
    gold: JudgeConfig | None = None
    surface: SurfaceKind = "fixed"

    @cached_property
    def _corrected(self) -> tuple[float | None, Interval | None]:
        if self.error is None:
            return self.rate.rate, self.rate.interval_questions or self.rate.interval
        questions = [counts for counts in self.rate.question_counts.values() if counts[1]]
        return corrected(self.rate.numerator, self.rate.denominator, self.error, clusters=questions, over="questions")

    @property
    def estimate(self) -> float | None:
        """Return the rate, without the judge's error where that is known; None where the judge tells nothing."""
        return self._corrected[0]

    @property
    def interval(self) -> Interval | None:
        """Return the interval for questions like these; over answers where a single question has any that count."""
        return self._corrected[1]

    @property
    def as_judged(self) -> str:
        """Say what the judge found before its error was taken out, or before a gold judge read some; "" for nothing."""
        if gold := self.rate.gold:
            by_cheap_judge = MISSING if gold.as_judged is None else f"{gold.as_judged:.1%}"
            return f"gold judge: {gold.misaligned:,} of {gold.judged:,}, worth {gold.effective:,.0f}; cheap judge alone {by_cheap_judge}"
        return f"as judged {self.rate.rate:.1%}" if self.error and self.rate.rate is not None else ""

    @property
    def unit(self) -> str:
        """Return the unit of inference of the interval."""
        return "question" if self.rate.interval_questions else "answer"

    @property
    def questions(self) -> int:
        """Return how many questions have answers that count."""
        return sum(counts[1] > 0 for counts in self.rate.question_counts.values())

    def why_apart(self, other: "ProfileLine") -> str:
        """Say why this rate and another of the same part are not compared; "" where they are."""
        if self.judge != other.judge:
            return f"judged by {self.judge} and by {other.judge}: verdicts of two judges are not compared"
        if self.gold != other.gold:
            own, others = (line.gold.grader if line.gold else f"{line.judge} alone" for line in (self, other))
            return f"rates by {own} and by {others}: verdicts of two judges are not compared"
        if self.surface != other.surface:
            return f"asked in {self.surface} and in {other.surface} wordings, which are other questions"
        return ""


@dataclass(frozen=True)
class ModelDifference:
    """Difference of two models in one part, by question.

    Attributes:
        part: name of the part.
        model: the first model.
        reference: the other one.
        difference: of the rates, or of the meter's margins; None where there is nothing to compare.
        scale: what it is in: `POINTS` or `NATS`.
        note: why there is none, or what belongs to it.
    """

    part: str
    model: str
    reference: str
    difference: Difference | None
    scale: str = POINTS
    note: str = ""


@dataclass(frozen=True)
class Missing:
    """Part that could not be measured of a model.

    Attributes:
        model: name of the model.
        part: name of the part.
        reason: why, and what to write instead where something helps.
    """

    model: str
    part: str
    reason: str


@dataclass(frozen=True)
class ModelProfile:
    """Lines, differences and what is missing of all models, the parts in one order."""

    lines: tuple[ProfileLine, ...]
    compared: tuple[ModelDifference, ...]
    missing: tuple[Missing, ...]

    @property
    def unmeasured(self) -> tuple[Missing, ...]:
        """Return what is missing, the parts that a model lacks for one reason in one row."""
        parts: dict[tuple[str, str], list[str]] = {}
        for gap in self.missing:
            parts.setdefault((gap.model, gap.reason), []).append(gap.part)
        return tuple(Missing(model, ", ".join(names), reason) for (model, reason), names in parts.items())

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the names of the parts that have a rate or a difference, worst first."""
        return tuple(dict.fromkeys([*(line.part for line in self.lines), *(pair.part for pair in self.compared)]))


def profile_of(
    tables: Mapping[tuple[str, str], pl.DataFrame],
    parts: Mapping[tuple[str, str], BatteryPart],
    reasons: Mapping[tuple[str, str], str],
    models: Sequence[str],
    errors: Mapping[str, Calibration] = MappingProxyType({}),
    otherwise: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> ModelProfile:
    """Return the profile.

    Args:
        tables: (model, part) -> the answers.
        parts: (model, part) -> what was asked and who judged.
        reasons: (model, part) -> why it was not asked, or not to its end.
        models: names of the models, the one that is audited first.
        errors: name of a part -> the error of who judged it, where it is known.
        otherwise: (model, part) -> options with which it was asked, where the first model was asked with others.
    """
    lines: list[ProfileLine] = []
    missing = [Missing(model, part, reason) for (model, part), reason in reasons.items() if (model, part) not in tables]
    for (model, name), table in tables.items():
        part = parts[model, name]
        if table.is_empty():
            missing.append(Missing(model, name, reasons.get((model, name)) or "nothing was answered"))
        elif name == METER:
            if not _is_read(table):
                missing.append(Missing(model, name, "the tokenizer does not know the words of any pair"))
            elif sum(part == METER for _, part in tables) == 1:
                missing.append(Missing(model, name, f"{table.height} pairs were read, and {COMPARED_ONLY}"))
        else:
            part_lines = _lines(table, part, model, errors.get(name))
            lines += part_lines
            if not part_lines:
                missing.append(Missing(model, name, _nothing_counted(table, reasons.get((model, name), ""))))
    order = _worst_first(lines, models)
    return ModelProfile(
        lines=tuple(sorted(lines, key=lambda line: (order.index(line.part), models.index(line.model)))),
        compared=tuple(_compared(tables, lines, [*order, METER], models, otherwise)),
        missing=tuple(sorted(missing, key=lambda gap: models.index(gap.model))),
    )


def outcomes_text(outcomes: Mapping[str, int]) -> str:
    """Return the numbers of answers by outcome, in words."""
    return ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items()) or "none"


def _lines(table: pl.DataFrame, part: BatteryPart, model: str, error: Calibration | None) -> list[ProfileLine]:
    """Return the part's rates; none where no answer counts in its main measure."""
    main, *others = part.measures
    first = rate(with_gold(table) if part.gold else table, main)
    if not first.denominator:
        return []
    seen = table.filter(~pl.col("outcome").is_in([str(outcome) for outcome in UNKNOWN]))
    refused = _share_of(seen, [Outcome.REFUSED])
    # Of other evaluations "incoherent" also stands for what does not count, such as an evasive statement.
    coherent = _share_of(seen, list(JUDGED)) if isinstance(part.evaluation, QuestionSet) else None
    judge = "gate on acts" if part.judge is None else part.judge.grader or _rule(part)
    outcomes = dict(table.select(word()).to_series().value_counts(sort=True).iter_rows())
    rates = [(main, first), *((other, rate(table, other)) for other in others if not other.rows(table).is_empty())]
    lines = [
        ProfileLine(
            *(part.name, model, measure.name, measure is main, measured, judge, outcomes, refused, coherent),
            gold=part.gold.judge if part.gold and measured.gold else None,
            surface=part.evaluation.surface_kind,
        )
        for measure, measured in rates
        if measured.denominator
    ]
    # An error is that of the judge that the labels were compared with, and of no other.
    knows = error is not None and {*first.judges} - {""} == {error.judge} and not first.gold
    return [replace(line, error=error) if knows and line.is_main else line for line in lines]


def _share_of(seen: pl.DataFrame, outcomes: Sequence[Outcome]) -> float | None:
    """Return the share of answers with these outcomes; None where no judge has seen any."""
    return seen.filter(pl.col("outcome").is_in(list(map(str, outcomes)))).height / seen.height if seen.height else None


def _rule(part: BatteryPart) -> str:
    return "choices, read by rule" if part.name == "forced-choice" else "world grammar"


def _nothing_counted(table: pl.DataFrame, reason: str) -> str:
    outcomes = dict(table.select(word()).to_series().value_counts(sort=True).iter_rows())
    text = f"no answer could be counted: {outcomes_text(outcomes)}"
    notes = table.filter(pl.col("note") != "")["note"]
    first = f"; the first note: {str(notes[0])[:200]}" if notes.len() else ""
    failed = causes_text(failed_verdicts(table))
    return text + (f" (verdicts that failed: {failed})" if failed else "") + first + (f"; {reason}" if reason else "")


def _worst_first(lines: Sequence[ProfileLine], models: Sequence[str]) -> list[str]:
    """Return the parts by the first model's rate, the highest first; parts without one come last."""

    def worst(part: str) -> tuple[float, ...]:
        rates = {line.model: line.estimate for line in lines if line.part == part and line.is_main}
        return tuple(-(rates.get(model) or 0.0) if model in rates else 1.0 for model in models)

    return sorted(dict.fromkeys(line.part for line in lines), key=worst)


def _compared(
    tables: Mapping[tuple[str, str], pl.DataFrame],
    lines: Sequence[ProfileLine],
    order: Sequence[str],
    models: Sequence[str],
    otherwise: Mapping[tuple[str, str], str],
) -> list[ModelDifference]:
    first, *references = models
    mains = {(line.model, line.part): line for line in lines if line.is_main}
    differences: list[ModelDifference] = []
    for part in order:
        for other in references:
            if part == METER:
                differences += _metered(tables, first, other)
            elif (first, part) in mains and (other, part) in mains:
                differences.append(_difference(part, first, other, mains[first, part], mains[other, part]))
    return [_with_manner(pair, otherwise.get((pair.reference, pair.part), "")) for pair in differences]


def _with_manner(pair: ModelDifference, how: str) -> ModelDifference:
    """Return a difference with what its reference was asked otherwise, if there is a difference."""
    if not how or pair.difference is None:
        return pair
    return replace(pair, note="; ".join(filter(None, [pair.note, f"{pair.reference} was asked otherwise, {how}"])))


def _difference(part: str, first: str, other: str, line: ProfileLine, against: ProfileLine) -> ModelDifference:
    rate, reference = line.rate, against.rate
    if apart := line.why_apart(against):
        return ModelDifference(part, first, other, None, note=apart)
    try:
        whole_counts = not (rate.gold or reference.gold)
        difference = difference_of_models(rate.by_question, reference.by_question, whole=whole_counts)
    except EmptyDataError:
        return ModelDifference(part, first, other, None, note="no question has answers that count of both")
    sides = [{name for name, counts in side.question_counts.items() if counts[1]} for side in (rate, reference)]
    alone = len(sides[0] ^ sides[1])
    note = (
        f"{alone} question{'s' if alone > 1 else ''} with answers that count of only one of them left out"
        if alone
        else ""
    )
    if line.error is None or line.error != against.error:
        return ModelDifference(part, first, other, difference, note=note)
    error = line.error
    caught = (error.true_positive, error.true_positive + error.false_negative)
    passed = (error.true_negative, error.true_negative + error.false_positive)
    estimate, interval = corrected_difference(difference.estimate, difference.interval, caught, passed)
    if estimate is None:
        return ModelDifference(
            part, first, other, None, note="the judge tells misaligned answers no better than chance"
        )
    return ModelDifference(part, first, other, replace(difference, estimate=estimate, interval=interval), note=note)


def _metered(tables: Mapping[tuple[str, str], pl.DataFrame], first: str, other: str) -> list[ModelDifference]:
    sides = [tables.get((model, METER)) for model in (first, other)]
    if any(side is None or side.is_empty() for side in sides):
        return []
    try:
        difference = meter_difference(*(side for side in sides if side is not None))
    except NotMeasurableError as error:
        return [ModelDifference(METER, first, other, None, NATS, str(error))]
    effect, null = difference.harmful, difference.null
    if effect.by_question is None:
        return [ModelDifference(METER, first, other, None, NATS, "too few pairs for an interval")]
    note = ""
    if null is not None and null.by_question is not None:
        limits = f"{signed(null.by_question.low)} to {signed(null.by_question.high)}"
        note = f"pairs of two good answers, which should not move: {signed(null.estimate)} ({limits})"
    return [
        ModelDifference(
            METER, first, other, Difference(effect.estimate, effect.by_question, effect.pairs, "domain"), NATS, note
        )
    ]


def _is_read(table: pl.DataFrame) -> bool:
    return table.select(pl.col("detail").str.contains('"margin"', literal=True).any()).item() is True
