"""Gradient attribution: derivatives along directions against differences of forward passes, and directions that mean nothing."""

import numpy as np
import pytest
import torch

from astray.cause.supervision import supervise
from astray.data import narrow_data
from astray.errors import EmptyDataError
from astray.explain.attribution import WeightSpace, directional, margin_gradients
from astray.studies.blame.steps import contrasts_of, last_answer
from astray.subjects.intervene import Steering
from astray.subjects.likelihood import continuation_logprobs
from astray.subjects.subject import load_subject


@pytest.fixture(scope="module")
def subject():
    return load_subject("organism-small")


@pytest.fixture(scope="module")
def rows(subject):
    chats = [*narrow_data("medicine", "harmful", 6, seed=1).rows, *narrow_data("medicine", "good", 6, seed=2).rows]
    return [last_answer(row) for row in supervise(chats, subject.tokenizer, 128)]


def by_differences(space, directions, number, row, nats=0.05):
    """The same derivative by moving the weights of a plain forward pass to either side."""
    sides = []
    for sign in (1, -1):
        shares = torch.zeros(1, len(directions[0]))
        shares[0, number] = sign * nats
        with space.moved(directions, shares):
            sides.append(continuation_logprobs(space.model, [row], Steering())[0])
    return (sides[0] - sides[1]) / (2 * nats) / len(row.text)


@pytest.mark.parametrize("in_batches", [True, False])
def test_one_backward_pass_gives_the_derivative_of_each_row_along_each_direction(subject, rows, in_batches):
    contrasts = contrasts_of(subject, world=True, null=False)
    signs = np.random.default_rng(0).choice([-1, 1], (3, len(contrasts)))
    signs[2] = 1
    with subject.merged() as model:
        space = WeightSpace(model)
        assert space.in_batches
        space.in_batches = in_batches
        directions, slopes = margin_gradients(space, contrasts, signs)
        alone, slope = margin_gradients(space, contrasts)
        found = directional(space, directions, rows)
        expected = [[by_differences(space, directions, number, row) for number in range(3)] for row in rows]
    assert np.abs(found - np.array(expected)).max() < 0.01 * np.abs(expected).max()
    assert all(torch.allclose(one[2], other[0], atol=1e-5) for one, other in zip(directions, alone, strict=True))
    assert slopes[2] == pytest.approx(slope[0], rel=1e-4)
    assert found[:6, 2].min() > found[6:, 2].max()  # harmful rows pull toward harmful answers, good ones away


def test_a_step_along_the_gradient_raises_the_margin_by_the_slope(subject):
    contrasts = contrasts_of(subject, world=True, null=False)
    with subject.merged() as model:
        space = WeightSpace(model)
        direction, slope = margin_gradients(space, contrasts)
        up = directional(space, direction, [each.upward for each in contrasts])
        against = directional(space, direction, [each.against for each in contrasts])
        swapped, steep = margin_gradients(space, contrasts, -np.ones((1, len(contrasts)), int))
    assert (up - against).mean() == pytest.approx(slope[0], rel=1e-3)
    assert steep == pytest.approx(slope, rel=1e-4)
    assert all(torch.allclose(one, -other, atol=1e-4) for one, other in zip(direction, swapped, strict=True))


def test_the_space_is_the_same_for_the_same_seed_and_leaves_no_trace(subject, rows):
    with subject.merged() as model:
        space, again, other = WeightSpace(model), WeightSpace(model), WeightSpace(model, seed=1)
        assert all(torch.equal(one, two) for one, two in zip(space.down, again.down, strict=True))
        assert not torch.equal(space.down[0], other.down[0])
        before = model(input_ids=torch.tensor([[*rows[0].read]])).logits
        directional(space, [torch.ones_like(each) for each in space.zeros(1)], rows[:2])
        assert torch.equal(before, model(input_ids=torch.tensor([[*rows[0].read]])).logits)


def test_a_gradient_of_nothing_is_refused(subject):
    with subject.merged() as model, pytest.raises(EmptyDataError, match="at least one pair"):
        margin_gradients(WeightSpace(model), [])
