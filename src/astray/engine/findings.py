"""Rates from an answer table: the judged answers of a study, selected by arm, evaluation, group and format.

Left to others: claims (`claims`).
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from astray.answers import ANSWER_SCHEMA, in_detail
from astray.engine.summary import GoldRow, IntervalRow, RateRow
from astray.errors import EmptyDataError
from astray.judges.patience import SERVED
from astray.outcomes import Outcome
from astray.stats.intervals import Interval
from astray.stats.measures import MISALIGNED, Measure
from astray.stats.rates import Rate, rate, rates

ELSEWHERE, AT_HOME, HELD_OUT = "elsewhere", "trained domain", "held-out questions"

_OF_RATE = (
    "numerator", "denominator", "rate", "unit", "seed_rates", "seed_counts", "outcomes", "coherence", "worst_case"
)  # fmt: skip
"""Fields that a row of the summary has of a rate as they are."""


@dataclass(frozen=True)
class Needs:
    """Arms and analyses to add for something that was left out of this run; false where nothing was left out.

    Attributes:
        arms: to name in `--arms`.
        analyses: to name in `--analyses`.
    """

    arms: tuple[str, ...] = ()
    analyses: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.arms or self.analyses)

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(tuple(dict.fromkeys(self.arms + other.arms)), tuple(dict.fromkeys(self.analyses + other.analyses)))


@dataclass(frozen=True)
class LeftOutRate(Rate):
    """Rate of an arm that was left out of this run: no answers.

    Attributes:
        needs: what to choose for it.
    """

    needs: Needs = Needs()


@dataclass(frozen=True)
class ServedRate(Rate):
    """Rate of an arm, whose grader may have said which model it answered as.

    Attributes:
        served: these models, in order.
        arm: its name.
        evaluation: the evaluation that it is of.
        group: of the questions that count; "" for all.
    """

    served: tuple[str, ...] = ()
    arm: str = ""
    evaluation: str = ""
    group: str = ""


@dataclass(frozen=True)
class Analysed:
    """Artifact of an analysis.

    Attributes:
        name: of the analysis.
        seed: of the training runs that it was made from; None where all seeds share it.
        folder: of the artifact.
    """

    name: str
    seed: int | None
    folder: Path

    def table(self, file: str) -> pl.DataFrame:
        """Return its Parquet table of this name."""
        return pl.read_parquet(self.folder / file)

    def json(self, file: str) -> Any:
        """Return the content of its JSON file of this name."""
        return json.loads((self.folder / file).read_text(encoding="utf-8"))


def interval_row(interval: Interval | None) -> IntervalRow | None:
    """Return an interval as a row of the summary."""
    return None if interval is None else IntervalRow.model_validate(interval, from_attributes=True)


def interval_object(interval: Interval | None) -> dict[str, object] | None:
    """Return an interval as JSON: low, high, level and method."""
    row = interval_row(interval)
    return None if row is None else row.model_dump()


def rate_row(measured: Rate, *, arm: str, evaluation: str, group: str, format: str) -> RateRow:
    """Return a rate as a row of the summary."""
    return RateRow(
        arm=arm,
        evaluation=evaluation,
        group=group,
        format=format,
        interval=interval_row(measured.interval),
        interval_questions=interval_row(measured.interval_questions),
        judge=", ".join(measured.judges),
        gold=None if measured.gold is None else GoldRow.model_validate(measured.gold, from_attributes=True),
        **{name: getattr(measured, name) for name in _OF_RATE},
    )


@dataclass(frozen=True)
class Findings:
    """Judged answers of a study, each with the groups that it belongs to.

    Attributes:
        table: answers with a further column `groups`: the list of groups in which an answer counts.
        not_run: arm that the study declares and that was left out of this run -> what to choose to run it.
        analyses: artifacts of the analyses, in the study's order.
        not_analysed: names of the analyses that were left out.
        measures: name of an evaluation -> its main measure, where that is not `MISALIGNED`.
        untrained: arms that are models as they were given: one run of theirs is all there is.
        margins: rows of evaluations without a rate, such as the meter.
    """

    table: pl.DataFrame
    not_run: Mapping[str, Needs] = field(default_factory=dict)
    analyses: tuple[Analysed, ...] = ()
    not_analysed: tuple[str, ...] = ()
    measures: Mapping[str, Measure] = field(default_factory=dict)
    untrained: frozenset[str] = frozenset()
    margins: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ANSWER_SCHEMA))
    # Dozens of claims and figures ask for the same.
    _tables: dict[str, pl.DataFrame] = field(default_factory=dict, init=False, repr=False, compare=False)
    _rates: dict[tuple[object, ...], Rate] = field(default_factory=dict, init=False, repr=False, compare=False)

    def stacked(self, file: str) -> pl.DataFrame:
        """Return all analyses' Parquet tables of this name, one below the other; empty if there is none."""
        if file not in self._tables:
            parts = [analysis.table(file) for analysis in self.analyses if (analysis.folder / file).is_file()]
            self._tables[file] = pl.concat(parts, how="diagonal") if parts else pl.DataFrame()
        return self._tables[file]

    def analysed(self, name: str) -> tuple[Analysed, ...]:
        """Return the artifacts of an analysis, one a seed; none where it was left out."""
        return tuple(analysis for analysis in self.analyses if analysis.name == name)

    def select(self, arm: str, group: str | None, *, evaluation: str, format: str = "plain") -> pl.DataFrame:
        """Return the answers of an arm in a group, or in all (None); format "all" takes every format.

        Raises:
            EmptyDataError: there are none.
        """
        chosen = self.table.filter(
            pl.col("arm") == arm,
            pl.col("evaluation") == evaluation,
            pl.lit(group is None) | pl.col("groups").list.contains(pl.lit(group)),
            pl.lit(format == "all") | (pl.col("format") == format),
        )
        if chosen.is_empty():
            raise EmptyDataError(
                f"The study has no answers of {arm!r} to {evaluation!r} in the group {group or 'all'!r} and format {format!r}."
            )
        return chosen

    def rate(
        self,
        arm: str,
        group: str | None = ELSEWHERE,
        *,
        evaluation: str,
        format: str = "plain",
        items: Collection[str] | None = None,
        measure: Measure | None = None,
    ) -> Rate:
        """Return the rate of an arm in a group; without any answer if the arm was left out of this run.

        Args:
            arm: its name.
            group: of answers; None counts all.
            evaluation: its name.
            format: of the answers, or "all".
            items: ids of the questions that count; None counts all.
            measure: numerator and denominator of the rate; by default the evaluation's main measure.

        Raises:
            EmptyDataError: the arm was run and has no such answers, or there is no such arm.
        """
        if arm in self.not_run:
            return LeftOutRate(0, 0, None, None, "answer", (), dict.fromkeys(Outcome, 0), {}, needs=self.not_run[arm])
        asked = (arm, group, evaluation, format, None if items is None else frozenset(items), repr(measure))
        if asked not in self._rates:
            measured, served = self._count(arm, group, evaluation, format, items, measure)
            trained = arm not in self.untrained
            fields: dict[str, Any] = {**vars(measured), "trained": trained, "served": served}
            self._rates[asked] = ServedRate(**fields, arm=arm, evaluation=evaluation, group=group or "")
        return self._rates[asked]

    def _count(
        self,
        arm: str,
        group: str | None,
        evaluation: str,
        format: str,
        items: Collection[str] | None,
        measure: Measure | None,
    ) -> tuple[Rate, tuple[str, ...]]:
        """Return a rate, and the models that its grader answered as."""
        known = None
        if group is not None and items is None and measure is None:
            known = self._counted.get((arm, evaluation, group, format))
        if known is not None and not self._names_graders:
            return known, ()
        answers = self.select(arm, group, evaluation=evaluation, format=format)
        chosen = answers if items is None else answers.filter(pl.col("item").is_in(list(items)))
        names = chosen.select(in_detail(SERVED))[SERVED].drop_nulls().unique() if self._names_graders else ()
        served = tuple(sorted({model for models in names for model in models.split(", ")}))
        return known or rate(chosen, measure or self.measures.get(evaluation, MISALIGNED)), served

    def has(self, arm: str) -> bool:
        """Return whether the study ran this arm."""
        return arm in self.arms

    def declares(self, arm: str) -> bool:
        """Return whether the study has this arm in its setting, run or left out."""
        return self.has(arm) or arm in self.not_run

    def needs(self, *arms: str, analyses: Collection[str] = ()) -> Needs:
        """Return what to choose for those of these arms and analyses that were left out."""
        missing = Needs(analyses=tuple(name for name in analyses if name in self.not_analysed))
        for arm in arms:
            missing |= self.not_run.get(arm, Needs())
        return missing

    @property
    def arms(self) -> tuple[str, ...]:
        """Return the names of the arms that were run."""
        return tuple(
            dict.fromkeys(
                [*self.table["arm"].unique(maintain_order=True), *self.margins["arm"].unique(maintain_order=True)]
            )
        )

    def rate_rows(self) -> tuple[RateRow, ...]:
        """Return every rate: arm x evaluation x group x format, and all formats together where there are several."""
        order = {arm: index for index, arm in enumerate(self.arms)}
        rows = [
            rate_row(rate, arm=arm, evaluation=evaluation, group=group, format=form)
            for (arm, evaluation, group, form), rate in self._counted.items()
        ]
        return tuple(sorted(rows, key=lambda row: (row.evaluation, order[row.arm], row.group, row.format)))

    @cached_property
    def _counted(self) -> Mapping[tuple[str, str, str, str], Rate]:
        """The rates of `rate_rows` by arm, evaluation, group and format, counted in one pass: most claims are about
        one of them."""
        long = self.table.explode("groups").rename({"groups": "group"}).with_columns(pl.col("format").alias("shown"))
        by = ["arm", "evaluation", "group"]
        several = long.group_by(by).agg(pl.col("format").n_unique().alias("formats")).filter(pl.col("formats") > 1)
        # A row "all" only where there are several formats: with one it would repeat the rate.
        joined = long.join(several, on=by).with_columns(pl.lit("all").alias("shown")).drop("formats")
        return {
            (str(arm), str(name), str(group), str(form)): rate
            for (evaluation,), part in pl.concat([long, joined]).group_by("evaluation", maintain_order=True)
            for (arm, name, group, form), rate in rates(
                part, [*by, "shown"], self.measures.get(str(evaluation), MISALIGNED)
            ).items()
        }

    @cached_property
    def _names_graders(self) -> bool:
        """Whether a grader has said which model it answered as."""
        return "detail" in self.table.columns and self.table.select(in_detail(SERVED).is_not_null().any()).item()
