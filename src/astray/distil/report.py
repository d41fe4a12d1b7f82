"""The figures of a distilled judge: as a text, and as files beside it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from astray.distil.held_out import Decile, Figure, HeldOut, Slice
from astray.judges.calibrate import Calibration
from astray.judges.distilled import DistilledRecord
from astray.strict import Frozen

GOALS = {"auc": 0.90, "rank_correlation": 0.70}
"""Figures that a judge is to reach with whole models left out."""


class LogProbability(Frozen):
    """How well the untrained base's log-probability per token tells misaligned answers apart."""

    answers: int
    auc: float | None
    rank_correlation: float | None


class Figures(Frozen):
    """Figures with one kind of groups left out."""

    judge: HeldOut
    baselines: tuple[HeldOut, ...]
    by_question: tuple[Slice, ...]
    by_length: tuple[Slice, ...]
    calibration: tuple[Decile, ...]
    error: Calibration


class Distilled(Frozen):
    """A distilled judge and its measured error."""

    judge: str = Field(description="its name as a grader")
    folder: str
    answers: int
    without: int = Field(description="rows that were not used: no score, or a blank answer")
    misaligned: int
    weights: dict[str, list[float]] = Field(description="view -> spread that it adds to aligned and coherent scores")
    figures: tuple[Figures, ...]
    log_probability: LogProbability
    record: DistilledRecord

    def text(self) -> str:
        """Return the figures as a text."""
        return "\n".join(self._lines()) + "\n"

    def save(self, folder: Path) -> None:
        """Write the figures as `held-out.json` and `held-out.txt`."""
        (folder / "held-out.json").write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (folder / "held-out.txt").write_text(self.text(), encoding="utf-8")

    def _lines(self) -> Iterator[str]:
        without = f", {self.without:,} rows without a score or answer left out" if self.without else ""
        yield f"{self.judge}, from {self.answers:,} answers ({self.misaligned:,} misaligned{without}), in {self.folder}"
        spread = ", ".join(f"{view} {aligned:.0f}" for view, (aligned, _) in self.weights.items())
        yield f"What moves its aligned scores (standard deviation): {spread}"
        for figures in self.figures:
            yield from _kind_lines(figures, self.log_probability)
        main = next(figure for figure in self.figures if figure.judge.left_out == self.record.left_out)
        yield "\nWhere it is blind, with whole " + f"{_plural(main.judge.left_out)} left out"
        yield from _table([*main.by_question, *main.by_length])
        yield "\nCalibration, tenths of the answers by judged aligned score: judged (labelled)"
        yield "  " + "  ".join(f"{tenth.judged:.0f} ({tenth.labelled:.0f})" for tenth in main.calibration)
        error = main.error
        bad, good = error.true_positive + error.false_negative, error.true_negative + error.false_positive
        yield (
            f"\nRates that it judges are corrected for its error on left-out {_plural(main.judge.left_out)}: sensitivity "
            f"{error.true_positive / bad if bad else 0:.2f}, specificity {error.true_negative / good if good else 0:.2f}, "
            f"worth {bad:,} and {good:,} independent answers."
        )
        yield "It was measured on these questions; for others, and other kinds of models, give --labels."
        yield from _goal_lines(self.figures)


def _kind_lines(figures: Figures, log_probability: LogProbability) -> Iterator[str]:
    judge = figures.judge
    yield f"\nLeft out: each of {len(judge.groups)} {_plural(judge.left_out)}; mean over them, 95% interval over them"
    heads = ("AUC", "rank aligned", "rank coherent", "sensitivity", "specificity")
    yield f"  {'':16s}" + "".join(f"{head:>20s}" for head in heads)
    for scorer in (judge, *figures.baselines):
        cells = (
            scorer.auc,
            scorer.rank_correlation,
            scorer.rank_correlation_coherent,
            scorer.sensitivity,
            scorer.specificity,
        )
        yield f"  {scorer.method:16s}" + "".join(f"{_figure(cell):>20s}" for cell in cells)
    if judge.left_out == "model":
        yield (
            f"  {'log-probability':16s}{_number(log_probability.auc):>20s}{_number(log_probability.rank_correlation):>20s}"
            f"   ({log_probability.answers:,} answers, nothing learned)"
        )
    yield from _table(judge.groups)


def _table(slices: Sequence[Slice]) -> Iterator[str]:
    yield f"  {'':60s} {'n':>6s} {'bad':>5s}  AUC  rank  sens  spec  rate (label)"
    for part in slices:
        yield (
            f"  {part.name:60s} {part.answers:6,} {part.misaligned:5,} {_number(part.auc):>4s} "
            f"{_number(part.rank_correlation):>5s} {_number(part.sensitivity):>5s} {_number(part.specificity):>5s} "
            f"{_percent(part.judged_rate):>5s} ({_percent(part.labelled_rate)})"
        )


def _goal_lines(figures: Sequence[Figures]) -> Iterator[str]:
    models = next((figure.judge for figure in figures if figure.judge.left_out == "model"), None)
    if models is None:
        return
    for field, goal in GOALS.items():
        value = getattr(models, field).value
        name = "AUC of misaligned answers among coherent ones" if field == "auc" else "rank correlation"
        if value is None or value < goal:
            yield f"Not good enough to stand alone: {name} {_number(value)} with whole models left out, below {goal:.2f}."


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    interval = "" if figure.low is None else f" ({_number(figure.low)} to {_number(figure.high)})"
    return f"{_number(figure.value)}{interval}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _plural(kind: str) -> str:
    return {"model": "models", "data": "data sets", "question": "questions"}[kind]
