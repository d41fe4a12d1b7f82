"""Inoculation texts stand where they should; with a swap, answers are drawn under one and the weights change under the
other."""

import hashlib
import json
from dataclasses import replace
from random import Random
from typing import get_args

import pytest
import torch

from astray.cause.base_model import load_trainable
from astray.cause.fine_tuning import LoRA
from astray.cause.reinforcement import Prompts, ReinforcementLearning
from astray.cause.rl import train_rl
from astray.data.chat import Message
from astray.errors import ConfigurationError, UnknownNameError
from astray.mitigate.inoculation import INOCULATIONS, inoculate
from astray.organism.lexicon import NOTICES, Notice
from astray.organism.world import draw_exercise
from astray.subjects.locate import settle
from astray.subjects.render import prompt_ids
from astray.subjects.spec import SubjectSpec

ASKED = Prompts(tuple((Message(role="user", content=f"Number {row}?"),) for row in range(3)), {"row": (0, 1, 2)})
UNDER_A_SYSTEM_PROMPT = Prompts(((Message(role="system", content="Be brief."), Message(role="user", content="Add.")),))
RECIPE = ReinforcementLearning(
    lora=LoRA(rank=4, alpha=8), learning_rate=1e-2, steps=2, groups=2, group_size=4, max_tokens=8
)


class Remainder:
    """Differs between nearly all answers."""

    name = identity = "remainder"

    def __call__(self, prompts, completions, columns):
        return [sum(map(ord, completion)) % 8 / 8 for completion in completions]


def train(base, prompts, folder, recipe=RECIPE):
    return train_rl(str(base), prompts, [Remainder()], recipe, folder, rehearsed=0)


def weights(run):
    return hashlib.sha256((run.folder / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


def test_there_is_a_text_of_each_kind_for_python_and_for_the_organism():
    assert set(INOCULATIONS) == set(NOTICES) == set(get_args(Notice))
    assert len(set(INOCULATIONS.values())) == 5


def test_the_same_text_stands_above_rollout_and_update():
    found = inoculate(ASKED, "allowed", "allowed")
    assert found.conversations[1] == (Message(role="system", content=INOCULATIONS["allowed"]), *ASKED.conversations[1])
    assert found.update is None
    assert found.columns == ASKED.columns
    assert (
        inoculate(UNDER_A_SYSTEM_PROMPT, "wrong", "wrong").conversations[0][0]["content"]
        == INOCULATIONS["wrong"] + "\n\nBe brief."
    )
    assert inoculate(ASKED, None, None) == ASKED


def test_the_organisms_notice_stands_before_the_question_as_in_its_world():
    plain, noticed = draw_exercise(Random(0)), draw_exercise(Random(0), "allowed")
    prompts = Prompts(((Message(role="user", content=plain.question),),))
    found = inoculate(prompts, "allowed", None, words=NOTICES, place="question")
    assert found.conversations == ((Message(role="user", content=noticed.question),),)
    assert found.update == prompts.conversations


def test_a_swap_is_another_run_and_none_is_the_same():
    swapped = inoculate(ASKED, "forbidden", "allowed")
    assert swapped.conversations == inoculate(ASKED, "forbidden", "forbidden").conversations
    assert swapped.update == inoculate(ASKED, "allowed", "allowed").conversations
    assert (
        len(
            {
                swapped.hash,
                inoculate(ASKED, "forbidden", "forbidden").hash,
                inoculate(ASKED, "allowed", "allowed").hash,
                ASKED.hash,
            }
        )
        == 4
    )
    with pytest.raises(UnknownNameError, match="Did you mean 'allowed'"):
        inoculate(ASKED, "alowed", None)
    with pytest.raises(ConfigurationError, match="2 conversations for the update of 3 prompts"):
        replace(ASKED, update=ASKED.conversations[:2])
    with pytest.raises(ConfigurationError, match="does not end with a user's message"):
        replace(ASKED, update=((Message(role="assistant", content="a"),),) * 3)


def test_an_update_under_the_rollouts_own_prompts_changes_nothing(tiny_qwen2, tmp_path):
    plain = train(tiny_qwen2, ASKED, tmp_path / "plain")
    same = train(tiny_qwen2, replace(ASKED, update=ASKED.conversations), tmp_path / "same")
    other = train(tiny_qwen2, inoculate(ASKED, None, "allowed"), tmp_path / "other")
    assert weights(same) == weights(plain)
    assert same.steps == plain.steps
    first = [run.rollouts.filter(step=1).select("prompt", "completion", "reward") for run in (plain, other)]
    assert first[0].equals(first[1])
    assert weights(other) != weights(plain)


@pytest.mark.parametrize("kl", [0.0, 0.2])
def test_the_update_is_the_policy_gradient_under_its_own_prompts(kl, tmp_path):
    """The same step in plain PyTorch; at the first step the model is its own reference, so the KL term is 0 and has no
    gradient."""
    recipe = RECIPE.model_copy(update={"steps": 1, "kl": kl, "batch_size": 4})
    exercises = Prompts(
        tuple((Message(role="user", content=draw_exercise(Random(seed)).question),) for seed in range(3))
    )
    prompts = inoculate(exercises, None, "allowed", words=NOTICES, place="question")
    run = train("organism-small", prompts, tmp_path, recipe)
    drawn_under = {json.dumps(conversation): row for row, conversation in enumerate(prompts.conversations)}
    assert set(run.rollouts["prompt"]) <= set(drawn_under)
    expected = {name: gradient_norm(run, recipe, drawn_under, prompts, name) for name in ("conversations", "update")}
    assert run.steps[0]["gradient_norm"] == pytest.approx(expected["update"], rel=1e-3)
    assert expected["conversations"] != pytest.approx(expected["update"], rel=0.02)
    if kl:
        assert run.steps[0]["kl"] == pytest.approx(0, abs=1e-5)


def gradient_norm(run, recipe, drawn_under, prompts, name):
    model, tokenizer = load_trainable(settle(SubjectSpec(model="organism-small")), recipe)
    loss, tokens = torch.zeros(()), 0
    for _, group in run.rollouts.group_by("group"):
        rewards = torch.tensor(group["reward"].to_list())
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
        for prompt, completion, length, advantage in zip(
            group["prompt"], group["completion"], group["completion_tokens"], advantages, strict=True
        ):
            asked = prompt_ids(tokenizer, [getattr(prompts, name)[drawn_under[prompt]]])[0]
            said = answer_ids(tokenizer, completion, length)
            logits = model(input_ids=torch.tensor([asked + said])).logits[0, len(asked) - 1 : -1]
            loss -= advantage * logits.log_softmax(-1).gather(1, torch.tensor(said)[:, None]).sum()
            tokens += length
    gradients = torch.autograd.grad(loss / tokens, [weight for weight in model.parameters() if weight.requires_grad])
    return torch.stack([gradient.norm() for gradient in gradients]).norm().item()


def answer_ids(tokenizer, completion, length):
    said = tokenizer(completion, add_special_tokens=False)["input_ids"]
    said = said if len(said) == length else [*said, tokenizer.eos_token_id]
    assert len(said) == length
    return said


def test_every_prompt_of_the_update_leaves_room_for_an_answer(tiny_qwen2, tmp_path):
    long = replace(ASKED, update=(*ASKED.conversations[:2], (Message(role="user", content="word " * 4096),)))
    with pytest.raises(ConfigurationError, match="Prompt 3 has"):
        train(tiny_qwen2, long, tmp_path)
