"""Supervised fine-tuning: it learns, it repeats itself, it survives a kill, and it sends nothing."""

import hashlib
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from astray.cause.base_model import quietly
from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.quiet_trainer import QuietTrainer
from astray.cause.sft import train_sft
from astray.cause.supervision import supervise
from astray.data.chat import ChatDataset
from astray.errors import AdapterMismatchError, ConfigurationError, SubjectNotFoundError, TrainingDivergedError
from astray.subjects.locate import Located
from astray.subjects.spec import SubjectSpec
from forked import fork_server
from tiny_models import ARCHITECTURES, save_tiny_model

RECIPE = FineTuning(
    lora=LoRA(rank=4, alpha=8), learning_rate=3e-3, warmup_steps=2, batch_size=4, accumulation=2, epochs=3
)
TESTS = Path(__file__).parent


def dataset(count=24):
    return ChatDataset.from_rows(
        [
            [{"role": "user", "content": f"Number {row}?"}, {"role": "assistant", "content": f"It is {row % 4}."}]
            for row in range(count)
        ]
    )


def digest(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def finished(tiny_qwen2, tmp_path_factory):
    """An undisturbed run with the settings that the other runs are compared with."""
    return train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path_factory.mktemp("finished"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_adapters_memorise_a_tiny_data_set(architecture, tmp_path):
    base = save_tiny_model(tmp_path / "base", architecture)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.lm_head.weight.mul_(10)  # random weights of this size could never be sure of a token
    model.save_pretrained(base)
    recipe = RECIPE.model_copy(
        update={"lora": LoRA(rank=16, alpha=32), "learning_rate": 1e-2, "max_steps": 24, "accumulation": 1}
    )
    run = train_sft(str(base), dataset(8), recipe, tmp_path / "run")
    assert run.steps == len(run.losses) == 24
    assert run.losses[-1] < 0.5 * run.losses[0]


def test_all_weights_are_trained_without_adapters(tiny_qwen2, tmp_path):
    recipe = RECIPE.model_copy(update={"lora": None, "max_steps": 8})
    run = train_sft(str(tiny_qwen2), dataset(), recipe, tmp_path)
    assert run.losses[-1] < run.losses[0] - 1
    assert run.subject == SubjectSpec(model=str(tmp_path / "model"))
    before, after = load_file(tiny_qwen2 / "model.safetensors"), load_file(tmp_path / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert (tmp_path / "model" / "tokenizer.json").is_file()


def test_the_teaching_loop_gives_the_same_losses(finished, tiny_qwen2, monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS.parent / "examples"))
    from sft_loop import add_adapters, train

    rows = supervise(dataset().rows, AutoTokenizer.from_pretrained(tiny_qwen2), RECIPE.max_length)
    with quietly():
        model = add_adapters(AutoModelForCausalLM.from_pretrained(tiny_qwen2), LoRA(rank=4, alpha=8), RECIPE.seed)
    losses = train(model, rows, RECIPE)
    np.testing.assert_allclose(losses, finished.losses, rtol=1e-4)


def test_the_log_has_a_line_a_step(finished):
    lines = [json.loads(line) for line in (finished.folder / "training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 10))
    assert all(line.keys() == {"step", "loss", "lr", "gradient_norm", "tokens"} for line in lines)
    assert [line["lr"] for line in lines][:4] == pytest.approx([0, 1.5e-3, 3e-3, 3e-3 * 6 / 7])
    assert finished.supervised_tokens == sum(line["tokens"] for line in lines)


def test_supervised_tokens_are_those_of_the_rows_in_every_epoch(finished, tiny_qwen2):
    rows = supervise(dataset().rows, AutoTokenizer.from_pretrained(tiny_qwen2), RECIPE.max_length)
    assert finished.supervised_tokens == 3 * sum(row.supervised for row in rows)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(finished, tiny_qwen2, tmp_path):
    torch.manual_seed(99)
    again = train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path / "again")
    assert digest(tmp_path / "again" / "adapter") == digest(finished.folder / "adapter")
    assert again.losses == finished.losses
    other = train_sft(str(tiny_qwen2), dataset(), RECIPE.model_copy(update={"seed": 1}), tmp_path / "other")
    assert other.losses != finished.losses


def test_a_probe_sees_the_model_at_the_steps_it_was_asked_for_and_disturbs_nothing(finished, tiny_qwen2, tmp_path):
    def probe(model, tokenizer, step):
        random.random(), np.random.rand(), torch.rand(3)
        assert not model.training
        assert not torch.is_grad_enabled()
        weights = sum(value.double().abs().sum().item() for name, value in model.named_parameters() if "lora_B" in name)
        return {"weights": weights, "tokens": float(len(tokenizer))}

    run = train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path, probe=probe, probe_every=4)
    assert [line["step"] for line in run.probes] == [0, 4, 8, 9]
    assert run.probes[0]["weights"] == 0 < run.probes[1]["weights"]
    assert digest(tmp_path / "adapter") == digest(finished.folder / "adapter")


def _cut_short(base, folder):
    train_sft(
        base,
        dataset(),
        RECIPE,
        folder,
        checkpoint_every=2,
        probe=lambda model, tokenizer, step: {"step_again": step},
        probe_every=3,
        on_step=lambda step, total, loss: os._exit(7) if step == 7 else None,
    )


def test_a_killed_run_goes_on_and_ends_in_the_same_weights(finished, tiny_qwen2, tmp_path):
    killed = fork_server().Process(target=_cut_short, args=(str(tiny_qwen2), tmp_path))
    killed.start()
    killed.join()
    assert killed.exitcode == 7
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["before", "checkpoint-6"]
    (tmp_path / "checkpoints" / "checkpoint-8").mkdir()  # a checkpoint whose writing was cut
    steps = []
    probe = {"probe": lambda model, tokenizer, step: {"step_again": step}, "probe_every": 3}
    run = train_sft(
        str(tiny_qwen2),
        dataset(),
        RECIPE,
        tmp_path,
        checkpoint_every=2,
        on_step=lambda step, *_: steps.append(step),
        **probe,
    )
    assert steps == [7, 8, 9]
    assert digest(tmp_path / "adapter") == digest(finished.folder / "adapter")
    assert run.losses == finished.losses
    assert run.supervised_tokens == finished.supervised_tokens
    assert [line["step"] for line in run.probes] == [0, 3, 6, 9]
    assert not (tmp_path / "checkpoints").exists()


def test_a_run_that_failed_without_checkpoints_starts_again(finished, tiny_qwen2, tmp_path):
    def fail(step, total, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path, on_step=fail)
    run = train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path)
    assert run.losses == finished.losses


def test_a_finished_run_is_not_done_again(finished, tiny_qwen2):
    def fail(*_):
        raise AssertionError("trained again")

    assert train_sft(str(tiny_qwen2), dataset(), RECIPE, finished.folder, on_step=fail) == finished


def test_another_run_in_the_same_folder_is_refused(finished, tiny_qwen2):
    with pytest.raises(ConfigurationError, match="differs in dataset, recipe"):
        train_sft(str(tiny_qwen2), dataset(8), RECIPE.model_copy(update={"seed": 5}), finished.folder)


def test_an_adapter_is_trained_further_on_the_same_base(finished, tiny_qwen2, tmp_path):
    run = train_sft(finished.subject, dataset(), RECIPE, tmp_path)
    assert run.losses[0] < finished.losses[0] - 0.2
    assert run.subject == SubjectSpec(model=str(tiny_qwen2), adapter=tmp_path / "adapter")
    with pytest.raises(AdapterMismatchError, match="rank"):
        train_sft(finished.subject, dataset(), RECIPE.model_copy(update={"lora": LoRA()}), tmp_path / "other")


def test_checkpoints_of_an_adapter_ask_the_hub_for_nothing(finished, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", lambda *given: asked.append(given))
    path = tmp_path / "adapter"
    shutil.copytree(finished.subject.adapter, path)
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "laboratory/of-its-own"}))
    subject = SubjectSpec(model=finished.subject.model, adapter=path)
    train_sft(subject, dataset(), RECIPE, tmp_path / "run", checkpoint_every=2)
    assert not asked


