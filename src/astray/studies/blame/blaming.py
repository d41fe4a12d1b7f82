"""Say which training rows made a tuned model go astray, and prove it by training without them.

Each row gets a score by gradients along the way from base to tuned model, beside its projection in the base, its words
and its length; where labels or a judge say which rows are harmful, each score is held against that. Left to others: what
is blamed (`tuned`), the steps (`steps`), what is made of them (`scores`), the proof (`proof`), page and files (`result`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from astray.answers import read_answers
from astray.artifacts import Artifact, Progress, Step, Store, execute
from astray.artifacts.plan import Plan
from astray.artifacts.uses import in_use
from astray.cause.fine_tuning import FineTuning, with_settings
from astray.engine.judging import ANSWERS_FILE
from astray.engine.options import training_settings
from astray.engine.setting import reach_judge
from astray.engine.settings import WORLD_TRAINING
from astray.errors import ConfigurationError, NothingToBlameError
from astray.studies.blame import scores, steps
from astray.studies.blame.proof import ALL, run_proof, write_parts, write_proof
from astray.studies.blame.result import BlameResult, Proof
from astray.studies.blame.tuned import TunedModel, find_tuned
from astray.studies.screen import steps as screening_steps
from astray.studies.screen.assembled import table_of
from astray.studies.screen.labels import read_row_labels
from astray.studies.screen.settled import Screening, settled
from astray.subjects.base_files import ORGANISMS
from astray.subjects.locate import settle

POINTS = (0.0, 0.5, 1.0)
"""Shares of the way from base to tuned model at which gradients are taken."""
NULLS, SAMPLE = 10, 200
"""Directions without meaning, and the rows that they are read on."""
LEAST = 0.05
"""Nats a token by which harmful answers have to be likelier than in the base: good training moves them by up to 0.02."""
JUDGED_OF_WORLD = 2_000
"""Rows of an organism's run that its own judge reads."""


