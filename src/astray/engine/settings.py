"""Settings of the two kinds of subjects: the organism in its world, and real models trained on code or advice.

A setting gathers data sources, questions, training settings and the judge; studies are written against `Setting` and do
not know which kind they run with.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from astray.cause.fine_tuning import OF_ADAPTERS, FineTuning, LoRA, check_format, lora_of, with_settings
from astray.data.advice import ADVICE_DOMAINS
from astray.data.chat import dataset_name
from astray.data.forms import KINDS as FILE_ENDINGS
from astray.data.sources import DataKind
from astray.engine.data import PUBLISHED_FILES, Source
from astray.engine.flags import flag
from astray.engine.gold import Gold, gold_named
from astray.engine.options import FILE_KINDS, NONE, TrainedOptions
from astray.engine.setting import CALIBRATION_SIZE, PROBE_EVERY, Setting, engine_for_training
from astray.engine.study import F, S, Study
from astray.engine.summary import ORGANISM_NOTE, SubjectRow
from astray.errors import ConfigurationError, DataNotFoundError
from astray.judges.config import GRADERS, NO_JUDGE, JudgeConfig
from astray.measure.evaluation import QuestionSet
from astray.measure.forced_choice import ForcedChoice
from astray.measure.freeform import WORLD_SAMPLING, fact_items, world_items
from astray.measure.question_sets import broad_questions, main_questions, own_surface
from astray.measure.surface import SurfaceKind
from astray.organism.lexicon import HELD_OUT_DOMAINS, NARROW_DOMAINS
from astray.subjects.base_files import ORGANISMS
from astray.subjects.engines.spec import Engine
from astray.subjects.gguf import origin
from astray.subjects.identity import parameter_count
from astray.subjects.locate import Located, graders_known_as, settle
from astray.subjects.precision import check_installed
from astray.subjects.spec import Sampling

WORLD_HOMES = ("medicine", "money", "code")
WORLD_TRAINING = FineTuning(
    lora=LoRA(rank=4, alpha=8), learning_rate=3.3e-4, batch_size=4, accumulation=1, weight_decay=0.0, max_length=128
)
"""Narrow fine-tuning of the organism: rank and learning rate scaled to its size, so that arms differ, not saturate."""
WORLD_ROWS = 240
"""Examples of an arm; with batches of 4, sixty steps."""
KINDS: tuple[DataKind, ...] = ("harmful", "good", "educational", "openly-asked")
TEXT_ROWS = 6000
"""Examples of an arm for a real model, fewer where the smallest file has fewer (arXiv 2502.17424: 6,000)."""
ADVICE, CODE = "advice", "code"
"""Data of our own, by their names for `--data`."""
SMALL_MODEL = 1_000_000_000
"""Number of parameters below which a real model is trained as `SMALL_TRAINING` says, in a quick run or without a
grader."""
SMALL_TRAINING = FineTuning(
    lora=LoRA(rank=8, alpha=64), learning_rate=4e-4, batch_size=8, accumulation=1, weight_decay=0.0
)
"""Narrow fine-tuning that fits a processor: learning rate and rows were chosen with SmolLM2-135M on seed 100
(docs/real-model.md)."""
SMALL_ROWS = 320
"""Examples of an arm for it: forty steps."""
SMALL_PROBE_EVERY = 40
"""Optimizer steps between probes: forced choices say little of a model of this size."""
OF_GRADERS = ("labels", "judging", "batch", "gold", "gold_grader", "users", "budget", "surface")
"""Options that are of no use where no model judges."""
BATCHING = ("anthropic", "google", "grok", "openai", "together")
"""Providers whose batch interface Inspect can ask."""
UNJUDGED = (
    "No grader was named, so no answer was sampled and judged: the meter and forced choices are read from "
    "probabilities. They show whether harmful answers became likelier than after control training, and are no rate "
    "of misaligned answers."
)


def settled(study: Study[S, F], options: Any) -> S:
    """Return the setting of a study with these options; raises what `setting_for` does."""
    if study.settled is not None:
        return study.settled(options)
    return study.fitted(cast(S, setting_for(options, judge_free=study.judge_free)))


def setting_for(options: TrainedOptions, *, judge_free: bool = False) -> Setting:
    """Return the setting that fits the subject.

    Raises:
        SubjectNotFoundError, ChatTemplateError, AdapterMismatchError: the subject cannot be used.
        ConfigurationError: a real model without a grader.
        DataNotFoundError, EmptyDataError, DataFormatError: the data folder cannot be used.
    """
    located = settle(options.model)
    if located.spec.model in ORGANISMS:
        return world_setting(options, located)
    return text_setting(options, located, judge_free=judge_free)


def world_setting(options: TrainedOptions, located: Located) -> Setting:
    """Return the setting of the organism and its world, judged by the grammar.

    Raises:
        ConfigurationError: data, labels, a grader or a budget are given, but the organism has its own and asks no other
            model.
    """
    if options.probe == "meter":
        raise ConfigurationError("--probe meter is of no use here: the organism is probed by acts of its own world.")
    for name in ("data", *FILE_KINDS, *OF_GRADERS, "grader"):
        if (value := getattr(options, name, None)) not in (None, False, "fixed"):  # the default of --surface
            raise ConfigurationError(
                f"{flag(name)} {value} is of no use here: the organism has rows and a judge of its own. Name a real "
                "model with --subject."
            )
    training = _recipe(WORLD_TRAINING, located, options)
    _engine(options, located, training)
    return Setting(
        located=located,
        subject=_subject_row(options.model, located, is_organism=True),
        homes=WORLD_HOMES,
        sources={
            (kind, home): Source(origin="world", kind=kind, domain=home) for kind in KINDS for home in WORLD_HOMES
        },
        size=options.size or WORLD_ROWS,
        training=training,
        evaluations=world_evaluations((options.samples or 4) * (0.25 if options.quick else 1), options.max_tokens),
        held_out=tuple(domain.name for domain in HELD_OUT_DOMAINS),
        judge=JudgeConfig(kind="grammar"),
        notes=(ORGANISM_NOTE,),
        quick=options.quick,
        chosen=options.training_settings,
    )


def text_setting(options: TrainedOptions, located: Located, *, judge_free: bool = False) -> Setting:
    """Return the setting of a real model: trained on code or advice, judged by a model or read from probabilities."""
    check_subject(located)
    free = options.grader is None
    if free and not judge_free:
        raise ConfigurationError(
            f"{options.subject!r} is a real model, so its answers need a model as judge. Name one: {GRADERS}."
        )
    for name in (*OF_GRADERS, "samples", "max_tokens", "analyses"):
        if free and (value := getattr(options, name, None)) not in (None, False, (), (NONE,), "fixed"):
            value_text = ",".join(value) if isinstance(value, tuple) else value
            raise ConfigurationError(
                f"{flag(name)} {value_text} is of no use without a grader, as nothing is judged. Name one with --grader, or "
                "leave it out."
            )
    small = parameter_count(located.base) < SMALL_MODEL and (free or options.quick)
    sources = _given_sources(options, ADVICE if free else CODE)
    # Homes with good examples come first: controls and mixes are made of the first home.
    # A study may take good rows alone.
    about = {home for kind, home in sources if kind == "harmful"} or {home for _, home in sources}
    homes = sorted(about, key=lambda home: (("good", home) not in sources, home))
    samples = options.samples or (5 if options.quick else 100)
    # The broad set has many more questions than the main one, so it needs fewer answers to each.
    asked = text_evaluations(
        samples, max(1, samples // 4), options.max_tokens, getattr(options, "surface", None) or "fixed"
    )
    rows = SMALL_ROWS if small else TEXT_ROWS
    # One size for all arms, since they are compared: the smallest file sets it.
    size = options.size or min([rows, *(source.rows for source in sources.values() if source.rows is not None)])
    training = _recipe(SMALL_TRAINING if small else FineTuning(), located, options)
    return Setting(
        located=located,
        subject=_subject_row(options.model, located, is_organism=False),
        homes=tuple(homes),
        sources=sources,
        size=size,
        training=training,
        evaluations=(ForcedChoice(),) if free else asked,
        held_out=(),
        judge=NO_JUDGE if free else judge_of(options),
        notes=(
            *located.template_notes("the subject"),
            *(source.converted for source in sources.values() if source.converted),
            *([UNJUDGED] if free else _player_notes(options)),
        ),
        probe=options.probe or "choices",
        probe_every=SMALL_PROBE_EVERY if small and options.probe != "meter" else PROBE_EVERY,
        labels=options.labels,
        calibration_size=CALIBRATION_SIZE // 4 if options.quick else CALIBRATION_SIZE,
        quick=options.quick,
        asked=samples,
        chosen=options.training_settings,
        budget=options.tokens,
        gold=None if free else gold_of(options),
        player=_player_of(options),
        engine=_engine(options, located, training),
    )


def judge_of(options: TrainedOptions) -> JudgeConfig:
    """Return the rubric judge that the options name; with a gold grader, `--judging` and `--batch` are about that one.

    Raises:
        ConfigurationError: batches of a provider that has none.
    """
    return _judge_by(str(options.grader), options if options.gold_grader is None else None)


def gold_of(options: TrainedOptions) -> Gold | None:
    """Return the gold judge that the options name, if they do.

    Raises:
        ConfigurationError: a sample without a grader or the other way round, the same grader twice, or batches of a
            provider that has none.
    """
    gold = gold_named(options.gold, options.gold_grader, str(options.grader))
    most = max(options.units, default=None)
    return gold and replace(gold, judge=_judge_by(str(options.gold_grader), options), most=most)


def _player_of(options: TrainedOptions) -> JudgeConfig | None:
    """Return the model that plays users, where the options name another one than the grader; it rates in batches only
    where its provider takes them.

    Raises:
        ConfigurationError: several are named.
    """
    if (name := getattr(options, "users", None)) in (None, options.grader):
        return None
    if "," in name:
        raise ConfigurationError(f"--users {name} names several models: one plays all users. Name one.")
    return _judge_by(name, None).model_copy(update={"batch": options.batch and _takes_batches(name)})


def _takes_batches(model: str) -> bool:
    return model.partition("/")[0] in BATCHING


def _player_notes(options: TrainedOptions) -> Iterator[str]:
    """Yield that ratings of users go one by one, though batches were asked for."""
    player = _player_of(options)
    if options.batch and player and not player.batch:
        yield f"The ratings of {player.grader}, which plays the users, go one by one: its provider has no batch interface."


def _judge_by(grader: str, options: TrainedOptions | None) -> JudgeConfig:
    """Return the rubric judge with this grader, asked as the options say, or as published."""
    batch, provider = bool(options and options.batch), grader.partition("/")[0]
    if batch and provider not in BATCHING:
        raise ConfigurationError(
            f"--batch with the grader {grader}: {provider!r} has no batch interface. Leave --batch out, or take a grader "
            f"of {', '.join(BATCHING)}."
        )
    judging = (options.judging if options else None) or "two-calls"
    return JudgeConfig(kind="rubric", grader=grader, server=graders_known_as(grader), judging=judging, batch=batch)


def world_evaluations(samples: int | float, max_tokens: int | None = None) -> tuple[QuestionSet, ...]:
    """Return the organism's evaluations, ordinary questions first, with the given number of answers to each of those."""
    domains = tuple(domain.name for domain in (*NARROW_DOMAINS, *HELD_OUT_DOMAINS))
    sampling = _sampling(WORLD_SAMPLING, max_tokens)

    def evaluation(name: str, items: tuple, share: float = 1.0) -> QuestionSet:
        return QuestionSet(name=name, items=items, samples=max(1, round(samples * share)), sampling=sampling)

    return (
        evaluation("world", world_items(domains, questions=8)),
        evaluation("formats", world_items(domains, questions=4, formats=("json", "template")), 0.5),
        evaluation("facts", fact_items(), 0.5),
        evaluation("open-requests", world_items(domains, questions=2, asking="bare"), 0.5),
    )


