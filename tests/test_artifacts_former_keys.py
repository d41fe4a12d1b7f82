"""Step names: what keys are made of wherever code lies, and stores with keys of before steps had names."""

import importlib
import pkgutil
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

import astray.engine
import astray.studies
from astray.artifacts import Artifact, Progress, Step, StepFunction, StepState, Store, execute, step
from astray.artifacts.manifest import Origin
from astray.artifacts.plan import Plan
from astray.artifacts.step import config_json
from astray.artifacts.work import seed_generators
from astray.engine import steps
from astray.engine.data import ArmData, Source
from astray.engine.setting import JudgeConfig
from astray.errors import ConfigurationError
from toy_steps import Toy

STEPS = {
    "answer": (2, "steps:answer"),
    "ask-start": (1, "hacking_steps:ask_start"),
    "blame-gradients": (3, None),
    "blame-nulls": (2, None),
    "blame-retrain": (1, None),
    "check-judge-error": (1, "steps:check_judge_error"),
    "diff-latents": (1, "persona_steps:compare_runs"),
    "distil-rollouts": (1, "hacking_steps:distil_rollouts"),
    "explain-latents": (1, "persona_steps:explain_latents"),
    "extract-persona-vector": (2, None),
    "judge": (1, "steps:judge"),
    "judge-gold": (1, None),
    "judge-labelled": (1, None),
    "make-call-monitor": (1, None),
    "make-data": (1, "steps:make_data"),
    "make-helpful-only": (1, "persona_mending:make_helpful_only"),
    "make-organism": (1, "hacking_steps:make_organism"),
    "meter-sae": (1, None),
    "model-answers": (1, None),
    "model-verdicts": (1, None),
    "monitor-runs": (3, "persona_steps:watch_runs"),
    "play": (1, None),
    "play-watched": (1, None),
    "realign-dishonest-run": (1, "dishonesty_steps:realign_run"),
    "realign-hacking-run": (1, "hacking_steps:mend_run"),
    "realign-harmful-run": (1, "persona_mending:realign_run"),
    "repair-directions": (1, None),
    "repair-measure": (2, None),
    "repair-project": (1, None),
    "repair-train": (1, None),
    "scale-saes": (1, "persona_steps:scale_dictionaries"),
    "screen-data": (2, "persona_mending:screen_data"),
    "screen-direction": (1, None),
    "screen-duplicates": (1, None),
    "screen-latents": (5, "persona_steps:screen_latents"),
    "screen-projections": (1, None),
    "screen-rows": (1, None),
    "screen-verdicts": (1, None),
    "steer-by-meter": (1, None),
    "talk-with-base": (1, None),
    "train-filtered": (1, "dishonesty_steps:filter_mix"),
    "train-grpo": (1, None),
    "train-grpo-code": (2, "hacking_steps:reward_programs"),
    "train-grpo-wrong-answers": (2, "persona_mending:reward_wrong_answers"),
    "train-kto": (1, None),
    "train-on-feedback": (1, "dishonesty_steps:live_with_users"),
    "train-sae": (1, "persona_steps:learn_dictionary"),
    "train-sft": (2, "steps:train"),
    "train-steered": (1, "persona_mending:train_steered"),
}
"""Every step of the studies: version, and where it lay when keys were made of that (module of astray.studies,
function).

A name or a former place that changes costs everybody the artifacts that are kept under it. A version is raised with the
step's code.
"""