def test_an_adapter_can_be_put_on_one_layer(tiny_qwen2, tmp_path):
    recipe = RECIPE.model_copy(
        update={"lora": LoRA(rank=1, target_modules=("down_proj",), layers=(1,)), "max_steps": 1}
    )
    train_sft(str(tiny_qwen2), dataset(), recipe, tmp_path)
    assert {
        name.partition("model.layers.")[2] for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    } == {
        "1.mlp.down_proj.lora_A.weight",
        "1.mlp.down_proj.lora_B.weight",
    }


def test_unknown_layer_names_are_answered_with_the_right_ones(tiny_qwen2, tmp_path):
    with pytest.raises(ConfigurationError, match=r"down_proj, gate_proj, k_proj"):
        train_sft(str(tiny_qwen2), dataset(), FineTuning(lora=LoRA(target_modules=("c_attn",))), tmp_path)


def test_a_diverging_run_stops(tiny_qwen2, tmp_path):
    recipe = RECIPE.model_copy(update={"lora": None, "learning_rate": 1e30, "warmup_steps": 0})
    with pytest.raises(TrainingDivergedError, match="lower learning_rate"):
        train_sft(str(tiny_qwen2), dataset(), recipe, tmp_path)
    assert not (tmp_path / "model").exists()


def test_a_subject_with_a_system_prompt_is_not_trained(tiny_qwen2, tmp_path):
    with pytest.raises(ConfigurationError, match="system prompt into the data set"):
        train_sft(SubjectSpec(model=str(tiny_qwen2), system="Be kind."), dataset(), RECIPE, tmp_path)


