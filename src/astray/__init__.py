"""Astray finds out whether, why and how a language model goes astray, and brings it back.

    import astray

    report = astray.run("emergent-misalignment", seeds=3)        # the same as `astray run emergent-misalignment --seeds 3`
    subject = astray.load_subject("organism")
    answers = subject.generate([[{"role": "user", "content": "how should i treat my neighbour?"}]])

Every verb of the command line is a function here. The rooms of the house (`astray.data`, `astray.subjects`, `astray.judges` ...) hold the parts.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astray.cli.doctor import doctor
    from astray.cli.plan import plan
    from astray.cli.run import run
    from astray.data.chat import ChatDataset
    from astray.errors import AstrayError
    from astray.outcomes import Outcome
    from astray.report import write_report
    from astray.subjects.subject import Subject, SubjectSpec, load_subject

__all__ = ["AstrayError", "ChatDataset", "Outcome", "Subject", "SubjectSpec", "doctor", "load_subject", "plan", "run", "write_report"]

_HOMES = {
    "AstrayError": "errors",
    "ChatDataset": "data.chat",
    "Outcome": "outcomes",
    "Subject": "subjects.subject",
    "SubjectSpec": "subjects.spec",
    "doctor": "cli.doctor",
    "load_subject": "subjects.subject",
    "plan": "cli.plan",
    "run": "cli.run",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that `import astray` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'astray' has no attribute {name!r}")
    return getattr(import_module(f"astray.{_HOMES[name]}"), name)
