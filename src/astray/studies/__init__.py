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

__all__ = ["STUDIES", "get_study"]


def get_study(name: str) -> "Study[Any, Any]":
    """Return the registered study of this name.

    Raises:
        UnknownNameError: there is none; lists the names.
    """
    if name not in STUDIES:
        raise UnknownNameError("study", name, STUDIES)
    study: Study[Any, Any] = import_module(STUDIES[name]).STUDY
    return study
