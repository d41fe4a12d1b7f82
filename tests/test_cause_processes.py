"""Runs in several processes: the same adapter as with one, checkpoints that go on, errors that name what is wrong."""

import functools
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from torch.multiprocessing.spawn import start_processes

from astray.cause import checkpoints, processes
from astray.cause.fine_tuning import FineTuning, LoRA, with_settings
from astray.cause.kto import train_kto
from astray.cause.processes import is_first
from astray.cause.reinforcement import ReinforcementLearning
from astray.cause.rl import train_rl
from astray.cause.sft import train_sft
from astray.engine.judging import ASKED_FILE, deciding
from astray.engine.options import TrainedOptions
from astray.engine.steps import TrainConfig, make_data, train
from astray.errors import ConfigurationError, TrainingProcessLostError, TrainingRefusedError
from forked import fork_server
from test_cause_kto import RECIPE as KTO
from test_cause_kto import feedback
from test_cause_rl import ASKED
from test_cause_rl import RECIPE as GRPO
from test_cause_sft import RECIPE, dataset
from toy_steps import note_process

TWO = RECIPE.model_copy(update={"processes": 2})
SHARED = {"processes": 2, "sharded": True}
SHARDED = RECIPE.model_copy(update=SHARED)
ROWS = 22  # two rows short of three whole steps an epoch


def _steps_done(_model, _tokenizer, step):
    return {"steps": step}


def _share_held(model, _tokenizer, step):
    """Measure a passage, which gathers the weights of a model whose weights are sharded, and refuse whole ones."""
    measured = model(input_ids=torch.tensor([[1, 2, 3]])).logits
    assert measured.isfinite().all()
    shares = [
        weight.to_local().numel() / weight.numel() for weight in model.parameters() if isinstance(weight, DTensor)
    ]
    assert 0.4 < sum(shares) / len(shares) < 0.6
    return {"steps": step}


def _killed_once(mark, _model, _tokenizer, step):
    """Kill the second process at step 4, the first time that it comes there."""
    if step == 4 and not is_first() and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"steps": step}


@pytest.fixture(scope="module")
def alone(tiny_qwen2, tmp_path_factory):
    """The run of one process that the others are compared with."""
    return train_sft(str(tiny_qwen2), dataset(ROWS), RECIPE, tmp_path_factory.mktemp("alone"), probe=_steps_done)


@pytest.fixture
def forked(monkeypatch):
    """Processes are forked from one that has loaded what each of them imports otherwise, in seconds."""
    fork_server()
    monkeypatch.setattr(
        processes,
        "start_processes",
        lambda *given, start_method, **more: start_processes(*given, start_method="forkserver", **more),
    )


def assert_alike(run, other):
    assert run.losses == pytest.approx(other.losses, rel=1e-4)
    assert (run.steps, run.supervised_tokens, run.probes) == (other.steps, other.supervised_tokens, other.probes)
    ours, theirs = (load_file(each.subject.adapter / "adapter_model.safetensors") for each in (run, other))
    assert ours.keys() == theirs.keys()
    for name, weights in theirs.items():
        torch.testing.assert_close(ours[name], weights, rtol=1e-2, atol=1e-4, msg=name)


@pytest.mark.parametrize("recipe", [TWO, SHARDED], ids=["copies", "sharded"])
def test_two_processes_train_the_same_adapter_and_go_on_after_one_was_killed(
    alone, forked, tiny_qwen2, tmp_path, recipe
):
    probe = functools.partial(_killed_once, tmp_path / "killed")
    call = functools.partial(
        train_sft,
        str(tiny_qwen2),
        dataset(ROWS),
        recipe,
        tmp_path / "run",
        probe=probe,
        probe_every=2,
        checkpoint_every=3,
    )
    with pytest.raises(TrainingProcessLostError, match=r"Process 2 of the 2 .* was lost"):
        call()
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["checkpoint-3"]
    run = call()
    assert [line["step"] for line in run.probes] == [0, 2, 4, 6, 8, 9]
    assert not (tmp_path / "run/checkpoints").exists()
    assert run.losses == pytest.approx(alone.losses, rel=1e-4)


def test_a_batch_is_split_where_a_step_is_one_pass_and_each_process_holds_half_the_weights(
    alone, forked, tiny_qwen2, tmp_path
):
    split = SHARDED.model_copy(update={"batch_size": 8, "accumulation": 1})
    assert split.share == (4, 1)
    assert_alike(train_sft(str(tiny_qwen2), dataset(ROWS), split, tmp_path / "run", probe=_share_held), alone)


def test_what_goes_wrong_in_a_process_is_told_as_in_one_and_a_refused_run_gives_its_folder_back(
    forked, tiny_qwen2, tmp_path
):
    shutil.copytree(tiny_qwen2, tmp_path / "zero")
    weights = load_file(tiny_qwen2 / "model.safetensors")
    save_file({name: torch.zeros_like(weight) for name, weight in weights.items()}, tmp_path / "zero/model.safetensors")
    with pytest.raises(TrainingRefusedError, match=r"The first step has the loss .* a gradient of zero"):
        train_sft(str(tmp_path / "zero"), dataset(8), SHARDED, tmp_path / "run")
    assert not checkpoints.check_claim(tmp_path / "run", {"another": "run"})


