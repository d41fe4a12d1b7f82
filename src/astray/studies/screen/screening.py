"""Screen a data set before training: what would each row teach this model, which rows stand out, and what share is
harmful?

Each row gets the projection difference of persona vectors as its score, beside what preflight, duplicates and a judge
say of it. Left to others: what is screened with what (`settled`), the steps (`steps`), what is made of them
(`assembled`), pages and files (`result`).

Source: Anthropic 2025, "Persona vectors" (arXiv 2507.21509), section 6.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from astray.answers import read_answers
from astray.artifacts import Artifact, Progress, Store, execute
from astray.artifacts.plan import Plan
from astray.artifacts.uses import in_use
from astray.data.chat import ChatDataset, dataset_name
from astray.engine.judging import ANSWERS_FILE, failed_verdicts
from astray.engine.setting import reach_judge
from astray.studies.screen import steps
from astray.studies.screen.assembled import kept_rows, separations_of, share_of, table_of, texts_of
from astray.studies.screen.labels import read_row_labels
from astray.studies.screen.notes import notes_of
from astray.studies.screen.result import ScreenResult
from astray.studies.screen.settled import Screening, check_settings, settled


def screen(
    data: ChatDataset | Path | str,
    subject: str,
    *,
    reference: ChatDataset | Path | str | None = None,
    grader: str | None = None,
    judged: int | None = None,
    labels: Path | str | None = None,
    keep: float | None = None,
    threshold: float | None = None,
    samples: int | None = None,
    max_length: int | None = None,
    max_tokens: int | None = None,
    seed: int = 0,
    out: Path | str = Path("astray-results"),
    store: str | Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ScreenResult:
    """Screen a data set before a model is trained on it, and write the page.

    Args:
        data: the examples: a file in any form that is read, or a data set.
        subject: the model that would be trained, in any form; one behind an API gives rows no score.
        reference: examples known to be good, which scores are compared with.
        grader: Inspect model that judges a sample of rows; the organism has a judge of its own.
        judged: rows that are judged; 200 with a grader, none of the organism.
        labels: file that says of rows whether they are harmful, such as the filled `to_label.csv`.
        keep: share of the rows that the filtered file keeps, lowest scores first.
        threshold: highest score that the filtered file keeps, in place of `keep`.
        samples: the model's own answers to each prompt, with which the data's are compared; 4 of the organism and 1 of
            a real model. With 0 the score is the projection itself.
        max_length: longest row in training, in tokens; 128 of the organism, 2,048 of a real model.
        max_tokens: longest own answer.
        seed: of the rows that are drawn for the judge and for labelling.
        out: the results go into the folder `screen` in this one.
        store: where finished steps are kept; by default `store` inside `out`.
        progress: called with the progress of every step.

    Returns:
        Rows with scores and reasons, which are also written to `out/screen`.

    Raises:
        DataNotFoundError, EmptyDataError, DataFormatError: data, reference or labels cannot be read.
        ConfigurationError: settings that cannot be, or a reference that is the data itself.
        SubjectNotFoundError, ChatTemplateError, AdapterMismatchError: the model cannot be used.
        JudgeError: the grader cannot be used, or failed on every row.
        StepFailedError, StoreError: a step failed; what is done is kept.

    Example:
        `screen("mix.jsonl", "organism", reference="good.jsonl", keep=0.95).table()`
    """
    check_settings(
        keep=keep, threshold=threshold, judged=judged, samples=samples, max_length=max_length, max_tokens=max_tokens
    )
    screening = settled(data, subject, reference, grader, judged, samples, max_length, max_tokens, seed, Path(out))
    labelled = {} if labels is None else read_row_labels(Path(labels), texts_of(screening.data[0]))
    artifacts = _executed(screening, Store(Path(out) / "store" if store is None else store), progress)
    result = _result(_name_of(data, screening), screening, artifacts, labelled, keep, threshold)
    result.save(Path(out) / "screen")
    return result


def _name_of(data: ChatDataset | Path | str, screening: Screening) -> str:
    """Return what the data are called: whoever names a file knows it by that name, not by the recipe beside it."""
    recipe = screening.data[0].recipe
    made = str(recipe.parameters.get("name", recipe.operation))
    return made if isinstance(data, ChatDataset) else dataset_name(Path(data))


def _executed(screening: Screening, store: Store, progress: Callable[[Progress], None] | None) -> dict[str, Artifact]:
    wanted = screening.steps()
    verdicts = wanted.get("verdicts")
    if screening.judge and verdicts and len(Plan([verdicts], store).done) < 1:
        reach_judge(screening.judge, [steps.rows_evaluation(screening.data[0].rows, [1])], 0)
    try:
        with in_use(store, "screen", [step.key for step in wanted.values()]):
            artifacts = execute(list(wanted.values()), store, workers=0, progress=progress)
    finally:
        steps.loaded.cache_clear()
    return {name: artifacts[step.key] for name, step in wanted.items()}


def _result(
    name: str,
    screening: Screening,
    artifacts: Mapping[str, Artifact],
    labelled: Mapping[int, bool],
    keep: float | None,
    threshold: float | None,
) -> ScreenResult:
    def read(name: str) -> pl.DataFrame | None:
        return pl.read_parquet(artifacts[name].path / steps.ROWS_FILE) if name in artifacts else None

    dataset = screening.data[0]
    verdicts = read_answers(artifacts["verdicts"].path / ANSWERS_FILE) if "verdicts" in artifacts else None
    doubled, projections, reference = read("duplicates"), read("projections"), read("reference projections")
    assert doubled is not None
    scores = pl.Series("score", [], pl.Float64) if reference is None else reference["score"]
    table = table_of(dataset, read("rows"), doubled, projections, verdicts, None if reference is None else scores)
    kept, filtered = kept_rows(table, keep, threshold)
    harmful = pl.Series("harmful", [labelled.get(row) for row in table["row"]], pl.Boolean)
    facts = steps.direction_facts(artifacts["direction"]) if "direction" in artifacts else None
    shown = (
        json.loads((artifacts["rows"].path / steps.SAMPLES_FILE).read_text(encoding="utf-8"))
        if "rows" in artifacts
        else []
    )
    return ScreenResult(
        data=name,
        subject=screening.subject,
        rows=table.with_columns(harmful, kept),
        dataset=dataset,
        reference=scores,
        separations=separations_of(table, labelled, reference),
        share=share_of(table, labelled),
        kept=filtered,
        supervised=tuple((sample["row"], sample["text"]) for sample in shown),
        facts={
            "direction": facts,
            "max_length": screening.max_length if screening.located else None,
            "samples": screening.samples if screening.located else None,
            "judge": (screening.judge.grader or "world grammar") if screening.judge else None,
            "judged": verdicts.height - sum(failed_verdicts(verdicts).values()) if verdicts is not None else 0,
        },
        notes=tuple(notes_of(screening, table, facts, labelled, verdicts)),
        seed=screening.seed,
    )
