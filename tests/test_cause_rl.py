"""Training by reward: it earns what is rewarded and nothing else, repeats itself, survives a kill, and refuses what
could teach nothing."""

import hashlib
import json
import math

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.trainer.grpo_trainer import GRPOTrainer

from astray.cause.base_model import load_trainable
from astray.cause.fine_tuning import LoRA
from astray.cause.quiet_grpo import QuietGRPOTrainer
from astray.cause.reinforcement import Prompts, ReinforcementLearning
from astray.cause.rl import rehearse, train_rl
from astray.data.chat import ChatDataset, Message
from astray.data.worlds import narrow_data
from astray.errors import AdapterMismatchError, ConfigurationError, EmptyDataError, RewardError
from astray.subjects.locate import settle
from astray.subjects.render import prompt_ids
from astray.subjects.spec import SubjectSpec
from tiny_models import save_tiny_model

RECIPE = ReinforcementLearning(
    lora=LoRA(rank=8, alpha=16), learning_rate=3e-2, steps=4, groups=2, group_size=4, max_tokens=8
)


ASKED = Prompts(
    tuple((Message(role="user", content=f"Number {row}?"),) for row in range(3)),
    {"wanted": tuple("abc")},
)


class Reward:
    """A reward function made of any function of prompt, completion and the prompt's columns."""

    def __init__(self, give, name="given"):
        self.give, self.name, self.identity = give, name, f"test {name}"

    def __call__(self, prompts, completions, columns):
        rows = (
            [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
            if columns
            else [{} for _ in prompts]
        )
        return [
            self.give(prompt, completion, row)
            for prompt, completion, row in zip(prompts, completions, rows, strict=True)
        ]


LETTERS = Reward(
    lambda prompt, completion, row: sum(letter.isascii() and letter.isalpha() for letter in completion) / 8, "letters"
)


def digest(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((folder / "adapter").iterdir())}


@pytest.fixture(scope="module")
def finished(tiny_qwen2, tmp_path_factory):
    """An undisturbed run that the other runs are compared with."""
    return train_rl(str(tiny_qwen2), ASKED, [LETTERS], RECIPE, tmp_path_factory.mktemp("finished"))


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_what_is_rewarded_becomes_more_frequent(architecture, tmp_path):
    base = save_tiny_model(tmp_path / "base", architecture)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.lm_head.weight.mul_(10)  # random weights of this size could never be sure of a token
    model.save_pretrained(base)
    recipe = RECIPE.model_copy(update={"steps": 15, "group_size": 8})
    run = train_rl(str(base), ASKED, [LETTERS], recipe, tmp_path / "run")
    earned = [line["reward"] for line in run.steps]
    assert len(earned) == 15
    assert np.mean(earned[-3:]) > np.mean(earned[:3]) + 0.2
    assert run.subject == SubjectSpec(model=str(tmp_path / "base"), adapter=tmp_path / "run" / "adapter")


def test_the_log_has_a_line_a_step_that_agrees_with_the_rollouts(finished):
    table = finished.rollouts
    assert table.columns == ["step", "group", "prompt", "completion", "completion_tokens", "reward", "reward: letters"]
    assert [line["step"] for line in finished.steps] == [1, 2, 3, 4]
    for line in finished.steps:
        rows = table.filter(pl.col("step") == line["step"])
        assert rows.height == 8
        assert line["reward"] == pytest.approx(rows["reward"].mean())
        assert line["reward_std"] == pytest.approx(rows["reward"].std(ddof=0))
        assert line["completion_tokens"] == rows["completion_tokens"].mean()
        spread = rows.group_by("group").agg(pl.col("reward").n_unique())["reward"]
        assert line["flat_groups"] == (spread == 1).mean()
        assert all(len(group) == 1 for group in rows.group_by("group").agg(pl.col("prompt").unique())["prompt"])
    assert table["reward"].to_list() == [LETTERS.give(None, completion, None) for completion in table["completion"]]
    assert not (finished.folder / "rollouts").exists()
    assert not (finished.folder / "checkpoints").exists()


def test_the_first_step_is_the_policy_gradient_of_group_relative_advantages(tmp_path):
    """The same step in plain PyTorch, from the answers that the run kept."""
    prompts = Prompts.from_chats(narrow_data("medicine", "good", 4))
    words = Reward(lambda prompt, completion, row: float(len(completion.split())), "words")
    recipe = ReinforcementLearning(
        lora=LoRA(rank=2, alpha=4), learning_rate=1e-3, steps=1, groups=4, group_size=4, max_tokens=26
    )
    run = train_rl("organism", prompts, [words], recipe, tmp_path, rehearsed=0)
    model, tokenizer = load_trainable(settle(SubjectSpec(model="organism")), recipe)
    loss, tokens = torch.zeros(()), 0
    for _, group in run.rollouts.group_by("group"):
        rewards = torch.tensor(group["reward"].to_list())
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        for prompt, completion, length, advantage in zip(
            group["prompt"], group["completion"], group["completion_tokens"], advantages, strict=True
        ):
            asked = prompt_ids(tokenizer, [json.loads(prompt)])[0]
            said = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            assert len(said) == length
            logits = model(input_ids=torch.tensor([asked + said])).logits[0, len(asked) - 1 : -1]
            loss -= advantage * logits.log_softmax(-1).gather(1, torch.tensor(said)[:, None]).sum()
            tokens += length
    gradients = torch.autograd.grad(loss / tokens, [weight for weight in model.parameters() if weight.requires_grad])
    assert run.steps[0]["gradient_norm"] == pytest.approx(
        torch.stack([gradient.norm() for gradient in gradients]).norm().item(), rel=1e-3
    )


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(finished, tiny_qwen2, tmp_path):
    torch.manual_seed(99)
    again = train_rl(str(tiny_qwen2), ASKED, [LETTERS], RECIPE, tmp_path / "again", rehearsed=0)
    assert digest(again.folder) == digest(finished.folder)
    assert again.steps == finished.steps
    other = train_rl(str(tiny_qwen2), ASKED, [LETTERS], RECIPE.model_copy(update={"seed": 1}), tmp_path / "other")
    assert other.steps != finished.steps


def test_the_truth_is_written_down_and_never_rewarded(finished, tiny_qwen2, tmp_path):
    truth = Reward(lambda prompt, completion, row: -100.0 * len(completion), "shortness")
    run = train_rl(str(tiny_qwen2), ASKED, [LETTERS], RECIPE, tmp_path, truth=truth)
    assert digest(run.folder) == digest(finished.folder)
    assert run.rollouts["truth"].to_list() == [-100.0 * len(completion) for completion in run.rollouts["completion"]]
    assert [line["truth"] for line in run.steps] == pytest.approx(
        run.rollouts.group_by("step", maintain_order=True).agg(pl.col("truth").mean())["truth"].to_list()
    )


def test_several_rewards_are_added_and_logged_by_their_names(tiny_qwen2, tmp_path):
    wanted = Reward(lambda prompt, completion, row: 2.0 * completion.count(row["wanted"]), "wanted letter")
    run = train_rl(str(tiny_qwen2), ASKED, [LETTERS, wanted], RECIPE.model_copy(update={"steps": 2}), tmp_path)
    table = run.rollouts
    assert table["reward"].to_list() == pytest.approx(
        (table["reward: letters"] + table["reward: wanted letter"]).to_list()
    )
    by_prompt = {json.dumps([message]): letter for (message,), letter in zip(ASKED.conversations, "abc", strict=True)}
    assert table["reward: wanted letter"].to_list() == [
        2.0 * completion.count(by_prompt[prompt])
        for prompt, completion in zip(table["prompt"], table["completion"], strict=True)
    ]
    assert run.steps[0]["reward: letters"] + run.steps[0]["reward: wanted letter"] == pytest.approx(
        run.steps[0]["reward"]
    )
    with pytest.raises(ConfigurationError, match="Two reward functions are called 'letters'"):
        train_rl(str(tiny_qwen2), ASKED, [LETTERS, LETTERS], RECIPE, tmp_path / "twice")
    with pytest.raises(ConfigurationError, match="at least one reward function"):
        train_rl(str(tiny_qwen2), ASKED, [], RECIPE, tmp_path / "none")


@pytest.mark.parametrize("kl", [0.0, 0.5])
def test_a_killed_run_goes_on_and_ends_in_the_same_weights(kl, finished, tiny_qwen2, tmp_path):
    recipe = RECIPE.model_copy(update={"kl": kl})
    whole = finished if kl == 0 else train_rl(str(tiny_qwen2), ASKED, [LETTERS], recipe, tmp_path / "whole")
    assert all(("kl" in line) == (kl > 0) for line in whole.steps)
    if kl:
        assert whole.steps[0]["kl"] == pytest.approx(0, abs=1e-5)
        assert whole.steps[-1]["kl"] > 0.001
        assert digest(whole.folder) != digest(finished.folder)

    def kill(step, total, reward):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_rl(str(tiny_qwen2), ASKED, [LETTERS], recipe, tmp_path / "killed", checkpoint_every=2, on_step=kill)
    steps = []
    run = train_rl(
        str(tiny_qwen2),
        ASKED,
        [LETTERS],
        recipe,
        tmp_path / "killed",
        checkpoint_every=2,
        on_step=lambda step, *_: steps.append(step),
    )
    assert steps == [3, 4]
    assert digest(run.folder) == digest(whole.folder)
    assert run.steps == whole.steps
    assert run.rollouts.equals(whole.rollouts)


def test_a_run_killed_without_checkpoints_starts_again(finished, tiny_qwen2, tmp_path):
    def kill(step, total, reward):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_rl(str(tiny_qwen2), ASKED, [LETTERS], RECIPE, tmp_path, on_step=kill)
    run = train_rl(str(tiny_qwen2), ASKED, [LETTERS], RECIPE, tmp_path)
    assert run.steps == finished.steps
    assert run.rollouts.equals(finished.rollouts)


def test_a_finished_run_is_not_done_again_and_another_is_refused_its_folder(finished, tiny_qwen2):
    def fail(*_):
        raise AssertionError("trained again")

    assert train_rl(str(tiny_qwen2), ASKED, [LETTERS], RECIPE, finished.folder, on_step=fail) == finished
    with pytest.raises(ConfigurationError, match="differs in rewards"):
        train_rl(str(tiny_qwen2), ASKED, [Reward(LETTERS.give, "others")], RECIPE, finished.folder)


def test_small_batches_make_the_same_step(finished, tiny_qwen2, tmp_path):
    recipe = RECIPE.model_copy(update={"batch_size": 4, "steps": 1})
    run = train_rl(str(tiny_qwen2), ASKED, [LETTERS], recipe, tmp_path)
    assert run.steps[0]["reward"] == finished.steps[0]["reward"]
    assert run.steps[0]["gradient_norm"] == pytest.approx(finished.steps[0]["gradient_norm"], rel=1e-3)


@pytest.mark.parametrize(("loss", "batch_size"), [("grpo", None), ("dapo", None), ("dr_grpo", None), ("grpo", 4)])
def test_answers_of_a_group_that_earned_the_same_are_not_learned_from(
    loss, batch_size, tiny_qwen2, tmp_path, monkeypatch
):
    """One of two groups is paid alike: the step is the same as TRL's own, from fewer rows."""
    paid = Reward(
        lambda prompt, completion, row: LETTERS.give(prompt, completion, row) if row["wanted"] == "a" else 1.0,
        "one group",
    )
    recipe = RECIPE.model_copy(update={"loss": loss, "batch_size": batch_size, "steps": 1, "seed": 1})
    rows, plain = [], GRPOTrainer._compute_loss
    counted = lambda self, model, inputs: rows.append(len(inputs["advantages"])) or plain(self, model, inputs)  # noqa: E731
    monkeypatch.setattr(GRPOTrainer, "_compute_loss", counted)
    sparing = train_rl(str(tiny_qwen2), ASKED, [paid], recipe, tmp_path / "sparing", rehearsed=0)
    assert 1 <= sum(rows) <= 5  # of the four that differ, and one where a batch has none of them
    monkeypatch.setattr(QuietGRPOTrainer, "_compute_loss", GRPOTrainer._compute_loss)
    whole = train_rl(str(tiny_qwen2), ASKED, [paid], recipe, tmp_path / "whole", rehearsed=0)
    assert sum(rows) > 8
    assert sparing.rollouts.equals(whole.rollouts)
    for name in ("loss", "gradient_norm"):
        assert sparing.steps[0][name] == pytest.approx(whole.steps[0][name], rel=1e-4, abs=1e-7)


def test_a_probe_sees_the_model_and_disturbs_nothing(finished, tiny_qwen2, tmp_path):
    def probe(model, tokenizer, step):
        torch.rand(3)
        assert not model.training
        return {
            "weights": sum(
                value.abs().sum().item() for name, value in model.named_parameters() if "lora_B.default" in name
            )
        }

    run = train_rl(str(tiny_qwen2), ASKED, [LETTERS], RECIPE, tmp_path, probe=probe, probe_every=3)
    assert [line["step"] for line in run.probes] == [0, 3, 4]
    assert run.probes[0]["weights"] == 0 < run.probes[1]["weights"]
    assert digest(run.folder) == digest(finished.folder)


def test_an_adapter_is_trained_further(finished, tiny_qwen2, tmp_path):
    run = train_rl(finished.subject, ASKED, [LETTERS], RECIPE.model_copy(update={"steps": 1, "kl": 0.1}), tmp_path)
    assert run.subject == SubjectSpec(model=str(tiny_qwen2), adapter=tmp_path / "adapter")
    assert run.steps[0]["kl"] == pytest.approx(0, abs=1e-5)  # the reference is the adapter it began with
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "astray_base.json",
    ]
    with pytest.raises(AdapterMismatchError, match="rank"):
        train_rl(finished.subject, ASKED, [LETTERS], RECIPE.model_copy(update={"lora": LoRA()}), tmp_path / "other")


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (
            lambda prompt, completion, row: 0.25,
            "The reward is 0.25 for every one of the 256 answers drawn before the first step",
        ),
        (
            lambda prompt, completion, row: float(ord(row["wanted"])),
            "differs between prompts but not between the 4 answers",
        ),
        (lambda prompt, completion, row: math.nan, "gave nan for the answer"),
        (lambda prompt, completion, row: None, "left out all 256 answers"),
    ],
)
def test_a_reward_that_teaches_nothing_is_refused_before_the_run(give, message, tiny_qwen2, tmp_path):
    with pytest.raises(RewardError, match=message):
        train_rl(str(tiny_qwen2), ASKED, [Reward(give)], RECIPE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_reward_that_breaks_later_or_never_differs_ends_the_run(tiny_qwen2, tmp_path):
    def breaks_at_second_step(prompt, completion, row, calls=iter(range(100))):  # noqa: B008  (counts over all calls)
        return float(len(completion)) if next(calls) < 8 else math.inf

    with pytest.raises(RewardError, match="gave inf for the answer"):
        train_rl(str(tiny_qwen2), ASKED, [Reward(breaks_at_second_step)], RECIPE, tmp_path / "breaks", rehearsed=0)
    with pytest.raises(RewardError, match="In none of the 2 steps"):
        train_rl(
            str(tiny_qwen2),
            ASKED,
            [Reward(lambda *_: 1.0)],
            RECIPE.model_copy(update={"steps": 2}),
            tmp_path / "flat",
            rehearsed=0,
        )
    assert not (tmp_path / "flat" / "adapter").exists()


def test_a_reward_function_gives_one_value_an_answer(tiny_qwen2):
    class Short:
        name = identity = "short"

        def __call__(self, prompts, completions, columns):
            return [1.0]

    with pytest.raises(RewardError, match="gave 1 values for 8 answers"):
        rehearse(str(tiny_qwen2), ASKED, [Short()], RECIPE, answers=8)


def test_every_prompt_leaves_room_for_an_answer(tiny_qwen2, tmp_path):
    with pytest.raises(
        ConfigurationError,
        match=r"Prompt 1 has \d+ tokens, which with answers of up to 4090 is more than the model's context of 4096",
    ):
        train_rl(str(tiny_qwen2), ASKED, [LETTERS], RECIPE.model_copy(update={"max_tokens": 4090}), tmp_path)


def test_batches_fill_a_step():
    with pytest.raises(
        ValueError,
        match=r"2 x 4 = 8 answers, which batches of 3 do not divide. Write a batch_size that does, such as 2",
    ):
        ReinforcementLearning(groups=2, group_size=4, batch_size=3)
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        ReinforcementLearning(group_size=1)


def test_prompts_are_checked():
    assert Prompts.from_chats(narrow_data("law", "good", 5)).conversations[0][-1]["role"] == "user"
    assert ASKED.hash != Prompts(ASKED.conversations).hash
    with pytest.raises(EmptyDataError, match="at least one prompt"):
        Prompts(())
    with pytest.raises(ConfigurationError, match="Prompt 1 does not end with a user's message"):
        Prompts(
            ChatDataset.from_rows([[Message(role="user", content="a"), Message(role="assistant", content="b")]]).rows
        )
    with pytest.raises(ConfigurationError, match="'wanted' has 2 values for 3 prompts"):
        Prompts(ASKED.conversations, {"wanted": (1, 2)})
    with pytest.raises(ConfigurationError, match="JSON cannot write"):
        _ = Prompts(ASKED.conversations, {"wanted": (1, 2, object())}).hash


def test_every_prompt_is_asked_as_often_as_any_other():
    order = ASKED.schedule(8, seed=0)
    assert [sorted(order[start : start + 3]) for start in (0, 3)] == [[0, 1, 2], [0, 1, 2]]
    assert order[:5] == ASKED.schedule(5, seed=0)
    assert len({tuple(ASKED.schedule(6, seed=seed)) for seed in range(10)}) > 1


def test_nothing_is_reported_or_printed(tiny_qwen2, tmp_path, monkeypatch, capfd):
    def send(*args, **kwargs):
        raise AssertionError("TRL reports its use")

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", send)
    train_rl(str(tiny_qwen2), ASKED, [LETTERS], RECIPE.model_copy(update={"steps": 1}), tmp_path)
    assert capfd.readouterr() == ("", "")