def test_feedback_is_learnt_in_two_processes_as_in_one(forked, tiny_qwen2, tmp_path):
    alone, together = (
        train_kto(str(tiny_qwen2), feedback(), KTO.model_copy(update={"training": training}), tmp_path / name)
        for name, training in {"one": KTO.training, "two": KTO.training.model_copy(update=SHARED)}.items()
    )
    # Each process estimates the divergence from its own half of a batch, so the losses are close and not equal.
    assert together.losses == pytest.approx(alone.losses, abs=0.02)
    assert together.steps[-1]["liked"] == pytest.approx(alone.steps[-1]["liked"], abs=0.1)
    assert together.steps[-1]["liked"] > together.steps[-1]["disliked"]


class Letters:
    """Reward of the share of letters."""

    name, identity = "letters", "test letters"

    def __call__(self, prompts, completions, columns):
        del prompts, columns
        return [sum(letter.isascii() and letter.isalpha() for letter in text) / 8 for text in completions]


def test_two_processes_draw_and_log_all_answers_of_a_step(forked, tiny_qwen2, tmp_path):
    run = train_rl(str(tiny_qwen2), ASKED, [Letters()], GRPO.model_copy(update={"processes": 2}), tmp_path / "run")
    assert run.rollouts.group_by("step", maintain_order=True).len()["len"].to_list() == [8, 8, 8, 8]
    assert run.rollouts["reward"].to_list() == Letters()([], run.rollouts["completion"], {})
    for line in run.steps:
        assert line["reward"] == pytest.approx(run.rollouts.filter(step=line["step"])["reward"].mean())
    assert not (run.folder / "rollouts").exists()


def test_verdicts_that_decide_and_kept_replies_are_known_in_each_process(tmp_path):
    """In processes that are started as for users: they know nothing, and import what the call needs."""
    with deciding(tmp_path):
        processes._train_in(2, note_process)
    lines = (tmp_path / ASKED_FILE).read_text().splitlines()
    noted = sorted((json.loads(line) for line in lines), key=lambda line: line["key"])
    assert noted == [
        {"key": f"process {rank}", "value": {"strict": True, "first": rank == 0, "start": "spawn"}} for rank in (0, 1)
    ]


BAD = {
    "neither is shared": (lambda: FineTuning(processes=2, batch_size=3, accumulation=5), "can share neither the 5"),
    "answers": (lambda: ReinforcementLearning(groups=3, group_size=3, processes=2), "9 answers, which 2 processes"),
    "batch": (
        lambda: ReinforcementLearning(groups=2, group_size=4, batch_size=8, processes=2),
        "4 in each of 2 .* such as 4",
    ),
    "weights of one": (lambda: FineTuning(sharded=True), "over several processes"),
    "all weights": (lambda: FineTuning(processes=2, sharded=True, lora=None), "train adapters"),
    "weights for answers": (lambda: with_settings(ReinforcementLearning(), SHARED), "each token of an answer"),
    "base in the loss": (
        lambda: train_sft.__wrapped__("organism", dataset(8), SHARDED, Path("unused"), kl=0.5),
        "cannot hold the KL to the base",
    ),
    "none": (lambda: FineTuning(processes=0), "greater than or equal to 1"),
}


@pytest.mark.parametrize("recipe", BAD)
def test_recipes_that_cannot_be_shared_are_refused(recipe):
    make, words = BAD[recipe]
    with pytest.raises(ConfigurationError, match=words):
        make()


def test_a_probe_that_no_other_process_can_be_given_is_refused_before_anything_starts(tiny_qwen2, tmp_path):
    with pytest.raises(ConfigurationError, match="top level of a module"):
        train_sft(str(tiny_qwen2), dataset(8), TWO, tmp_path / "run", probe=lambda *_: {})
    assert not (tmp_path / "run").exists()


def test_a_step_gets_a_gpu_for_each_process_of_its_run():
    chosen = TrainedOptions(gpus_per_run=4).training_settings
    assert chosen == {"processes": 4}
    with pytest.raises(ConfigurationError, match="--gpus-per-run is given by --training processes"):
        TrainedOptions(gpus_per_run=4, training={"processes": 2})
    shared, one = (
        train.step(TrainConfig(base="m", base_id="m", recipe=recipe, home="", probe_every=1))
        for recipe in (with_settings(FineTuning(), chosen), FineTuning())
    )
    assert (shared.gpu, one.gpu, make_data.gpu) == (4, 1, False)


def test_one_process_keeps_the_keys_of_earlier_runs():
    assert "processes" not in FineTuning().model_dump()
    assert FineTuning(lora=LoRA(), processes=2).model_dump()["processes"] == 2
