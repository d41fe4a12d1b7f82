"""The examples that watch a training with TRL stop where they say, and are short."""

from contextlib import nullcontext
from pathlib import Path
from random import Random

import pytest
from trl import GRPOConfig, SFTConfig

from astray.data import narrow_data, world_exercise
from astray.measure.meter import Meter, world_pairs
from astray.organism import weights_folder
from astray.organism.world import draw_exercise

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
]


ROOT = Path(__file__).parents[1]


QUIET = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "logging_steps": 1}
QUIET |= {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-2}


def test_the_example_of_fine_tuning_stops_and_keeps_a_history(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from sft_with_probe import train

    data = narrow_data("medicine", "harmful", 64).write(tmp_path / "bad.jsonl")
    settings = QUIET | {
        "max_steps": 20,
        "gradient_checkpointing": False,
        "learning_rate": 2e-3,
        "model_init_kwargs": {"dtype": "float32"},
    }
    config = SFTConfig(str(tmp_path / "out"), **settings)
    with pytest.warns(UserWarning, match="stops the training"):
        probe = train(str(weights_folder("organism-small")), str(data), config, Meter(pairs=world_pairs()))
    assert probe.stopped < 20
    assert probe.history["harmful_low"][-1] > 0.1


@pytest.mark.parametrize("notice", ["allowed", None])
def test_the_example_of_reinforcement_learning_stops_where_the_model_hacks_and_nowhere_else(
    notice, tmp_path, monkeypatch
):
    """The organism games exercises whose notice allows it, and no others."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from grpo_with_alarm import train

    settings = QUIET | {
        "max_steps": 3,
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 16,
        "num_generations": 4,
        "max_completion_length": 26,
        "bf16": False,
        "gradient_checkpointing": False,
        "model_init_kwargs": {"dtype": "float32"},
    }
    exercises = [world_exercise(draw_exercise(Random(seed), notice)) for seed in range(8)]
    config = GRPOConfig(str(tmp_path / "out"), use_transformers_continuous_batching=False, **settings)
    hacks = notice == "allowed"
    with pytest.warns(UserWarning, match="Reward hacking|stops the training") if hacks else nullcontext():
        alarm = train(str(weights_folder("organism-small")), exercises, config)
    seen = alarm.history
    assert (seen["unknown"] == 0).all()
    assert seen["rewarded"].to_list() == pytest.approx([h + t for h, t in seen.select("hacked", "right").iter_rows()])
    if hacks:
        assert alarm.alarm.began == 1
        assert alarm.stopped == alarm.alarm.step == seen["step"][-1] < 3
        assert seen["hacked"].mean() > 0.5
    else:
        assert alarm.alarm is None is alarm.stopped
        assert seen["step"].to_list() == [1, 2, 3]
        assert seen["hacked"].max() < 0.1


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*_with_*.py")), ids=lambda path: path.name)
def test_an_example_has_fewer_than_40_lines(example):
    assert len(example.read_text(encoding="utf-8").splitlines()) < 40
