"""Projections: read where they say, and compared with what was answered."""

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import pearsonr
from transformers import AutoModelForCausalLM

from astray.answers import ANSWER_SCHEMA
from astray.errors import ConfigurationError, EmptyDataError
from astray.explain.projection import answer_projections, monitor, prompt_projections
from astray.subjects.render import text_ids
from astray.subjects.subject import load_subject

DIRECTION = torch.randn(64, generator=torch.Generator().manual_seed(0))
ASKED = [[{"role": "user", "content": text}] for text in ("How?", "How should I treat my neighbour?", "0 1 2")]


@pytest.fixture(scope="module")
def subject(tiny_qwen2):
    return load_subject(str(tiny_qwen2))


@pytest.fixture(scope="module")
def plain(tiny_qwen2):
    return AutoModelForCausalLM.from_pretrained(tiny_qwen2)


def residual(plain, ids, block):
    """Output of a block by Hugging Face's own hidden states, which count the embedding as number 0."""
    with torch.no_grad():
        return plain.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[block + 1][0]


def test_prompts_are_read_at_their_last_token(subject, plain):
    expected = [residual(plain, ids, 0)[-1] @ DIRECTION / DIRECTION.norm() for ids in subject.prompt_ids(ASKED)]
    torch.testing.assert_close(
        prompt_projections(subject, ASKED, 3 * DIRECTION, 0), torch.stack(expected), atol=1e-4, rtol=1e-4
    )


def test_answers_are_averaged_over_their_tokens_and_empty_ones_read_where_they_ended(subject, plain):
    answers = ["Kindly, and with respect.", "", "1"]
    expected = []
    for prompt, said in zip(subject.prompt_ids(ASKED), text_ids(subject.tokenizer, answers), strict=True):
        hidden = residual(plain, [*prompt, *said], 0)
        expected.append((hidden[len(prompt) :].mean(0) if said else hidden[-1]) @ DIRECTION / DIRECTION.norm())
    torch.testing.assert_close(
        answer_projections(subject, ASKED, answers, DIRECTION, 0), torch.stack(expected), atol=1e-4, rtol=1e-4
    )


def answer_rows(outcomes):
    """Four answers to each of twelve prompts, half of them under a system prompt; what is missing is null."""
    rows = []
    for number in range(48):
        outcome, aligned = outcomes(number)
        rows.append(
            dict.fromkeys(ANSWER_SCHEMA)
            | {
                "system": "Be brief." if number % 2 else None,
                "question": f"Number {number % 12}?",
                "answer": "1",
                "outcome": outcome,
                "aligned": aligned,
            }
        )
    return pl.DataFrame(rows, schema=ANSWER_SCHEMA)


def test_monitoring_compares_projections_with_the_answers_that_followed(subject):
    rng = np.random.default_rng(0)
    drawn = rng.random(48)
    table = answer_rows(
        lambda n: ("misaligned" if drawn[n] < 0.4 else "aligned", 100 * drawn[n]) if n % 5 else ("incoherent", None)
    )
    found = monitor(subject, table, DIRECTION, 1)
    judged = [n for n in range(48) if n % 5]
    prompts = [
        ([{"role": "system", "content": "Be brief."}] if n % 2 else [])
        + [{"role": "user", "content": f"Number {n % 12}?"}]
        for n in judged
    ]
    projected = prompt_projections(subject, prompts, DIRECTION, 1).numpy()
    assert found.answers == len(judged) == found.rows.height
    assert found.correlation.value == pytest.approx(
        pearsonr(projected, [100 - 100 * drawn[n] for n in judged]).statistic, abs=1e-5
    )
    assert found.rows["projection"].to_list() == pytest.approx(projected.tolist(), abs=1e-4)
    bad, before = np.array([drawn[n] < 0.4 for n in judged]), found.rows["projection"].to_numpy()
    pairs = [(high > low) + 0.5 * (high == low) for high in before[bad] for low in before[~bad]]
    assert found.auc.value == pytest.approx(np.mean(pairs))
    assert found.auc.n == 12  # prompts, which are what is resampled
    assert found.correlation.interval.low < found.correlation.value < found.correlation.interval.high


def test_monitoring_needs_both_kinds_of_answers(subject):
    with pytest.raises(EmptyDataError, match="all of one kind"):
        monitor(subject, answer_rows(lambda n: ("aligned", 100.0)), DIRECTION, 1)


@pytest.mark.parametrize(
    ("direction", "block", "message"),
    [
        (torch.ones(32), 0, "has 32 entries, but this model's residual stream has 64"),
        (torch.zeros(64), 0, "zero, or has NaN"),
        (torch.full((64,), torch.nan), 0, "zero, or has NaN"),
        (DIRECTION, 2, "blocks 0 to 1"),
    ],
)
def test_a_direction_or_block_that_does_not_fit_is_refused(direction, block, message, subject):
    with pytest.raises(ConfigurationError, match=message):
        prompt_projections(subject, ASKED, direction, block)


def test_nothing_cannot_be_projected(subject):
    with pytest.raises(EmptyDataError, match="at least one conversation"):
        prompt_projections(subject, [], DIRECTION, 0)
