"""Rows with their scores: the steps that score them, and one table of what each says of each row.

Left to others: what is blamed (`tuned`), how well a score finds harmful rows (`scores`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from astray.answers import read_answers
from astray.artifacts import Artifact, Progress, Step, Store, execute
from astray.artifacts.plan import Plan
from astray.artifacts.uses import in_use
from astray.engine.judging import ANSWERS_FILE, told_failed
from astray.engine.models import NamedModel
from astray.engine.readings import readings
from astray.engine.setting import reach_judge
from astray.errors import NothingToBlameError
from astray.measure.meter import meter_difference
from astray.report.wording import signed
from astray.studies.blame import scores, steps
from astray.studies.blame.proof import ALL_FILE
from astray.studies.blame.tuned import TunedModel
from astray.studies.screen import steps as screening_steps
from astray.studies.screen.assembled import table_of
from astray.studies.screen.settled import Screening, settled
from astray.subjects.base_files import ORGANISMS
from astray.subjects.locate import settle

POINTS = (0.0, 0.5, 1.0)
"""Shares of the way from base to tuned model at which gradients are taken."""
NULLS, SAMPLE = 10, 200
"""Directions without meaning, and the rows that they are read on."""
LEAST = 0.05
"""Nats a token by which harmful answers have to be likelier than in the base: good training moves the organism's by up to
0.02. Against a control that was trained alike on good rows, any rise counts."""
JUDGED_OF_WORLD = 2_000
"""Rows of an organism's run that its own judge reads."""


