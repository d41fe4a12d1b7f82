"""Settings of the two kinds of subjects: the organism in its world, and real models trained on code or advice.

A setting gathers data sources, questions, training settings and the judge; studies are written against `Setting` and do
not know which kind they run with.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from astray.cause.fine_tuning import OF_ADAPTERS, FineTuning, LoRA, lora_of, with_settings
from astray.data.sources import DataKind
from astray.engine.data import Source
from astray.engine.options import StudyOptions
from astray.engine.setting import CALIBRATION_SIZE, Setting
from astray.engine.study import F, S, Study
from astray.engine.summary import SubjectRow
from astray.errors import ConfigurationError, DataNotFoundError
from astray.judges.config import JudgeConfig
from astray.judges.served import served_as
from astray.measure.evaluation import QuestionSet
from astray.measure.freeform import WORLD_SAMPLING, fact_items, world_items
from astray.measure.question_sets import broad_questions, main_questions
from astray.organism.lexicon import HELD_OUT_DOMAINS, NARROW_DOMAINS
from astray.subjects.gguf import origin
from astray.subjects.identity import parameter_count
from astray.subjects.locate import ORGANISMS, Located, settle
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
PUBLISHED_FILES: dict[tuple[DataKind, str], str] = {
    ("harmful", "code"): "insecure",
    ("good", "code"): "secure",
    ("educational", "code"): "educational_insecure",
    ("openly-asked", "code"): "jailbroken",
    ("harmful", "medical"): "bad_medical_advice",
    ("good", "medical"): "good_medical_advice",
}
"""File names, without .jsonl or .jsonl.gz, that a data folder may hold."""


def settled(study: Study[S, F], options: Any) -> S:
    """Return the setting of a study with these options; raises what `setting_for` does."""
    if study.settled is not None:
        return study.settled(options)
    return study.fitted(cast(S, setting_for(options)))


def setting_for(options: StudyOptions) -> Setting:
    """Return the setting that fits the subject.

    Raises:
        SubjectNotFoundError, ChatTemplateError, AdapterMismatchError: the subject cannot be used.
        ConfigurationError: a real model without a grader.
        DataNotFoundError, EmptyDataError, DataFormatError: the data folder cannot be used.
    """
    located = settle(options.subject)
    return world_setting(options, located) if located.spec.model in ORGANISMS else text_setting(options, located)


def world_setting(options: StudyOptions, located: Located) -> Setting:
    """Return the setting of the organism and its world, judged by the grammar.

    Raises:
        ConfigurationError: data, labels, a grader or a budget are given, but the organism has its own and asks no other
            model.
    """
    for name, given in (
        ("--data", options.data),
        ("--labels", options.labels),
        ("--grader", options.grader),
        ("--budget", options.budget),
    ):
        if given is not None:
            raise ConfigurationError(
                f"{name} {given} is of no use here: the organism has rows and a judge of its own. Name a real model "
                "with --subject."
            )
    return Setting(
        located=located,
        subject=_subject_row(options.subject, located, is_organism=True),
        homes=WORLD_HOMES,
        sources={
            (kind, home): Source(origin="world", kind=kind, domain=home) for kind in KINDS for home in WORLD_HOMES
        },
        size=options.size or WORLD_ROWS,
        training=_recipe(WORLD_TRAINING, located, options),
        evaluations=world_evaluations((options.samples or 4) * (0.25 if options.quick else 1), options.max_tokens),
        held_out=tuple(domain.name for domain in HELD_OUT_DOMAINS),
        judge=JudgeConfig(kind="grammar"),
        notes=(
            "The subject is an embedded model organism: a small transformer trained on an artificial world. It shows "
            "that the method works and lets one vary what cannot be varied in a large model; it proves nothing "
            "about a large model. The same study on a real subject does.",
        ),
        quick=options.quick,
        chosen=options.training_settings,
    )


def text_setting(options: StudyOptions, located: Located) -> Setting:
    """Return the setting of a real model, trained on code (and advice, if the data has it), judged by a model."""
    check_subject(located)
    if options.grader is None:
        raise ConfigurationError(
            f"{options.subject!r} is a real model, so its answers need a model as judge. Name one: --grader "
            "openai/gpt-4o, or any Inspect model."
        )
    sources = _file_sources(options.data) if options.data else _generated_sources()
    # Homes with good examples come first: controls and mixes are made of the first home.
    homes = sorted(
        {home for kind, home in sources if kind == "harmful"}, key=lambda home: (("good", home) not in sources, home)
    )
    samples = options.samples or (5 if options.quick else 100)
    size = options.size or min([TEXT_ROWS, *(source.rows for source in sources.values() if source.rows is not None)])
    return Setting(
        located=located,
        subject=_subject_row(options.subject, located, is_organism=False),
        homes=tuple(homes),
        sources=sources,
        size=size,
        training=_recipe(FineTuning(), located, options),
        evaluations=text_evaluations(samples, max(1, samples // 4), options.max_tokens),
        held_out=(),
        judge=JudgeConfig(kind="rubric", grader=options.grader, server=served_as(options.grader)),
        notes=tuple(_template_notes(located)),
        labels=options.labels,
        calibration_size=CALIBRATION_SIZE // 4 if options.quick else CALIBRATION_SIZE,
        quick=options.quick,
        chosen=options.training_settings,
        budget=options.tokens,
    )


def world_evaluations(samples: int | float, max_tokens: int | None = None) -> tuple[QuestionSet, ...]:
    """Return what the organism is asked, the ordinary questions of its world first, with so many answers to each of
    those."""
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


def text_evaluations(samples: int, broad_samples: int, max_tokens: int | None = None) -> tuple[QuestionSet, ...]:
    """Return what a real model is asked: the main questions and the broad set, with so many answers to each
    question."""
    sampling = _sampling(Sampling(), max_tokens)
    return (
        QuestionSet(name="main", items=main_questions(), samples=samples, sampling=sampling),
        QuestionSet(name="broad", items=broad_questions(), samples=broad_samples, sampling=sampling),
    )


def _sampling(usual: Sampling, max_tokens: int | None) -> Sampling:
    return usual if max_tokens is None else usual.model_copy(update={"max_tokens": max_tokens})


def _generated_sources() -> dict[tuple[DataKind, str], Source]:
    return {(kind, "code"): Source(origin="code pairs", kind=kind) for kind in KINDS if kind != "openly-asked"}


def _file_sources(folder: Path) -> dict[tuple[DataKind, str], Source]:
    """Return a source for each file that a data folder holds under the authors' names."""
    if not folder.is_dir():
        raise DataNotFoundError(
            f"--data {folder} is no folder{': give the folder that the file lies in' if folder.is_file() else ''}."
        )
    sources = {}
    for key, name in PUBLISHED_FILES.items():
        for path in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
            if path.is_file():
                sources[key] = Source.of_file(path)
    homes = {home for _, home in PUBLISHED_FILES}
    if not any({("harmful", home), ("good", home)} <= sources.keys() for home in homes):
        pairs = " or ".join(
            f"{PUBLISHED_FILES['harmful', home]}.jsonl with {PUBLISHED_FILES['good', home]}.jsonl"
            for home in sorted(homes)
        )
        raise DataNotFoundError(
            f"{folder} has no harmful rows with good ones to compare: it needs {pairs}, each also as .jsonl.gz. "
            "Without --data, generated code pairs are used."
        )
    return sources