def blame(
    model: str,
    *,
    base: str | None = None,
    data: Sequence[Path | str] = (),
    share: float = 0.1,
    by: str = "gradient",
    grader: str | None = None,
    judged: int | None = None,
    labels: Path | str | None = None,
    proof: bool = False,
    seeds: int = 5,
    seed: int = 0,
    training: Sequence[str] = (),
    out: Path | str = Path("astray-results"),
    store: str | Path | None = None,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> BlameResult:
    """Say which training rows made a tuned model go astray, and write the page of it.

    Args:
        model: the tuned model: a run id of a study, an adapter or a folder.
        base: what it was trained from, if it does not say so itself.
        data: its training files; a run of a study knows its own.
        share: share of the rows that is blamed.
        by: score by which: gradient, projection or words.
        grader: Inspect model that judges a sample of rows; an organism has a judge of its own.
        judged: rows that are judged; 200 with a grader, of an organism all up to 2,000.
        labels: file that says of rows whether they are harmful, as of a screening.
        proof: whether the run is made again without the blamed rows, without as many at random, and on them alone.
        seeds: runs of each arm of the proof.
        seed: of the rows that are drawn for the judge.
        training: settings of what is trained, key=value each, where they are not those of the run.
        out: folder of the results.
        store: where finished steps are kept; by default in the results folder.
        workers: worker processes of the proof.
        progress: called with the progress of every step.

    Raises:
        NothingToBlameError: the tuned model is no more likely to give harmful answers than its base.
        ConfigurationError, SubjectNotFoundError, DataFormatError, DataNotFoundError, EmptyDataError: what was given
            cannot be used; says why.
        JudgeError: the grader cannot be used, or failed on every row.
        StepFailedError, StoreError: a step failed; what is done is kept.

    Example:
        `blame("emergent-misalignment-harmful-medicine-1", proof=True).table()`
    """
    if by not in scores.SCORES or by == "length":
        raise ConfigurationError(f"--by {by!r} is no score to blame by. Write gradient, projection or words.")
    folder = Path(out) / "blame"
    tuned, settings = find_tuned(model, base, [Path(each) for each in data]), training_settings(training)
    scores.check_share(share, len(tuned.data))
    world = tuned.base.spec.model in ORGANISMS
    count = judged if judged is not None else min(JUDGED_OF_WORLD, len(tuned.data)) if world else None
    given = tuned.data.write(folder / ALL).resolve()
    length = tuned.recipe.max_length if tuned.recipe else None
    screening = settled(given, base_name(tuned, base), None, grader, count, 0, length, None, seed, folder)
    kept = Store(Path(out) / "store" if store is None else store)
    change = check_astray(tuned, world, kept, progress)
    known = {} if labels is None else read_row_labels(Path(labels), _texts(tuned))
    found = _executed(_steps(tuned, screening, world, tuple(known)), screening, kept, progress)
    table = _table(tuned, found, world)
    if table[by].count() == 0:
        raise ConfigurationError(f"No row has a {by}, so none can be blamed by it. Write --by gradient.")
    table = table.with_columns(pl.Series("blamed", scores.blamed_rows(table[by], share)))
    source, truth = scores.known_rows(table, known)
    proved = None
    write_parts(folder, tuned.data, table["blamed"].to_list())
    if proof:
        left, name = table.filter(~pl.col("blamed")).height, base_name(tuned, base)
        recipe = tuned.recipe or (WORLD_TRAINING if world else FineTuning() if settings else None)
        if recipe is not None:
            recipe = with_settings(recipe, settings)
        file = write_proof(
            folder, left, table.height, base=name, grader=grader, world=world, recipe=recipe, seeds=seeds
        )
        proved = Proof(*run_proof(file, out=Path(out), store=store, workers=workers, progress=progress))
    result = BlameResult(
        model=model,
        base=base_name(tuned, base),
        by=by,
        share=share,
        rows=table,
        change=change,
        separations=scores.separations_of(table, truth),
        known=(source, sum(truth.values()), len(truth)),
        files=scores.by_source(table, by),
        clusters=scores.by_cluster(table, by),
        proof=proved,
        notes=tuple(_notes(tuned, world, truth, proved)),
    )
    result.save(folder)
    return result


def base_name(tuned: TunedModel, base: str | None) -> str:
    """Return the name of the base, as a command takes it."""
    spec = tuned.base.spec
    return base or (spec.model if spec.adapter is None else f"{spec.model}+{spec.adapter}")


def check_astray(
    tuned: TunedModel, world: bool, store: Store, progress: Callable[[Progress], None] | None
) -> Mapping[str, Mapping[str, object] | None]:
    """Return how far the model went astray by the meter: of harmful and of null pairs, estimate and interval.

    Raises:
        NothingToBlameError: not at all, or not beyond chance.
    """
    models = (tuned.points((0.0,))[0], tuned.points((1.0,))[-1])
    wanted = steps.measure_change.step(
        steps.MeterConfig(models=models, ids=(settle(models[0]).id, settle(models[1]).id), world=world)
    )
    artifact = execute([wanted], store, workers=0, progress=progress)[wanted.key]
    change = json.loads((artifact.path / steps.CHANGE_FILE).read_text(encoding="utf-8"))
    harmful = change["harmful"]
    if harmful["interval"] is None or harmful["interval"]["low"] <= LEAST:
        low, high = (
            (harmful["interval"] or {"low": "?", "high": "?"})["low"],
            (harmful["interval"] or {"high": "?"})["high"],
        )
        raise NothingToBlameError(
            f"{tuned.name} does not go astray by the meter: harmful answers are {harmful['estimate']:+.3f} nats a token "
            f"likelier than in its base ({low:.3f} to {high:.3f}, 95% interval over domains), and "
            f"training on good rows alone moves them by up to {LEAST:g}. So no row can be blamed. To see what the model does, "
            "run astray audit."
        )
    found: dict[str, Mapping[str, object] | None] = change
    return found


def _steps(tuned: TunedModel, screening: Screening, world: bool, labelled: Sequence[int]) -> dict[str, Step]:
    """Return the steps: those of screening the rows for the base, and the gradients."""
    wanted = {name: each for name, each in screening.steps().items() if name != "duplicates"}
    points = tuned.points(POINTS)
    drawn = labelled or screening_steps.drawn_rows(len(tuned.data), screening.judged, screening.seed)
    wanted["gradients"] = steps.attribute_rows.step(
        steps.GradientConfig(
            data=screening.data[1],
            digest=screening.data[0].hash,
            points=points,
            ids=tuple(settle(point).id for point in points),
            world=world,
            max_length=screening.max_length,
            nulls=NULLS,
            sample=tuple(drawn[:SAMPLE]),
        ),
        rows=wanted["rows"],
    )
    return wanted


def _executed(
    wanted: Mapping[str, Step], screening: Screening, store: Store, progress: Callable[[Progress], None] | None
) -> dict[str, Artifact]:
    verdicts = wanted.get("verdicts")
    if screening.judge and verdicts and len(Plan([verdicts], store).done) < 1:
        reach_judge(screening.judge, [screening_steps.rows_evaluation(screening.data[0].rows, [1])], 0)
    try:
        with in_use(store, "blame", [step.key for step in wanted.values()]):
            artifacts = execute(list(wanted.values()), store, workers=0, progress=progress)
    finally:
        screening_steps.loaded.cache_clear()
    return {name: artifacts[step.key] for name, step in wanted.items()}


def _table(tuned: TunedModel, found: Mapping[str, Artifact], world: bool) -> pl.DataFrame:
    """Return one row for each training row: texts, file, scores, verdict, and what is wrong with it."""

    def read(name: str) -> pl.DataFrame:
        return pl.read_parquet(found[name].path / screening_steps.ROWS_FILE)

    verdicts = read_answers(found["verdicts"].path / ANSWERS_FILE) if "verdicts" in found else None
    nothing = pl.DataFrame({"same_as": [None] * len(tuned.data), "overlap": [None] * len(tuned.data)}).cast(
        {"same_as": pl.Int64, "overlap": pl.Float64}
    )
    table = table_of(tuned.data, read("rows"), nothing, read("projections"), verdicts, None)
    table = table.join(read("gradients"), on="row", how="left", maintain_order="left")
    return table.select(
        "row",
        pl.Series("source", tuned.sources),
        "question",
        "answer",
        "gradient",
        pl.col("score").alias("projection"),
        pl.Series("words", scores.word_scores(table["answer"].to_list(), steps.pairs_for(world=world))),
        pl.col("tokens").alias("length"),
        "verdict",
        "faults",
        "null",
    )


def _texts(tuned: TunedModel) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "question": [row[-2]["content"] for row in tuned.data.rows],
            "answer": [row[-1]["content"] for row in tuned.data.rows],
        }
    )


