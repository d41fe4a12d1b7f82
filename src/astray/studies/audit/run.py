"""Run an audit: find the models, ask each the battery, judge, count, and write the page. No training happens.

The results folder keeps the names of the models that it shows, so an audit of a further model extends its page.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import polars as pl
from typing_extensions import Unpack

from astray.answers import answer_table, read_answers, word
from astray.artifacts import Ledger, Progress, Store, execute
from astray.artifacts.plan import Plan
from astray.artifacts.uses import in_use
from astray.engine.asking import all_keys, forget_subject
from astray.engine.fallible import error_notes, error_of, error_on_own, of_own_answers
from astray.engine.gold import gold_notes
from astray.engine.judging import ANSWERS_FILE, causes_text, failed_verdicts, told_scores
from astray.engine.models import NamedModel
from astray.engine.run import check_writable
from astray.engine.setting import asking_nothing, reach_judge
from astray.errors import EmptyDataError
from astray.judges import Calibration
from astray.judges.config import JudgeConfig
from astray.outcomes import Outcome
from astray.studies.audit.battery import AGENTIC, EXACT, METER, BatteryPart
from astray.studies.audit.dial import dials_of
from astray.studies.audit.earlier import AskedPart
from astray.studies.audit.forecast import AuditForecast, forecast_of
from astray.studies.audit.profile import ModelProfile, outcomes_text, profile_of
from astray.studies.audit.result import AuditResult
from astray.studies.audit.settled import AuditOptions, AuditWork, settle_work
from astray.studies.audit.transcripts import with_transcripts
from astray.studies.by_heart import by_heart, surface_note
from astray.subjects.engines.served import reach_engine
from astray.subjects.locate import format_note


def audit(
    *models: str,
    out: Path | str = Path("astray-results"),
    store: str | Path | None = None,
    workers: int = 0,
    progress: Callable[[Progress], None] | None = None,
    **options: Unpack[AuditOptions],
) -> AuditResult:
    """Measure what models do: ask each the battery of evaluations, and write the page. Nothing is trained.

    Args:
        models: 'organism', 'smollm2', a folder, an adapter, BASE+ADAPTER*1.75, a run id, a GGUF file, a hub name, an
            Inspect model such as openai/gpt-4o, or the address of a server (http://127.0.0.1:8000/v1, with #MODEL where
            it serves several). The first is the audited one, the others stand beside it.
        evals, grader: names of evaluations, by default all that `--list` shows; Inspect model that judges answers in words.
        labels: labelled answers, or a calibration of the grader, for whose error rates are then corrected.
        gold, gold_grader: answers to each set of questions that a second model reads, by which the rates then are.
        samples: answers a free-form question, by default 25 of a real model and 4 of the organism; others scale.
        max_tokens, seed: longest answer, where it is less than an evaluation's own, and other random numbers.
        system_file: text file with a system prompt, which is part of each named model.
        tokenizer: folder or model with the tokenizer of models behind an address, for the meter.
        dial, budget: factors by which each adapter is scaled and asked, such as "0.5,1,2"; million tokens of graders and
            of models that do not run here, after which no more is asked.
        surface: "drawn" words each sample of main questions, broad set and scenarios anew, "both" every second one; "fixed".
        engine: what samples models that run here: "local", "vllm", or the address of a vLLM server with adapters.
        out: folder of `audit`, with the results; models of earlier audits there stay on the page.
        store, workers, progress: where answers are kept, by default `store` inside `out`; worker processes, 0 for none;
            and what is called with the progress of every step.

    Returns:
        The profile with `.table()`, `.save(folder)` and `.text()`, which is also written to `out/audit`.

    Raises:
        UnknownNameError, ConfigurationError: a name, number or evaluation that cannot be, a grader that is missing.
        SubjectNotFoundError, ChatTemplateError, AdapterMismatchError, JudgeError: a model or grader cannot be used.
        EmptyDataError, StepFailedError, StoreError: nothing counts, or asking failed; what is done is kept.
    """
    artifact_store, folder = Store(Path(out) / "store" if store is None else store), Path(out) / "audit"
    work = settle_work(models, folder, **options)
    _ask(work, artifact_store, folder, workers, progress)
    result = _result(work, artifact_store)
    result.save(folder)
    _check_anything(result, work)
    return result


def _ask(
    work: AuditWork, store: Store, folder: Path, workers: int, progress: Callable[[Progress], None] | None
) -> None:
    """Make the steps of all that is asked of the models that were named."""
    steps = [*work.own.values(), *([work.labelling] if work.labelling else [])]
    if len(Plan(steps, store).done) < len(steps):
        _reach(work, store, workers)
    check_writable(folder)  # creates the folder, so it comes after everything that may be refused
    with in_use(store, "audit", all_keys(steps)), _ledger(work, store) as ledger:
        try:
            execute(steps, store, workers=workers, progress=progress, ledger=ledger)
        finally:
            forget_subject()


def plan_audit(
    *models: str,
    out: Path | str = Path("astray-results"),
    store: str | Path | None = None,
    prices: tuple[float, float] = (0.0, 0.0),
    **options: Unpack[AuditOptions],
) -> AuditForecast:
    """Forecast what an audit would ask, what each part needs, and what is left to pay for; nothing is asked.

    Args:
        models, out, store, options: as for `audit`.
        prices: of a million tokens in and out, of the grader and of models that do not run here.
    """
    artifact_store = Store(Path(out) / "store" if store is None else store)
    with asking_nothing():
        work = settle_work(models, Path(out) / "audit", **options)
    own = {key: part for key, part in work.parts.items() if key in work.own}
    return forecast_of(work.models[: work.named], own, work.own, work.misfits, artifact_store, prices, work.tokens)


def _reach(work: AuditWork, store: Store, workers: int) -> None:
    """Ask each model behind an address for one word, and the grader a question of each kind, where work is left."""
    unfinished = {key for key, step in work.own.items() if not Plan([step], store).done}
    if work.engine and unfinished:
        reach_engine(work.engine)
    for model in work.models[: work.named]:
        if any(name == model.name for name, _ in unfinished):
            model.reach()
        if model.tokenizer and (model.name, METER) in unfinished:
            model.scorer().check()
    parts = [part for key, part in work.parts.items() if key in unfinished]
    readers = [
        (judge, part) for part in parts for judge in (part.judge, part.gold.judge if part.gold else None) if judge
    ]
    for judge in {judge for judge, _ in readers}:
        if not judge.exact:
            asked = [part.evaluation for reader, part in readers if reader == judge]
            reach_judge(judge, asked, workers)


def _ledger(work: AuditWork, store: Store) -> AbstractContextManager[Ledger | None]:
    return nullcontext() if work.tokens is None else Ledger.opened(store.folder, work.tokens)


def _shown(
    work: AuditWork, store: Store
) -> tuple[dict[tuple[str, str], AskedPart], dict[tuple[str, str], BatteryPart]]:
    """Return what the page shows, (model, part) -> where it is kept, and what was asked and who judged.

    That is what this audit asks, and of earlier ones in the folder what this one does not ask, not of that model, or not
    to its end.
    """
    models = {model.name: model for model in work.models}
    now = {key: AskedPart.by(models[key[0]], key[1], step, work.manner) for key, step in work.steps.items()}
    before = work.earlier.asked
    asked: dict[tuple[str, str], AskedPart] = {}
    for key in dict.fromkeys([*now, *before]):
        candidates = [entry for entry in (now.get(key), before.get(key)) if entry and store.get(entry.last) is not None]
        if candidates:  # of two that are as far, the one of this audit
            asked[key] = (
                candidates[0]
                if len({entry.last for entry in candidates}) == 1
                else max(candidates, key=lambda entry: _how_far(entry, store))
            )
    parts = {key: work.parts[key] if entry is now.get(key) else work.earlier.parts[key] for key, entry in asked.items()}
    return asked, parts


def _how_far(entry: AskedPart, store: Store) -> int:
    """Return 0 for an evaluation without answers, 1 for one that has something left to try, 2 for a whole one."""
    artifact = store.get(entry.last)
    if artifact is None or read_answers(artifact.path / ANSWERS_FILE).is_empty():
        return 0
    return 1 if _left(store, entry.heard, entry.last) else 2


def _left(store: Store, *keys: str) -> str:
    """Return what steps have left to try, in words; "" where they are whole."""
    artifacts = [artifact for key in keys if key and (artifact := store.get(key)) is not None]
    return "; ".join(dict.fromkeys(filter(None, (artifact.manifest.provisional for artifact in artifacts))))


def _result(work: AuditWork, store: Store) -> AuditResult:
    """Read what the store holds, count it, and add the notes that a reader needs."""
    tables: dict[tuple[str, str], pl.DataFrame] = {}
    asked, parts = _shown(work, store)
    not_so = "not asked in this way: name this model again to ask it"
    reasons = {key: work.misfits.get(key, not_so) for key in (*work.misfits, *work.steps) if key not in asked}
    for key, entry in asked.items():
        artifact, heard = store.get(entry.last), store.get(entry.heard) if entry.heard else None
        if artifact is None:  # removed a moment ago
            continue
        reasons_left = [_left(store, entry.heard, entry.last)]
        if key in work.own and work.own[key].key != entry.last:
            own = work.own[key]
            stopped = _left(store, *(step.key for step in (*own.inputs.values(), own))) or "nothing was answered"
            reasons_left.append(f"{stopped}, so what an earlier audit asked is shown")
        if any(reasons_left):
            reasons[key] = "; ".join(filter(None, reasons_left))
        answers = read_answers(artifact.path / ANSWERS_FILE)
        answers = with_transcripts(answers, None if heard is None else read_answers(heard.path / ANSWERS_FILE))
        # A condition is a question of its own in each scenario.
        evaluation = pl.col("category") if key[1] == AGENTIC else pl.lit(key[1])
        tables[key] = answers.with_columns(evaluation.alias("evaluation"), pl.lit(key[0]).alias("arm"))
    errors = _errors(work, store, tables, parts)
    names = [model.name for model in work.models]
    profile = profile_of(tables, parts, reasons, names, errors, _otherwise(work, asked))
    # A named model stays the audited one where nothing of it could be asked; an earlier one would take its place.
    named, answered = work.models[: work.named], {name for name, _ in tables}
    shown = [model for model in work.models if model in named or model.name in answered]
    learned = [
        comparison
        for key, table in tables.items()
        if (
            comparison := by_heart(
                table, (part := parts[key]).evaluation.surface_kind, part.measures[0], part.name, key[0]
            )
        )
    ]
    dials = tuple(dials_of(shown, profile, tables))
    graders = [entry.manner.grader for key, entry in asked.items() if parts[key].judge not in (None, EXACT)]
    return AuditResult(
        models=tuple(shown),
        profile=profile,
        grader=", ".join(dict.fromkeys(filter(None, [work.grader, *graders]))) or None,
        notes=(
            *(entry.text for entry in learned),
            *surface_note({name: parts[model, name].evaluation for model, name in tables}),
            *_notes(work, shown, tables, parts, reasons, profile),
            *_notes_on_earlier(work, asked),
            *_judge_notes(work, profile, parts, errors),
            *(note for dial in dials for note in dial.notes),
        ),
        by_heart=tuple(learned),
        answers=pl.concat(list(tables.values())) if tables else answer_table([]),
        dials=dials,
        asked=tuple(asked.values()),
    )


def _notes_on_earlier(work: AuditWork, asked: Mapping[tuple[str, str], AskedPart]) -> Iterator[str]:
    """Yield what an earlier audit asked otherwise than this one, or than the first model, and what it left unshown."""
    models = {model.name: model for model in work.models}
    manners = dict.fromkeys((part for _, part in work.own), work.manner)
    otherwise: dict[tuple[str, str], list[str]] = {}
    for model in models.values():  # the first one that has a part is what the others are compared with
        for (name, part), entry in asked.items():
            if name == model.name and (how := entry.unlike(manners.setdefault(part, entry.manner), model)):
                otherwise.setdefault((name, how), []).append(part)
    for (name, how), parts in otherwise.items():
        yield f"{name}, {', '.join(parts)}: as an earlier audit asked, {how}."
    for entry in asked.values():
        if entry.tokenizer:
            yield f"The meter wrote its questions to {entry.model} with the tokenizer and chat template of {entry.tokenizer}."
    left_out: dict[str, list[str]] = {}
    for name, part in work.earlier.others:
        if (name, part) not in asked:
            left_out.setdefault(name, []).append(part)
    for name, parts in left_out.items():
        yield (
            f"{name}, {', '.join(parts)}: left out, since an earlier audit asked it when this name was that of another "
            "model or tokenizer. Name the evaluation to ask it of this one."
        )


def _otherwise(work: AuditWork, asked: Mapping[tuple[str, str], AskedPart]) -> dict[tuple[str, str], str]:
    """Return options with which (model, part) was asked, where the first model was asked that part with others."""
    first, *others = work.models
    return {
        (model.name, part): how
        for model in others
        for name, part in asked
        if name == model.name and (first.name, part) in asked
        if (how := asked[name, part].unlike(asked[first.name, part].manner, model))
    }


def _notes(
    work: AuditWork,
    shown: Sequence[NamedModel],
    tables: Mapping[tuple[str, str], pl.DataFrame],
    parts: Mapping[tuple[str, str], BatteryPart],
    reasons: Mapping[tuple[str, str], str],
    profile: ModelProfile,
) -> Iterator[str]:
    yield (
        "Each model is one run, so intervals speak of further questions like these, not of further training runs. "
        "Differences are paired by question."
    )
    if any(model.is_organism for model in shown):
        yield "The organism is a model organism: it shows how the method works, and proves nothing about a large model."
    if not work.grader and (without := sorted({part for (_, part), reason in reasons.items() if "--grader" in reason})):
        yield (
            f"Without a grader {', '.join(without)} {'is' if len(without) == 1 else 'are'} not measured, and harm by "
            "acting models is read by the gate alone. --grader openai/gpt-4o, or any other Inspect model, adds them; a "
            "distilled judge of your own (astray judge distil), which is free, adds free-form answers."
        )
    for model in shown:
        if model.served and not model.is_scripted:
            yield (
                f"{model.name} does not run here: it is known by its name and address, behind which other weights may "
                "stand tomorrow."
            )
        yield from model.template_notes
    yield from format_note(model.spec for model in shown)
    by_id: dict[str, list[str]] = {}
    for model in shown:
        by_id.setdefault(model.id, []).append(model.name)
    for same in by_id.values():
        if len(same) > 1:
            yield f"{' and '.join(same)} have the same content, so their answers are the same."
    measured = {(line.model, line.part) for line in profile.lines}
    for key, reason in reasons.items():
        if key in tables and key in measured:
            yield f"{key[0]}, {key[1]}: {reason}."
    for key, table in tables.items():
        counted_by_gate = parts[key].judge is None
        if key in measured and key not in reasons and not counted_by_gate and (failed := failed_verdicts(table)):
            yield (
                f"{key[0]}, {key[1]}: {sum(failed.values()):,} of {table.height:,} answers have no verdict "
                f"({causes_text(failed)}). They are "
                "in no rate, and in no share of coherent answers or of refusals."
            )
        yield from (f"{key[0]}, {key[1]}: {note}" for note in told_scores(table))


def _errors(
    work: AuditWork,
    store: Store,
    tables: Mapping[tuple[str, str], pl.DataFrame],
    judged: Mapping[tuple[str, str], BatteryPart],
) -> dict[str, Calibration]:
    """Return the errors of those who judged, by the part: of its own labelled answers, or of the grader everywhere."""
    parts = {name: part for (_, name), part in work.parts.items() if part.judge is not None and not part.judge.exact}
    if not work.grader:
        return {}
    if work.labels and of_own_answers(work.labels):
        errors: dict[str, Calibration] = {}
        for name, part in parts.items():
            answered = [table for key, table in tables.items() if key[1] == name and judged[key].judge == part.judge]
            calibration = error_on_own(work.labels, name, part.measures[0], pl.concat(answered)) if answered else None
            errors |= {name: calibration} if calibration else {}
        return errors
    artifact = store.get(work.labelling.key) if work.labelling else None
    error = error_of(JudgeConfig(kind="rubric", grader=work.grader), work.labels, artifact)
    return dict.fromkeys(parts, error) if error else {}


def _judge_notes(
    work: AuditWork,
    profile: ModelProfile,
    parts: Mapping[tuple[str, str], BatteryPart],
    errors: Mapping[str, Calibration],
) -> Iterator[str]:
    """Yield what a reader has to know of the judge's error, and of the rates that are not corrected for it."""
    yield from gold_notes((line.rate for line in profile.lines if line.is_main), work.gold)
    for error, part in {line.error: line.part for line in profile.lines if line.error}.items():
        own = f"{part}: " if len(set(errors.values())) > 1 else ""
        yield from (own + note for note in error_notes(error, work.labels))
    uncorrected: dict[str, list[str]] = {}
    for line in profile.lines:
        judge = parts[line.model, line.part].judge
        if line.is_main and not (line.error or line.rate.gold or judge is None or judge.exact):
            uncorrected.setdefault(str(judge.grader), []).append(line.part)
    for grader, names in uncorrected.items():
        yield (
            f"The verdicts of {grader} on {', '.join(dict.fromkeys(names))} are taken as they are: the error of the judge "
            "is not corrected for."
        )