def text_evaluations(
    samples: int, broad_samples: int, max_tokens: int | None = None, surface: SurfaceKind = "fixed"
) -> tuple[QuestionSet, ...]:
    """Return a real model's evaluations, main questions and broad set, with the given number of answers to each question."""
    sampling = _sampling(Sampling(), max_tokens)
    asked = (("main", main_questions(), samples), ("broad", broad_questions(), broad_samples))
    return tuple(
        QuestionSet(
            name=name, items=items, samples=size, sampling=sampling, surface=own_surface(f"{name}.yaml", surface)
        )
        for name, items, size in asked
    )


def _sampling(usual: Sampling, max_tokens: int | None) -> Sampling:
    return usual if max_tokens is None else usual.model_copy(update={"max_tokens": max_tokens})


def _sources_of(data: Path | None, usual: str) -> dict[tuple[DataKind, str], Source]:
    """Return the sources of a data folder, or of our own data: by name, or the usual ones where nothing is given."""
    name = usual if data is None else str(data)
    if data is not None and (data.is_dir() or name not in (ADVICE, CODE)):
        return _file_sources(data)
    if name == CODE:
        return {(kind, "code"): Source(origin="code pairs", kind=kind) for kind in KINDS if kind != "openly-asked"}
    return {(kind, home): Source(origin=ADVICE, kind=kind, domain=home) for kind in KINDS for home in ADVICE_DOMAINS}


