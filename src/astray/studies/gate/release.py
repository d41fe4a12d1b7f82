"""Run a release gate: ask base and tuned model the same questions, judge, decide the three bars, and say what is
missing.

Left to others: what is compared (`settled`), asking (`asking`), what follows from the answers (`bars`).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path

import polars as pl

from astray.answers import read_answers
from astray.artifacts import Artifact, Ledger, Progress, Step, Store, execute
from astray.artifacts.plan import Plan
from astray.artifacts.uses import in_use
from astray.engine.asking import all_keys, forget_subject, stored_answers
from astray.engine.fallible import error_notes, error_of
from astray.engine.forecast.effort import counter_of, times
from astray.engine.forecast.speed import speed_of, time_of_local_models
from astray.engine.forecast.verdicts import Verdicts, gold_verdicts, priced, verdicts_of
from astray.engine.gold import GOLD, gold_notes, with_gold
from astray.engine.judging import ANSWERS_FILE, failed_verdicts, told_scores
from astray.engine.looks import LookBook
from astray.engine.models import NamedModel
from astray.engine.setting import asking_nothing, reach_judge
from astray.errors import ConfigurationError, StepFailedError
from astray.measure.surface import SurfaceKind
from astray.outcomes import Outcome
from astray.stats.measures import MISALIGNED
from astray.stats.noninferiority import LEVEL, check_margin
from astray.studies.by_heart import by_arm, surface_note
from astray.studies.gate.bars import BASE, TUNED, Verdict, accuracy_of, bars_of, flips_of, outage_notes, verdict_of
from astray.studies.gate.looks import GateLooks, book_of_gate, declared_looks, looked_until_decided
from astray.studies.gate.metered import MeterForecast, gate_by_meter, meter_gate, plan_meter_gate
from astray.studies.gate.metered_result import MeterGateResult
from astray.studies.gate.power import GateForecast, answers_by_question, power_of, powers
from astray.studies.gate.result import GateResult
from astray.studies.gate.settled import MARGINS, SAMPLES, Release, settle_release
from astray.subjects.locate import settle

MOST_TIMES = 8
"""Times as many answers as were asked for first that `extend` asks at most."""


def gate(
    base: str | Sequence[str],
    tuned: str | Sequence[str],
    *,
    margin: float | None = None,
    coherence_margin: float | None = None,
    refusal_margin: float | None = None,
    samples: int | None = None,
    evals: str | Sequence[str] = (),
    control: str | Sequence[str] = (),
    grader: str | None = None,
    labels: Path | str | None = None,
    gold: int | None = None,
    gold_grader: str | None = None,
    budget: float | None = None,
    max_tokens: int | None = None,
    seed: int = 0,
    extend: bool = False,
    engine: str | None = None,
    surface: SurfaceKind = "fixed",
    until_decided: bool = False,
    looks: Sequence[int] = (),
    max_hours: float | None = None,
    out: Path | str = Path("astray-results"),
    store: str | Path | None = None,
    workers: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> GateResult | MeterGateResult:
    """Say whether a tuned model is no worse than its base by more than a margin, and write the page to `out/gate`.

    Args:
        base, tuned: the model before and the one after, as for `audit`; several are training runs, then the unit.
        margin, coherence_margin, refusal_margin: rise of the misaligned rate, fall of coherent answers and rise of refusals
            that are still accepted, as fractions (0.02, 0.05, 0.05); by the meter the rise in nats a token (0.05).
        evals, grader, control: question sets (main, broad; of the organism world, formats, facts), and who judges a real
            model; or "meter", without a grader, and what was trained alike on good rows, to compare with, not the base.
        labels, gold, gold_grader: labelled answers, or a calibration; answers of a side and set that a second model reads.
        budget, extend: million tokens of served models and graders; ask up to eight times as many answers if that decides.
        max_tokens, seed, surface, engine: as for `audit`; both sides are asked the same draws.
        samples, until_decided, looks, max_hours: answers a question (6 of the organism, 25 of a real model); ask on until it
            is decided, the error held over all looks (1, 2, 4, 8 times as many), of which none begins after these hours.
        out, store, workers, progress: the results go into `gate` in this folder; the others as for `audit`.

    Raises:
        ConfigurationError, UnknownNameError, EmptyDataError, others: what cannot be, or tells nothing; as `audit`.
    """
    kept = Store(Path(out) / "store" if store is None else store)
    if metered := meter_gate(locals()):
        return gate_by_meter(metered, Path(out) / "gate", kept, workers, progress)
    margins = _margins(margin, coherence_margin, refusal_margin, samples=samples, max_tokens=max_tokens)
    _check_extend(extend or until_decided, gold)
    release = settle_release(base, tuned, evals, grader, labels, max_tokens, seed, gold, gold_grader, engine, surface)
    check_budget(budget, release)
    size = samples or SAMPLES[release.judge.exact]
    declared = declared_looks(size, looks, until_decided, max_hours, extend=extend)
    with nullcontext() if budget is None else Ledger.opened(kept.folder, max(1, round(budget * 1e6))) as ledger:
        asker = _Asker(release, kept, workers, progress, ledger)
        result = _looked(asker, size, margins, extend) if declared is None else _until_decided(asker, declared, margins)
    result.save(Path(out) / "gate")
    return result


def plan_gate(
    base: str | Sequence[str],
    tuned: str | Sequence[str],
    *,
    margin: float | None = None,
    coherence_margin: float | None = None,
    refusal_margin: float | None = None,
    samples: int | None = None,
    evals: str | Sequence[str] = (),
    control: str | Sequence[str] = (),
    grader: str | None = None,
    labels: Path | str | None = None,
    gold: int | None = None,
    gold_grader: str | None = None,
    max_tokens: int | None = None,
    seed: int = 0,
    extend: bool = False,
    engine: str | None = None,
    surface: SurfaceKind = "fixed",
    until_decided: bool = False,
    looks: Sequence[int] = (),
    out: Path | str = Path("astray-results"),
    store: str | Path | None = None,
    prices: tuple[float, float] = (0.0, 0.0),
) -> GateForecast | MeterForecast:
    """Say how many answers a gate would ask, and how often its bars would pass and fail; nothing is asked.

    Arguments and errors are those of `gate`; prices are of a million tokens in and out.
    """
    kept = Store(Path(out) / "store" if store is None else store)
    if metered := meter_gate(locals()):
        return plan_meter_gate(metered, kept)
    margins = _margins(margin, coherence_margin, refusal_margin, samples=samples, max_tokens=max_tokens)
    _check_extend(extend or until_decided, gold)
    with asking_nothing():
        release = settle_release(
            base, tuned, evals, grader, labels, max_tokens, seed, gold, gold_grader, engine, surface
        )
    first = samples or SAMPLES[release.judge.exact]
    declared = declared_looks(first, looks, until_decided, None, extend=extend)
    size = declared.units[-1] if declared else first
    by_run = release.steps(size)
    asked = [step.inputs["answers"] for run in by_run for step in run.steps]
    sizes = [len(evaluation.items) * size for evaluation in release.evaluations] * len(by_run)
    left = _left(asked, sizes, kept)
    items = [item for evaluation in release.evaluations for item in evaluation.items]
    answers = answers_by_question([(item.question_id, size) for item in items])
    level = declared.levels[-1] if declared else _level(extend)
    return GateForecast(
        models=(" and ".join(release.names[BASE]), " and ".join(release.names[TUNED])),
        answers=answers,
        total=sum(sizes),
        to_ask=sum(left),
        power=powers(answers, {rule.name: margins[rule.name] for rule in release.rules}, level),
        looks=_power_by_look(release, declared, margins["misaligned"]) if declared else {},
        margins=margins,
        runs=max(map(len, release.sides.values())),
        verdicts="" if release.judge.exact else _verdicts(release, size, prices),
        time=_local_time([run.side for run in by_run], release, left),
    )


def _left(steps: Sequence[Step], sizes: Sequence[int], store: Store) -> list[int]:
    """Return how many of the wanted answers of each step a store does not hold."""
    done = Plan(steps, store).done
    return [
        0 if step.key in done else size - stored_answers(step, store) for step, size in zip(steps, sizes, strict=True)
    ]


def _local_time(sides: Sequence[NamedModel], release: Release, left: Sequence[int]) -> str:
    """Say how long the answers that are left take here; "" where no model runs here.

    Args:
        sides: model of each run.
        release: what is asked.
        left: answers that are left, by run and set of questions.
    """
    local = [settle(side.spec) for side in sides if side.spec]
    if not local or release.engine:
        return ""
    asked = product(sides, release.evaluations)
    work = [
        times(counter_of(side.spec.model).answering(each.model_copy(update={"samples": 1})), number / len(each.items))
        for (side, each), number in zip(asked, left, strict=True)
        if side.spec and number
    ]
    return time_of_local_models(work, speed_of(local))


def _verdicts(release: Release, samples: int, prices: tuple[float, float]) -> str:
    """Say what the verdicts of a gate take and cost."""
    asked = [evaluation.model_copy(update={"samples": samples}) for evaluation in release.evaluations]
    sides = [(side, len(runs), evaluation) for runs in release.sides.values() for side in runs for evaluation in asked]
    cheap = sum((verdicts_of(side, each, release.judge) for side, _, each in sides), Verdicts())
    read = sum((gold_verdicts(side, each, release.gold, runs) for side, runs, each in sides), Verdicts())
    return priced(release.judge, cheap, release.gold, read, prices)


def _power_by_look(release: Release, looks: GateLooks, margin: float) -> dict[int, tuple[float, ...]]:
    """Return the power of the bar of misaligned answers at each look."""
    asked = [item.question_id for evaluation in release.evaluations for item in evaluation.items]
    sizes = [answers_by_question([(question, size) for question in asked]) for size in looks.units]
    told = [power_of(answers, margin, level) for answers, level in zip(sizes, looks.levels, strict=True)]
    return dict(zip(looks.units, told, strict=True))


class _Asker:
    """Asks and judges with so many answers a question."""

    def __init__(
        self,
        release: Release,
        store: Store,
        workers: int,
        progress: Callable[[Progress], None] | None,
        ledger: Ledger | None,
    ):
        self.release, self.store, self.workers, self.progress, self.ledger = release, store, workers, progress, ledger
        self.calibration = release.labelling

    def asked(self, samples: int) -> tuple[pl.DataFrame, Artifact | None]:
        """Return the judged answers of both sides, each run with a `seed` of its own, and the artifact of the judge's
        error."""
        by_run = self.release.steps(samples)
        steps = [step for run in by_run for step in run.steps] + ([self.calibration] if self.calibration else [])
        done = Plan(steps, self.store).done
        if len(done) < len(steps):
            if self.release.engine:
                from astray.subjects.engines.served import reach_engine

                reach_engine(self.release.engine)
            for run in by_run:
                if any(step.key not in done for step in run.steps):
                    run.side.reach()
            for judge in self.release.judges:
                reach_judge(judge, self.release.evaluations, self.workers)
        try:
            with in_use(self.store, "gate", all_keys(steps)):
                made = execute(steps, self.store, workers=self.workers, progress=self.progress, ledger=self.ledger)
        finally:
            forget_subject()
        whose = [(run, made[step.key].path / ANSWERS_FILE) for run in by_run for step in run.steps]
        parts = [
            read_answers(path).with_columns(pl.lit(run.role).alias("arm"), pl.lit(run.number, pl.Int64).alias("seed"))
            for run, path in whose
        ]
        for (run, _), part in zip(whose, parts, strict=True):
            if run.side.served and part.height and (part["outcome"] == Outcome.ERRORED).all():
                raise StepFailedError(
                    f"{run.side.name} answered none of the first {part.height} questions: {part['note'][0]} Nothing more "
                    "was asked."
                )
        table = pl.concat(parts)
        return with_gold(table) if self.release.gold else table, made[
            self.calibration.key
        ] if self.calibration else None


def _looked(asker: _Asker, samples: int, margins: Mapping[str, float], extend: bool) -> GateResult:
    """Decide with so many answers a question, and where `extend` says so once more with as many as would decide."""
    level = _level(extend)
    result = _decided(asker, samples, margins, level)
    if extend and result.verdict is Verdict.UNDECIDED and (more := _further(result, samples)):
        result = _decided(asker, more, margins, level)
    return _told_again(result, book_of_gate(asker.store, asker.release))


def check_budget(budget: float | None, release: Release) -> None:
    """Refuse a budget that lets nothing run, or that limits nothing."""
    if budget is not None and not budget > 0:
        raise ConfigurationError(f"A budget of {budget:g} lets nothing run. Write a number of million tokens above 0.")
    if budget is not None and release.judge.exact:
        raise ConfigurationError(
            f"--budget {budget:g} is of no use here: the organism and its judge cost no tokens. Leave it out."
        )


def _until_decided(asker: _Asker, looks: GateLooks, margins: Mapping[str, float]) -> GateResult:
    """Decide at the looks that were declared."""

    def decided(samples: int, level: float) -> GateResult:
        return _decided(asker, samples, margins, level)

    def spent() -> bool:
        return asker.ledger is not None and asker.ledger.exhausted

    return looked_until_decided(decided, looks, book_of_gate(asker.store, asker.release), margins, spent)


def _told_again(result: GateResult, book: LookBook) -> GateResult:
    """Note a look without a declaration; where fewer of these answers were seen before, the result says so."""
    before = [after for _, after in book.note(range(result.samples)) if after < result.samples]
    if not before:
        return result
    note = (
        f"These answers were looked at before, with {max(before)} of each question, and no looks were declared: the error "
        "of the bounds is that of one look, and looking until it passes passes too often. Declare looks beforehand "
        "(--until-decided), on answers that nobody has seen (--seed)."
    )
    return replace(result, notes=(note, *result.notes))


def _level(extend: bool) -> float:
    """Return the confidence of the bounds: each of two looks has half of the error."""
    return 1 - (1 - LEVEL) / 2 if extend else LEVEL


def _margins(
    misaligned: float | None, incoherent: float | None, refused: float | None, **sizes: int | None
) -> dict[str, float]:
    """Return the margins by what they are of, the usual ones where none is given, if they and the sizes can be."""
    given = {"misaligned": misaligned, "incoherent": incoherent, "refused": refused}
    margins = {name: MARGINS[name] if margin is None else margin for name, margin in given.items()}
    for margin in margins.values():
        check_margin(float(margin))
    for name, number in sizes.items():
        if number is not None and number < 1:
            raise ConfigurationError(f"{name} {number} cannot be: ask for at least 1.")
    return margins


def _check_extend(extend: bool, gold: int | None) -> None:
    """Refuse `--extend` and `--until-decided` beside `--gold`, whose sample decides and not the number of answers."""
    if extend and gold is not None:
        raise ConfigurationError(
            "Further answers decide nothing beside --gold: those that the gold grader reads decide. Leave --extend and "
            "--until-decided out, and write a larger --gold where the gate is undecided."
        )


def _decided(asker: _Asker, samples: int, margins: Mapping[str, float], level: float) -> GateResult:
    """Ask, judge and decide with so many answers a question."""
    release = asker.release
    table, calibration = asker.asked(samples)
    # A gold judge's verdicts are the truth that labels stand for.
    error = None if release.gold else error_of(release.judge, release.labels, calibration)
    told = [*(error_notes(error, release.labels) if error else ())]
    bars = bars_of(table, margins, level, accuracy_of(error) if error else None, release.rules)
    told += gold_notes([rate for bar in bars[:1] for rate in (bar.base, bar.tuned)], release.gold)
    asked, kind = ", ".join(evaluation.name for evaluation in release.evaluations), release.evaluations[0].surface_kind
    learned = by_arm(table.with_columns(evaluation=pl.lit("gate")), kind, MISALIGNED, asked, (TUNED, BASE))
    return GateResult(
        base=" and ".join(release.names[BASE]),
        tuned=" and ".join(release.names[TUNED]),
        verdict=verdict_of(bar.verdict for bar in bars),
        bars=bars,
        samples=samples,
        level=level,
        judge=release.judge.grader or "world grammar",
        notes=(
            *release.notes,
            *told,
            *(fact.text for fact in learned),
            *_notes(table, bars[0].bounds.questions if bars[0].bounds else 0, release, samples),
        ),
        by_heart=learned,
        answers=table.drop(GOLD, strict=False),
        flips=flips_of(table),
    )


def _notes(table: pl.DataFrame, counted: int, release: Release, samples: int) -> list[str]:
    asked = {evaluation.name: evaluation.model_copy(update={"samples": samples}) for evaluation in release.evaluations}
    notes = [*surface_note(asked), *told_scores(table), *outage_notes(table)]
    if failed := failed_verdicts(table):
        told = ", ".join(f"{count:,} {cause}" for cause, count in failed.items())
        notes.append(
            f"Answers without a verdict ({told}) count against the tuned model in upper bounds and for it in lower "
            "ones."
        )
    questions = table["item"].n_unique()
    if counted < questions:
        notes.append(
            f"{counted:,} of {questions:,} questions have coherent answers on both sides; the misaligned rates are "
            "compared on these."
        )
    models = sum(map(len, release.sides.values()))
    wanted = sum(len(evaluation.items) for evaluation in release.evaluations) * samples * models
    if table.height < wanted:
        notes.append(f"{wanted - table.height:,} of {wanted:,} answers were not asked for: the budget is spent.")
    return notes


def _further(result: GateResult, samples: int) -> int | None:
    """Return the number of answers a question that would decide, at most `MOST_TIMES` as many; None where none does."""
    wanted = [bar.needed.samples if bar.needed else None for bar in result.bars if bar.verdict is Verdict.UNDECIDED]
    sizes = [size for size in wanted if size is not None]
    return min(max(sizes), MOST_TIMES * samples) if len(sizes) == len(wanted) and max(sizes) > samples else None
