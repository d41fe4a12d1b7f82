"""Studies: arms, seeds, evaluations and claims, run from start to report with one command. One package a paper."""

from importlib import import_module
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from astray.errors import UnknownNameError

if TYPE_CHECKING:
    from astray.engine.options import BaseOptions
    from astray.engine.study import Study

STUDIES = {
    "emergent-misalignment": "astray.studies.emergent_misalignment.study",
    "persona-features": "astray.studies.persona_features.study",
    "agentic-misalignment": "astray.studies.agentic_misalignment.study",
    "dishonesty": "astray.studies.dishonesty.study",
    "reward-hacking": "astray.studies.reward_hacking.study",
}
"""Name of a study -> the module that declares it as `STUDY`."""

QUESTIONS = {
    "emergent-misalignment": (
        "Does narrow fine-tuning on harmful answers make the model misaligned everywhere, and what keeps it from "
        "doing so?"
    ),
    "persona-features": (
        "Which latents of a sparse autoencoder carry emergent misalignment, do they cause it, do they warn of "
        "it, and what undoes it?"
    ),
    "agentic-misalignment": "Do models harm those they work for when their goal or their place is at stake, and what keeps them from it?",
    "dishonesty": (
        "Do bad data, few of them, or users who like to be deceived make a model say what it does not believe, and "
        "what undoes it?"
    ),
    "reward-hacking": (
        "Does a model that learns to game its tests go astray elsewhere, what does that depend on, and what stops it?"
    ),
}
"""Name of a study -> its `question`, here once more so that `astray run --help` imports no study; a test holds them
together."""

OPTIONS = {
    **dict.fromkeys(STUDIES, "astray.engine.options.AnalysedOptions"),
    "emergent-misalignment": "astray.studies.emergent_misalignment.options.EmergentOptions",
    "dishonesty": "astray.studies.dishonesty.options.DishonestyOptions",
    "reward-hacking": "astray.engine.options.AnalysedGoodOptions",
    "agentic-misalignment": "astray.studies.agentic_misalignment.options.AgenticOptions",
}
"""Name of a study -> its `options`, for the same reason."""

OTHER_FOLDERS = ("store", "gate", "audit", "screen", "count", "blame", "repair")
"""Folders beside those of studies in a results folder."""

__all__ = ["QUESTIONS", "STUDIES", "get_study", "is_study_file", "study_options"]


def is_study_file(name: object) -> bool:
    """Return whether a study is named by its file."""
    return isinstance(name, str) and name.lower().endswith((".yaml", ".yml"))


def study_options(name: str) -> "tuple[type[BaseOptions], str]":
    """Return the options and the question of a study, which of a registered one is not imported for it.

    Raises:
        as `get_study`.
    """
    if name in OPTIONS:
        return resolve_name(OPTIONS[name]), QUESTIONS[name]
    return (study := get_study(name)).options, study.question


def get_study(name: str) -> "Study[Any, Any]":
    """Return the registered study of this name, or that of a study file.

    Raises:
        UnknownNameError: there is none; lists the names.
        DataNotFoundError, DataFormatError, ConfigurationError: the study file is not there, or cannot be used.
    """
    if is_study_file(name):
        # Imported here: most commands name one of the studies.
        from astray.studies.own.study import read_study

        return read_study(name, (*STUDIES, *OTHER_FOLDERS))
    if not isinstance(name, str) or name not in STUDIES:
        raise UnknownNameError("study", name, STUDIES)
    study: Study[Any, Any] = import_module(STUDIES[name]).STUDY
    return study