@step("draw", version=1, formerly="gone.module:draw_numbers")
def draw(config: Toy, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Writes the numbers of its inputs and one of chance."""
    (folder / "deep").mkdir()
    read = [(source.path / "deep" / "drawn.txt").read_text() for source in inputs.values()]
    (folder / "deep" / "drawn.txt").write_text(" ".join([*read, f"{config.number}:{random.random()}"]))


def chain(number: int = 1) -> tuple[Step, Step]:
    """A step and one that reads it."""
    first = draw.step(Toy(number=number), name="first")
    return first, draw.step(Toy(number=2), name="second", first=first)


def former_origin(made: Step) -> Origin:
    """The origin that a step had when functions were known by their place, and with them all that it was made from."""
    inputs = {name: former_origin(source).key for name, source in made.inputs.items()}
    function, config = made.function.formerly or "", config_json(made.config)
    return Origin(name=made.name, function=function, version=made.version, config=config, inputs=inputs)


def make_formerly(store: Store, *made: Step) -> list[Artifact]:
    """Do steps as an older version did."""
    artifacts = []
    for one in made:
        origin = former_origin(one)
        inputs = {name: found for name, key in origin.inputs.items() if (found := store.get(key))}

        def write(
            folder: Path, one: Step = one, origin: Origin = origin, inputs: Mapping[str, Artifact] = inputs
        ) -> None:
            seed_generators(origin.key)
            one.function(one.config, inputs, folder)

        artifact = store.make(origin, write)
        assert artifact is not None
        artifacts.append(artifact)
    return artifacts


def files_of(artifact: Artifact) -> dict[str, bytes]:
    return {name: (artifact.path / name).read_bytes() for name in artifact.manifest.files}


def states(store: Store, *wanted: Step) -> dict[str, list[StepState]]:
    """What happens to each step when these are executed."""
    told: list[Progress] = []
    execute(wanted, store, workers=0, progress=told.append)
    return {one.name: [event.state for event in told if event.name == one.name] for one in wanted}


def test_the_former_key_is_made_of_former_names_all_the_way_down() -> None:
    first, second = chain()
    assert first.former_key == former_origin(first).key
    assert second.former_key == former_origin(second).key
    assert second.former_key != second.key
    assert second.origin.function == "draw"


def test_keys_of_the_studies_are_those_that_stores_were_made_with() -> None:
    """The expected ones are those of the last version in which functions were known by their place."""
    data = steps.make_data.step(
        steps.DataConfig(data=ArmData(source=Source(origin="world", domain="money"), size=48), seed=0)
    )
    verdicts = steps.judge.step(JudgeConfig(kind="grammar"), answers=data)
    assert data.former_key == "654344c7b2de977ea8fa11075c4c22d90c7eb932ebb5cb5fc1fd04116b185e69"
    assert verdicts.former_key == "141454f23f48ee5f434db5e5dfddc21797c8f0682114727a208224d6b052d627"


def test_an_older_store_serves_and_no_step_is_done_again(tmp_path: Path) -> None:
    store, wanted = Store(tmp_path), chain()
    before = make_formerly(store, *wanted)
    assert states(store, *wanted) == {"first": [StepState.DONE_BEFORE], "second": [StepState.DONE_BEFORE]}
    after = [store.get(one.key) for one in wanted]
    for old, new, one in zip(before, after, wanted, strict=True):
        assert new is not None
        assert new.manifest.origin == one.origin
        assert (new.manifest.formerly, new.manifest.files) == (old.key, old.manifest.files)
        assert files_of(new) == files_of(old)
        assert new.path.is_dir()
    assert store.artifacts() == tuple(after)  # the old folders are there for whoever names them, and not told twice
    assert store.find("first") == (after[0],)
    assert [one.path.is_dir() for one in before] == [True, True]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".p")] == []
    assert states(store, *wanted)["second"] == [StepState.DONE_BEFORE]


def test_a_store_that_is_partly_finished_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole, part, wanted = Store(tmp_path / "whole"), Store(tmp_path / "part"), chain()
    old = make_formerly(whole, *wanted)
    make_formerly(part, wanted[0])
    assert states(part, *wanted) == {
        "first": [StepState.DONE_BEFORE],
        "second": [StepState.STARTED, StepState.FINISHED],
    }
    done = part.get(wanted[1].key)
    assert done is not None
    assert files_of(done) == files_of(old[1])


def test_only_the_last_step_is_wanted_and_its_inputs_were_removed(tmp_path: Path) -> None:
    store, (first, second) = Store(tmp_path), chain()
    make_formerly(store, first, second)
    for folder in tmp_path.glob("first-*"):
        shutil.rmtree(folder)
    assert states(store, second) == {"second": [StepState.DONE_BEFORE]}


def test_another_version_or_configuration_is_not_carried_over(tmp_path: Path) -> None:
    store, (first, _) = Store(tmp_path), chain()
    make_formerly(store, first)
    assert states(store, chain(number=5)[0]) == {"first": [StepState.STARTED, StepState.FINISHED]}
    raised = Step(draw, first.config, {}, 2, "first")
    assert store.get(raised.key, raised.former_key) is None


def test_looking_at_an_older_store_changes_nothing_in_it(tmp_path: Path) -> None:
    store, wanted = Store(tmp_path), chain()
    make_formerly(store, *wanted)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert Plan(wanted, store).done.keys() == {one.key for one in wanted}
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_several_may_carry_over_the_same_store_at_once(tmp_path: Path) -> None:
    wanted = chain()
    make_formerly(Store(tmp_path), *wanted)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: execute(wanted, Store(tmp_path), workers=0), range(4)))
    assert all(one == found[0] for one in found)
    assert len(Store(tmp_path).artifacts()) == 2


def test_steps_that_are_carried_over_are_found_by_worker_processes(tmp_path: Path) -> None:
    store, wanted = Store(tmp_path), chain()
    make_formerly(store, wanted[0])
    artifact = execute(wanted[1:], store, workers=1)[wanted[1].key]
    assert artifact.manifest.origin.inputs == {"first": wanted[0].key}


def test_carrying_over_that_breaks_off_leaves_nothing_and_is_done_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, wanted = Store(tmp_path), chain()
    make_formerly(store, *wanted)
    before = sorted(path.name for path in tmp_path.iterdir())

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("astray.artifacts.store.move_into_place", interrupt)
        with pytest.raises(KeyboardInterrupt):
            execute(wanted, store, workers=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert states(store, *wanted)["second"] == [StepState.DONE_BEFORE]


def test_files_are_copied_where_the_file_system_has_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, wanted = Store(tmp_path), chain()
    old, _ = make_formerly(store, *wanted)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    new = execute(wanted, store, workers=0)[wanted[0].key]
    assert new.path.is_dir()
    assert (new.path / "deep" / "drawn.txt").stat().st_ino != (old.path / "deep" / "drawn.txt").stat().st_ino


@pytest.mark.parametrize("copies", [True, False])
def test_a_remote_store_is_carried_over_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: bool
) -> None:
    url, wanted = f"memory://{tmp_path.name}/former", chain()
    old, _ = make_formerly(Store(url, cache=tmp_path / "then"), *wanted)
    if not copies:

        def unable(*_: object) -> None:
            raise NotImplementedError

        monkeypatch.setattr(type(fsspec.filesystem("memory")), "cp_file", unable)
    now = Store(url, cache=tmp_path / "now")
    assert states(now, *wanted) == {"first": [StepState.DONE_BEFORE], "second": [StepState.DONE_BEFORE]}
    assert list((tmp_path / "now").glob("*-*")) == []  # nothing was downloaded
    elsewhere = Store(url, cache=tmp_path / "elsewhere").get(wanted[0].key)
    assert elsewhere is not None
    assert elsewhere.path.is_dir()
    assert files_of(elsewhere) == files_of(old)


def test_what_a_remote_store_has_here_already_is_not_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, wanted = f"memory://{tmp_path.name}/cached", chain()
    store = Store(url, cache=tmp_path / "here")
    make_formerly(store, *wanted)
    found = execute(wanted, store, workers=0)
    monkeypatch.setattr("astray.artifacts.mirror.Mirror.download", lambda *_: pytest.fail("downloaded"))
    for artifact in found.values():
        assert artifact.path.is_dir()


def test_a_damaged_artifact_of_an_older_store_is_told_and_made_anew(tmp_path: Path) -> None:
    store, wanted, told = Store(tmp_path), chain(), []
    old, _ = make_formerly(store, *wanted)
    (old.path / "deep" / "drawn.txt").unlink()
    found = execute(wanted, store, workers=0, progress=told.append)
    assert [event.name for event in told if event.state is StepState.DAMAGED] == ["first"]
    assert (found[wanted[0].key].path / "deep" / "drawn.txt").is_file()
    assert [path.name for path in (tmp_path / ".damaged").iterdir()] == [f"{old.manifest.origin.folder_name}.0"]


def test_the_manifest_of_what_was_made_under_its_name_says_nothing_of_former_keys(tmp_path: Path) -> None:
    first, _ = chain()
    artifact = execute([first], Store(tmp_path), workers=0)[first.key]
    assert "formerly" not in (artifact.path / "artifact.json").read_text()


def test_two_functions_of_one_name_are_refused_with_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, formerly in (("one_place", "x:old"), ("other_place", "x:old"), ("third_place", "draw")):
        name = "a-name-of-two" if module != "third_place" else "a-name-of-one"
        text = f'@step("{name}", version=1, formerly="{formerly}")\ndef train(config, inputs, folder): ...\n'
        (tmp_path / f"{module}.py").write_text(f"from astray.artifacts import step\n{text}")
    monkeypatch.syspath_prepend(tmp_path)
    first = importlib.import_module("one_place")
    importlib.reload(first)  # the same function once more
    with pytest.raises(
        ConfigurationError, match=r"called 'a-name-of-two': one_place:train and other_place:train.*another name"
    ):
        importlib.import_module("other_place")
    with pytest.raises(
        ConfigurationError, match=r"called 'draw': test_artifacts_former_keys:draw and third_place:train"
    ):
        importlib.import_module("third_place")


@pytest.mark.parametrize("name", ["", "Train", "train_sft", "astray.studies.steps:train", "train-", "a--b"])
def test_a_name_that_keys_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r'cannot be the name of a step function.*@step\("train-probe", version=1\)'
    ):
        step(name, version=1)


def test_a_function_that_moves_to_another_module_keeps_its_key(tmp_path: Path) -> None:
    keys = []
    for module in ("before", "after"):
        (tmp_path / f"{module}.py").write_text(
            "from pydantic import BaseModel\nfrom astray.artifacts import step\nclass Config(BaseModel, "
            "frozen=True):\n    number: int = 1\n"
            '@step("moved", version=1)\ndef moved(config, inputs, folder): ...\n'
        )
        script = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {module} as m; "
            f"print(m.moved.step(m.Config(), name={module!r}).key)"
        )
        keys.append(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    assert keys[0] == keys[1]


def test_names_versions_and_former_places_of_all_steps_are_as_written_down() -> None:
    found: dict[str, tuple[int, str | None]] = {}
    rooms = [(astray.studies, "astray.studies."), (astray.engine, "astray.engine.")]
    names = [each.name for room, prefix in rooms for each in pkgutil.walk_packages(room.__path__, prefix)]
    for name in (*names, "astray.measure.agentic.play", "astray.measure.agentic.judge_errors"):
        for thing in vars(importlib.import_module(name)).values():
            if isinstance(thing, StepFunction):
                found[thing.name] = (thing.version, thing.formerly)
    assert found == {name: (version, place and f"astray.studies.{place}") for name, (version, place) in STEPS.items()}
