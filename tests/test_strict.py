"""What a person writes is taken as it is written or refused in Astray's own words; nothing is converted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from astray.cause.fine_tuning import FineTuning, LoRA, setting_from_text, with_settings
from astray.data.chat import Recipe
from astray.engine.options import StudyOptions, checked, from_command_line
from astray.errors import AstrayError, ConfigurationError, DataFormatError
from astray.judges import GraderSettings, Rubric, Thresholds
from astray.judges.config import JudgeConfig
from astray.measure.honesty.records import records_from_file
from astray.measure.question_sets import questions_from_file
from astray.sandbox.limits import Limits
from astray.subjects.spec import Intervention, Sampling, Schedule, SubjectSpec

NAN, INFINITE = float("nan"), float("inf")
REFUSED: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    # what is made, with which values, what the error says
    (SubjectSpec, {"model": 7}, "model: .*given '7' \\(a whole number\\); write a text"),
    (SubjectSpec, {"model": "x", "scale": "1.5"}, "scale: .*given '1.5' \\(a text\\); write a number"),
    (SubjectSpec, {"model": "x", "scale": True}, "scale: .*\\(true or false\\)"),
    (SubjectSpec, {"model": "x", "scale": NAN}, "scale: .*neither NaN nor infinite"),
    (SubjectSpec, {"model": "x", "adapter": 3}, "adapter: .*write the path as a text"),
    (SubjectSpec, {"model": "x", "adapter": b"x"}, "adapter: .*a bytes"),
    (SubjectSpec, {"model": "x", "system": ["Be kind."]}, "system: .*write a text"),
    (SubjectSpec, {"model": "x", "adaptor": "y"}, "adaptor: there is no such key.*takes: model, adapter"),
    (SubjectSpec, {}, "model: is missing"),
    (SubjectSpec, {"model": "x", "intervention": {"kind": "add", "vector": "v", "block": "1"}}, "intervention.block: .*write a whole number"),
    (SubjectSpec, {"model": "x", "intervention": {"kind": "add", "vector": "v", "block": 1, "strength": NAN}}, "intervention.strength: .*finite"),
    (SubjectSpec, {"model": "x", "intervention": [{"kind": "turn", "vector": "v", "block": 1}]}, "intervention.0.kind: .*'add' or 'ablate'"),
    (SubjectSpec.model_validate, {"obj": {"model": "x", "scale": "2"}}, "scale: .*write a number"),
    (SubjectSpec.model_validate, {"obj": "organism"}, "SubjectSpec cannot be made"),
    (SubjectSpec.model_validate_json, {"json_data": '{"model": "x", "scale": "2"}'}, "scale: .*write a number"),
    (SubjectSpec.model_validate_json, {"json_data": "{"}, "SubjectSpec cannot be made"),
    (SubjectSpec(model="x").model_copy, {"update": {"scale": "2"}}, "scale: .*write a number"),
    (SubjectSpec(model="x").model_copy, {"update": {"scales": 2.0}}, "there is no such key"),
    (Intervention, {"kind": "add", "vector": "v", "block": 1.0}, "block: .*given '1.0' \\(a number\\); write a whole number"),
    (Schedule, {"kind": "ramp", "tokens": True}, "tokens: .*write a whole number"),
    (Sampling, {"temperature": "0"}, "temperature: .*write a number"),
    (Sampling, {"max_tokens": 10.0}, "max_tokens: .*write a whole number"),
    (Sampling, {"max_tokens": np.float64(10)}, "max_tokens: .*a float64"),
    (Sampling, {"top_p": NAN}, "top_p: "),
    (Sampling, {"stop": "END"}, "stop: "),
    (Sampling, {"stop": {"END", "STOP"}}, "stop: a set has no order"),
    (Sampling, {"stop": (1, 2)}, "stop.0: .*write a text"),
    (GraderSettings, {"temperature": "0"}, "temperature: .*write a number"),
    (GraderSettings, {"temperature": INFINITE}, "temperature: .*finite"),
    (GraderSettings, {"max_tokens": "16"}, "max_tokens: .*write a whole number"),
    (GraderSettings, {"top_logprobs": True}, "top_logprobs: .*write a whole number"),
    (GraderSettings, {"retries": 3}, "retries: there is no such key"),
    (Thresholds, {"misaligned_below": "30"}, "misaligned_below: .*write a number"),
    (Thresholds, {"coherent_above": NAN}, "coherent_above: "),
    (Rubric, {"name": "mine", "aligned": 1, "coherent": "?"}, "aligned: .*write a text"),
    (JudgeConfig, {"kind": "model"}, "kind: .*'grammar' or 'rubric'"),
    (JudgeConfig, {"kind": "rubric", "grader": 4}, "grader: .*write a text"),
    (Recipe, {"name": 3}, "Recipe cannot be made"),
    (Limits, {"seconds": "3"}, "Limits cannot be made"),
    (FineTuning, {"learning_rate": "1e-5"}, "learning_rate: .*write a number"),
    (FineTuning, {"epochs": 1.0}, "epochs: .*write a whole number"),
    (FineTuning, {"learning_rate": INFINITE}, "learning_rate: .*finite"),
    (LoRA, {"layers": "all"}, "layers: "),
    (LoRA, {"rank_stabilised": "yes"}, "rank_stabilised: .*write true or false"),
    (StudyOptions, {"seeds": "3"}, "seeds: .*write a whole number"),
    (StudyOptions, {"quick": 1}, "quick: .*write true or false"),
    (StudyOptions, {"sedes": 3}, "sedes: there is no such key"),
    (StudyOptions, {"training": {"warmup_steps": "3"}}, "warmup_steps=3: .*write a whole number"),
    (lambda **options: checked(StudyOptions, **options), {"seeds": "3"}, "--seeds 3: .*write a whole number"),
    (lambda **options: checked(StudyOptions, **options), {"budget": NAN}, "--budget nan: "),
    (lambda **options: checked(StudyOptions, **options), {"learning_rate": True}, "--learning-rate True: .*write a number"),
    (lambda **typed: from_command_line(StudyOptions, typed), {"seeds": "three"}, "--seeds three: "),
    (lambda **typed: from_command_line(StudyOptions, typed), {"seeds": "2.5"}, "--seeds 2.5: "),
    (lambda **typed: from_command_line(StudyOptions, typed), {"learning_rate": "nan"}, "--learning-rate nan: "),
    (lambda **settings: with_settings(FineTuning(), settings), {"target_modules": "q_proj"}, "target_modules=q_proj: "),
]  # fmt: skip


@pytest.mark.parametrize(("make", "given", "told"), REFUSED)
def test_what_is_no_such_value_is_refused(make: Callable[..., Any], given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s){told}"):
        make(**given)


RECORD = "archetype: provided facts\nrecords:\n  - id: a\n    proposition: p\n    truth: {truth}\n    belief: b\n    question: {question}"
FILES: list[tuple[Callable[[Path], object], str, str]] = [
    # who reads it, what it holds, where the error points and what it says
    (questions_from_file, "category: a\nquestions:\n  - {id: tea, question: 7}", "line 3, column 25: entry 1 \\(tea\\), question: .*write a text"),
    (questions_from_file, "category: yes\nquestions: [{id: tea, question: a}]", "line 1, column 11: category: .*true or false"),
    (questions_from_file, "category: a\nquestions: [{id: tea, question: a, n: 1}]", "line 2, column 36: unknown key 'n'"),
    (records_from_file, RECORD.format(truth=1, question="q"), "line 5, column 12: entry 1 \\(a\\), truth: .*write true or false"),
    (records_from_file, RECORD.format(truth="'yes'", question="q"), "line 5, column 12: entry 1 \\(a\\), truth: .*write true or false"),
    (records_from_file, RECORD.format(truth="true", question="[q]"), "line 7, column 15: entry 1 \\(a\\), question: .*write a text"),
    (records_from_file, RECORD.format(truth="true", question="q\n    sistem: x"), "line 8, column 5: unknown key 'sistem'. Did you mean 'system'"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "text", "told"), FILES)
def test_a_file_is_refused_with_line_and_column(
    tmp_path: Path, read: Callable[[Path], object], text: str, told: str
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(DataFormatError, match=rf"(?s)mine\.yaml, {told}"):
        read(tmp_path / "mine.yaml")


def test_what_loses_nothing_is_taken() -> None:
    spec = SubjectSpec(model="x", adapter="there", scale=2)  # type: ignore[arg-type]
    assert (spec.adapter, spec.scale) == (Path("there"), 2.0)
    assert Sampling(stop=["END"], temperature=1).stop == ("END",)  # type: ignore[arg-type]
    assert Sampling(temperature=np.float64(0.5)).temperature == 0.5
    typed = from_command_line(StudyOptions, {"seeds": "3", "learning_rate": "1e-4", "arms": "a,b", "out": "there"})
    assert typed == {"seeds": 3, "learning_rate": 1e-4, "arms": ("a", "b"), "out": "there"}
    pairs = StudyOptions(training=("warmup_steps=0", "layers=1,2", "rank_stabilised=false"))  # type: ignore[arg-type]
    assert pairs.training == {"warmup_steps": 0, "layers": (1, 2), "rank_stabilised": False}
    assert setting_from_text("epochs", "many") == "many"


STORED = [
    SubjectSpec(model="x", adapter=Path("there"), scale=1.5, intervention=(Intervention(kind="add", vector=Path("v"), block=1),)),
    FineTuning(lora=LoRA(layers=(1, 2))),
    Sampling(stop=("END",)),
    JudgeConfig(kind="rubric", grader="openai/gpt-4o"),
]  # fmt: skip


@pytest.mark.parametrize("config", STORED)
def test_stored_configurations_are_read_back(config: Any) -> None:
    assert type(config).model_validate_json(config.model_dump_json()) == config
    assert type(config).model_validate(config.model_dump(mode="json")) == config


def test_an_error_of_astrays_own_comes_through_as_it_is() -> None:
    with pytest.raises(AstrayError, match=r"no training setting called 'rnak'\. Did you mean 'rank'"):
        StudyOptions(training={"rnak": 3})
