"""Plan of an audit, settled before anything is asked: models, what each can be asked, and why not the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from astray.artifacts import Step
from astray.engine.asking import step_of
from astray.engine.fallible import check_labels, error_of, labels_step, of_own_answers
from astray.engine.gold import Gold, GoldConfig, gold_named
from astray.engine.models import NamedModel, engine_for, find_model, why_unusable
from astray.engine.setting import check_judge
from astray.errors import ChatTemplateError, ConfigurationError
from astray.judges.calibrate import read_labels
from astray.judges.config import JudgeConfig
from astray.measure.agentic.evaluation import Agentic
from astray.measure.surface import SurfaceKind, check_draws
from astray.studies.audit.battery import AGENTIC, EXACT, BatteryPart, chosen_names, misfit, parts_for
from astray.studies.audit.dial import dialled
from astray.studies.audit.earlier import EarlierAudit, Manner, earlier_in
from astray.subjects.engines.spec import Engine
from astray.subjects.locate import graders_known_as
from astray.subjects.scored import tokenizer_named

OF_WORLD = "the organism knows the words of its world alone; of it can be asked: "
OF_TEXT = "its questions are of the organism's world, whose words no other model knows"


class AuditOptions(TypedDict, total=False):
    """Options of an audit, as `audit` describes them; each has its usual value in `settle_work`."""

    evals: str | Sequence[str]
    grader: str | None
    labels: Path | str | None
    gold: int | None
    gold_grader: str | None
    samples: int | None
    max_tokens: int | None
    seed: int
    system_file: Path | str | None
    tokenizer: str | None
    dial: str | Sequence[float]
    surface: SurfaceKind
    budget: float | None
    engine: str | None


@dataclass(frozen=True)
class AuditWork:
    """Plan of an audit: what is asked of whom, and what is not.

    Attributes:
        models: the audited one first, then those it stands beside, then those of earlier audits in the same folder.
        named: how many of them were named now; of the others nothing is asked.
        parts: (model, part) -> what is asked, and who judges.
        steps: (model, part) -> the last step.
        misfits: (model, part) -> why it is not asked.
        grader: Inspect model that judges, if there is one.
        tokens: most tokens of graders and served models; None for no limit.
        labels: labelled answers, or a calibration of the grader.
        labelling: the step in which the grader is asked about labelled answers, where it is.
        engine: what samples models that run here; None for this process.
        manner: how the models that were named now are asked.
        earlier: what earlier audits in the same folder show.
    """

    models: tuple[NamedModel, ...]
    named: int
    parts: Mapping[tuple[str, str], BatteryPart]
    steps: Mapping[tuple[str, str], Step]
    misfits: Mapping[tuple[str, str], str]
    grader: str | None
    tokens: int | None
    labels: Path | None = None
    labelling: Step | None = None
    gold: Gold | None = None
    engine: Engine | None = None
    manner: Manner = field(default_factory=Manner)
    earlier: EarlierAudit = field(default_factory=EarlierAudit)

    @property
    def own(self) -> dict[tuple[str, str], Step]:
        """Return the steps of the models that were named now."""
        names = {model.name for model in self.models[: self.named]}
        return {key: step for key, step in self.steps.items() if key[0] in names}


def settle_work(
    models: Sequence[str],
    folder: Path,
    *,
    evals: str | Sequence[str] = (),
    grader: str | None = None,
    labels: Path | str | None = None,
    gold: int | None = None,
    gold_grader: str | None = None,
    samples: int | None = None,
    max_tokens: int | None = None,
    seed: int = 0,
    system_file: Path | str | None = None,
    tokenizer: str | None = None,
    dial: str | Sequence[float] = (),
    surface: SurfaceKind = "fixed",
    budget: float | None = None,
    engine: str | None = None,
) -> AuditWork:
    """Find the models, and what each can be asked; refuse what cannot work before anything is asked."""
    _check_numbers(samples, max_tokens, budget)
    named = _named(dialled(models, dial) if dial else models, system_file, tokenizer)
    engine_used = engine_for(named, engine)
    earlier = earlier_in(folder, named)
    every = [*named, *(model for model in earlier.models if model.name not in {other.name for other in named})]
    unusable = {model.name: why_unusable(model) for model in every}
    if all(unusable[model.name] for model in named):
        raise ChatTemplateError(unusable[named[0].name])
    second = _second_judge(grader, labels, gold, gold_grader)
    parts = {model.name: parts_for(model, samples, max_tokens, grader, second, surface) for model in every}
    chosen = chosen_names(evals, list(dict.fromkeys(name for model in every for name in parts[model.name])) or [])
    parts_asked, misfits = _fitting(every, parts, chosen, unusable, grader)
    _check_asked(named, chosen, parts_asked, misfits, evals)
    _check_surface(named, parts_asked, surface)
    _check_grader(named, parts_asked, grader)
    _check_budget(named, parts_asked, budget)
    by_name = {model.name: model for model in every}
    steps = {key: _step(by_name[key[0]], part, seed, engine_used) for key, part in parts_asked.items()}
    tokens, path = round(budget * 1e6) if budget else None, None if labels is None else Path(labels)
    labelling = _labelling(grader, path)
    manner = Manner(
        samples=samples,
        max_tokens=max_tokens,
        seed=seed,
        grader=grader,
        gold=gold,
        gold_grader=gold_grader,
        surface=surface,
    )
    return AuditWork(
        *(tuple(every), len(named), parts_asked, steps, misfits, grader, tokens, path, labelling, second, engine_used),
        manner=manner,
        earlier=earlier,
    )


def _named(names: Sequence[str], system_file: Path | str | None, tokenizer: str | None) -> list[NamedModel]:
    """Find the models that are named; refuse one that is named twice, and a tokenizer that none of them needs."""
    if not names:
        raise ConfigurationError("No model is named. Write for example: astray audit organism")
    file = None if system_file is None else Path(system_file)
    named = [_with_tokenizer(find_model(name, file), tokenizer) for name in names]
    if tokenizer is not None:
        if not any(model.tokenizer for model in named):
            raise ConfigurationError(
                f"--tokenizer {tokenizer} is of no use here: it is that of a model behind an address "
                "(http://127.0.0.1:8000/v1), and none is named. Leave it out."
            )
        tokenizer_named(tokenizer)
    for model in named:
        if sum(other.name == model.name for other in named) > 1:
            raise ConfigurationError(f"{model.name!r} is named twice. Name each model once.")
    return named


def _check_numbers(samples: int | None, max_tokens: int | None, budget: float | None) -> None:
    """Refuse sizes with which nothing is asked."""
    for word, number in (("samples", samples), ("max_tokens", max_tokens)):
        if number is not None and number < 1:
            raise ConfigurationError(f"{word} {number} cannot be: ask for at least 1.")
    if budget is not None and not 0 < budget < float("inf"):
        raise ConfigurationError(f"--budget {budget} lets nothing run. Write a number of million tokens above 0.")


def _labelling(grader: str | None, labels: Path | None) -> Step | None:
    """Return the step in which the grader is asked about labelled answers, if it is; refuse labels that are of no use."""
    if grader is None:
        return None
    judge = JudgeConfig(kind="rubric", grader=grader, server=graders_known_as(grader))
    if labels and of_own_answers(labels):
        read_labels(labels)
        return None
    if labels:
        check_labels(labels, judge)
    step = labels_step(judge, labels)
    if step is None:
        error_of(judge, labels, None)  # refuses labels of one kind now, and not after all was asked
    return step


def _second_judge(
    grader: str | None, labels: Path | str | None, gold: int | None, gold_grader: str | None
) -> Gold | None:
    """Return the gold judge, and refuse what corrects a grader where none is named."""
    if grader is None:
        for option, value in (("--labels", labels), ("--gold", gold), ("--gold-grader", gold_grader)):
            if value is not None:
                raise ConfigurationError(
                    f"{option} {value} is of no use without a grader whose verdicts it corrects: name one with --grader, "
                    "or leave it out."
                )
    return gold_named(gold, gold_grader, str(grader))


def _step(model: NamedModel, part: BatteryPart, seed: int, engine: Engine | None) -> Step:
    """Return the last step of a part."""
    read = None
    if part.gold:
        sample = part.gold.of_run(1, [part.evaluation], model.name)
        read = GoldConfig(judge=part.gold.judge, answers=sample, seed=seed)
    return step_of(model, part.evaluation, part.judge, seed, ("audit", part.name), gold=read, engine=engine)


def _with_tokenizer(model: NamedModel, tokenizer: str | None) -> NamedModel:
    return model.model_copy(update={"tokenizer": tokenizer}) if tokenizer is not None and model.address else model


def _fitting(
    models: Sequence[NamedModel],
    parts: Mapping[str, Mapping[str, BatteryPart]],
    chosen: Sequence[str],
    unusable: Mapping[str, str],
    grader: str | None,
) -> tuple[dict[tuple[str, str], BatteryPart], dict[tuple[str, str], str]]:
    """Return what each model can be asked, and why it cannot be asked the rest."""
    fitting: dict[tuple[str, str], BatteryPart] = {}
    misfits: dict[tuple[str, str], str] = {}
    for model in models:
        offered = parts[model.name]
        for name in chosen:
            reason = unusable[model.name]
            if name not in offered:
                reason = reason or (OF_WORLD + ", ".join(offered) if model.is_organism else OF_TEXT)
            reason = reason or misfit(offered[name], model, grader)
            if reason:
                misfits[model.name, name] = reason
            else:
                fitting[model.name, name] = offered[name]
    return fitting, misfits


def _check_asked(
    named: Sequence[NamedModel],
    chosen: Sequence[str],
    parts: Mapping[tuple[str, str], BatteryPart],
    misfits: Mapping[tuple[str, str], str],
    evals: str | Sequence[str],
) -> None:
    """Refuse an evaluation that was named and fits none of the models, and an audit of nothing."""
    names = [model.name for model in named]
    names_given = [name.strip() for name in evals.split(",")] if isinstance(evals, str) else list(evals)
    for part in chosen:
        if part in names_given and not any((name, part) in parts for name in names):
            raise ConfigurationError(
                f"The evaluation {part!r} cannot be asked of {names[0]!r}: {misfits[names[0], part].rstrip('.')}."
            )
    if not any(name in names for name, _ in parts):
        first = next((reason for (name, _), reason in misfits.items() if name == names[0]), "")
        raise ConfigurationError(f"{names[0]!r} can be asked nothing of {', '.join(chosen)}: {first.rstrip('.')}.")


def _judged(named: Sequence[NamedModel], parts: Mapping[tuple[str, str], BatteryPart]) -> list[BatteryPart]:
    """Return what models that were named now are asked and a grader judges."""
    names = {model.name for model in named}
    return [part for (name, _), part in parts.items() if name in names and part.judge not in (None, EXACT)]


def _check_budget(
    named: Sequence[NamedModel], parts: Mapping[tuple[str, str], BatteryPart], budget: float | None
) -> None:
    """Refuse a budget of tokens that nobody spends."""
    if budget is not None and not any(model.served for model in named) and not _judged(named, parts):
        raise ConfigurationError(
            f"--budget {budget:g} is of no use here: no grader and no model behind an address is asked. Leave it out."
        )


def _check_surface(
    named: Sequence[NamedModel], parts: Mapping[tuple[str, str], BatteryPart], surface: SurfaceKind
) -> None:
    """Refuse drawn surfaces where nothing that is asked has any, and two kinds where one sample is asked."""
    names = {model.name for model in named}
    asked = {part.name: part.evaluation for (name, _), part in parts.items() if name in names}
    drawn = {name: item for name, item in asked.items() if item.surface_kind != "fixed"}
    if surface != "fixed" and not drawn:
        raise ConfigurationError(
            f"--surface {surface} is of no use here: of {', '.join(asked)} there is one wording each. Main questions, "
            "broad set and agentic scenarios, which real models are asked, have others. Leave it out."
        )
    for name, item in drawn.items():
        check_draws(surface, item.grid.replicates if isinstance(item, Agentic) else getattr(item, "samples", 1), name)


def _check_grader(
    named: Sequence[NamedModel], parts: Mapping[tuple[str, str], BatteryPart], grader: str | None
) -> None:
    """Refuse a grader that nobody needs, and one that cannot be used."""
    if grader is None:
        return
    judged = _judged(named, parts)
    if not judged:
        why = (
            "the organism has a judge of its own"
            if all(model.is_organism for model in named)
            else "nothing that is asked needs one"
        )
        raise ConfigurationError(f"--grader {grader} is of no use here: {why}. Leave it out.")
    for name in grader.split(",") if all(part.name == AGENTIC for part in judged) else [grader]:
        check_judge(JudgeConfig(kind="rubric", grader=name, server=graders_known_as(name)))
