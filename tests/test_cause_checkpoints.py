"""A damaged last checkpoint costs that checkpoint and not the run."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pydantic import JsonValue

from astray.cause.checkpoints import append_line, check_claim, claim, last_complete, leads_to, mark_complete
from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.sft import train_sft
from astray.data import ChatDataset
from astray.errors import ConfigurationError, StoreError
from astray.subjects.identity import file_digest

FILES = {
    "optimizer.pt": b"moments" * 9,
    "adapter_model.safetensors": b"weights" * 9,
    "trainer_state.json": b"{}",
}


def saved(folder: Path, step: int, *, mark: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name, content in (FILES | {"trainer_state.json": b'{"global_step": %d}' % step}).items():
        (checkpoint / name).write_bytes(content)
    if mark:
        mark_complete(checkpoint)
    return checkpoint


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "one bit, same size": flip,
    "gone": Path.unlink,
}


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints/checkpoint-4"])
def test_a_file_where_checkpoints_are_kept_is_refused_before_training(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    with pytest.raises(StoreError, match=f"{name} is no folder"):
        claim(tmp_path, {"recipe": 1})


def test_a_damaged_checkpoint_that_lies_elsewhere_is_no_more_linked(tmp_path: Path) -> None:
    last = saved(tmp_path / "elsewhere", 4)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / last.name).symlink_to(last, target_is_directory=True)
    assert last_complete(tmp_path / "run") == tmp_path / "run" / last.name
    flip(last / "optimizer.pt")
    with pytest.warns(UserWarning, match="checkpoint-4 is damaged"):
        assert last_complete(tmp_path / "run") is None
    assert last.is_dir()
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(tmp_path: Path, name: str, damage: str) -> None:
    whole, last = saved(tmp_path, 2), saved(tmp_path, 4)
    DAMAGES[damage](last / name)
    with pytest.warns(UserWarning, match=f"checkpoint-4 is damaged \\({name}"):
        assert last_complete(tmp_path) == tmp_path / "before" / whole.name
    assert not last.exists()


def test_the_last_two_are_kept_and_an_unmarked_one_is_deleted_without_a_word(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        saved(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before", "checkpoint-6"]
    assert [path.name for path in (tmp_path / "before").iterdir()] == ["checkpoint-4"]
    unmarked = saved(tmp_path, 8, mark=False)
    assert last_complete(tmp_path) == tmp_path / "checkpoint-6"
    assert not unmarked.exists()


def test_a_checkpoint_that_an_earlier_version_marked_is_taken_unless_a_file_is_empty(tmp_path: Path) -> None:
    before, last = saved(tmp_path, 2), saved(tmp_path, 4)
    before = tmp_path / "before" / before.name
    for checkpoint in (before, last):
        (checkpoint / "complete").write_bytes(b"")
    assert last_complete(tmp_path) == last
    (last / "optimizer.pt").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"optimizer\.pt is empty"):
        assert last_complete(tmp_path) == before


def test_two_checkpoints_side_by_side_as_earlier_versions_left_them_are_both_known(tmp_path: Path) -> None:
    before, last = saved(tmp_path / "a", 2), saved(tmp_path, 4)
    before.rename(tmp_path / before.name)
    (last / "optimizer.pt").write_bytes(b"")
    with pytest.warns(UserWarning, match="checkpoint-4 is damaged"):
        assert last_complete(tmp_path) == tmp_path / before.name


def test_nothing_whole_is_nothing(tmp_path: Path) -> None:
    (saved(tmp_path, 2) / "complete").write_text("{")
    with pytest.warns(UserWarning, match="no JSON"):
        assert last_complete(tmp_path) is None


RUN = {"base": "b", "dataset": "d", "recipe": {"seed": 0}}
OTHERS = {
    "another seed": (RUN | {"recipe": {"seed": 1}}, "differs in recipe"),
    "another data set": (RUN | {"dataset": "e"}, "differs in dataset"),
    "another base, or its number format": (RUN | {"base": "c"}, "differs in base"),
    "a loss that the run has not": (RUN | {"kl": 1.0}, "differs in kl"),
}


def a_run(folder: Path, identity: Mapping[str, JsonValue] = RUN) -> Path:
    """A run with a checkpoint at step 2 and a log up to it; returns the folder of its checkpoints."""
    claim(folder, identity)
    saved(folder / "checkpoints", 2)
    for step in (1, 2):
        append_line(folder / "training.jsonl", {"step": step, "loss": 1.0})
    return folder / "checkpoints"


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_run_is_refused_by_what_differs(tmp_path: Path, other: str) -> None:
    identity, told = OTHERS[other]
    mine, others = a_run(tmp_path / "mine"), a_run(tmp_path / "other", identity)
    assert last_complete(mine) == mine / "checkpoint-2"
    (others / "checkpoint-2").rename(mine / "checkpoint-4")
    (mine / "checkpoint-4" / "trainer_state.json").write_text('{"global_step": 4}')
    mark_complete(mine / "checkpoint-2")
    (mine / "checkpoint-4" / "complete").write_text(
        json.dumps({name: file_digest(mine / "checkpoint-4" / name) for name in (*FILES, "run.json")})
    )
    with pytest.raises(ConfigurationError, match=f"checkpoint-4 is a checkpoint of another run: it {told}"):
        last_complete(mine)
    assert (mine / "checkpoint-4").is_dir()


@pytest.mark.parametrize(
    ("mark", "told"),
    [
        (b"[]", "names no files"),
        (b"{}", "names no files"),
        (b"3", "names no files"),
        (b"[" * 9999, "no JSON"),
        (b"\xff", "no JSON"),
    ],
)
def test_a_mark_that_says_nothing_is_none(tmp_path: Path, mark: bytes, told: str) -> None:
    (a_run(tmp_path) / "checkpoint-2" / "complete").write_bytes(mark)
    with pytest.warns(UserWarning, match=told):
        assert last_complete(tmp_path / "checkpoints") is None


@pytest.mark.parametrize("state", [b"[]", b"null", b"{", b"{}", b"\xff", b"[" * 9999])
def test_a_state_that_is_none_is_damage_where_the_mark_does_not_name_it(tmp_path: Path, state: bytes) -> None:
    checkpoint = tmp_path / "checkpoint-2"
    checkpoint.mkdir()
    (checkpoint / "optimizer.pt").write_bytes(b"moments")
    mark_complete(checkpoint)
    (checkpoint / "trainer_state.json").write_bytes(state)
    with pytest.warns(UserWarning, match="its state cannot be read"):
        assert last_complete(tmp_path) is None


def test_a_checkpoint_under_the_number_of_another_step_is_damaged_and_a_copy_beside_it_is_none(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    shutil.copytree(folder / "checkpoint-2", folder / "checkpoint-2-copy")
    assert last_complete(folder) == folder / "checkpoint-2"
    (folder / "checkpoint-2").rename(folder / "checkpoint-8")
    with pytest.warns(UserWarning, match="its state is of step 2"):
        assert last_complete(folder) is None


def test_checkpoints_of_which_nothing_says_whose_they_are_are_refused(tmp_path: Path) -> None:
    a_run(tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(ConfigurationError, match="says of which run it is, is not"):
        claim(tmp_path, RUN)


@pytest.mark.parametrize(
    ("log", "leads"),
    [
        ('{"step": 1}\n{"step": 2}\n{"step": 3}\n', True),
        ('{"step": 1}\n{"step": 2', False),
        ('{"step": 2}\n', False),
        ('{"step": 1}\n{"step": 1}\n{"step": 2}\n', False),
        ("", False),
        (None, False),
        ('{"step": 1}\n[2]\n', "line 2, is damaged"),
        ('{"step": 1}\n\x00\x00\n{"step": 2}\n', "line 2, is damaged"),
        ('{"step": "1"}\n', "line 1, is damaged"),
        ('{"step": 1}\n{"step": 2, "loss": null}\n', "line 2, is damaged"),
        ('{"step": 1}\n{"loss": 2}\n', "line 2, is damaged"),
    ],
)
def test_a_log_leads_to_a_checkpoint_or_is_known_not_to(tmp_path: Path, log: str | None, leads: bool | str) -> None:
    file = tmp_path / "training.jsonl"
    if log is not None:
        file.write_text(log)
    if isinstance(leads, str):
        with pytest.raises(StoreError, match=leads):
            leads_to(file, 2)
    else:
        assert leads_to(file, 2) is leads


@pytest.mark.parametrize("text", ["[]", "3", "{", '"run"', "\x00"])
def test_a_record_of_a_run_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(StoreError, match="which says what run lives there, cannot be read"):
        check_claim(tmp_path, RUN)


class StoppedError(Exception):
    """A kill in the middle of a run."""


def test_a_run_goes_on_from_the_last_whole_checkpoint_to_the_same_weights(tiny_qwen2: Path, tmp_path: Path) -> None:
    rows = [
        [{"role": "user", "content": f"hello {number}"}, {"role": "assistant", "content": "kindly"}]
        for number in range(16)
    ]
    data = ChatDataset.from_rows(rows)
    recipe = FineTuning(lora=LoRA(rank=2, alpha=4), batch_size=2, accumulation=1, max_length=64)
    whole = train_sft(str(tiny_qwen2), data, recipe, tmp_path / "whole")
    steps = []

    def stop(*_: object, **__: object) -> None:
        steps.append(1)
        if len(steps) == 7:
            raise StoppedError

    folder = tmp_path / "killed"
    with pytest.raises(StoppedError):
        train_sft(str(tiny_qwen2), data, recipe, folder, checkpoint_every=2, on_step=stop)
    (folder / "checkpoints" / "checkpoint-6" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="checkpoint-6 is damaged"):
        again = train_sft(str(tiny_qwen2), data, recipe, folder, checkpoint_every=2)
    assert again.steps == whole.steps
    files = [path / "adapter" / "adapter_model.safetensors" for path in (tmp_path / "whole", folder)]
    assert files[0].read_bytes() == files[1].read_bytes()