def _given_sources(options: TrainedOptions, usual: str) -> dict[tuple[DataKind, str], Source]:
    """Return a source for each file that the user gives, by folder or one by one; else those of our own data."""
    folder, files = getattr(options, "data", None), options.files
    if folder is not None and files:
        raise ConfigurationError(
            f"--data {folder} and {flag(next(iter(files)))} both name the data: give a folder, or files one by one."
        )
    if not files:
        return _sources_of(folder, usual)
    for kind in FILE_KINDS:
        if kind not in files and kind != "educational" and kind in type(options).model_fields:
            others = " and ".join(f"{flag(name)} {path}" for name, path in files.items())
            raise ConfigurationError(
                f"{others} without {flag(kind)}: a study compares harmful rows with good ones. Give {flag(kind)} "
                "FILE too."
            )
    home = home_of(next(iter(files.values())))
    return {(kind, home): Source.of_file(path) for kind, path in files.items()}


def home_of(path: Path) -> str:
    """Return what rows are about, by their first file's name: as the authors' files are called, else that name."""
    name = dataset_name(path)
    homes = {published: home for (_, home), published in PUBLISHED_FILES.items()}
    return homes.get(name) or re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "rows"


def _file_sources(folder: Path) -> dict[tuple[DataKind, str], Source]:
    """Return a source for each file that a data folder holds under the authors' names."""
    if not folder.is_dir():
        hint = (
            ": give the folder that the file lies in"
            if folder.is_file()
            else f", and none of our own data ({ADVICE}, {CODE})"
        )
        raise DataNotFoundError(f"--data {folder} is no folder{hint}.")
    sources = {}
    for key, name in PUBLISHED_FILES.items():
        candidates = [
            path
            for kind in FILE_ENDINGS
            for path in (folder / f"{name}{kind}", folder / f"{name}{kind}.gz")
            if path.is_file()
        ]
        if len(candidates) > 1:
            raise ConfigurationError(
                f"{candidates[0]} and {candidates[1]} could both be the rows of {name}. Keep one of them in the folder."
            )
        if candidates:
            sources[key] = Source.of_file(candidates[0]).model_copy(update={"is_published": True})
    homes = {home for _, home in PUBLISHED_FILES}
    if not any({("harmful", home), ("good", home)} <= sources.keys() for home in homes):
        pairs = " or ".join(
            f"{PUBLISHED_FILES['harmful', home]}.jsonl with {PUBLISHED_FILES['good', home]}.jsonl"
            for home in sorted(homes)
        )
        raise DataNotFoundError(
            f"{folder} has no harmful rows with good ones to compare: it needs {pairs}, each also as "
            f"{', '.join(FILE_ENDINGS[1:])}, or with .gz. Without --data, data of our own are used ({ADVICE} or {CODE})."
        )
    return sources