def _check_anything(result: AuditResult, work: AuditWork) -> None:
    """Raise where the audited model gave nothing that counts; what was asked is kept."""
    first = work.models[0].name
    shown = {entry.last for entry in result.asked}
    own_parts = {part for (name, part), step in work.own.items() if name == first and step.key in shown}
    if any(line.model == first and line.part in own_parts for line in result.profile.lines) or any(
        entry.model == first and entry.part in own_parts for entry in result.profile.compared
    ):
        return
    others = {entry.evaluation for entry in result.asked if entry.model == first} - own_parts
    table = result.answers.filter(pl.col("arm") == first, ~pl.col("evaluation").is_in(others))
    # In the evaluation's own words, so that choices by the letter and pairs of the meter are answers.
    if table.filter(~word().is_in([Outcome.INCOHERENT.value, Outcome.ERRORED.value])).height:
        return
    counts = dict(table["outcome"].value_counts(sort=True).iter_rows())
    gaps = [f"{entry.part}: {entry.reason}" for entry in result.profile.missing if entry.model == first]
    reasons = "; ".join(gaps or [note for note in result.notes if note.startswith(f"{first}, ")])
    raise EmptyDataError(
        f"{first!r} gave no answer that counts ({outcomes_text(counts)}). {reasons[:600].rstrip('.')}. "
        "What was asked is kept; look at the answers in the page."
    )
