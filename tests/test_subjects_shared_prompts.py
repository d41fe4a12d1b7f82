"""Prompts that are read once give the probabilities and gradients of prompts that are read for each answer."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoConfig, MistralConfig, RwkvConfig

from astray.errors import NonFiniteError
from astray.explain.attribution import WeightSpace, margin_gradients
from astray.studies.blame.steps import contrasts_of
from astray.subjects import likelihood, shared_prompts
from astray.subjects.intervene import Steering
from astray.subjects.likelihood import Continuation, continuation_logprobs
from astray.subjects.subject import load_subject
from tiny_models import save_tiny_model

SYSTEM = (5, 9, 7, 3, 8)
ROWS = {
    "two answers to a question": [((*SYSTEM, 11, 12), ((4, 6, 2), (4, 2)))],
    "one token each": [((*SYSTEM, 11), ((4,), (6,))), ((*SYSTEM, 12, 13), ((4,), (6,)))],
    "prompts of several lengths": [
        ((*SYSTEM, 11, 12, 13, 14), ((4, 6, 2, 9, 9), (3,))),
        ((*SYSTEM, 15), ((7, 7), (8, 1, 1), (2,))),
        ((*SYSTEM, 16, 17), ((5,),)),
    ],
    "nothing in common": [((11, 12), ((4, 6),)), ((13, 12, 3), ((5, 5), (5, 6)))],
    "one prompt begins another": [((*SYSTEM,), ((4, 6),)), ((*SYSTEM, 4), ((6, 2), (1,)))],
}
"""Name -> prompts with their answers, as token ids."""


@pytest.fixture
def shared(monkeypatch):
    monkeypatch.setattr(shared_prompts, "SHARED_FROM", 0)


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gemma"])
def test_shared_prompts_give_the_same_probabilities(architecture, shared, tmp_path):
    model = load_subject(str(save_tiny_model(tmp_path, architecture)), torch.device("cpu")).model
    assert shared_prompts.shares_prompts(model)
    for name, asked in ROWS.items():
        rows = [Continuation(prompt[:-1], prompt[-1:], text) for prompt, texts in asked for text in texts]
        expected = continuation_logprobs(model, rows, Steering())  # where interventions act, nothing is shared
        assert continuation_logprobs(model, rows, Steering(active=False)) == pytest.approx(expected, abs=1e-4), name


def test_shared_prompts_give_the_same_gradient(shared):
    subject = load_subject("organism-small")
    contrasts = contrasts_of(subject, world=True, null=False)
    with subject.merged() as model:
        space = WeightSpace(model)
        one, slope = margin_gradients(space, contrasts)
        other, steep = margin_gradients(space, contrasts, np.ones((1, len(contrasts)), int))
    assert slope == pytest.approx(steep, rel=1e-4)
    assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(one, other, strict=True))


def test_batches_hold_every_row_once_and_keep_within_their_limits():
    rows = [shared_prompts.Prompted(tuple(range(n)), ((1, 2), (3,))) for n in (3, 9, 5, 4, 8)]
    batches = list(shared_prompts.shared_batches(rows, vocabulary=10, tokens=40, logits=1000))
    assert [len(rows[batch[0]].prompt) for batch in batches] == [9, 8, 4]
    assert sorted(number for batch in batches for number in batch) == [0, 1, 2, 3, 4]
    assert len(list(shared_prompts.shared_batches(rows, vocabulary=10, tokens=1, logits=1000))) == 5
    assert len(list(shared_prompts.shared_batches(rows, vocabulary=10, tokens=1000, logits=80))) == 3


def test_small_models_and_models_with_a_window_share_nothing(shared, monkeypatch):
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MistralConfig(vocab_size=64, num_key_value_heads=2, **shape)
    windowed, plain = (
        AutoModelForCausalLM.from_config(MistralConfig(**{**config.to_dict(), "sliding_window": window}))
        for window in (8, None)
    )
    assert not shared_prompts.shares_prompts(windowed)
    assert shared_prompts.shares_prompts(plain)
    monkeypatch.setattr(shared_prompts, "SHARED_FROM", 10_000_000)
    assert not shared_prompts.shares_prompts(plain)
    assert not shared_prompts.shares_prompts(load_subject("organism").model)


@pytest.mark.parametrize(
    "config",
    [
        GPTNeoConfig(vocab_size=64, hidden_size=32, num_layers=2, num_heads=2, window_size=4, max_position_embeddings=64,
                     attention_types=[[["global", "local"], 1]]),
        RwkvConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, context_length=64),
    ],
    ids=["a window in the model's own code", "a state"],
)  # fmt: skip
def test_models_whose_cache_does_not_tell_of_a_window_or_a_state_share_nothing(config, shared):
    assert not shared_prompts.shares_prompts(AutoModelForCausalLM.from_config(config))


def test_many_answers_to_one_question_are_taken_apart(shared, tmp_path, monkeypatch):
    model = load_subject(str(save_tiny_model(tmp_path)), torch.device("cpu")).model
    rows = [Continuation((*SYSTEM, 11), (), (4 + number, 6, 2)) for number in range(20)]
    expected = continuation_logprobs(model, rows, Steering(active=False))
    sizes = []
    scored = likelihood.shared_logprobs
    monkeypatch.setattr(likelihood, "TOKENS_PER_PASS", 5 * 9)
    monkeypatch.setattr(
        likelihood, "shared_logprobs", lambda model, asked: sizes.append(len(asked[0].texts)) or scored(model, asked)
    )
    assert continuation_logprobs(model, rows, Steering(active=False)) == pytest.approx(expected, abs=1e-5)
    assert sizes == [5, 5, 5, 5]


def test_logits_that_are_no_numbers_are_refused(shared, tmp_path):
    model = load_subject(str(save_tiny_model(tmp_path)), torch.device("cpu")).model
    with torch.no_grad():
        next(model.parameters())[:] = torch.nan
    with pytest.raises(NonFiniteError, match="a continuation whose probability is asked"):
        continuation_logprobs(model, [Continuation((1, 2), (), (3, 4))], Steering(active=False))