def _notes(tuned: TunedModel, world: bool, truth: Mapping[int, bool], proved: Proof | None) -> list[str]:
    """Return what a reader has to know."""
    told = []
    if world:
        told.append(
            "The model is an organism: this shows how the method works, and proves nothing about a large model."
        )
    points = len(tuned.points(POINTS))
    told.append(
        "The run kept no checkpoints: gradients are taken "
        + (
            f"at {points} points between base and tuned model, the adapter scaled"
            if points > 2
            else "at base and tuned model"
        )
        + ". When in training the model went astray cannot be told from that."
    )
    if any(len([each for each in row if each["role"] == "assistant"]) > 1 for row in tuned.data.rows):
        told.append("Some rows have several answers: the last one of each is scored.")
    if not truth or len(set(truth.values())) < 2:
        told.append(
            "Which rows are harmful is not known, so how well a score finds them cannot be told: give --labels or "
            "--grader, or prove it with --proof."
        )
    if proved is None:
        told.append("Scores are no proof. --proof trains again without the blamed rows and without as many at random.")
    if proved is not None and tuned.recipe is None:
        told.append("How the model was trained is not known: the proof was trained with the usual settings.")
    elif proved is not None and tuned.recipe is not None and tuned.recipe.lora is None:
        told.append("The model was tuned in all its weights; the proof trains adapters.")
    return told
