"""Studies: arms, seeds, evaluations and claims, run from start to report with one command. One file a paper."""

from typing import TYPE_CHECKING

from astray.errors import UnknownNameError

if TYPE_CHECKING:
    from astray.studies.agentic_study import AgenticStudy
    from astray.studies.study import Study

STUDIES = {
    "emergent-misalignment": "astray.studies.emergent_misalignment",
    "persona-features": "astray.studies.persona_features",
    "agentic-misalignment": "astray.studies.agentic_misalignment",
    "dishonesty": "astray.studies.dishonesty",
    "reward-hacking": "astray.studies.reward_hacking",
}
"""Name of a study -> the module that declares it as `STUDY`."""

__all__ = ["STUDIES", "get_study"]


def get_study(name: str) -> "Study | AgenticStudy":
    """The registered study of this name.

    Raises:
        UnknownNameError: there is none; lists the names.
    """
    from importlib import import_module

    if name not in STUDIES:
        raise UnknownNameError("study", name, STUDIES)
    study: Study | AgenticStudy = import_module(STUDIES[name]).STUDY
    return study
