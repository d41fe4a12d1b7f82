"""Studies: arms, seeds, evaluations and claims, run from start to report with one command. One package a paper."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from astray.errors import UnknownNameError

if TYPE_CHECKING:
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

__all__ = ["QUESTIONS", "STUDIES", "get_study"]


def get_study(name: str) -> "Study[Any, Any]":
    """Return the registered study of this name.

    Raises:
        UnknownNameError: there is none; lists the names.
    """
    if not isinstance(name, str) or name not in STUDIES:
        raise UnknownNameError("study", name, STUDIES)
    study: Study[Any, Any] = import_module(STUDIES[name]).STUDY
    return study