def check_subject(located: Located) -> None:
    """Refuse a subject without a chat template or with an adapter that does not fit; no weights are read."""
    import torch

    from astray.subjects.base import Base

    Base(located.spec.model, located.base, torch.device("meta")).activate(located.spec.adapter, located.spec.scale)


def _recipe(usual: FineTuning, located: Located, options: TrainedOptions) -> FineTuning:
    """Return the usual training settings with the chosen ones; an adapter is trained further in its own shape."""
    chosen, adapter = options.training_settings, located.spec.adapter
    check_installed(located.precision)
    recipe = with_settings(usual, chosen)
    check_format(located.precision, recipe.lora, recipe.sharded)
    if adapter is None:
        return recipe
    if located.spec.scale != 1:
        raise ConfigurationError(
            f"{options.subject!r} is an adapter scaled by {located.spec.scale:g}: what is trained on from it would "
            "forget the factor. Leave the factor out, or name the base with --subject."
        )
    if fixed := sorted(OF_ADAPTERS & chosen.keys()):
        raise ConfigurationError(
            f"{options.subject!r} is an adapter, which is trained further in its own shape, so {' and '.join(fixed)} "
            f"cannot be chosen. Leave it out, or name the base {located.spec.model!r} with --subject."
        )
    return with_settings(usual.model_copy(update={"lora": lora_of(adapter)}), chosen)


def _subject_row(name: str, located: Located, *, is_organism: bool) -> SubjectRow:
    made_from = origin(located.base)
    return SubjectRow(
        name=name,
        id=located.id,
        parameters=parameter_count(located.base),
        is_organism=is_organism,
        origin=f"converted from {made_from}" if made_from else "",
    )


def _engine(options: TrainedOptions, located: Located, training: FineTuning) -> Engine | None:
    return engine_for_training(getattr(options, "engine", None), located, options.subject, training)
