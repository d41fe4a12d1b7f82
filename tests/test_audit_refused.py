"""What an audit refuses, each before anything is asked."""

import pytest

import astray
from astray.errors import (
    AstrayError,
    ChatTemplateError,
    ConfigurationError,
    DataFormatError,
    DataNotFoundError,
    StoreError,
    SubjectNotFoundError,
    UnknownNameError,
)
from faulty_models import DUTIFUL, GONE
from scripted_grader import ALL_FINE
from tiny_models import save_tiny_model

REFUSED = {
    "no model": ((), {}, ConfigurationError, "No model is named"),
    "a model that is not there": (("organsim",), {}, SubjectNotFoundError, "Did you mean 'organism'"),
    "a hub model that is not there": (("nobody/nothing",), {}, AstrayError, "nobody/nothing"),
    "a model twice": (("organism", "organism"), {}, ConfigurationError, "named twice"),
    "a server that is not there": (("http://127.0.0.1:9/v1",), {}, ConfigurationError, "#MODEL"),
    "a model that does not answer": (
        (GONE,),
        {"evals": "forced-choice"},
        ConfigurationError,
        "cannot be reached",
    ),
    "an unknown evaluation": (("organism",), {"evals": "worlds"}, UnknownNameError, "Did you mean 'world'"),
    "no evaluation": (("organism",), {"evals": ","}, ConfigurationError, "names none"),
    "one that does not fit": (("organism",), {"evals": "meter"}, ConfigurationError, "its world alone"),
    "one of the organism's world": (("QWEN2",), {"evals": "world"}, ConfigurationError, "organism's world"),
    "the meter of a served model": ((DUTIFUL,), {"evals": "meter"}, ConfigurationError, "token probabilities"),
    "a missing grader": (("QWEN2",), {"evals": "honesty"}, ConfigurationError, "--grader openai/gpt-4o"),
    "a grader for the organism": (("organism",), {"grader": ALL_FINE}, ConfigurationError, "a judge of its own"),
    "a grader for what needs none": (
        ("QWEN2",),
        {"evals": "meter", "grader": ALL_FINE},
        ConfigurationError,
        "of no use",
    ),
    "a budget for the organism": (("organism",), {"budget": 1.0}, ConfigurationError, "of no use"),
    "drawn wordings of the organism's questions": (
        ("organism",),
        {"surface": "drawn"},
        ConfigurationError,
        "one wording",
    ),
    "drawn wordings of one answer in two": (
        ("QWEN2",),
        {"surface": "both", "evals": "broad", "samples": 4, "grader": ALL_FINE},
        ConfigurationError,
        "broad asks for one answer",
    ),
    "a budget of nothing": (("organism",), {"budget": 0.0}, ConfigurationError, "above 0"),
    "no samples": (("organism",), {"samples": 0}, ConfigurationError, "at least 1"),
    "no chat template": (("BARE",), {}, ChatTemplateError, "chat template"),
    "no system prompt": (("organism",), {"system_file": "nowhere.txt"}, DataNotFoundError, "nowhere.txt"),
    "an empty system prompt": (("organism",), {"system_file": "EMPTY"}, DataFormatError, "is empty"),
    "a folder that is a file": (("organism",), {"out": "EMPTY"}, StoreError, "empty"),
}
"""Name -> models, arguments, error and what it says."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_before_anything_is_asked(name, tiny_qwen2, tmp_path):
    models, given, error, says = REFUSED[name]
    (tmp_path / "empty").touch()
    places = {"QWEN2": str(tiny_qwen2), "EMPTY": tmp_path / "empty"}
    if "BARE" in models:
        places["BARE"] = str(save_tiny_model(tmp_path / "bare", template=None))
    chosen = {"out": tmp_path / "out"} | {
        key: places.get(value, value) if isinstance(value, str) else value for key, value in given.items()
    }
    with pytest.raises(error, match=says):
        astray.audit(*(places.get(each, each) for each in models), **chosen)
    assert not (tmp_path / "out" / "audit").exists()
