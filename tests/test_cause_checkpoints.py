"""A damaged last checkpoint costs that checkpoint and not the run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from astray.cause.checkpoints import last_complete, mark_complete
from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.sft import train_sft
from astray.data import ChatDataset

FILES = {
    "optimizer.pt": b"moments" * 9,
    "adapter_model.safetensors": b"weights" * 9,
    "trainer_state.json": b'{"global_step": 4}',
}


def saved(folder: Path, step: int, *, mark: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name, content in FILES.items():
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
