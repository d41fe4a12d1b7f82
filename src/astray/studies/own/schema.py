"""JSON schema of study files, made from the same models that read them."""

from typing import Any

from astray.cause.fine_tuning import SETTINGS, settings_of
from astray.cause.named_rewards import REWARDS
from astray.cause.preference import PreferenceTuning
from astray.cause.reinforcement import ReinforcementLearning
from astray.data.sources import SOURCES
from astray.measure.evaluations import EVALUATIONS
from astray.studies.own.form import StudyForm


def study_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a study file.

    What only the reading of a file can tell, such as an arm that is not there, stands in no schema.
    """
    schema = StudyForm.model_json_schema()
    kinds = schema["$defs"]
    kinds["Generated"]["properties"]["source"]["enum"] = list(SOURCES)
    kinds["EvaluationForm"]["properties"]["evaluation"]["examples"] = ["main", "broad", "world", "facts", *EVALUATIONS]
    kinds["NamedReward"]["properties"]["reward"]["enum"] = list(REWARDS)
    every = dict.fromkeys((*SETTINGS, *settings_of(PreferenceTuning), *settings_of(ReinforcementLearning)))
    for form, names in ((schema, SETTINGS), (kinds["ArmForm"], every)):
        form["properties"]["settings"]["propertyNames"] = {"enum": list(names)}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