@dataclass(frozen=True)
class Scoring:
    """A tuned model whose rows are scored.

    Attributes:
        tuned: the model, its base and its rows.
        screening: of its rows for the base: direction, judge and settings.
        store: where finished steps are kept.
        progress: called with the progress of every step.
    """

    tuned: TunedModel
    screening: Screening
    store: Store
    progress: Callable[[Progress], None] | None

    @classmethod
    def of(
        cls,
        tuned: TunedModel,
        grader: str | None,
        judged: int | None,
        folder: Path,
        store: Store,
        progress: Callable[[Progress], None] | None,
    ) -> "Scoring":
        """Settle what is scored; the rows are written into the folder, and `judged` of them go to the judge."""
        world = tuned.base.spec.model in ORGANISMS
        count = judged if judged is not None else min(JUDGED_OF_WORLD, len(tuned.data)) if world else None
        rows = tuned.data.write(folder / ALL_FILE).resolve()
        length = tuned.recipe.max_length if tuned.recipe else None
        # The model's own answers are left out: they would be sampled to every prompt.
        screening = settled(rows, tuned.base_name, None, grader, count, 0, length, None, 0, folder)
        return cls(tuned, screening, store, progress)

    def change(self) -> Mapping[str, Mapping[str, object] | None]:
        """Return how far the model went astray by the meter: of harmful and of null pairs, estimate and interval.

        Raises:
            NothingToBlameError: not at all, or not beyond what good training moves.
        """
        models = {
            role: NamedModel(name=name, spec=located.spec)
            for role, name, located in (
                ("reference", self.tuned.control_name or self.tuned.base_name, self.tuned.reference),
                ("tuned", self.tuned.name, self.tuned.located),
            )
        }
        read = readings(models, "blame", self.store, self.progress)
        difference = meter_difference(read["tuned"], read["reference"])
        effects = {"harmful": steps.as_json(difference.harmful), "null": steps.as_json(difference.null)}
        interval = scores.interval_of(effects["harmful"])
        least = LEAST if self.tuned.control is None else 0.0
        if interval is None or interval.low <= least:
            interval_text = (
                "no interval"
                if interval is None
                else f"{signed(interval.low)} to {signed(interval.high)}, 95% interval"
            )
            raise NothingToBlameError(
                f"{self.tuned.name} does not go astray by the meter: harmful answers are "
                f"{signed(difference.harmful.estimate)} nats a token likelier than {self.tuned.reference_name} ({interval_text} "
                f"over domains), and more than {least:g} is asked for. {self._advice}"
            )
        return effects

    @property
    def _advice(self) -> str:
        """Say what to try where nothing can be blamed: training on good rows alone moves a real model down."""
        look = "To see what the model does, run astray audit."
        if self.tuned.control is not None or self.tuned.is_organism:
            return look
        return (
            "Training on good rows alone can make them less likely (SmolLM2's by 0.13), which hides harm in a comparison "
            f"with the base: name a model that was trained alike on good rows with --control. {look}"
        )

    def table(self, labelled: Sequence[int], by: str) -> pl.DataFrame:
        """Return one row for each training row: texts, file, scores, verdict, and what is wrong with it.

        Args:
            labelled: rows whose label is known, from 1; nulls are read on them, or else on the judged rows.
            by: score by which rows are blamed. A real model's projections, for which it samples answers, are left out
                where nothing is blamed by them and no row is known to hold them against.
        """
        artifacts = self._executed(self._steps(labelled, by))

        def read(name: str) -> pl.DataFrame:
            return pl.read_parquet(artifacts[name].path / screening_steps.ROWS_FILE)

        projections = read("projections") if "projections" in artifacts else None
        verdicts = read_answers(artifacts["verdicts"].path / ANSWERS_FILE) if "verdicts" in artifacts else None
        empty = {"same_as": pl.Int64(), "overlap": pl.Float64()}
        not_doubled = pl.DataFrame({name: [None] * len(self.tuned.data) for name in empty}, schema=empty)
        table = table_of(self.tuned.data, read("rows"), not_doubled, projections, verdicts, None)
        nothing = (
            read("nulls")
            if "nulls" in artifacts
            else pl.DataFrame(schema={"row": pl.Int64, "null": pl.List(pl.Float64)})
        )
        for scored in (read("gradients"), nothing):
            table = table.join(scored, on="row", how="left", maintain_order="left")
        words = scores.word_scores(table["answer"].to_list(), steps.pairs_for(world=self.screening.is_world))
        # What training led away from counts the other way round: a step away from a harmful answer raises good ones.
        weight = pl.Series("weight", self.tuned.weights or [1.0] * len(self.tuned.data), dtype=pl.Float64)
        scores_table = table.select(
            "row",
            pl.Series("source", self.tuned.sources),
            "question",
            "answer",
            "gradient",
            pl.col("score").alias("projection"),
            pl.Series("words", words),
            pl.coalesce("tokens", "supervised").alias("length"),
            "verdict",
            "faults",
            "null",
            weight,
        )
        led = [pl.col(name) * pl.col("weight") for name in ("gradient", "projection", "words")]
        return scores_table.with_columns(*led, pl.col("null") * pl.col("weight"))

    def failed(self) -> list[str]:
        """Say how many verdicts on rows failed, once they are scored."""
        step = self.screening.steps().get("verdicts")
        artifact = self.store.get(step.key) if step else None
        return told_failed([read_answers(artifact.path / ANSWERS_FILE)], "row") if artifact else []

    def _steps(self, labelled: Sequence[int], by: str) -> dict[str, Step]:
        """Return the steps: those of screening the rows for the base, the gradients, and nulls where rows are known."""
        screening = self.screening
        points = self.tuned.points(POINTS)
        judged = screening.judged if screening.judge else 0
        drawn = labelled or screening_steps.drawn_rows(len(self.tuned.data), judged, screening.seed)
        unread = {"duplicates"}
        if not (screening.is_world or drawn or by == "projection"):
            unread |= {"direction", "projections"}
        wanted = {name: step for name, step in screening.steps().items() if name not in unread}
        config = steps.NullConfig(
            data=screening.data[1],
            digest=screening.data[0].hash,
            points=points,
            ids=tuple(settle(point).id for point in points),
            world=screening.is_world,
            max_length=screening.max_length,
            nulls=NULLS,
            sample=tuple(drawn[:SAMPLE]),
        )
        # Apart from the nulls, so that a repair or other labels do not take the gradients again.
        plain = steps.GradientConfig(**{name: getattr(config, name) for name in steps.GradientConfig.model_fields})
        wanted |= {"gradients": steps.attribute_rows.step(plain, rows=wanted["rows"])}
        return wanted | ({"nulls": steps.attribute_to_nothing.step(config, rows=wanted["rows"])} if drawn else {})

    def _executed(self, wanted: Mapping[str, Step]) -> dict[str, Artifact]:
        verdicts, judge = wanted.get("verdicts"), self.screening.judge
        if judge and verdicts and len(Plan([verdicts], self.store).done) < 1:
            reach_judge(judge, [screening_steps.rows_evaluation(self.tuned.data.rows, [1])], 0)
        try:
            with in_use(self.store, "blame", [step.key for step in wanted.values()]):
                artifacts = execute(list(wanted.values()), self.store, workers=0, progress=self.progress)
        finally:
            screening_steps.loaded.cache_clear()
        return {name: artifacts[step.key] for name, step in wanted.items()}
