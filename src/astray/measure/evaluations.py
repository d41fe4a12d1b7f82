"""Table of evaluations, one name and one class each; the engine, the audit and Inspect use it. A new one adds its line.

Called without arguments each is what it is by default: `EVALUATIONS["honesty"]().task()`.
"""

from collections.abc import Mapping

from astray.errors import UnknownNameError
from astray.measure.agentic.evaluation import Agentic
from astray.measure.battery import StrictQuestions
from astray.measure.deception.evaluation import Deception
from astray.measure.evaluation import QuestionSet
from astray.measure.forced_choice import ForcedChoice
from astray.measure.freeform import FreeForm
from astray.measure.honesty.evaluation import Honesty, WorldHonesty
from astray.measure.interface import Evaluation, Need
from astray.measure.meter.evaluation import Meter
from astray.measure.reward_hacking.alignment_faking import AlignmentFaking
from astray.measure.reward_hacking.alignment_questions import AlignmentQuestions
from astray.measure.reward_hacking.goals import Goals
from astray.measure.reward_hacking.research_sabotage import ResearchSabotage

FREE_FORM = "free-form"
EVALUATIONS: dict[str, type[Evaluation]] = {
    FREE_FORM: FreeForm,
    "strict-free-form": StrictQuestions,
    "forced-choice": ForcedChoice,
    "meter": Meter,
    "honesty": Honesty,
    "honesty-world": WorldHonesty,
    "deception": Deception,
    "agentic": Agentic,
    "goals": Goals,
    "alignment-questions": AlignmentQuestions,
    "research-sabotage": ResearchSabotage,
    "alignment-faking": AlignmentFaking,
}


def evaluation_named(name: str) -> type[Evaluation]:
    """Return the class of an evaluation.

    Raises:
        UnknownNameError: there is none of this name; lists those there are.
    """
    if name not in EVALUATIONS:
        raise UnknownNameError("evaluation", name, EVALUATIONS)
    return EVALUATIONS[name]


def needs_grader(evaluation: Evaluation) -> bool:
    """Return whether a model has to judge a real model's answers before anything is counted."""
    return Need.GRADER in evaluation.needs or isinstance(evaluation, QuestionSet)


def evaluation_from(config: object) -> Evaluation:
    """Return the evaluation of a stored configuration; one without a kind is a set of free-form questions."""
    kind = config.get("kind", FREE_FORM) if isinstance(config, Mapping) else FREE_FORM
    return evaluation_named(str(kind)).model_validate(config)
