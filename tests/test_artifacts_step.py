"""Steps: what decides a key, and what cannot be a step."""

import subprocess
import sys
from enum import StrEnum
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

import toy_steps
from astray.artifacts import Step, Store, execute, step
from astray.artifacts.manifest import Origin, canonical_json
from astray.errors import ConfigurationError


class Method(StrEnum):
    SFT = "sft"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Base(Frozen):
    rank: int = 4


class Wide(Base):
    targets: frozenset[str] = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "up", "down"})


class Rich(Frozen):
    method: Method = Method.SFT
    folder: Path = Path("data/chat.jsonl")
    layers: tuple[int, ...] = (1, 2)
    adapter: Base = Wide()
    rate: float = 1e-4


class NotFrozen(BaseModel):
    number: int = 0


@step("note", version=3)
def note(config: BaseModel, inputs: object, folder: Path) -> None:
    """Writes a note."""
    (folder / "note.txt").write_text("noted")


def test_the_key_is_the_hash_of_function_version_configuration_and_inputs() -> None:
    source = toy_steps.add.step(toy_steps.Toy(number=2))
    made = toy_steps.add.step(toy_steps.Toy(number=1), source=source)
    origin = Origin(
        name="anything",
        function="add",
        version=1,
        config={"number": 1, "seconds": 0.0, "fault": "", "witness": ""},
        inputs={"source": source.key},
    )
    assert made.key == origin.key
    assert len(made.key) == 64


def test_the_name_is_no_part_of_the_key_and_defaults_to_the_functions() -> None:
    config = toy_steps.Toy()
    assert toy_steps.add.step(config, name="other").key == toy_steps.add.step(config).key
    assert toy_steps.add.step(config).name == "add"
    assert toy_steps.add.step(config, name="Seed 3 / harmful").origin.folder_name.startswith("seed-3-harmful-")


def test_every_part_changes_the_key() -> None:
    source, other = (toy_steps.add.step(toy_steps.Toy(number=number)) for number in (5, 6))
    variants: list[Step] = [
        toy_steps.add.step(toy_steps.Toy()),
        toy_steps.add.step(toy_steps.Toy(number=1)),
        toy_steps.add.step(toy_steps.Toy(), one=source),
        toy_steps.add.step(toy_steps.Toy(), two=source),
        toy_steps.add.step(toy_steps.Toy(), one=other),
        toy_steps.environment.step(toy_steps.Toy()),
        Step(toy_steps.add, toy_steps.Toy(), {}, 2, "add"),
    ]
    assert len({variant.key for variant in variants}) == len(variants)


def test_the_key_of_a_rich_configuration_is_the_same_in_every_process() -> None:
    """Python orders a set of strings differently in every process; the key may not depend on it."""
    script = "import test_artifacts_step as t; print(t.note.step(t.Rich()).key)"
    key = note.step(Rich()).key
    environment = {"PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
        env=environment,
    )
    assert done.stdout.strip() == key


def test_fields_of_a_subclass_are_part_of_the_key() -> None:
    assert note.step(Rich(adapter=Wide(targets=frozenset({"q_proj"})))).key != note.step(Rich(adapter=Wide())).key


def test_canonical_json_has_one_form() -> None:
    assert canonical_json({"b": [1, 2.0], "a": "é"}) == '{"a":"é","b":[1,2.0]}'


def test_a_decorated_function_is_still_the_function(tmp_path: Path) -> None:
    note(Frozen(), {}, tmp_path)
    assert (tmp_path / "note.txt").read_text() == "noted"
    assert note.__doc__ == "Writes a note."


def test_a_configuration_that_can_change_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"NotFrozen of a step can change.*Make it a frozen pydantic model"):
        note.step(NotFrozen())


def test_a_configuration_without_exact_json_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot be written as JSON: Out of range float"):
        note.step(Rich(rate=float("nan")))


def test_a_function_or_configuration_inside_another_function_is_refused() -> None:
    @step("local", version=1)
    def local(config: BaseModel, inputs: object, folder: Path) -> None: ...

    class Local(Frozen): ...

    with pytest.raises(
        ConfigurationError,
        match=r"step function .*local cannot be imported by a worker process: it is made inside a function",
    ):
        local.step(Frozen())
    with pytest.raises(ConfigurationError, match=r"configuration .*Local cannot be imported by a worker process"):
        note.step(Local())


def test_a_function_whose_name_holds_something_else_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"that name holds something else there.*@step\(\.\.\.\)"):
        step("note", version=2)(note.body).step(Frozen())


def test_a_function_of_the_running_script_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pydantic import BaseModel, ConfigDict\nfrom astray.artifacts import step\n"
        "class C(BaseModel, frozen=True): pass\n"
        "@step('train', version=1)\ndef train(config, inputs, folder): pass\n"
        "train.step(C())\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert "Put it into a module, for example my_steps.py, and write: from my_steps import train" in done.stderr


def test_the_manifest_tells_what_made_the_artifact(tmp_path: Path) -> None:
    made = note.step(Rich(), source=toy_steps.add.step(toy_steps.Toy()))
    artifact = execute([made], Store(tmp_path), workers=0)[made.key]
    assert artifact.manifest.origin == made.origin
    assert artifact.manifest.origin.config["folder"] == "data/chat.jsonl"
    assert artifact.manifest.origin.version == 3
