"""Random sample of answers for a gold judge, whose verdicts complement those of the cheap judge.

The sample of a run is drawn evenly over the questions of each evaluation, every answer with the same probability. Left
to others: rates of both judges together (stats/prediction_powered.py).
"""

import math
import random
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from pydantic import Field

from astray.answers import in_detail, read_answers, read_detail, write_detail
from astray.artifacts import Artifact, step
from astray.engine.judging import ANSWERS_FILE, judge_into
from astray.engine.summary import RateRow
from astray.errors import ConfigurationError
from astray.judges.config import JudgeConfig
from astray.judges.distilled import is_distilled
from astray.judges.rescore import WITHOUT_ANSWER
from astray.measure.evaluation import QuestionSet
from astray.measure.interface import Evaluation
from astray.outcomes import Outcome
from astray.stats.measures import MISALIGNED
from astray.stats.rates import Rate
from astray.strict import Frozen, left_out
from astray.subjects.locate import graders_known_as

GOLD, GOLD_JUDGE = "gold", "gold_judge"
"""Fields of a judged answer's `detail`: the outcome by the gold judge, and that judge's identity."""
FEWEST = 30
"""Gold verdicts of an arm and evaluation below which no rate is made of them."""
_FOLDER = "gold"
"""Folder of the artifact with the whole verdicts of the gold judge."""


@dataclass(frozen=True)
class Gold:
    """A gold judge, and how many answers of each arm to each set of questions it reads.

    Attributes:
        judge: the gold judge.
        answers: of an arm to a set of questions.
        most: training runs an arm that there may be, where their number is not fixed.
        enlarged: arm -> answers of each of its runs where looks enlarged its sample, after each draw.
    """

    judge: JudgeConfig
    answers: int
    most: int | None = None
    enlarged: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def of_run(self, runs: int, evaluations: Iterable[Evaluation], arm: str) -> int:
        """Return how many answers of one run to each set of questions are read.

        An arm with one run beside others with several has all of its answers read where the sample is larger.

        Raises:
            ConfigurationError: there are not so many answers, or the sample would be too small.
        """
        per_run, single, sets = math.ceil(self.answers / runs), runs < (self.most or runs), sets_of(evaluations)
        for questions in sets:
            least = max(FEWEST, len(questions.items))
            if self.answers < least:
                raise ConfigurationError(
                    f"--gold {self.answers} is too few: {questions.name!r} has {len(questions.items)} questions, and a rate needs "
                    f"at least {least} answers that the gold grader read. Write --gold {least} or more."
                )
            if per_run > questions.answers and not single:
                raise ConfigurationError(
                    f"--gold {self.answers} is more than there is: the arm {arm!r} has {runs * questions.answers} answers to "
                    f"{questions.name!r}. Write --gold {runs * questions.answers} or fewer, or ask for more (--samples)."
                )
        return min(per_run, max(questions.answers for questions in sets)) if single and sets else per_run


def gold_named(answers: int | None, gold_grader: str | None, grader: str) -> Gold | None:
    """Return the gold judge that `--gold` and `--gold-grader` name beside a `--grader`, if they do.

    Raises:
        ConfigurationError: a sample without a grader or the other way round, the same grader twice, or a distilled judge,
            whose verdicts are not right.
    """
    if answers is None and gold_grader is None:
        return None
    if answers is None or gold_grader is None:
        raise ConfigurationError(
            "--gold and --gold-grader belong together: how many answers of each arm a second grader reads, and which one "
            "it is. Write for example: --grader astray/judge/mine --gold 200 --gold-grader openai/gpt-4o"
        )
    if gold_grader == grader:
        raise ConfigurationError(
            f"--gold-grader {gold_grader} is --grader too, which reads every answer already. Name a cheaper or "
            "free model as --grader, or leave --gold out."
        )
    if is_distilled(gold_grader):
        raise ConfigurationError(
            f"--gold-grader {gold_grader} is a distilled judge, whose verdicts are not right. Name a model whose verdicts "
            "you trust, and the distilled judge as --grader."
        )
    return Gold(JudgeConfig(kind="rubric", grader=gold_grader, server=graders_known_as(gold_grader)), answers)


class GoldConfig(Frozen):
    """Gold judge, and the sample of one run that it reads."""

    judge: JudgeConfig
    answers: int = Field(ge=1, description="answers to each set of questions")
    seed: int = Field(description="of the draw")
    before: tuple[int, ...] = Field((), description="answers after each earlier draw, which this sample holds")
    _keys = left_out(before=())


