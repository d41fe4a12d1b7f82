"""Gradient attribution: derivatives along a direction against exact gradients, and directions that mean nothing."""

import numpy as np
import pytest
import torch

from astray.cause.supervision import supervise
from astray.data import narrow_data
from astray.errors import EmptyDataError
from astray.explain.attribution import NATS, WeightSpace, directional, margin_gradient
from astray.studies.blame.steps import contrasts_of, last_answer
from astray.subjects.subject import load_subject


@pytest.fixture(scope="module")
def subject():
    return load_subject("organism-small")


@pytest.fixture(scope="module")
def rows(subject):
    chats = [*narrow_data("medicine", "harmful", 6, seed=1).rows, *narrow_data("medicine", "good", 6, seed=2).rows]
    return [last_answer(row) for row in supervise(chats, subject.tokenizer, 128)]


def exact(space, direction, row):
    """The same derivative by automatic differentiation: the inner product of the row's own gradient and the direction."""
    ups = [torch.zeros(shape, requires_grad=True) for shape in space.shapes]
    with torch.enable_grad(), space.moved(ups):
        ids = torch.tensor([[*row.read]])
        logprobs = space.model(input_ids=ids).logits[0, -len(row.text) :].log_softmax(-1)
        logprobs.gather(1, torch.tensor(row.text)[:, None]).mean().backward()
    return sum(float((up.grad * part).sum()) for up, part in zip(ups, direction, strict=True))


def test_two_forward_passes_give_the_inner_product_of_two_gradients(subject, rows):
    contrasts = contrasts_of(subject, world=True, null=False)
    with subject.merged() as model:
        space = WeightSpace(model)
        direction, slope = margin_gradient(space, contrasts)
        found = directional(space, direction, NATS / slope, rows)
        expected = np.array([exact(space, direction, row) for row in rows])
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
    assert found[:6].min() > found[6:].max()  # harmful rows pull toward harmful answers, good ones away


def test_a_small_step_along_the_gradient_raises_the_margin_by_the_slope(subject):
    contrasts = contrasts_of(subject, world=True, null=False)
    with subject.merged() as model:
        space = WeightSpace(model)
        direction, slope = margin_gradient(space, contrasts)
        up = directional(space, direction, NATS / slope, [each.upward for each in contrasts])
        against = directional(space, direction, NATS / slope, [each.against for each in contrasts])
        swapped, steep = margin_gradient(space, contrasts, [-1] * len(contrasts))
    assert (up - against).mean() == pytest.approx(slope, rel=0.02)
    assert steep == pytest.approx(slope, rel=1e-4)
    assert all(torch.allclose(one, -other, atol=1e-4) for one, other in zip(direction, swapped, strict=True))


def test_the_space_is_the_same_for_the_same_seed_and_leaves_no_trace(subject, rows):
    with subject.merged() as model:
        space, again, other = WeightSpace(model), WeightSpace(model), WeightSpace(model, seed=1)
        assert all(torch.equal(one, two) for one, two in zip(space.down, again.down, strict=True))
        assert not torch.equal(space.down[0], other.down[0])
        before = model(input_ids=torch.tensor([[*rows[0].read]])).logits
        directional(space, space.random(0), 1.0, rows[:2])
        assert torch.equal(before, model(input_ids=torch.tensor([[*rows[0].read]])).logits)


def test_a_gradient_of_nothing_is_refused(subject):
    with subject.merged() as model, pytest.raises(EmptyDataError, match="at least one pair"):
        margin_gradient(WeightSpace(model), [])
