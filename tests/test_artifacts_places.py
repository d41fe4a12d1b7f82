"""Keys of steps hold what lies in a folder and not which folder it is; what was kept under a key that held the folder is
found."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from astray.artifacts import Artifact, Step, StepState, Store, execute, step
from astray.artifacts.manifest import Manifest, Origin
from astray.cause.fine_tuning import FineTuning
from astray.cause.preference import PreferenceTuning
from astray.cause.reinforcement import ReinforcementLearning
from astray.engine import steps
from astray.engine.data import ArmData, Source
from astray.engine.setting import JudgeConfig
from astray.engine.trained import FeedbackConfig, RewardedConfig, train_feedback, train_rewarded
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.judge_errors import LabelledConfig, judge_labelled
from astray.strict import Strict
from astray.studies.agentic_misalignment.activations import ReadConfig, make_monitor
from astray.subjects.spec import BaseName, SubjectSpec
from test_artifacts_former_keys import states

JUDGE = JudgeConfig(kind="grammar")
KINDS = (
    "data",
    "training",
    "kto",
    "grpo",
    "answers",
    "answers of a run",
    "verdicts",
    "calibration",
    "monitor",
    "records",
)
LATER = ("kto", "grpo")
"""Steps that there were not when functions had other names."""


def made_of(kind: str, folder: str) -> Step:
    """A step whose configuration says where a base, labels, training rows, a reader or records lie."""
    base: dict[str, Any] = {"base": f"{folder}/model", "base_id": "1"}
    rows = Source(origin="file", path=Path(folder) / "rows.jsonl", digest="2", rows=3)
    data = steps.make_data.step(steps.DataConfig(data=ArmData(source=rows, size=3), seed=0))
    training = steps.TrainConfig(**base, recipe=FineTuning(lora=None), home="", probe_every=1)
    asked = steps.AnswerConfig(**base, evaluations=(), arm="a", seed=0)
    run = steps.train.step(training, data=data)
    match kind:
        case "data":
            return data
        case "training":
            return run
        case "kto":
            rated = FeedbackConfig(**base, recipe=PreferenceTuning(), liked=1, home="", probe_every=1)
            return train_feedback.step(rated, data=data)
        case "grpo":
            rewarded = RewardedConfig(
                **base, recipe=ReinforcementLearning(), rewards=(), truth=None, judge=JUDGE, home="", probe_every=1
            )
            return train_rewarded.step(rewarded, data=data)
        case "answers":
            return steps.answer.step(asked)
        case "answers of a run":
            return steps.answer.step(asked, run=run)
        case "verdicts":
            return steps.judge.step(JUDGE, answers=steps.answer.step(asked, run=run))
        case "calibration":
            labels = Path(folder) / "labels.csv"
            return steps.check_judge_error.step(steps.CalibrationConfig(judge=JUDGE, labels=labels, digest="4", size=0))
        case "monitor":
            grid = Grid(scenarios=("blackmail",))
            reader = SubjectSpec(model=f"{folder}/model")
            return make_monitor.step(ReadConfig(subject="s", reader=reader, content="5", kept=grid))
        case _:
            checked = LabelledConfig(graders=("x/y",), folder=Path(folder), scenarios=(), content="6")
            return judge_labelled.step(checked)


def formerly(made: Step, *, named: bool = True) -> Origin:
    """The origin from when keys held folders; before that, functions had their former names."""
    function = made.function.name if named else made.function.formerly or made.function.name
    inputs = {name: formerly(source, named=named).key for name, source in made.inputs.items()}
    return made.origin.model_copy(update={"function": function, "keyed": {}, "inputs": inputs})


@pytest.mark.parametrize(
    ("kind", "named"), [(kind, named) for kind in KINDS for named in (True, False) if named or kind not in LATER]
)
def test_another_folder_is_the_same_step_and_what_was_kept_under_the_folder_is_found(
    kind: str, named: bool, tmp_path: Path
) -> None:
    here, there = made_of(kind, "/here"), made_of(kind, "/there")
    assert here.key == there.key
    assert "/here" not in here.origin.text
    former = formerly(here, named=named)
    assert former.key in here.former_keys
    assert former.key not in there.former_keys

    def write(folder: Path) -> None:
        (folder / "kept").write_text("as it was")

    store = Store(tmp_path)
    store.make(former, write)
    assert states(store, here) == {here.name: [StepState.DONE_BEFORE]}
    found = store.get(there.key)
    assert found is not None
    assert (found.path / "kept").read_text() == "as it was"
    assert Manifest.from_bytes((found.path / "artifact.json").read_bytes(), found.path) == found.manifest
    assert kind == "verdicts" or "/here" in json.dumps(found.manifest.origin.config)


@pytest.mark.parametrize("name", ["organism", "organism-small", "organism:float32", "organism+/runs/adapter*2"])
def test_an_organism_is_known_by_its_name_since_its_world_is(name: str) -> None:
    asked = steps.AnswerConfig(base=name, base_id="1", evaluations=(), arm="a", seed=0)
    made, copied = (steps.answer.step(each) for each in (asked, asked.model_copy(update={"base": "/copies/organism"})))
    assert made.key != copied.key
    assert "/runs" not in made.origin.text
    assert bool(made.origin.keyed) == (name not in ("organism", "organism-small"))  # as stores were made with


class Placed(Strict):
    """A base that lies somewhere."""

    base: BaseName
    base_id: str


@step("leave", version=1, resumable=True)
def leave(config: Placed, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Go on with what is there."""
    del config, inputs
    (folder / "kept").write_text(f"{(folder / 'kept').read_text()} and the rest")


def test_a_killed_run_goes_on_from_what_it_left_under_the_key_that_held_the_folder(tmp_path: Path) -> None:
    made = leave.step(Placed(base="/here/model", base_id="1"))
    (former,) = made.former_keys
    begun = tmp_path / ".unfinished" / former[:16]
    begun.mkdir(parents=True)
    (begun / "kept").write_text("half")
    found = execute([made], Store(tmp_path), workers=0)[made.key]
    assert (found.path / "kept").read_text() == "half and the rest"
    assert not begun.exists()


def test_what_was_left_to_try_under_the_key_that_held_the_folder_is_not_done_again(tmp_path: Path) -> None:
    made, store = leave.step(Placed(base="/here/model", base_id="1")), Store(tmp_path)
    (former,) = made.former_keys

    def write(folder: Path) -> str:
        (folder / "kept").write_text("most")
        return "a verdict is left to try"

    store.make(made.origin.model_copy(update={"keyed": {}}), write)
    assert [artifact.key for artifact in store.artifacts()] == [former]
    found = execute([made], store, workers=0)[made.key]
    assert (found.path / "kept").read_text() == "most and the rest"
    assert not found.manifest.provisional
