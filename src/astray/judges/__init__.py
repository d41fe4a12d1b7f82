"""Judges: each reads one exchange and gives one verdict; with their known error, and the judging of whole tables.

Names are imported on first use.
"""

from typing import TYPE_CHECKING

from astray.first_use import on_first_use

if TYPE_CHECKING:
    from astray.judges.calibrate import Calibration, LabelledAnswer, calibrate_judge, corrected, read_labels
    from astray.judges.config import JudgeConfig
    from astray.judges.distilled import judge_names, known_error
    from astray.judges.failures import Cause, cause_of, count_causes
    from astray.judges.grader import GraderSettings
    from astray.judges.grammar import GrammarJudge
    from astray.judges.judge import Exchange, Judge, Verdict
    from astray.judges.labels_of_world import world_labels
    from astray.judges.rescore import assert_judge_works, judge_answers, judge_exchanges
    from astray.judges.rubric import BETLEY, Rubric, RubricJudge
    from astray.judges.score import Thresholds
    from astray.judges.words import WordGrader

__all__ = [
    "BETLEY",
    "Calibration",
    "Cause",
    "Exchange",
    "GraderSettings",
    "GrammarJudge",
    "Judge",
    "JudgeConfig",
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
    "judge_names",
    "known_error",
    "read_labels",
    "world_labels",
]

__getattr__ = on_first_use(__name__, __file__)