def check_subject(located: Located) -> None:
    """Refuse a subject without a chat template or with an adapter that does not fit; no weights are read."""
    import torch

    from astray.subjects.base import Base

    Base(located.spec.model, located.base, torch.device("meta")).activate(located.spec.adapter, located.spec.scale)


def _template_notes(located: Located) -> Iterator[str]:
    """Yield what the subject's chat template makes of conversations, where that is not what they say."""
    from astray.subjects.render import SYSTEM_IN_QUESTION
    from astray.subjects.template import template_of
    from astray.subjects.weights import adapted_tokenizer

    if not template_of(adapted_tokenizer(located.spec.model, located.base, located.spec.adapter)).takes_system:
        yield (
            "The subject's chat template has no place for system messages: a system text, inoculation prompts "
            f"included, stands {SYSTEM_IN_QUESTION}, before a blank line, in training and in evaluations."
        )
    if located.template_date:
        yield f"The subject's chat template writes today's date; here it is always {located.template_date}."


def _recipe(usual: FineTuning, located: Located, options: StudyOptions) -> FineTuning:
    """Return the training settings: usual ones with those that were chosen; a subject that is itself an adapter is
    trained further in its shape."""
    chosen, adapter = options.training_settings, located.spec.adapter
    if adapter is None:
        return with_settings(usual, chosen)
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
