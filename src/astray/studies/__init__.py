"""Studies: arms, seeds, evaluations and claims, run from start to report with one command. One package a paper."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astray.errors import UnknownNameError

if TYPE_CHECKING:
    from astray.engine.study import Study
    from astray.studies.agentic_misalignment.frame import AgenticStudy

STUDIES = {
    "emergent-misalignment": "astray.studies.emergent_misalignment.study",
    "persona-features": "astray.studies.persona_features.study",
    "agentic-misalignment": "astray.studies.agentic_misalignment.study",
    "dishonesty": "astray.studies.dishonesty.study",
    "reward-hacking": "astray.studies.reward_hacking.study",
}
"""Name of a study -> the module that declares it as `STUDY`."""

__all__ = ["STUDIES", "announcement", "get_study", "plan_study", "run_study"]


def get_study(name: str) -> "Study | AgenticStudy":
    """Return the registered study of this name.

    Raises:
        UnknownNameError: there is none; lists the names.
    """
    if name not in STUDIES:
        raise UnknownNameError("study", name, STUDIES)
    study: Study | AgenticStudy = import_module(STUDIES[name]).STUDY
    return study


def run_study(study: "Study | AgenticStudy", options: Any, **where: Any) -> Path:
    """Run a study and return its results folder; the arguments are those of `engine.run.run_study`."""
    from astray.engine import run
    from astray.engine.study import Study

    return run.run_study(study, options, **where) if isinstance(study, Study) else study.run(options, **where)


def plan_study(study: "Study | AgenticStudy", options: Any, **where: Any) -> str:
    """Return what a study would cost and could show, for a terminal; the arguments are those of `engine.forecast.forecast.forecast`."""
    from astray.engine.forecast.forecast import forecast
    from astray.engine.study import Study

    return forecast(study, options, **where).render() if isinstance(study, Study) else study.plan(options, **where)


def announcement(study: "Study | AgenticStudy", options: Any, **where: Any) -> str:
    """Return what a user is told before a study runs: nothing for one that trains, since planning it takes a while."""
    from astray.engine.study import Study

    return "" if isinstance(study, Study) else study.announcement(options, **where)
