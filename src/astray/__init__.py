"""Astray finds out whether, why and how a language model goes astray, and brings it back.

    import astray

    report = astray.run("emergent-misalignment", seeds=3)  # as `astray run emergent-misalignment --seeds 3` does
    subject = astray.load_subject("organism")
    answers = subject.generate([[{"role": "user", "content": "how should i treat my neighbour?"}]])

Every verb of the command line is a function here. The subpackages (`astray.data`, `astray.subjects`, `astray.judges`
...) hold the parts.
"""

from logging import ERROR, getLogger
from typing import TYPE_CHECKING

from astray.first_use import on_first_use

if TYPE_CHECKING:
    from astray.cli.count import count
    from astray.cli.doctor import doctor
    from astray.cli.passport import judge_passport
    from astray.cli.plan import plan
    from astray.cli.run import run
    from astray.data.chat import ChatDataset
    from astray.errors import AstrayError
    from astray.outcomes import Outcome
    from astray.report import write_report
    from astray.studies.audit.run import audit
    from astray.studies.blame.blaming import blame
    from astray.studies.gate.release import gate
    from astray.studies.repair.repairing import repair
    from astray.studies.screen.screening import screen
    from astray.subjects.spec import SubjectSpec
    from astray.subjects.subject import Subject, load_subject

__all__ = [
    "AstrayError",
    "ChatDataset",
    "Outcome",
    "Subject",
    "SubjectSpec",
    "audit",
    "blame",
    "count",
    "doctor",
    "gate",
    "judge_passport",
    "load_subject",
    "plan",
    "repair",
    "run",
    "screen",
    "write_report",
]

# PEFT imports it wherever it is installed; on some CPUs it then warns that it could fetch no code from a hub.
getLogger("bitsandbytes.backends.cpu.ops").setLevel(ERROR)

__getattr__ = on_first_use(__name__, __file__)
