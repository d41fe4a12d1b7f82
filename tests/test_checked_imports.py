"""The package's functions are held to their annotations while tests run, array shapes within a call included."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ForwardRef, Literal

import numpy as np
import pytest
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import Float, TypeCheckError

from astray.stats.detection import correlation_estimate
from astray.stats.intervals import wilson
from checked_imports import _is_of_jaxtyping

Rows = Float[np.ndarray, "rows"]


def test_shapes_are_compared_within_a_call() -> None:
    with pytest.raises(TypeCheckError):
        correlation_estimate(np.ones(9), np.ones(8), range(9), "row")


def test_functions_without_shapes_are_held_to_their_types() -> None:
    with pytest.raises(BeartypeCallHintParamViolation):
        wilson("1", 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (Rows, True),
        (Rows | None, True),
        (tuple[int, Rows], True),
        (Mapping[str, Sequence[Rows]], True),
        (Callable[[Rows], float], True),
        (Callable[[int], Rows], True),
        (Annotated[Rows, "of a table"], True),
        ("PeftModel", True),
        (list[ForwardRef("PeftModel")], True),
        (np.ndarray, False),
        (Literal["rows"], False),
        (Callable[..., float] | None, False),
        (None, False),
    ],
)
def test_what_is_left_to_jaxtyping(annotation: object, expected: bool) -> None:
    assert _is_of_jaxtyping(annotation) is expected
