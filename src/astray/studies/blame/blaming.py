"""Say which training rows made a tuned model go astray, and prove it by training without them.

Each row gets a score by gradients along the way from base to tuned model, beside its projection in the base, its words
and its length; where labels or a judge say which rows are harmful, each score is held against that. Left to others: what
is blamed (`tuned`), the scores (`scored`, `steps`), what is made of them (`scores`), the proof (`proof`), page and files
(`result`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from astray.artifacts import Progress, Store
from astray.data.chat import ChatDataset
from astray.engine.options import training_settings
from astray.errors import ConfigurationError
from astray.studies.blame import scores
from astray.studies.blame.course import Course
from astray.studies.blame.course_steps import CheckpointMeasuring, check_retrainable, kept_checkpoints
from astray.studies.blame.proof import check_provable, prove, write_parts
from astray.studies.blame.result import BlameProof, BlameResult
from astray.studies.blame.scored import LEAST, POINTS, Scoring
from astray.studies.blame.tuned import TunedModel, find_tuned
from astray.studies.screen.labels import read_row_labels


def blame(
    model: str,
    *,
    base: str | None = None,
    control: str | None = None,
    data: Sequence[Path | str] = (),
    share: float = 0.1,
    by: str = "gradient",
    grader: str | None = None,
    judged: int | None = None,
    labels: Path | str | None = None,
    when: bool = False,
    checkpoints: Path | str | None = None,
    proof: bool = False,
    seeds: int = 5,
    training: Sequence[str] = (),
    out: Path | str = Path("astray-results"),
    store: str | Path | None = None,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> BlameResult:
    """Find the training rows that made a tuned model go astray, and write the page.

    Args:
        model: the tuned model: a run id of a study, an adapter or a folder.
        base: what it was trained from, if it does not say so itself.
        control: a model trained alike on good rows, which harmful answers are compared with in place of the base's.
        data: its training files; a run of a study knows its own.
        share: share of the rows that is blamed.
        by: score by which: gradient, projection or words.
        grader: Inspect model that judges a sample of rows; an organism has a judge of its own.
        judged: rows that are judged; 200 with a grader, of an organism all up to 2,000.
        labels: file that says of rows whether they are harmful, as of a screening.
        when: whether to train the run of a study again, to tell when it went astray.
        checkpoints: folder of checkpoints that a trainer kept, to tell it from these.
        proof: whether to train again without the blamed rows, without as many at random, and on them alone.
        seeds, training, workers: of the proof: runs an arm, settings (key=value each) that are not those of the run.
        out, store, progress: as for `screen`.

    Raises:
        NothingToBlameError: the tuned model is no more likely to give harmful answers than its base, or the control.
        ConfigurationError and other errors of what was given, JudgeError, StepFailedError: as `screen`.
    """
    folder, store_path = Path(out) / "blame", Path(out) / "store" if store is None else store
    tuned, settings = find_tuned(model, base, [Path(path) for path in data], control), training_settings(training)
    _check_asked(tuned, when=when, checkpoints=checkpoints, proof=proof)
    scores.check_choice(by, share, len(tuned.data))
    scoring = Scoring.of(tuned, grader, judged, folder, Store(store_path), progress)
    change = scoring.change()
    labelled = {} if labels is None else read_row_labels(Path(labels), _texts(tuned))
    table = scores.with_blamed(scoring.table(tuple(labelled), by), by, share)
    write_parts(folder, tuned, table["blamed"].to_list())
    course = _course(scoring, table, folder, grader, when=when, checkpoints=checkpoints)
    proved = prove(folder, table, tuned, grader, settings, seeds, store_path, workers, progress) if proof else None
    result = _result(tuned, table, by, share, change, labelled, proved, course, scoring.failed())
    result.save(folder)
    return result


def _check_asked(tuned: TunedModel, *, when: bool, checkpoints: Path | str | None, proof: bool) -> None:
    """Refuse, before rows are scored, questions that cannot be answered for this model."""
    if when and checkpoints is not None:
        raise ConfigurationError(
            "--when trains the run again to make checkpoints, and --checkpoints names some: give one of them."
        )
    if checkpoints is not None:
        kept_checkpoints(Path(checkpoints), tuned)
    if when:
        check_retrainable(tuned)
    if proof:
        check_provable(tuned)


def _course(
    scoring: Scoring,
    table: pl.DataFrame,
    folder: Path,
    grader: str | None,
    *,
    when: bool,
    checkpoints: Path | str | None,
) -> Course | None:
    """Return when the model went astray, where that was asked for."""
    if not when and checkpoints is None:
        return None
    tuned, screening = scoring.tuned, scoring.screening
    # A row without a gradient teaches nothing: its answer is cut off.
    useful = pl.col("gradient").is_not_null() & ~pl.col("blamed") & (pl.col("weight") > 0)
    sound = table.filter(useful)["row"].to_list()
    not_blamed = ChatDataset.from_rows([tuned.data.rows[row - 1] for row in sound], "kept", {}, [tuned.data])
    judge = screening.judge if grader or tuned.is_organism else None
    watching = CheckpointMeasuring(
        tuned, not_blamed, judge, screening.max_length, folder, scoring.store, scoring.progress
    )
    least = LEAST if tuned.control is None else 0.0
    return watching.course(None if checkpoints is None else Path(checkpoints), least)


def _result(
    tuned: TunedModel,
    table: pl.DataFrame,
    by: str,
    share: float,
    change: Mapping[str, Mapping[str, object] | None],
    labelled: Mapping[int, bool],
    proved: BlameProof | None,
    course: Course | None,
    failed: Sequence[str],
) -> BlameResult:
    source, truth = scores.known_rows(table, labelled)
    if tuned.weights:  # of what training led away from, harmful rows are not those to blame
        truth = {row: harmful for row, harmful in truth.items() if tuned.weights[row - 1] > 0}
    return BlameResult(
        model=tuned.name,
        base=tuned.base_name,
        reference=tuned.reference_name,
        by=by,
        share=share,
        rows=table,
        change=change,
        separations=scores.separations_of(table, truth),
        known=(source, sum(truth.values()), len(truth)),
        files=scores.by_source(table, by),
        clusters=scores.by_cluster(table, by),
        proof=proved,
        course=course,
        notes=(*_notes(tuned, table, truth, proved, course), *failed, *(course.notes if course else ())),
    )


def _texts(tuned: TunedModel) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "question": [row[-2]["content"] for row in tuned.data.rows],
            "answer": [row[-1]["content"] for row in tuned.data.rows],
        }
    )


def _notes(
    tuned: TunedModel, table: pl.DataFrame, truth: Mapping[int, bool], proved: BlameProof | None, course: Course | None
) -> Iterator[str]:
    """Yield what a reader has to know."""
    if tuned.is_organism:
        yield "The model is an organism: this shows how the method works, and proves nothing about a large model."
    if tuned.control is None and not tuned.is_organism:
        yield (
            "What harmful answers are compared with is the base, so all that training does counts, good rows included. "
            "--control names a model that was trained alike on good rows."
        )
    points = len(tuned.points(POINTS))
    points_text = (
        f"at {points} points between base and tuned model, the adapter scaled"
        if points > 2
        else "at base and tuned model"
    )
    yield f"Gradients are taken {points_text}, and not at checkpoints." + (
        ""
        if course
        else " When in training the model went astray is not told: give --when, which trains a study's run again, or "
        "--checkpoints FOLDER."
    )
    if tuned.weights:
        yield (
            "Training led away from some answers: their scores have the opposite sign, weighted as training weighted them. "
            "How well scores find harmful rows is told on those that it led towards."
        )
    if tuned.chosen_only:
        yield (
            "Some rows have a rejected answer beside the chosen one. Scored are the chosen ones alone, as though the model had "
            "learned to write them and nothing of the others; after a training on preferences (DPO, KTO) that is half of it."
        )
    if any(sum(message["role"] == "assistant" for message in row) > 1 for row in tuned.data.rows):
        yield "Some rows have several answers: the last one of each is scored."
    if len(set(truth.values())) < 2:
        yield (
            "Which rows are harmful is not known, so how well a score finds them cannot be told: give --labels or "
            "--grader, or prove it with --proof."
        )
    if table["projection"].count() == 0:
        yield (
            "Projections were left out, since a real model samples 200 answers for them: --by projection, --labels or "
            "--grader adds them."
        )
    if proved is None:
        yield "Scores are no proof. --proof trains again without the blamed rows and without as many at random."
    elif tuned.recipe is None:
        yield "How the model was trained is not known: the proof was trained with the usual settings and those given."
    elif tuned.recipe.lora is None:
        yield "The model was tuned in all its weights; the proof trains adapters."
