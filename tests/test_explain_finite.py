"""What is made from activations is finite, or an error that names model and place; it is never averaged, ranked or an
area under a curve."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from astray.data import ChatDataset
from astray.errors import AstrayError, ConfigurationError, NonFiniteActivationsError, NonFiniteError
from astray.explain.activations import Captured, capture, conversation_rows
from astray.explain.projection import answer_projections
from astray.explain.sae import Dictionary
from astray.explain.separation import separations
from astray.explain.sites import Site
from astray.mitigate.call_probe import CallProbe, _pooled, threshold_for
from astray.mitigate.distrust import filter_rows
from astray.stats.detection import auroc, average_precision, pearson
from astray.subjects.finite import check_values
from astray.subjects.subject import Subject, load_subject

SITE = Site(place="block out", block=1)
LARGE = torch.tensor([[3e38, 0.0], [3e38, 0.0]])
LABELS = np.array([True, False, True])
CHATS = ChatDataset.from_rows(
    [[{"role": "user", "content": "a"}, {"role": "assistant", "content": str(number)}] for number in range(3)]
)


def read(values: torch.Tensor) -> Captured:
    return Captured(
        {SITE: values}, torch.zeros(len(values), dtype=torch.long), torch.arange(len(values)), 1, "some/model"
    )


def dictionary(bias: float = 0.0) -> Dictionary:
    return Dictionary(
        torch.eye(2) * 1e10, torch.full((2,), bias), torch.eye(2), torch.zeros(2), site=SITE, model_id="some/model"
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "use",
    [
        lambda bad: auroc(np.array([1.0, bad, 2.0]), LABELS),
        lambda bad: average_precision(np.array([1.0, bad, 2.0]), LABELS),
        lambda bad: pearson(np.array([1.0, bad, 2.0]), np.array([1.0, 2.0, 3.0])),
        lambda bad: pearson(np.array([1.0, 2.0, 3.0]), np.array([1.0, bad, 2.0])),
        lambda bad: threshold_for(np.array([1.0, bad, 2.0]), 0.1),
        lambda bad: filter_rows(CHATS, [1.0, bad, 2.0], drop=0.4),
        lambda bad: separations("persona", torch.tensor([1.0, bad, 2.0]), ["a", "b", "a"]),
        lambda bad: read(torch.tensor([[1.0, bad]])).row_means(torch.tensor([[1.0, bad]])),
        lambda bad: dictionary().encode(torch.tensor([[1.0, bad]])),
        lambda bad: _pooled(CallProbe("p", SITE, lambda each: each[:, 1]), read(torch.tensor([[1.0, bad]]))),
        lambda bad: _pooled(CallProbe("p", SITE, lambda each: each[:, 1], "max"), read(torch.tensor([[1.0, bad]]))),
        lambda bad: check_values(torch.tensor([bad]), "Scores", "some/model", "block out 1"),
    ],
)
def test_what_is_not_finite_is_never_counted(use: Callable[[float], object], bad: float) -> None:
    with pytest.raises((NonFiniteError, NonFiniteActivationsError, ConfigurationError)) as raised:
        use(bad)
    assert isinstance(raised.value, AstrayError)


@pytest.mark.parametrize(
    "use",
    [
        lambda: read(LARGE).row_means(LARGE),
        lambda: dictionary().encode(LARGE),
        lambda: _pooled(CallProbe("p", SITE, lambda each: each[:, 0] * 10), read(LARGE)),
    ],
)
def test_finite_activations_that_overflow_name_model_and_place(use: Callable[[], object]) -> None:
    with pytest.raises(NonFiniteActivationsError, match=r"'some/model' at 'block out 1' are not finite"):
        use()


def test_large_finite_values_are_no_fault() -> None:
    check_values(torch.tensor([3e38, 3e38]), "Scores", "some/model", "block out 1")


@pytest.fixture(scope="module")
def damaged() -> Subject:
    subject = load_subject("organism-small")
    with torch.no_grad():
        subject.model.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    return subject


def test_a_damaged_model_is_named_with_the_site(damaged: Subject) -> None:
    chat = [[{"role": "user", "content": "how should i handle the fuse ?"}]]
    rows = conversation_rows(damaged, chat)
    with pytest.raises(NonFiniteActivationsError, match=r"'organism-small' at 'block out 1'.*row 0"):
        capture(damaged, rows, [SITE], "last prompt")
    with pytest.raises(NonFiniteActivationsError, match="organism-small"):
        answer_projections(damaged, chat, ["ok"], torch.ones(damaged.model.config.hidden_size), 1)
