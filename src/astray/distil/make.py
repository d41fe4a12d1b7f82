"""Make a distilled judge: read scored answers with a base model, learn a head, and measure it on what was left out.

    astray judge distil --labels scored/*.csv.gz --base smollm2 --name mine
    astray gate BASE TUNED --grader astray/judge/mine

The base is read and never trained. The head joins ridge regressions on a few of its layers and on hashed words.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from safetensors.numpy import save_file

from astray.distil.base import base_of, content_of
from astray.distil.features import candidate_layers, chats_of, longest_chat, read_features
from astray.distil.held_out import (
    blind_spots,
    calibration_curve,
    carried_error,
    held_out,
    inner_groups,
    slice_of,
)
from astray.distil.labels import Group, ScoredAnswers, read_scored
from astray.distil.learner import Head, learn
from astray.distil.report import Distilled, Figures, LogProbability
from astray.distil.words import lengths_of, words_of
from astray.errors import ConfigurationError, DataFormatError, StoreError
from astray.judges.distilled import CALIBRATION, HEAD, RECORD, DistilledRecord, judges_folder
from astray.subjects.locate import Located
from astray.subjects.registered import OWN_NAMES
from astray.subjects.subject import Subject, load_subject

WORDS, LENGTH = "words", "length"
LAYER = "layer {}"
MOST_LOGPROBS = 600
"""Answers whose log-probability under the base is computed for the baseline; drawn at random where there are more."""

Told = Callable[[str, int, int], None]
"""Function that is told of progress: of what, how many are done, and of how many."""


def distil(
    labels: Sequence[Path | str] | Path | str,
    *,
    base: str = "smollm2",
    name: str | None = None,
    out: Path | str | None = None,
    progress: Told | None = None,
) -> Distilled:
    """Distil a judge from answers that a paid judge has scored.

    Args:
        labels: files with question, answer, aligned and coherent (0 to 100), and optionally model and data.
        base: model whose features are read: any local one.
        name: of the judge; by default the base's.
        out: folder to keep the judge in; by default `judges/NAME` in the user's cache.
        progress: told of progress.

    Returns:
        The judge's figures on answers that were left out, which are also kept beside it.

    Raises:
        DataNotFoundError, DataFormatError, EmptyDataError: the labels cannot be used; says why.
        SubjectNotFoundError: the base is no model whose weights are here.
        ConfigurationError: a base with a system prompt or steering, a name that is taken or none, labels of which no
            group can be left out.
    """
    paths = [Path(path) for path in ([labels] if isinstance(labels, Path | str) else labels)]
    folder = _free_folder(name or re.sub(r"[^\w.-]+", "-", Path(base).name), out)
    answers = read_scored(paths)
    kinds = tuple(kind for kind in get_args(Group) if len(set(answers.groups(kind))) > 1)
    if not kinds:
        raise ConfigurationError(
            "All scored answers are of one model and to one question, so nothing can be left out to measure the judge's "
            "error on. Give answers of another model, or to other questions."
        )
    located = base_of(base)  # which may have to be fetched, so after all that may be refused
    subject = load_subject(located.spec.model_copy(update={"dtype": located.precision}))
    views = _views(subject, answers, progress)
    shown: list[Figures] = []
    for number, kind in enumerate(kinds):
        shown.append(_figures(views, answers, kind))
        if progress:
            progress("measuring on what was left out", number + 1, len(kinds))
    main = next((figures for figures in shown if len(figures.judge.groups) > 2), shown[0])
    head = learn(views, answers.scores, inner_groups(answers, None))
    record = _record(located, base, head, answers, main)
    result = Distilled(
        judge=f"astray/judge/{folder.name if out is None else folder}",
        folder=str(folder),
        answers=len(answers.answers),
        without=answers.left_out,
        misaligned=int(answers.misaligned.sum()),
        weights={view: [float(x) for x in np.std(views[view] @ own, axis=0)] for view, own in head.views.items()},
        figures=tuple(shown),
        log_probability=_log_probability(subject, answers, progress),
        record=record,
    )
    _write(folder, head, record, result)
    return result


def _record(located: Located, base: str, head: Head, answers: ScoredAnswers, main: Figures) -> DistilledRecord:
    """Return what is kept beside the weights: the base, what was learned from, and the error."""
    return DistilledRecord(
        base=str(Path(base).resolve()) if base not in OWN_NAMES and Path(base).exists() else base,
        base_content=content_of(located),
        dtype=located.precision,
        layers=tuple(int(view.rpartition(" ")[2]) for view in head.views if view != WORDS),
        labels=answers.digests,
        answers=len(answers.answers),
        left_out=main.judge.left_out,
        groups=len(main.judge.groups),
        error=main.error,
    )


def _free_folder(name: str, out: Path | str | None) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ConfigurationError(f"{name!r} is no name for a judge: write letters, digits, '-', '_' and '.'.")
    folder = judges_folder() / name if out is None else Path(out)
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise ConfigurationError(
            f"{folder} is there already. Give the judge another --name (or --out), or delete the folder if nothing needs "
            "that judge any more."
        )
    return folder


def _views(subject: Subject, answers: ScoredAnswers, progress: Told | None) -> dict[str, np.ndarray]:
    """Return the features of all answers by view."""
    chats = chats_of(subject, answers.questions, answers.answers)
    context = longest_chat(subject)
    for chat, where in zip(chats, answers.where, strict=True):
        if context is not None and (length := len(chat[0]) + len(chat[1])) > context:
            raise DataFormatError(
                f"{where} has question and answer of {length:,} tokens, and the context of {subject.name} holds "
                f"{context:,}. Leave the row out, or take a base with a longer context."
            )
    done = 0

    def tell(rows: int) -> None:
        nonlocal done
        done += rows
        if progress:
            progress("reading answers", done, len(chats))

    features = read_features(subject, chats, candidate_layers(subject), tell)
    return {LAYER.format(layer): own for layer, own in features.items()} | {WORDS: words_of(answers.answers)}


def _figures(views: dict[str, np.ndarray], answers: ScoredAnswers, kind: Group) -> Figures:
    """Return the figures of the judge and of baselines with one kind of groups left out."""
    methods = {"distilled judge": list(views), "bag of words": [WORDS], "length": [LENGTH]}
    (figures, *baselines), predicted = held_out(methods, views | {LENGTH: lengths_of(answers.answers)}, answers, kind)
    questions, lengths = blind_spots(answers, predicted)
    return Figures(
        judge=figures,
        baselines=tuple(baselines),
        by_question=questions,
        by_length=lengths,
        calibration=calibration_curve(answers, predicted),
        error=carried_error(answers, predicted, kind),
    )


def _log_probability(subject: Subject, answers: ScoredAnswers, progress: Told | None) -> LogProbability:
    """Return how well the base's own log-probability of an answer, per token, tells misaligned answers apart."""
    rows = np.sort(np.random.default_rng(0).permutation(len(answers.answers))[:MOST_LOGPROBS])
    found = []
    for start in range(0, len(rows), 50):
        batch = rows[start : start + 50]
        totals = subject.continuation_logprobs(
            [[{"role": "user", "content": answers.questions[row]}] for row in batch],
            [[answers.answers[row]] for row in batch],
        )
        tokens = [
            len(ids)
            for ids in subject.tokenizer([answers.answers[row] for row in batch], add_special_tokens=False)["input_ids"]
        ]
        found += [total / count for (total,), count in zip(totals, tokens, strict=True)]
        if progress:
            progress("log-probabilities, for a baseline", min(start + 50, len(rows)), len(rows))
    chosen = np.zeros(len(answers.answers), bool)
    chosen[rows] = True
    raw = np.zeros((len(answers.answers), 2))
    raw[rows] = np.array(found)[:, None]
    figures = slice_of("log-probability", answers, raw, raw, chosen)
    return LogProbability(answers=len(rows), auc=figures.auc, rank_correlation=figures.rank_correlation)


def _write(folder: Path, head: Head, record: DistilledRecord, result: Distilled) -> None:
    """Write the judge's folder, whole or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise StoreError(
            f"{folder.parent} cannot be written ({error.strerror}). Name another folder with --out."
        ) from error
    try:
        arrays = {f"view/{name}": weights.astype(np.float32) for name, weights in head.views.items()}
        arrays["intercept"] = head.intercept
        arrays["predicted"] = np.stack([scale.predicted for scale in head.scales])
        arrays["scores"] = np.stack([scale.scores for scale in head.scales])
        save_file(arrays, unfinished / HEAD)
        (unfinished / RECORD).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        known = record.error.model_copy(update={"judge": record.identity_in(unfinished)})
        known.write(unfinished / CALIBRATION)
        result.save(unfinished)
        if folder.exists():
            folder.rmdir()  # empty, as was checked
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