def drawn(table: pl.DataFrame, answers: int, seed: int, before: Sequence[int] = ()) -> list[int]:
    """Return the indices of the rows that the gold judge reads, evenly over the questions.

    Every answer of an evaluation has the same probability: each n-th of them, sorted by question and in random order
    within it, from a random first one on. A sample that is enlarged holds what was drawn `before`, and more is drawn in
    the same way from the rest, so every answer is as likely in the whole sample too.
    """
    generator = random.Random(seed)
    candidates = [
        (format, item, generator.random(), index)
        for index, (format, item, outcome) in enumerate(table.select("format", "item", "outcome").iter_rows())
        if outcome not in WITHOUT_ANSWER
    ]
    order = [index for *_, index in sorted(candidates)]
    chosen: list[int] = []
    for size in (*before, answers):
        further = min(size - len(chosen), len(order))
        stride, first = len(order) / max(1, further), generator.random()
        # Systematic sampling: one candidate in each stride, so that every question has its share.
        positions = {int((first + number) * stride) for number in range(further)}
        chosen += [order[position] for position in positions]
        order = [index for position, index in enumerate(order) if position not in positions]
    return sorted(chosen)


@step("judge-gold", version=1, resumable=True)
def judge_gold(config: GoldConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Let the gold judge read a random sample of the answers; its verdicts are added to the table."""
    from astray.measure.evaluations import evaluation_from

    table, verdicts_folder = read_answers(inputs["verdicts"].path / ANSWERS_FILE), folder / _FOLDER
    # As in the step of the cheap verdicts, evaluations stand in the origin of the answers.
    answers_config = inputs["answers"].manifest.origin.config
    asked = answers_config.get("evaluations", [answers_config.get("evaluation")])
    evaluations = sets_of(map(evaluation_from, asked if isinstance(asked, list) else []))
    chosen = [index for evaluation in evaluations for index in _of(table, evaluation.name, config)]
    verdicts_folder.mkdir(exist_ok=True)
    begun = verdicts_folder / ANSWERS_FILE
    # As though nobody had judged them: `judge_into` keeps verdicts that it finds.
    unread = table[chosen].with_columns(
        pl.lit(Outcome.NOT_JUDGED.value).alias("outcome"),
        *(pl.lit(None, pl.Float64).alias(name) for name in ("aligned", "coherent")),
        *(pl.lit("").alias(name) for name in ("judge", "note")),
    )
    left = judge_into(
        verdicts_folder, read_answers(begun) if begun.is_file() else unread, evaluations, config.judge, inputs
    )
    rows = table.to_dicts()
    for index, row in zip(chosen, read_answers(begun).iter_rows(named=True), strict=True):
        gold_fields = {GOLD: row["outcome"], GOLD_JUDGE: row["judge"]}
        rows[index]["detail"] = write_detail(read_detail(rows[index]["detail"]) | gold_fields)
    pl.DataFrame(rows, schema=table.schema).write_parquet(folder / ANSWERS_FILE)
    return left


def sets_of(evaluations: Iterable[Evaluation]) -> list[QuestionSet]:
    """Return the sets of free-form questions, of which alone a gold judge reads answers."""
    return [asked for asked in evaluations if isinstance(asked, QuestionSet) and asked.measures[0] == MISALIGNED]


def with_gold(table: pl.DataFrame) -> pl.DataFrame:
    """Return the table with the gold judge's outcomes as a column, from which rates use both judges."""
    return table.with_columns(in_detail(GOLD).alias(GOLD))


def gold_notes(rates: Iterable[RateRow | Rate], gold: Gold | None) -> Iterator[str]:
    """Yield notes on rates by two judges, with the measured gain."""
    if gold is None:
        return
    gains = [row.gain for rate in rates if (row := rate.gold)]
    gained = (
        f"On these answers the cheap judge made a gold verdict worth {min(gains):.2f} to {max(gains):.2f} of them, "
        f"{statistics.median(gains):.2f} in the middle."
        if gains
        else "It gave no usable verdict, so that rates are those of the cheap judge."
    )
    up_to = "up to " if gold.most else ""  # at a look it is the part of the runs that were made
    yield (
        f"{gold.judge.grader} read {up_to}{gold.answers:,} answers of each arm to each set of questions, drawn at random, "
        f"and all others were read by the cheap judge alone. Rates, intervals and claims are those of the gold judge "
        f"(prediction-powered inference); counts of outcomes are the cheap judge's. {gained}"
    )


def _of(table: pl.DataFrame, evaluation: str, config: GoldConfig) -> list[int]:
    """Return which rows of the whole table are drawn for one evaluation."""
    of_evaluation = [index for index, name in enumerate(table["evaluation"]) if name == evaluation]
    return [of_evaluation[index] for index in drawn(table[of_evaluation], config.answers, config.seed, config.before)]