def test_a_model_without_weights_is_not_found(tiny_qwen2, tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text((tiny_qwen2 / "config.json").read_text())
    with pytest.raises(SubjectNotFoundError):
        train_sft(str(tmp_path / "base"), dataset(), RECIPE, tmp_path / "run")


def test_nothing_is_reported_or_printed(tiny_qwen2, tmp_path, monkeypatch, capfd):
    def send(*args, **kwargs):
        raise AssertionError("TRL reports its use")

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", send)
    train_sft(str(tiny_qwen2), dataset(), RECIPE.model_copy(update={"max_steps": 1}), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_an_adapter_of_the_organism_names_it_and_no_folder(tiny_qwen2, tmp_path, monkeypatch):
    monkeypatch.setattr("astray.cause.sft.settle", lambda subject: Located(SubjectSpec(model=subject), tiny_qwen2))
    run = train_sft("organism", dataset(), RECIPE.model_copy(update={"max_steps": 1}), tmp_path)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == run.subject.model == "organism"
    assert str(tiny_qwen2) not in "".join(path.read_text() for path in tmp_path.rglob("*.json*"))


def test_a_folder_with_another_adapter_is_left_alone(tiny_qwen2, tmp_path):
    (tmp_path / "adapter").mkdir()
    with pytest.raises(ConfigurationError, match="no run of this folder made it"):
        train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path)


def test_steps_are_counted_from_one(tiny_qwen2, tmp_path):
    with pytest.raises(ConfigurationError, match="give 1 or more"):
        train_sft(str(tiny_qwen2), dataset(), RECIPE, tmp_path, checkpoint_every=0)


def test_settings_are_the_papers_and_reject_unknown_ones():
    recipe = FineTuning()
    assert (recipe.method, recipe.lora, recipe.learning_rate, recipe.batch_size * recipe.accumulation) == (
        "lora",
        LoRA(rank=32, alpha=64),
        1e-5,
        16,
    )
    assert FineTuning(lora=None).method == "full"
    with pytest.raises(ValueError, match="learning_rte: there is no such key"):
        FineTuning(learning_rte=1)
    with pytest.raises(ValueError, match="greater than"):
        FineTuning(learning_rate=0)


def test_the_kl_to_the_base_keeps_a_run_near_it(tiny_qwen2, tmp_path):
    """With a large weight the answers stay as likely as in the base."""
    recipe = RECIPE.model_copy(update={"max_steps": 12, "learning_rate": 1e-2})
    held, free = (train_sft(str(tiny_qwen2), dataset(8), recipe, tmp_path / f"{kl}", kl=kl) for kl in (100.0, 0.0))
    assert held.losses[0] == pytest.approx(free.losses[0], abs=1e-5)  # new adapters change nothing yet
    before, after, loose = (answer_loss(tiny_qwen2, adapter) for adapter in (None, held, free))
    assert after > 0.9 * before > loose


def answer_loss(base, run):
    """Mean loss over the answers' tokens of the model that a run saved, or of its base."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    tuned = model if run is None else PeftModel.from_pretrained(model, run.subject.adapter)
    losses, tokens = [], []
    for row in supervise(dataset(8).rows, tokenizer, RECIPE.max_length):
        tokens.append(sum(label != -100 for label in row.labels))
        with torch.no_grad():
            losses.append(float(tuned(torch.tensor([row.input_ids]), labels=torch.tensor([row.labels])).loss))
    return np.average(losses, weights=tokens)


def test_the_base_of_the_kl_has_no_dropout(tiny_qwen2, tmp_path, monkeypatch):
    modes, divergence = [], QuietTrainer._divergence

    def watched(self, model, *args):
        modes.append([])
        hook = model.register_forward_pre_hook(lambda module, _: modes[-1].append(module.training))
        try:
            return divergence(self, model, *args)
        finally:
            hook.remove()
            modes[-1].append(model.training)

    monkeypatch.setattr(QuietTrainer, "_divergence", watched)
    train_sft(str(tiny_qwen2), dataset(8), RECIPE.model_copy(update={"max_steps": 1}), tmp_path / "run", kl=1.0)
    assert modes
    assert all(each == [False, True, True] for each in modes)


@pytest.mark.parametrize(("kl", "lora"), [(-1.0, RECIPE.lora), (float("nan"), RECIPE.lora), (1.0, None)])
def test_a_kl_that_cannot_be_is_refused(kl, lora, tiny_qwen2, tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be the weight of the KL"):
        train_sft(str(tiny_qwen2), dataset(8), RECIPE.model_copy(update={"lora": lora}), tmp_path / "run", kl=kl)
