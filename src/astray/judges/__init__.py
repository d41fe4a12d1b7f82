"""Judges: each reads one exchange and gives one verdict; with them their known error, and the judging of whole tables.

The rubric judge needs Inspect, which takes over a second to import: its names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from astray.judges.calibrate import Calibration, LabelledAnswer, calibrate_judge, corrected, read_labels
from astray.judges.failures import Cause, cause_of, count_causes
from astray.judges.judge import Exchange, Judge, Verdict
from astray.judges.rescore import assert_judge_works, judge_answers, judge_exchanges
from astray.judges.score import Thresholds
from astray.judges.world_labels import world_labels

if TYPE_CHECKING:
    from astray.judges.grader import GraderSettings
    from astray.judges.rubric import BETLEY, Rubric, RubricJudge
    from astray.judges.words import WordGrader

__all__ = [
    "BETLEY",
    "Calibration",
    "Cause",
    "Exchange",
    "GraderSettings",
    "Judge",
    "LabelledAnswer",
    "Rubric",
    "RubricJudge",
    "Thresholds",
    "Verdict",
    "WordGrader",
    "assert_judge_works",
    "calibrate_judge",
    "cause_of",
    "corrected",
    "count_causes",
    "judge_answers",
    "judge_exchanges",
    "read_labels",
    "world_labels",
]

_LOADED_LATE = {"BETLEY": "rubric", "Rubric": "rubric", "RubricJudge": "rubric", "GraderSettings": "grader", "WordGrader": "words"}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LOADED_LATE[name]}"), name)
